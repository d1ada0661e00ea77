"""A test answers callbacks: by hand, from another thread, or once and for all."""

import threading
from datetime import timedelta
from typing import Any

import pytest

from perdure import CallbackConfig, CallbackExternalError, DurableContext, Duration, durable_execution
from perdure.exceptions import ValidationError
from perdure.testing import DurableFunctionsTestError, Execution, LocalRunner


@durable_execution
def approving(event: Any, context: DurableContext) -> Any:
    config = CallbackConfig(timeout=Duration.from_hours(24))
    try:
        return context.create_callback("approve", config).result()
    except CallbackExternalError as error:
        return {"error": error.message, "type": error.external_error_type}


def test_a_callback_is_there_as_soon_as_it_exists_and_without_any_time_passing() -> None:
    """[T7]"""
    with LocalRunner(approving) as runner:
        before = runner.clock.now()
        execution = runner.start()
        callback_id = runner.wait_for_callback(execution, name="approve")
        assert runner.clock.now() == before
        assert execution.so_far().op("approve").callback_id == callback_id
        runner.send_callback_success(callback_id, b"yes")
        assert runner.wait_for_result(execution).result == "yes"


def test_a_callback_that_is_made_after_a_wait_is_waited_for_in_modelled_time() -> None:
    @durable_execution
    def later(_event: Any, context: DurableContext) -> Any:
        context.wait(3600)
        return context.create_callback("late").result()

    with LocalRunner(later) as runner:
        execution = runner.start()
        execution.callback("late").wait().succeed("here")
        result = execution.result()
    assert (result.result, result.duration) == ("here", timedelta(hours=1))


@pytest.mark.parametrize(
    ("value", "seen"), [("text", "text"), (b"bytes", "bytes"), ({"a": 1}, '{"a": 1}'), (None, None), (5, "5")]
)
def test_a_callback_is_answered_with_a_text_as_it_is_and_anything_else_as_json(value: Any, seen: Any) -> None:
    with LocalRunner(approving) as runner:
        execution = runner.start()
        execution.callback("approve").succeed(value)
        assert execution.result().result == seen


def test_a_callback_is_answered_with_a_failure() -> None:
    with LocalRunner(approving) as runner:
        execution = runner.start()
        execution.callback("approve").fail("Rejected", "not today", "7", ["one", "two"])
        result = execution.result()
    assert result.result == {"error": "not today", "type": "Rejected"}
    error = result.op("approve").error
    assert (error.type, error.message, error.data, list(error.stack_trace)) == (
        "Rejected",
        "not today",
        "7",
        ["one", "two"],
    )


def test_a_callback_is_left_to_time_out() -> None:
    @durable_execution
    def giving_up(_event: Any, context: DurableContext) -> Any:
        context.create_callback("barista", CallbackConfig(timeout=Duration.from_minutes(2))).result()

    with LocalRunner(giving_up) as runner:
        execution = runner.start()
        execution.callback("barista").time_out()
        result = execution.result()
    result.assert_failed(type="CallbackTimeoutError")
    assert result.op("barista").duration == timedelta(minutes=2)


def test_a_callback_without_a_time_out_can_t_be_left_to_time_out() -> None:
    @durable_execution
    def patient(_event: Any, context: DurableContext) -> Any:
        return context.create_callback("ever").result()

    with LocalRunner(patient) as runner:
        callback = runner.start().callback("ever")
        with pytest.raises(ValueError, match="has no time-out"):
            callback.time_out()
        callback.succeed()
        with pytest.raises(ValueError, match="is SUCCEEDED already"):
            callback.time_out()


def test_a_callback_that_another_thread_has_got_does_not_time_out_before_its_answer() -> None:
    is_known = threading.Event()
    with LocalRunner(approving) as runner:
        execution = runner.start()

        def answer() -> None:
            callback = execution.callback("approve").wait()
            is_known.set()
            ended_meanwhile.wait(0.2)
            callback.succeed("from afar")

        ended_meanwhile = threading.Event()
        thread = threading.Thread(target=answer)
        thread.start()
        is_known.wait(10)
        result = execution.result()
        ended_meanwhile.set()
        thread.join()
    assert (result.result, result.duration) == ("from afar", timedelta(0))


def test_callbacks_of_one_name_are_told_apart_by_their_index() -> None:
    @durable_execution
    def two(_event: Any, context: DurableContext) -> Any:
        first, second = context.create_callback("vote"), context.create_callback("vote")
        return [first.result(), second.result()]

    with LocalRunner(two) as runner:
        execution = runner.start()
        execution.callback("vote", 1).succeed("second")
        execution.callback("vote").succeed("first")
        assert execution.result().result == ["first", "second"]


def test_a_wait_for_callback_is_found_by_its_name_once_its_submitter_has_run() -> None:
    sent: list[str] = []

    @durable_execution
    def asking(_event: Any, context: DurableContext) -> Any:
        return context.wait_for_callback(lambda callback_id: sent.append(callback_id), name="review")

    with LocalRunner(asking) as runner:
        execution = runner.start()
        callback = execution.callback("review").wait()
        assert sent == [callback.id]
        callback.succeed("fine")
        assert execution.result().result == "fine"


def test_auto_callback_answers_each_time_that_callback_appears() -> None:
    @durable_execution
    def thrice(_event: Any, context: DurableContext) -> Any:
        return [context.wait_for_callback(lambda _id: None, name="ask") for _ in range(3)]

    answers = iter(["a", "b", "c"])
    with LocalRunner(thrice) as runner:
        result = runner.auto_callback("ask", lambda _callback_id: next(answers)).run()
    assert result.result == ["a", "b", "c"]
    assert result.duration == timedelta(0)


def test_auto_callback_fails_with_what_its_function_raises() -> None:
    def refuse(_callback_id: str) -> None:
        raise PermissionError("no")

    with LocalRunner(approving) as runner:
        result = runner.auto_callback("approve", refuse).run()
    assert result.result == {"error": "no", "type": "PermissionError"}


def test_waiting_for_a_callback_that_is_answered_already_is_refused() -> None:
    with LocalRunner(approving) as runner:
        execution = runner.start()
        runner.send_callback_success(runner.wait_for_callback(execution))
        assert isinstance(execution, Execution)
        execution.result()
        with pytest.raises(DurableFunctionsTestError, match="it is SUCCEEDED already"):
            runner.wait_for_callback(execution, name="approve")
        with pytest.raises(DurableFunctionsTestError, match="there is none"):
            runner.wait_for_callback(execution)


def test_the_runner_gives_the_callbacks_of_its_latest_execution() -> None:
    with LocalRunner(approving) as runner:
        with pytest.raises(ValidationError, match="no execution has begun"):
            runner.callback("approve")
        execution = runner.start()
        runner.callback("approve").succeed("yes")
        assert execution.result().result == "yes"
        assert [each.name for each in execution.operations()] == ["approve"]
        assert [each.event_type for each in execution.history()][-1] == "ExecutionSucceeded"
        assert "approve" in execution.tree()
