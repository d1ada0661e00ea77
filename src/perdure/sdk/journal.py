"""What an invocation knows of earlier operations, and what the code's next operation is to it."""

from collections.abc import Iterable
from datetime import UTC, datetime

from perdure.exceptions import NonDeterministicExecutionError, SuspendExecution, TimedSuspendExecution
from perdure.model.operation import Operation, OperationType
from perdure.sdk.identity import check_identity, operation_id
from perdure.sdk.scope import Scope


class Journal:
    """The records of one execution, by operation id.

    `divergence` is the first one that was found: it ends the execution even if the handler swallowed it.
    """

    __slots__ = ("divergence", "execution", "records")

    def __init__(self, execution: str, records: Iterable[Operation]) -> None:
        self.execution = execution
        self.records: dict[str, Operation] = {record.id: record for record in records}
        self.divergence: NonDeterministicExecutionError | None = None

    def begin(self, scope: Scope, kind: OperationType, sub_type: str, name: str | None) -> tuple[str, Operation | None]:
        """The id of the next operation of `scope`, and its record if there is one.

        Raises NonDeterministicExecutionError if the record is that of another operation.
        """
        scope.counter = number = scope.counter + 1
        next_id = scope.upcoming_id
        if next_id is None:
            next_id = operation_id(scope.prefix, number)
        else:
            scope.upcoming_id = None
        record = self.records.get(next_id)
        if record is None:
            scope.is_replaying = False
            return next_id, None
        if (
            record.type is not kind
            or (record.name or None) != name
            or (record.sub_type or "") != sub_type
            or (record.parent_id or None) != scope.parent_id
        ):
            self._diverge(record, kind, sub_type, name, scope.parent_id)
        if kind is OperationType.STEP and not record.is_terminal:
            scope.is_replaying = False
        return next_id, record

    def take_place(self, scope: Scope) -> str:
        """The id of the next operation of `scope`, which must not be recorded: it is a virtual context."""
        scope.counter += 1
        scope.upcoming_id = None
        place = operation_id(scope.prefix, scope.counter)
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

    def passed(self, scope: Scope) -> None:
        """An operation of `scope` has ended: the replay is over if the next one is not recorded."""
        if scope.is_replaying:
            scope.upcoming_id = operation_id(scope.prefix, scope.counter + 1)
            if scope.upcoming_id not in self.records:
                scope.is_replaying = False

    def merge(self, records: Iterable[Operation]) -> None:
        """Take in what a checkpoint's answer says."""
        known = self.records
        for record in records:
            known[record.id] = record


def suspension(what: str, due_ms: int | None) -> SuspendExecution:
    """The suspension of an invocation that waits for `what`, which is due at `due_ms` or at an unknown moment."""
    if due_ms is None:
        return SuspendExecution(f"waiting for {what}")
    return TimedSuspendExecution.from_datetime(f"waiting for {what}", datetime.fromtimestamp(due_ms / 1000, UTC))
