"""Durable executions: checkpoints, state, looking at them and acting on them.

Source: Lambda API 2025-12-01.
"""

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import structs

from perdure.api.backing import Backing
from perdure.api.request import Handler, Request
from perdure.engine import tokens
from perdure.engine.commands import Resolve, Target, Token
from perdure.model.error import AccessDenied, ErrorObject, InvalidParameterValue, ResourceNotFound
from perdure.model.execution import ExecutionStatus
from perdure.model.ids import ExecutionArn, FunctionReference, execution_key
from perdure.model.operation import Operation, OperationUpdate
from perdure.model.view import ExecutionView
from perdure.service.invocation import Checkpointed
from perdure.service.registry import agreed
from perdure.store.protocol import PAGE_DEFAULT, Query
from perdure.wire.api import Message
from perdure.wire.events import About, write_event
from perdure.wire.executions import write_execution, write_summary
from perdure.wire.forms import API
from perdure.wire.operations import ERROR, UPDATE, write_operation
from perdure.wire.table import Json

STATE_PAGE_BYTES: Final = 5 * 1024 * 1024
"""A page of state stays below this, but for a single operation that is larger."""

SMALL_UPDATES_MAX: Final = 32
"""A checkpoint of more is decided in a thread, so that the loop stays free for others."""

_encode: Final = msgspec.json.Encoder().encode


def ready(body: Json, status: int = 200) -> Message:
    """An answer whose members are as they travel."""
    return Message(_encode(body), status=status)


# --- handlers' own calls -----------------------------------------------------------------------------------------


async def checkpoint(backing: Backing, request: Request) -> Message:
    """Checkpoints that come alone are committed here, on the loop: a hand-off costs more than it saves.

    Those that come together are committed together, by the store's own thread, while the loop reads more.
    """
    given = request.parameters
    execution_id, key, token = _token_of(backing, given)
    found = given.get("Updates") or ()
    if not isinstance(found, list | tuple):
        raise InvalidParameterValue(f"Updates must be a list, not {found!r:.80}")
    updates = [UPDATE.read(one, API, f"Updates[{at}]") for at, one in enumerate(found)]
    client_token = given.get("ClientToken")
    resolve = _resolver(backing, request)
    service = backing.service
    is_small = len(updates) <= SMALL_UPDATES_MAX
    backing.checkpoints += 1
    try:
        answer: Checkpointed | None = None
        if is_small:
            await asyncio.sleep(0)  # those that came with it are counted, too
            answer = await _committed(backing, execution_id, token, updates, client_token, resolve)
        if answer is None:
            answer = await asyncio.to_thread(service.checkpoint, execution_id, token, updates, client_token, resolve)
    finally:
        backing.checkpoints -= 1
    return _checkpointed(backing, key, answer)


async def _committed(
    backing: Backing,
    execution_id: str,
    token: Token,
    updates: Sequence[OperationUpdate],
    client_token: str | None,
    resolve: Resolve | None,
) -> Checkpointed | None:
    """The answer to a checkpoint; None if it needs a thread, because it has to wait for somebody or has effects."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[Checkpointed | None] = loop.create_future()

    def told(answer: Checkpointed | Exception | None) -> None:
        if threading.get_ident() == here:
            _tell(answered, answer)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped
                loop.call_soon_threadsafe(_tell, answered, answer)

    here = threading.get_ident()
    is_alone = backing.checkpoints == 1
    if not backing.service.checkpoint_told(
        execution_id, token, updates, client_token, told, resolve=resolve, waits=is_alone
    ):
        return None
    return await answered


def _resolver(backing: Backing, request: Request) -> Resolve | None:
    """What looks up the targets of chained invokes for a caller who may not invoke every function.

    Source: IAM, lambda:InvokeFunction is checked for the role of the calling function.
    """
    authorize = request.authorize
    if authorize is None:
        return None

    def resolve(update: OperationUpdate) -> Target:
        target = backing.registry.chained(update)
        if target.refusal is not None or update.function_name is None:
            return target
        reference = FunctionReference.parse(update.function_name)
        try:
            authorize("lambda:InvokeFunction", backing.home.function_arn(reference.name, reference.qualifier))
        except AccessDenied as denied:
            return structs.replace(target, refusal=ErrorObject(denied.message, denied.code))
        return target

    return resolve


def _tell(answered: "asyncio.Future[Checkpointed | None]", answer: Checkpointed | Exception | None) -> None:
    if answered.done():
        return
    if isinstance(answer, Exception):
        answered.set_exception(answer)
    else:
        answered.set_result(answer)


def _checkpointed(backing: Backing, key: bytes, answer: Checkpointed) -> Message:
    body: Json = {"NewExecutionState": {"Operations": _written(answer.operations)}}
    if answer.token is not None:
        body["CheckpointToken"] = tokens.mint(backing.store.secret, key, answer.token)
    return ready(body)


def state(backing: Backing, request: Request) -> Message:
    given = request.parameters
    execution_id, _key, token = _token_of(backing, given)
    marker, limit = _position(given.get("Marker")), given.get("MaxItems") or PAGE_DEFAULT
    operations, following = backing.service.state_page(execution_id, token, marker, limit)
    written: list[bytes] = []
    size = 0
    for operation in operations:
        one = _encode(write_operation(operation, API))
        size += len(one)
        if written and size > STATE_PAGE_BYTES:
            following = marker + len(written)
            break
        written.append(one)
    body: Json = {"Operations": [msgspec.Raw(one) for one in written]}
    if following is not None:
        body["NextMarker"] = str(following)
    return ready(body)


def _token_of(backing: Backing, given: Json) -> tuple[str, bytes, Token]:
    """The execution that a request is about, and what its checkpoint token says."""
    execution_id = ExecutionArn.parse(given["DurableExecutionArn"]).execution_id
    key = execution_key(execution_id)
    return execution_id, key, tokens.read(backing.store.secret, key, given["CheckpointToken"])


def _written(operations: Sequence[Operation]) -> list[Json]:
    return [write_operation(operation, API) for operation in operations]


def _position(marker: str | None) -> int:
    if not marker:
        return 0
    if not marker.isascii() or not marker.isdigit() or len(marker) > 9:
        raise InvalidParameterValue(f"Marker must be one that an answer gave, not {marker!r:.80}")
    return int(marker)


# --- looking -----------------------------------------------------------------------------------------------------


def view_of(backing: Backing, arn: str) -> ExecutionView:
    """The execution with exactly this ARN; ResourceNotFound if there is none."""
    parsed = ExecutionArn.parse(arn)
    try:
        execution_key(parsed.execution_id)
    except InvalidParameterValue:
        raise _unknown(arn) from None
    view = backing.service.get(parsed.execution_id)
    if view.arn != arn:
        raise _unknown(arn)
    return view


def _unknown(arn: str) -> ResourceNotFound:
    hint = "it was never started here, or it is past its retention"
    return ResourceNotFound(f"Durable Execution does not exist: {arn}", hint=hint)


def get(backing: Backing, request: Request) -> Message:
    given = request.parameters
    form = API if given.get("IncludeExecutionData", True) else API.without_data()
    return ready(write_execution(view_of(backing, given["DurableExecutionArn"]), form))


def history(backing: Backing, request: Request) -> Message:
    given = request.parameters
    view = view_of(backing, given["DurableExecutionArn"])
    page = backing.service.history(
        view.execution_id,
        marker=given.get("Marker") or None,
        limit=given.get("MaxItems") or PAGE_DEFAULT,
        is_reversed=given.get("ReverseOrder", False),
    )
    form = API if given.get("IncludeExecutionData", True) else API.without_data()
    about = About(view.execution_id, view.name, backing.home)
    body: Json = {"Events": [write_event(event, about, form) for event in page.events]}
    if page.marker is not None:
        body["NextMarker"] = page.marker
    return ready(body)


def list_by_function(backing: Backing, request: Request) -> Message:
    given = request.parameters
    reference = FunctionReference.parse(given["FunctionName"])
    qualifier = agreed(reference, given.get("Qualifier"))
    version = backing.registry.get(backing.registry.name_of(reference), qualifier)
    query = Query(
        now_ms=backing.service.clock.now_ms(),
        function=version.function,
        version=version.version if qualifier is not None else None,
        name=given.get("DurableExecutionName"),
        statuses=tuple(ExecutionStatus(word) for word in given.get("Statuses", ())),
        started_from_ms=given.get("StartedAfter"),
        started_until_ms=given.get("StartedBefore"),
        is_oldest_first=given.get("ReverseOrder", False),
        after=execution_marker(given.get("Marker")),
        limit=given.get("MaxItems") or PAGE_DEFAULT,
    )
    return listed(backing, query)


def listed(backing: Backing, query: Query) -> Message:
    """A page of executions."""
    page = backing.service.search(query)
    body: Json = {"DurableExecutions": [write_summary(row, backing.home, API) for row in page.rows]}
    if page.marker is not None:
        body["NextMarker"] = page.marker
    return ready(body)


def execution_marker(marker: str | None) -> str | None:
    """The execution that a page of a list goes on after."""
    if not marker:
        return None
    try:
        execution_key(marker)
    except InvalidParameterValue:
        raise InvalidParameterValue(f"Marker must be one that an answer gave, not {marker!r:.80}") from None
    return marker


# --- acting ------------------------------------------------------------------------------------------------------


def stop(backing: Backing, request: Request) -> Message:
    given = request.parameters
    view = view_of(backing, given["DurableExecutionArn"])
    error = ERROR.read(given["Error"], API, "Error") if given.get("Error") else None
    end_ms = backing.service.stop(view.execution_id, error)
    return ready({"StopTimestamp": API.times.write(end_ms)})


def pause(backing: Backing, request: Request) -> Message:
    given = request.parameters
    view = view_of(backing, given["DurableExecutionArn"])
    backing.service.pause(
        view.execution_id,
        given.get("Reason"),
        is_timeout_paused=given.get("ExecutionTimeoutPaused", True),
        client_token=given.get("ClientToken"),
    )
    return Message(status=202)


def resume(backing: Backing, request: Request) -> Message:
    given = request.parameters
    view = view_of(backing, given["DurableExecutionArn"])
    backing.service.resume(view.execution_id, given.get("Reason"), client_token=given.get("ClientToken"))
    return Message(status=202)


def delete(backing: Backing, request: Request) -> Message:
    view = view_of(backing, request.parameters["DurableExecutionArn"])
    requested_ms = backing.service.clock.now_ms()
    backing.service.delete(view.execution_id)
    return ready({"DeletionRequestTimestamp": API.times.write(requested_ms)}, 202)


OPERATIONS: Final[dict[str, Handler]] = {
    "CheckpointDurableExecution": checkpoint,
    "GetDurableExecutionState": state,
    "GetDurableExecution": get,
    "GetDurableExecutionHistory": history,
    "ListDurableExecutionsByFunction": list_by_function,
    "StopDurableExecution": stop,
    "PauseDurableExecution": pause,
    "ResumeDurableExecution": resume,
    "DeleteDurableExecution": delete,
}
