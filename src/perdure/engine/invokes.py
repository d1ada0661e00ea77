"""Chained invokes: an execution that waits for another function.

What has to be done elsewhere (begin the child, tell the parent) is owed until it is confirmed in the journal, and asked
for again at every wake-up; both are harmless when done twice.
"""

from typing import Final

from perdure.engine.commands import ChildOutcome, ConfirmChild, ConfirmParentTold, Decision, EndChainedInvoke
from perdure.engine.dispatch import invoke_if_possible
from perdure.engine.draft import Draft
from perdure.engine.effects import effects_of
from perdure.engine.state import ExecutionState
from perdure.engine.terms import Ids, Terms
from perdure.engine.timers import fire_due
from perdure.model import event as ev
from perdure.model.error import ErrorObject
from perdure.model.operation import ChainedInvoke, OperationStatus, payload_bytes


def decide_child_ended(
    state: ExecutionState, command: EndChainedInvoke, now_ms: int, _ids: Ids, terms: Terms
) -> Decision:
    """Record the target's outcome, unless the parent has ended or has it already."""
    draft = Draft(state, now_ms)
    fire_due(draft, terms.limits.timers_per_commit)
    invoke = draft.operation(command.operation_id)
    if (
        draft.head.has_ended
        or not isinstance(invoke, ChainedInvoke)
        or invoke.status is not OperationStatus.STARTED
        or invoke.execution_id != command.child_id
    ):
        return Decision(draft.events, effects_of(draft), draft=draft)
    draft.emit(_outcome_event(invoke.id, command.outcome, now_ms, terms))
    invoke_if_possible(draft, command.invoker)
    return Decision(draft.events, effects_of(draft), draft=draft)


_EVENTS: Final = {
    OperationStatus.FAILED: ev.ChainedInvokeFailed,
    OperationStatus.TIMED_OUT: ev.ChainedInvokeTimedOut,
    OperationStatus.STOPPED: ev.ChainedInvokeStopped,
}


def _outcome_event(operation_id: str, outcome: ChildOutcome, now_ms: int, terms: Terms) -> ev.Event:
    if outcome.status == OperationStatus.SUCCEEDED:
        limit = terms.limits.chained_result_bytes_max
        if payload_bytes(outcome.result) > limit:
            text = f"CHAINED_INVOKE output payload size must be less than or equal to {limit} bytes."
            return ev.ChainedInvokeFailed(now_ms, operation_id, ErrorObject(text, "InvalidParameterValueException"))
        return ev.ChainedInvokeSucceeded(now_ms, operation_id, outcome.result)
    return _EVENTS[OperationStatus(outcome.status)](now_ms, operation_id, outcome.error)


def decide_child_confirmed(
    state: ExecutionState, command: ConfirmChild, now_ms: int, _ids: Ids, _terms: Terms
) -> Decision:
    """The child is on disk; confirming it again changes nothing."""
    if command.operation_id not in state.owed:
        return Decision()
    return Decision([ev.ChildStarted(now_ms, command.operation_id)])


def decide_parent_told(
    state: ExecutionState, _command: ConfirmParentTold, now_ms: int, _ids: Ids, _terms: Terms
) -> Decision:
    """The parent knows; confirming it again changes nothing."""
    return Decision([ev.ParentTold(now_ms)]) if state.head.owed and state.head.has_ended else Decision()
