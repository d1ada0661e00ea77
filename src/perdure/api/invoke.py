"""Invoke: what starts executions, and calls functions that are not durable.

Source: Lambda API 2015-03-31, Invoke; Lambda Developer Guide, durable functions.
"""

import asyncio
import base64
import binascii
import contextlib
import json
from typing import Final

import msgspec

from perdure.api.backing import Backing, Called, PlainCall
from perdure.api.request import Answer, Handler, Request
from perdure.model.error import (
    InvalidParameterValue,
    InvalidRequestContent,
    RequestTooLarge,
    UnsupportedMediaType,
)
from perdure.model.execution import ExecutionStatus
from perdure.model.function import FunctionVersion
from perdure.model.ids import FunctionReference
from perdure.model.view import ExecutionView
from perdure.service.registry import UNQUALIFIED
from perdure.service.starting import Started, StartRequest
from perdure.wire.table import Json

SYNC_BYTES_MAX: Final = 6 * 1024 * 1024
EVENT_BYTES_MAX: Final = 1024 * 1024
CLIENT_CONTEXT_BYTES_MAX: Final = 3583
TRACE_HEADER_MAX: Final = 8192


async def invoke(backing: Backing, request: Request) -> Answer:
    given = request.parameters
    kind = given.get("InvocationType", "RequestResponse")
    payload: bytes = given.get("Payload", b"")
    _check_payload(payload, kind)
    reference = FunctionReference.parse(given["FunctionName"])
    version = await asyncio.to_thread(backing.registry.resolve, reference, given.get("Qualifier"))
    is_qualified = (reference.qualifier or given.get("Qualifier")) is not None
    _check(version, given, is_qualified=is_qualified)
    if kind == "DryRun":
        return {"StatusCode": 204}
    if version.durable is not None:
        return await _start(backing, request, version, payload, is_event=kind == "Event")
    call = PlainCall(
        version=version,
        request_id=request.request_id,
        qualifier=reference.qualifier or given.get("Qualifier"),
        payload=payload,
        client_context=given.get("ClientContext"),
        tenant_id=given.get("TenantId"),
        trace_header=request.trace_header,
    )
    if kind == "Event":
        await asyncio.to_thread(backing.calling.accept, call)
        return {"StatusCode": 202}
    called = await asyncio.wrap_future(backing.calling.call(call))
    return _called(called, version, is_tail=given.get("LogType") == "Tail")


def check_media_type(content_type: str | None) -> None:
    """UnsupportedMediaType if a request says that its body is something else than JSON, or just bytes."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind and kind not in _MEDIA_TYPES and not kind.endswith("+json"):
        raise UnsupportedMediaType(f"the content type of an invocation's input must be application/json, not {kind!r}")


_MEDIA_TYPES: Final = frozenset(
    {"application/json", "application/octet-stream", "binary/octet-stream", "application/x-amz-json-1.1"}
)


def _check_payload(payload: bytes, kind: str) -> None:
    limit = EVENT_BYTES_MAX if kind == "Event" else SYNC_BYTES_MAX
    if len(payload) > limit:
        raise RequestTooLarge(f"Request must be smaller than {limit} bytes for the InvokeFunction operation")
    if payload:
        try:
            payload.decode()  # the reader of JSON skips what it is not asked for
            msgspec.json.decode(payload, type=msgspec.Raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequestContent(f"Could not parse request body into json: {error}") from None


def _check(version: FunctionVersion, given: Json, *, is_qualified: bool) -> None:
    if version.durable is not None and not is_qualified:
        raise InvalidParameterValue(UNQUALIFIED, hint=f"invoke {version.function}:$LATEST, a version or an alias")
    if version.durable is None and given.get("DurableExecutionName") is not None:
        raise InvalidParameterValue(
            f"DurableExecutionName can't be given: {version.function} is not a durable function",
            hint="give the function a DurableConfig, or leave the name out",
        )
    if version.is_tenant_isolated and given.get("TenantId") is None:
        raise InvalidParameterValue(f"TenantId is missing: {version.function} keeps its tenants apart")
    context = given.get("ClientContext")
    if context is not None:
        _check_client_context(context)


def _check_client_context(context: str) -> None:
    if len(context) > CLIENT_CONTEXT_BYTES_MAX:
        raise InvalidParameterValue(f"ClientContext must have at most {CLIENT_CONTEXT_BYTES_MAX} bytes")
    try:
        found = json.loads(base64.b64decode(context, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidRequestContent("Client context must be a valid Base64-encoded JSON object.")


# --- durable functions -------------------------------------------------------------------------------------------


async def _start(
    backing: Backing, request: Request, version: FunctionVersion, payload: bytes, *, is_event: bool
) -> Answer:
    given = request.parameters
    trace_header = request.trace_header
    start = StartRequest(
        function=version.function,
        version=version.version,
        input=payload.decode() if payload else "null",
        name=given.get("DurableExecutionName"),
        config=version.durable,
        tenant_id=given.get("TenantId"),
        trace_header=trace_header[:TRACE_HEADER_MAX] if trace_header else None,
    )
    (started,) = await asyncio.to_thread(backing.service.start, [start])
    head: Json = {"DurableExecutionArn": started.arn, "ExecutedVersion": _version_in(started.arn)}
    if is_event:
        return {"StatusCode": 202, **head}
    await _ended(backing, request, started)
    view = await asyncio.to_thread(backing.service.get, started.execution_id)
    return {"StatusCode": 200, **head, **_outcome(view)}


def _version_in(arn: str) -> str:
    return arn.partition("/")[0].rpartition(":")[2]


async def _ended(backing: Backing, request: Request, started: Started) -> None:
    """Wait until the execution has ended, the caller is gone, or the caller has waited for as long as AWS lets it."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def told() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped
            loop.call_soon_threadsafe(_set, ended)

    forget = await asyncio.to_thread(backing.service.when_ended, started.execution_id, told)
    waits: set[asyncio.Future[None]] = {ended}
    if request.is_gone is not None:
        waits.add(asyncio.ensure_future(request.is_gone()))
    try:
        await asyncio.wait(waits, timeout=backing.sync_wait_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        forget()
        for wait in waits:
            wait.cancel()


def _set(ended: "asyncio.Future[None]") -> None:
    if not ended.done():
        ended.set_result(None)


def _outcome(view: ExecutionView) -> Json:
    """What a caller who has waited is told."""
    if view.status is ExecutionStatus.SUCCEEDED:
        return {"Payload": (view.result or "").encode()}
    if view.end_ms is None:
        text = f"The execution has not ended while the caller waited, and goes on: {view.arn}"
        document: Json = {"errorMessage": text, "errorType": "Sandbox.Timedout"}
    else:
        error = view.error
        document = {
            "errorMessage": error.message if error is not None and error.message is not None else "",
            "errorType": error.type if error is not None and error.type is not None else f"Execution.{view.status}",
        }
        if error is not None and error.stack_trace:
            document["stackTrace"] = list(error.stack_trace)
    return {"FunctionError": "Unhandled", "Payload": msgspec.json.encode(document)}


# --- plain functions ---------------------------------------------------------------------------------------------


def _called(called: Called, version: FunctionVersion, *, is_tail: bool) -> Json:
    answer: Json = {"StatusCode": 200, "ExecutedVersion": version.version, "Payload": called.payload}
    if called.is_error:
        answer["FunctionError"] = "Unhandled"
    if is_tail and called.log_tail is not None:
        answer["LogResult"] = base64.b64encode(called.log_tail).decode()
    return answer


def _other_ways(_backing: Backing, request: Request) -> Answer:
    raise InvalidParameterValue(
        f"{request.operation} is not offered here", hint="use Invoke, with InvocationType Event for no answer"
    )


OPERATIONS: Final[dict[str, Handler]] = {
    "Invoke": invoke,
    "InvokeAsync": _other_ways,
    "InvokeWithResponseStream": _other_ways,
}
