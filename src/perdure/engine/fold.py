"""What the events of a journal amount to: `apply` one to a state, or `fold` a whole journal."""

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any, Final

from msgspec.structs import replace

from perdure.engine.metering import cost
from perdure.engine.state import (
    PARENT,
    Delivered,
    ExecutionState,
    Failures,
    Head,
    InFlight,
    Paused,
    Request,
    pendings_of,
)
from perdure.engine.transitions import advance
from perdure.model import event as ev
from perdure.model.execution import EXECUTION_TIMEOUT_S_MAX, DurableConfig, ExecutionStatus
from perdure.model.operation import Callback, ChainedInvoke, Operation

SERVICE_CHANGES: Final[frozenset[type[ev.Event]]] = frozenset(
    {
        ev.StepReady,
        ev.WaitSucceeded,
        ev.CallbackSucceeded,
        ev.CallbackFailed,
        ev.CallbackTimedOut,
        ev.ChainedInvokeSucceeded,
        ev.ChainedInvokeFailed,
        ev.ChainedInvokeTimedOut,
        ev.ChainedInvokeStopped,
    }
)
"""Changes of operations that the handler has to be told of."""

NEVER_PENDING: Final[frozenset[type[ev.Event]]] = frozenset(
    {ev.StepStarted, ev.ContextStarted, ev.ContextSucceeded, ev.ContextFailed}
)
"""Events that neither begin nor end a wait of the execution for something outside."""

SERVICE_NOTES: Final[frozenset[type[ev.Event]]] = frozenset({ev.CallbackHeartbeat, ev.ChildStarted})
"""Changes of operations that concern the service alone. All other operation events come from the handler."""


# --- the head ----------------------------------------------------------------------------------------------------


def begin(event: ev.ExecutionStarted) -> Head:
    """The head of an execution of which nothing but its start is known."""
    head = Head(
        execution_id=event.execution_id,
        function=event.function,
        version=event.version,
        name=event.name,
        input=event.input,
        start_ms=event.at_ms,
        config=DurableConfig(event.execution_timeout_s, event.retention_days),
        deadline_ms=event.at_ms + event.execution_timeout_s * 1000,
        parent=event.parent,
        tenant_id=event.tenant_id,
        trace_header=event.trace_header,
        must_invoke=True,
        event_count=1,
    )
    head.metered_operations, head.written_bytes = cost(event, None)
    return head


def _end(status: ExecutionStatus) -> Callable[[Head, Any], None]:
    def end(head: Head, event: Any) -> None:
        head.status = status
        head.end_ms = event.at_ms
        head.result = getattr(event, "result", None)
        head.error = getattr(event, "error", None)
        head.must_invoke = False
        head.retry_at_ms = None
        head.pause = None
        head.owed = 1 if head.parent is not None else 0

    return end


def _invocation_started(head: Head, event: ev.InvocationStarted) -> None:
    head.epoch = event.epoch
    head.in_flight = InFlight(event.epoch, event.owner, event.at_ms)
    head.must_invoke = False
    head.retry_at_ms = None
    head.unseen = head.turned_ready = 0


def _invocation_completed(head: Head, event: ev.InvocationCompleted) -> None:
    head.in_flight = None
    head.invocation_count += 1
    if head.has_ended:
        return
    end = event.end
    if end is ev.InvocationEnd.ANSWERED:
        head.failures = Failures()
        head.invalid_pendings = 0
        return
    head.must_invoke = True
    head.retry_at_ms = event.retry_at_ms
    if end is ev.InvocationEnd.INVALID:
        head.invalid_pendings += 1
    elif end is not ev.InvocationEnd.RELEASED:
        head.failures = next_failures(head, event)


def next_failures(head: Head, event: ev.InvocationCompleted) -> Failures:
    """Count one more failure; it is at the same point if nothing has come from the handler since the one before."""
    before = head.failures
    is_stuck = before.in_a_row > 0 and before.progress == head.progress
    return Failures(before.in_a_row + 1, before.same_point + 1 if is_stuck else 1, head.progress, event.error)


def _checkpoint_accepted(head: Head, event: ev.CheckpointAccepted) -> None:
    assert head.in_flight is not None
    head.in_flight = replace(head.in_flight, count=event.count)
    head.unseen = 0


def _pause_requested(head: Head, event: ev.PauseRequested) -> None:
    head.status = ExecutionStatus.PAUSING
    head.pause = Paused(event.at_ms, event.reason, event.is_timeout_paused)
    _remember_pause(head, event)


def _remember_pause(head: Head, event: ev.PauseRequested | ev.ExecutionPaused) -> None:
    if event.client_token is not None:
        head.pause_request = Request(event.client_token, event.at_ms)


def _remember_resume(head: Head, event: ev.PauseWithdrawn | ev.ExecutionResumed) -> None:
    if event.client_token is not None:
        head.resume_request = Request(event.client_token, event.at_ms)


def _pause_withdrawn(head: Head, event: ev.PauseWithdrawn) -> None:
    head.status = ExecutionStatus.RUNNING
    head.pause = None
    _remember_resume(head, event)


def _execution_paused(head: Head, event: ev.ExecutionPaused) -> None:
    head.status = ExecutionStatus.PAUSED
    head.pause = Paused(
        event.pause_requested_ms, event.reason, event.is_timeout_paused, event.is_quarantine, since_ms=event.at_ms
    )
    _remember_pause(head, event)
    if head.in_flight is not None:
        head.in_flight = replace(head.in_flight, is_revoked=True)
        head.must_invoke = True


def _execution_resumed(head: Head, event: ev.ExecutionResumed) -> None:
    pause = head.pause
    if pause is not None and pause.is_timeout_paused and pause.since_ms is not None:
        hard_end_ms = head.start_ms + EXECUTION_TIMEOUT_S_MAX * 1000
        head.deadline_ms = min(head.deadline_ms + event.at_ms - pause.since_ms, hard_end_ms)
    head.status = ExecutionStatus.RUNNING
    head.pause = None
    head.failures = Failures()
    head.retry_at_ms = None
    _remember_resume(head, event)


def _delete_requested(head: Head, _event: ev.DeleteRequested) -> None:
    head.status = ExecutionStatus.DELETING
    head.is_deleted = True


def _parent_told(head: Head, _event: ev.ParentTold) -> None:
    head.owed = 0


_HEAD: Final[dict[type[ev.Event], Callable[[Head, Any], None]]] = {
    ev.ExecutionSucceeded: _end(ExecutionStatus.SUCCEEDED),
    ev.ExecutionFailed: _end(ExecutionStatus.FAILED),
    ev.ExecutionTimedOut: _end(ExecutionStatus.TIMED_OUT),
    ev.ExecutionStopped: _end(ExecutionStatus.STOPPED),
    ev.ExecutionPaused: _execution_paused,
    ev.ExecutionResumed: _execution_resumed,
    ev.PauseRequested: _pause_requested,
    ev.PauseWithdrawn: _pause_withdrawn,
    ev.DeleteRequested: _delete_requested,
    ev.InvocationStarted: _invocation_started,
    ev.InvocationCompleted: _invocation_completed,
    ev.CheckpointAccepted: _checkpoint_accepted,
    ev.ParentTold: _parent_told,
}


def apply_to_head(head: Head, event: ev.Event, before: Operation | None, after: Operation | None) -> None:
    """Change `head` as `event` says, which made `after` of the operation `before` (both None if it has none)."""
    if event.is_shown:
        head.event_count += 1
    operations, size = cost(event, before)
    head.metered_operations += operations
    head.written_bytes += size
    if after is None:
        _HEAD[type(event)](head, event)
        return
    if before is None:
        head.operation_count += 1
    kind = type(event)
    if kind not in NEVER_PENDING:
        old, new = pendings_of(before), pendings_of(after)
        if old is not new:
            head.waits += new.waits - old.waits
            head.retries += new.retries - old.retries
            head.open_callbacks += new.callbacks - old.callbacks
            head.invokes += new.invokes - old.invokes
            head.owed += new.owed - old.owed
    if kind in SERVICE_CHANGES:
        head.unseen += 1
        if kind is ev.StepReady:
            head.turned_ready += 1
    elif kind not in SERVICE_NOTES:
        head.progress += 1


# --- the whole ---------------------------------------------------------------------------------------------------


def apply(state: ExecutionState | None, event: ev.Event) -> ExecutionState:
    """Change `state` as `event` says and return it; an execution begins with its ExecutionStarted and no state."""
    if state is None:
        assert type(event) is ev.ExecutionStarted, "a journal begins with ExecutionStarted"
        return ExecutionState(begin(event))
    if isinstance(event, ev.OperationEvent):
        _apply_to_operation(state, event)
    else:
        apply_to_head(state.head, event, None, None)
        rest = REST.get(type(event))
        if rest is not None:
            rest(state, event)
    return state


def fold(events: Iterable[ev.Event]) -> ExecutionState:
    """The state that a journal's events amount to."""
    state: ExecutionState | None = None
    for event in events:
        state = apply(state, event)
    assert state is not None, "a journal is never empty"
    return state


def _apply_to_operation(state: ExecutionState, event: ev.OperationEvent) -> None:
    operation_id = event.operation_id
    before = state.operations.get(operation_id)
    after = advance(before, event, state.head.operation_count + 1)
    apply_to_head(state.head, event, before, after)
    state.operations[operation_id] = after
    mark(state, event)
    index(state, after)
    drop_untrue_timers(state)


def mark(state: ExecutionState, event: ev.OperationEvent) -> None:
    """Remember who has to be told of a change."""
    kind = type(event)
    if kind in SERVICE_CHANGES:
        state.unseen[event.operation_id] = None
    elif kind not in SERVICE_NOTES:
        state.touched[event.operation_id] = None


def index(state: ExecutionState, operation: Operation) -> None:
    """Have the indexes know an operation as it is now."""
    due_ms = operation.due_ms
    if due_ms is not None:
        heappush(state.timers, (due_ms, operation.number, operation.id))
    if type(operation) is Callback:
        state.callback_ids[operation.callback_id] = operation.id
    elif type(operation) is ChainedInvoke:
        if operation.is_owed:
            state.owed[operation.id] = None
        else:
            state.owed.pop(operation.id, None)


def is_true(state: ExecutionState, due_ms: int, operation_id: str) -> bool:
    """Whether a timer's entry still says when its operation is due."""
    return state.operations[operation_id].due_ms == due_ms


def drop_untrue_timers(state: ExecutionState) -> None:
    timers = state.timers
    while timers and not is_true(state, timers[0][0], timers[0][2]):
        heappop(timers)


def _ended(state: ExecutionState, _event: ev.Event) -> None:
    state.timers.clear()
    state.owed.clear()
    if state.head.owed:
        state.owed[PARENT] = None


def _invoked(state: ExecutionState, _event: ev.InvocationStarted) -> None:
    state.updated_ids = tuple(state.unseen)
    state.unseen.clear()
    state.touched.clear()


def _answered(state: ExecutionState, _event: ev.InvocationCompleted) -> None:
    state.touched.clear()


def _delivered(state: ExecutionState, event: ev.CheckpointAccepted) -> None:
    operations = state.operations
    changed = [operations[operation_id] for operation_id in state.touched.keys() | state.unseen.keys()]
    changed.sort(key=_by_number)
    state.delivered = Delivered(
        state.head.epoch, event.count, event.client_token, event.at_ms, tuple(changed), event.digest
    )
    state.touched.clear()
    state.unseen.clear()


def _by_number(operation: Operation) -> int:
    return operation.number


def _told(state: ExecutionState, _event: ev.ParentTold) -> None:
    state.owed.clear()


REST: Final[dict[type[ev.Event], Callable[[ExecutionState, Any], None]]] = {
    ev.ExecutionSucceeded: _ended,
    ev.ExecutionFailed: _ended,
    ev.ExecutionTimedOut: _ended,
    ev.ExecutionStopped: _ended,
    ev.InvocationStarted: _invoked,
    ev.InvocationCompleted: _answered,
    ev.CheckpointAccepted: _delivered,
    ev.ParentTold: _told,
}
