"""Who an operation is: its id from its place, and whether the journal has the same one in that place.

Source: the official Python SDK's derivation of operation ids, which makes executions exchangeable.
"""

from functools import lru_cache
from typing import Final

try:
    from _blake2 import blake2b  # hashlib's own; hashlib itself loads OpenSSL, which takes 5 ms
except ImportError:  # pragma: no cover - an interpreter that keeps it elsewhere
    from hashlib import blake2b

from perdure.exceptions import NonDeterministicExecutionError
from perdure.model.operation import Operation, OperationType

REMEMBERED_MAX: Final = 32
"""The first operations of a context have the same ids in every execution of a function: these are remembered."""


def operation_id(prefix: str, number: int) -> str:
    """The id of the `number`-th operation in the context whose own id is `prefix` (empty for the handler's)."""
    return _remembered(prefix, number) if number <= REMEMBERED_MAX else _derived(prefix, number)


def _derived(prefix: str, number: int) -> str:
    text = f"{prefix}-{number}" if prefix else str(number)
    return blake2b(text.encode()).hexdigest()[:64]


_remembered: Final = lru_cache(maxsize=4096)(_derived)


def named_id(prefix: str, kind: str, name: str) -> str:
    """The id of something that takes no place among the operations of its context."""
    return blake2b(f"{prefix}-@{kind}:{name}".encode()).hexdigest()[:64]


def check_identity(
    record: Operation,
    kind: OperationType,
    sub_type: str,
    name: str | None,
    parent_id: str | None,
    execution: str,
) -> None:
    """NonDeterministicExecutionError, showing both, if the journal has another operation than the code asks for."""
    fields = (
        ("type", record.type, kind),
        ("subtype", record.sub_type or "", sub_type),
        ("name", record.name or "", name or ""),
        ("parent", record.parent_id or "", parent_id or ""),
    )
    different = [
        f"{field} ('{recorded or 'none'}', '{asked or 'none'}')"
        for field, recorded, asked in fields
        if recorded != asked
    ]
    if different:
        raise NonDeterministicExecutionError(
            f"replay of '{execution}' diverged at operation {record.number}: the journal has "
            f"{_called(record.type, record.name)}, the code asked for {_called(kind, name)}. "
            "Code before this point changed or is not deterministic; publish it as a new version, or move the choice "
            f"into a step. Different (recorded, asked for): {', '.join(different)}",
            record.id,
        )


def _called(kind: OperationType, name: str | None) -> str:
    return f"{kind} '{name}'" if name else f"{kind} without a name"
