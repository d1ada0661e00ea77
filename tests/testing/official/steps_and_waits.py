"""Steps, retries, semantics and waits, tested as the official documentation tests them."""

import json
from datetime import timedelta
from typing import Any

from aws_durable_execution_sdk_python import DurableContext, StepContext, StepError, durable_execution, durable_step
from aws_durable_execution_sdk_python.config import Duration, StepConfig, StepSemantics
from aws_durable_execution_sdk_python.execution import InvocationStatus
from aws_durable_execution_sdk_python.lambda_service import OperationStatus, OperationType
from aws_durable_execution_sdk_python.retries import RetryPresets, RetryStrategyConfig, create_retry_strategy
from aws_durable_execution_sdk_python.serdes import ExtendedTypeSerDes, SerDes, SerDesContext
from aws_durable_execution_sdk_python_testing import DurableFunctionTestResult, DurableFunctionTestRunner
from aws_durable_execution_sdk_python_testing.runner import StepOperation, WaitOperation


def read(payload: str | None) -> Any:
    assert payload is not None
    return ExtendedTypeSerDes().deserialize(payload, SerDesContext("", ""))


@durable_step
def add(_step: StepContext, a: int, b: int) -> int:
    return a + b


@durable_execution
def adds(event: Any, context: DurableContext) -> int:
    return context.step(add(event["a"], event["b"]))


def test_a_decorated_step_has_the_function_s_name_and_its_result() -> None:
    with DurableFunctionTestRunner(handler=adds) as runner:
        result: DurableFunctionTestResult = runner.run(input='{"a": 5, "b": 3}', execution_timeout=10)
    assert result.status is InvocationStatus.SUCCEEDED
    assert result.result == json.dumps(8)
    step: StepOperation = result.get_step("add")
    assert isinstance(step, StepOperation)
    assert step.operation_type is OperationType.STEP
    assert step.status is OperationStatus.SUCCEEDED
    assert step.result == json.dumps(8)
    assert (step.attempt, step.error, step.next_attempt_timestamp) == (1, None, None)
    assert step.child_operations == []


@durable_execution
def three_steps(_event: Any, context: DurableContext) -> list[Any]:
    first = context.step(lambda _: "one", name="first")
    second = context.step(lambda _: {"two": 2, "list": [1, None]}, name="second")
    third = context.step(lambda _: None)
    return [first, second, third]


def test_operations_are_in_order_and_results_are_recorded_texts() -> None:
    with DurableFunctionTestRunner(handler=three_steps) as runner:
        result = runner.run(input="null", execution_timeout=10)
    assert [operation.name for operation in result.operations] == ["first", "second", None]
    assert result.get_step("first").result == '"one"'
    assert read(result.get_step("second").result) == {"two": 2, "list": [1, None]}
    assert json.loads(result.result or "") == ["one", {"two": 2, "list": [1, None]}, None]
    assert result.error is None


@durable_execution
def flaky(_event: Any, context: DurableContext) -> int:
    def fails_twice(step: StepContext) -> int:
        if step.attempt < 3:
            raise ConnectionError(f"attempt {step.attempt}")
        return step.attempt

    strategy = create_retry_strategy(RetryStrategyConfig(max_attempts=5, initial_delay=Duration.from_seconds(2)))
    return context.step(fails_twice, name="flaky", config=StepConfig(retry_strategy=strategy))


def test_a_step_is_tried_again_until_it_succeeds() -> None:
    with DurableFunctionTestRunner(handler=flaky) as runner:
        result = runner.run(input="{}", execution_timeout=60)
    assert result.status is InvocationStatus.SUCCEEDED
    assert result.result == "3"
    assert result.get_step("flaky").attempt == 3


@durable_execution
def exhausted(_event: Any, context: DurableContext) -> None:
    def fails(step: StepContext) -> None:
        raise ValueError(f"attempt {step.attempt}")

    strategy = create_retry_strategy(RetryStrategyConfig(max_attempts=2, initial_delay=Duration.from_seconds(1)))
    context.step(fails, name="fails", config=StepConfig(retry_strategy=strategy))


def test_a_step_whose_attempts_are_used_up_fails_the_execution() -> None:
    with DurableFunctionTestRunner(handler=exhausted) as runner:
        result = runner.run(input="{}", execution_timeout=60)
    assert result.status is InvocationStatus.FAILED
    assert result.result is None
    assert result.error is not None
    assert result.error.message == "attempt 2"
    assert "StepError" in str(result.error.type)
    step = result.get_step("fails")
    assert step.status is OperationStatus.FAILED
    assert step.error is not None
    assert (step.error.message, step.error.type) == ("attempt 2", "ValueError")


@durable_execution
def caught(_event: Any, context: DurableContext) -> str:
    def fails(_step: StepContext) -> None:
        raise KeyError("missing")

    try:
        context.step(fails, name="fails", config=StepConfig(retry_strategy=RetryPresets.none()))
    except StepError as error:
        return f"caught {error}"
    return "nothing to catch"


def test_a_caught_failure_is_no_failure_of_the_execution() -> None:
    with DurableFunctionTestRunner(handler=caught) as runner:
        result = runner.run(input="{}", execution_timeout=10)
    assert result.status is InvocationStatus.SUCCEEDED
    assert json.loads(result.result or "") == "caught 'missing'"
    assert result.get_step("fails").status is OperationStatus.FAILED


@durable_execution
def at_most_once(_event: Any, context: DurableContext) -> str:
    config = StepConfig(step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY)
    return context.step(lambda _: "once", name="once", config=config)


def test_an_at_most_once_step_runs() -> None:
    with DurableFunctionTestRunner(handler=at_most_once) as runner:
        result = runner.run(input="{}", execution_timeout=10)
    assert result.result == '"once"'


class Pipes(SerDes[list[str]]):
    def serialize(self, value: list[str], _: SerDesContext) -> str:
        return "|".join(value)

    def deserialize(self, data: str, _: SerDesContext) -> list[str]:
        return data.split("|")


@durable_execution
def with_serdes(_event: Any, context: DurableContext) -> list[str]:
    return context.step(lambda _: ["a", "b"], name="pipes", config=StepConfig(serdes=Pipes()))


def test_a_step_s_own_serdes_writes_its_result() -> None:
    with DurableFunctionTestRunner(handler=with_serdes) as runner:
        result = runner.run(input="{}", execution_timeout=10)
    assert result.get_step("pipes").result == "a|b"
    assert json.loads(result.result or "") == ["a", "b"]


@durable_execution
def waits(_event: Any, context: DurableContext) -> str:
    context.wait(Duration.from_seconds(5), name="short")
    context.wait(Duration.from_hours(12))
    context.wait(Duration.from_days(1), name="long")
    return "awake"


def test_waits_are_skipped_and_last_as_long_as_they_say() -> None:
    with DurableFunctionTestRunner(handler=waits) as runner:
        result = runner.run(input="{}", execution_timeout=200_000)
    assert result.result == '"awake"'
    short: WaitOperation = result.get_wait("short")
    assert isinstance(short, WaitOperation)
    assert short.sub_type == "Wait"
    assert short.scheduled_end_timestamp is not None
    assert short.start_timestamp is not None
    assert short.scheduled_end_timestamp - short.start_timestamp == timedelta(seconds=5)
    long = result.get_wait("long")
    assert long.end_timestamp is not None
    assert long.start_timestamp is not None
    assert timedelta(days=1) <= long.end_timestamp - long.start_timestamp < timedelta(days=1, seconds=5)
    assert [operation.operation_type for operation in result.operations] == [OperationType.WAIT] * 3


@durable_execution
def waits_in_real_time(_event: Any, context: DurableContext) -> None:
    context.wait(Duration.from_seconds(1), name="second")


def test_time_can_be_left_as_it_is() -> None:
    with DurableFunctionTestRunner(handler=waits_in_real_time, skip_time=False) as runner:
        result = runner.run(input="{}", execution_timeout=10)
    assert result.status is InvocationStatus.SUCCEEDED
