"""What chained invokes come to in a test: a real child execution that returns, fails, times out or is stopped."""

from typing import TYPE_CHECKING, Any

from perdure.config import DurationLike, to_duration
from perdure.context import DurableContext
from perdure.execution import durable_execution
from perdure.model.execution import EXECUTION_TIMEOUT_S_MAX
from perdure.testing.handles import as_error, as_exception

if TYPE_CHECKING:
    from perdure.testing.local_runner import LocalRunner

TIMES_OUT_S = 60


class Target:
    """One function that others invoke. What was registered under its name gives way. `calls` are the inputs it got."""

    def __init__(self, runner: "LocalRunner", name: str) -> None:
        self._runner = runner
        self._name = name
        self.calls: list[Any] = []

    def returns(self, value: Any = None) -> "Target":
        """It succeeds with `value`, or with what a function makes of its input."""
        return self._does(lambda event, _context: value(event) if callable(value) else value)

    def fails(self, error: Any = None, *, type: str | None = None, data: str | None = None) -> "Target":  # noqa: A002
        """It fails, with an exception, an ErrorObject or a message, and the type that it is recorded with."""
        raised = as_exception(error if error is not None else "the function failed", type, data)

        def fail(_event: Any, _context: DurableContext) -> None:
            raise raised

        return self._does(fail)

    def times_out(self, after: DurationLike = TIMES_OUT_S) -> "Target":
        """It does nothing until its execution times out, after so much modelled time."""
        seconds = to_duration(after, "after").seconds

        def wait(_event: Any, context: DurableContext) -> None:
            context.wait(min(seconds + 1, EXECUTION_TIMEOUT_S_MAX), name="until it times out")

        return self._does(wait, seconds)

    def stops(self, error: Any = None) -> "Target":
        """Somebody stops its execution, with `error`: an ErrorObject or a message."""
        backend = self._runner.backend

        def be_stopped(_event: Any, context: DurableContext) -> None:
            arn = context.execution_context.durable_execution_arn
            context.step(lambda: backend.stop(arn, as_error(error)), name="be stopped")

        return self._does(be_stopped)

    def _does(self, act: Any, execution_timeout_s: int = EXECUTION_TIMEOUT_S_MAX) -> "Target":
        is_counted: set[str] = set()

        def handler(event: Any, context: DurableContext) -> Any:
            arn = context.execution_context.durable_execution_arn
            if arn not in is_counted:
                is_counted.add(arn)
                self.calls.append(event)
            return act(event, context)

        self._runner.register_durable_function(self._name, durable_execution(handler), execution_timeout_s)
        return self
