"""What an execution counts for: operations and bytes, by AWS's counting rules, and what they would cost.

The rules: an execution 1, with its input and its result; a step 1 and 1 for each retry, with the result or error of
each attempt; a condition 1 and 1 for each poll; a wait, a callback, a context, a branch, an invoke 1, with their
results; an invocation that is tried again 1, with its error. A wait for a callback is thus 3 and its submitter's
retries, and its answer counts in the callback and in the context.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from perdure.model import event as ev
from perdure.model.error import ErrorObject
from perdure.model.event import HistoryEvent
from perdure.model.operation import OperationSubType, OperationType, payload_bytes

if TYPE_CHECKING:
    from perdure.testing.operations import Operation
    from perdure.testing.trace import Trace


class Prices(msgspec.Struct, frozen=True):
    """What one pays, in USD. What is None is not counted: those prices vary, and are for you to look up.

    `operations_per_million` is that of the worked example on the public price page.
    """

    operations_per_million: float = 8.0
    written_per_gb: float | None = None
    retained_per_gb_month: float | None = None


PRICES: Final = Prices()


class Metering(msgspec.Struct, frozen=True):
    """`operations` and `written_bytes` (UTF-8 bytes of payloads and errors), as they are counted."""

    operations: int = 0
    written_bytes: int = 0

    def __add__(self, other: "Metering") -> "Metering":
        return Metering(self.operations + other.operations, self.written_bytes + other.written_bytes)

    @property
    def estimated_cost(self) -> float:
        """USD at the default prices: operations alone."""
        return self.cost()

    def cost(self, prices: Prices = PRICES, *, retention_days: float = 0) -> float:
        """USD at these prices, with the data kept for `retention_days`."""
        written_gb = self.written_bytes / 1e9
        return (
            self.operations * prices.operations_per_million / 1e6
            + written_gb * (prices.written_per_gb or 0.0)
            + written_gb * (prices.retained_per_gb_month or 0.0) * retention_days / 30
        )


def metered(operation: "Operation") -> Metering:
    """What an operation counts for, with those within."""
    total = _own(operation)
    for child in operation.children:
        total += metered(child)
    return total


def metered_execution(trace: "Trace") -> Metering:
    """What an execution counts for, its own start and end and its retried invocations included."""
    own = [event for event in trace.facts.events if event.operation_id not in trace.records]
    retried = sum(isinstance(shown.event, ev.InvocationCompleted) and shown.event.error is not None for shown in own)
    total = Metering(1 + retried, _bytes(own))
    for operation in trace.walk():
        total += _own(operation)
    return total


def _own(operation: "Operation") -> Metering:
    trace = operation.trace
    if trace is None:
        return Metering()
    events = trace.raw_events.get(operation.operation_id, [])
    count = 1
    if operation.operation_type is OperationType.STEP:
        ends = sum(isinstance(shown.event, (ev.StepSucceeded, ev.StepFailed)) for shown in events)
        is_open = bool(events) and isinstance(events[-1].event, ev.StepStarted)
        is_polled = operation.sub_type == OperationSubType.WAIT_FOR_CONDITION
        count = ends + is_open + is_polled if events else 1
    return Metering(count, _bytes(events))


def _bytes(events: Iterable[HistoryEvent]) -> int:
    return sum(_event_bytes(shown.event) for shown in events)


def _event_bytes(event: ev.Event) -> int:
    texts = payload_bytes(getattr(event, "input", None)) + payload_bytes(getattr(event, "result", None))
    error = getattr(event, "error", None)
    return texts + (error.size_bytes() if isinstance(error, ErrorObject) else 0)
