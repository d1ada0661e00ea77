"""What a runner drives: executions, wherever they run."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from perdure.model.error import ErrorObject
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import Operation
from perdure.testing.clock import VirtualClock
from perdure.testing.facts import Facts

if TYPE_CHECKING:
    from perdure.model.event import HistoryEvent


class WallTimeout(TimeoutError):
    """A test has waited in vain. The message says for what, and what the execution is waiting for."""


class Backend(Protocol):
    """Executions of some functions. They are named by their ARNs; a payload is JSON text, None for none.

    Safe to use from any thread.
    """

    @property
    def clock(self) -> VirtualClock | None:
        """The clock that a test may move; None where time is the world's."""
        ...

    def start(
        self,
        function: str,
        payload: str | None,
        *,
        name: str | None = None,
        tenant_id: str | None = None,
        execution_timeout_s: int | None = None,
    ) -> str:
        """Begin an execution and return its ARN."""
        ...

    def status(self, arn: str) -> ExecutionStatus: ...

    def facts(self, arn: str) -> Facts:
        """All that is known of an execution now."""
        ...

    def operations(self, arn: str) -> Sequence[Operation]:
        """Its operations, in the order in which they started."""
        ...

    def history(self, arn: str) -> "Sequence[HistoryEvent]":
        """Its events, oldest first."""
        ...

    def invocations(self, arn: str) -> int:
        """How many invocations of it have ended."""
        ...

    def until(
        self, is_true: Callable[[], bool], *, wall_s: float, what: str, arn: str | None = None, settles: bool = False
    ) -> None:
        """Let executions go on, and time pass if it is virtual, until `is_true`.

        If it `settles`, until in addition the execution `arn` is at rest: no invocation of it runs, or one does that is
        busy with a body of the author's. Raises WallTimeout after `wall_s` real seconds, or as soon as it is certain
        that waiting is in vain; `what` says what was waited for.
        """
        ...

    def succeed_callback(self, callback_id: str, result: str | None) -> None: ...

    def fail_callback(self, callback_id: str, error: ErrorObject | None) -> None: ...

    def heartbeat_callback(self, callback_id: str) -> None: ...

    def stop(self, arn: str, error: ErrorObject | None) -> None: ...

    def pause(self, arn: str) -> None: ...

    def resume(self, arn: str) -> None: ...

    def close(self) -> None:
        """Give back threads, files and sockets, within a second."""
        ...
