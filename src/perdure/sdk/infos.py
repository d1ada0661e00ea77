"""What plugins are told of operations, made from records and updates."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from perdure.lambda_service import ErrorObject
from perdure.model import error as model
from perdure.model.operation import Operation, OperationStatus, OperationType, OperationUpdate, Step
from perdure.plugin import OperationInfo
from perdure.sdk.scope import Scope

I = TypeVar("I", bound=OperationInfo)  # noqa: E741
Facts = dict[str, Any]
"""The fields of an OperationInfo."""


def facts_of(operation: Operation | OperationUpdate) -> Facts:
    """What an operation is, not what has become of it."""
    return _facts(operation.id, operation.type, operation.sub_type, operation.name, operation.parent_id)


def facts_of_scope(scope: Scope) -> Facts:
    """The same for a virtual context, of which nothing is recorded."""
    return _facts(scope.prefix, OperationType.CONTEXT, scope.sub_type, scope.name, scope.parent_id)


def _facts(
    operation_id: str, kind: OperationType, sub_type: str | None, name: str | None, parent_id: str | None
) -> Facts:
    return {
        "operation_id": operation_id,
        "operation_type": kind,
        "sub_type": sub_type,
        "name": name,
        "parent_id": parent_id,
        "start_time": None,
        "is_replayed": False,
        "status": OperationStatus.STARTED,
        "end_time": None,
        "result": None,
        "error": None,
        "attempt": None,
    }


def facts_of_record(record: Operation) -> Facts:
    """All that is recorded of an operation."""
    facts = facts_of(record)
    facts["start_time"] = moment(record.start_ms)
    facts["status"] = record.status
    facts["end_time"] = moment(record.end_ms)
    facts["result"] = record.result
    facts["error"] = as_object(record.error)
    if isinstance(record, Step):
        facts["attempt"] = record.attempt
    return facts


def info(kind: type[I], facts: Facts, **more: Any) -> I:
    """An info with these fields; filling a frozen dataclass by its own means takes ten times as long."""
    made = kind.__new__(kind)
    fields = made.__dict__
    fields.update(facts)
    if more:
        fields.update(more)
    return made


def moment(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)


def as_object(error: model.ErrorObject | None) -> ErrorObject | None:
    return None if error is None else ErrorObject.of(error)


class Operations(Mapping[str, OperationInfo]):
    """The operations of an execution as they are when one looks, the EXECUTION operation among them."""

    def __init__(self, execution: OperationInfo, records: Mapping[str, Operation]) -> None:
        self._execution = execution
        self._records = records

    def __getitem__(self, operation_id: str) -> OperationInfo:
        if operation_id == self._execution.operation_id:
            return self._execution
        return info(OperationInfo, facts_of_record(self._records[operation_id]))

    def __iter__(self) -> Iterator[str]:
        yield self._execution.operation_id
        yield from list(self._records)

    def __len__(self) -> int:
        return len(self._records) + 1
