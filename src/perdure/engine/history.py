"""The history that operators read: the shown events of a journal, numbered, with the names of their operations."""

from collections.abc import Iterable, Iterator, Mapping

from perdure.model import event as ev
from perdure.model.operation import Operation


def describe(
    events: Iterable[ev.Event], operations: Mapping[str, Operation], first_id: int
) -> Iterator[ev.HistoryEvent]:
    """Number the shown events from `first_id` on and say what their operations are called."""
    event_id = first_id
    for event in events:
        if not event.is_shown:
            continue
        if isinstance(event, ev.OperationEvent):
            operation = operations[event.operation_id]
            yield ev.HistoryEvent(
                event_id, event, operation.id, operation.name, operation.sub_type, operation.parent_id
            )
        else:
            yield ev.HistoryEvent(event_id, event)
        event_id += 1


def visible_operations(operations: Mapping[str, Operation]) -> list[Operation]:
    """What a replay needs, in the order of starting: all but what lies below a context that has ended.

    The children of a context that was recorded with `replay_children` are needed after all.
    """
    hidden: set[str] = set()
    visible = []
    for operation in operations.values():
        parent_id = operation.parent_id
        if parent_id is not None and parent_id in hidden:
            hidden.add(operation.id)
            continue
        visible.append(operation)
        if operation.is_terminal and not getattr(operation, "replay_children", True):
            hidden.add(operation.id)
    return visible
