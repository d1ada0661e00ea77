"""An execution can be begun with the past of another one."""

from datetime import timedelta
from typing import Any

import pytest

from perdure import CallbackConfig, DurableContext, Duration, durable_execution
from perdure.model.error import ExecutionAlreadyStarted, InvalidParameterValue
from perdure.testing import LocalRunner, OperationNotFound


def handler_of(ran: list[str], charge: str = "charge") -> Any:
    @durable_execution(name="orders")
    def handler(event: dict[str, Any], context: DurableContext) -> list[Any]:
        def note(name: str) -> str:
            ran.append(name)
            return f"{name} {len(ran)}"

        first = context.step(lambda: note("quote"), name="quote")
        context.wait(3600, name="cool down")
        answer = context.create_callback("approve", CallbackConfig(timeout=Duration.from_hours(1))).result()
        inner = context.run_in_child_context(
            lambda child: [
                child.step(lambda: note("reserve"), name="reserve"),
                child.step(lambda: note(charge), name="pay"),
            ],
            name="booking",
        )
        return [event["order"], first, answer, inner]

    return handler


def test_a_fork_reuses_what_had_ended_before_its_point_and_runs_the_rest() -> None:
    ran: list[str] = []
    with LocalRunner(handler_of(ran)) as runner:
        runner.auto_callback("approve", "yes")
        first = runner.start({"order": 7})
        assert first.result().result == [7, "quote 1", "yes", ["reserve 2", "charge 3"]]
        runner.deploy(handler_of(ran, "charge less"))
        second = first.fork(at="booking/pay", name="again").result()
    assert second.result == [7, "quote 1", "yes", ["reserve 2", "charge less 4"]]
    assert ran == ["quote", "reserve", "charge", "charge less"]
    assert (second.name, len(second.invocations)) == ("again", 1)
    assert second.op("cool down").duration == timedelta(hours=1)


def test_a_fork_before_a_wait_waits_again() -> None:
    ran: list[str] = []
    with LocalRunner(handler_of(ran)) as runner:
        runner.auto_callback("approve", "yes")
        first = runner.start({"order": 7})
        first.result()
        before = runner.clock.now()
        second = first.fork(at="cool down")
        assert second.result().result == [7, "quote 1", "yes", ["reserve 4", "charge 5"]]
        assert runner.clock.now() - before == timedelta(hours=1)
        assert second.status == first.status == "SUCCEEDED"


def test_a_fork_of_an_open_execution_leaves_that_as_it_is_and_has_callbacks_of_its_own() -> None:
    ran: list[str] = []
    with LocalRunner(handler_of(ran)) as runner:
        first = runner.start({"order": 7})
        old = first.callback("approve").wait()
        second = first.fork(at="approve")
        new = second.callback("approve").wait()
        assert new.id != old.id
        new.succeed("new")
        assert second.result().result[2] == "new"
        assert first.status == "RUNNING"
        old.succeed("old")
        assert first.result().result[2] == "old"


def test_a_fork_is_as_far_into_its_time_out_as_its_origin_was_at_that_point() -> None:
    with LocalRunner(handler_of([]), execution_timeout=timedelta(hours=1, minutes=30)) as runner:
        first = runner.start({"order": 7})
        first.callback("approve").wait().succeed("yes")
        first.result().assert_succeeded()
        runner.clock.advance(timedelta(days=2))
        second = first.fork(at="approve").result()
    second.assert_timed_out()
    assert second.duration == timedelta(hours=1, minutes=30)


def test_a_fork_s_point_must_be_an_operation_and_its_name_free() -> None:
    with LocalRunner(handler_of([]), same_store=True) as runner:
        runner.auto_callback("approve", "yes")
        first = runner.start({"order": 7}, name="one")
        first.result()
        with pytest.raises(OperationNotFound):
            first.fork(at="refund")
        with pytest.raises(ExecutionAlreadyStarted, match="the name 'one' is taken"):
            first.fork(at="booking", name="one")
        with pytest.raises(InvalidParameterValue, match="no operation 'nowhere' to be forked at"):
            runner.fork(first, "nowhere", None)
        with pytest.raises(InvalidParameterValue, match="the execution's name must be"):
            first.fork(at="booking", name="not a name")
