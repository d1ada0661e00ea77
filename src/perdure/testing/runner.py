"""Runs durable functions in a test."""

import os
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from perdure.config import DurationLike, to_duration
from perdure.exceptions import ValidationError
from perdure.execution import definition_of, durable_execution
from perdure.model.execution import ENDED
from perdure.model.operation import Callback, OperationStatus
from perdure.testing.backend import Backend
from perdure.testing.environment import warn_of_unknown
from perdure.testing.facts import Facts
from perdure.testing.handles import CallbackHandle, Execution, as_answer, as_error, as_payload, callbacks_called

if TYPE_CHECKING:
    from perdure.testing.model import GetDurableExecutionHistoryResponse
    from perdure.testing.result import Result

Handler = Callable[..., Any]
Until = str | int

WALL_TIMEOUT_S: Final = 30.0
OFFICIAL_TIMEOUT_S: Final = 60
"""What the official methods that wait take as the default."""


class Runner:
    """What all runners do, wherever the executions run. Safe to use from several threads; to be closed."""

    def __init__(self, wall_timeout: float = WALL_TIMEOUT_S) -> None:
        warn_of_unknown(os.environ)
        self.wall_timeout = wall_timeout
        self._answers: dict[str, Any] = {}
        self._answered: set[str] = set()
        self.executions: list[Execution] = []
        """Those that were begun here, in order."""

    @property
    def backend(self) -> Backend:
        """Where the executions run."""
        raise NotImplementedError

    @property
    def function(self) -> str:
        """The name of the function that is tested."""
        raise NotImplementedError

    def wall_s(self, given: float | None) -> float:
        return self.wall_timeout if given is None else given

    # --- running -------------------------------------------------------------------------------------------------

    def run(
        self,
        input: Any = None,  # noqa: A002 - the official name
        *,
        name: str | None = None,
        tenant_id: str | None = None,
        raises: bool = False,
        until: Until | None = None,
        raw_input: str | bytes | None = None,
        execution_timeout: DurationLike | None = None,
        wall_timeout: float | None = None,
    ) -> Any:
        """Begin an execution, let it come to its end, and return its Result.

        `input` is any value that JSON knows, `raw_input` JSON text instead. With `raises` a failure is raised, as what
        it was where that can be imported. `until` stops before the end: "suspended" once it can only wait,
        "callback:NAME" once that callback is open, "operation:NAME" once that operation has begun, a number after so
        many invocations. `execution_timeout` is modelled time, `wall_timeout` real seconds.

        Raises WallTimeout if it does not get there.
        """
        execution = self.start(
            input, name=name, tenant_id=tenant_id, raw_input=raw_input, execution_timeout=execution_timeout
        )
        if until is not None:
            self.go_on(execution, until, wall_timeout=wall_timeout)
            return self.result_of(execution)
        return self.finish(execution, raises=raises, wall_timeout=wall_timeout)

    def start(
        self,
        input: Any = None,  # noqa: A002
        *,
        name: str | None = None,
        tenant_id: str | None = None,
        raw_input: str | bytes | None = None,
        execution_timeout: DurationLike | None = None,
    ) -> Execution:
        """Begin an execution and return at once."""
        return self.begin(
            self.function,
            input,
            name=name,
            tenant_id=tenant_id,
            raw_input=raw_input,
            execution_timeout=execution_timeout,
        )

    def begin(
        self,
        function: str,
        input: Any,  # noqa: A002
        *,
        name: str | None,
        tenant_id: str | None,
        raw_input: str | bytes | None,
        execution_timeout: DurationLike | None,
    ) -> Execution:
        """Begin an execution of any function that the runner knows."""
        timeout_s = None
        if execution_timeout is not None:
            timeout_s = to_duration(execution_timeout, "execution_timeout").seconds
        arn = self.backend.start(
            function,
            as_payload(input, raw_input),
            name=name,
            tenant_id=tenant_id,
            execution_timeout_s=timeout_s,
        )
        execution = Execution(arn, self)
        self.executions.append(execution)
        return execution

    def finish(self, execution: str, *, raises: bool = False, wall_timeout: float | None = None) -> Any:
        """The Result of an execution, once it has ended."""
        backend = self.backend
        backend.until(
            lambda: self.answer_callbacks(execution) and backend.status(execution) in ENDED,
            wall_s=self.wall_s(wall_timeout),
            what="the execution to end",
            arn=execution,
        )
        result = self.result_of(execution)
        if raises and result.error is not None:
            raise result.error.exception()
        return result

    def go_on(self, execution: str, until: Until, *, wall_timeout: float | None = None) -> None:
        """Let an execution go on until it has come to a point, as `run` does."""
        backend = self.backend
        reached = self._reached(execution, until)
        backend.until(
            lambda: self.answer_callbacks(execution) and (reached() or backend.status(execution) in ENDED),
            wall_s=self.wall_s(wall_timeout),
            what=f"{until!r}" if isinstance(until, str) else f"{until} invocations",
            arn=execution,
            settles=True,
        )

    def _reached(self, execution: str, until: Until) -> Callable[[], bool]:
        backend = self.backend
        if isinstance(until, int):
            return lambda: backend.invocations(execution) >= until
        kind, _, name = until.partition(":")
        if until == "suspended":
            return lambda: backend.invocations(execution) > 0
        if kind == "callback" and name:
            return lambda: any(
                each.status is OperationStatus.STARTED for each in callbacks_called(backend.operations(execution), name)
            )
        if kind == "operation" and name:
            return lambda: any(each.name == name for each in backend.operations(execution))
        raise ValidationError(
            f"until must be 'suspended', 'callback:NAME', 'operation:NAME' or a number of invocations, not {until!r}"
        )

    def result_of(self, execution: str) -> Any:
        """The Result of an execution as it stands now."""
        return self.as_result(self.backend.facts(execution))

    @property
    def result_class(self) -> "type[Result]":
        """The class of what `run` returns."""
        from perdure.testing.result import Result

        return Result

    def as_result(self, facts: Facts) -> Any:
        """What becomes of the facts of an execution."""
        return self.result_class(facts)

    def fork(self, execution: str, operation_id: str, name: str | None) -> str:
        """Begin an execution with the past of another one; return its ARN."""
        raise ValidationError(f"a {type(self).__name__} can't fork executions; a LocalRunner can")

    # --- callbacks -----------------------------------------------------------------------------------------------

    def callback(self, name: str | None = None, index: int = 0) -> CallbackHandle:
        """The callback of this name of the execution that was begun last, as `Execution.callback`."""
        if not self.executions:
            raise ValidationError("no execution has begun; runner.start() begins one")
        return self.executions[-1].callback(name, index)

    def auto_callback(self, name: str, answer: Any = None) -> Self:
        """Answer every callback of this name, from now on, with a value, or with what a function of the callback id
        returns; what that raises is its failure.
        """
        self._answers[name] = answer
        return self

    @property
    def answered_callbacks(self) -> list[str]:
        """The names of the callbacks that are answered by themselves."""
        return list(self._answers)

    def answer_callbacks(self, execution: str) -> bool:
        """Answer what is to be answered by itself. True, for conditions to go on with."""
        if not self._answers:
            return True
        operations = self.backend.operations(execution)
        for name, answer in list(self._answers.items()):
            for callback in callbacks_called(operations, name):
                if callback.status is OperationStatus.STARTED and callback.callback_id not in self._answered:
                    self._answered.add(callback.callback_id)
                    self._answer(callback.callback_id, answer)
        return True

    def _answer(self, callback_id: str, answer: Any) -> None:
        try:
            value = answer(callback_id) if callable(answer) else answer
        except Exception as error:  # noqa: BLE001 - whatever it raises is the callback's failure
            self.backend.fail_callback(callback_id, as_error(error))
        else:
            self.backend.succeed_callback(callback_id, as_answer(value))

    def got(self, execution: str, callback_id: str) -> None:
        """A callback is known to whoever asks, who may answer it."""

    # --- under the official names --------------------------------------------------------------------------------

    def run_async(self, input: Any = None, **how: Any) -> Execution:  # noqa: A002
        """The same as `start`."""
        return self.start(input, **how)

    def wait_for_result(self, execution_arn: str, timeout: float = OFFICIAL_TIMEOUT_S) -> Any:
        """The Result of an execution, once it has ended. WallTimeout after `timeout` real seconds."""
        return self.finish(execution_arn, wall_timeout=timeout)

    def wait_for_callback(
        self, execution_arn: str, name: str | None = None, timeout: float = OFFICIAL_TIMEOUT_S
    ) -> str:
        """The id of the newest open callback, of this name if one is given, once the invocation that made it is over.

        Raises DurableFunctionsTestError if a callback of this name has been answered already.
        """
        backend = self.backend

        def newest() -> Callback | None:
            found = callbacks_called(backend.operations(execution_arn), name)
            return next((each for each in reversed(found) if name or each.status is OperationStatus.STARTED), None)

        backend.until(
            lambda: newest() is not None or backend.status(execution_arn) in ENDED,
            wall_s=timeout,
            what=f"callback {name!r}" if name else "a callback",
            arn=execution_arn,
            settles=True,
        )
        callback = newest()
        if callback is None or callback.status is not OperationStatus.STARTED:
            from perdure.testing.exceptions import DurableFunctionsTestError

            what = f"callback {name!r}" if name else "an open callback"
            state = "there is none" if callback is None else f"it is {callback.status} already"
            raise DurableFunctionsTestError(f"waiting for {what} of an execution is in vain: {state}")
        self.got(execution_arn, callback.callback_id)
        return callback.callback_id

    def send_callback_success(self, callback_id: str, result: bytes | str | None = None) -> None:
        """Answer a callback with a text, as it is."""
        text = result.decode() if isinstance(result, bytes) else result
        self.backend.succeed_callback(callback_id, text or None)

    def send_callback_failure(self, callback_id: str, error: Any = None) -> None:
        """Answer a callback with a failure: an ErrorObject, an exception or a message."""
        self.backend.fail_callback(callback_id, as_error(error))

    def send_callback_heartbeat(self, callback_id: str) -> None:
        """Say that work on a callback goes on."""
        self.backend.heartbeat_callback(callback_id)

    def pause_execution(self, execution_arn: str, timeout: float = OFFICIAL_TIMEOUT_S) -> None:
        """Let an execution not go on; return once no invocation of it runs."""
        Execution(execution_arn, self).pause(wall_timeout=timeout)

    def resume_execution(self, execution_arn: str) -> None:
        """Let it go on."""
        self.backend.resume(execution_arn)

    def get_execution_history(
        self,
        execution_arn: str,
        include_execution_data: bool = False,
    ) -> "GetDurableExecutionHistoryResponse":
        """The events of an execution, also of a chained one, in the official shape; payloads only if asked for."""
        from perdure.testing.model import history_of

        return history_of(self.backend.facts(execution_arn), include_execution_data=include_execution_data)

    # --- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give back what the runner has taken."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def as_durable(handler: Handler) -> Handler:
    """The handler, durable if it is not yet, with what decorators have put around it."""
    if definition_of(handler) is None:
        return durable_execution(handler)
    if definition_of(getattr(handler, "__wrapped__", None)) is None:
        return handler
    from perdure.testing.entries import as_entry

    return as_entry(handler)


def __getattr__(name: str) -> Any:
    """The official module of this name is the home of all runners, of results and of operations."""
    if name in OFFICIAL:
        import perdure.testing

        return getattr(perdure.testing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


OFFICIAL: Final = frozenset(
    {
        "CallbackOperation",
        "ContextOperation",
        "DurableChildContextTestRunner",
        "DurableFunctionCloudTestRunner",
        "DurableFunctionTestResult",
        "DurableFunctionTestRunner",
        "ExecutionOperation",
        "InvokeOperation",
        "Operation",
        "StepOperation",
        "WaitOperation",
        "WebRunner",
        "WebRunnerConfig",
    }
)
