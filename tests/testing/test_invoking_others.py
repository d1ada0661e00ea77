"""Chained invokes in a test: of registered functions, and of targets that do as the test says."""

from datetime import timedelta
from typing import Any

import pytest

from perdure import DurableContext, InvokeError, durable_execution
from perdure.testing import LocalRunner


@durable_execution
def calling(event: dict[str, Any], context: DurableContext) -> Any:
    try:
        return context.invoke(event["function"], event.get("payload"), name="call")
    except InvokeError as error:
        return {"type": error.error_type, "message": error.message}


@durable_execution
def doubling(event: int, context: DurableContext) -> int:
    context.wait(86_400)
    return context.step(lambda: event * 2)


def test_a_registered_function_is_called() -> None:
    """[T16]"""
    with LocalRunner(calling) as runner:
        runner.register_function("plain", lambda event, _context: event + 1)
        result = runner.run({"function": "plain", "payload": 4})
    assert result.result == 5


def test_a_registered_durable_function_has_an_execution_of_its_own() -> None:
    """[T16]"""
    with LocalRunner(calling) as runner:
        result = runner.register_durable_function("child", doubling, execution_timeout=2 * 86_400).run(
            {"function": "child", "payload": 4}
        )
    assert (result.result, result.duration) == (8, timedelta(days=1))


def test_a_registered_durable_function_times_out_as_it_was_registered() -> None:
    with LocalRunner(calling) as runner:
        result = runner.register_durable_function("child", doubling).run({"function": "child", "payload": 4})
    assert (result.op("call").status, result.duration) == ("TIMED_OUT", timedelta(seconds=120))


@pytest.mark.parametrize(
    "reference", ["plain", "plain:$LATEST", "plain:3", "arn:aws:lambda:eu-west-1:111122223333:function:plain:live"]
)
def test_a_function_is_found_by_its_name_in_any_reference(reference: str) -> None:
    with LocalRunner(calling) as runner:
        runner.register_function(reference, lambda _event, _context: "found")
        assert runner.run({"function": reference}).result == "found"
        assert runner.run({"function": "plain"}).result == "found"


def test_a_target_returns_what_the_test_says() -> None:
    """[T16]"""
    with LocalRunner(calling) as runner:
        target = runner.invoke_target("pay").returns({"receipt": 7})
        result = runner.run({"function": "pay", "payload": {"amount": 3}})
        assert (result.result, target.calls) == ({"receipt": 7}, [{"amount": 3}])
        runner.invoke_target("pay").returns(lambda event: event["amount"] + 1)
        assert runner.run({"function": "pay", "payload": {"amount": 3}}).result == 4


def test_a_target_fails() -> None:
    """[T16]"""
    with LocalRunner(calling) as runner:
        runner.invoke_target("pay").fails(ValueError("no money"))
        assert runner.run({"function": "pay"}).result == {"type": "ValueError", "message": "no money"}
        runner.invoke_target("pay").fails("declined", type="CardError")
        assert runner.run({"function": "pay"}).result == {"type": "CardError", "message": "declined"}


def test_a_target_times_out_in_modelled_time() -> None:
    """[T16]"""
    with LocalRunner(calling) as runner:
        runner.invoke_target("pay").times_out(after=timedelta(minutes=5))
        result = runner.run({"function": "pay"})
    assert (result.op("call").status, result.duration) == ("TIMED_OUT", timedelta(minutes=5))
    assert result.op("call").error.type == "ChainedInvoke.Timeout"


def test_a_target_is_stopped() -> None:
    """[T16]"""
    with LocalRunner(calling) as runner:
        runner.invoke_target("pay").stops("by hand")
        result = runner.run({"function": "pay"})
    assert (result.op("call").status, result.result["message"]) == ("STOPPED", "by hand")


def test_a_function_that_nobody_knows_fails_the_invoke() -> None:
    with LocalRunner(calling) as runner:
        result = runner.run({"function": "nowhere"})
    assert "Function not found" in result.result["message"]
