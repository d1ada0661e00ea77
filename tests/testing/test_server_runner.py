"""A server runner: the real server and worker over HTTP, on a clock that jumps."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import AsyncDurableContext, DurableContext, StepContext, durable_execution
from perdure.config import CallbackConfig, Duration, StepConfig
from perdure.exceptions import ValidationError
from perdure.retries import RetryDecision
from perdure.testing import DurableFunctionTestRunner, ServerRunner, WallTimeout
from perdure.testing.modes import Choice, Mode, choose


@durable_execution(name="patient")
def patient(event: dict[str, int], context: DurableContext) -> int:
    first = context.step(lambda _: event["n"], name="first")
    context.wait(30 * 86_400, name="a month")
    return first + context.step(lambda _: 2, name="second")


@durable_execution(name="asking")
def asking(event: Any, context: DurableContext) -> Any:
    callback = context.create_callback(
        name="approve", config=CallbackConfig(timeout=Duration.from_hours(24), heartbeat_timeout=Duration.from_hours(2))
    )
    return callback.result()


def names_of_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_a_month_takes_no_time_at_a_server_either() -> None:
    with ServerRunner(patient) as runner:
        result = runner.run({"n": 1})
    assert (result.status, result.result) == ("SUCCEEDED", 3)
    assert result.duration == timedelta(days=30)
    assert [each.status for each in result.invocations] == ["PENDING", "SUCCEEDED"]


def test_nothing_is_left_of_a_closed_server() -> None:
    """[T11]"""
    before = names_of_threads()
    with ServerRunner(patient) as runner:
        runner.run({"n": 1})
        assert names_of_threads() > before
    assert names_of_threads() == before


def test_a_callback_is_answered_over_http() -> None:
    with ServerRunner(asking) as runner:
        execution = runner.start()
        execution.callback("approve").heartbeat()
        execution.callback("approve").succeed({"by": "Ada"})
        assert json.loads(execution.result().result) == {"by": "Ada"}


def test_a_callback_that_nobody_answers_times_out_when_its_heartbeats_stay_away() -> None:
    with ServerRunner(asking) as runner:
        result = runner.run()
    assert (result.execution_status, result.duration) == ("FAILED", timedelta(hours=2))


def test_the_clock_of_a_server_is_moved_by_hand() -> None:
    with ServerRunner(asking) as runner:
        clock = runner.clock
        with clock.frozen():
            execution = runner.start()
            execution.callback("approve").wait()
            clock.advance(timedelta(minutes=119))
            assert execution.status == "RUNNING"
            clock.advance(timedelta(minutes=1))
            assert execution.status == "FAILED"


def test_what_waits_in_vain_at_a_server_says_for_what() -> None:
    """[T9]"""
    with ServerRunner(asking) as runner, runner.clock.frozen(), pytest.raises(WallTimeout, match=r"approve.*times out"):
        runner.run(wall_timeout=5)


def test_retries_at_a_server_are_skipped_over() -> None:
    attempts: list[int] = []

    @durable_execution(name="trying")
    def trying(event: Any, context: DurableContext) -> str:
        def body(step: StepContext) -> str:
            attempts.append(step.attempt)
            if len(attempts) < 3:
                raise ValueError("not yet")
            return "done"

        def later(_error: Exception, _attempt: int) -> RetryDecision:
            return RetryDecision.retry(Duration.from_hours(1))

        return context.step(body, name="try", config=StepConfig(retry_strategy=later))

    with ServerRunner(trying) as runner:
        result = runner.run()
    assert (result.result, len(attempts), result.duration) == ("done", 3, timedelta(hours=2))


def test_functions_at_a_server_invoke_each_other() -> None:
    """[T16]"""

    @durable_execution(name="parent")
    def parent(event: Any, context: DurableContext) -> Any:
        return [context.invoke("child", event, name="a"), context.invoke("plain", event, name="b")]

    @durable_execution(name="child")
    async def child(event: int, context: AsyncDurableContext) -> int:
        await context.wait(86_400)
        return event + 1

    with ServerRunner(parent) as runner:
        runner.register_durable_function("child", child, execution_timeout=timedelta(days=2))
        runner.register_function("plain", lambda event, _context: event * 2)
        result = runner.run(20)
    assert result.result == [21, 40]
    assert result.duration == timedelta(days=1)


def test_new_code_is_used_from_the_next_invocation_on() -> None:
    @durable_execution(name="patient")
    def newer(event: dict[str, int], context: DurableContext) -> int:
        first = context.step(lambda _: 0, name="first")
        context.wait(1, name="a month")
        return first + context.step(lambda _: 200, name="second")

    with ServerRunner(patient) as runner, runner.clock.frozen():
        execution = runner.start({"n": 1})
        runner.go_on(execution, "suspended")
        runner.deploy(newer)
        runner.clock.run_next_timer()
        assert execution.result().result == 201


def test_boto3_has_a_client_of_the_server() -> None:
    with ServerRunner(patient) as runner:
        names = [each["FunctionName"] for each in runner.boto3().list_functions()["Functions"]]
        assert names == ["patient"]
        assert runner.client.call("GetFunction", FunctionName="patient")["Configuration"]["FunctionName"] == "patient"
        assert runner.console_url == f"{runner.url}/console"


def test_a_server_can_keep_its_executions_in_a_file(tmp_path: Path) -> None:
    with ServerRunner(patient, store=f"sqlite:///{tmp_path / 'test.db'}") as runner:
        assert runner.run({"n": 3}).result == 5
    assert (tmp_path / "test.db").exists()


def test_a_servers_app_is_a_module_a_file_or_handlers_by_name(tmp_path: Path) -> None:
    with ServerRunner({"one": patient, "two": asking}) as runner:
        assert runner.run({"n": 3}).result == 5
        assert {each["FunctionName"] for each in runner.boto3().list_functions()["Functions"]} == {"one", "two"}
    with pytest.raises(ValidationError, match="must be a handler, handlers by name"):
        ServerRunner(3)  # type: ignore[arg-type]


def test_an_execution_at_a_server_is_timed_out_when_its_own_time_is_over() -> None:
    with ServerRunner(patient) as runner:
        result = runner.run({"n": 1}, execution_timeout=timedelta(hours=1))
    assert (result.execution_status, result.duration) == ("TIMED_OUT", timedelta(hours=1))


def test_bodies_are_mocked_at_a_server_too() -> None:
    """[T17]"""
    with ServerRunner(patient) as runner:
        mock = runner.mock_step("second", returns=40)
        result = runner.run({"n": 1})
    assert (result.result, mock.call_count) == (41, 1)
    assert result.op("second").value == 40


def test_a_worker_dies_after_a_step_and_its_execution_goes_on() -> None:
    """[T18]"""
    ran: list[str] = []

    @durable_execution(name="dying")
    async def dying(event: Any, context: AsyncDurableContext) -> str:
        await context.step(lambda _: ran.append("x"), name="x")
        await context.step(lambda _: ran.append("y"), name="y")
        return "done"

    with ServerRunner(dying) as runner:
        fault = runner.crash(after="x")
        result = runner.run()
    assert (result.result, ran, fault.happened) == ("done", ["x", "y"], 1)
    assert [each.status for each in result.invocations] == ["CRASHED", "SUCCEEDED"]


def test_a_lost_answer_to_a_checkpoint_is_found_by_the_next_invocation() -> None:
    with ServerRunner(patient) as runner:
        runner.lose_checkpoint("first")
        result = runner.run({"n": 1})
    assert result.result == 3
    assert [each.status for each in result.invocations] == ["CRASHED", "PENDING", "SUCCEEDED"]


def test_what_a_server_can_not_do_it_refuses() -> None:
    with ServerRunner(patient) as runner:
        for call in (
            runner.invoke_once,
            lambda: runner.duplicate_checkpoint("first"),
            lambda: runner.delay(1),
        ):
            with pytest.raises(ValidationError, match="is for a LocalRunner"):
                call()


def test_what_an_execution_at_a_server_logs_is_among_its_results() -> None:
    @durable_execution(name="talking")
    def talking(event: Any, context: DurableContext) -> None:
        context.logger.info("begin")
        context.step(lambda step: step.logger.info("within"), name="say")

    with ServerRunner(talking) as runner:
        result = runner.run()
    assert [record.getMessage() for record in result.logs] == ["begin", "within"]


@pytest.fixture
def server_mode() -> Iterator[None]:
    """As with `--perdure-mode server`."""
    before = choose(Choice(mode=Mode.SERVER))
    yield
    choose(before)


@pytest.mark.usefixtures("server_mode")
def test_the_official_runner_runs_at_a_server_if_that_is_the_mode() -> None:
    """[T1]"""
    with DurableFunctionTestRunner(asking) as runner:
        arn = runner.run_async("1")
        assert runner.backend.node.url.startswith("http://127.0.0.1:")
        runner.send_callback_success(runner.wait_for_callback(arn, "approve"), b"yes")
        result = runner.wait_for_result(arn)
    assert result.result == '"yes"'
    assert ":us-west-2:123456789012:function:test-function:" in result.arn


def test_an_execution_at_a_server_is_forked() -> None:
    ran: list[str] = []

    @durable_execution(name="forked")
    def forked(event: Any, context: DurableContext) -> str:
        first = context.step(lambda _: ran.append("a") or "one", name="a")
        return first + context.step(lambda _: ran.append("b") or "two", name="b")

    with ServerRunner(forked) as runner:
        runner.run()
        again = runner.executions[0].fork(at="b").result()
    assert (again.result, ran) == ("onetwo", ["a", "b", "b"])


def test_a_handler_that_leaves_is_a_crash_at_a_server_too() -> None:
    """[T10]"""

    @durable_execution(name="leaving")
    def leaving(event: Any, context: DurableContext) -> None:
        def body() -> None:
            raise SystemExit(3)

        context.step(body, name="leave")

    with ServerRunner(leaving) as runner:
        result = runner.run()
    assert result.status == "FAILED"
    assert [each.status for each in result.invocations] == ["CRASHED"] * 5


def test_an_execution_whose_body_is_stuck_times_out_when_its_modelled_time_is_over() -> None:
    """[T10]"""
    goes_on = threading.Event()

    @durable_execution(name="stuck")
    def stuck(event: Any, context: DurableContext) -> None:
        context.step(lambda _: goes_on.wait(20), name="hang")

    with ServerRunner(stuck) as runner:
        result = runner.run(execution_timeout=1)
        goes_on.set()
    assert (result.execution_status, result.duration) == ("TIMED_OUT", timedelta(seconds=1))
