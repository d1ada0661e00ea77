"""Invocations: when the handler runs, how its answers end an execution, and what happens when it does not answer."""

from typing import Final

from perdure.engine.checkpoint import apply_updates, holds_right
from perdure.engine.commands import (
    Crashed,
    Decision,
    EndInvocation,
    Failed,
    LoseInvocation,
    Pending,
    Released,
    Succeeded,
    Wake,
)
from perdure.engine.draft import Draft
from perdure.engine.effects import effects_of, effects_owed
from perdure.engine.endings import end_failed, end_succeeded, pause_now
from perdure.engine.fold import next_failures
from perdure.engine.state import ExecutionState
from perdure.engine.terms import Ids, Terms
from perdure.engine.timers import fire_due
from perdure.model import event as ev
from perdure.model.error import ErrorObject
from perdure.model.event import InvocationEnd
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import Context, Operation, OperationStatus, Step

INVALID_PENDINGS_MAX: Final = 3
"""So often in a row may a handler answer PENDING with nothing pending; then the execution has failed."""


def invoke_if_possible(draft: Draft, invoker: str | None) -> None:
    """Give the right to run to `invoker`, if there is one and the execution can go on now."""
    head = draft.head
    if invoker is not None and head.can_be_invoked(draft.now_ms):
        draft.emit(ev.InvocationStarted(draft.now_ms, head.epoch + 1, invoker))


def complete(draft: Draft, end: InvocationEnd, error: ErrorObject | None, retry_at_ms: int | None = None) -> None:
    """Record that the invocation in flight has ended."""
    now = draft.head.in_flight
    assert now is not None, "only an invocation in flight can end"
    draft.emit(ev.InvocationCompleted(draft.now_ms, now.start_ms, now.epoch, error, end, retry_at_ms))


def crash(draft: Draft, error: ErrorObject, ids: Ids, terms: Terms, *, is_lost: bool) -> None:
    """The invocation gave no valid answer: have it retried, or stop retrying."""
    end = InvocationEnd.LOST if is_lost else InvocationEnd.FAILED
    head = draft.head
    now = head.in_flight
    assert now is not None
    failures = next_failures(head, ev.InvocationCompleted(draft.now_ms, 0, 0, error, end))
    delay_ms = terms.retries.delay_ms(
        failures=failures.in_a_row, same_point=failures.same_point, is_lost=is_lost, jitter=ids.jitter()
    )
    complete(draft, end, error, draft.now_ms + delay_ms)
    give_up_after = terms.retries.give_up_after
    if head.status is ExecutionStatus.PAUSING:
        pause_now(draft)
    elif give_up_after is not None and failures.in_a_row >= give_up_after:
        draft.emit(ev.ExecutionFailed(draft.now_ms, error))
    elif give_up_after is None and failures.same_point >= terms.retries.quarantine_after:
        reason = diagnosis(draft, error, failures.same_point)
        draft.emit(ev.ExecutionPaused(draft.now_ms, draft.now_ms, reason, is_quarantine=True))


def diagnosis(draft: Draft, error: ErrorObject, deaths: int) -> str:
    """Where the invocations keep dying, and of what, for the operator who is woken by it."""
    stuck = _running_operation(draft)
    if stuck is None:
        where = "before the first operation was recorded"
    else:
        where = f"{'in' if not stuck.is_terminal else 'after'} {stuck.type} '{stuck.name or stuck.id}'"
    text = f"quarantined: {deaths} invocations in a row ended {where} without any progress; the last error was {error}"
    return text if len(text) <= 1000 else text[:999] + "…"


def _running_operation(draft: Draft) -> Operation | None:
    """The open step or context that started last; if none is open, the operation that ended last."""
    operations = list({**draft.state.operations, **draft.changed}.values())
    for operation in reversed(operations):
        if isinstance(operation, (Step, Context)) and not operation.is_terminal:
            return operation
    return max(operations, key=lambda operation: operation.end_ms or 0, default=None)


def end_with(draft: Draft, command: EndInvocation, ids: Ids, terms: Terms) -> None:
    """Record the end of the invocation and what follows from its answer."""
    head = draft.head
    outcome = command.outcome
    if head.has_ended:
        complete(draft, InvocationEnd.ANSWERED, outcome.error if isinstance(outcome, Crashed) else None)
        return
    match outcome:
        case Crashed(error, is_lost):
            crash(draft, error, ids, terms, is_lost=is_lost)
        case Released():
            complete(draft, InvocationEnd.RELEASED, None)
        case Succeeded(result):
            complete(draft, InvocationEnd.ANSWERED, None)
            end_succeeded(draft, result, terms.limits)
        case Failed(error):
            complete(draft, InvocationEnd.ANSWERED, None)
            end_failed(draft, error)
        case Pending():
            _end_pending(draft)
    if head.status is ExecutionStatus.PAUSING:
        pause_now(draft)


def _end_pending(draft: Draft) -> None:
    head = draft.head
    assert head.in_flight is not None
    if head.turned_ready and not head.unseen and _has_ready_step(draft):
        complete(draft, InvocationEnd.RELEASED, None)
        return
    if head.pending or head.unseen or head.in_flight.is_revoked or head.status is ExecutionStatus.PAUSING:
        complete(draft, InvocationEnd.ANSWERED, None)
        return
    text = "Cannot return PENDING status with no pending operations."
    error = ErrorObject(text, "InvalidParameterValueException")
    complete(draft, InvocationEnd.INVALID, error)
    if head.invalid_pendings >= INVALID_PENDINGS_MAX:
        end_failed(draft, error)


def _has_ready_step(draft: Draft) -> bool:
    """Whether a step could run: a handler that suspended while it was told so has missed it, and is invoked again."""
    ready, changed = OperationStatus.READY, draft.changed
    return any(operation.status is ready for operation in changed.values()) or any(
        operation.status is ready and operation.id not in changed for operation in draft.state.operations.values()
    )


def decide_end(state: ExecutionState, command: EndInvocation, now_ms: int, ids: Ids, terms: Terms) -> Decision:
    """An invocation has ended. What a superseded one answers changes nothing.

    Raises InvalidParameterValue if the updates that came with the answer can't be; then nothing is stored.
    """
    now = state.head.in_flight
    if now is None or now.epoch != command.token.epoch:
        return Decision()
    draft = Draft(state, now_ms)
    fire_due(draft, terms.limits.timers_per_commit)
    if holds_right(draft.head, command.token):
        apply_updates(draft, command.updates, command.resolve, ids, terms.limits)
    end_with(draft, command, ids, terms)
    invoke_if_possible(draft, command.invoker)
    return Decision(draft.events, effects_of(draft), draft=draft)


def decide_lose(state: ExecutionState, command: LoseInvocation, now_ms: int, ids: Ids, terms: Terms) -> Decision:
    """The worker is gone. Nothing happens if its invocation is not in flight any more."""
    now = state.head.in_flight
    if now is None or now.epoch != command.epoch:
        return decide_wake(state, Wake(invoker=command.invoker), now_ms, ids, terms)
    draft = Draft(state, now_ms)
    fire_due(draft, terms.limits.timers_per_commit)
    if draft.head.has_ended:
        complete(draft, InvocationEnd.LOST, command.error)
    else:
        crash(draft, command.error, ids, terms, is_lost=True)
    invoke_if_possible(draft, command.invoker)
    return Decision(draft.events, [*effects_owed(draft), *effects_of(draft)], draft=draft)


def decide_wake(state: ExecutionState, command: Wake, now_ms: int, _ids: Ids, terms: Terms) -> Decision:
    """Let happen what is due, ask again for what is owed, and invoke if that leads anywhere."""
    draft = Draft(state, now_ms)
    owed = effects_owed(draft)
    fire_due(draft, terms.limits.timers_per_commit)
    invoke_if_possible(draft, command.invoker)
    return Decision(draft.events, [*owed, *effects_of(draft)], draft=draft)
