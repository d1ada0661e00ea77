"""What has happened to an execution since somebody last looked.

A position is `row.next`: the last journal row that was looked at, and the id of the first shown event after it.
`0.1` is before everything.
"""

import re
from typing import Final

from perdure.engine.history import describe
from perdure.engine.state import ExecutionState
from perdure.model import event as ev
from perdure.model.error import InvalidParameterValue
from perdure.model.view import Changes
from perdure.service.views import view_of
from perdure.store.packing import unpack
from perdure.store.protocol import Store

ROWS_MAX: Final = 500

_POSITION: Final = re.compile(r"(0|[1-9][0-9]{0,9})\.([1-9][0-9]{0,9})", re.ASCII)


def changes_of(store: Store, state: ExecutionState, arn: str, after: str | None) -> Changes:
    """What happened after the position `after`; with None, no event, and every operation as it is now."""
    view = view_of(state, arn)
    if after is None:
        position = f"{state.seq}.{state.head.event_count + 1}"
        return Changes(position, view, tuple(state.operations.values()))
    seq, next_id = read_position(after)
    execution_id = state.head.execution_id
    rows = store.read(execution_id, seq, min(ROWS_MAX, state.seq - seq)) if seq < state.seq else []
    events = [
        event
        for number, data in enumerate(rows, seq + 1)
        for event in unpack(data, execution_id=execution_id, seq=number)
    ]
    touched = {event.operation_id for event in events if isinstance(event, ev.OperationEvent)}
    shown = tuple(describe(events, state.operations, next_id))
    return Changes(
        f"{seq + len(rows)}.{next_id + len(shown)}",
        view,
        tuple(sorted((state.operations[key] for key in touched), key=lambda operation: operation.number)),
        shown,
        has_more=seq + len(rows) < state.seq,
    )


def read_position(text: str) -> tuple[int, int]:
    """The row and the event id of a position; InvalidParameterValue if it is none."""
    found = _POSITION.fullmatch(text)
    if found is None:
        raise InvalidParameterValue(f"a position must be one that an answer gave, not {text[:60]!r}")
    return int(found[1]), int(found[2])
