"""Operations, their updates and error objects on the wire.

Source: Lambda API 2025-12-01, shapes ErrorObject, Operation and OperationUpdate.
"""

from collections.abc import Mapping
from typing import Any, Final

from perdure.model import operation as op
from perdure.model.error import ErrorObject, InvalidParameterValue
from perdure.wire.forms import Form
from perdure.wire.table import FLAG, TEXT, TIME, WHOLE, Group, Json, ListOf, Member, OneOf, Shape, expect_object

ERROR: Final = Shape(
    ErrorObject,
    Member("ErrorMessage", "message"),
    Member("ErrorType", "type"),
    Member("ErrorData", "data"),
    Member("StackTrace", "stack_trace", ListOf(TEXT)),
)

_RESULT: Final = Member("Result", "result", is_data=True)
_OUTCOME: Final = (_RESULT, Member("Error", "error", ERROR, is_data=True))
_ENVELOPE: Final = (
    Member("Id", "id"),
    Member("ParentId", "parent_id"),
    Member("Name", "name"),
    Member("Type", "type", OneOf(op.OperationType)),
    Member("SubType", "sub_type"),
)
_OPERATION: Final = (
    *(member for member in _ENVELOPE if member.name != "Type"),
    Member("StartTimestamp", "start_ms", TIME),
    Member("EndTimestamp", "end_ms", TIME),
    Member("Status", "status", OneOf(op.OperationStatus)),
)

_SHAPES: Final[dict[op.OperationType, tuple[type[Any], Group, Json]]] = {
    op.OperationType.EXECUTION: (
        op.ExecutionOperation,
        Group("ExecutionDetails", (Member("InputPayload", "input", is_data=True),), is_always_there=True),
        {},
    ),
    op.OperationType.CONTEXT: (
        op.Context,
        Group("ContextDetails", (Member("ReplayChildren", "replay_children", FLAG, is_zero_absent=True), *_OUTCOME)),
        {},
    ),
    op.OperationType.STEP: (
        op.Step,
        Group(
            "StepDetails",
            (Member("Attempt", "attempt", WHOLE), Member("NextAttemptTimestamp", "next_attempt_ms", TIME), *_OUTCOME),
        ),
        {},
    ),
    op.OperationType.WAIT: (
        op.Wait,
        Group("WaitDetails", (Member("ScheduledEndTimestamp", "scheduled_end_ms", TIME),)),
        {},
    ),
    op.OperationType.CALLBACK: (
        op.Callback,
        Group("CallbackDetails", (Member("CallbackId", "callback_id"), *_OUTCOME)),
        {"callback_id": ""},
    ),
    op.OperationType.CHAINED_INVOKE: (op.ChainedInvoke, Group("ChainedInvokeDetails", _OUTCOME), {"function": ""}),
}
"""For each type its struct, its details, and what the struct needs and the wire does not have."""

_FOR_OPERATORS: Final = {
    op.OperationType.CALLBACK: Group(
        "Perdure",
        (Member("TimeoutTimestamp", "timeout_ms", TIME), Member("HeartbeatTimeoutTimestamp", "heartbeat_ms", TIME)),
    ),
    op.OperationType.CHAINED_INVOKE: Group(
        "Perdure",
        (
            Member("FunctionName", "function"),
            Member("ExecutedVersion", "version"),
            Member("ExecutionId", "execution_id"),
        ),
    ),
}
"""What operators see of an operation beyond AWS's shape."""

OPERATIONS: Final[dict[op.OperationType, Shape[Any]]] = {
    kind: Shape(struct, *_OPERATION, details, assumed=assumed) for kind, (struct, details, assumed) in _SHAPES.items()
}
"""The operation shape of each type. The wire carries no numbers: the order of a list is that of starting."""

SHOWN: Final[dict[op.OperationType, Shape[Any]]] = {
    kind: Shape(struct, *_OPERATION, details, _FOR_OPERATORS[kind], assumed=assumed)
    if kind in _FOR_OPERATORS
    else OPERATIONS[kind]
    for kind, (struct, details, assumed) in _SHAPES.items()
}
"""The same for operators, who see a little more, under `Perdure`."""

UPDATE: Final = Shape(
    op.OperationUpdate,
    *_ENVELOPE,
    Member("Action", "action", OneOf(op.OperationAction)),
    Member("Payload", "payload", is_data=True),
    Member("Error", "error", ERROR, is_data=True),
    Group("ContextOptions", (Member("ReplayChildren", "replay_children", FLAG),)),
    Group("StepOptions", (Member("NextAttemptDelaySeconds", "next_attempt_delay_s", WHOLE),)),
    Group("WaitOptions", (Member("WaitSeconds", "wait_s", WHOLE),)),
    Group(
        "CallbackOptions",
        (
            Member("TimeoutSeconds", "timeout_s", WHOLE),
            Member("HeartbeatTimeoutSeconds", "heartbeat_timeout_s", WHOLE),
        ),
    ),
    Group(
        "ChainedInvokeOptions",
        (
            Member("FunctionName", "function_name"),
            Member("TenantId", "tenant_id"),
            Member("XAmznTraceId", "trace_header"),
        ),
    ),
)


def write_operation(
    operation: op.Operation, form: Form, shapes: Mapping[op.OperationType, Shape[Any]] = OPERATIONS
) -> Json:
    """An operation as its type's shape has it."""
    written = shapes[operation.type].write(operation, form)
    return {"Id": written.pop("Id"), "Type": str(operation.type), **written}


def read_operation(
    value: Any,
    form: Form,
    number: int,
    where: str = "Operation",
    *,
    start_ms: int | None = None,
    shapes: Mapping[op.OperationType, Shape[Any]] = OPERATIONS,
) -> op.Operation:
    """An operation from the outside; `number` is its place among those of its execution.

    With `start_ms`, the time of its start may be absent, and is this one then.

    Raises InvalidParameterValue, which names the member that can't be.
    """
    given = expect_object(value, where)
    try:
        shape = shapes[op.OperationType(str(given.get("Type")))]
    except ValueError:
        known = ", ".join(op.OperationType)
        raise InvalidParameterValue(f"{where}.Type must be one of {known}, not {given.get('Type')!r:.80}") from None
    assumed = {"number": number} if start_ms is None else {"number": number, "start_ms": start_ms}
    operation: op.Operation = shape.read(given, form, where, **assumed)
    return operation
