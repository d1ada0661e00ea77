"""A test puts other bodies in the place of a step's own; the operations are recorded as ever."""

from typing import Any

import pytest

from perdure import DurableContext, RetryPresets, StepConfig, durable_execution, durable_step
from perdure.testing import LocalRunner
from perdure.waits import WaitForConditionConfig, fixed_wait


@durable_step
def charge(_step: Any, amount: int, *, currency: str = "EUR") -> str:
    raise ConnectionError("there is no bank in a test")


@durable_execution
def ordering(event: dict[str, int], context: DurableContext) -> Any:
    how = StepConfig(RetryPresets.fixed(10))
    return context.step(charge(event["amount"], currency="CHF"), name="charge", config=how)


def test_a_mock_replaces_a_body_counts_its_calls_and_the_operation_is_recorded() -> None:
    """[T17]"""
    with LocalRunner(ordering) as runner:
        mock = runner.mock_step("charge", returns="receipt 7")
        result = runner.run({"amount": 12})
    assert result.result == "receipt 7"
    assert (result.op("charge").value, result.op("charge").status) == ("receipt 7", "SUCCEEDED")
    mock.assert_called_once()
    assert (mock.calls[0].args, mock.calls[0].kwargs, mock.attempts) == ((12,), {"currency": "CHF"}, 1)


def test_a_mock_that_fails_and_then_succeeds_is_tried_again() -> None:
    """[T17]"""
    with LocalRunner(ordering) as runner:
        mock = runner.mock_step("charge", side_effect=[ConnectionError("down"), TimeoutError, "paid"])
        result = runner.run({"amount": 1})
    assert result.result == "paid"
    result.assert_attempts("charge", 3)
    assert (mock.call_count, mock.attempts) == (3, 3)
    assert [call.attempt for call in mock.calls] == [1, 2, 3]


def test_a_mock_that_raises_fails_the_step_as_its_own_body_would() -> None:
    with LocalRunner(ordering) as runner:
        runner.mock_step("charge", side_effect=PermissionError("card declined"))
        result = runner.run({"amount": 1})
    result.assert_failed(match="card declined")


def test_a_mock_s_function_gets_the_arguments_of_the_step() -> None:
    with LocalRunner(ordering) as runner:
        runner.mock_step("charge", side_effect=lambda amount, currency: f"{amount} {currency}")
        assert runner.run({"amount": 5}).result == "5 CHF"


def test_a_mock_that_wraps_runs_the_body_and_may_change_what_it_returns() -> None:
    @durable_execution
    def adding(event: int, context: DurableContext) -> int:
        return context.step(lambda: event + 1, name="add")

    with LocalRunner(adding) as runner:
        spy = runner.mock_step("add", wraps=True)
        assert (runner.run(1).result, spy.call_count) == (2, 1)
        runner.mock_step("add", wraps=lambda body: body() * 10)
        assert (runner.run(1).result, spy.call_count) == (20, 1)


def test_a_crash_repeats_a_call_and_not_an_attempt() -> None:
    with LocalRunner(ordering) as runner:
        mock = runner.mock_step("charge", returns=1)
        runner.crash(at_checkpoint=1)
        runner.run({"amount": 1}).assert_succeeded(1)
    assert (mock.call_count, mock.attempts) == (2, 1)


@durable_execution
def nested(_event: Any, context: DurableContext) -> Any:
    def branch(inner: DurableContext, item: str, index: int, _items: Any) -> str:
        return inner.step(lambda: f"real {item}", name="work")

    return context.map(["a", "b", "c"], branch, name="orders").get_results()


def test_a_path_means_one_of_several_operations() -> None:
    with LocalRunner(nested) as runner:
        mock = runner.mock_operation("orders/*[1]/work", returns="mocked")
        result = runner.run()
    assert result.result.count("mocked") == 1
    mock.assert_called_once()


def test_a_branch_and_a_child_context_can_be_mocked() -> None:
    with LocalRunner(nested) as runner:
        mock = runner.mock_operation("map-item-0", returns="whole branch")
        result = runner.run()
    assert result.result == ["whole branch", "real b", "real c"]
    mock.assert_called_once()
    assert "work" not in [each.name for each in result.op("orders/map-item-0").children]


def test_the_check_of_a_condition_can_be_mocked() -> None:
    @durable_execution
    def polling(_event: Any, context: DurableContext) -> Any:
        config = WaitForConditionConfig(fixed_wait(lambda state: state != "READY", delay=30), initial_state="NEW")
        return context.wait_for_condition(lambda state: state, config, name="poll")

    with LocalRunner(polling) as runner:
        mock = runner.mock_operation("poll", side_effect=["BUSY", "BUSY", "READY"])
        result = runner.run()
    assert (result.result, mock.call_count) == ("READY", 3)


def test_a_mock_that_was_never_called_says_so() -> None:
    with LocalRunner(ordering) as runner:
        mock = runner.mock_step("refund", returns=1)
        runner.mock_step("charge", returns=1)
        runner.run({"amount": 1})
    mock.assert_not_called()
    with pytest.raises(AssertionError, match="the body of 'refund' never ran"):
        mock.assert_called()
    with pytest.raises(AssertionError, match="ran 0 times, not once"):
        mock.assert_called_once()


def test_a_mock_does_one_thing() -> None:
    with LocalRunner(ordering) as runner, pytest.raises(ValueError, match="one of returns, side_effect and wraps"):
        runner.mock_step("charge", returns=1, side_effect=[2])
