"""Processes die and checkpoints go astray as a test wants it, and the execution goes on."""

import threading
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from perdure import DurableContext, StepConfig, StepSemantics, durable_execution, durable_step
from perdure.exceptions import ValidationError
from perdure.testing import LocalRunner


def counting(ran: list[str]) -> Any:
    """A handler of three steps and a wait that notes which of its bodies ran."""

    @durable_execution(name="counting")
    def handler(_event: Any, context: DurableContext) -> str:
        for name in ("x", "y"):
            context.step(partial(ran.append, name), name=name)
        context.wait(60, name="pause")
        context.run_in_child_context(lambda child: child.step(lambda: ran.append("z"), name="z"), name="inner")
        return "done"

    return handler


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_step_that_leaves_the_process_is_a_crashed_invocation_which_is_tried_again(kind: type[BaseException]) -> None:
    """[T10]"""

    @durable_execution
    def leaving(_event: Any, context: DurableContext) -> None:
        context.step(lambda: leave(kind), name="leave")

    with LocalRunner(leaving) as runner:
        result = runner.run()
    result.assert_failed()
    assert [each.status for each in result.invocations] == ["CRASHED"] * 5
    assert result.duration == timedelta(seconds=4 * 5)


def leave(kind: type[BaseException]) -> None:
    raise kind(3)


def test_a_crash_after_an_operation_is_followed_by_an_invocation_that_does_not_run_it_again() -> None:
    """[T18]"""
    ran: list[str] = []
    with LocalRunner(counting(ran)) as runner:
        fault = runner.crash(after="x")
        result = runner.run()
    result.assert_succeeded("done")
    assert ran == ["x", "y", "z"]
    assert [each.status for each in result.invocations] == ["CRASHED", "PENDING", "SUCCEEDED"]
    assert "crash after 'x'" in result.invocations[0].error.message
    assert fault.happened == 1


@pytest.mark.parametrize("path", ["x", "y", "pause", "inner/z", "inner"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_wherever_its_process_dies_an_execution_comes_to_the_same_end(when: str, path: str) -> None:
    ran: list[str] = []
    with LocalRunner(counting(ran)) as runner:
        fault = runner.crash(**{when: path}, times=2)  # type: ignore[arg-type]
        result = runner.run()
    result.assert_succeeded("done")
    assert ran == ["x", "y", "z"]
    assert fault.happened == 2
    assert [each.status for each in result.invocations].count("CRASHED") == 2


def test_a_crash_before_a_step_leaves_no_trace_of_it() -> None:
    ran: list[str] = []
    with LocalRunner(counting(ran)) as runner:
        runner.crash(before="y")
        assert runner.invoke_once().result.op("x").status == "SUCCEEDED"
        assert ran == ["x"]


def test_a_crash_in_the_place_of_a_checkpoint_loses_what_it_had() -> None:
    ran: list[str] = []
    with LocalRunner(counting(ran)) as runner:
        runner.crash(at_checkpoint=2)
        result = runner.run()
    result.assert_succeeded("done")
    assert ran == ["x", "y", "y", "z"]


def test_the_code_of_a_dead_process_has_no_effect_any_more() -> None:
    seen: list[str] = []

    @durable_execution
    def stubborn(_event: Any, context: DurableContext) -> str:
        try:
            context.step(lambda: seen.append("first"), name="first")
        except BaseException:
            context.step(lambda: seen.append("from the grave"), name="second")
        return "end"

    with LocalRunner(stubborn) as runner:
        runner.crash(after="first")
        result = runner.run()
    assert (result.result, seen) == ("end", ["first"])
    assert len(result.invocations) == 2


def test_an_answer_that_is_lost_ends_the_invocation_and_the_next_one_finds_what_was_kept() -> None:
    ran: list[str] = []
    with LocalRunner(counting(ran)) as runner:
        runner.lose_checkpoint("x")
        result = runner.run()
    result.assert_succeeded("done")
    assert ran == ["x", "y", "z"]
    assert result.invocations[0].status == "CRASHED"


def test_a_request_that_is_lost_is_one_that_never_was() -> None:
    ran: list[str] = []
    with LocalRunner(counting(ran)) as runner:
        runner.lose_checkpoint("x", lost="request")
        result = runner.run()
    result.assert_succeeded("done")
    assert ran == ["x", "x", "y", "z"]


def test_at_most_once_a_body_whose_end_was_lost_does_not_run_again() -> None:
    ran: list[int] = []

    @durable_execution
    def careful(_event: Any, context: DurableContext) -> str:
        config = StepConfig(step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY, retry_strategy=never)
        try:
            context.step(lambda: ran.append(1), name="charge", config=config)
        except Exception as error:
            return type(error).__name__
        return "charged"

    with LocalRunner(careful) as runner:
        runner.crash(at_checkpoint=2)
        assert runner.run().result == "InterruptedStepError"
    assert ran == [1]


def never(_error: Exception, _attempt: int) -> Any:
    from perdure import RetryDecision

    return RetryDecision.no_retry()


def test_a_checkpoint_that_comes_twice_counts_once() -> None:
    ran: list[str] = []
    with LocalRunner(counting(ran)) as runner:
        fault = runner.duplicate_checkpoint("x")
        result = runner.run()
    result.assert_succeeded("done")
    assert (ran, fault.happened) == (["x", "y", "z"], 1)
    result.assert_invocations(2)
    assert [each.event_type for each in result.history].count("StepSucceeded") == 3


def test_a_throttled_checkpoint_ends_the_invocation_which_is_tried_again() -> None:
    ran: list[str] = []
    with LocalRunner(counting(ran)) as runner:
        runner.throttle(2)
        result = runner.run()
    result.assert_succeeded("done")
    assert [each.status for each in result.invocations] == ["CRASHED", "CRASHED", "PENDING", "SUCCEEDED"]


def test_slow_checkpoints_take_modelled_time() -> None:
    with LocalRunner(counting([]), checkpoint_delay=0.5) as runner:
        first = runner.run()
        runner.delay(0)
        second = runner.run()
    assert first.duration > second.duration == timedelta(seconds=60)


def test_checkpoints_that_are_slower_than_an_invocation_may_take_time_it_out() -> None:
    with LocalRunner(counting([]), invocation_timeout=2) as runner:
        runner.delay(1.5)
        result = runner.run()
    assert result.invocations[0].error.type == "Sandbox.Timedout"
    result.assert_succeeded("done")


def test_a_crash_is_at_one_point() -> None:
    with LocalRunner(counting([])) as runner, pytest.raises(ValidationError, match="crash takes one of"):
        runner.crash(before="x", after="x")


def test_faults_happen_to_async_handlers_too() -> None:
    ran: list[str] = []

    @durable_step
    async def note(_step: Any, name: str) -> None:
        ran.append(name)

    @durable_execution
    async def handler(_event: Any, context: Any) -> str:
        await context.step(note("x"), name="x")
        await context.step(note("y"), name="y")
        return "done"

    with LocalRunner(handler) as runner:
        runner.crash(after="x")
        runner.crash(before="y")
        mock = runner.mock_step("y", side_effect=ran.append)
        result = runner.run()
    result.assert_succeeded("done")
    assert ran == ["x", "y"]
    assert mock.call_count == 1
    assert [each.status for each in result.invocations] == ["CRASHED", "CRASHED", "SUCCEEDED"]


def test_closing_does_not_wait_for_a_body_that_hangs() -> None:
    """[T10]"""
    is_over, has_begun = threading.Event(), threading.Event()

    @durable_execution
    def hanging(_event: Any, context: DurableContext) -> None:
        context.step(lambda _: (has_begun.set(), is_over.wait(20)), name="hang")

    runner = LocalRunner(hanging)
    runner.start()
    has_begun.wait(10)
    runner.close()
    assert not is_over.is_set()
    is_over.set()
