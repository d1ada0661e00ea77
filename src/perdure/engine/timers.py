"""What is due, and when somebody must look again."""

from collections.abc import Iterator

from perdure.engine.draft import Draft
from perdure.engine.fold import is_true
from perdure.engine.state import ExecutionState, Head, TimerEntry
from perdure.model import event as ev
from perdure.model.error import ErrorObject
from perdure.model.execution import EXECUTION_TIMEOUT_S_MAX, ExecutionStatus
from perdure.model.operation import Callback, Operation, OperationStatus, Step, Wait


def deadline_ms(head: Head) -> int:
    """When the execution times out, as things stand: a pause may have stopped the clock, save for its hard end."""
    if head.is_paused and head.pause is not None and head.pause.is_timeout_paused:
        return head.start_ms + EXECUTION_TIMEOUT_S_MAX * 1000
    return head.deadline_ms


def next_due_ms(state: ExecutionState) -> int | None:
    """The earliest moment at which something happens by itself; None if the execution has ended."""
    head = state.head
    if head.has_ended:
        return None
    due_ms = deadline_ms(head)
    if state.timers and state.timers[0][0] < due_ms:
        due_ms = state.timers[0][0]
    if head.retry_at_ms is not None and head.status is ExecutionStatus.RUNNING and head.in_flight is None:
        due_ms = min(due_ms, head.retry_at_ms)
    return due_ms


def wake_at_ms(state: ExecutionState, now_ms: int, lease_ms: int | None) -> int | None:
    """The earliest moment at which somebody must look at the execution: `now_ms` if it is runnable or owes something.

    With an invocation in flight that is the end of its lease; what is due before is the owner's business. Where one
    process owns the whole store (`lease_ms` None), its death ends the lease: for everybody else the moment has come.
    """
    head = state.head
    if head.in_flight is not None and not head.has_ended:
        return head.in_flight.start_ms if lease_ms is None else now_ms + lease_ms
    if head.owed or head.can_be_invoked(now_ms):
        return now_ms
    return next_due_ms(state)


def fire_due(draft: Draft, limit: int) -> None:
    """Let what is due happen, in the order of its moments; the execution's own time-out ends everything else.

    At most `limit` timers: the rest is still due afterwards.
    """
    head = draft.head
    if head.has_ended:
        return
    now_ms = draft.now_ms
    if deadline_ms(head) <= now_ms:
        draft.emit(ev.ExecutionTimedOut(now_ms, timeout_error(head)))
        return
    timers = draft.state.timers
    if not timers or timers[0][0] > now_ms:
        return
    seen: set[str] = set()
    for due_ms, _number, operation_id in sorted(_due_entries(timers, now_ms)):
        if operation_id in seen or not is_true(draft.state, due_ms, operation_id):
            continue
        seen.add(operation_id)
        draft.emit(_fired(draft.state.operations[operation_id], now_ms))
        if len(seen) == limit:
            return


def timeout_error(head: Head) -> ErrorObject:
    return ErrorObject(f"Execution timed out after {head.config.execution_timeout_s} seconds.", "Execution.Timeout")


def _due_entries(timers: list[TimerEntry], now_ms: int) -> Iterator[TimerEntry]:
    """The entries of the heap that are due, looking only at them and their neighbours."""
    todo = [0]
    while todo:
        index = todo.pop()
        if index < len(timers) and timers[index][0] <= now_ms:
            yield timers[index]
            todo.append(2 * index + 1)
            todo.append(2 * index + 2)


def _fired(operation: Operation, now_ms: int) -> ev.Event:
    if isinstance(operation, Wait):
        assert operation.scheduled_end_ms is not None
        return ev.WaitSucceeded(now_ms, operation.id, (operation.scheduled_end_ms - operation.start_ms) // 1000)
    if isinstance(operation, Step):
        assert operation.status is OperationStatus.PENDING
        return ev.StepReady(now_ms, operation.id)
    assert isinstance(operation, Callback)
    if operation.timeout_ms is not None and operation.timeout_ms == operation.due_ms:
        return ev.CallbackTimedOut(now_ms, operation.id, ErrorObject("Callback timed out", "Callback.Timeout"))
    error = ErrorObject("Callback timed out on heartbeat", "Callback.Heartbeat")
    return ev.CallbackTimedOut(now_ms, operation.id, error)
