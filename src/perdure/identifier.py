"""What names an operation of an execution, and how the ids of operations are made."""

from dataclasses import KW_ONLY, dataclass

from perdure.model.operation import OperationType
from perdure.sdk.identity import operation_id

__all__ = ["OperationIdNamespace", "OperationIdentifier"]


@dataclass(frozen=True)
class OperationIdentifier:
    """The id of an operation with all that a replay compares."""

    operation_id: str
    sub_type: str
    parent_id: str | None = None
    name: str | None = None
    _: KW_ONLY
    operation_type: OperationType

    @property
    def type(self) -> OperationType:
        return self.operation_type


@dataclass(frozen=True)
class OperationIdNamespace:
    """The ids of one context's operations; `prefix` is the id of the context, None for the handler's own."""

    prefix: str | None = None

    def create_id_for_step(self, step: int) -> str:
        """The id of the operation with this number, from 1; of a branch with this index, from 0."""
        return operation_id(self.prefix or "", step)
