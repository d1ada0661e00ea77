"""The client against servers that answer as a script says, and against one that is real."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from perdure import DurableContext, durable_execution
from perdure.client.client import Client, check_endpoint, segment
from perdure.client.credentials import Credentials
from perdure.client.errors import ApiError, ClientError, NotUnderstood, Unreachable
from perdure.server.node import Node
from perdure.store.memory import MemoryStore
from perdure.wire.signature import Sent, check_signature, read_claim
from support.scripted_http import CUT, Answer, Server, scripted

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST/durable-execution/n/0190"


@pytest.fixture
def pauses() -> list[float]:
    return []


Connect = Callable[..., Client]


@pytest.fixture
def connect(pauses: list[float]) -> Iterator[Connect]:
    """Clients that note how long they would have paused, and draw 0.5 by chance."""
    made: list[Client] = []

    def client(server: Server | str, **more: Any) -> Client:
        url = server if isinstance(server, str) else server.url
        made.append(Client(url, more.pop("credentials", None), pause=pauses.append, chance=lambda: 0.5, **more))
        return made[-1]

    yield client
    for each in made:
        each.close()


def refusal(status: int, code: str, message: str = "no", *headers: tuple[str, str], **more: str) -> Answer:
    return Answer(status, {"Type": "User", "message": message, **more}, (("x-amzn-ErrorType", code), *headers))


# --- requests ----------------------------------------------------------------------------------------------------


def test_a_call_is_the_request_that_the_api_has_for_it(connect: Connect) -> None:
    with scripted(Answer(200, {"Events": [{"EventId": 1}], "NextMarker": "m"})) as server:
        client = connect(server)
        answer = client.call(
            "GetDurableExecutionHistory", DurableExecutionArn=ARN, IncludeExecutionData=False, Marker=None
        )
    (asked,) = server.asked
    assert answer == {"Events": [{"EventId": 1}], "NextMarker": "m"}
    assert asked.method == "GET"
    assert asked.target == f"/2025-12-01/durable-executions/{segment(ARN)}/history?IncludeExecutionData=false"
    assert asked.headers["user-agent"].startswith("perdure/")
    assert "authorization" not in asked.headers


def test_an_endpoint_may_have_a_path(connect: Connect) -> None:
    with scripted(Answer(200, {})) as server:
        connect(f"{server.url}/behind/").call("GetDurableExecution", DurableExecutionArn=ARN)
    assert server.asked[0].target.startswith("/behind/2025-12-01/durable-executions/arn%3A")


def test_tokens_that_make_a_request_safe_to_repeat_are_filled_in(connect: Connect) -> None:
    with scripted(CUT, Answer(202), Answer(202)) as server:
        client = connect(server)
        client.call("PauseDurableExecution", DurableExecutionArn=ARN)
        client.call("PauseDurableExecution", DurableExecutionArn=ARN, ClientToken="mine")
    tokens = [json.loads(asked.body)["ClientToken"] for asked in server.asked]
    assert len(tokens[0]) == 36
    assert tokens == [tokens[0], tokens[0], "mine"]


def test_payloads_travel_as_they_are(connect: Connect) -> None:
    with scripted(Answer(200, b"[1]", (("X-Amz-Durable-Execution-Arn", ARN),))) as server:
        answer = connect(server).call("Invoke", FunctionName="f", Qualifier="3", Payload=b'{"a":1}')
    assert answer == {"StatusCode": 200, "Payload": b"[1]", "DurableExecutionArn": ARN}
    assert server.asked[0].target == "/2015-03-31/functions/f/invocations?Qualifier=3"
    assert server.asked[0].body == b'{"a":1}'


def test_pages_follow_each_other_until_there_is_no_marker(connect: Connect) -> None:
    pages = (Answer(200, {"Functions": [{"n": 1}], "NextMarker": "a b"}), Answer(200, {"Functions": [{"n": 2}]}))
    with scripted(*pages) as server:
        found = list(connect(server).paginate("ListFunctions", "Functions", MaxItems=1))
    assert found == [{"n": 1}, {"n": 2}]
    assert [asked.target.partition("?")[2] for asked in server.asked] == ["MaxItems=1", "Marker=a%20b&MaxItems=1"]


def test_routes_of_perdures_own_are_asked_for_by_their_paths(connect: Connect) -> None:
    with scripted(Answer(200, {"a": 1}), Answer(204, b"")) as server:
        client = connect(server)
        assert client.request("GET", f"/perdure/v1/x/{segment('a/b')}", query=[("q", "ä&b")]) == {"a": 1}
        assert client.request("POST", "/perdure/v1/x", json={"b": [1]}) == {}
    assert server.asked[0].target == "/perdure/v1/x/a%2Fb?q=%C3%A4%26b"
    assert (server.asked[1].headers["content-type"], server.asked[1].body) == ("application/json", b'{"b":[1]}')


def test_with_credentials_requests_are_signed_as_they_are_sent(connect: Connect) -> None:
    credentials = Credentials("AKIAEXAMPLE", "secret", "token")
    with scripted(Answer(200, {})) as server:
        client = connect(server, credentials=credentials, region="eu-central-1")
        client.call("ListDurableExecutionsByFunction", FunctionName="f", Statuses=["RUNNING", "FAILED"])
    (asked,) = server.asked
    path, _, query = asked.target.partition("?")
    kept = {name: value for name, value in asked.headers.items() if name not in ("content-length", "accept-encoding")}
    sent = Sent(asked.method, path, query, kept)
    claim = read_claim(sent)
    assert claim is not None
    assert (claim.key_id, claim.region, claim.token) == ("AKIAEXAMPLE", "eu-central-1", "token")
    check_signature(claim, sent, "secret")
    assert "secret" not in repr(credentials)


# --- connections -------------------------------------------------------------------------------------------------


def test_a_connection_is_kept_for_the_next_request(connect: Connect) -> None:
    with scripted(*[Answer(200, {})] * 3) as server:
        client = connect(server)
        for _ in range(3):
            client.call("GetDurableExecution", DurableExecutionArn=ARN)
    assert [asked.connection for asked in server.asked] == [1, 1, 1]


def test_a_connection_that_the_server_has_closed_is_not_used(connect: Connect, pauses: list[float]) -> None:
    with scripted(Answer(200, {}, is_cut=True), Answer(200, {})) as server:
        client = connect(server)
        client.call("Invoke", FunctionName="f")
        assert server.has_cut.wait(10)
        client.call("Invoke", FunctionName="f")
    assert [asked.connection for asked in server.asked] == [1, 2]
    assert pauses == []


def test_threads_share_a_client(connect: Connect) -> None:
    with scripted(*[Answer(200, {"n": 1})] * 40) as server, ThreadPoolExecutor(8) as threads:
        client = connect(server)
        answers = list(threads.map(lambda _: client.call("GetDurableExecution", DurableExecutionArn=ARN), range(40)))
    assert answers == [{"n": 1}] * 40


# --- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (refusal(404, "ResourceNotFoundException", "gone"), "ResourceNotFoundException", "gone"),
        (refusal(404, "ResourceNotFoundException:http://x/", "gone"), "ResourceNotFoundException", "gone"),
        (Answer(403, {"__type": "com.amazon#AccessDeniedException", "Message": "no"}), "AccessDeniedException", "no"),
        (Answer(409, {"code": "Conflict", "message": "taken"}), "Conflict", "taken"),
        (Answer(404, b"<html>"), "HTTP 404", "HTTP status 404 without a message"),
        (Answer(400, b"[]"), "HTTP 400", "HTTP status 400 without a message"),
    ],
)
def test_an_error_has_its_name_and_text(connect: Connect, answer: Answer, code: str, message: str) -> None:
    with scripted(answer) as server, pytest.raises(ApiError) as caught:
        connect(server).call("GetDurableExecution", DurableExecutionArn=ARN)
    assert (caught.value.code, caught.value.message, caught.value.status) == (code, message, answer.status)


def test_an_error_of_perdures_has_the_way_out(connect: Connect) -> None:
    answer = refusal(400, "InvalidParameterValueException", "bad", ("x-amzn-RequestId", "r-1"), Hint="do better")
    with scripted(answer) as server, pytest.raises(ApiError) as caught:
        connect(server).call("GetDurableExecution", DurableExecutionArn=ARN)
    assert (caught.value.hint, caught.value.request_id) == ("do better", "r-1")


def test_a_member_of_the_path_that_is_missing_is_refused_at_once(connect: Connect) -> None:
    with scripted() as server, pytest.raises(ApiError, match="DurableExecutionArn is missing"):
        connect(server).call("GetDurableExecution")
    assert server.asked == []


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[1]", b"\xff"])
def test_an_answer_that_is_no_json_object_is_not_perdures(connect: Connect, body: bytes) -> None:
    with scripted(Answer(200, body), Answer(200, body)) as server:
        client = connect(server)
        with pytest.raises(NotUnderstood, match="is no JSON object") as caught:
            client.call("GetDurableExecution", DurableExecutionArn=ARN)
        assert caught.value.hint is not None
        with pytest.raises(NotUnderstood, match="is no JSON object"):
            client.request("GET", "/x")


def test_what_speaks_no_http_is_not_perdures(connect: Connect) -> None:
    greeting = Answer(raw=b"220 mail.example.com ESMTP\r\n", is_cut=True)
    with scripted(greeting) as server, pytest.raises(NotUnderstood, match="does not speak HTTP"):
        connect(server).call("GetDurableExecution", DurableExecutionArn=ARN)


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1:9014", "ftp://x", "http://", "http://x:99999", "http://x?y", "http://a b"]
)
def test_an_endpoint_is_a_url(text: str) -> None:
    with pytest.raises(ClientError, match="an endpoint must be"):
        check_endpoint(text)


def test_an_endpoint_ends_without_a_slash() -> None:
    assert check_endpoint("http://[::1]:9014/") == "http://[::1]:9014"


# --- again -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        refusal(429, "TooManyRequestsException"),
        refusal(500, "ServiceException"),
        refusal(503, "ServiceUnavailable"),
        refusal(400, "ThrottlingException"),
        CUT,
        Answer(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", is_cut=True),
    ],
)
def test_trouble_that_passes_is_passed_over(connect: Connect, pauses: list[float], trouble: Answer) -> None:
    with scripted(trouble, trouble, Answer(200, {"a": 1})) as server:
        assert connect(server).call("GetDurableExecution", DurableExecutionArn=ARN) == {"a": 1}
    assert pauses == [0.5, 1.0]


def test_three_attempts_are_all(connect: Connect, pauses: list[float]) -> None:
    with scripted(*[refusal(500, "ServiceException", "ouch")] * 3) as server, pytest.raises(ApiError, match="ouch"):
        connect(server).call("GetDurableExecution", DurableExecutionArn=ARN)
    assert len(server.asked) == 3


def test_a_server_that_says_when_is_asked_then(connect: Connect, pauses: list[float]) -> None:
    busy = refusal(429, "TooManyRequestsException", "busy", ("Retry-After", "7"))
    with scripted(busy, Answer(200, {})) as server:
        connect(server).call("GetDurableExecution", DurableExecutionArn=ARN)
    assert pauses == [7.0]


def test_what_can_not_be_right_is_not_sent_again(connect: Connect) -> None:
    with scripted(refusal(400, "InvalidParameterValueException")) as server, pytest.raises(ApiError):
        connect(server).call("GetDurableExecution", DurableExecutionArn=ARN)
    assert len(server.asked) == 1


@pytest.mark.parametrize("trouble", [CUT, refusal(500, "ServiceException")])
def test_an_invoke_without_a_name_is_not_sent_again_when_it_may_have_begun(connect: Connect, trouble: Answer) -> None:
    with scripted(trouble) as server, pytest.raises((Unreachable, ApiError)):
        connect(server).call("Invoke", FunctionName="f", InvocationType="Event")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "more", [{"DurableExecutionName": "n", "InvocationType": "Event"}, {"InvocationType": "DryRun"}]
)
def test_other_invokes_are(connect: Connect, more: dict[str, Any]) -> None:
    with scripted(CUT, Answer(202)) as server:
        connect(server).call("Invoke", FunctionName="f", **more)
    assert len(server.asked) == 2


def test_an_invoke_that_was_refused_for_want_of_room_is_sent_again(connect: Connect) -> None:
    with scripted(refusal(429, "TooManyRequestsException"), Answer(202)) as server:
        connect(server).call("Invoke", FunctionName="f")
    assert len(server.asked) == 2


def test_where_nobody_listens_is_said_after_three_attempts(connect: Connect, pauses: list[float]) -> None:
    with scripted() as server:
        pass
    with pytest.raises(Unreachable, match=r"no answer from http://127\.0\.0\.1:.*refused") as caught:
        connect(server).call("Invoke", FunctionName="f")
    assert not caught.value.may_have_arrived
    assert len(pauses) == 2


def test_an_answer_that_takes_too_long_is_given_up(connect: Connect) -> None:
    with scripted(None) as server, pytest.raises(Unreachable, match=r"longer than 0\.05 seconds") as caught:
        connect(server).call("Invoke", FunctionName="f", timeout_s=0.05)
    assert caught.value.may_have_arrived


# --- a real server -----------------------------------------------------------------------------------------------


@durable_execution
def double(event: Any, context: DurableContext) -> Any:
    return context.step(lambda _: event * 2, name="twice")


def test_a_real_server_starts_an_execution_and_tells_of_it(connect: Connect) -> None:
    with Node(MemoryStore(), handlers={"double": double}) as node:
        client = connect(node.url)
        begun = client.call("Invoke", FunctionName="double:$LATEST", DurableExecutionName="one", Payload=b"21")
        assert (begun["Payload"], begun["StatusCode"]) == (b"42", 200)
        view = client.call("GetDurableExecution", DurableExecutionArn=begun["DurableExecutionArn"])
        assert (view["Status"], view["Result"]) == ("SUCCEEDED", "42")
        events = list(
            client.paginate(
                "GetDurableExecutionHistory", "Events", DurableExecutionArn=begun["DurableExecutionArn"], MaxItems=1
            )
        )
        assert [event["EventId"] for event in events] == list(range(1, len(events) + 1))
        with pytest.raises(ApiError) as caught:
            client.call("GetDurableExecution", DurableExecutionArn=ARN)
        assert (caught.value.code, caught.value.status) == ("ResourceNotFoundException", 404)


def test_a_body_that_is_refused_before_it_was_read_has_its_answer(connect: Connect) -> None:
    """The server answers and closes while the client still sends."""
    with Node(MemoryStore(), handlers={"double": double}) as node:
        client = connect(node.url)
        for _ in range(5):
            with pytest.raises(ApiError, match="Request must be smaller") as caught:
                client.call("Invoke", FunctionName="double:$LATEST", Payload=b"1" * 30_000_000)
            assert caught.value.code == "RequestTooLargeException"


def test_the_client_is_imported_without_what_it_needs_later() -> None:
    program = (
        "import sys, perdure.client.client; print([m for m in ('http.client', 'ssl', 'boto3') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
