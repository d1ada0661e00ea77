"""Whatever is sent, the server answers by what its API has for it, and goes on: requests of every operation, at random.

A failure prints the request, and what reproduces it.
"""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, note, settings, strategies as st
from msgspec.structs import replace

from perdure.model.error import ResourceConflict, ServiceError
from perdure.model.execution import ExecutionStatus
from perdure.model.function import Alias
from perdure.wire.api import lambda_api
from support.raw import Incoming, RawFunction, callback, context, step
from support.served import Served, serving
from support.wild import Wild, broken_bodies, broken_escapes, odd_value, request_of

MEMBERS = (
    *("FunctionName", "FunctionQualifier", "ExecutionName", "ExecutionTimeoutSeconds", "ExecutionRetentionPeriodDays"),
    *("Input", "TenantId", "TraceFields", "EndpointUrl", "RegionName", "AccountId"),
)
ALWAYS = {"UnknownOperationException", "InvalidParameterValueException"}
EXAMPLES = 30
WAIT_S = 20.0
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


class Line:
    """A connection that is kept as long as the server keeps it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        self._socket: socket.socket | None = None

    def ask(self, wild: Wild) -> tuple[int, http.client.HTTPMessage, bytes]:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, WAIT_S)
        is_kept = False
        try:
            self._socket.sendall(wild.written())
            answer = http.client.HTTPResponse(self._socket, method=wild.method)
            with answer:
                answer.begin()
                body = answer.read()
                is_kept = not answer.will_close
        finally:
            if not is_kept:
                self.close()
        return answer.status, answer.headers, body

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Target:
    """A node with functions, an execution in flight, and what belongs to them, which is had again when it is gone."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.line = Line(served.node.url)
        arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
        self.known: dict[str, list[str]] = {
            "FunctionName": ["f", "f:$LATEST", "quick:$LATEST", "f:live", f"{arn}:1", "nobody", "new"],
            "Name": ["live", "next"],
            "Qualifier": ["$LATEST", "1", "live", "2"],
            "FunctionVersion": ["1", "ALL", "$LATEST"],
            "Resource": [arn],
            "Marker": ["", "1"],
            "Handler": ["app.handler"],
            "Runtime": ["python3.13", "nodejs22.x"],
            "Role": ["arn:aws:iam::000000000000:role/r"],
            "Principal": ["123456789012"],
            "Action": ["lambda:InvokeFunction", "STEP", "START", "SUCCEED"],
            "Type": ["STEP"],
            "Id": ["s", "n"],
            "ParentId": ["box"],
        }
        self._running = ""
        self._incoming: Incoming | None = None
        self.renew()

    def renew(self) -> None:
        """Have what a request has removed or ended."""
        registry, played = self.served.node.registry, self.served.played
        for name, reply in (("f", None), ("quick", Incoming.succeed)):
            found = registry.find(name, "$LATEST")
            if found is not None and found.is_deleting:
                registry.sweep()
                found = registry.find(name, "$LATEST")
            if found is None:
                played.functions.pop(name, None)
                self.served.function(reply, name=name)
                registry.publish(name)
                with contextlib.suppress(ResourceConflict):
                    registry.create_alias(Alias(function=name, name="live", version="1"))
            registry.update_function(name, lambda function: replace(function, concurrency=None))
        try:
            is_running = self.served.node.service.get(self._running).status is ExecutionStatus.RUNNING
        except ServiceError:
            is_running = False
        if not is_running:
            self._begin()

    def _begin(self) -> None:
        """An execution with an operation of each kind, whose invocation is in flight."""
        with contextlib.suppress(ClientError):
            arn = self.served.start_execution(self.function)
            self._running = arn.rpartition("/")[2]
            if self._incoming is not None:
                self._incoming.suspend()
            while (incoming := self.function.next()).arn != arn:  # one that a request of the fuzz has begun
                incoming.suspend()
            self._incoming = incoming
            opened = incoming.changed(context("box", "START"), step("s", "START"), callback("c"), callback("d"))
            self.known["CallbackId"] = [
                one["CallbackDetails"]["CallbackId"] for one in opened if "CallbackDetails" in one
            ]
            self.known["DurableExecutionArn"] = [arn]
            self.known["CheckpointToken"] = [str(incoming.token)]

    @property
    def function(self) -> RawFunction:
        return self.served.played.functions["f"]

    def hear(self, body: bytes) -> None:
        """Go on with the token in an answer."""
        document = msgspec.json.decode(body) if body else None
        if isinstance(document, dict) and "NewExecutionState" in document:
            self.known["CheckpointToken"] = [document.get("CheckpointToken", "AAAA")]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with serving(sync_wait_s=0.05, path=tmp_path_factory.mktemp("fuzz") / "fuzz.db") as served:
        target = Target(served)
        yield target
        target.line.close()


def assert_answered(target: Target, wild: Wild, errors: frozenset[str] | None = None) -> None:
    """It is answered by an error that has a name, one of `errors` if they are given, or by none of the server's own."""
    note(repr(wild))
    target.renew()
    status, headers, body = target.line.ask(wild)
    if status == 200:
        target.hear(body)
    assert 200 <= status < 500, (status, body[:500])
    assert headers["x-amzn-RequestId"]
    if status >= 400:
        code = headers["x-amzn-ErrorType"]
        assert code, (status, body[:500])
        assert errors is None or code in {*ALWAYS, *errors}, body[:500]
        if wild.method != "HEAD":
            document = json.loads(body)
            assert document["Type"] == "User"
            assert document.get("message") or document.get("Message")


@pytest.mark.parametrize("name", sorted(lambda_api().operations))
def test_no_request_of_an_operation_breaks_the_server(target: Target, name: str) -> None:
    operation = lambda_api().operations[name]

    @FUZZ
    @given(request_of(operation, target.known))
    def ask(wild: Wild) -> None:
        assert_answered(target, wild, operation.errors if wild.method == operation.method else None)

    ask()
    assert target.served.raw("GET", "/health").json == {"status": "healthy"}


segments = st.lists(
    st.one_of(
        broken_escapes,
        st.sampled_from(
            [b"2015-03-31", b"2025-12-01", b"functions", b"durable-executions", b"f", b"state", b"", b".."]
        ),
    ),
    max_size=6,
)


@FUZZ
@given(data=st.data())
def test_no_path_breaks_the_server(target: Target, data: st.DataObject) -> None:
    path = b"/" + b"/".join(data.draw(segments))
    query = data.draw(st.sampled_from([b"", b"?", b"?a=%zz", b"?" + b"a=1&" * 2000, b"?\xff=1"]))
    method = data.draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "BREW"]))
    assert_answered(target, Wild(method, path + query, (), data.draw(broken_bodies)))


@FUZZ
@given(data=st.data())
def test_no_request_of_the_emulator_s_routes_breaks_the_server(target: Target, data: st.DataObject) -> None:
    route = data.draw(
        st.sampled_from(
            [
                ("POST", b"/start-durable-execution"),
                ("PUT", b"/lambda-endpoint"),
                ("GET", b"/2025-12-01/durable-executions"),
                ("GET", b"/perdure/v1/functions/f/logs"),
                ("GET", b"/perdure/code/f/1"),
            ]
        )
    )
    members = data.draw(
        st.dictionaries(
            st.sampled_from(MEMBERS),
            st.one_of(st.sampled_from(["quick", "$LATEST", 60, "{}", "us-east-1", "http://127.0.0.1:9"]), odd_value),
        )
    )
    body = json.dumps(members).encode() if data.draw(st.integers(0, 5)) else data.draw(broken_bodies)
    query = data.draw(st.sampled_from([b"", b"?Marker=x", b"?startTime=x&limit=-1", b"?limit=%ff", b"?tail=1e9"]))
    assert_answered(target, Wild(route[0], route[1] + query, (), body))


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /health HTTP/1.1\r\nA: \x00\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1e3\r\n\r\n",
        b"POST /start-durable-execution HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST /start-durable-execution HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /start-durable-execution HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_request_is_refused_or_dropped(target: Target, sent: bytes) -> None:
    address = urlsplit(target.served.node.url)
    with contextlib.closing(socket.create_connection((address.hostname, address.port), WAIT_S)) as line:
        line.sendall(sent)
        line.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while chunk := line.recv(65536):
                answer += chunk
        except ConnectionResetError:
            answer = b""
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200")), answer[:200]
    assert not answer.startswith(b"HTTP/1.1 4") or b"x-amzn-errortype: " in answer.lower()
    assert target.served.raw("GET", "/health").status == 200


@pytest.mark.parametrize("path", ["/nowhere", "/2015-03-31/functions/f/invocations?Qualifier=1", "/%ff"])
def test_an_answer_that_comes_early_reaches_a_client_that_still_sends(target: Target, path: str) -> None:
    answer = target.served.raw("POST", path, b" " * (20 * 1024 * 1024))
    assert answer.status in (400, 404, 413)
    assert answer.error
