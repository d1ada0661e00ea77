"""Routes of Perdure's own for operators: search over all functions, operations, open callbacks, what has changed.

Members and times are as in the Lambda API; what it has no shape for is described in docs/reference/operators-api.md.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from perdure.api.app import RawRequest, RawRoute
from perdure.api.backing import Backing
from perdure.api.executions import execution_marker, listed, ready, view_of
from perdure.model.error import InvalidParameterValue
from perdure.model.execution import ExecutionStatus, WaitingOn
from perdure.model.ids import FunctionReference, Home
from perdure.model.view import Changes
from perdure.service.changes import read_position
from perdure.store.protocol import PAGE_DEFAULT, PAGE_MAX, Query
from perdure.wire.api import Message, Pairs
from perdure.wire.events import About, write_event
from perdure.wire.executions import write_execution, write_open_callback
from perdure.wire.forms import API, IsoText
from perdure.wire.operations import SHOWN, write_operation
from perdure.wire.table import Json

PAGE_BYTES: Final = 5 * 1024 * 1024
"""A page of operations stays below this, but for a single operation that is larger."""
WAIT_S_MAX: Final = 25
"""So long may a question for news wait; clients, and proxies between, give up later than that."""

_encode: Final = msgspec.json.Encoder().encode


# --- looking ------------------------------------------------------------------------------------------------------


def search(backing: Backing, request: RawRequest) -> Message:
    """The executions that fulfil all conditions of the query."""
    given = _Given(request.query)
    query = Query(
        now_ms=backing.service.clock.now_ms(),
        function=given.function(),
        version=given.text("Version"),
        name=given.text("DurableExecutionName"),
        name_prefix=given.text("NamePrefix"),
        id_prefix=given.text("IdPrefix"),
        statuses=tuple(given.words("Statuses", ExecutionStatus)),
        waiting_on=given.word("WaitingOn", WaitingOn),
        started_from_ms=given.time("StartedAfter"),
        started_until_ms=given.time("StartedBefore"),
        is_oldest_first=given.flag("ReverseOrder"),
        after=execution_marker(given.text("Marker")),
        limit=given.whole("MaxItems", 0, PAGE_MAX) or PAGE_DEFAULT,
    )
    return listed(backing, query)


def operations(backing: Backing, request: RawRequest) -> Message:
    """A page of the operations of an execution, in the order in which they started."""
    given = _Given(request.query)
    first = given.whole("Marker", 0, 10**9) or 0
    limit = given.whole("MaxItems", 0, PAGE_MAX) or PAGE_MAX
    view = view_of(backing, request.path["DurableExecutionArn"])
    found = backing.service.operations(view.execution_id)
    written: list[bytes] = []
    size = 0
    for operation in found[first : first + limit]:
        one = _encode(write_operation(operation, API, SHOWN))
        size += len(one)
        if written and size > PAGE_BYTES:
            break
        written.append(one)
    answer: Json = {"Operations": [msgspec.Raw(one) for one in written]}
    if first + len(written) < len(found):
        answer["NextMarker"] = str(first + len(written))
    return ready(answer)


def callbacks(backing: Backing, request: RawRequest) -> Message:
    """The open callbacks, those of the oldest executions first."""
    given = _Given(request.query)
    limit = given.whole("MaxItems", 0, PAGE_MAX) or PAGE_MAX
    function = given.function()
    found = [
        callback for callback in backing.service.open_callbacks(limit=limit) if function in (None, callback.function)
    ]
    return ready({"Callbacks": [write_open_callback(callback, API) for callback in found]})


# --- what has changed ---------------------------------------------------------------------------------------------


async def changes(backing: Backing, request: RawRequest) -> Message:
    """What has happened after a position; without news, the answer waits for some for as long as is asked."""
    given = _Given(request.query)
    after = given.text("After")
    if after is not None:
        read_position(after)
    wait_s = given.whole("WaitSeconds", 0, WAIT_S_MAX) or 0
    is_with_data = given.flag("IncludeExecutionData")
    view = await asyncio.to_thread(view_of, backing, request.path["DurableExecutionArn"])

    async def look() -> Changes:
        return await asyncio.to_thread(backing.service.changes, view.execution_id, after)

    if after is None or not wait_s:
        return _changed(backing, await look(), is_with_data=is_with_data)
    loop = asyncio.get_running_loop()
    moved = asyncio.Event()

    def told(*_news: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped
            loop.call_soon_threadsafe(moved.set)

    forget = await asyncio.to_thread(backing.service.watch, view.execution_id, told)
    try:
        found = await look()
        if found.position == after and found.view.end_ms is None:
            await _first_of(wait_s, moved.wait, request.is_gone)
            found = await look()
    finally:
        forget()
    return _changed(backing, found, is_with_data=is_with_data)


async def _first_of(timeout_s: float, *waits: Callable[[], Awaitable[Any]] | None) -> None:
    """Return when one of `waits` does, or the time is over."""
    tasks = [asyncio.ensure_future(wait()) for wait in waits if wait is not None]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _changed(backing: Backing, found: Changes, *, is_with_data: bool) -> Message:
    """The news; unless payloads are wanted, errors only: who watches wants to see what happens."""
    view = found.view
    about = About(view.execution_id, view.name, backing.home)
    answer: Json = {
        "Position": found.position,
        "HasMore": found.has_more,
        "Execution": write_execution(view, API if is_with_data else API.without_data()),
        "Operations": [write_operation(operation, API, SHOWN) for operation in found.operations],
        "Events": [write_event(event, about, API) for event in found.events],
    }
    if not is_with_data:
        for operation in answer["Operations"]:
            _drop_result(operation)
        for event in answer["Events"]:
            _drop_payload(event)
    return ready(answer)


def _drop_result(operation: Json) -> None:
    for details in operation.values():
        if isinstance(details, dict):
            details.pop("Result", None)


def _drop_payload(event: Json) -> None:
    details = event[f"{event['EventType']}Details"]
    for name in ("Input", "Result"):
        if details.get(name):
            details[name] = {"Truncated": True}


# --- what is asked ------------------------------------------------------------------------------------------------


class _Given:
    """The members of a query; InvalidParameterValue names the one that can't be."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs

    def text(self, name: str) -> str | None:
        found = [value for key, value in self._pairs if key == name]
        return found[-1] or None if found else None

    def words(self, name: str, known: Iterable[str]) -> list[Any]:
        words = {str(word): word for word in known}
        found = [value for key, value in self._pairs if key == name and value]
        for value in found:
            if value not in words:
                raise InvalidParameterValue(f"{name} must be one of {', '.join(words)}, not {value!r:.80}")
        return [words[value] for value in found]

    def word(self, name: str, known: Iterable[str]) -> Any:
        found = self.words(name, known)
        return found[-1] if found else None

    def flag(self, name: str) -> bool:
        return bool(self.word(name, ("true", "false")) == "true")

    def whole(self, name: str, least: int, most: int) -> int | None:
        text = self.text(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most):
            raise InvalidParameterValue(f"{name} must be a whole number from {least} to {most}, not {text!r:.80}")
        return int(text)

    def time(self, name: str) -> int | None:
        text = self.text(name)
        return IsoText().read(text, name) if text is not None else None

    def function(self) -> str | None:
        text = self.text("FunctionName")
        return FunctionReference.parse(text).name if text is not None else None


# --- routes -------------------------------------------------------------------------------------------------------


def _execution_of(_home: Home, path: Mapping[str, str], _query: Pairs) -> str:
    return path["DurableExecutionArn"]


def _function_of(home: Home, _path: Mapping[str, str], query: Pairs) -> str:
    """The function that is asked about; all of them if none is named."""
    name = _Given(query).function()
    return home.function_arn(name) if name is not None else "*"


ROUTES: Final = (
    RawRoute(
        method="GET",
        path="/perdure/v1/durable-executions",
        handler=search,
        action="lambda:ListDurableExecutionsByFunction",
        resource=_function_of,
    ),
    RawRoute(
        method="GET",
        path="/perdure/v1/durable-executions/{DurableExecutionArn}/operations",
        handler=operations,
        action="lambda:GetDurableExecutionHistory",
        resource=_execution_of,
    ),
    RawRoute(
        method="GET",
        path="/perdure/v1/durable-executions/{DurableExecutionArn}/changes",
        handler=changes,
        action="lambda:GetDurableExecutionHistory",
        resource=_execution_of,
    ),
    RawRoute(
        method="GET",
        path="/perdure/v1/callbacks",
        handler=callbacks,
        action="lambda:ListDurableExecutionsByFunction",
        resource=_function_of,
    ),
)
