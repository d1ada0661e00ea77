"""The ASGI application: from a raw request to an operation, its handler, and the answer.

Whatever comes in is answered: by what the operation answers, or by an error of the API's model. A body over its limit
is refused before it is read; a client that is slow holds its own connection and nothing else.
"""

import asyncio
import contextlib
import inspect
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final, TypeAlias, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec

from perdure.api import callbacks, executions, functions, invoke, policies, settings, tags, versions
from perdure.api.access import Access
from perdure.api.backing import Backing
from perdure.api.errors import error_answer
from perdure.api.request import Answer, Handler, Request, Stream
from perdure.api.routes import Found, Routes
from perdure.identity.actions import ANY, Need
from perdure.identity.audit import OK
from perdure.identity.callers import Caller
from perdure.model.error import (
    InvalidParameterValue,
    RequestTooLarge,
    ServiceError,
    TooManyRequests,
    UnknownOperation,
)
from perdure.model.ids import Home
from perdure.wire.api import Message, Operation, Pairs, lambda_api
from perdure.wire.table import Json

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

R = TypeVar("R")
A = TypeVar("A")

log: Final = logging.getLogger("perdure.api")

MIB: Final = 1024 * 1024
BODY_BYTES_MAX: Final = MIB
BODY_LIMITS: Final[Mapping[str, int]] = {
    "CheckpointDurableExecution": 32 * MIB,
    "CreateFunction": 70 * MIB,
    "UpdateFunctionCode": 70 * MIB,
    "Invoke": invoke.SYNC_BYTES_MAX,
    "SendDurableExecutionCallbackSuccess": MIB,
    "SendDurableExecutionCallbackFailure": 2 * MIB,
}
"""How large a body may be: a result of 6 MiB may take more as JSON, a package of 50 MB does as base64."""
LARGE_BODIES_MAX: Final = 512 * MIB
"""So much may the bodies of all requests together take, those under a MiB not counted."""
BODY_READ_S: Final = 60.0
DISCARD_BYTES_MAX: Final = 64 * MIB
DISCARD_S: Final = 5.0
"""So much of a body that nobody wants is taken, for so long, before its connection is closed."""


_MAY_FREE: Final = frozenset(
    {
        "CreateFunction",
        "UpdateFunctionConfiguration",
        "UpdateFunctionCode",
        "DeleteFunction",
        "PutFunctionConcurrency",
        "DeleteFunctionConcurrency",
    }
)
"""After these there may be a place for executions that wait for one."""


class RawRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request of a route that is not in the API's table: path values decoded, header names in lower case."""

    method: str
    raw_path: str
    path: Mapping[str, str]
    query: Pairs
    headers: Mapping[str, str]
    body: bytes
    request_id: str
    caller: str = "anonymous"
    is_gone: Callable[[], Awaitable[None]] | None = None


RawHandler: TypeAlias = Callable[[Backing, RawRequest], Message | Awaitable[Message] | Awaitable[Message | Stream]]


class RawRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A path that AWS's API does not have. Its handler runs as others do; `action` is what a caller needs leave for.

    `resource` says to what, from the values in the path and the query; without it, to everything.
    """

    method: str
    path: str
    handler: RawHandler
    action: str
    body_bytes_max: int = BODY_BYTES_MAX
    is_audited: bool = False
    is_open: bool = False
    """Answered to anybody who can reach the server."""
    resource: Callable[[Home, Mapping[str, str], Pairs], str] | None = None


class _Route(msgspec.Struct, frozen=True):
    operation: Operation
    handler: Handler


HANDLERS: Final[dict[str, Handler]] = {
    **executions.OPERATIONS,
    **callbacks.OPERATIONS,
    **invoke.OPERATIONS,
    **functions.OPERATIONS,
    **versions.OPERATIONS,
    **policies.OPERATIONS,
    **settings.OPERATIONS,
    **tags.OPERATIONS,
}


class App:
    """Serves `backing` over ASGI."""

    def __init__(
        self,
        backing: Backing,
        access: Access,
        handlers: Mapping[str, Handler] = HANDLERS,
        routes: Iterable[RawRoute] = (),
    ) -> None:
        self._backing = backing
        self._access = access
        self._routes: Routes[_Route | RawRoute] = Routes()
        for name, handler in handlers.items():
            operation = lambda_api().operations[name]
            self._routes.add(operation.method, operation.path, _Route(operation, handler))
        for route in routes:
            self._routes.add(route.method, route.path, route)
        self._large_bytes = 0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """On the loop: let those who wait for something go, as if they had gone away themselves."""
        self._stopping.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = _new_request_id()
        began = time.perf_counter()
        incoming = _Incoming(scope, receive, self._stopping)
        name = ""
        try:
            found = self._find(incoming)
            name = found.to.operation.name if isinstance(found.to, _Route) else found.to.path
            answer: Message | Stream = await self._answer(found, incoming, request_id)
        except ServiceError as error:
            answer = error_answer(error)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("a request met an error of the server's own", extra={"request": request_id, "route": name})
            answer = error_answer(ServiceError("the server met an error of its own", hint=f"its log has {request_id}"))
        try:
            if isinstance(answer, Stream):
                await _send_stream(send, answer, incoming, request_id)
                return
            is_left = not incoming.is_read
            await _send(send, answer, request_id, is_body_left=is_left)
            if is_left:
                await incoming.discard()
                await send({"type": "http.response.body", "body": b""})
        except (RuntimeError, OSError) as error:  # what the server's transports raise once they are closed
            log.debug("a client went away before its answer", extra={"request": request_id, "error": str(error)})
        if log.isEnabledFor(logging.INFO):
            taken_ms = round((time.perf_counter() - began) * 1000, 2)
            status = answer.status if isinstance(answer, Message) else 200
            facts = {"request": request_id, "route": name, "status": status, "duration_ms": taken_ms}
            log.info("request", extra=facts)

    def _find(self, incoming: "_Incoming") -> "Found[_Route | RawRoute]":
        method, raw_path = incoming.method, incoming.raw_path
        try:
            found = self._routes.find(method, raw_path)
        except UnicodeDecodeError:
            raise InvalidParameterValue(f"the path {raw_path[:200]!r} is not UTF-8 text") from None
        if isinstance(found, str):
            raise UnknownOperation(f"{raw_path[:200]} takes {found}, not {method[:20]}")
        if found is None:
            raise UnknownOperation(
                f"there is nothing at {raw_path[:200]}", hint="GET /health tells that the server is up"
            )
        return found

    async def _answer(
        self, found: "Found[_Route | RawRoute]", incoming: "_Incoming", request_id: str
    ) -> Message | Stream:
        route = found.to
        if isinstance(route, RawRoute):
            return await self._answer_raw(route, found.path, incoming, request_id)
        operation = route.operation
        headers = incoming.headers
        if operation.name == "Invoke":
            invoke.check_media_type(headers.get("content-type"))
        self._access.check_signed(headers, incoming.query_string)
        limit = _limit_of(operation.name, headers)
        body = await self._body(incoming, limit)
        try:
            caller = self._caller(incoming, body)
            parameters = operation.read_request(found.path, incoming.query(), headers, body)
            need = await self._permitted(caller, operation.name, parameters, request_id)
            request = Request(
                operation=operation.name,
                parameters=parameters,
                request_id=request_id,
                caller=caller.shown,
                function=caller.function,
                is_gone=incoming.is_gone,
                trace_header=headers.get("x-amzn-trace-id"),
                authorize=self._access.authorizer(caller),
            )
            outcome = ServiceError.code
            try:
                answer: Answer = await self._handled(route.handler, request)
                outcome = OK
                if operation.name in _MAY_FREE:
                    self._backing.service.fill_places()
            except ServiceError as error:
                outcome = error.code
                raise
            finally:
                if need is not None and need.is_audited:
                    now_ms = self._backing.service.clock.now_ms()
                    self._access.record(caller, need, operation.name, parameters, request_id, outcome, now_ms)
        finally:
            self._give_back(len(body))
        return answer if isinstance(answer, Message) else operation.write_answer(answer)

    def _caller(self, incoming: "_Incoming", body: bytes) -> Caller:
        return self._access.caller(
            incoming.method,
            incoming.raw_path,
            incoming.query_string,
            incoming.headers,
            body,
            incoming.peer,
            is_secure=incoming.is_secure,
        )

    async def _permitted(self, caller: Caller, operation: str, parameters: Json, request_id: str) -> Need | None:
        permit = self._access.permit
        if operation.startswith("SendDurableExecutionCallback"):  # the store says whose it is
            return await asyncio.to_thread(permit, self._backing, caller, operation, parameters, request_id)
        return permit(self._backing, caller, operation, parameters, request_id)

    async def _handled(self, handler: Callable[[Backing, R], A | Awaitable[A]], request: R) -> A:
        """What the handler answers: an `async def` on the loop, a `def` in a thread."""
        if inspect.iscoroutinefunction(handler):
            return cast(A, await handler(self._backing, request))
        loop = asyncio.get_running_loop()
        return cast(A, await loop.run_in_executor(None, handler, self._backing, request))

    async def _answer_raw(
        self, route: RawRoute, path: Mapping[str, str], incoming: "_Incoming", request_id: str
    ) -> Message | Stream:
        if not route.is_open:
            self._access.check_signed(incoming.headers, incoming.query_string)
        body = await self._body(incoming, route.body_bytes_max)
        try:
            shown_caller = "anonymous"
            if not route.is_open:
                caller = self._caller(incoming, body)
                shown_caller = caller.shown
                resource = route.resource(self._backing.home, path, incoming.query()) if route.resource else ANY
                need = self._access.permit_own(caller, route.action, resource, is_audited=route.is_audited)
                if need.is_audited:
                    now_ms = self._backing.service.clock.now_ms()
                    self._access.record(caller, need, route.action, dict(path), request_id, OK, now_ms)
            request = RawRequest(
                caller=shown_caller,
                method=incoming.method,
                raw_path=incoming.raw_path,
                path=path,
                query=incoming.query(),
                headers=incoming.headers,
                body=body,
                request_id=request_id,
                is_gone=incoming.is_gone,
            )
            return cast(Message | Stream, await self._handled(route.handler, request))
        finally:
            self._give_back(len(body))

    # --- bodies --------------------------------------------------------------------------------------------------

    async def _body(self, incoming: "_Incoming", limit: int) -> bytes:
        """The whole body; RequestTooLarge before more than `limit` of it has been read."""
        announced = incoming.announced_bytes()
        if announced is not None and announced > limit:
            raise _too_large(limit)
        if self._large_bytes + max(announced or 0, 0) > LARGE_BODIES_MAX:
            raise TooManyRequests("the server is busy with large requests", reason="CallerRateLimitExceeded")
        chunks: list[bytes] = []
        size = 0
        stuck = asyncio.get_running_loop().call_later(BODY_READ_S, incoming.give_up)
        try:
            async for chunk in incoming.chunks():
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
        finally:
            stuck.cancel()
        if size > MIB:
            self._large_bytes += size
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _give_back(self, size: int) -> None:
        if size > MIB:
            self._large_bytes -= size


class _Incoming:
    """What has come in of a request."""

    def __init__(self, scope: Scope, receive: Receive, stopping: asyncio.Event) -> None:
        self._stopping = stopping
        self.method: str = scope["method"]
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.raw_path = raw_path.partition(b"?")[0].decode("latin-1")
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        self.query_string: str = scope["query_string"].decode("latin-1")
        client = scope.get("client")
        self.peer: str | None = client[0] if client else None
        self.is_secure: bool = scope.get("scheme") == "https"
        self.is_read = self.headers.get("content-length", "0") == "0" and "transfer-encoding" not in self.headers
        self._receive = receive
        self._is_late = False
        self._reader: asyncio.Task[Any] | None = None

    def announced_bytes(self) -> int | None:
        text = self.headers.get("content-length")
        if text is None:
            return None
        if not text.isascii() or not text.isdigit():
            raise InvalidParameterValue(f"Content-Length must be a whole number, not {text[:40]!r}")
        return int(text)

    def query(self) -> Pairs:
        """The query's members, decoded."""
        if not self.query_string:
            return ()
        try:
            return parse_qsl(self.query_string, keep_blank_values=True, errors="strict", max_num_fields=1000)
        except ValueError:  # UnicodeDecodeError is one
            raise InvalidParameterValue("the request's query can't be read: it must be UTF-8 text, escaped") from None

    def give_up(self) -> None:
        """The body takes too long: whoever waits for it is interrupted."""
        self._is_late = True
        if self._reader is not None:
            self._reader.cancel()

    async def chunks(self) -> AsyncIterator[bytes]:
        self._reader = asyncio.current_task()
        while not self.is_read:
            try:
                message = await self._receive()
            except asyncio.CancelledError:
                if not self._is_late or self._reader is None or self._reader.uncancel():
                    raise
                text = f"the request's body did not arrive within {BODY_READ_S:g} seconds"
                raise InvalidParameterValue(text) from None
            if message["type"] == "http.disconnect":
                raise InvalidParameterValue("the client went away before its request was complete")
            self.is_read = not message.get("more_body", False)
            if body := message.get("body", b""):
                yield body

    async def discard(self) -> None:
        """Take the rest of the body and drop it, within bounds.

        A connection that is closed while its client still sends is reset, and the client may never see the answer.
        """
        if "expect" in self.headers:  # the client waits for leave to send, and has the answer instead
            return
        size = 0
        with contextlib.suppress(TimeoutError, InvalidParameterValue):
            async with asyncio.timeout(DISCARD_S):
                async for chunk in self.chunks():
                    size += len(chunk)
                    if size > DISCARD_BYTES_MAX:
                        return

    async def is_gone(self) -> None:
        """Return once the client has gone away, or is asked to; the body must have been read."""
        waits = {asyncio.ensure_future(self._left()), asyncio.ensure_future(self._stopping.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _new_request_id() -> str:
    """A random UUID; a fifth of what the library takes to make one."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _limit_of(operation: str, headers: Mapping[str, str]) -> int:
    if operation == "Invoke" and headers.get("x-amz-invocation-type") == "Event":
        return invoke.EVENT_BYTES_MAX
    return BODY_LIMITS.get(operation, BODY_BYTES_MAX)


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(
        f"Request must be smaller than {limit} bytes", hint="large data belongs into a store of its own"
    )


async def _send(send: Send, answer: Message, request_id: str, *, is_body_left: bool) -> None:
    headers = [(b"x-amzn-requestid", request_id.encode())]
    has_type = False
    for name, value in answer.headers:
        has_type = has_type or name.lower() == "content-type"
        headers.append((name.encode("latin-1"), _header_value(value)))
    if answer.status != 204:
        headers.append((b"content-length", str(len(answer.body)).encode()))
        if not has_type:
            headers.append((b"content-type", b"application/json"))
    if is_body_left:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    body = answer.body if answer.status != 204 else b""
    await send({"type": "http.response.body", "body": body, "more_body": is_body_left})


async def _send_stream(send: Send, answer: Stream, incoming: _Incoming, request_id: str) -> None:
    """Send chunks as they come, until there are no more or the client is gone."""
    headers = [(b"x-amzn-requestid", request_id.encode()), (b"content-type", answer.content_type.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    sending = asyncio.ensure_future(_send_chunks(send, answer.chunks))
    gone = asyncio.ensure_future(incoming.is_gone())
    try:
        await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending


async def _send_chunks(send: Send, chunks: AsyncIterator[bytes]) -> None:
    async for chunk in chunks:
        if chunk:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _header_value(value: str) -> bytes:
    return value.encode("latin-1", "replace").replace(b"\r", b" ").replace(b"\n", b" ")


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
