"""The Runtime API on a real socket: what clients of all kinds send, and what they are answered."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from perdure.runtimes.runtime_api import ANSWER_BYTES_MAX, Answer, RuntimeApi, Task

ROOT = "/2018-06-01/runtime"


class Told:
    """Remembers what the endpoint tells of its client."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.failures: list[Answer] = []
        self.nexts = 0
        self.asked = asyncio.Event()

    def wants_next(self) -> None:
        self.nexts += 1
        self.asked.set()

    def has_answered(self, answer: Answer) -> None:
        self.answers.append(answer)

    def has_failed_to_begin(self, answer: Answer) -> None:
        self.failures.append(answer)


class Process:
    """The other side: one connection, spoken by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, method: str, path: str, body: bytes = b"", headers: str = "") -> None:
        length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
        self.writer.write(f"{method} {ROOT}{path} HTTP/1.1\r\nHost: x\r\n{length}{headers}\r\n".encode() + body)

    async def read(self) -> tuple[int, dict[str, str], bytes]:
        first = await self.reader.readline()
        headers = {}
        while (line := await self.reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(": ")
            headers[name] = value.strip()
        return int(first.split()[1]), headers, await self.reader.readexactly(int(headers.get("Content-Length", 0)))

    async def ask(self, *request: Any, **more: Any) -> tuple[int, dict[str, str], bytes]:
        self.send(*request, **more)
        return await self.read()


@asynccontextmanager
async def endpoint() -> AsyncIterator[tuple[RuntimeApi, Told, Process]]:
    told = Told()
    api = RuntimeApi(told)
    port = await api.open()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield api, told, Process(reader, writer)
    finally:
        writer.close()
        api.close()


def task(**more: Any) -> Task:
    return Task(**{"request_id": "r-1", "event": b'{"a":1}', "arn": "arn:fn:3", **more})


Scene = Callable[[RuntimeApi, Told, Process], Awaitable[None]]


def played(scene: Scene) -> Callable[[], None]:
    """A test that is a scene between an endpoint and a process."""

    def test() -> None:
        async def play() -> None:
            async with endpoint() as (api, told, process):
                await asyncio.wait_for(scene(api, told, process), 10)

        asyncio.run(play())

    test.__doc__ = scene.__doc__
    return test


@played
async def test_an_event_comes_with_all_that_its_context_has(api: RuntimeApi, told: Told, process: Process) -> None:
    process.send("GET", "/invocation/next")
    await told.asked.wait()
    given = task(trace="Root=1", client_context='{"custom":{}}', cognito_identity='{"id":1}', tenant_id="blue")
    api.give(given, 1234, "i-1")
    status, headers, body = await process.read()
    assert (status, body) == (200, b'{"a":1}')
    assert headers == {
        "Content-Type": "application/json",
        "Content-Length": "7",
        "Lambda-Runtime-Aws-Request-Id": "r-1",
        "Lambda-Runtime-Deadline-Ms": "1234",
        "Lambda-Runtime-Invoked-Function-Arn": "arn:fn:3",
        "Lambda-Runtime-Invocation-Id": "i-1",
        "Lambda-Runtime-Trace-Id": "Root=1",
        "Lambda-Runtime-Client-Context": '{"custom":{}}',
        "Lambda-Runtime-Cognito-Identity": '{"id":1}',
        "Lambda-Runtime-Aws-Tenant-Id": "blue",
    }


@played
async def test_what_a_caller_sends_can_not_begin_a_header(api: RuntimeApi, told: Told, process: Process) -> None:
    process.send("GET", "/invocation/next")
    await told.asked.wait()
    api.give(task(trace="Root=1\r\nEvil: yes"), 1, "i")
    _, headers, _ = await process.read()
    assert headers["Lambda-Runtime-Trace-Id"] == "Root=1Evil: yes"
    assert "Evil" not in headers


@played
async def test_an_event_that_is_there_already_is_given_at_once(api: RuntimeApi, told: Told, process: Process) -> None:
    api.give(task(), 1, "i")
    assert not api.is_delivered
    status, _, body = await process.ask("GET", "/invocation/next")
    assert (status, body, told.nexts) == (200, b'{"a":1}', 0)
    assert api.is_delivered


@played
async def test_an_answer_is_taken_once(api: RuntimeApi, told: Told, process: Process) -> None:
    api.give(task(), 1, "i")
    await process.ask("GET", "/invocation/next")
    assert (await process.ask("POST", "/invocation/r-1/response", b"5"))[0] == 202
    assert told.answers == [Answer(b"5")]
    assert (await process.ask("POST", "/invocation/r-1/response", b"6"))[0] == 400
    assert told.answers == [Answer(b"5")]


@played
async def test_an_answer_to_another_invocation_is_refused(api: RuntimeApi, told: Told, process: Process) -> None:
    api.give(task(), 1, "i-2")
    await process.ask("GET", "/invocation/next")
    status, _, body = await process.ask("POST", "/invocation/r-0/response", b"5")
    assert (status, json.loads(body)["errorType"]) == (400, "InvalidRequestID")
    late = "Lambda-Runtime-Invocation-Id: i-1\r\n"
    assert (await process.ask("POST", "/invocation/r-1/response", b"5", late))[0] == 400
    good = "lambda-runtime-invocation-id: i-2\r\n"
    assert (await process.ask("POST", "/invocation/r-1/error", b"{}", good))[0] == 202
    assert told.answers == [Answer(b"{}", is_error=True)]


@played
async def test_who_has_not_answered_gets_no_other_event(api: RuntimeApi, told: Told, process: Process) -> None:
    api.give(task(), 1, "i")
    await process.ask("GET", "/invocation/next")
    status, _, body = await process.ask("GET", "/invocation/next")
    assert (status, json.loads(body)["errorType"]) == (403, "InvalidStateTransition")


@played
async def test_an_answer_and_the_wish_for_more_may_come_together(api: RuntimeApi, told: Told, process: Process) -> None:
    api.give(task(), 1, "i")
    await process.ask("GET", "/invocation/next")
    process.send("POST", "/invocation/r-1/response", b"5")
    process.send("GET", "/invocation/next")
    assert (await process.read())[0] == 202
    await told.asked.wait()
    api.give(task(request_id="r-2"), 1, "i")
    assert (await process.read())[1]["Lambda-Runtime-Aws-Request-Id"] == "r-2"


@played
async def test_the_type_of_an_error_may_be_in_a_header(api: RuntimeApi, told: Told, process: Process) -> None:
    kind = "Lambda-Runtime-Function-Error-Type: Runtime.ImportModuleError\r\n"
    assert (await process.ask("POST", "/init/error", b"{}", kind))[0] == 202
    assert told.failures == [Answer(b"{}", True, "Runtime.ImportModuleError")]
    assert (await process.ask("POST", "/restore/error", b"{}"))[0] == 202
    assert (await process.ask("GET", "/restore/next"))[0] == 200


@played
async def test_a_stream_is_collected(api: RuntimeApi, told: Told, process: Process) -> None:
    api.give(task(), 1, "i")
    await process.ask("GET", "/invocation/next")
    process.writer.write(
        b"POST /2018-06-01/runtime/invocation/r-1/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        b"Lambda-Runtime-Function-Response-Mode: streaming\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    assert (await process.read())[0] == 202
    assert told.answers == [Answer(b"abcde")]


@played
async def test_a_stream_that_breaks_says_so_behind_its_body(api: RuntimeApi, told: Told, process: Process) -> None:
    api.give(task(), 1, "i")
    await process.ask("GET", "/invocation/next")
    error = b'{"errorMessage":"bad"}'
    process.writer.write(
        b"POST /2018-06-01/runtime/invocation/r-1/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        b"Trailer: Lambda-Runtime-Function-Error-Type\r\n\r\n3\r\nabc\r\n0\r\n"
        b"Lambda-Runtime-Function-Error-Type: MidStream\r\n"
        b"Lambda-Runtime-Function-Error-Body: " + base64.b64encode(error) + b"\r\n\r\n"
    )
    assert (await process.read())[0] == 202
    assert told.answers == [Answer(error, True, "MidStream")]


@pytest.mark.parametrize(("size", "status"), [(ANSWER_BYTES_MAX, 202), (ANSWER_BYTES_MAX + 1, 413)])
def test_an_answer_may_be_as_large_as_lambda_takes(size: int, status: int) -> None:
    async def scene(api: RuntimeApi, told: Told, process: Process) -> None:
        api.give(task(), 1, "i")
        await process.ask("GET", "/invocation/next")
        assert (await process.ask("POST", "/invocation/r-1/response", b"x" * size))[0] == status
        (answer,) = told.answers
        assert answer.is_too_large == (status == 413)
        assert len(answer.body) == (size if status == 202 else 0)
        assert (await process.ask("GET", "/restore/next"))[0] == 200

    played(scene)()


@played
async def test_a_client_that_asks_before_it_sends_much_is_told_to_go_on(
    api: RuntimeApi, told: Told, process: Process
) -> None:
    api.give(task(), 1, "i")
    await process.ask("GET", "/invocation/next")
    process.send("POST", "/invocation/r-1/response", b"", "Expect: 100-continue\r\n")
    assert await process.reader.readline() == b"HTTP/1.1 100 Continue\r\n"


@played
async def test_unknown_paths_are_not_found(api: RuntimeApi, told: Told, process: Process) -> None:
    assert (await process.ask("GET", "/invocation/other"))[0] == 404
    assert (await process.ask("POST", "/invocation/next", b""))[0] == 404
    process.writer.write(b"GET /2020-01-01/extension/register HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await process.read())[0] == 404


@played
async def test_what_is_no_http_ends_the_connection(api: RuntimeApi, told: Told, process: Process) -> None:
    process.writer.write(b"hello\r\n\r\n")
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError, IndexError)):
        await process.read()


@played
async def test_an_event_is_not_lost_with_a_connection(api: RuntimeApi, told: Told, process: Process) -> None:
    process.send("GET", "/invocation/next")
    await told.asked.wait()
    process.writer.transport.abort()
    told.asked.clear()
    assert api._server is not None
    port = api._server.sockets[0].getsockname()[1]
    again = Process(*await asyncio.open_connection("127.0.0.1", port))
    again.send("GET", "/invocation/next")
    await told.asked.wait()
    api.give(task(), 1, "i")
    assert (await again.read())[0] == 200
    again.writer.close()
