"""The Runtime API: how the process of a sandbox asks for its next event, and gives its answer.

Each sandbox has an endpoint of its own, on a port of the loopback interface, because the paths name no function. All
of it runs on the loop of the pool.

Source: AWS Lambda Runtime API 2018-06-01, and how awslambdaric 4.2 and aws-lambda-ric 3.3 use it.
"""

import asyncio
import base64
import binascii
from typing import Any, Final, Protocol, cast

import httptools
import msgspec

ANSWER_BYTES_MAX: Final = 6_291_556
"""What Lambda takes: 6 MiB and 100 bytes."""
_ROOT: Final = b"/2018-06-01/runtime/"
_REASONS: Final = {
    200: b"OK",
    202: b"Accepted",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    413: b"Payload Too Large",
}
_CONTROLS: Final = bytes(range(32)) + b"\x7f"
_OK: Final = b'{"status":"OK"}\n'


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One event for a function. `arn` is that of the function as it was invoked."""

    request_id: str
    event: bytes
    arn: str
    trace: str | None = None
    client_context: str | None = None
    cognito_identity: str | None = None
    tenant_id: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """What the process says of a task: its response, or an error in JSON, whose type may be in `error_type`."""

    body: bytes
    is_error: bool = False
    error_type: str | None = None
    is_too_large: bool = False


class Client(Protocol):
    """Who is told of what the process behind an endpoint says."""

    def wants_next(self) -> None:
        """The process waits for an event: it has begun, or is done with the last one."""
        ...

    def has_answered(self, answer: Answer) -> None:
        """The answer to the task that was given last. It comes once for each."""
        ...

    def has_failed_to_begin(self, answer: Answer) -> None:
        """The function could not be loaded; the process ends now."""
        ...


class RuntimeApi:
    """The endpoint of one sandbox."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._connections: set[_Connection] = set()
        self._waiting: _Connection | None = None
        self._task: tuple[Task, int, str] | None = None
        self._unanswered: tuple[str, str] | None = None
        self._server: asyncio.Server | None = None

    async def open(self) -> int:
        """Listen; the port is returned."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close()

    def give(self, task: Task, deadline_ms: int, invocation_id: str) -> None:
        """Give the process its next event as soon as it asks for one; it has not been given another one."""
        assert self._task is None and self._unanswered is None
        self._task = (task, deadline_ms, invocation_id)
        self._deliver()

    @property
    def is_delivered(self) -> bool:
        """Whether the process has been sent the task that it was given."""
        return self._task is None

    def _deliver(self) -> None:
        if self._task is None or self._waiting is None:
            return
        task, deadline_ms, invocation_id = self._task
        self._unanswered = (task.request_id, invocation_id)
        waiting, self._waiting, self._task = self._waiting, None, None
        waiting.reply(200, task.event, _headers(task, deadline_ms, invocation_id))

    # --- what connections tell -----------------------------------------------------------------------------------

    def opened(self, connection: "_Connection") -> None:
        self._connections.add(connection)

    def lost(self, connection: "_Connection") -> None:
        self._connections.discard(connection)
        if self._waiting is connection:
            self._waiting = None

    def asked(self, connection: "_Connection", method: bytes, path: bytes) -> None:
        """A whole request has come."""
        match method, path.removeprefix(_ROOT).split(b"/") if path.startswith(_ROOT) else []:
            case b"GET", [b"invocation", b"next"]:
                self._next(connection)
            case b"POST", [b"invocation", request_id, (b"response" | b"error") as kind]:
                self._answer(connection, request_id, is_error=kind == b"error")
            case b"POST", [b"init" | b"restore", b"error"]:
                connection.reply(202, _OK)
                self._client.has_failed_to_begin(connection.answer(is_error=True))
            case b"GET", [b"restore", b"next"]:
                connection.reply(200, b"{}")
            case _:
                connection.refuse(404, "NotFound", "there is no such path in the Runtime API")

    def _next(self, connection: "_Connection") -> None:
        if self._unanswered is not None:
            connection.refuse(403, "InvalidStateTransition", "the last invocation has not been answered yet")
            return
        self._waiting = connection
        if self._task is None:
            self._client.wants_next()
        else:
            self._deliver()

    def _answer(self, connection: "_Connection", request_id: bytes, *, is_error: bool) -> None:
        """Take an answer, once, and only to the invocation that is under way."""
        now = self._unanswered
        said = connection.headers.get(b"lambda-runtime-invocation-id")
        is_of_now = now is not None and request_id == now[0].encode() and said in (None, now[1].encode())
        if not is_of_now:
            connection.refuse(400, "InvalidRequestID", "no invocation with this request id is under way")
            return
        self._unanswered = None
        answer = connection.answer(is_error=is_error)
        if answer.is_too_large:
            text = f"Exceeded maximum allowed payload size ({ANSWER_BYTES_MAX} bytes)."
            connection.refuse(413, "RequestEntityTooLarge", text)
        else:
            connection.reply(202, _OK)
        self._client.has_answered(answer)


def _headers(task: Task, deadline_ms: int, invocation_id: str) -> bytes:
    """The headers of an event. Those that the caller did not send are left out."""
    headers = [
        b"Lambda-Runtime-Aws-Request-Id: " + _clean(task.request_id),
        b"Lambda-Runtime-Deadline-Ms: %d" % deadline_ms,
        b"Lambda-Runtime-Invoked-Function-Arn: " + _clean(task.arn),
        b"Lambda-Runtime-Invocation-Id: " + _clean(invocation_id),
    ]
    more = (
        (b"Lambda-Runtime-Trace-Id: ", task.trace),
        (b"Lambda-Runtime-Client-Context: ", task.client_context),
        (b"Lambda-Runtime-Cognito-Identity: ", task.cognito_identity),
        (b"Lambda-Runtime-Aws-Tenant-Id: ", task.tenant_id),
    )
    headers += [name + _clean(value) for name, value in more if value]
    return b"\r\n".join(headers) + b"\r\n"


def _clean(value: str) -> bytes:
    """The value of a header: what a caller sent can't begin another one."""
    return value.encode().translate(None, _CONTROLS)


class _Connection(asyncio.Protocol):
    """One connection, request after request. A body is kept up to the limit, and read to its end beyond it."""

    def __init__(self, api: RuntimeApi) -> None:
        self._api = api
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self.headers: dict[bytes, bytes] = {}
        self._url = b""
        self._body: list[bytes] = []
        self._body_bytes = 0

    # --- asyncio calls -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._api.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._api.lost(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    # --- the parser calls ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.headers = {}
        self._url = b""
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self.headers.get(b"expect", b"").lower() == b"100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes <= ANSWER_BYTES_MAX:
            self._body.append(body)
        else:
            self._body = []

    def on_message_complete(self) -> None:
        self._api.asked(self, self._parser.get_method(), self._url.partition(b"?")[0])

    # --- answering -----------------------------------------------------------------------------------------------

    def answer(self, *, is_error: bool) -> Answer:
        """The body as an answer. An error that befell a stream stands behind it, among the trailers."""
        error_type = self.headers.get(b"lambda-runtime-function-error-type")
        error_text = error_type.decode("utf-8", "replace") if error_type else None
        is_too_large = self._body_bytes > ANSWER_BYTES_MAX
        body = b"".join(self._body)
        if not is_error and error_type is not None:
            return Answer(_unpacked(self.headers.get(b"lambda-runtime-function-error-body", b"")), True, error_text)
        return Answer(body, is_error, error_text, is_too_large)

    def reply(self, status: int, body: bytes, headers: bytes = b"") -> None:
        if self._transport is None:
            return
        head = b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n" % (
            status,
            _REASONS[status],
            len(body),
            headers,
        )
        self._transport.write(head + body)
        if not self._parser.should_keep_alive():
            self._transport.close()

    def refuse(self, status: int, error_type: str, message: str) -> None:
        self.reply(status, msgspec.json.encode({"errorMessage": message, "errorType": error_type}))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _unpacked(text: bytes) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return text
