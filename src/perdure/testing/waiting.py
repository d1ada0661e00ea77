"""What an execution waits for, and how its invocations went: told in a test's failure and in its result."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from perdure.model import event as ev
from perdure.model.event import HistoryEvent
from perdure.model.ids import request_id
from perdure.model.operation import Callback, Operation, Step, Wait
from perdure.model.view import ExecutionView
from perdure.testing.facts import InvocationRecord

_STARTS = (ev.StepStarted, ev.WaitStarted, ev.CallbackStarted, ev.ContextStarted, ev.ChainedInvokeStarted)
_ENDS = {ev.ExecutionSucceeded: "SUCCEEDED", ev.ExecutionFailed: "FAILED"}


def what_is_pending(view: ExecutionView, operations: Sequence[Operation], now_ms: int) -> str:
    """The operations of an execution as a tree, with what each open one waits for."""
    lines = [f"execution {view.name!r} is {view.status} after {view.invocations} invocations, {_moment(now_ms)}"]
    depths: dict[str | None, int] = {None: 1}
    for operation in operations:
        depth = depths.get(operation.parent_id, 1)
        depths[operation.id] = depth + 1
        name = f" '{operation.name}'" if operation.name else ""
        lines.append(f"{'  ' * depth}{operation.type}{name} {operation.status}{_waiting_for(operation, now_ms)}")
    if len(lines) == 1:
        lines.append("  no operation was recorded")
    return "\n".join(lines)


def _waiting_for(operation: Operation, now_ms: int) -> str:
    if operation.is_terminal:
        return ""
    due_ms = operation.due_ms
    due = "" if due_ms is None else f"{_moment(due_ms)} (in {timedelta(milliseconds=max(0, due_ms - now_ms))})"
    if isinstance(operation, Callback):
        return f", callback id {operation.callback_id}, " + (f"times out {due}" if due else "without a time-out")
    if isinstance(operation, Wait):
        return f", due {due}" if due else ""
    if isinstance(operation, Step) and due:
        return f", attempt {operation.attempt + 1} due {due}"
    return ""


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")


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
