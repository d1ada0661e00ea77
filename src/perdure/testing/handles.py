"""What a test holds in its hand: an execution, and a callback of it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from perdure.model import operation as op
from perdure.model.error import ErrorObject
from perdure.model.execution import ENDED, ExecutionStatus
from perdure.model.operation import Callback, OperationStatus
from perdure.sdk.invocation import to_json

if TYPE_CHECKING:
    from perdure.testing.model import Event
    from perdure.testing.operations import Operation
    from perdure.testing.runner import Runner


class Execution(str):
    """One execution: its ARN, which is a text, with what a test can do with it."""

    runner: "Runner"

    def __new__(cls, arn: str, runner: "Runner") -> "Execution":
        execution = super().__new__(cls, arn)
        execution.runner = runner
        return execution

    @property
    def arn(self) -> str:
        return str(self)

    @property
    def status(self) -> ExecutionStatus:
        """How it stands now."""
        return self.runner.backend.status(self)

    def result(self, *, raises: bool = False, wall_timeout: float | None = None) -> Any:
        """Its Result, once it has ended; `raises` raises its failure instead.

        Raises WallTimeout after `wall_timeout` real seconds, 30 unless the runner says otherwise.
        """
        return self.runner.finish(self, raises=raises, wall_timeout=wall_timeout)

    def so_far(self) -> Any:
        """The Result of what has happened by now."""
        return self.runner.result_of(self)

    def history(self) -> "list[Event]":
        """Its events by now, oldest first."""
        return cast("list[Event]", self.so_far().history)

    def operations(self) -> "list[Operation]":
        """Its operations by now, those at the top; each has its `children`."""
        return cast("list[Operation]", self.so_far().operations)

    def callback(self, name: str | None = None, index: int = 0) -> "CallbackHandle":
        """The callback of this name, which need not be there yet; `index` counts those of the same name from 0."""
        return CallbackHandle(self, name, index)

    def tree(self) -> str:
        """It as text: its operations, what each open one waits for, and the ids of its callbacks."""
        from perdure.testing.tree import tree_of

        clock = self.runner.backend.clock
        facts = self.runner.backend.facts(self)
        return tree_of(facts, now_ms=clock.now_ms() if clock is not None else None)

    def fork(self, *, at: str, name: str | None = None) -> "Execution":
        """Begin another execution that has what had ended in this one before the operation `at` began, a path, and let
        it go on from there with the code of now. What was under way or waited begins anew.
        """
        operation_id = self.so_far().op(at).operation_id
        return Execution(self.runner.fork(self, operation_id, name), self.runner)

    def stop(self, error: Any = None) -> None:
        """End it as STOPPED, with `error`: an ErrorObject, a message, or none."""
        self.runner.backend.stop(self, as_error(error))

    def pause(self, *, wall_timeout: float | None = None) -> None:
        """Let it not go on; return once no invocation of it runs."""
        backend = self.runner.backend
        backend.pause(self)
        held = {ExecutionStatus.PAUSED, *ENDED}
        backend.until(
            lambda: backend.status(self) in held,
            wall_s=self.runner.wall_s(wall_timeout),
            what="the execution to be paused",
            arn=self,
        )

    def resume(self) -> None:
        """Let it go on."""
        self.runner.backend.resume(self)


class CallbackHandle:
    """A callback of an execution, by its name. Whatever is done with it waits until it is there."""

    def __init__(self, execution: Execution, name: str | None, index: int) -> None:
        self._execution = execution
        self._name = name
        self._index = index
        self._id: str | None = None

    def __repr__(self) -> str:
        return f"<callback {self._name!r}[{self._index}] of {self._execution}>"

    @property
    def id(self) -> str:
        """Its callback id."""
        if self._id is None:
            self.wait()
        assert self._id is not None
        return self._id

    def wait(self, *, wall_timeout: float | None = None) -> "CallbackHandle":
        """Return once the callback is there. From now on this thread is taken to answer it: none that waits lets it
        time out before. Raises WallTimeout.
        """
        runner = self._execution.runner
        what = f"callback {self._name!r}" if self._name else "a callback"
        runner.backend.until(
            lambda: self._look() is not None,
            wall_s=runner.wall_s(wall_timeout),
            what=what,
            arn=self._execution,
            settles=True,
        )
        found = self._look()
        assert found is not None
        self._id = found.callback_id
        runner.got(self._execution, found.callback_id)
        return self

    def _look(self) -> Callback | None:
        execution = self._execution
        found = callbacks_called(execution.runner.backend.operations(execution), self._name)
        return found[self._index] if -len(found) <= self._index < len(found) else None

    def record(self) -> Callback:
        """What is recorded of it now."""
        if self._id is None:
            self.wait()
        found = self._look()
        assert found is not None
        return found

    def succeed(self, value: Any = None) -> None:
        """Answer it: a text or bytes as they are, anything else as JSON; None without a result."""
        self._execution.runner.backend.succeed_callback(self.id, as_answer(value))

    def fail(
        self,
        type: str | None = None,  # noqa: A002 - an error's own word
        message: str | None = None,
        data: str | None = None,
        stack: Sequence[str] | None = None,
    ) -> None:
        """Answer it with a failure."""
        error = ErrorObject(message, type, data, tuple(stack) if stack is not None else None)
        self._execution.runner.backend.fail_callback(self.id, error)

    def heartbeat(self) -> None:
        """Say that work on it goes on: its heartbeat time-out begins anew."""
        self._execution.runner.backend.heartbeat_callback(self.id)

    def time_out(self) -> None:
        """Move the clock on until it has timed out. ValueError if it has no time-out, or is answered."""
        record = self.record()
        clock = self._execution.runner.backend.clock
        if clock is None:
            raise ValueError("the time of this runner is the world's: it can't be moved on to a callback's time-out")
        if record.due_ms is None:
            state = "has no time-out" if record.status is OperationStatus.STARTED else f"is {record.status} already"
            raise ValueError(f"{self!r} {state}")
        while (record := self.record()).due_ms is not None:
            clock.advance_to(datetime.fromtimestamp(max(record.due_ms, clock.now_ms()) / 1000, UTC))


def callbacks_called(operations: Sequence[op.Operation], name: str | None) -> list[Callback]:
    """The callbacks of this name, or of the `wait_for_callback` of this name; all of them for None."""
    names = {operation.id: operation.name for operation in operations if operation.sub_type == "WaitForCallback"}
    return [
        operation
        for operation in operations
        if isinstance(operation, Callback)
        and (name is None or operation.name == name or names.get(operation.parent_id or "") == name)
    ]


def as_answer(value: Any) -> str | None:
    """The text that a callback is answered with."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode()
    return to_json(value)


def as_error(error: Any) -> ErrorObject | None:
    """An error object of ours: from one of any package, from an exception, or from a message."""
    if error is None or isinstance(error, ErrorObject):
        return error
    if isinstance(error, BaseException):
        return ErrorObject(str(error), type(error).__name__)
    if isinstance(error, str):
        return ErrorObject(error)
    trace = getattr(error, "stack_trace", None)
    return ErrorObject(error.message, error.type, error.data, tuple(trace) if trace else None)


def as_exception(error: Any, kind: str | None, data: str | None) -> Exception:
    """An exception that is recorded as this error: one of any package, an exception, or a message."""
    if isinstance(error, Exception) and kind is None and data is None:
        return error
    from perdure.exceptions import DurableOperationError

    recorded = as_error(error) or ErrorObject()
    module, _, name = (kind or recorded.type or "Exception").rpartition(".")
    made = type(name, (DurableOperationError,), {"__module__": module or "builtins"})
    trace = list(recorded.stack_trace) if recorded.stack_trace else None
    raised: Exception = made(recorded.message, None, data or recorded.data, trace)
    return raised


def as_payload(value: Any, raw: str | bytes | None) -> str | None:
    """The JSON text of an input; `raw` is one already."""
    if raw is not None:
        return raw.decode() if isinstance(raw, bytes) else raw
    return to_json(value)


def parsed(text: str | None) -> Any:
    """The value of a JSON text; None for none."""
    return json.loads(text) if text else None
