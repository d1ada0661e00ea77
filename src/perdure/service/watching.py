"""Who watches an execution is shown every event of it, in order, once it is on disk, whoever wrote it."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from perdure.engine.state import ExecutionState
from perdure.model import event as ev
from perdure.model.error import StoreError
from perdure.store.packing import unpack
from perdure.store.protocol import Store

log: Final = logging.getLogger("perdure.service")

Watcher = Callable[[ExecutionState, Sequence[ev.Event]], None]


class _Watch:
    """One watcher and the last journal row that it was shown."""

    __slots__ = ("seq", "watcher")

    def __init__(self, watcher: Watcher, seq: int) -> None:
        self.watcher = watcher
        self.seq = seq


class Watching:
    """The watchers by execution. An execution that has ended is watched no more."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._watches: dict[str, tuple[_Watch, ...]] = {}
        self.all: Watcher | None = None

    def add(self, state: ExecutionState, watcher: Watcher, *, is_from_start: bool) -> Callable[[], None]:
        """Under the lock of the execution: show `watcher` what there is, if it wants that, and what will be.

        What is returned calls it off, from any thread; a call that is under way may still come.
        """
        execution_id = state.head.execution_id
        watch = _Watch(watcher, 0 if is_from_start else state.seq)
        with self._lock:
            self._watches[execution_id] = (*self._watches.get(execution_id, ()), watch)
        self.show(state)
        return lambda: self._remove(execution_id, watch)

    def _remove(self, execution_id: str, watch: _Watch) -> None:
        with self._lock:
            left = tuple(other for other in self._watches.pop(execution_id, ()) if other is not watch)
            if left:
                self._watches[execution_id] = left

    def show(self, state: ExecutionState, events: Sequence[ev.Event] | None = None) -> None:
        """Under the lock of the execution: its watchers see what they have not seen; `events` is the last row."""
        if self.all is not None and events:
            self._show_to(self.all, state, events)
        if not self._watches:
            return
        execution_id = state.head.execution_id
        for watch in self._watches.get(execution_id, ()):
            if watch.seq < state.seq:
                try:
                    is_next = watch.seq == state.seq - 1
                    watch.watcher(state, events if is_next and events else self._missed(watch, state))
                except StoreError:
                    continue  # it is shown the next time
                except Exception:
                    log.exception("a watcher failed", extra={"execution": execution_id})
                watch.seq = state.seq
        if state.head.has_ended:
            with self._lock:
                self._watches.pop(execution_id, None)

    def _show_to(self, watcher: Watcher, state: ExecutionState, events: Sequence[ev.Event]) -> None:
        try:
            watcher(state, events)
        except Exception:
            log.exception("a watcher failed", extra={"execution": state.head.execution_id})

    def _missed(self, watch: _Watch, state: ExecutionState) -> list[ev.Event]:
        """The events after the last that a watcher was shown."""
        execution_id = state.head.execution_id
        rows = self._store.read(execution_id, watch.seq, state.seq - watch.seq)
        return [
            event
            for seq, data in enumerate(rows, watch.seq + 1)
            for event in unpack(data, execution_id=execution_id, seq=seq)
        ]

    @property
    def is_idle(self) -> bool:
        return not self._watches
