"""From a draft to the state, once its events are kept."""

from perdure.engine.draft import Draft
from perdure.engine.fold import REST, drop_untrue_timers, index, mark
from perdure.engine.state import ExecutionState
from perdure.model import event as ev
from perdure.model.operation import Callback


def adopt(state: ExecutionState, draft: Draft) -> None:
    """Make `state` what `draft` has thought of it: the same as applying its events, without working them out again."""
    state.head = draft.head
    state.operations.update(draft.changed)
    for event in draft.events:
        if isinstance(event, ev.OperationEvent):
            mark(state, event)
        else:
            rest = REST.get(type(event))
            if rest is not None:
                rest(state, event)
    has_ended = draft.head.has_ended
    for operation in draft.changed.values():
        if not has_ended or type(operation) is Callback:
            index(state, operation)
    if has_ended:
        state.timers.clear()
    else:
        drop_untrue_timers(state)
