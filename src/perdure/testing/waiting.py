"""How the invocations of an execution went."""

from collections.abc import Sequence

from perdure.model import event as ev
from perdure.model.event import HistoryEvent
from perdure.model.ids import request_id
from perdure.testing.facts import InvocationRecord

_STARTS = (ev.StepStarted, ev.WaitStarted, ev.CallbackStarted, ev.ContextStarted, ev.ChainedInvokeStarted)
_ENDS = {ev.ExecutionSucceeded: "SUCCEEDED", ev.ExecutionFailed: "FAILED"}


def invocations_of(execution_id: str, events: Sequence[HistoryEvent]) -> list[InvocationRecord]:
    """The invocations that have ended, as the history tells them."""
    records: list[InvocationRecord] = []
    begun: set[str] = set()
    known = new = 0
    for index, shown in enumerate(events):
        event = shown.event
        if isinstance(event, ev.InvocationCompleted):
            following = events[index + 1].event if index + 1 < len(events) else None
            status = _ENDS.get(type(following), "PENDING") if following is not None else "PENDING"
            if event.error is not None:
                status = "CRASHED"
            records.append(
                InvocationRecord(
                    number=len(records) + 1,
                    request_id=request_id(execution_id, event.epoch),
                    start_ms=event.start_ms,
                    end_ms=event.at_ms,
                    status=status,
                    replayed_operations=known,
                    new_operations=new,
                    error=event.error,
                )
            )
            known, new = len(begun), 0
        elif isinstance(event, ev.OperationEvent) and event.operation_id not in begun:
            begun.add(event.operation_id)
            new += 1
    return records
