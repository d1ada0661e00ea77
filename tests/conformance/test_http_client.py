"""Checkpoints over plain HTTP: the same as over boto3, and what a connection can do to them."""

import gc
import hashlib
import json
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from perdure import DurableContext, Duration, durable_execution
from perdure.exceptions import CheckpointError, GetExecutionStateError, InvocationError
from perdure.lambda_service import LambdaClient, OperationUpdate
from perdure.model.execution import ExecutionStatus
from perdure.sdk.connection import BrokenConnection, Endpoint, read_head
from perdure.sdk.endpoints import endpoint_in
from perdure.sdk.entry import ANSWER_BYTES_MAX
from perdure.sdk.http_client import HttpClient, open_endpoint
from perdure.sdk.remote import WireLink, link_to
from perdure.wire.signature import Sent, check_signature, read_claim
from support.lambda_http import LambdaApi, Refusal, serving
from support.remote import Remote

ARN = "arn:aws:lambda:us-east-1:000000000000:function:fn:3/durable-execution/one/018f0000-0000-7000-8000-000000000000"


@durable_execution(name="fn")
def journey(event: Any, context: DurableContext) -> Any:
    order = context.step(lambda _: {"order": event}, name="order")
    context.wait(Duration.from_seconds(2), name="cool-down")
    return [order, context.run_in_child_context(lambda child: child.step(lambda _: "é", name="pack"), name="ship")]


@durable_execution(name="fn")
def large(event: Any, context: DurableContext) -> str:
    return "x" * (ANSWER_BYTES_MAX - 1)


@durable_execution(name="fn")
def one_step(event: Any, context: DurableContext) -> Any:
    return context.step(lambda _: 1, name="a")


@pytest.fixture
def perdure_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], HttpClient]]:
    """Say in the environment, as managed functions have it, where the server is."""
    monkeypatch.setattr(HttpClient, "_shared", None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAKEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr("perdure.sdk.connection.DELAY_S", 0.0)
    made: list[HttpClient] = []

    def point(url: str) -> HttpClient:
        monkeypatch.setenv("PERDURE_ENDPOINT", url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)
        made.append(HttpClient.shared(url))
        return made[0]

    yield point
    for client in made:
        client.endpoint.close()


# --- whole executions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [1000, 2])
def test_an_execution_runs_over_plain_http(page: int, perdure_at: Callable[[str], HttpClient]) -> None:
    """The client is chosen by the environment; every checkpoint has a ClientToken of its own."""
    service = Remote(journey, page=page)
    api = LambdaApi(service.wire)
    with serving(api) as url:
        perdure_at(url)
        assert service.run(7).result == [{"order": 7}, "é"]
    assert [answer["Status"] for answer in service.answers] == ["PENDING", "SUCCEEDED"]
    assert all(agent.startswith("perdure/") for agent in api.agents)
    client_tokens = [body["ClientToken"] for kind, body in service.wire.calls if kind == "checkpoint"]
    assert len(set(client_tokens)) == len(client_tokens) > 2


def test_a_result_over_the_limit_goes_over_plain_http(perdure_at: Callable[[str], HttpClient]) -> None:
    """[74]"""
    service = Remote(large)
    with serving(LambdaApi(service.wire)) as url:
        perdure_at(url)
        assert service.run().status is ExecutionStatus.SUCCEEDED
    assert service.answers == [{"Status": "SUCCEEDED", "Result": ""}]


def test_a_checkpoint_whose_answer_is_lost_is_applied_once(perdure_at: Callable[[str], HttpClient]) -> None:
    """The same body goes again, over a new connection; the service repeats its answer."""
    service = Remote(one_step)
    api = LambdaApi(service.wire)
    with serving(api) as url:
        perdure_at(url)
        api.answers_lost = 2
        outcome = service.run()
    assert outcome.result == 1
    assert (len(api.bodies), len(set(api.bodies))) == (3, 1)
    assert outcome.shown.count("StepSucceeded") == 1


# --- errors, as boto3 has them -----------------------------------------------------------------------------------

REFUSALS: list[Refusal] = [
    (400, "InvalidParameterValueException", "Invalid checkpoint token"),
    (400, "InvalidParameterValueException", "Inconsistent operation name."),
    (403, "AccessDeniedException", "who are you"),
    (413, "RequestTooLargeException", "too much"),
    (429, "TooManyRequestsException", "slow down"),
    (500, "ServiceException", "oh"),
    (502, "KMSDisabledException", "no key"),
]


@pytest.fixture
def boto3_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], LambdaClient]]:
    monkeypatch.setattr(LambdaClient, "_shared", None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    made: list[Any] = []

    def point(url: str) -> LambdaClient:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)
        client = LambdaClient.initialize_client()
        made.append(client.client)
        return client

    yield point
    for client in made:
        client.close()


class Once(Endpoint):
    """Asks once, as a boto3 that is told not to try again."""

    def request(self, *args: Any, **more: Any) -> Any:
        return super().request(*args, **{**more, "attempts": 1})


def facts_of(error: CheckpointError | GetExecutionStateError) -> dict[str, Any]:
    metadata = error.response_metadata or {}
    return {
        "text": str(error).replace(" (reached max retries: 0)", ""),  # boto3 says so if it must not try again
        "category": error.error_category,
        "error": error.error,
        "status": metadata.get("HTTPStatusCode"),
        "retries": metadata.get("RetryAttempts"),
    }


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal[1] + str(refusal[0]))
def test_an_error_is_the_same_over_plain_http_as_over_boto3(
    refusal: Refusal, boto3_at: Callable[[str], LambdaClient]
) -> None:
    """[75] Text, code, message, status, and what follows from them."""
    api = LambdaApi()
    with serving(api) as url:
        endpoint = Once(url)
        found: list[list[dict[str, Any]]] = []
        for client in (boto3_at(url), HttpClient(endpoint)):
            api.refusals += [refusal, refusal]
            with pytest.raises(CheckpointError) as refused:
                client.checkpoint_wire(ARN, "token", [])
            with pytest.raises(GetExecutionStateError) as unread:
                client.state_wire(ARN, "token", "marker")
            found.append([facts_of(refused.value), facts_of(unread.value)])
        endpoint.close()
    assert found[0] == found[1]


@pytest.mark.parametrize("refusals", [[(503, "ServiceUnavailable", "a moment")] * 4, [None] * 4])
def test_what_may_pass_is_tried_again(refusals: list[Refusal | None], perdure_at: Callable[[str], HttpClient]) -> None:
    service = Remote(one_step)
    api = LambdaApi(service.wire)
    with serving(api) as url:
        perdure_at(url)
        api.refusals += refusals
        assert service.run().result == 1
    assert api.refusals == []


def test_a_server_that_is_not_there_ends_the_invocation(perdure_at: Callable[[str], HttpClient]) -> None:
    """[75] Another invocation may find it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = perdure_at(f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(CheckpointError) as raised:
            client.checkpoint_wire(ARN, "token", [])
    assert raised.value.is_retryable()
    assert raised.value.error is None


def test_a_call_without_a_token_is_refused_here(perdure_at: Callable[[str], HttpClient]) -> None:
    client = perdure_at("http://127.0.0.1:1")
    with pytest.raises(CheckpointError, match="without a checkpoint token"):
        client.checkpoint_wire(ARN, "", [])
    with pytest.raises(GetExecutionStateError, match="without a checkpoint token"):
        client.state_wire(ARN, "", "marker")


# --- which client ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, None),
        ({"AWS_ENDPOINT_URL_LAMBDA": "http://emulator:9014"}, None),
        ({"PERDURE_ENDPOINT": "http://here:9014"}, "http://here:9014"),
        ({"PERDURE_ENDPOINT": "http://here:9014", "AWS_ENDPOINT_URL_LAMBDA": "http://here:9014/"}, "http://here:9014"),
        ({"PERDURE_ENDPOINT": "http://here:9014", "AWS_ENDPOINT_URL_LAMBDA": "http://emulator:9014"}, None),
    ],
)
def test_boto3_is_used_unless_the_environment_names_a_perdure_server(
    environment: dict[str, str], url: str | None
) -> None:
    assert endpoint_in(environment) == url


def test_an_endpoint_that_is_no_url_makes_the_execution_wait(perdure_at: Callable[[str], HttpClient]) -> None:
    with pytest.raises(
        InvocationError, match="PERDURE_ENDPOINT can't be used: an endpoint is written http://HOST:PORT"
    ):
        perdure_at("localhost:9014")


def test_a_client_with_a_checkpoint_of_its_own_is_asked_for_it() -> None:
    class Counting(HttpClient):
        def checkpoint(self, *args: Any) -> Any:
            return super().checkpoint(*args)

    endpoint = Endpoint("http://127.0.0.1:1")
    assert type(link_to(HttpClient(endpoint))) is WireLink
    assert type(link_to(Counting(endpoint))) is not WireLink


def test_the_public_classes_go_over_plain_http_too(perdure_at: Callable[[str], HttpClient]) -> None:
    service = Remote(journey)
    with serving(LambdaApi(service.wire)) as url:
        client = perdure_at(url)
        service.start()
        work: Any = service.queue.work[0]
        event = service.wire.event_of(work)
        update = OperationUpdate.from_dict({"Id": "1", "Type": "STEP", "Action": "START", "Name": "a"})
        answer = client.checkpoint(work.arn, event["CheckpointToken"], [update], None)
        assert [one.name for one in answer.new_execution_state.operations] == ["a"]
        assert answer.checkpoint_token is not None
        state = client.get_execution_state(work.arn, answer.checkpoint_token, "state:0")
        assert [one.name for one in state.operations][1:] == ["a"]


# --- connections -------------------------------------------------------------------------------------------------


@contextmanager
def scripted(*connections: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers the requests of each connection with these bytes, and then closes it."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for answers in connections:
                connected, _ = listening.accept()
                with connected:
                    for answer in answers:
                        asked.append(connected.recv(65536))
                        connected.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
        thread.join(10)


def plain(body: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), more, body)


@pytest.mark.parametrize(
    "answer",
    [
        plain(b"hello"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + plain(b"hello"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    ],
)
def test_a_body_is_read_however_it_ends(answer: bytes) -> None:
    with scripted([answer]) as (url, _):
        endpoint = Endpoint(url)
        assert endpoint.request("GET", "/x").body == b"hello"
        endpoint.close()


def test_connections_are_kept_and_replaced_when_the_server_has_closed_them() -> None:
    """Without a pause, and without counting as an attempt: a server may close what is idle at any time."""
    paused: list[float] = []
    with scripted([plain(b"1"), plain(b"2")], [plain(b"3", b"Connection: close\r\n")], [plain(b"4")]) as (url, asked):
        endpoint = Endpoint(url, pause=paused.append)
        found = [endpoint.request("GET", "/x", attempts=1).body for _ in range(4)]
        endpoint.close()
    assert (found, len(asked), paused) == ([b"1", b"2", b"3", b"4"], 4, [])


def test_a_connection_that_is_in_use_when_its_endpoint_is_closed_is_not_kept() -> None:
    with scripted([plain(b"1")], [plain(b"2")]) as (url, _):
        endpoint = Endpoint(url)
        endpoint.close()
        assert [endpoint.request("GET", "/").body for _ in range(2)] == [b"1", b"2"]
        del endpoint
        with warnings.catch_warnings(record=True) as left_open:
            warnings.simplefilter("always", ResourceWarning)
            gc.collect()
        assert not left_open


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "no answer of HTTP/1.1: 'SSH-2.0"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "within an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "Content-Length is 'many'"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk has the size"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "head is longer"),
        (b"", "the server closed it"),
    ],
)
def test_what_is_no_answer_breaks_the_connection(answer: bytes, message: str) -> None:
    with scripted([answer]) as (url, _):
        endpoint = Endpoint(url)
        with pytest.raises(BrokenConnection, match=message):
            endpoint.request("GET", "/x", attempts=1)


def test_an_answer_that_does_not_come_is_not_waited_for_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint = Endpoint(f"http://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(TimeoutError):
            endpoint.request("GET", "/x", attempts=1, read_s=0.05)


def test_a_head_s_names_are_in_lower_case() -> None:
    assert read_head(b"HTTP/1.1 404 Not Found\r\nX-Amzn-ErrorType:  A \r\nb: c:d") == (
        404,
        {"x-amzn-errortype": "A", "b": "c:d"},
    )


def test_a_request_is_signed_if_the_environment_has_credentials() -> None:
    environment = {
        "AWS_ACCESS_KEY_ID": "AKIAKEY",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "session",
        "AWS_REGION": "eu-west-1",
    }
    with scripted([plain(b"{}"), plain(b"{}"), plain(b"{}")]) as (url, asked):
        client = HttpClient(open_endpoint(url, environment))
        client.checkpoint_wire(ARN, "token", [])
        client.state_wire(ARN, "a+b/c=", "marker")
        client.endpoint.request("DELETE", "/x%2Fy", headers={"X-Amz-Client-Context": "e30="})
        client.endpoint.close()
    for request in asked:
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split(" ")
        path, _, query = target.partition("?")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        sent = Sent(method, path, query, headers, hashlib.sha256(body).hexdigest())
        claim = read_claim(sent)
        assert claim is not None
        assert (claim.key_id, claim.region, claim.token) == ("AKIAKEY", "eu-west-1", "session")
        check_signature(claim, sent, "secret")
    assert json.loads(asked[0].partition(b"\r\n\r\n")[2])["CheckpointToken"] == "token"
