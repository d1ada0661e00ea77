"""The journal of an execution that begins with another one's past."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from perdure.engine.fold import fold
from perdure.model import event as ev
from perdure.model.error import InvalidParameterValue
from perdure.model.operation import Context


def forked(
    events: Sequence[ev.Event],
    operation_id: str,
    *,
    execution_id: str,
    name: str | None,
    now_ms: int,
    new_callback_id: Callable[[], str],
) -> list[ev.Event]:
    """What a new execution's journal holds if it is to go on from just before an operation of another one began.

    It has all that had ended by then, and the contexts around it; what was under way, or waited, begins anew. All of it
    happened as long before `now_ms` as it had before that operation. Callbacks get ids of their own. Invocations are
    left out: the new execution has had none.

    Raises InvalidParameterValue if there is no such operation.
    """
    started = events[0]
    assert isinstance(started, ev.ExecutionStarted), "a journal begins with ExecutionStarted"
    end = next((index for index, event in enumerate(events) if _is_of(event, operation_id)), None)
    if end is None:
        raise InvalidParameterValue(
            f"the execution has no operation {operation_id!r} to be forked at", hint="its history has the ids of all"
        )
    past = [event for event in events[1:end] if isinstance(event, ev.OperationEvent)]
    operations = fold([started, *past]).operations.values()
    kept = {each.id for each in operations if each.is_terminal or isinstance(each, Context)}
    shift_ms = now_ms - events[end].at_ms
    beginning = replace(
        started, execution_id=execution_id, name=name, at_ms=started.at_ms + shift_ms, parent=None, trace_header=None
    )
    return [beginning, *(_moved(event, shift_ms, new_callback_id) for event in past if event.operation_id in kept)]


def _is_of(event: ev.Event, operation_id: str) -> bool:
    return isinstance(event, ev.OperationEvent) and event.operation_id == operation_id


def _moved(event: ev.OperationEvent, shift_ms: int, new_callback_id: Callable[[], str]) -> ev.OperationEvent:
    """The same event at another time."""
    at_ms = event.at_ms + shift_ms
    if isinstance(event, ev.WaitStarted):
        return replace(event, at_ms=at_ms, scheduled_end_ms=event.scheduled_end_ms + shift_ms)
    if isinstance(event, ev.CallbackStarted):
        return replace(event, at_ms=at_ms, callback_id=new_callback_id())
    return replace(event, at_ms=at_ms)
