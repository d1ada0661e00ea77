"""A remote runner drives functions that are deployed: here, at a Perdure server on this machine."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from perdure import DurableContext, durable_execution
from perdure.client.errors import ClientError
from perdure.config import StepConfig
from perdure.model.error import InvalidParameterValue, ResourceNotFound
from perdure.retries import RetryPresets
from perdure.testing import (
    DurableFunctionCloudTestRunner,
    DurableFunctionsTestError,
    RemoteRunner,
    ServerRunner,
    WallTimeout,
)
from perdure.testing.calling import Place, place_of
from support.scripted_http import Answer, Server


@durable_execution(name="order")
def order(event: Any, context: DurableContext) -> Any:
    price = context.step(lambda _: 12, name="price")
    said = context.create_callback(name="barista").result()
    return {"price": price, "said": said, "sku": event["sku"]}


@durable_execution(name="failing")
def failing(event: Any, context: DurableContext) -> Any:
    def body() -> None:
        raise ValueError("no tea")

    context.step(body, name="brew", config=StepConfig(retry_strategy=RetryPresets.none()))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    functions = {"order": order, "failing": failing}
    with ServerRunner(functions, skip_time=False, same_store=True) as server:
        yield server.url


def test_a_deployed_function_is_run_answered_and_looked_at(url: str) -> None:
    with RemoteRunner("order", endpoint=url) as runner:
        execution = runner.start({"sku": "tea"}, name="a-tea")
        assert runner.start({"sku": "tea"}, name="a-tea") == execution
        execution.callback("barista").succeed("soon")
        result = execution.result()
    result.assert_succeeded({"price": 12, "said": "soon", "sku": "tea"})
    result.assert_operations(["price", "barista"])
    assert (result.name, result.op("price").value) == ("a-tea", 12)
    assert [each.status for each in result.invocations] == ["PENDING", "SUCCEEDED"]
    assert result.wall_time < timedelta(seconds=30)


def test_a_failure_of_a_deployed_function_is_raised_if_that_is_asked_for(url: str) -> None:
    with RemoteRunner("failing", endpoint=url) as runner:
        result = runner.run(None)
        assert (result.status, result.error.message) == ("FAILED", "no tea")
        with pytest.raises(Exception, match="no tea"):
            runner.run(None, raises=True)


def test_an_execution_elsewhere_is_stopped_paused_and_resumed(url: str) -> None:
    with RemoteRunner("order", endpoint=url) as runner:
        execution = runner.start({"sku": "tea"})
        execution.callback("barista").wait()
        execution.pause()
        assert execution.status == "PAUSED"
        execution.resume()
        execution.stop("enough")
        result = execution.result()
    assert (result.execution_status, result.error.message) == ("STOPPED", "enough")


def test_what_is_waited_for_elsewhere_is_told_when_there_is_no_time_left(url: str) -> None:
    """[T9]"""
    with RemoteRunner("order", endpoint=url) as runner, pytest.raises(WallTimeout, match=r"barista +CALLBACK STARTED"):
        runner.run({"sku": "tea"}, wall_timeout=0.1)


def test_a_name_or_an_endpoint_that_is_not_there_is_named(url: str) -> None:
    with RemoteRunner("nobody", endpoint=url) as runner, pytest.raises(ResourceNotFound, match="nobody"):
        runner.run()
    with RemoteRunner("order", endpoint="http://127.0.0.1:1") as runner, pytest.raises(ClientError, match="no answer"):
        runner.run()
    with pytest.raises(ClientError, match="an endpoint must be"):
        RemoteRunner("order", endpoint="localhost")


def test_the_official_cloud_runner_drives_a_deployed_function(url: str) -> None:
    """[T1]"""
    runner = DurableFunctionCloudTestRunner("order", lambda_endpoint=url, poll_interval=0.05)
    arn = runner.run_async({"sku": "tea"})
    callback_id = runner.wait_for_callback(arn, "barista", timeout=20)
    runner.send_callback_heartbeat(callback_id)
    runner.send_callback_success(callback_id, b'"soon"')
    result = runner.wait_for_result(arn, timeout=20)
    assert json.loads(result.result) == {"price": 12, "said": '"soon"', "sku": "tea"}
    assert result.get_callback("barista").callback_id == callback_id
    with pytest.raises(DurableFunctionsTestError, match="it is SUCCEEDED already"):
        runner.wait_for_callback(arn, "barista", timeout=20)
    with pytest.raises(NotImplementedError):
        runner.pause_execution(arn)
    with pytest.raises(NotImplementedError):
        runner.resume_execution(arn)
    with pytest.raises(TimeoutError):
        runner.run({"sku": "tea"}, timeout=0.1)
    runner.close()


ARN = (
    "arn:aws:lambda:us-east-1:123456789012:function:order:7/durable-execution/tea/0199aaaa-0000-7000-8000-000000000000"
)


def view(status: str, **more: Any) -> Answer:
    """An answer of GetDurableExecution as AWS gives it."""
    given = {
        "DurableExecutionArn": ARN,
        "DurableExecutionName": "tea",
        "FunctionArn": ARN.partition("/")[0],
        "StartTimestamp": 1764547200.0,
        "Status": status,
        "Version": "7",
    }
    return Answer(body={**given, **more})


def test_aws_which_tells_no_news_is_asked_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("PERDURE_SECRET_ACCESS_KEY", "secret")
    started = {
        "ExecutionStartedDetails": {"Input": {"Payload": "3"}, "ExecutionTimeout": 60},
        "EventType": "ExecutionStarted",
        "EventId": 1,
        "Id": "0199aaaa-0000-7000-8000-000000000000",
        "EventTimestamp": 1764547200.0,
    }
    ended = {
        "ExecutionSucceededDetails": {"Result": {"Payload": "4"}},
        "EventType": "ExecutionSucceeded",
        "EventId": 2,
        "Id": "0199aaaa-0000-7000-8000-000000000000",
        "EventTimestamp": 1764547201.0,
    }
    over = view("SUCCEEDED", Result="4", EndTimestamp=1764547201.0)
    server = Server(
        [
            Answer(202, headers=(("X-Amz-Durable-Execution-Arn", ARN),)),
            Answer(403, {"Message": "no such operation"}, (("x-amzn-ErrorType", "AccessDeniedException"),)),
            view("RUNNING"),
            view("RUNNING"),
            over,
            over,
            Answer(body={"Events": [started], "NextMarker": "1"}),
            Answer(body={"Events": [ended]}),
        ]
    )
    with RemoteRunner("order", endpoint=server.url, qualifier="live", poll_interval=0.01) as runner:
        result = runner.run(3)
    server.close()
    assert (result.result, result.name, result.duration) == (4, "tea", timedelta(seconds=1))
    assert [event.type for event in result.facts.events] == ["ExecutionStarted", "ExecutionSucceeded"]
    invoke = server.asked[0]
    assert invoke.target.endswith("/functions/order/invocations?Qualifier=live")
    assert invoke.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert invoke.headers["x-amz-durable-execution-name"].startswith("test-")


def test_an_execution_time_out_of_its_own_is_for_perdure_servers() -> None:
    server = Server([Answer(404, {"Message": "?"}, (("x-amzn-ErrorType", "UnknownOperationException"),))])
    with (
        RemoteRunner("order", endpoint=server.url) as runner,
        pytest.raises(InvalidParameterValue, match="the function's DurableConfig has its execution time-out"),
    ):
        runner.run(3, execution_timeout=9)
    server.close()


@pytest.mark.parametrize(
    ("endpoint", "region", "environment", "place"),
    [
        ("http://here:1", None, {}, Place("http://here:1", "us-east-1")),
        (None, None, {"PERDURE_ENDPOINT": "http://a:1"}, Place("http://a:1", "us-east-1")),
        (None, "eu-west-1", {"AWS_ENDPOINT_URL_LAMBDA": "http://b:1"}, Place("http://b:1", "eu-west-1")),
        (None, None, {"AWS_REGION": "eu-west-1"}, Place("https://lambda.eu-west-1.amazonaws.com", "eu-west-1")),
        (None, "cn-north-1", {}, Place("https://lambda.cn-north-1.amazonaws.com.cn", "cn-north-1")),
    ],
)
def test_a_server_is_looked_for_where_the_environment_says(
    endpoint: str | None, region: str | None, environment: dict[str, str], place: Place
) -> None:
    assert place_of(endpoint, region, environment) == place
