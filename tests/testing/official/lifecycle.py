"""Runners and results from their beginning to their end, tested as the official documentation tests them."""

import functools
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from aws_durable_execution_sdk_python import DurableContext, ExecutionError, durable_execution
from aws_durable_execution_sdk_python.config import Duration
from aws_durable_execution_sdk_python.execution import InvocationStatus
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner
from aws_durable_execution_sdk_python_testing.exceptions import DurableFunctionsTestError
from aws_durable_execution_sdk_python_testing.execution import ExecutionStatus
from aws_durable_execution_sdk_python_testing.model import GetDurableExecutionHistoryResponse
from aws_durable_execution_sdk_python_testing.runner import DurableFunctionTestResult
from aws_durable_execution_sdk_python_testing.stores.filesystem import FileSystemExecutionStore
from aws_durable_execution_sdk_python_testing.stores.memory import InMemoryExecutionStore
from aws_durable_execution_sdk_python_testing.stores.sqlite import SQLiteExecutionStore


@durable_execution
def greets(event: Any, context: DurableContext) -> str:
    return context.step(lambda _: f"hello {event['name']}", name="greet")


def test_a_runner_runs_more_than_once() -> None:
    with DurableFunctionTestRunner(handler=greets) as runner:
        first = runner.run(input='{"name": "one"}', execution_timeout=10)
        second = runner.run(input='{"name": "two"}', execution_timeout=10, execution_name="another")
    assert (first.result, second.result) == ('"hello one"', '"hello two"')
    assert isinstance(first, DurableFunctionTestResult)


def test_a_runner_is_closed_by_hand() -> None:
    runner = DurableFunctionTestRunner(handler=greets)
    result = runner.run(input='{"name": "x"}')
    runner.close()
    assert result.status is InvocationStatus.SUCCEEDED


def test_a_result_has_a_status_of_the_execution_beside_that_of_the_invocation() -> None:
    with DurableFunctionTestRunner(handler=greets) as runner:
        result = runner.run(input='{"name": "x"}', execution_timeout=10)
    assert result.execution_status is ExecutionStatus.SUCCEEDED


def test_the_old_name_of_the_time_limit_is_still_understood() -> None:
    with DurableFunctionTestRunner(handler=greets) as runner, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = runner.run(input='{"name": "x"}', timeout=10)
    assert result.status is InvocationStatus.SUCCEEDED
    assert any(each.category is DeprecationWarning for each in seen)


def test_arguments_go_by_their_places() -> None:
    with DurableFunctionTestRunner(greets, 0.1, None, 60, 30) as runner:
        result = runner.run('{"name": "x"}', 10, None, "my-function", "my-name", "210987654321", None)
    assert result.status is InvocationStatus.SUCCEEDED


@durable_execution
def echoes(event: Any, _context: DurableContext) -> Any:
    return [type(event).__name__, event]


def test_an_input_is_a_value_or_json_or_any_other_text() -> None:
    with DurableFunctionTestRunner(handler=echoes) as runner:
        for given, expected in (
            ({"a": 1}, ["dict", {"a": 1}]),
            ('{"a": 1}', ["dict", {"a": 1}]),
            ("test", ["str", "test"]),
            ('"test"', ["str", "test"]),
            (None, ["NoneType", None]),
            ([1, 2], ["list", [1, 2]]),
        ):
            result = runner.run(input=given, execution_timeout=10)  # type: ignore[arg-type]
            assert json.loads(result.result or "") == expected


@durable_execution
def sleeps_long(_event: Any, context: DurableContext) -> str:
    context.wait(Duration.from_days(30), name="month")
    return "awake"


def test_time_that_is_skipped_does_not_count_towards_the_time_limit() -> None:
    with DurableFunctionTestRunner(handler=sleeps_long) as runner:
        result = runner.run(input="{}", execution_timeout=10)
    assert result.status is InvocationStatus.SUCCEEDED


def test_waiting_for_less_than_the_limit_times_out() -> None:
    with DurableFunctionTestRunner(handler=asks) as runner:
        arn = runner.run_async(input="{}", execution_timeout=30)
        with pytest.raises(TimeoutError):
            runner.wait_for_result(arn, timeout=1)


def test_an_execution_times_out_if_it_is_waited_for_longer_than_its_limit() -> None:
    with DurableFunctionTestRunner(handler=asks) as runner:
        arn = runner.run_async(input="{}", execution_timeout=1)
        result = runner.wait_for_result(arn, timeout=10)
    assert result.status is InvocationStatus.FAILED
    assert result.execution_status is not None
    assert result.execution_status.value == "TIMED_OUT"
    assert result.error is not None
    assert result.error.message == "Execution timed out after 1 seconds."


def test_executions_are_kept_where_one_says(tmp_path: Path) -> None:
    for store in (
        InMemoryExecutionStore(),
        SQLiteExecutionStore.create_and_initialize(tmp_path / "executions.db"),
        FileSystemExecutionStore.create(tmp_path / "executions"),
    ):
        with DurableFunctionTestRunner(handler=greets, store=store) as runner:
            first = runner.run(input='{"name": "one"}', execution_timeout=10)
            second = runner.run(input='{"name": "two"}', execution_timeout=10)
        assert (first.result, second.result) == ('"hello one"', '"hello two"')


@durable_execution
def raises(_event: Any, _context: DurableContext) -> None:
    raise RuntimeError("at the top")


def test_a_handler_that_raises_fails_the_execution() -> None:
    with DurableFunctionTestRunner(handler=raises) as runner:
        result = runner.run(input="{}", execution_timeout=10)
    assert result.status is InvocationStatus.FAILED
    assert result.error is not None
    assert (result.error.type, result.error.message, result.error.data) == ("RuntimeError", "at the top", None)
    assert result.operations == []


@durable_execution
def gives_up(_event: Any, _context: DurableContext) -> None:
    raise ExecutionError("cannot go on")


def test_an_execution_error_ends_the_execution() -> None:
    with DurableFunctionTestRunner(handler=gives_up) as runner:
        result = runner.run(input="{}", execution_timeout=10)
    assert result.status is InvocationStatus.FAILED
    assert result.error is not None
    assert result.error.message == "cannot go on"


def test_a_missing_name_is_an_error_of_the_test_kit() -> None:
    with DurableFunctionTestRunner(handler=greets) as runner:
        result = runner.run(input='{"name": "x"}', execution_timeout=10)
    for get in (
        result.get_step,
        result.get_wait,
        result.get_context,
        result.get_callback,
        result.get_invoke,
        result.get_execution,
        result.get_operation_by_name,
    ):
        with pytest.raises(DurableFunctionsTestError, match="Operation with name 'nothing' not found"):
            get("nothing")


@durable_execution
def long(_event: Any, context: DurableContext) -> str:
    context.step(lambda _: 1, name="first")
    context.wait(Duration.from_minutes(10), name="pause")
    return context.step(lambda _: "done", name="last")


def test_the_history_has_the_events_in_order_with_their_details() -> None:
    with DurableFunctionTestRunner(handler=long) as runner:
        arn = runner.run_async(input='"in"', execution_timeout=1_000)
        result = runner.wait_for_result(execution_arn=arn, timeout=20)
        history = runner.get_execution_history(arn, include_execution_data=True)
        bare = runner.get_execution_history(arn)
    assert isinstance(history, GetDurableExecutionHistoryResponse)
    kinds = [event.event_type for event in history.events]
    assert kinds[0] == "ExecutionStarted"
    for kind in ("StepStarted", "StepSucceeded", "WaitStarted", "WaitSucceeded", "ExecutionSucceeded"):
        assert kind in kinds
    assert kinds.count("StepSucceeded") == 2
    assert [event.event_id for event in history.events] == sorted(event.event_id for event in history.events)
    started = history.events[0]
    assert started.execution_started_details is not None
    assert started.execution_started_details.input is not None
    assert started.execution_started_details.input.payload == '"in"'
    (wait,) = [event for event in history.events if event.event_type == "WaitStarted"]
    assert wait.name == "pause"
    assert wait.sub_type == "Wait"
    assert wait.operation_id == result.get_wait("pause").operation_id
    assert wait.wait_started_details is not None
    assert wait.wait_started_details.duration == 600
    (last,) = [e for e in history.events if e.event_type == "StepSucceeded" and e.name == "last"]
    assert last.step_succeeded_details is not None
    assert last.step_succeeded_details.result is not None
    assert last.step_succeeded_details.result.payload == '"done"'
    (without,) = [e for e in bare.events if e.event_type == "StepSucceeded" and e.name == "last"]
    assert without.step_succeeded_details is not None
    assert without.step_succeeded_details.result is None or without.step_succeeded_details.result.payload is None


@durable_execution
def asks(_event: Any, context: DurableContext) -> str:
    context.create_callback(name="go").result()
    return context.step(lambda _: "went", name="step")


def test_an_execution_is_paused_and_resumed() -> None:
    with DurableFunctionTestRunner(handler=asks, poll_interval=0.05) as runner:
        arn = runner.run_async(input="{}", execution_timeout=120)
        callback_id = runner.wait_for_callback(arn, name="go")
        runner.pause_execution(arn, timeout=10)
        runner.send_callback_success(callback_id, b"yes")
        runner.resume_execution(arn)
        result = runner.wait_for_result(arn, timeout=20)
    assert json.loads(result.result or "") == "went"


def test_waiting_for_what_does_not_come_times_out() -> None:
    with DurableFunctionTestRunner(handler=asks, poll_interval=0.05) as runner:
        arn = runner.run_async(input="{}", execution_timeout=120)
        with pytest.raises(TimeoutError):
            runner.wait_for_callback(arn, name="another", timeout=1)
        with pytest.raises(TimeoutError):
            runner.wait_for_result(arn, timeout=1)


def test_several_executions_go_on_beside_each_other() -> None:
    with DurableFunctionTestRunner(handler=greets) as runner:
        arns = [runner.run_async(input=json.dumps({"name": str(n)}), execution_name=f"run-{n}") for n in range(5)]
        assert len(set(arns)) == 5
        results = [runner.wait_for_result(arn, timeout=20) for arn in arns]
    assert [result.result for result in results] == [f'"hello {n}"' for n in range(5)]


# --- what is around a handler ------------------------------------------------------------------------------------

seen: list[Any] = []


def logged(handler: Any) -> Any:
    """A decorator as there are for Lambda handlers."""

    @functools.wraps(handler)
    def wrapper(event: Any, lambda_context: Any) -> Any:
        seen.append("in")
        try:
            return handler(event, lambda_context)
        finally:
            seen.append("out")

    return wrapper


@logged
@durable_execution
def decorated(event: Any, context: DurableContext) -> Any:
    context.step(lambda _: 1, name="first")
    context.wait(Duration.from_seconds(5), name="pause")
    return context.step(lambda _: event["n"] * 2, name="double")


def test_what_is_around_a_durable_function_runs_at_every_invocation() -> None:
    seen.clear()
    with DurableFunctionTestRunner(handler=decorated) as runner:
        result = runner.run(input='{"n": 4}', execution_timeout=10)
    assert result.result == "8"
    assert seen == ["in", "out", "in", "out"]


def entry(event: Any, lambda_context: Any) -> Any:
    seen.append(event["DurableExecutionArn"] if isinstance(event, dict) else event.durable_execution_arn)
    answer = decorated(event, lambda_context)
    seen.append(answer["Status"])
    return answer


def test_a_function_may_call_the_durable_one() -> None:
    seen.clear()
    with DurableFunctionTestRunner(handler=entry) as runner:
        arn = runner.run_async(input='{"n": 5}', execution_timeout=10)
        result = runner.wait_for_result(arn)
    assert result.result == "10"
    assert [operation.name for operation in result.operations] == ["first", "pause", "double"]
    assert seen == [arn, "in", "out", "PENDING", arn, "in", "out", "SUCCEEDED"]


@logged
@durable_execution
def decorated_failing(_event: Any, context: DurableContext) -> None:
    context.step(lambda _: 1, name="first")
    raise ValueError("no")


def test_a_decorated_function_fails_as_itself() -> None:
    with DurableFunctionTestRunner(handler=decorated_failing) as runner:
        result = runner.run(input="{}", execution_timeout=10)
    assert result.status is InvocationStatus.FAILED
    assert result.error is not None
    assert (result.error.type, result.error.message) == ("ValueError", "no")
