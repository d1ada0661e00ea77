"""What a decision's events wish for, once they are on disk."""

from perdure.engine.commands import (
    CallFunction,
    ChildOutcome,
    Effect,
    ExecutionEnded,
    StartChild,
    StartInvocation,
    TellParent,
)
from perdure.engine.draft import Draft
from perdure.engine.state import Head
from perdure.model import event as ev
from perdure.model.error import ErrorObject
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import ChainedInvoke, Operation, OperationStatus


def effects_of(draft: Draft) -> list[Effect]:
    """The effects of the draft's events, in their order."""
    effects: list[Effect] = []
    before = draft.state.head
    for event in draft.events:
        if type(event) is ev.InvocationStarted:
            effects.append(StartInvocation(event.epoch))
        elif type(event) is ev.ChainedInvokeStarted and event.target is not None:
            effects.append(effect_of_invoke(draft.changed[event.operation_id]))
    if draft.head.has_ended and not before.has_ended:
        effects = [effect for effect in effects if not isinstance(effect, StartInvocation)]
        effects.append(ExecutionEnded())
        if draft.head.parent is not None:
            effects.append(TellParent(draft.head.parent, outcome_for_parent(draft.head)))
    return effects


def effects_owed(draft: Draft) -> list[Effect]:
    """What was wished for before and is not known to have been done."""
    if not draft.head.owed:
        return []
    if draft.head.has_ended:
        assert draft.head.parent is not None, "only a chained execution owes anything after its end"
        return [TellParent(draft.head.parent, outcome_for_parent(draft.head))]
    return [effect_of_invoke(draft.state.operations[operation_id]) for operation_id in draft.state.owed]


def effect_of_invoke(invoke: Operation) -> StartChild | CallFunction:
    assert isinstance(invoke, ChainedInvoke)
    assert invoke.target is not None
    assert invoke.version is not None
    if invoke.execution_id is None:
        return CallFunction(invoke.id, invoke.target, invoke.version, invoke.input)
    return StartChild(
        invoke.id,
        invoke.execution_id,
        invoke.target,
        invoke.version,
        invoke.input,
        invoke.tenant_id,
        invoke.trace_header,
    )


_FOR_PARENT = {
    ExecutionStatus.SUCCEEDED: OperationStatus.SUCCEEDED,
    ExecutionStatus.FAILED: OperationStatus.FAILED,
    ExecutionStatus.TIMED_OUT: OperationStatus.TIMED_OUT,
    ExecutionStatus.STOPPED: OperationStatus.STOPPED,
}


def outcome_for_parent(head: Head) -> ChildOutcome:
    """How the end of an execution looks from the chained invoke that started it."""
    error = head.error
    if head.status is ExecutionStatus.TIMED_OUT:
        text = f"CHAINED_INVOKE timed out after {head.config.execution_timeout_s} seconds."
        error = ErrorObject(text, "ChainedInvoke.Timeout")
    return ChildOutcome(_FOR_PARENT[head.status], head.result, error)
