"""A decision in the making: events that are thought of and have not happened yet."""

from copy import copy

from perdure.engine.fold import apply_to_head
from perdure.engine.state import ExecutionState
from perdure.engine.transitions import advance
from perdure.model import event as ev
from perdure.model.operation import Operation


class Draft:
    """A state with some more events, without changing the state: decisions read it as if they had happened.

    Copies only what has constant size; operations that the events change are kept aside.
    """

    __slots__ = ("changed", "events", "head", "now_ms", "state")

    def __init__(self, state: ExecutionState, now_ms: int) -> None:
        self.state = state
        self.head = copy(state.head)
        self.changed: dict[str, Operation] = {}
        self.events: list[ev.Event] = []
        self.now_ms = now_ms

    def operation(self, operation_id: str) -> Operation | None:
        """The operation as it is after the events so far; None if there is none."""
        return self.changed.get(operation_id) or self.state.operations.get(operation_id)

    def emit(self, event: ev.Event) -> None:
        """Take `event` for happened."""
        if isinstance(event, ev.OperationEvent):
            operation_id = event.operation_id
            before = self.changed.get(operation_id) or self.state.operations.get(operation_id)
            after = advance(before, event, self.head.operation_count + 1)
            apply_to_head(self.head, event, before, after)
            self.changed[operation_id] = after
        else:
            apply_to_head(self.head, event, None, None)
        self.events.append(event)
