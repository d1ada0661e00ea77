"""Journal events: all that ever changes an execution, in the order in which it happened.

Most events are those of GetDurableExecutionHistory and carry its names. The others (`is_shown` False) record facts
that the history does not show and that a fold of the journal still needs: that an invocation began, that a checkpoint
spent its token, that a retry came due.

On disk an event is a msgpack array whose first element is its tag. Tags are never reused and fields are only ever added
at the end, with a default: that is what keeps old journals readable.
"""

from typing import Any, ClassVar, Final, Union

import msgspec

from perdure.model.error import ErrorObject
from perdure.model.execution import ParentLink
from perdure.model.word import Word


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="type"):
    """`at_ms` is when it happened, by the service's clock."""

    is_shown: ClassVar[bool] = True

    at_ms: int


class OperationEvent(Event, frozen=True, array_like=True, gc=False):
    """An event of one operation."""

    operation_id: str


class ClosingEvent(OperationEvent, frozen=True, array_like=True, gc=False):
    """An event that may also be the first of its operation (a START that was left out), and then says what it is."""


# --- the execution -----------------------------------------------------------------------------------------------


class ExecutionStarted(Event, frozen=True, array_like=True, gc=False, tag=1):
    execution_id: str
    function: str
    version: str
    name: str | None
    input: str | None
    execution_timeout_s: int
    retention_days: int
    parent: ParentLink | None = None
    tenant_id: str | None = None
    trace_header: str | None = None


class ExecutionSucceeded(Event, frozen=True, array_like=True, gc=False, tag=2):
    result: str | None = None


class ExecutionFailed(Event, frozen=True, array_like=True, gc=False, tag=3):
    error: ErrorObject | None = None


class ExecutionTimedOut(Event, frozen=True, array_like=True, gc=False, tag=4):
    error: ErrorObject | None = None


class ExecutionStopped(Event, frozen=True, array_like=True, gc=False, tag=5):
    error: ErrorObject | None = None


class ExecutionPaused(Event, frozen=True, array_like=True, gc=False, tag=6):
    """`client_token` is that of the request; `is_quarantine` says that the service itself asked."""

    pause_requested_ms: int
    reason: str | None = None
    is_timeout_paused: bool = True
    client_token: str | None = None
    is_quarantine: bool = False


class ExecutionResumed(Event, frozen=True, array_like=True, gc=False, tag=7):
    resume_requested_ms: int
    reason: str | None = None
    client_token: str | None = None


class PauseRequested(Event, frozen=True, array_like=True, gc=False, tag=8):
    """PAUSING: an invocation is in flight and ends before the pause begins."""

    is_shown = False

    reason: str | None = None
    is_timeout_paused: bool = True
    client_token: str | None = None


class PauseWithdrawn(Event, frozen=True, array_like=True, gc=False, tag=9):
    """A resume that came while still PAUSING."""

    is_shown = False

    client_token: str | None = None


class DeleteRequested(Event, frozen=True, array_like=True, gc=False, tag=10):
    is_shown = False


# --- invocations -------------------------------------------------------------------------------------------------


class InvocationStarted(Event, frozen=True, array_like=True, gc=False, tag=20):
    """`epoch` counts the invocations of the execution from 1 and stands in every checkpoint token."""

    is_shown = False

    epoch: int
    owner: str


class InvocationEnd(Word):
    """How an invocation ended: its handler answered; it FAILED (raised, or its time ran out) or was LOST (its process
    died), and is tried again; it was RELEASED at a clean point, by a worker that closes or by a handler that has missed
    a step that became READY; its answer was INVALID.
    """

    ANSWERED = "A"
    FAILED = "F"
    LOST = "L"
    RELEASED = "R"
    INVALID = "I"


class InvocationCompleted(Event, frozen=True, array_like=True, gc=False, tag=21):
    """`retry_at_ms` is when a failed or lost invocation is tried again."""

    start_ms: int
    epoch: int
    error: ErrorObject | None = None
    end: InvocationEnd = InvocationEnd.ANSWERED
    retry_at_ms: int | None = None


class CheckpointAccepted(Event, frozen=True, array_like=True, gc=False, tag=22):
    """A checkpoint spent its token; the next one carries `count`.

    `digest` is that of the updates it was asked with, if it had a client token.
    """

    is_shown = False

    count: int
    client_token: str | None = None
    digest: bytes | None = None


# --- steps -------------------------------------------------------------------------------------------------------


class StepStarted(OperationEvent, frozen=True, array_like=True, gc=False, tag=30):
    name: str | None = None
    sub_type: str | None = None
    parent_id: str | None = None


class StepSucceeded(ClosingEvent, frozen=True, array_like=True, gc=False, tag=31):
    """`attempt` is the attempt that ended. With a `next_attempt_delay_s` it was a poll whose condition was not met."""

    attempt: int
    result: str | None = None
    next_attempt_delay_s: int | None = None
    name: str | None = None
    sub_type: str | None = None
    parent_id: str | None = None


class StepFailed(ClosingEvent, frozen=True, array_like=True, gc=False, tag=32):
    """`attempt` is the attempt that ended; with a `next_attempt_delay_s` another one follows."""

    attempt: int
    error: ErrorObject | None = None
    next_attempt_delay_s: int | None = None
    name: str | None = None
    sub_type: str | None = None
    parent_id: str | None = None


class StepReady(OperationEvent, frozen=True, array_like=True, gc=False, tag=33):
    is_shown = False


# --- contexts ----------------------------------------------------------------------------------------------------


class ContextStarted(OperationEvent, frozen=True, array_like=True, gc=False, tag=40):
    name: str | None = None
    sub_type: str | None = None
    parent_id: str | None = None


class ContextSucceeded(ClosingEvent, frozen=True, array_like=True, gc=False, tag=41):
    result: str | None = None
    replay_children: bool = False
    name: str | None = None
    sub_type: str | None = None
    parent_id: str | None = None


class ContextFailed(ClosingEvent, frozen=True, array_like=True, gc=False, tag=42):
    error: ErrorObject | None = None
    replay_children: bool = False
    name: str | None = None
    sub_type: str | None = None
    parent_id: str | None = None


# --- waits -------------------------------------------------------------------------------------------------------


class WaitStarted(OperationEvent, frozen=True, array_like=True, gc=False, tag=50):
    duration_s: int
    scheduled_end_ms: int
    name: str | None = None
    sub_type: str | None = None
    parent_id: str | None = None


class WaitSucceeded(OperationEvent, frozen=True, array_like=True, gc=False, tag=51):
    duration_s: int


class WaitCancelled(OperationEvent, frozen=True, array_like=True, gc=False, tag=52):
    error: ErrorObject | None = None


# --- callbacks ---------------------------------------------------------------------------------------------------


class CallbackStarted(OperationEvent, frozen=True, array_like=True, gc=False, tag=60):
    callback_id: str
    timeout_s: int = 0
    heartbeat_timeout_s: int = 0
    name: str | None = None
    sub_type: str | None = None
    parent_id: str | None = None


class CallbackSucceeded(OperationEvent, frozen=True, array_like=True, gc=False, tag=61):
    result: str | None = None


class CallbackFailed(OperationEvent, frozen=True, array_like=True, gc=False, tag=62):
    error: ErrorObject | None = None


class CallbackTimedOut(OperationEvent, frozen=True, array_like=True, gc=False, tag=63):
    error: ErrorObject | None = None


class CallbackHeartbeat(OperationEvent, frozen=True, array_like=True, gc=False, tag=64):
    is_shown = False


# --- chained invokes ---------------------------------------------------------------------------------------------


class ChainedInvokeStarted(OperationEvent, frozen=True, array_like=True, gc=False, tag=70):
    """`function` is the reference as the author wrote it; `target` and `version` what it was resolved to.

    `execution_id` is that of the child execution if the target is durable.
    """

    function: str
    input: str | None = None
    tenant_id: str | None = None
    target: str | None = None
    version: str | None = None
    execution_id: str | None = None
    trace_header: str | None = None
    name: str | None = None
    sub_type: str | None = None
    parent_id: str | None = None


class ChainedInvokeSucceeded(OperationEvent, frozen=True, array_like=True, gc=False, tag=71):
    result: str | None = None


class ChainedInvokeFailed(OperationEvent, frozen=True, array_like=True, gc=False, tag=72):
    error: ErrorObject | None = None


class ChainedInvokeTimedOut(OperationEvent, frozen=True, array_like=True, gc=False, tag=73):
    error: ErrorObject | None = None


class ChainedInvokeStopped(OperationEvent, frozen=True, array_like=True, gc=False, tag=74):
    error: ErrorObject | None = None


class ChildStarted(OperationEvent, frozen=True, array_like=True, gc=False, tag=75):
    """The child execution of a chained invoke is on disk; nobody needs to start it any more."""

    is_shown = False


class ParentTold(Event, frozen=True, array_like=True, gc=False, tag=76):
    """The parent's journal has the outcome of this execution; nobody needs to tell it any more."""

    is_shown = False


def _leaves(kind: type[Event]) -> list[type[Event]]:
    below = kind.__subclasses__()
    return [leaf for child in below for leaf in _leaves(child)] if below else [kind]


EVENTS: Final[tuple[type[Event], ...]] = tuple(_leaves(Event))
"""Every kind of event, for tables that must know them all."""

AnyEvent: Final[Any] = Union[EVENTS]  # noqa: UP007 - made of a tuple
"""The union of all kinds, as decoders want it."""


class HistoryEvent(msgspec.Struct, frozen=True):
    """A shown event as operators see it: numbered from 1 without gaps, with what its operation is called."""

    event_id: int
    event: Event
    operation_id: str | None = None
    name: str | None = None
    sub_type: str | None = None
    parent_id: str | None = None

    @property
    def type(self) -> str:
        return type(self.event).__name__
