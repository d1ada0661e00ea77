"""Pages of a history, read from the journal's rows.

A marker is `row.edge.next`: the journal row that the next event is in, the event id at the edge of that row from which
reading goes on, and the id of that event.
"""

import re
from typing import Final

import msgspec

from perdure.engine.history import describe
from perdure.engine.state import ExecutionState
from perdure.model import event as ev
from perdure.model.error import InvalidParameterValue
from perdure.store.packing import unpack
from perdure.store.protocol import Store


class HistoryPage(msgspec.Struct, frozen=True):
    """Some events of a history, and the marker that the next page begins with; None if this was the last."""

    events: tuple[ev.HistoryEvent, ...]
    marker: str | None = None


_MARKER: Final = re.compile(r"([1-9][0-9]{0,9})\.([1-9][0-9]{0,9})\.([1-9][0-9]{0,9})", re.ASCII)


class _Marker(msgspec.Struct, frozen=True):
    row: int
    edge: int
    next: int

    @classmethod
    def read(cls, text: str) -> "_Marker":
        found = _MARKER.fullmatch(text)
        if found is None:
            raise InvalidParameterValue(f"Invalid marker {text[:60]!r}")
        return cls(*(int(part) for part in found.groups()))

    def __str__(self) -> str:
        return f"{self.row}.{self.edge}.{self.next}"


def ascending(store: Store, state: ExecutionState, marker: str | None, limit: int) -> HistoryPage:
    """The page after `marker`, oldest first. The edge of a row is its first event."""
    at = _Marker.read(marker) if marker is not None else _Marker(1, 1, 1)
    page = _Page(limit)
    row, first_id = at.row, at.edge
    while row <= state.seq:
        for events in _shown(store, state, row, min(row + limit, state.seq + 1)):
            described = [event for event in describe(events, state.operations, first_id) if event.event_id >= at.next]
            if page.fill(described, row, first_id):
                return page.result()
            first_id += len(events)
            row += 1
    return page.result()


def descending(store: Store, state: ExecutionState, marker: str | None, limit: int) -> HistoryPage:
    """The page after `marker`, newest first. The edge of a row is its last event."""
    last = state.head.event_count
    at = _Marker.read(marker) if marker is not None else _Marker(state.seq, last, last)
    page = _Page(limit)
    row, last_id = min(at.row, state.seq), at.edge
    while row >= 1:
        for events in reversed(_shown(store, state, max(row - limit, 1), row + 1)):
            first_id = last_id - len(events) + 1
            described = [event for event in describe(events, state.operations, first_id) if event.event_id <= at.next]
            if page.fill(described[::-1], row, last_id):
                return page.result()
            last_id = first_id - 1
            row -= 1
    return page.result()


class _Page:
    """Takes events until it is full, and one more to know where the next page begins."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: list[ev.HistoryEvent] = []
        self._marker: _Marker | None = None

    def fill(self, events: list[ev.HistoryEvent], row: int, edge: int) -> bool:
        """Take the events of a row; True once there is one too many."""
        for event in events:
            if len(self._events) == self._limit:
                self._marker = _Marker(row, edge, event.event_id)
                return True
            self._events.append(event)
        return False

    def result(self) -> HistoryPage:
        return HistoryPage(tuple(self._events), str(self._marker) if self._marker is not None else None)


def _shown(store: Store, state: ExecutionState, from_row: int, before_row: int) -> list[list[ev.Event]]:
    """The shown events of some journal rows, row by row."""
    execution_id = state.head.execution_id
    rows = store.read(execution_id, from_row - 1, before_row - from_row)
    return [
        [event for event in unpack(data, execution_id=execution_id, seq=seq) if event.is_shown]
        for seq, data in enumerate(rows, from_row)
    ]
