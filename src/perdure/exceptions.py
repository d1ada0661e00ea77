"""What function authors catch, and what ends an invocation.

Suspension derives from `BaseException`: `except Exception` in a handler cannot swallow it, `finally` still runs.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

from perdure.model.word import Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.dropped import (
        CallableRuntimeErrorSerializableDetails as CallableRuntimeErrorSerializableDetails,
    )


class TerminationReason(Word):
    """Why an invocation or an execution ended with an error that is not the handler's own."""

    UNHANDLED_ERROR = "UNHANDLED_ERROR"
    INVOCATION_ERROR = "INVOCATION_ERROR"
    EXECUTION_ERROR = "EXECUTION_ERROR"
    CHECKPOINT_FAILED = "CHECKPOINT_FAILED"
    NON_DETERMINISTIC_EXECUTION = "NON_DETERMINISTIC_EXECUTION"
    STEP_INTERRUPTED = "STEP_INTERRUPTED"
    SERIALIZATION_ERROR = "SERIALIZATION_ERROR"


class DurableApiErrorCategory(Word):
    """What a failed call to the service means: try the invocation again, or end the execution."""

    INVOCATION = "INVOCATION"
    EXECUTION = "EXECUTION"


CheckpointErrorCategory = DurableApiErrorCategory


# --- not errors: control flow ------------------------------------------------------------------------------------


class SuspendExecution(BaseException):
    """Nothing can go on now; the invocation ends and another one goes on later. Let it pass.

    `operation_ids` are the operations of which one has to change before anything can go on, `due_ms` the earliest
    moment at which one does so by itself; both for the SDK's own use.
    """

    operation_ids: "tuple[str, ...]" = ()
    due_ms: int | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)


class TimedSuspendExecution(SuspendExecution):
    """The same with the moment, in seconds since the epoch, at which something is due."""

    def __init__(self, message: str, scheduled_timestamp: float) -> None:
        super().__init__(message)
        self.scheduled_timestamp = scheduled_timestamp

    @classmethod
    def from_delay(cls, message: str, delay_seconds: float) -> Self:
        return cls.from_datetime(message, datetime.now(UTC) + timedelta(seconds=delay_seconds))

    @classmethod
    def from_datetime(cls, message: str, datetime_timestamp: datetime) -> Self:
        return cls(message, datetime_timestamp.timestamp())


class OrphanedChildException(BaseException):
    """An abandoned branch, or one of an execution that has ended, tried to record something."""

    def __init__(self, message: str, operation_id: str) -> None:
        super().__init__(message)
        self.operation_id = operation_id


class BackgroundThreadError(BaseException):
    """A call to the service failed; `source_exception` says how. The invocation can't go on."""

    def __init__(self, message: str, source_exception: BaseException) -> None:
        super().__init__(message)
        self.source_exception = source_exception


# --- errors ------------------------------------------------------------------------------------------------------


class DurableExecutionsError(Exception):
    """The root of all errors of durable functions."""


class PluginLoadError(DurableExecutionsError):
    """A plugin is missing, ambiguous, or not one."""


class ValidationError(DurableExecutionsError):
    """An argument that can't be. Nothing has been recorded."""


class InvalidStateError(DurableExecutionsError):
    """An object was used at a moment when it can't be."""


class DurableCancelledError(DurableExecutionsError):
    """Asked for the outcome of a future that was cancelled."""


class OrderedLockError(DurableExecutionsError):
    """A lock was left in disorder."""

    def __init__(self, message: str, source_exception: Exception | None = None) -> None:
        super().__init__(message)
        self.source_exception = source_exception


class _Recorded(DurableExecutionsError):
    """An error with the fields in which errors are recorded."""

    def __init__(
        self,
        message: str | None = None,
        error_type: str | None = None,
        data: str | None = None,
        stack_trace: "Sequence[str] | None" = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_type = error_type if error_type is not None else qualified_name(type(self))
        self.data = data
        self.stack_trace = list(stack_trace) if stack_trace is not None else None

    def __str__(self) -> str:
        return self.message or ""


class SerDesError(_Recorded):
    """A value can't be written as a payload, or a payload can't be read. Trying again would not help."""


class UnrecoverableError(DurableExecutionsError):
    """Ends the invocation; `termination_reason` says why."""

    def __init__(self, message: str, termination_reason: TerminationReason) -> None:
        super().__init__(message)
        self.termination_reason = termination_reason


class ExecutionError(UnrecoverableError):
    """Ends the execution FAILED, at once and whatever is around it. A handler may raise it."""

    def __init__(self, message: str, termination_reason: TerminationReason = TerminationReason.EXECUTION_ERROR) -> None:
        super().__init__(message, termination_reason)


class NonDeterministicExecutionError(ExecutionError):
    """The code asked for another operation than the journal has. `step_id` is the operation's id."""

    def __init__(self, message: str, step_id: str | None = None) -> None:
        super().__init__(message, TerminationReason.NON_DETERMINISTIC_EXECUTION)
        self.step_id = step_id


class ContextUsageError(ExecutionError):
    """A context was used where it must not be: inside a step, or inside a child that has its own."""


class NonDeterminismError(ExecutionError):
    """A handler did something, outside of a step, that a replay would not repeat: `call`, at `file`:`line`.

    Only where strictness was asked for: `PERDURE_STRICT`, `perdure.testing.strict`.
    """

    def __init__(self, message: str, call: str = "", file: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.call = call
        self.file = file
        self.line = line


class NonDeterminismWarning(UserWarning):
    """The same, where a warning was asked for."""


class InvocationError(UnrecoverableError):
    """Ends this invocation; the service tries another one. A handler may raise it."""

    def __init__(
        self, message: str, termination_reason: TerminationReason = TerminationReason.INVOCATION_ERROR
    ) -> None:
        super().__init__(message, termination_reason)

    def is_retryable(self) -> bool:
        return True


class RetryableSerDesError(InvocationError):
    """Raised by a serdes for a failure that may pass: the invocation is tried again, nothing is recorded."""

    def __init__(
        self, message: str, termination_reason: TerminationReason = TerminationReason.SERIALIZATION_ERROR
    ) -> None:
        super().__init__(message, termination_reason)


class StepInterruptedError(InvocationError):
    """An at-most-once step was running when its invocation ended; whether it took effect is unknown."""

    def __init__(self, message: str, step_id: str | None = None) -> None:
        super().__init__(message, TerminationReason.STEP_INTERRUPTED)
        self.step_id = step_id


class BotoClientError(InvocationError):
    """A call to the service failed; `error_category` says whether another invocation may help."""

    def __init__(
        self,
        message: str,
        error_category: DurableApiErrorCategory = DurableApiErrorCategory.INVOCATION,
        error: dict[str, Any] | None = None,
        response_metadata: dict[str, Any] | None = None,
        termination_reason: TerminationReason = TerminationReason.INVOCATION_ERROR,
    ) -> None:
        super().__init__(message, termination_reason)
        self.error_category = error_category
        self.error = error
        self.response_metadata = response_metadata

    @classmethod
    def from_exception(cls, exception: Exception) -> Self:
        """The failure of a call that raised `exception`, of boto3 or of another client.

        Only a service's refusal that would be repeated ends the execution: an HTTP status of 4xx other than 429, or a
        key that can't be used. A stale token, an error of the service and a lost connection end the invocation.
        """
        response = getattr(exception, "response", None)
        if not isinstance(response, dict):
            return cls(str(exception))
        error, metadata = response.get("Error"), response.get("ResponseMetadata")
        return cls(str(exception), _category(error or {}, (metadata or {}).get("HTTPStatusCode")), error, metadata)

    def is_retryable(self) -> bool:
        return self.error_category is DurableApiErrorCategory.INVOCATION

    is_retriable = is_retryable

    def build_logger_extras(self) -> dict[str, Any]:
        """What a log line should say of the failed call."""
        extras = {"Error": self.error, "ResponseMetadata": self.response_metadata}
        return {key: value for key, value in extras.items() if value}


def _category(error: dict[str, Any], http_status: int | None) -> DurableApiErrorCategory:
    is_stale = error.get("Code") == "InvalidParameterValueException" and str(error.get("Message") or "").startswith(
        "Invalid checkpoint token"
    )
    is_refusal = http_status is not None and 400 <= http_status < 500 and http_status != 429
    if error.get("Code") in _UNUSABLE_KEY or (is_refusal and not is_stale):
        return DurableApiErrorCategory.EXECUTION
    return DurableApiErrorCategory.INVOCATION


_UNUSABLE_KEY = frozenset(
    {
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
    }
)


class CheckpointError(BotoClientError):
    """A checkpoint was refused or did not arrive."""

    def __init__(
        self,
        message: str,
        error_category: DurableApiErrorCategory = DurableApiErrorCategory.INVOCATION,
        error: dict[str, Any] | None = None,
        response_metadata: dict[str, Any] | None = None,
        termination_reason: TerminationReason = TerminationReason.CHECKPOINT_FAILED,
    ) -> None:
        super().__init__(message, error_category, error, response_metadata, termination_reason)


class GetExecutionStateError(BotoClientError):
    """The state of the execution could not be loaded."""


# --- failed operations -------------------------------------------------------------------------------------------


class DurableOperationError(_Recorded):
    """An operation failed for good. `error_type` is the type of the error that escaped from it.

    The first run and a replay see the same: `__cause__` is made from what is recorded, never the original object.
    """

    def __init__(
        self,
        message: str | None = None,
        error_type: str | None = None,
        data: str | None = None,
        stack_trace: "Sequence[str] | None" = None,
    ) -> None:
        super().__init__(message, error_type, data, stack_trace)
        if error_type is not None and error_type != qualified_name(type(self)):
            self.__cause__ = DurableOperationError.from_error_fields(error_type, message, data, stack_trace)

    @staticmethod
    def from_error_fields(
        error_type: str | None,
        message: str | None,
        data: str | None = None,
        stack_trace: "Sequence[str] | None" = None,
    ) -> "DurableOperationError":
        """The error that these fields record: of its own class if that is known, else a `DurableOperationError`.

        Knows the spellings of the official SDKs: the qualified name under either root, and the bare name.
        """
        kind = _OPERATION_ERRORS.get(_bare_name(error_type))
        if kind is not None and _is_spelling(error_type, kind):
            return kind(message, None, data, stack_trace)
        error = DurableOperationError(message, None, data, stack_trace)
        error.error_type = error_type or error.error_type
        return error


class StepError(DurableOperationError):
    """A step failed for good: its retries are exhausted, its error is not retried, or it was interrupted."""

    @property
    def is_interrupted(self) -> bool:
        return isinstance(self, StepInterruptedError)


class InterruptedStepError(StepError, StepInterruptedError):
    """An interrupted step that is not tried again: caught as a `StepError` and as a `StepInterruptedError`."""

    def __init__(
        self,
        message: str | None = None,
        error_type: str | None = None,
        data: str | None = None,
        stack_trace: "Sequence[str] | None" = None,
    ) -> None:
        StepError.__init__(self, message, error_type, data, stack_trace)
        self.termination_reason = TerminationReason.STEP_INTERRUPTED
        self.step_id: str | None = None


class InvokeError(DurableOperationError):
    """An invoked function failed, timed out, or was stopped."""


class ChildContextError(DurableOperationError):
    """A child context failed."""


class CompensationError(DurableOperationError):
    """A saga has failed, and could not be undone wholly. `failures` are the undo steps that failed, with their errors;
    they are there in the run in which it was raised.
    """

    failures: "Sequence[tuple[str, Exception]]" = ()


class DurableTimeoutError(DurableOperationError):
    """A block took longer than its time-out."""


class PromiseCombinatorError(DurableOperationError):
    """What `all`, `any` or `race` waited for has failed; `__cause__` is what it failed with."""


class WaitForConditionError(DurableOperationError):
    """A condition could not be checked, or was not met in the allowed number of polls."""


class CallbackError(DurableOperationError):
    """A callback failed."""


class CallbackExternalError(CallbackError):
    """Whoever had the callback id reported a failure; `external_error_type` is the type that was given."""

    external_error_type: str | None = None


class CallbackTimeoutError(CallbackError):
    """Nobody answered in time, or the heartbeats stopped."""


class CallbackSubmitterError(CallbackError):
    """The function that hands the callback id out failed."""


# --- ended executions --------------------------------------------------------------------------------------------


class ExecutionEndedError(_Recorded):
    """Asked for the result of an execution that has none. `arn` says which, `status` how it ended."""

    def __init__(
        self,
        message: str | None = None,
        error_type: str | None = None,
        data: str | None = None,
        stack_trace: "Sequence[str] | None" = None,
        *,
        arn: str = "",
        status: str = "",
    ) -> None:
        super().__init__(message, error_type, data, stack_trace)
        self.arn = arn
        self.status = status

    def __str__(self) -> str:
        return f"{self.error_type}: {self.message}" if self.message else str(self.error_type)


class ExecutionFailed(ExecutionEndedError):
    """The handler raised, or the service ended the execution with an error."""


class ExecutionTimedOut(ExecutionEndedError):
    """The execution took longer than its execution time-out."""


class ExecutionStopped(ExecutionEndedError):
    """Somebody stopped the execution."""


E = TypeVar("E", bound=type[DurableOperationError])

_OPERATION_ERRORS: dict[str, type[DurableOperationError]] = {}
_OFFICIAL_ROOT = "aws_durable_execution_sdk_python."


def register_operation_error(cls: E) -> E:
    """Make an error class known to `from_error_fields`; usable as a decorator."""
    _OPERATION_ERRORS[cls.__name__] = cls
    return cls


def qualified_name(cls: type[BaseException]) -> str:
    """The name under which an error type is recorded: module and name, of a builtin the name alone."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def is_recorded_as(error_type: str | None, cls: type[BaseException]) -> bool:
    """Whether a recorded type is this class, in any of the spellings that are out there."""
    return _bare_name(error_type) == cls.__name__ and _is_spelling(error_type, cls)


def _bare_name(error_type: str | None) -> str:
    return (error_type or "").rpartition(".")[2]


def _is_spelling(error_type: str | None, cls: type[BaseException]) -> bool:
    return error_type in (cls.__name__, qualified_name(cls)) or (error_type or "").startswith(_OFFICIAL_ROOT)


for _kind in (
    DurableOperationError,
    StepError,
    InvokeError,
    ChildContextError,
    WaitForConditionError,
    CompensationError,
    DurableTimeoutError,
    PromiseCombinatorError,
    CallbackError,
    CallbackExternalError,
    CallbackTimeoutError,
    CallbackSubmitterError,
):
    register_operation_error(_kind)

CallableRuntimeError = DurableOperationError
"""The name before 2.0 of the official SDK; the documentation still shows it."""

UserlandError = DurableOperationError


def __getattr__(name: str) -> Any:
    """`CallableRuntimeErrorSerializableDetails`, a name of the official 1.x line."""
    if name == "CallableRuntimeErrorSerializableDetails":
        from perdure.dropped import CallableRuntimeErrorSerializableDetails

        return CallableRuntimeErrorSerializableDetails
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
