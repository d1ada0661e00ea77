"""Tells of changed operations on a thread of its own: while one report is on its way, all that comes is one more."""

import threading
from collections.abc import Callable, Iterable

from perdure.model.operation import Operation
from perdure.sdk.drivers.hands import HANDS


class Changes:
    """The changes that have not been told yet. `tell` gets the latest record of each operation that has changed."""

    def __init__(self, tell: Callable[[dict[str, Operation]], None]) -> None:
        self._tell = tell
        self._changed = threading.Condition()
        self._pending: dict[str, Operation] = {}
        self._is_telling = False
        self._failure: BaseException | None = None

    def add(self, records: Iterable[Operation]) -> None:
        """Have these told, soon."""
        with self._changed:
            for record in records:
                self._pending[record.id] = record
            if self._pending and not self._is_telling:
                self._is_telling = True
                HANDS.run(self._run)

    def _run(self) -> None:
        while True:
            with self._changed:
                pending, self._pending = self._pending, {}
                if not pending:
                    self._is_telling = False
                    self._changed.notify_all()
                    return
            try:
                self._tell(pending)
            except BaseException as failure:  # noqa: BLE001 - it ends the process; that is for the invocation's thread
                self._failure = self._failure or failure

    def finish(self) -> None:
        """Return once everything has been told. Raises what must not be ignored."""
        with self._changed:
            while self._is_telling:
                self._changed.wait()
        if self._failure is not None:
            raise self._failure
