"""Callbacks and chained invokes, tested as the official documentation tests them."""

import json
from typing import Any

from aws_durable_execution_sdk_python import (
    CallbackError,
    DurableContext,
    InvokeError,
    durable_execution,
)
from aws_durable_execution_sdk_python.config import CallbackConfig, Duration, StepConfig, WaitForCallbackConfig
from aws_durable_execution_sdk_python.execution import ErrorObject, InvocationStatus
from aws_durable_execution_sdk_python.lambda_service import (
    OperationPayload,
    OperationStatus,
    OperationSubType,
)
from aws_durable_execution_sdk_python.retries import RetryPresets
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner
from aws_durable_execution_sdk_python_testing.runner import CallbackOperation, InvokeOperation


@durable_execution
def approval(_event: Any, context: DurableContext) -> Any:
    answer = context.wait_for_callback(lambda _id, _context: None, name="approve")
    return {"answer": answer}


def test_a_callback_is_answered_with_a_result() -> None:
    with DurableFunctionTestRunner(handler=approval, poll_interval=0.05) as runner:
        arn = runner.run_async(input="{}", execution_timeout=60)
        callback_id = runner.wait_for_callback(execution_arn=arn, timeout=10)
        runner.send_callback_success(callback_id=callback_id, result=b"granted")
        result = runner.wait_for_result(execution_arn=arn, timeout=20)
    assert result.status is InvocationStatus.SUCCEEDED
    assert json.loads(result.result or "") == {"answer": "granted"}
    context = result.get_context("approve")
    assert context.sub_type == "WaitForCallback"
    callback: CallbackOperation = context.get_callback("approve create callback id")
    assert isinstance(callback, CallbackOperation)
    assert callback.sub_type == OperationSubType.CALLBACK
    assert [
        each.name for each in result.get_all_operations() if each.sub_type == OperationSubType.WAIT_FOR_CALLBACK
    ] == ["approve"]
    assert (callback.callback_id, callback.status) == (callback_id, OperationStatus.SUCCEEDED)
    granted: OperationPayload | None = callback.result
    assert granted == "granted"
    assert context.get_step("approve submitter").status is OperationStatus.SUCCEEDED


@durable_execution
def two_callbacks(_event: Any, context: DurableContext) -> Any:
    first = context.create_callback(name="first")
    second = context.create_callback(name="second")
    return [first.result(), second.result()]


def test_callbacks_are_found_by_name() -> None:
    with DurableFunctionTestRunner(handler=two_callbacks, poll_interval=0.05) as runner:
        arn = runner.run_async(input="{}", execution_timeout=60)
        second = runner.wait_for_callback(execution_arn=arn, name="second", timeout=10)
        first = runner.wait_for_callback(execution_arn=arn, name="first", timeout=10)
        assert runner.wait_for_callback(execution_arn=arn, timeout=10) == second
        runner.send_callback_heartbeat(callback_id=second)
        runner.send_callback_success(callback_id=second, result=b"2")
        runner.send_callback_success(callback_id=first, result=b"1")
        result = runner.wait_for_result(execution_arn=arn, timeout=20)
    assert json.loads(result.result or "") == ["1", "2"]
    assert result.get_callback("first").callback_id == first


def test_a_callback_without_a_result_is_none() -> None:
    with DurableFunctionTestRunner(handler=approval, poll_interval=0.05) as runner:
        arn = runner.run_async(input="{}", execution_timeout=60)
        runner.send_callback_success(runner.wait_for_callback(arn))
        result = runner.wait_for_result(arn, timeout=20)
    assert json.loads(result.result or "") == {"answer": None}


@durable_execution
def rejected(_event: Any, context: DurableContext) -> str:
    try:
        context.create_callback(name="ask").result()
    except CallbackError as error:
        return f"caught {error}"
    return "nothing"


def test_a_callback_is_answered_with_a_failure() -> None:
    with DurableFunctionTestRunner(handler=rejected, poll_interval=0.05) as runner:
        arn = runner.run_async(input="{}", execution_timeout=60)
        callback_id = runner.wait_for_callback(execution_arn=arn, name="ask", timeout=10)
        runner.send_callback_failure(callback_id=callback_id, error=ErrorObject("no way", "Refused", None, None))
        result = runner.wait_for_result(execution_arn=arn, timeout=20)
    assert json.loads(result.result or "") == "caught no way"
    callback = result.get_callback("ask")
    assert callback.status is OperationStatus.FAILED
    assert callback.error is not None
    assert (callback.error.type, callback.error.message) == ("Refused", "no way")


@durable_execution
def impatient(_event: Any, context: DurableContext) -> str:
    config = CallbackConfig(timeout=Duration.from_seconds(1))
    try:
        context.create_callback(name="ask", config=config).result()
    except CallbackError:
        return "nobody answered"
    return "answered"


def test_a_callback_times_out() -> None:
    with DurableFunctionTestRunner(handler=impatient) as runner:
        result = runner.run(input="{}", execution_timeout=30)
    assert json.loads(result.result or "") == "nobody answered"
    assert result.get_callback("ask").status is OperationStatus.TIMED_OUT


@durable_execution
def submitter_fails(_event: Any, context: DurableContext) -> None:
    def submit(_id: str, _context: Any) -> None:
        raise OSError("no line")

    context.wait_for_callback(submit, name="ask", config=WaitForCallbackConfig(retry_strategy=RetryPresets.none()))


def test_a_submitter_that_fails_fails_the_execution() -> None:
    with DurableFunctionTestRunner(handler=submitter_fails) as runner:
        result = runner.run(input="{}", execution_timeout=30)
    assert result.status is InvocationStatus.FAILED
    assert result.error is not None
    assert result.error.message == "no line"
    assert result.get_context("ask").get_step("ask submitter").status is OperationStatus.FAILED


# --- invokes -----------------------------------------------------------------------------------------------------


@durable_execution
def caller(event: Any, context: DurableContext) -> Any:
    return context.invoke("doubler", event, name="double")


@durable_execution
def durable_doubler(event: Any, context: DurableContext) -> Any:
    context.wait(Duration.from_hours(1), name="pause")
    return context.step(lambda _: event["n"] * 2, name="work")


def test_a_registered_function_is_invoked() -> None:
    with DurableFunctionTestRunner(handler=caller) as runner:
        chained = runner.register_function("doubler", lambda event, _context: event["n"] * 2)
        assert chained is runner
        result = runner.run(input='{"n": 4}', execution_timeout=30)
    assert result.result == "8"
    invoke: InvokeOperation = result.get_invoke("double")
    assert isinstance(invoke, InvokeOperation)
    assert (invoke.status, invoke.result, invoke.error) == (OperationStatus.SUCCEEDED, "8", None)


def test_a_registered_durable_function_runs_as_an_execution_of_its_own() -> None:
    with DurableFunctionTestRunner(handler=caller) as runner:
        runner.register_durable_function("doubler", durable_doubler, execution_timeout=7_200)
        arn = runner.run_async(input='{"n": 5}', execution_timeout=8_000)
        result = runner.wait_for_result(arn, timeout=20)
        events = runner.get_execution_history(arn, include_execution_data=True).events
        (started,) = [event for event in events if event.event_type == "ChainedInvokeStarted"]
        assert started.chained_invoke_started_details is not None
        child_arn = started.chained_invoke_started_details.durable_execution_arn
        assert child_arn is not None
        child = runner.get_execution_history(child_arn).events
    assert result.result == "10"
    assert {"WaitStarted", "WaitSucceeded", "StepSucceeded", "ExecutionSucceeded"} <= {
        each.event_type for each in child
    }


def test_a_function_that_fails_fails_the_invoke() -> None:
    def broken(_event: Any, _context: Any) -> None:
        raise ValueError("broken")

    with DurableFunctionTestRunner(handler=caller) as runner:
        runner.register_function("doubler", broken)
        result = runner.run(input='{"n": 4}', execution_timeout=30)
    assert result.status is InvocationStatus.FAILED
    invoke = result.get_invoke("double")
    assert invoke.status is OperationStatus.FAILED
    assert invoke.error is not None
    assert invoke.error.message == "broken"


@durable_execution
def durable_asker(_event: Any, context: DurableContext) -> Any:
    return context.create_callback(name="never").result()


def test_a_durable_function_that_takes_too_long_fails_the_invoke() -> None:
    with DurableFunctionTestRunner(handler=caller) as runner:
        runner.register_durable_function("doubler", durable_asker, execution_timeout=1)
        result = runner.run(input="{}", execution_timeout=30)
    assert result.status is InvocationStatus.FAILED
    assert result.get_invoke("double").status is OperationStatus.TIMED_OUT


@durable_execution
def catches(_event: Any, context: DurableContext) -> str:
    try:
        context.invoke("nobody", {}, name="call")
    except InvokeError:
        return "nobody is there"
    return "somebody is there"


def test_a_function_that_is_not_registered_fails_the_invoke() -> None:
    with DurableFunctionTestRunner(handler=catches) as runner:
        result = runner.run(input="{}", execution_timeout=30)
    assert result.status is InvocationStatus.SUCCEEDED
    assert json.loads(result.result or "") == "nobody is there"


@durable_execution
def steps_around(event: Any, context: DurableContext) -> Any:
    config = StepConfig(retry_strategy=RetryPresets.none())
    before = context.step(lambda _: event["n"] + 1, name="before", config=config)
    found = context.invoke("doubler", {"n": before}, name="double")
    return context.step(lambda _: found + 1, name="after", config=config)


def test_an_invoke_goes_between_steps() -> None:
    with DurableFunctionTestRunner(handler=steps_around) as runner:
        runner.register_function("doubler", lambda event, _context: event["n"] * 2)
        result = runner.run(input='{"n": 1}', execution_timeout=30)
    assert [operation.name for operation in result.operations] == ["before", "double", "after"]
    assert result.result == "5"
