"""What an invocation knows of earlier operations, and what the code's next operation is to it."""

from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any, Final, TypeVar

from perdure.exceptions import NonDeterministicExecutionError, SuspendExecution, TimedSuspendExecution
from perdure.model.operation import Operation, OperationStatus, OperationType, OperationUpdate
from perdure.sdk.expected import expected
from perdure.sdk.identity import check_identity, operation_id
from perdure.sdk.scope import Scope

T = TypeVar("T")

Place = tuple[str, Operation | None]
"""Where an operation is: its id, which it gets when it is called, and what was recorded there by then."""

Begun = Callable[[], Coroutine[Any, Any, T]]
"""An operation that has its place. Every call runs it, over what is recorded of it by then."""


VIRTUAL_DEPTH_MAX: Final = 8
"""So deep may virtual contexts, of which nothing is recorded themselves, begin with one another in a replay."""


class Journal:
    """The records of one execution, by operation id.

    `divergence` is the first one that was found: it ends the execution even if the handler swallowed it.
    """

    __slots__ = ("divergence", "execution", "records")

    def __init__(self, execution: str, records: Iterable[Operation]) -> None:
        self.execution = execution
        self.records: dict[str, Operation] = {record.id: record for record in records}
        self.divergence: NonDeterministicExecutionError | None = None

    def begin(self, scope: Scope, kind: OperationType, sub_type: str, name: str | None) -> Place:
        """The place of the next operation of `scope`. Several threads may ask: each gets a number of its own.

        Raises NonDeterministicExecutionError if the record there is that of another operation.
        """
        scope.counter = number = next(scope.numbers)
        upcoming = scope.upcoming
        next_id = upcoming[1] if upcoming is not None and upcoming[0] == number else operation_id(scope.prefix, number)
        return self.begin_at(next_id, scope, kind, sub_type, name)

    def begin_at(self, place: str, scope: Scope, kind: OperationType, sub_type: str, name: str | None) -> Place:
        """The same for an operation whose id does not come from the scope's counter."""
        record = self.records.get(place)
        if record is None:
            scope.is_replaying = False
            return place, None
        if (
            record.type is not kind
            or (record.name or None) != name
            or (record.sub_type or "") != sub_type
            or (record.parent_id or None) != scope.parent_id
        ):
            self._diverge(record, kind, sub_type, name, scope.parent_id)
        if kind is OperationType.STEP and not record.is_terminal:
            scope.is_replaying = False
        return place, record

    def begin_named(self, place: str, scope: Scope, kind: OperationType, sub_type: str, name: str | None) -> Place:
        """The same for one that takes no turn: a new one does not end the replay of those that do."""
        is_replaying = scope.is_replaying
        begun = self.begin_at(place, scope, kind, sub_type, name)
        if is_replaying and self._is_recorded_from(operation_id(scope.prefix, scope.counter + 1)):
            scope.is_replaying = True
        return begun

    def take_place(self, scope: Scope) -> str:
        """The id of the next operation of `scope`, which must not be recorded: it is a virtual context."""
        scope.counter = number = next(scope.numbers)
        return self.virtual_at(operation_id(scope.prefix, number))

    def virtual_at(self, place: str) -> str:
        """The same for an id that does not come from a counter."""
        record = self.records.get(place)
        if record is not None:
            text = f"replay of '{self.execution}' diverged at operation {record.number}: the journal has {record.type}"
            self.divergence = NonDeterministicExecutionError(f"{text}, the code asked for a virtual context", place)
            raise self.divergence
        return place

    def _diverge(
        self, record: Operation, kind: OperationType, sub_type: str, name: str | None, parent_id: str | None
    ) -> None:
        try:
            check_identity(record, kind, sub_type, name, parent_id, self.execution)
        except NonDeterministicExecutionError as divergence:
            self.divergence = self.divergence or divergence
            raise

    def passed(self, scope: Scope, ended_id: str | None) -> None:
        """An operation of `scope` has ended, None if nothing of it is recorded: the replay is over if nothing of the
        next one is."""
        if ended_id is not None and (scope.beside is None or ended_id not in scope.beside):
            scope.last_id = ended_id
        if scope.is_replaying:
            number = scope.counter + 1
            next_id = operation_id(scope.prefix, number)
            scope.upcoming = (number, next_id)
            scope.is_replaying = self._is_recorded_from(next_id)

    def asked_for(self, scope: Scope, place: str | None) -> None:
        """The context has asked for the outcome of an operation that ran beside it: now it may know when that ended."""
        record = self.records.get(place or "")
        if record is None or record.end_ms is None:
            return
        last = self.records.get(scope.last_id or "")
        if last is None or (last.end_ms or last.start_ms) < record.end_ms:
            scope.last_id = place

    def goes_on(self, scope: Scope) -> bool:
        """Whether the next operation of a context is recorded: the code was past this point before."""
        return scope.is_replaying and self._is_recorded_from(operation_id(scope.prefix, scope.counter + 1))

    def begins(self, place: str) -> bool:
        """Whether the first operation of the context at this place is recorded."""
        return self._is_recorded_from(operation_id(place, 1))

    def _is_recorded_from(self, place: str) -> bool:
        """Whether there is a record at this place, or, if a virtual context may be there, of the first thing in it."""
        records = self.records
        if place in records:
            return True
        for _ in range(VIRTUAL_DEPTH_MAX):
            place = operation_id(place, 1)
            if place in records:
                return True
        return False

    def expect(self, update: OperationUpdate) -> None:
        """Take in an update that is on its way: code that runs again in this invocation finds what it has done."""
        record = expected(update, self.records.get(update.id), len(self.records) + 1)
        if record is not None:
            self.records[record.id] = record

    def merge(self, records: Iterable[Operation], on_their_way: Collection[str] = ()) -> None:
        """Take in what a checkpoint's answer says, but of operations of which newer updates are on their way."""
        known = self.records
        for record in records:
            if not on_their_way or record.id not in on_their_way:
                known[record.id] = record


NOBODY: Final[tuple[str, ...]] = ()


def suspension(what: str, due_ms: int | None, operation_ids: tuple[str, ...] = NOBODY) -> SuspendExecution:
    """The suspension of whatever waits for `what`: one of `operation_ids`, due at `due_ms` or at an unknown moment."""
    if due_ms is None:
        suspended = SuspendExecution(f"waiting for {what}")
    else:
        suspended = TimedSuspendExecution(f"waiting for {what}", due_ms / 1000)
        suspended.due_ms = due_ms
    suspended.operation_ids = operation_ids
    return suspended


def has_ended(record: Operation) -> bool:
    """The operation is over, one way or another."""
    return record.is_terminal


def may_start(record: Operation) -> bool:
    """The operation is over, or its next attempt is due."""
    return record.status is OperationStatus.READY or record.is_terminal
