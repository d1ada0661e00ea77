"""Handlers on the whole way of Lambda: boto3 over HTTP, the official testing package in process and as a server."""

import asyncio
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner

from perdure import CallbackError, DurableContext, Duration, RetryDecision, StepConfig, durable_execution
from perdure.exceptions import CheckpointError, GetExecutionStateError, StepError
from perdure.lambda_service import LambdaClient
from perdure.model.execution import ExecutionStatus
from perdure.sdk.entry import ANSWER_BYTES_MAX
from support.lambda_http import LambdaApi, Refusal, serving
from support.official import under_official_runner
from support.remote import Remote

WAIT_S = 90


def again_at_once(error: Exception, attempt: int) -> RetryDecision:
    return RetryDecision.retry(Duration.from_seconds(1)) if attempt < 3 else RetryDecision.no_retry()


@durable_execution(name="fn")
def journey(event: Any, context: DurableContext) -> Any:
    order = context.step(lambda _: {"order": event}, name="order")
    context.wait(Duration.from_seconds(2), name="cool-down")

    def charge(step: Any) -> int:
        if step.attempt < 3:
            raise ConnectionError("the bank is closed")
        return int(step.attempt)

    attempts = context.step(charge, name="charge", config=StepConfig(retry_strategy=again_at_once))
    shipped = context.run_in_child_context(lambda child: child.step(lambda _: "é", name="pack"), name="ship")
    return [order, attempts, shipped]


@durable_execution(name="fn")
def failing(event: Any, context: DurableContext) -> str:
    def raises(_: Any) -> None:
        raise KeyError("stock")

    try:
        context.step(raises, name="look", config=StepConfig(retry_strategy=lambda *_: RetryDecision.no_retry()))
    except StepError as error:
        return f"{error.error_type}: {error.message}"
    return "found"


@durable_execution(name="fn")
def large(event: Any, context: DurableContext) -> str:
    return "x" * (ANSWER_BYTES_MAX - 1)


# --- boto3 over HTTP ---------------------------------------------------------------------------------------------


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Point boto3 at an endpoint, in the way its users do; the value is the client that handlers get."""
    monkeypatch.setattr(LambdaClient, "_shared", None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    made: list[Any] = []

    def point(url: str) -> Any:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)
        made.append(LambdaClient.initialize_client().client)
        return made[0]

    yield point
    for client in made:
        client.close()


@pytest.mark.parametrize("page", [1000, 2])
def test_an_execution_runs_over_boto3_and_http(page: int, aws: Callable[[str], Any]) -> None:
    """At an endpoint that boto3 takes from the environment; the service is told who calls."""
    service = Remote(journey, page=page)
    api = LambdaApi(service.wire)
    with serving(api) as url:
        aws(url)
        assert service.run(7).result == [{"order": 7}, 3, "é"]
    assert [answer["Status"] for answer in service.answers] == ["PENDING"] * 3 + ["SUCCEEDED"]
    assert all("perdure/" in agent for agent in api.agents)
    client_tokens = [body["ClientToken"] for kind, body in service.wire.calls if kind == "checkpoint"]
    assert len(set(client_tokens)) == len(client_tokens) == 7


def test_a_result_over_the_limit_goes_over_http(aws: Callable[[str], Any]) -> None:
    """[74]"""
    service = Remote(large)
    with serving(LambdaApi(service.wire)) as url:
        aws(url)
        assert service.run().status is ExecutionStatus.SUCCEEDED
    assert service.answers == [{"Status": "SUCCEEDED", "Result": ""}]


STALE = (400, "InvalidParameterValueException", "Invalid checkpoint token")


@pytest.mark.parametrize(
    ("refusals", "outcome"),
    [
        ([STALE], CheckpointError),
        ([(429, "TooManyRequestsException", "slow down")] * 2, CheckpointError),
        ([(500, "ServiceException", "oh")] * 2, CheckpointError),
        ([None] * 2, CheckpointError),
        ([(400, "InvalidParameterValueException", "Inconsistent operation name.")], "FAILED"),
        ([(403, "AccessDeniedException", "who are you")], "FAILED"),
        ([(502, "KMSDisabledException", "no key")] * 2, "FAILED"),
        ([(503, "ServiceUnavailable", "a moment")], "SUCCEEDED"),
        ([None], "SUCCEEDED"),
    ],
)
def test_refusals_of_a_checkpoint_end_what_they_must(
    refusals: list[Refusal | None], outcome: Any, aws: Callable[[str], Any]
) -> None:
    """[75] boto3 itself tries again first: here, once."""
    handler: Any = durable_execution(name="fn")(lambda event, context: context.step(lambda _: 1, name="a"))
    service = Remote(handler)
    api = LambdaApi(service.wire)
    service.start()
    event = json.loads(json.dumps(service.wire.event_of(service.queue.work[0])))  # type: ignore[arg-type]
    with serving(api) as url:
        aws(url)
        api.refusals += refusals
        if isinstance(outcome, str):
            assert handler(event, None)["Status"] == outcome
        else:
            with pytest.raises(outcome) as raised:
                handler(event, None)
            assert raised.value.is_retryable()
    assert api.refusals == []


def test_a_state_that_boto3_can_t_load_now_ends_the_invocation(aws: Callable[[str], Any]) -> None:
    """[75]"""
    service = Remote(journey, page=1)
    api = LambdaApi(service.wire)
    with serving(api) as url:
        aws(url)
        service.run(7, until_s=1)
        service.clock.now += 5_000
        service.service.tick()
        event = json.loads(json.dumps(service.wire.event_of(service.queue.work[0])))  # type: ignore[arg-type]
        api.refusals.append(STALE)
        with pytest.raises(GetExecutionStateError) as raised:
            journey(event, None)
    assert raised.value.is_retryable()


# --- the official testing package --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the event loops that the official package leaves open."""
    made: list[asyncio.AbstractEventLoop] = []
    new_event_loop = asyncio.new_event_loop

    def remembered() -> asyncio.AbstractEventLoop:
        made.append(new_event_loop())
        return made[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", remembered)
    yield
    for loop in made:
        loop.close()


def run_officially(handler: Callable[[Any, Any], Any], event: Any, **options: Any) -> Any:
    with DurableFunctionTestRunner(under_official_runner(handler), **options) as runner:
        return runner.run(input=json.dumps(event), execution_timeout=WAIT_S)


@pytest.mark.parametrize("page_bytes", [None, 600])
def test_handlers_run_under_the_official_test_runner(page_bytes: int | None) -> None:
    """With pages so small that the operations don't fit into the event too."""
    result = run_officially(journey, 7, max_invocation_page_bytes=page_bytes)
    assert (result.status.value, json.loads(result.result)) == ("SUCCEEDED", [{"order": 7}, 3, "é"])
    assert json.loads(result.get_step("order").result) == {"t": "m", "v": {"order": {"t": "i", "v": 7}}}
    assert result.get_wait("cool-down").status.value == "SUCCEEDED"
    assert result.get_context("ship").child_operations[0].name == "pack"


def test_failures_read_the_same_under_the_official_test_runner() -> None:
    result = run_officially(failing, None)
    assert json.loads(result.result) == "KeyError: 'stock'"
    assert result.get_step("look").error.type == "KeyError"


def test_a_handler_s_own_failure_is_seen_by_the_official_test_runner() -> None:
    @durable_execution(name="fn")
    def handler(event: Any, context: DurableContext) -> None:
        raise LookupError("no such order")

    result = run_officially(handler, None)
    assert (result.status.value, result.error.type, result.error.message) == ("FAILED", "LookupError", "no such order")


def test_a_result_over_the_limit_reaches_the_official_test_runner() -> None:
    """[74]"""
    assert len(run_officially(large, None).result) == ANSWER_BYTES_MAX + 1


def test_a_large_result_behind_its_start_reaches_the_official_test_runner() -> None:
    """[77] With the official SDK this one hangs."""
    handler: Any = durable_execution(name="fn")(lambda event, ctx: len(ctx.step(lambda _: "x" * 800_000, name="large")))
    assert json.loads(run_officially(handler, None).result) == 800_000


def test_callbacks_are_answered_under_the_official_test_runner() -> None:
    @durable_execution(name="fn")
    def handler(event: Any, context: DurableContext) -> str:
        opened = context.create_callback(name="approval")
        try:
            return str(opened.result())
        except CallbackError as error:
            return f"refused: {error.message}"

    with DurableFunctionTestRunner(under_official_runner(handler)) as runner:
        arn = runner.run_async(input="{}", execution_timeout=WAIT_S)
        callback_id = runner.wait_for_callback(arn, name="approval", timeout=WAIT_S)
        runner.send_callback_success(callback_id, b'"yes"')
        assert json.loads(runner.wait_for_result(arn, timeout=WAIT_S).result) == '"yes"'


SERVER = """
import sys
from aws_durable_execution_sdk_python_testing import WebRunner, WebRunnerConfig
from aws_durable_execution_sdk_python_testing.web.server import WebServiceConfig

runner = WebRunner(WebRunnerConfig(WebServiceConfig("127.0.0.1", 0), sys.argv[1], skip_time=True))
runner.start()
print(runner._server.server_port, flush=True)
runner.serve_forever()
"""


@pytest.fixture
def emulator(aws: Callable[[str], Any]) -> Iterator[tuple[LambdaApi, str, Any]]:
    """The official local server, invoking functions through Lambda's API; boto3 is pointed at it."""
    functions = LambdaApi()
    with serving(functions) as lambda_url:
        command = [sys.executable, "-c", SERVER, lambda_url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
            yield functions, url, aws(url)
            server.kill()


def test_handlers_run_under_the_official_local_server(emulator: tuple[LambdaApi, str, Any]) -> None:
    """Over HTTP in both directions, with events of JSON and boto3 to and fro."""
    functions, url, client = emulator
    ended = threading.Event()
    names: list[str] = []

    def invoked(event: Any, context: Any) -> Any:
        answer = journey(event, context)
        names.append(event["InitialExecutionState"]["Operations"][0]["Name"])
        if answer["Status"] != "PENDING":
            ended.set()
        return answer

    functions.functions["fn"] = invoked
    start = {
        "AccountId": "123456789012",
        "FunctionName": "fn",
        "FunctionQualifier": "$LATEST",
        "ExecutionName": "order-7",
        "ExecutionTimeoutSeconds": 600,
        "ExecutionRetentionPeriodDays": 1,
        "InvocationId": "one",
        "Input": "7",
    }
    request = urllib.request.Request(
        f"{url}/start-durable-execution", json.dumps(start).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        arn = json.load(response)["ExecutionArn"]
    assert ended.wait(WAIT_S)
    found = client.get_durable_execution(DurableExecutionArn=arn)
    while found["Status"] == "RUNNING":  # the answer is on its way
        found = client.get_durable_execution(DurableExecutionArn=arn)
    assert (found["Status"], json.loads(found["Result"])) == ("SUCCEEDED", [{"order": 7}, 3, "é"])
    assert set(names) == {"order-7"}
