"""From what Lambda, or an emulator of it, calls a durable function with to what the function answers.

Source: Lambda Developer Guide, durable functions; the official SDK where that is silent.
"""

import contextvars
import json
import os
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from perdure.exceptions import BotoClientError, ExecutionError
from perdure.model.error import ErrorObject, InvalidParameterValue
from perdure.model.operation import (
    ExecutionOperation,
    Operation,
    OperationAction,
    OperationType,
    OperationUpdate,
    payload_bytes,
)
from perdure.sdk.boto3_client import EXECUTION_RESULT_ID, LambdaClient
from perdure.sdk.drivers.linger import Linger
from perdure.sdk.endpoints import endpoint_in
from perdure.sdk.errors import error_object
from perdure.sdk.invocation import Definition, InvocationAnswer, InvocationInput, InvocationStatus, run_invocation
from perdure.sdk.remote import Json, Link, RemoteClient, link_to
from perdure.wire.forms import ANY
from perdure.wire.operations import ERROR

if TYPE_CHECKING:
    from perdure.lambda_service import DurableServiceClient

ANSWER_BYTES_MAX: Final = 6 * 1024 * 1024 - 50
"""What an invocation may answer, less what is around the result."""

LINGER_S: Final = 0.1
"""So long may the START of a running step stay unsent, as with the official SDK."""


class Event(msgspec.Struct, frozen=True):
    """An invocation's event, its operations still as they came."""

    arn: str
    token: str
    operations: list[Json]
    marker: str | None
    updated_ids: list[str]
    client: "DurableServiceClient | None" = None


def invoke(
    definition: Definition, event: Any, lambda_context: Any, client: "DurableServiceClient | None"
) -> dict[str, Any]:
    """Run one invocation and return what the platform is answered: Status, and Result or Error.

    Without `client`, and if the event brings none, boto3's Lambda client of this process is used, once something is to
    be sent. Raises ExecutionError if `event` is not that of a durable execution, and what `run_invocation` raises.
    """
    run_here = getattr(event, "run_here", None)
    if run_here is not None:  # a test runs the function in an invocation of its own
        answer_here: dict[str, Any] = run_here(definition)
        return answer_here
    given = read_event(definition, event)
    chosen = given.client or client
    remote = RemoteClient(_shared_link if chosen is None else lambda: link_to(chosen), given.arn, given.token)
    try:
        operations = remote.load(given.operations, given.marker)
    except InvalidParameterValue as error:
        raise _unexpected(definition, error.message) from error
    except BotoClientError as error:
        if error.is_retryable():
            raise
        return _failed(error_object(error))
    answer = contextvars.copy_context().run(
        run_invocation,
        definition,
        _input_of(given, operations),
        remote,
        linger=_linger(),
        lambda_context=lambda_context,
    )
    return written(answer, remote)


def _shared_link() -> Link:
    """Through plain HTTP if the environment names a Perdure server, else through boto3."""
    url = endpoint_in(os.environ)
    if url is None:
        return link_to(LambdaClient.initialize_client())
    from perdure.sdk.http_client import HttpClient

    return link_to(HttpClient.shared(url))


@cache
def _linger() -> Linger:
    return Linger(LINGER_S)


# --- the event ---------------------------------------------------------------------------------------------------


def read_event(definition: Definition, event: Any) -> Event:
    """The parts of an event, of JSON or as an object. ExecutionError if it is not that of a durable execution."""
    if isinstance(event, Mapping):
        try:
            state = event["InitialExecutionState"]
            return Event(
                event["DurableExecutionArn"],
                event["CheckpointToken"],
                state.get("Operations") or [],
                state.get("NextMarker"),
                event.get("UpdatedOperationIds") or [],
            )
        except KeyError as error:
            raise _unexpected(definition, f"{error.args[0]} is missing from it") from error
        except AttributeError as error:
            raise _unexpected(definition, "its InitialExecutionState is not an object") from error
    from perdure.sdk.event import DurableExecutionInvocationInput, DurableExecutionInvocationInputWithClient

    if isinstance(event, DurableExecutionInvocationInput):
        return Event(
            event.durable_execution_arn,
            event.checkpoint_token,
            [one.to_dict() for one in event.initial_execution_state.operations],
            event.initial_execution_state.next_marker,
            event.updated_operation_ids,
            event.service_client if isinstance(event, DurableExecutionInvocationInputWithClient) else None,
        )
    raise _unexpected(definition, f"it is of type {type(event).__name__}")


def _unexpected(definition: Definition, found: str) -> ExecutionError:
    return ExecutionError(
        f"unexpected payload: {definition.name!r} is a durable function, and its event is not that of a durable "
        f"execution: {found}. Check that durability is enabled where it is deployed, and that it is invoked with a "
        "qualifier; to run it here use `perdure run`, or perdure.open"
    )


def _input_of(given: Event, operations: list[Operation]) -> InvocationInput:
    """The EXECUTION operation holds the input, and with some emulators the name; else the ARN says what there is."""
    name, execution_id = _names_of(given.arn)
    text: str | None = None
    records: list[Operation] = []
    start_ms = 0
    for operation in operations:
        if isinstance(operation, ExecutionOperation):
            text, name, start_ms = operation.input, operation.name or name, operation.start_ms
        else:
            records.append(operation)
    return InvocationInput(given.arn, execution_id, name, text, records, given.updated_ids, start_ms)


@lru_cache(maxsize=16)
def _names_of(arn: str) -> tuple[str, str]:
    """The execution's name and id: the last segments of its ARN, whatever the rest looks like."""
    segments = arn.split("/")
    return (segments[-2] if len(segments) > 2 else segments[-1]), segments[-1]


# --- the answer --------------------------------------------------------------------------------------------------


def written(answer: InvocationAnswer, remote: RemoteClient) -> dict[str, Any]:
    """The answer as the platform has it, once all is recorded that does not fit into it."""
    try:
        if answer.status is not InvocationStatus.PENDING and answer.updates:
            remote.checkpoint(answer.updates)
        if answer.status is InvocationStatus.SUCCEEDED:
            return _succeeded(answer.result, remote)
        if answer.status is InvocationStatus.FAILED:
            return _failed_within_limit(answer.error or ErrorObject(), remote)
        _send_parked(answer, remote)
    except BotoClientError as error:
        if error.is_retryable():
            raise
        return _failed(error_object(error))
    return {"Status": "PENDING"}


def _succeeded(result: str | None, remote: RemoteClient) -> dict[str, Any]:
    if payload_bytes(result) > ANSWER_BYTES_MAX:
        _end_execution(remote, OperationAction.SUCCEED, payload=result)
        return {"Status": "SUCCEEDED", "Result": ""}
    return {"Status": "SUCCEEDED"} if result is None else {"Status": "SUCCEEDED", "Result": result}


def _failed_within_limit(error: ErrorObject, remote: RemoteClient) -> dict[str, Any]:
    written = _failed(error)
    if error.size_bytes() > ANSWER_BYTES_MAX // 12 and len(json.dumps(written)) > ANSWER_BYTES_MAX:
        _end_execution(remote, OperationAction.FAIL, error=error)
        return {"Status": "FAILED"}
    return written


def _failed(error: ErrorObject) -> dict[str, Any]:
    return {"Status": "FAILED", "Error": ERROR.write(error, ANY)}


def _end_execution(remote: RemoteClient, action: OperationAction, **more: Any) -> None:
    """Record the execution's end by a checkpoint, which may be larger than an answer."""
    remote.checkpoint([OperationUpdate(EXECUTION_RESULT_ID, OperationType.EXECUTION, action, **more)])


def _send_parked(answer: InvocationAnswer, remote: RemoteClient) -> None:
    """Send what the execution waits for, if that is not done; a START alone says nothing that a replay would not."""
    if any(not _is_bare_start(update) for update in answer.updates):
        remote.checkpoint(answer.updates)


def _is_bare_start(update: OperationUpdate) -> bool:
    return update.action is OperationAction.START and update.type in (OperationType.STEP, OperationType.CONTEXT)
