"""A test that would hang ends instead, and says what it was waiting for."""

import re
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from perdure import CallbackConfig, DurableContext, Duration, durable_execution
from perdure.testing import LocalRunner, WallTimeout

START = datetime(2027, 3, 1, 12, tzinfo=UTC)


@durable_execution
def waiting(_event: Any, context: DurableContext) -> None:
    context.step(lambda: 1, name="first")
    context.wait(3600, name="cool down")


def test_the_message_names_the_pending_operation_and_when_it_is_due() -> None:
    """[T9]"""
    with (
        LocalRunner(waiting, start_time=START) as runner,
        runner.clock.frozen(),
        pytest.raises(WallTimeout) as raised,
    ):
        runner.run(wall_timeout=0.05)
    text = str(raised.value)
    assert "waiting for the execution to end" in text
    assert re.search(r"cool down +WAIT STARTED +due at 2027-03-01T13:00:00.000Z \(in 1 h\)", text)
    assert re.search(r"first +STEP SUCCEEDED", text)
    assert "the clock is frozen" in text


def test_the_message_has_the_ids_of_open_callbacks() -> None:
    """[T9]"""

    @durable_execution
    def asking(_event: Any, context: DurableContext) -> None:
        context.create_callback("approve", CallbackConfig(timeout=Duration.from_minutes(5))).result()

    with LocalRunner(asking, start_time=START) as runner, runner.clock.frozen():
        execution = runner.start()
        callback_id = execution.callback("approve").id
        with pytest.raises(WallTimeout, match="approve  CALLBACK STARTED") as raised:
            execution.result(wall_timeout=0.05)
    assert callback_id in str(raised.value)
    assert "times out at 2027-03-01T12:05:00.000Z (in 5 min)" in str(raised.value)


def test_a_body_that_never_returns_is_named_after_the_wall_limit() -> None:
    """[T9]"""
    is_over = threading.Event()

    @durable_execution
    def stuck(_event: Any, context: DurableContext) -> None:
        context.step(lambda: is_over.wait(20), name="endless")

    with LocalRunner(stuck, wall_timeout=0.2) as runner:
        with pytest.raises(WallTimeout, match=r"waited 0.2 s \(wall_timeout\) in vain") as raised:
            runner.run()
        assert "endless  STEP STARTED" in str(raised.value)
        is_over.set()


def test_waiting_for_what_will_not_come_is_refused_at_once_where_nobody_else_could_bring_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    me = threading.current_thread()
    monkeypatch.setattr(threading, "enumerate", lambda: [me])
    with LocalRunner(waiting, wall_timeout=1_000_000) as runner:
        execution = runner.start()
        with runner.clock.frozen(), pytest.raises(WallTimeout, match="it is in vain to wait"):
            execution.result()


def test_waiting_for_what_another_thread_may_bring_goes_on() -> None:
    @durable_execution
    def asking(_event: Any, context: DurableContext) -> Any:
        return context.create_callback("approve").result()

    with LocalRunner(asking) as runner:
        execution = runner.start()
        callback_id = execution.callback("approve").id
        thread = threading.Timer(0.05, lambda: runner.send_callback_success(callback_id, "late"))
        thread.start()
        assert execution.result().result == "late"
        thread.join()


def test_an_execution_that_another_thread_stops_is_waited_for_no_longer() -> None:
    @durable_execution
    def asking(_event: Any, context: DurableContext) -> Any:
        return context.create_callback("approve").result()

    with LocalRunner(asking, wall_timeout=20) as runner:
        execution = runner.start()
        execution.callback("approve").wait()
        thread = threading.Timer(0.05, lambda: execution.stop("enough"))
        thread.start()
        execution.result().assert_stopped()
        thread.join()


def test_a_clock_that_another_thread_sets_going_again_goes_on() -> None:
    with LocalRunner(waiting, wall_timeout=20) as runner:
        runner.clock.auto = False
        execution = runner.start()

        def thaw() -> None:
            runner.clock.auto = True

        thread = threading.Timer(0.05, thaw)
        thread.start()
        execution.result().assert_succeeded(None)
        thread.join()
