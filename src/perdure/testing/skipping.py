"""The time of a server in a test: it jumps while nothing runs there, and what is due happens on the way."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from perdure.engine.timers import deadline_ms
from perdure.model.operation import Callback
from perdure.testing.pace import is_mere_end

if TYPE_CHECKING:
    from perdure.engine.state import ExecutionState
    from perdure.server.node import Node
    from perdure.testing.clock import VirtualClock

QUIET_S: Final = 0.25
"""What has recorded nothing for so long is busy with a body of the author's."""
FIRES_S: Final = 5.0
"""By then at the latest has happened what is due, if no invocation runs."""
LOOK_S: Final = 0.5
"""So often one looks even though nothing was recorded: calls of plain functions are not told of."""


class NodeTime:
    """Moves the clock of one node. `version` grows with whatever its service writes."""

    def __init__(self, node: "Node", clock: "VirtualClock") -> None:
        self.node = node
        self.clock = clock
        self.version = 0
        self.is_quiet = False
        self._changed = threading.Condition()
        self._moving = threading.RLock()
        self._moved_s = time.monotonic()
        node.service.watch_all(self._written)
        clock.bind(self)

    def _written(self, *_: object) -> None:
        self.tell()

    def tell(self) -> None:
        """Something has happened: whoever waits looks again."""
        with self._changed:
            self.version += 1
            self._changed.notify_all()

    # --- what is due ---------------------------------------------------------------------------------------------

    def next_due_ms(self) -> int | None:
        """When something happens by itself next, once nothing runs; None if nothing will."""
        self.settle()
        return self.due_ms()

    def due_ms(self) -> int | None:
        """The same as things are: a moment that has passed says that something runs."""
        now_ms = self.clock.now_ms()
        return self.node.next_due_ms(lambda state, at_ms: at_ms <= now_ms or not is_mere_end(at_ms, state))

    def _running_due_ms(self) -> int | None:
        """When something is due next in an execution of which an invocation runs, later than now."""
        now_ms = self.clock.now_ms()
        found = [due_ms for _id, due_ms in self.node.service.running() if due_ms is not None and due_ms > now_ms]
        return min(found, default=None)

    # --- moving --------------------------------------------------------------------------------------------------

    def advance_to(self, moment_ms: int) -> None:
        """Move the clock on, letting what is due happen at its own moment, and what that leads to run."""
        while True:
            self.settle()
            with self._moving:
                due_ms = self.due_ms()
                if due_ms is not None and due_ms <= self.clock.now_ms():
                    due_ms = self._running_due_ms()  # it is busy with a body of the author's
                if due_ms is None or due_ms > moment_ms:
                    self._move(moment_ms)
                    break
                self._move(due_ms)
        self.settle()

    def jump(self, seen: int, *, only_to: Callable[[int], bool] = lambda _due_ms: True) -> bool:
        """Move on to what is due next, if nothing runs and nothing was written since; whether to look again."""
        with self._moving:
            if self.version != seen:
                return True
            if self.clock.is_real or not self.clock.auto:
                return False
            due_ms = self.due_ms()
            if due_ms is None or due_ms <= self.clock.now_ms() or not only_to(due_ms):
                return False
            self._move(due_ms)
            return True

    def is_vain(self, seen: int) -> bool:
        """Whether nothing runs, nothing is due, and there is no other thread that could change that."""
        me = threading.current_thread()
        if not all(thread is me or thread.name.startswith("perdure-") for thread in threading.enumerate()):
            return False
        with self._moving:
            due_ms = self.due_ms()
            is_still = due_ms is None or (not self.clock.auto and due_ms > self.clock.now_ms())
            return is_still and self.version == seen

    def _move(self, moment_ms: int) -> None:
        self.clock.move_to(moment_ms)
        self._moved_s = time.monotonic()
        self.node.clock_has_moved()
        self.tell()

    # --- waiting -------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Return once nothing runs that goes on by itself."""
        while True:
            seen = self.version
            due_ms = self.due_ms()
            if due_ms is None or due_ms > self.clock.now_ms():
                return
            quiet_s = QUIET_S if self.node.service.running() else FIRES_S
            with self._changed:
                if not self._changed.wait_for(lambda seen=seen: self.version != seen, quiet_s):  # type: ignore[misc]
                    return

    def wait(self, seen: int, left_s: float, *, settles: bool) -> None:
        """Wait for a change; what runs for longer than it is to what is due next does not keep that from happening."""
        timeout_s = min(left_s, LOOK_S)
        due_ms = self._running_due_ms() if self.clock.auto and not self.clock.is_real else None
        if due_ms is not None:
            passed_s = time.monotonic() - self._moved_s
            timeout_s = min(timeout_s, max((due_ms - self.clock.now_ms()) / 1000 - passed_s, 0.0))
        if settles:
            timeout_s = min(timeout_s, QUIET_S)
        with self._changed:
            is_told = self._changed.wait_for(lambda: self.version != seen, timeout_s)
        self.is_quiet = not is_told
        if is_told or due_ms is None:
            return
        with self._moving:
            now_ms = self.clock.now_ms()
            has_passed = time.monotonic() - self._moved_s >= (due_ms - now_ms) / 1000
            if self.version == seen and has_passed and due_ms > now_ms:
                self._move(due_ms)


class Skipping:
    """Moves a node's clock on as soon as nothing runs there, with nobody waiting, from `start` to `stop`.

    What is due next is left alone if it is a time-out: of a callback, which somebody will answer, or of an execution.
    """

    def __init__(self, clock: "VirtualClock") -> None:
        self._clock = clock
        self._is_stopped = False
        self._time: NodeTime | None = None
        self._thread = threading.Thread(target=self._run, name="perdure-skipping", daemon=True)

    def start(self, node: "Node") -> None:
        self._time = NodeTime(node, self._clock)
        self._thread.start()

    def stop(self) -> None:
        self._is_stopped = True
        if self._time is not None:
            self._time.tell()
            self._thread.join()

    def _run(self) -> None:
        time_of_node = self._time
        assert time_of_node is not None
        while not self._is_stopped:
            seen = time_of_node.version
            if not time_of_node.jump(seen, only_to=self._is_no_timeout):
                time_of_node.wait(seen, LOOK_S, settles=False)

    def _is_no_timeout(self, due_ms: int) -> bool:
        assert self._time is not None
        return (
            self._time.node.service.next_due_ms(lambda state, at_ms: at_ms == due_ms and _is_timeout(state, at_ms))
            is None
        )


def _is_timeout(state: "ExecutionState", at_ms: int) -> bool:
    """Whether what is due then is the end of an execution, or of a callback that nobody has answered."""
    if deadline_ms(state.head) == at_ms:
        return True
    return any(
        due_ms == at_ms and isinstance(state.operations.get(operation_id), Callback)
        for due_ms, _number, operation_id in state.timers
    )
