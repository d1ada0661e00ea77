"""One execution's records as a tree of operations: their order, paths, attempts, events and values.

Everything is worked out when it is first asked for; a test that looks at the status alone pays for nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from perdure.lambda_service import OperationStatus
from perdure.model import event as ev, operation as op
from perdure.model.event import HistoryEvent
from perdure.sdk.identity import operation_id
from perdure.testing import paths
from perdure.testing.exceptions import RecordedError, recorded
from perdure.testing.facts import Facts
from perdure.testing.operations import Operation, of_record
from perdure.wire.forms import from_ms

if TYPE_CHECKING:
    from perdure.testing.model import Event

PLACES_SPARE: Final = 64
"""How many places of a context may have no record (flat branches, combinators) before its order is that of starting."""


@dataclass(frozen=True)
class Attempt:
    """One run of a step's body, or one poll of a condition.

    `number` counts from 1. `end` is None while it runs. `next_delay` is the modelled time until the next one, if there
    is one. `status` is STARTED, SUCCEEDED or FAILED; a poll whose condition was not met has SUCCEEDED, with a delay.
    """

    number: int
    status: OperationStatus
    start: datetime
    end: datetime | None = None
    error: RecordedError | None = None
    next_delay: timedelta | None = None

    @property
    def duration(self) -> timedelta | None:
        return None if self.end is None else self.end - self.start


class Trace:
    """The operations of one execution. Document order is that of the code, as far as ids show it."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.records = {record.id: record for record in facts.operations}

    # --- the tree ------------------------------------------------------------------------------------------------

    @cached_property
    def by_id(self) -> dict[str, Operation]:
        made: dict[str, Operation] = self._made
        for record in sorted(self.records.values(), key=lambda each: each.number, reverse=True):
            made[record.id] = of_record(record, self)  # the children, which started later, are there
        return made

    @cached_property
    def _made(self) -> dict[str, Operation]:
        return {}

    @cached_property
    def _lists(self) -> dict[str | None, list[Operation]]:
        return {}

    @cached_property
    def _below(self) -> dict[str | None, list[op.Operation]]:
        below: dict[str | None, list[op.Operation]] = {}
        for record in self.records.values():
            parent = record.parent_id if record.parent_id in self.records else None
            below.setdefault(parent, []).append(record)
        return {parent: _in_order(parent or "", siblings) for parent, siblings in below.items()}

    @property
    def roots(self) -> list[Operation]:
        """The operations at the top."""
        assert self.by_id is not None
        return self._list(None)

    def children_of(self, operation_id: str) -> list[Operation]:
        return self._list(operation_id)

    def _list(self, parent: str | None) -> list[Operation]:
        found = self._lists.get(parent)
        if found is None:
            found = [self._made[record.id] for record in self._below.get(parent, ())]
            self._lists[parent] = found
        return found

    def walk(self) -> Iterator[Operation]:
        """All operations, a parent before its children."""
        return paths.walk(self.roots, lambda operation: operation.children)

    # --- paths ---------------------------------------------------------------------------------------------------

    @cached_property
    def _segments(self) -> dict[str, str]:
        lists = [self.roots, *(operation.children for operation in self.by_id.values())]
        return {
            operation.operation_id: segment
            for siblings in lists
            for operation, segment in zip(
                siblings, paths.segments_of([each.display_name for each in siblings]), strict=True
            )
        }

    def path_of(self, operation: Operation) -> str:
        segments = []
        at: Operation | None = operation
        while at is not None:
            segments.append(self._segments[at.operation_id])
            at = at.parent
        return "/".join(reversed(segments))

    # --- what happened -------------------------------------------------------------------------------------------

    @cached_property
    def raw_events(self) -> dict[str, list[HistoryEvent]]:
        """The history's events by operation."""
        grouped: dict[str, list[HistoryEvent]] = {}
        for event in self.facts.events:
            if event.operation_id is not None:
                grouped.setdefault(event.operation_id, []).append(event)
        return grouped

    @cached_property
    def history(self) -> "list[Event]":
        from perdure.testing.model import events_of

        return events_of(self.facts)

    @cached_property
    def _events(self) -> "dict[str, list[Event]]":
        grouped: dict[str, list[Event]] = {}
        for event in self.history:
            if event.operation_id in self.records:
                grouped.setdefault(event.operation_id, []).append(event)
        return grouped

    def events_of(self, operation_id: str) -> "list[Event]":
        return self._events.get(operation_id, [])

    def attempts_of(self, operation: Operation) -> list[Attempt]:
        return list(_attempts(self.raw_events.get(operation.operation_id, ())))

    def due_of(self, operation_id: str) -> datetime | None:
        due_ms = self.records[operation_id].due_ms
        return None if due_ms is None else from_ms(due_ms)

    def value_of(self, operation: Operation) -> Any:
        from perdure.testing.values import value_of

        return value_of(self.records[operation.operation_id], operation, self.facts)


def _in_order(parent: str, siblings: list[op.Operation]) -> list[op.Operation]:
    """Siblings in the order of the code: branches beside each other start in any order, their ids tell their places.

    One whose id tells none (it has an id of its own, or is of a branch that records nothing) stays behind what started
    before it.
    """
    siblings = sorted(siblings, key=lambda each: each.number)
    if len(siblings) < 2:
        return siblings
    wanted = {each.id for each in siblings}
    places: dict[str, int] = {}
    for place in range(1, 2 * len(siblings) + PLACES_SPARE):
        found = operation_id(parent, place)
        if found in wanted:
            places[found] = place
            if len(places) == len(wanted):
                break
    keys, last = {}, 0
    for each in siblings:
        last = places.get(each.id, last)
        keys[each.id] = (last, each.number if each.id not in places else 0)
    return sorted(siblings, key=lambda each: keys[each.id])


def _attempts(events: Sequence[HistoryEvent]) -> Iterator[Attempt]:
    start_ms: int | None = None
    number = 0
    for shown in events:
        event = shown.event
        if isinstance(event, ev.StepStarted):
            start_ms = event.at_ms
        elif isinstance(event, (ev.StepSucceeded, ev.StepFailed)):
            number = event.attempt
            delay_s = event.next_attempt_delay_s
            has_failed = isinstance(event, ev.StepFailed)
            yield Attempt(
                number,
                OperationStatus.FAILED if has_failed else OperationStatus.SUCCEEDED,
                from_ms(event.at_ms if start_ms is None else start_ms),
                from_ms(event.at_ms),
                recorded(event.error) if isinstance(event, ev.StepFailed) else None,
                None if delay_s is None else timedelta(seconds=delay_s),
            )
            start_ms = None
    if start_ms is not None:
        yield Attempt(number + 1, OperationStatus.STARTED, from_ms(start_ms))
