"""Time in a test stands, jumps while somebody waits, and is moved by hand; every timer is modelled."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import (
    CallbackConfig,
    CallbackTimeoutError,
    DurableContext,
    Duration,
    RetryPresets,
    StepConfig,
    durable_execution,
)
from perdure.model.error import ResourceNotFound
from perdure.testing import LocalRunner, WallTimeout

START = datetime(2027, 3, 1, 12, tzinfo=UTC)
DAY = 86_400


@durable_execution
def waiting(seconds: list[int], context: DurableContext) -> int:
    for number, each in enumerate(seconds):
        context.wait(each, name=f"wait {number}")
    return len(seconds)


@pytest.mark.parametrize("days", [1, 365])
def test_a_wait_takes_its_modelled_time_exactly(days: int) -> None:
    """[T3]"""
    with LocalRunner(waiting, start_time=START) as runner:
        result = runner.run([days * DAY])
        result.assert_succeeded(1)
        assert runner.clock.now() == START + timedelta(days=days)
    started, ended = (each for each in result.history if "Wait" in each.event_type)
    assert ended.event_timestamp - started.event_timestamp == timedelta(days=days)


def test_thirty_waits_in_sequence_are_thirty_one_invocations_and_thirty_jumps() -> None:
    """[T4]"""
    with LocalRunner(waiting, start_time=START) as runner:
        result = runner.run([3600] * 30)
    assert (result.result, len(result.invocations), result.duration) == (30, 31, timedelta(hours=30))
    assert all(wait.duration == timedelta(hours=1) for wait in result.waits)


@durable_execution
def asking(event: dict[str, int], context: DurableContext) -> str:
    config = CallbackConfig(
        timeout=Duration.from_seconds(event.get("timeout", 0)),
        heartbeat_timeout=Duration.from_seconds(event.get("heartbeat", 0)),
    )
    callback = context.create_callback("approve", config)
    try:
        return f"answered {callback.result()}"
    except CallbackTimeoutError as error:
        return str(error)


def test_a_callback_that_nobody_answers_times_out_after_its_modelled_day() -> None:
    """[T5]"""
    with LocalRunner(asking) as runner:
        result = runner.run({"timeout": DAY})
    assert result.result == "Callback timed out"
    assert result.op("approve").duration == timedelta(days=1)


def test_a_heartbeat_time_out_fires_in_modelled_time() -> None:
    """[T6]"""
    with LocalRunner(asking) as runner:
        result = runner.run({"heartbeat": 60, "timeout": DAY})
    assert result.result == "Callback timed out on heartbeat"
    assert result.duration == timedelta(minutes=1)


def test_a_heartbeat_makes_its_time_out_begin_anew() -> None:
    """[T6]"""
    with LocalRunner(asking) as runner:
        execution = runner.start({"heartbeat": 60, "timeout": DAY})
        callback = execution.callback("approve").wait()
        for _ in range(3):
            runner.clock.advance(50)
            callback.heartbeat()
        result = execution.result()
    assert result.result == "Callback timed out on heartbeat"
    assert result.duration == timedelta(seconds=3 * 50 + 60)


def test_advance_fires_exactly_the_timers_that_are_due_and_in_order() -> None:
    """[T8]"""
    with LocalRunner(waiting, start_time=START) as runner, runner.clock.frozen():
        execution = runner.start([10, 20, 40])
        runner.clock.advance(9.999)
        assert execution.so_far().ops("*")[0].status == "STARTED"
        runner.clock.advance(timedelta(milliseconds=1))
        assert [wait.status for wait in execution.so_far().waits] == ["SUCCEEDED", "STARTED"]
        runner.clock.advance(60)
        assert execution.so_far().result == 3
        ends = [each.event_timestamp for each in execution.so_far().history if each.event_type == "WaitSucceeded"]
    assert ends == [START + timedelta(seconds=passed) for passed in (10, 30, 70)]


def test_timers_of_several_executions_fire_in_the_order_of_their_moments() -> None:
    """[T8]"""
    ended: list[int] = []

    @durable_execution
    def noting(seconds: int, context: DurableContext) -> None:
        context.wait(seconds)
        context.step(lambda: ended.append(seconds))

    with LocalRunner(noting) as runner, runner.clock.frozen():
        for seconds in (30, 10, 20):
            runner.start(seconds)
        runner.clock.advance(25)
        assert ended == [10, 20]
        runner.clock.advance(25)
    assert ended == [10, 20, 30]


def test_nothing_fires_while_the_clock_is_frozen() -> None:
    """[T8]"""
    with LocalRunner(waiting) as runner:
        execution = runner.start([1])
        with runner.clock.frozen(), pytest.raises(WallTimeout, match="the clock is frozen"):
            execution.result(wall_timeout=0.05)
        assert execution.result().result == 1


def test_run_next_timer_fires_one_timer_and_says_when() -> None:
    with LocalRunner(waiting, start_time=START) as runner, runner.clock.frozen():
        execution = runner.start([10, 20])
        runner.clock.advance(0)
        assert runner.clock.run_next_timer() == START + timedelta(seconds=10)
        assert [wait.status for wait in execution.so_far().waits] == ["SUCCEEDED", "STARTED"]
        assert runner.clock.run_next_timer() == START + timedelta(seconds=30)
        assert execution.status == "SUCCEEDED"
        assert runner.clock.run_next_timer() is None


def test_advance_to_goes_to_a_moment_and_not_back() -> None:
    with LocalRunner(waiting, start_time=START) as runner:
        execution = runner.start([60])
        runner.clock.advance_to(START + timedelta(minutes=1))
        assert execution.status == "SUCCEEDED"
        with pytest.raises(ValueError, match="a clock can't go back"):
            runner.clock.advance_to(START)
        with pytest.raises(ValueError, match="a clock can't go back"):
            runner.clock.advance(-1)


def test_retries_are_as_far_apart_as_their_strategy_says() -> None:
    @durable_execution
    def flaky(_event: Any, context: DurableContext) -> int:
        def body(step: Any) -> int:
            if step.attempt < 3:
                raise ConnectionError("not yet")
            return int(step.attempt)

        return context.step(body, name="call", config=StepConfig(RetryPresets.fixed(100)))

    with LocalRunner(flaky) as runner:
        result = runner.run()
    assert (result.result, result.duration) == (3, timedelta(seconds=200))
    result.assert_attempts("call", 3)


def test_an_execution_time_out_is_modelled_time() -> None:
    """[T7]"""
    with LocalRunner(waiting, execution_timeout=timedelta(hours=1)) as runner:
        result = runner.run([DAY])
        result.assert_timed_out()
        assert result.duration == timedelta(hours=1)
        assert runner.run([DAY], execution_timeout=2 * DAY).result == 1


def test_an_invocation_that_takes_too_long_is_given_up_and_tried_again() -> None:
    is_over = threading.Event()
    attempts: list[int] = []

    @durable_execution
    def slow(_event: Any, context: DurableContext) -> str:
        def body() -> str:
            attempts.append(1)
            if len(attempts) == 1:
                is_over.wait(20)
            return "done"

        return context.step(body, name="slow")

    with LocalRunner(slow, invocation_timeout=1) as runner:
        result = runner.run()
        is_over.set()
    result.assert_succeeded("done")
    first = result.invocations[0]
    assert (first.status, first.error.type) == ("CRASHED", "Sandbox.Timedout")
    assert first.end - first.start == timedelta(seconds=1)


def test_a_body_can_let_modelled_time_pass() -> None:
    with LocalRunner(waiting, start_time=START) as runner:

        @durable_execution
        def working(_event: Any, context: DurableContext) -> None:
            context.step(lambda: runner.clock.advance(90), name="work")
            context.wait(10)

        result = runner.deploy(working).run()
    assert result.duration == timedelta(seconds=100)
    assert result.op("work").duration == timedelta(seconds=90)


def test_an_execution_is_gone_when_its_retention_is_over() -> None:
    with LocalRunner(waiting) as runner:
        execution = runner.start([1])
        execution.result()
        runner.clock.advance(timedelta(days=13))
        assert execution.status == "SUCCEEDED"
        runner.clock.advance(timedelta(days=2))
        with pytest.raises(ResourceNotFound):
            execution.result()


def test_context_now_tells_the_modelled_time() -> None:
    @durable_execution
    def reading(_event: Any, context: DurableContext) -> list[str]:
        before = context.now()
        context.wait(DAY)
        return [before.isoformat(), context.now().isoformat()]

    with LocalRunner(reading, start_time=START) as runner:
        result = runner.run()
    assert result.result == [START.isoformat(), (START + timedelta(days=1)).isoformat()]


def test_with_a_real_clock_time_is_the_machine_s() -> None:
    with LocalRunner(waiting, skip_time=False) as runner:
        result = runner.run([1])
    result.assert_succeeded(1)
    assert result.wall_time >= timedelta(seconds=1)


def test_an_execution_without_a_time_out_of_its_own_does_not_run_into_the_general_one() -> None:
    with LocalRunner(asking) as runner, pytest.raises(WallTimeout, match="approve  CALLBACK STARTED"):
        runner.run({}, wall_timeout=0.05)
