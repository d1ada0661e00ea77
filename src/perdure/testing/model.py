"""The history as the official test kit shows it: events with typed details, as frozen dataclasses.

Two more kinds of events, `ExecutionPaused` and `ExecutionResumed`, are Perdure's. Times are datetimes in UTC.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final

from perdure.lambda_service import ErrorObject
from perdure.model.event import HistoryEvent
from perdure.model.ids import ExecutionArn, Home
from perdure.sdk.shape import WireShape, under
from perdure.testing.facts import Facts
from perdure.wire.events import About, write_event
from perdure.wire.forms import FUNCTION


@dataclass(frozen=True)
class EventInput(WireShape):
    payload: str | None = None
    truncated: bool = False


@dataclass(frozen=True)
class EventResult(EventInput):
    pass


@dataclass(frozen=True)
class EventError(WireShape):
    payload: ErrorObject | None = None
    truncated: bool = False


@dataclass(frozen=True)
class RetryDetails(WireShape):
    """`current_attempt` is the attempt that ended."""

    current_attempt: int = 0
    next_attempt_delay_seconds: int | None = None


@dataclass(frozen=True)
class _Nothing(WireShape):
    pass


@dataclass(frozen=True)
class _WithResult(WireShape):
    result: EventResult | None = None


@dataclass(frozen=True)
class _WithError(WireShape):
    error: EventError | None = None


@dataclass(frozen=True)
class ExecutionStartedDetails(WireShape):
    input: EventInput | None = None
    execution_timeout: int | None = None


class ExecutionSucceededDetails(_WithResult):
    pass


class ExecutionFailedDetails(_WithError):
    pass


class ExecutionTimedOutDetails(_WithError):
    pass


class ExecutionStoppedDetails(_WithError):
    pass


@dataclass(frozen=True)
class ExecutionPausedDetails(WireShape):
    pause_request_timestamp: datetime | None = None
    reason: EventInput | None = None
    execution_timeout_paused: bool | None = None


@dataclass(frozen=True)
class ExecutionResumedDetails(WireShape):
    resume_request_timestamp: datetime | None = None
    reason: EventInput | None = None


class ContextStartedDetails(_Nothing):
    pass


class ContextSucceededDetails(_WithResult):
    pass


class ContextFailedDetails(_WithError):
    pass


class StepStartedDetails(_Nothing):
    pass


@dataclass(frozen=True)
class StepSucceededDetails(WireShape):
    result: EventResult | None = None
    retry_details: RetryDetails | None = None


@dataclass(frozen=True)
class StepFailedDetails(WireShape):
    error: EventError | None = None
    retry_details: RetryDetails | None = None


@dataclass(frozen=True)
class WaitStartedDetails(WireShape):
    """`duration` in seconds."""

    duration: int | None = None
    scheduled_end_timestamp: datetime | None = None


@dataclass(frozen=True)
class WaitSucceededDetails(WireShape):
    duration: int | None = None


class WaitCancelledDetails(_WithError):
    pass


@dataclass(frozen=True)
class CallbackStartedDetails(WireShape):
    """Time-outs in seconds."""

    callback_id: str | None = None
    heartbeat_timeout: int | None = None
    timeout: int | None = None


class CallbackSucceededDetails(_WithResult):
    pass


class CallbackFailedDetails(_WithError):
    pass


class CallbackTimedOutDetails(_WithError):
    pass


@dataclass(frozen=True)
class ChainedInvokeStartedDetails(WireShape):
    function_name: str | None = None
    tenant_id: str | None = None
    input: EventInput | None = None
    durable_execution_arn: str | None = None
    executed_version: str | None = None


class ChainedInvokeSucceededDetails(_WithResult):
    pass


class ChainedInvokeFailedDetails(_WithError):
    pass


class ChainedInvokeTimedOutDetails(_WithError):
    pass


class ChainedInvokeStoppedDetails(_WithError):
    pass


@dataclass(frozen=True)
class InvocationCompletedDetails(WireShape):
    """An invocation that has failed, or whose process died, has an `error`."""

    start_timestamp: datetime | None = None
    end_timestamp: datetime | None = None
    request_id: str | None = None
    error: EventError | None = None


@dataclass(frozen=True)
class Event(WireShape):
    """One line of the history. Only the details of its own type are there; `details` has them."""

    event_type: str
    event_timestamp: datetime
    sub_type: str | None = None
    event_id: int = 1
    operation_id: str | None = field(default=None, metadata=under("Id"))
    name: str | None = None
    parent_id: str | None = None
    execution_started_details: ExecutionStartedDetails | None = None
    execution_succeeded_details: ExecutionSucceededDetails | None = None
    execution_failed_details: ExecutionFailedDetails | None = None
    execution_timed_out_details: ExecutionTimedOutDetails | None = None
    execution_stopped_details: ExecutionStoppedDetails | None = None
    execution_paused_details: ExecutionPausedDetails | None = None
    execution_resumed_details: ExecutionResumedDetails | None = None
    context_started_details: ContextStartedDetails | None = None
    context_succeeded_details: ContextSucceededDetails | None = None
    context_failed_details: ContextFailedDetails | None = None
    wait_started_details: WaitStartedDetails | None = None
    wait_succeeded_details: WaitSucceededDetails | None = None
    wait_cancelled_details: WaitCancelledDetails | None = None
    step_started_details: StepStartedDetails | None = None
    step_succeeded_details: StepSucceededDetails | None = None
    step_failed_details: StepFailedDetails | None = None
    chained_invoke_started_details: ChainedInvokeStartedDetails | None = None
    chained_invoke_succeeded_details: ChainedInvokeSucceededDetails | None = None
    chained_invoke_failed_details: ChainedInvokeFailedDetails | None = None
    chained_invoke_timed_out_details: ChainedInvokeTimedOutDetails | None = None
    chained_invoke_stopped_details: ChainedInvokeStoppedDetails | None = None
    callback_started_details: CallbackStartedDetails | None = None
    callback_succeeded_details: CallbackSucceededDetails | None = None
    callback_failed_details: CallbackFailedDetails | None = None
    callback_timed_out_details: CallbackTimedOutDetails | None = None
    invocation_completed_details: InvocationCompletedDetails | None = None

    @property
    def details(self) -> Any:
        """The details of the event's own type."""
        return next((found for name in _DETAILS if (found := getattr(self, name)) is not None), None)

    def __repr__(self) -> str:
        of = f" {self.name!r}" if self.name else ""
        return f"<Event {self.event_id} {self.event_type}{of} at {self.event_timestamp:%Y-%m-%dT%H:%M:%S.%f}>"


_DETAILS: Final = tuple(each.name for each in fields(Event) if each.name.endswith("_details"))


@dataclass(frozen=True)
class GetDurableExecutionHistoryResponse(WireShape):
    """The events of an execution. `next_marker` is None: a runner's answer has them all."""

    events: list[Event]
    next_marker: str | None = None


def history_of(facts: Facts, *, include_execution_data: bool = False) -> GetDurableExecutionHistoryResponse:
    """What the official `get_execution_history` answers; without the data, payloads are left out."""
    return GetDurableExecutionHistoryResponse(events_of(facts, include_execution_data=include_execution_data))


def events_of(facts: Facts, *, include_execution_data: bool = True) -> list[Event]:
    """The history's events, in the order in which they happened."""
    about = about_of(facts)
    form = FUNCTION if include_execution_data else FUNCTION.without_data()
    return [Event.from_dict(write_event(event, about, form)) for event in shown(facts.events)]


def about_of(facts: Facts) -> About:
    """The execution that a history is of, as the wire needs it."""
    arn = ExecutionArn.parse(facts.arn)
    return About(arn.execution_id, facts.name, Home(arn.partition, arn.region, arn.account))


def shown(events: Sequence[HistoryEvent]) -> Sequence[HistoryEvent]:
    """The events that histories have."""
    return [event for event in events if event.event.is_shown]
