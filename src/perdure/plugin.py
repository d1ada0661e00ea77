"""What watches executions from inside: the hooks of a plugin, and what they are told.

A plugin sees; it changes nothing, but for the trace header of a chained invoke. Its hooks run on the thread of the
operation they are about, `on_operation_change` on one of its own. What a hook raises is logged and goes no further.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from perdure.model.operation import OperationStatus, OperationType
from perdure.model.word import Word

if TYPE_CHECKING:
    from perdure.lambda_service import ErrorObject

__all__ = [
    "DurableInstrumentationPlugin",
    "DurableInstrumentationPluginFactory",
    "InvocationEndInfo",
    "InvocationInfo",
    "InvocationStartInfo",
    "InvocationStatus",
    "OperationChangeInfo",
    "OperationEndInfo",
    "OperationInfo",
    "OperationStartInfo",
    "OperationStatus",
    "OperationType",
    "PropagationInput",
    "PropagationMetadata",
    "UserFunctionEndInfo",
    "UserFunctionOutcome",
    "UserFunctionStartInfo",
]


class InvocationStatus(Word):
    """How an invocation ended: RETRY if it raised, so that the platform tries it again."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    PENDING = "PENDING"
    RETRY = "RETRY"


class UserFunctionOutcome(Word):
    """How a run of an author's function ended: INCOMPLETE if it can only wait."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    INCOMPLETE = "INCOMPLETE"


@dataclass(frozen=True)
class OperationInfo:
    """An operation. `result` is the text that was recorded.

    `attempt` counts the attempts that have ended, of a function that runs it is the number of this one, from 1; None
    where there are none. `is_replayed` says that the operation began in an earlier invocation.
    """

    operation_id: str
    operation_type: OperationType
    sub_type: str | None
    name: str | None
    parent_id: str | None
    start_time: datetime | None
    is_replayed: bool
    status: OperationStatus
    end_time: datetime | None = field(default=None, kw_only=True)
    result: str | None = field(default=None, kw_only=True, repr=False, compare=False)
    error: "ErrorObject | None" = field(default=None, kw_only=True)
    attempt: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class OperationStartInfo(OperationInfo):
    """An operation begins, or is met again and has not ended."""


@dataclass(frozen=True)
class OperationEndInfo(OperationInfo):
    """An operation has ended, and that is recorded."""


@dataclass(frozen=True)
class OperationChangeInfo:
    """Operations have changed. `operations` is a view of all of them: it costs nothing unless it is looked at."""

    execution_arn: str | None
    updated_operations: Mapping[str, OperationInfo]
    operations: Mapping[str, OperationInfo]


@dataclass(frozen=True)
class UserFunctionStartInfo(OperationInfo):
    """A function of the author's is about to run: a step's or a check's body, or that of a context.

    `is_replay_children` says that it only makes a result again that was too large to store.
    """

    is_replay_children: bool = False


@dataclass(frozen=True)
class UserFunctionEndInfo(OperationInfo):
    """A function of the author's has ended; `error` is what it raised."""

    is_replay_children: bool
    outcome: UserFunctionOutcome


@dataclass(frozen=True)
class InvocationInfo:
    """An invocation. `execution_input` is the input's value, `operations` a view of what is recorded now."""

    request_id: str | None
    execution_arn: str | None
    is_first_invocation: bool
    execution_start_time: datetime | None = None
    execution_input: Any = field(default=None, kw_only=True, repr=False, compare=False, hash=False)
    operations: Mapping[str, OperationInfo] = field(
        default_factory=dict, kw_only=True, repr=False, compare=False, hash=False
    )


@dataclass(frozen=True)
class InvocationStartInfo(InvocationInfo):
    """An invocation begins. `updated_operations` are those that have changed since the one before."""

    updated_operations: Mapping[str, OperationInfo] = field(
        default_factory=dict, kw_only=True, repr=False, compare=False, hash=False
    )


@dataclass(frozen=True)
class InvocationEndInfo(InvocationInfo):
    """An invocation has ended; `execution_result` is the text it answers."""

    status: InvocationStatus = field(kw_only=True)
    error: "ErrorObject | None" = None
    execution_result: str | None = field(default=None, kw_only=True, repr=False, compare=False, hash=False)


@dataclass(frozen=True)
class PropagationInput:
    """A chained invoke that is about to be recorded."""

    execution_arn: str
    operation_id: str
    target_function_name: str
    parent_operation_id: str | None = None


@dataclass(frozen=True)
class PropagationMetadata:
    """What the invoked function gets to know of the trace."""

    x_amzn_trace_id: str | None = None


class DurableInstrumentationPlugin:
    """Derive from this and override what is of interest; what is not overridden costs nothing."""

    def provide_propagation_metadata(self, info: PropagationInput) -> PropagationMetadata | None:
        """The trace header for a new chained invoke; the first plugin that gives one is heard."""
        return None

    def on_invocation_start(self, info: InvocationStartInfo) -> None:
        """Before anything is done in an invocation."""

    def on_invocation_end(self, info: InvocationEndInfo) -> None:
        """After everything else that there is to tell of an invocation."""

    def on_operation_start(self, info: OperationStartInfo) -> None:
        """An operation begins; once in an invocation, but again with each attempt of a step."""

    def on_operation_end(self, info: OperationEndInfo) -> None:
        """An operation has ended, and its end is recorded; in the invocation that sees it first."""

    def on_operation_change(self, info: OperationChangeInfo) -> None:
        """The service has said what has become of operations. On a thread of its own; several changes may be one."""

    def on_user_function_start(self, info: UserFunctionStartInfo) -> None:
        """An author's function is about to run, on this thread."""

    def on_user_function_end(self, info: UserFunctionEndInfo) -> None:
        """It has ended, on the same thread."""


@runtime_checkable
class DurableInstrumentationPluginFactory(Protocol):
    """What is registered: it makes one plugin for each invocation."""

    def create_plugin(self, info: InvocationStartInfo, /) -> DurableInstrumentationPlugin: ...
