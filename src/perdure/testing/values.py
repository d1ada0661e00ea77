"""What a recorded result stands for: the Python value that the handler got."""

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from perdure.exceptions import SerDesError
from perdure.lambda_service import OperationStatus, OperationType
from perdure.model import operation as op
from perdure.serdes import DEFAULT_JSON_SERDES, ExtendedTypeSerDes, PassThroughSerDes, SerDes, deserialize
from perdure.testing.exceptions import UnknownValue
from perdure.testing.facts import Facts

if TYPE_CHECKING:
    from perdure.testing.operations import Operation

RESULT: Final = ""
"""The key, in `Facts.values`, of the serdes with which the handler's own result was written."""

_DEFAULTS: Final[dict[OperationType, SerDes[Any]]] = {
    OperationType.CALLBACK: PassThroughSerDes(),
    OperationType.CHAINED_INVOKE: DEFAULT_JSON_SERDES,
}
_BATCHES: Final = frozenset({op.OperationSubType.MAP, op.OperationSubType.PARALLEL})


def value_of(record: op.Operation, operation: "Operation", facts: Facts) -> Any:
    """The value of an operation's result; None if it has none. UnknownValue if nothing can be made of it."""
    if isinstance(record, op.Context) and record.replay_children and record.status is OperationStatus.SUCCEEDED:
        return _remade(operation, record)
    if record.result is None:
        return None
    serdes = facts.values.get(record.id) or _DEFAULTS.get(record.type) or _of_loaded_classes(record.result)
    try:
        return deserialize(serdes, record.result, record.id, facts.arn)
    except SerDesError as error:
        raise UnknownValue(
            f"the result of {operation.path!r} can't be read: {error}; what was recorded is {record.result[:200]!r}"
        ) from error


def result_of(facts: Facts) -> Any:
    """The value of the handler's result: what its own serdes reads, else what its JSON says; None if there is none."""
    if facts.result is None:
        return None
    serdes = facts.values.get(RESULT)
    if serdes is not None:
        return deserialize(serdes, facts.result, "", facts.arn)
    try:
        return json.loads(facts.result)
    except ValueError as error:
        raise UnknownValue(
            f"the result of the execution is not JSON: {facts.result[:200]!r}; raw_result has all of it"
        ) from error


def _remade(operation: "Operation", record: op.Context) -> Any:
    """The value of a context that was too large to be recorded: a batch is made of its branches again."""
    if record.sub_type not in _BATCHES:
        raise UnknownValue(
            f"the result of {operation.path!r} was too large to be recorded, or has no form: a replay makes it again "
            "from the operations within, and so can a test, from their values"
        )
    from perdure.batches import BatchItemStatus
    from perdure.concurrency.models import BatchItem, BatchResult, CompletionReason, CompletionRecord

    children = operation.children
    found = CompletionRecord.from_summary_payload(record.result, len(children))
    items = []
    for index, child in enumerate(children):
        status = BatchItemStatus(child.status) if child.status in _ITEM else BatchItemStatus.STARTED
        is_open = found is not None and index in found.started_indexes
        error = getattr(child, "error", None)
        items.append(BatchItem(index, BatchItemStatus.STARTED if is_open else status, child.value, error))
    return BatchResult(items, found.completion_reason if found is not None else CompletionReason.ALL_COMPLETED)


_ITEM: Final = frozenset({"SUCCEEDED", "FAILED"})


def _of_loaded_classes(payload: str) -> SerDes[Any] | None:
    """A serdes that may make the classes which the payload names and which are loaded; None if it names none."""
    if '"c"' not in payload:
        return None
    try:
        named = dict(_classes(json.loads(payload)))
    except ValueError:
        return None
    return ExtendedTypeSerDes(types=named) if named else None


def _classes(form: Any) -> Iterator[tuple[str, type]]:
    if isinstance(form, list):
        for item in form:
            yield from _classes(item)
    elif isinstance(form, dict):
        name = form.get("c")
        if isinstance(name, str) and "t" in form:
            found = _loaded(name)
            if found is not None:
                yield name, found
        for item in form.values():
            yield from _classes(item)


def _loaded(name: str) -> type | None:
    """The class of a loaded module; nothing is imported for the sake of a payload."""
    module, _, rest = name.rpartition(".")
    while module:
        if module in sys.modules:
            found: Any = sys.modules[module]
            for part in rest.split("."):
                found = getattr(found, part, None)
            return found if isinstance(found, type) else None
        module, _, last = module.rpartition(".")
        rest = f"{last}.{rest}"
    return None
