"""The service's models and its client, as the official SDK names them: what AWS Lambda and Perdure's own server speak.

The classes are frozen dataclasses. `from_dict` and `to_dict` are between them and the objects of the API, whose members
are in PascalCase; absent members are None. Nothing here loads boto3 before a client is needed.
"""

import builtins
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn, Protocol, Self, TypeAlias

from perdure.exceptions import DurableOperationError
from perdure.identifier import OperationIdentifier
from perdure.model import error as model
from perdure.model.operation import OperationAction, OperationStatus, OperationSubType, OperationType
from perdure.model.word import Word
from perdure.sdk.boto3_client import EXECUTION_RESULT_ID, PAGE_OPERATIONS_MAX, LambdaClient
from perdure.sdk.errors import error_object, rebuild
from perdure.sdk.invocation import InvocationStatus
from perdure.sdk.shape import WireShape, under
from perdure.wire.forms import from_ms, to_ms

__all__ = [
    "CallbackDetails",
    "CallbackOptions",
    "CallbackTimeoutType",
    "ChainedInvokeDetails",
    "ChainedInvokeOptions",
    "CheckpointOutput",
    "CheckpointUpdatedExecutionState",
    "ContextDetails",
    "ContextOptions",
    "DurableExecutionInvocationOutput",
    "DurableServiceClient",
    "ErrorObject",
    "ExecutionDetails",
    "InvocationStatus",
    "LambdaClient",
    "Operation",
    "OperationAction",
    "OperationPayload",
    "OperationStatus",
    "OperationSubType",
    "OperationType",
    "OperationUpdate",
    "ReplayChildren",
    "StateOutput",
    "StepDetails",
    "StepOptions",
    "TimeoutSeconds",
    "TimestampConverter",
    "WaitDetails",
    "WaitOptions",
]


OperationPayload: TypeAlias = str
ReplayChildren: TypeAlias = bool
TimeoutSeconds: TypeAlias = int


class CallbackTimeoutType(Word):
    """The error types of callbacks that nobody answered, and of those whose heartbeats stopped."""

    TIMEOUT = "Callback.Timeout"
    HEARTBEAT = "Callback.Heartbeat"


class TimestampConverter:
    """Between datetimes and whole milliseconds since the epoch. A datetime without a zone is taken as UTC."""

    @staticmethod
    def to_unix_millis(dt: datetime | None) -> int | None:
        return None if dt is None else to_ms(dt)

    @staticmethod
    def from_unix_millis(ms: int | None) -> datetime | None:
        return None if ms is None else from_ms(ms)


@dataclass(frozen=True)
class ErrorObject(WireShape):
    """An error as it is recorded. `stack_trace` is one text per frame, outermost first."""

    message: str | None = field(metadata=under("ErrorMessage"))
    type: str | None = field(metadata=under("ErrorType"))
    data: str | None = field(metadata=under("ErrorData"))
    stack_trace: list[str] | None

    @classmethod
    def of(cls, error: model.ErrorObject) -> "ErrorObject":
        """The same of Perdure's own model."""
        return cls(error.message, error.type, error.data, list(error.stack_trace) if error.stack_trace else None)

    @classmethod
    def from_exception(cls, exception: BaseException) -> "ErrorObject":
        """What is recorded of an exception: its text, its qualified type, the last frames of its traceback."""
        return cls.of(error_object(exception))

    @classmethod
    def from_message(cls, message: str) -> "ErrorObject":
        return cls(message, None, None, None)

    def to_durable_operation_error(self) -> DurableOperationError:
        """The exception of its recorded type, if that is known, else a `DurableOperationError`."""
        return DurableOperationError.from_error_fields(self.type, self.message, self.data, self.stack_trace)

    def raise_as_operation_error(self, operation_error_cls: builtins.type[DurableOperationError]) -> NoReturn:
        """Raise this as the failure of an operation; its cause is the error that escaped from the operation."""
        stack = tuple(self.stack_trace) if self.stack_trace else None
        recorded = model.ErrorObject(self.message, self.type, self.data, stack)
        raise rebuild(operation_error_cls, recorded, operation_error_cls.__name__)


# --- what operations look like ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExecutionDetails(WireShape):
    input_payload: str | None = None


@dataclass(frozen=True)
class ContextDetails(WireShape):
    """With `replay_children` the result is too large to be recorded: a replay makes it again from the children."""

    replay_children: bool = False
    result: str | None = None
    error: ErrorObject | None = None


@dataclass(frozen=True)
class StepDetails(WireShape):
    """`attempt` counts the attempts that have ended."""

    attempt: int = 0
    next_attempt_timestamp: datetime | None = None
    result: str | None = None
    error: ErrorObject | None = None


@dataclass(frozen=True)
class WaitDetails(WireShape):
    scheduled_end_timestamp: datetime | None = None


@dataclass(frozen=True)
class CallbackDetails(WireShape):
    callback_id: str
    result: str | None = None
    error: ErrorObject | None = None


@dataclass(frozen=True)
class ChainedInvokeDetails(WireShape):
    result: str | None = None
    error: ErrorObject | None = None


@dataclass(frozen=True)
class Operation(WireShape):
    """One recorded operation; the details of its own type are there once there are any."""

    operation_id: str = field(metadata=under("Id"))
    operation_type: OperationType = field(metadata=under("Type"))
    status: OperationStatus
    parent_id: str | None = None
    name: str | None = None
    start_timestamp: datetime | None = None
    end_timestamp: datetime | None = None
    sub_type: str | None = None
    execution_details: ExecutionDetails | None = None
    context_details: ContextDetails | None = None
    step_details: StepDetails | None = None
    wait_details: WaitDetails | None = None
    callback_details: CallbackDetails | None = None
    chained_invoke_details: ChainedInvokeDetails | None = None


# --- what checkpoints ask for -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ContextOptions(WireShape):
    replay_children: bool = False


@dataclass(frozen=True)
class StepOptions(WireShape):
    next_attempt_delay_seconds: int = 0


@dataclass(frozen=True)
class WaitOptions(WireShape):
    """1 to 31 622 400 seconds."""

    wait_seconds: int = 1


@dataclass(frozen=True)
class CallbackOptions(WireShape):
    """Time-outs in seconds; 0 is none."""

    timeout_seconds: int = 0
    heartbeat_timeout_seconds: int = 0


@dataclass(frozen=True)
class ChainedInvokeOptions(WireShape):
    function_name: str
    tenant_id: str | None = None
    x_amzn_trace_id: str | None = None


@dataclass(frozen=True)
class OperationUpdate(WireShape):
    """What a checkpoint asks for; the `create_` methods make each kind that there is."""

    operation_id: str = field(metadata=under("Id"))
    operation_type: OperationType = field(metadata=under("Type"))
    action: OperationAction
    parent_id: str | None = field(default=None, metadata=under("ParentId", is_blank_absent=True))
    name: str | None = field(default=None, metadata=under("Name", is_blank_absent=True))
    sub_type: str | None = field(default=None, metadata=under("SubType", is_blank_absent=True))
    payload: str | None = None
    error: ErrorObject | None = None
    context_options: ContextOptions | None = None
    step_options: StepOptions | None = None
    wait_options: WaitOptions | None = None
    callback_options: CallbackOptions | None = None
    chained_invoke_options: ChainedInvokeOptions | None = None

    @classmethod
    def _of(cls, of: OperationIdentifier, kind: OperationType, action: OperationAction, **more: Any) -> Self:
        return cls(of.operation_id, kind, action, of.parent_id, of.name, of.sub_type, **more)

    @classmethod
    def create_callback(cls, identifier: OperationIdentifier, callback_options: CallbackOptions) -> Self:
        start = OperationAction.START
        return cls._of(identifier, OperationType.CALLBACK, start, callback_options=callback_options)

    @classmethod
    def create_context_start(cls, identifier: OperationIdentifier) -> Self:
        return cls._of(identifier, OperationType.CONTEXT, OperationAction.START)

    @classmethod
    def create_context_succeed(
        cls, identifier: OperationIdentifier, payload: str | None, *, context_options: ContextOptions | None = None
    ) -> Self:
        succeed = OperationAction.SUCCEED
        return cls._of(identifier, OperationType.CONTEXT, succeed, payload=payload, context_options=context_options)

    @classmethod
    def create_context_fail(cls, identifier: OperationIdentifier, error: ErrorObject) -> Self:
        return cls._of(identifier, OperationType.CONTEXT, OperationAction.FAIL, error=error)

    @classmethod
    def create_execution_succeed(cls, payload: str) -> Self:
        """The result of an execution, where it is too large for the invocation's answer."""
        return cls(EXECUTION_RESULT_ID, OperationType.EXECUTION, OperationAction.SUCCEED, payload=payload)

    @classmethod
    def create_execution_fail(cls, error: ErrorObject) -> Self:
        """The error of an execution, where it is too large for the invocation's answer."""
        return cls(EXECUTION_RESULT_ID, OperationType.EXECUTION, OperationAction.FAIL, error=error)

    @classmethod
    def create_step_start(cls, identifier: OperationIdentifier) -> Self:
        return cls._of(identifier, OperationType.STEP, OperationAction.START)

    @classmethod
    def create_step_succeed(cls, identifier: OperationIdentifier, payload: str | None) -> Self:
        return cls._of(identifier, OperationType.STEP, OperationAction.SUCCEED, payload=payload)

    @classmethod
    def create_step_fail(cls, identifier: OperationIdentifier, error: ErrorObject) -> Self:
        return cls._of(identifier, OperationType.STEP, OperationAction.FAIL, error=error)

    @classmethod
    def create_step_retry(
        cls, identifier: OperationIdentifier, error: ErrorObject, next_attempt_delay_seconds: int
    ) -> Self:
        delay = StepOptions(next_attempt_delay_seconds)
        return cls._of(identifier, OperationType.STEP, OperationAction.RETRY, error=error, step_options=delay)

    @classmethod
    def create_invoke_start(
        cls, identifier: OperationIdentifier, payload: str | None, chained_invoke_options: ChainedInvokeOptions
    ) -> Self:
        start = OperationAction.START
        return cls._of(
            identifier,
            OperationType.CHAINED_INVOKE,
            start,
            payload=payload,
            chained_invoke_options=chained_invoke_options,
        )

    @classmethod
    def create_wait_for_condition_start(cls, identifier: OperationIdentifier) -> Self:
        return cls.create_step_start(identifier)

    @classmethod
    def create_wait_for_condition_succeed(cls, identifier: OperationIdentifier, payload: str | None) -> Self:
        return cls.create_step_succeed(identifier, payload)

    @classmethod
    def create_wait_for_condition_retry(
        cls, identifier: OperationIdentifier, payload: str | None, next_attempt_delay_seconds: int
    ) -> Self:
        delay = StepOptions(next_attempt_delay_seconds)
        return cls._of(identifier, OperationType.STEP, OperationAction.RETRY, payload=payload, step_options=delay)

    @classmethod
    def create_wait_for_condition_fail(cls, identifier: OperationIdentifier, error: ErrorObject) -> Self:
        return cls.create_step_fail(identifier, error)

    @classmethod
    def create_wait_start(cls, identifier: OperationIdentifier, wait_options: WaitOptions) -> Self:
        return cls._of(identifier, OperationType.WAIT, OperationAction.START, wait_options=wait_options)


# --- answers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CheckpointUpdatedExecutionState(WireShape):
    """The operations that have changed, or the first page of them; `next_marker` leads to the rest."""

    operations: list[Operation] = field(default_factory=list)
    next_marker: str | None = None


@dataclass(frozen=True)
class CheckpointOutput(WireShape):
    """The answer to a checkpoint. Without a token the invocation must end."""

    checkpoint_token: str | None
    new_execution_state: CheckpointUpdatedExecutionState = field(default_factory=CheckpointUpdatedExecutionState)


@dataclass(frozen=True)
class StateOutput(WireShape):
    """A page of operations; `next_marker` leads to the next."""

    operations: list[Operation] = field(default_factory=list)
    next_marker: str | None = None


@dataclass(frozen=True)
class DurableExecutionInvocationOutput(WireShape):
    """What a durable function answers the platform with."""

    status: InvocationStatus
    result: str | None = None
    error: ErrorObject | None = None

    @classmethod
    def create_succeeded(cls, result: str) -> Self:
        return cls(InvocationStatus.SUCCEEDED, result)

    @classmethod
    def create_pending(cls) -> Self:
        return cls(InvocationStatus.PENDING)

    @classmethod
    def create_retry(cls, error: ErrorObject) -> Self:
        """An invocation that raises `error` to the platform; never on the wire."""
        return cls(InvocationStatus.RETRY, None, error)


# --- the client ---------------------------------------------------------------------------------------------------


class DurableServiceClient(Protocol):
    """Whoever keeps the operations of executions; the seam for test runners and clients of one's own.

    Calls of one invocation come one after the other. What they raise is classified as errors of boto3 are, by
    `CheckpointError.from_exception`: a refusal that would be repeated ends the execution, all else the invocation.
    """

    def checkpoint(
        self,
        durable_execution_arn: str,
        checkpoint_token: str,
        updates: list[OperationUpdate],
        client_token: str | None,
    ) -> CheckpointOutput:
        """Record `updates`, all or none. Calls with the same `client_token` are one call that was repeated."""
        ...

    def get_execution_state(
        self,
        durable_execution_arn: str,
        checkpoint_token: str,
        next_marker: str,
        max_items: int = PAGE_OPERATIONS_MAX,
    ) -> StateOutput:
        """The page of operations that `next_marker` leads to."""
        ...
