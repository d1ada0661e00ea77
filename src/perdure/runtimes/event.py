"""What a durable function is invoked with, in JSON, and what its answer means to the engine.

Source: spec of the invocation contract, as official SDKs read and write it (Python SDK 3.0, JavaScript SDK 2.4).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from perdure.engine import commands as cmd, tokens
from perdure.model.error import ErrorObject, InvalidParameterValue
from perdure.model.ids import execution_key
from perdure.model.operation import ExecutionOperation, Operation, OperationStatus
from perdure.service.invocation import Invocation
from perdure.wire.forms import FUNCTION
from perdure.wire.operations import ERROR, write_operation

PAGE_BYTES: Final = 5 * 1024 * 1024
"""How many bytes of operations an event holds; a function can be given 6 MiB at most."""
MESSAGE_CHARACTERS_MAX: Final = 32 * 1024
FRAMES_MAX: Final = 100
STACK_CHARACTERS_MAX: Final = 64 * 1024

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


# --- what goes in ------------------------------------------------------------------------------------------------


def event_of(invocation: Invocation, secret: bytes, page_bytes: int = PAGE_BYTES) -> bytes:
    """The event of an invocation, UTF-8 JSON; `secret` is the store's, which seals the checkpoint token.

    EXECUTION is the first operation, and its id the last part of the ARN. Of the others as many are in it as fit into
    `page_bytes`; NextMarker is then the number of operations that it holds, which is where GetDurableExecutionState
    goes on. An execution without input has `null` for one.
    """
    pages, count = _first_page([_execution(invocation), *invocation.operations], page_bytes)
    marker = str(count) if count <= len(invocation.operations) else ""
    token = tokens.mint(secret, execution_key(invocation.execution_id), invocation.token)
    return b"".join(
        (
            b'{"DurableExecutionArn":',
            _encode(invocation.arn),
            b',"CheckpointToken":',
            _encode(token),
            b',"InitialExecutionState":{"Operations":[',
            b",".join(pages),
            b'],"NextMarker":',
            _encode(marker),
            b'},"UpdatedOperationIds":',
            _encode(invocation.updated_ids),
            b"}",
        )
    )


def _execution(invocation: Invocation) -> ExecutionOperation:
    """The EXECUTION operation. An empty input would be no JSON, and the JavaScript SDK says so by failing."""
    return ExecutionOperation(
        id=invocation.execution_id,
        number=0,
        status=OperationStatus.STARTED,
        start_ms=invocation.execution_start_ms,
        name=invocation.name,
        input=invocation.input or "null",
    )


def _first_page(operations: Sequence[Operation], page_bytes: int) -> tuple[list[bytes], int]:
    """As many operations as fit, the first one in any case, and their number."""
    written: list[bytes] = []
    left = page_bytes
    for operation in operations:
        text = _encode(write_operation(operation, FUNCTION))
        left -= len(text) + 1
        if left < 0 and written:
            break
        written.append(text)
    return written, len(written)


# --- what comes out ----------------------------------------------------------------------------------------------


def outcome_of(output: bytes) -> cmd.Outcome:
    """What the answer of a durable function asks for; one that can't be is a failure of the execution."""
    try:
        answer = _decode(output)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        return _invalid(f"Invalid invocation output: it is no JSON: {wrong}")
    if not isinstance(answer, dict):
        return _invalid("Invalid invocation output: it must be a JSON object with a Status")
    result, error = answer.get("Result"), answer.get("Error")
    if result is not None and not isinstance(result, str):
        return _invalid("Invalid invocation output: Result must be JSON as a text")
    match answer.get("Status"):
        case "SUCCEEDED" if error is not None:
            return _invalid("Cannot provide an Error for SUCCEEDED status.")
        case "SUCCEEDED":
            return cmd.Succeeded(result)
        case "FAILED" if result is not None:
            return _invalid("Cannot provide a Result for FAILED status.")
        case "FAILED":
            return _failed(error)
        case "PENDING":
            return cmd.Pending()
    return _invalid(
        f"Invalid invocation output: Status must be SUCCEEDED, FAILED or PENDING, not {answer.get('Status')!r:.80}"
    )


def _failed(error: Any) -> cmd.Failed:
    if error is None:
        return cmd.Failed(None)
    try:
        return cmd.Failed(ERROR.read(error, FUNCTION, "Error"))
    except InvalidParameterValue as wrong:
        return _invalid(f"Invalid invocation output: {wrong.message}")


def _invalid(message: str) -> cmd.Failed:
    return cmd.Failed(ErrorObject(message, InvalidParameterValue.code))


def error_of(body: bytes, error_type: str | None = None) -> ErrorObject:
    """The error that a runtime client reports: in the form of the Python client, or in that of Node.js.

    Its type is the one in the body; `error_type`, from the header, is for those that have none there. What is too long
    to be kept in a history is cut.
    """
    try:
        given = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        given = None
    if not isinstance(given, Mapping):
        text = body.decode("utf-8", "replace").strip()
        return ErrorObject(text[:MESSAGE_CHARACTERS_MAX] or None, error_type or "Runtime.Unknown")
    message, kind = given.get("errorMessage"), given.get("errorType")
    stack = given.get("stackTrace") or given.get("trace")
    return ErrorObject(
        None if message is None else str(message)[:MESSAGE_CHARACTERS_MAX],
        str(kind) if kind else error_type or "Error",
        None,
        _stack(stack) if isinstance(stack, list) else None,
    )


def _stack(frames: Iterable[Any]) -> tuple[str, ...] | None:
    kept: list[str] = []
    left = STACK_CHARACTERS_MAX
    for frame in frames:
        text = str(frame).rstrip("\n")
        left -= len(text)
        if left < 0 or len(kept) == FRAMES_MAX:
            break
        kept.append(text)
    return tuple(kept) or None


def error_body(error: ErrorObject, request_id: str | None = None) -> bytes:
    """An error as the caller of a plain function sees it: errorType, errorMessage, and where it came from."""
    body: dict[str, Any] = {"errorType": error.type or "Error", "errorMessage": error.message or ""}
    if request_id is not None:
        body["requestId"] = request_id
    if error.stack_trace:
        body["stackTrace"] = list(error.stack_trace)
    return _encode(body)
