"""The official web runner: a server for handlers behind a Lambda endpoint."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import DurableContext, durable_execution
from perdure.client.client import Client
from perdure.config import CallbackConfig, Duration
from perdure.sdk.http_client import HttpClient
from perdure.testing import (
    DurableFunctionsLocalRunnerError,
    FunctionConfig,
    FunctionConfigs,
    RemoteRunner,
    Result,
    StoreType,
    WebRunner,
    WebRunnerConfig,
    WebServiceConfig,
)
from support.lambda_http import LambdaApi, serving

Point = Callable[[str], None]


@durable_execution(name="far")
def far(event: Any, context: DurableContext) -> Any:
    first = context.step(lambda _: event + 1, name="first")
    context.wait(86_400, name="a day")
    return [context.invoke("child", first, name="child"), context.invoke("plain", first, name="plain")]


@durable_execution(name="child")
def child(event: int, context: DurableContext) -> int:
    context.wait(60)
    return event * 10


@durable_execution(name="asking")
def asking(event: Any, context: DurableContext) -> Any:
    timeout = CallbackConfig(timeout=Duration.from_hours(1))
    return context.create_callback(name="approve", config=timeout).result()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the handlers are."""
    for name in ("AWS_ENDPOINT_URL_LAMBDA", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    functions: dict[str, Callable[[Any, Any], Any]] = {
        "far": far,
        "child": child,
        "asking": asking,
        "plain": lambda event, _context: event * 100,
    }
    with serving(LambdaApi(functions=functions)) as url:
        yield url


@pytest.fixture
def point(monkeypatch: pytest.MonkeyPatch) -> Iterator[Point]:
    """Says where the server of the handlers is."""
    made: list[HttpClient] = []

    def at(url: str) -> None:
        monkeypatch.setenv("PERDURE_ENDPOINT", url)
        made.append(HttpClient.shared(url))

    yield at
    for client in made:
        client.endpoint.close()


def config_of(endpoint: str, **more: Any) -> WebRunnerConfig:
    return WebRunnerConfig(web_service=WebServiceConfig(port=0), lambda_endpoint=endpoint, **more)


def ran(url: str, function: str, payload: Any) -> Result:
    with RemoteRunner(function, endpoint=url) as runner:
        result = runner.run(payload, execution_timeout=timedelta(days=3))
    assert isinstance(result, Result)
    return result


def test_the_official_defaults_are_there() -> None:
    config = WebRunnerConfig(WebServiceConfig())
    assert (config.web_service.host, config.web_service.port, config.web_service.log_level) == ("localhost", 5000, 20)
    assert config.lambda_endpoint == "http://127.0.0.1:3001"
    assert config.local_runner_endpoint == "http://0.0.0.0:5000"
    assert (config.local_runner_region, config.local_runner_mode) == ("us-west-2", "local")
    assert (config.store_type, config.store_path) == (StoreType.MEMORY, None)
    assert (config.invocation_timeout_seconds, config.skip_time) == (900, False)
    assert (config.max_invocation_page_bytes, config.function_configs) == (None, None)


def test_handlers_elsewhere_are_driven_over_days_that_are_skipped(endpoint: str, point: Point) -> None:
    configs = FunctionConfigs.from_dict({"child": {"DurableConfig": {"ExecutionTimeout": 900}}, "plain": None})
    config = config_of(endpoint, skip_time=True, function_configs=configs, max_invocation_page_bytes=300)
    with WebRunner(config) as runner:
        point(runner.url)
        result = ran(runner.url, "far", 1)
    result.assert_succeeded([20, 200])
    assert result.duration == timedelta(days=1, minutes=1)
    assert ":us-west-2:" in result.arn


def test_skipping_time_leaves_a_callback_time_to_be_answered(endpoint: str, point: Point) -> None:
    with WebRunner(config_of(endpoint, skip_time=True)) as runner:
        point(runner.url)
        with RemoteRunner("asking", endpoint=runner.url) as remote:
            execution = remote.start(execution_timeout=timedelta(days=1))
            execution.callback("approve").wait()
            execution.callback("approve").succeed("yes")
            assert execution.result().result == "yes"


def test_executions_in_a_folder_go_on_when_the_server_is_started_again(
    endpoint: str, tmp_path: Path, point: Point
) -> None:
    config = config_of(endpoint, store_type=StoreType.FILESYSTEM, store_path=str(tmp_path / "kept"))
    runner = WebRunner(config)
    runner.start()
    point(runner.url)
    with RemoteRunner("asking", endpoint=runner.url) as remote:
        arn = remote.start(execution_timeout=60)
        callback_id = arn.callback("approve").id
    runner.stop()
    runner.start()
    point(runner.url)
    with RemoteRunner("asking", endpoint=runner.url) as remote:
        remote.backend.succeed_callback(callback_id, "late")
        assert remote.finish(str(arn)).result == "late"
    runner.stop()


def test_a_web_runner_says_what_it_is_not_in_the_state_for(endpoint: str) -> None:
    runner = WebRunner(config_of(endpoint))
    runner.stop()
    with pytest.raises(DurableFunctionsLocalRunnerError, match="has not been started"):
        runner.serve_forever()
    with runner:
        with pytest.raises(DurableFunctionsLocalRunnerError, match="is already running at http://localhost:"):
            runner.start()
        with Client(runner.url) as client:
            assert client.request("GET", "/health") == {"status": "healthy"}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("perdure-http")]


def test_serving_forever_ends_when_another_thread_stops_the_server(endpoint: str) -> None:
    with WebRunner(config_of(endpoint)) as runner:
        stopper = threading.Thread(target=runner.stop)
        stopper.start()
        runner.serve_forever()
        stopper.join()


def test_configurations_of_functions_are_read_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "functions.json"
    file.write_text('{"a": null, "b": {"DurableConfig": {"ExecutionTimeout": 9, "RetentionPeriodInDays": 2}}}')
    configs = FunctionConfigs.from_value(f"file://{file}")
    assert configs.lookup("a") == FunctionConfig()
    assert configs.lookup("b") == FunctionConfig(True, 9, 2)
    assert configs.lookup("c") is None
    for wrong, text in (
        ("[]", "must be an object by function name"),
        ('{"a": 1}', "configuration 'a' must be a JSON object or null"),
        ('{"a": {"DurableConfig": 1}}', "DurableConfig of 'a' must be a JSON object"),
        ('{"a": {"DurableConfig": {"ExecutionTimeout": 0}}}', "ExecutionTimeout of 'a' must be a whole number from 1"),
    ):
        with pytest.raises(ValueError, match=text):
            FunctionConfigs.from_value(wrong)
