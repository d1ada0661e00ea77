"""Pieces of a durable function run alone: a child context's function, the body of a step."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from perdure import DurableContext, SerDesError, StepContext, durable_step, durable_with_child_context
from perdure.testing import ChildContextRunner, StepRunner


def booking(context: DurableContext, order: int, *, express: bool = False) -> str:
    context.wait(10 if express else 3600, name="hold")
    return context.step(lambda: f"booked {order}", name="book")


@durable_with_child_context
def wrapped(context: DurableContext, order: int) -> str:
    return booking(context, order)


def test_a_child_context_s_function_runs_alone() -> None:
    with ChildContextRunner(booking, 7, express=True) as runner:
        result = runner.run()
    assert (result.result, result.duration) == ("booked 7", timedelta(seconds=10))
    assert [each.name for each in result.operations] == ["hold", "book"]


def test_a_decorated_child_context_s_function_gets_its_arguments_as_in_a_handler() -> None:
    with ChildContextRunner(wrapped, 8, runner_options={"seed": 3}) as runner:
        assert runner.mock_step("book", returns="mocked").call_count == 0
        assert runner.run().result == "mocked"


def test_an_async_child_context_s_function_runs_alone() -> None:
    async def waiting(context: Any, seconds: int) -> int:
        await context.wait(seconds)
        return seconds

    with ChildContextRunner(waiting, 5) as runner:
        assert runner.run().result == 5


@durable_step
def charge(step: StepContext, amount: int) -> dict[str, Any]:
    step.logger.info("charging", extra={"amount": amount})
    return {"amount": Decimal(amount), "attempt": step.attempt, "key": step.operation_id}


def test_a_step_runs_alone_with_a_context_that_says_what_the_test_says() -> None:
    result = StepRunner(charge).run(12, attempt=3, operation_id="abc", name="charge")
    assert result.value == {"amount": Decimal(12), "attempt": 3, "key": "abc"}
    assert result.payload is not None
    (record,) = result.logs
    assert (record.getMessage(), vars(record)["amount"], vars(record)["attempt"]) == ("charging", 12, 3)
    assert vars(record)["operationName"] == "charge"


def test_a_step_of_any_shape_runs_alone() -> None:
    async def later(step: StepContext) -> int:
        return step.attempt + 1

    assert StepRunner(lambda: 5).run().value == 5
    assert StepRunner(lambda step: step.attempt).run(attempt=2).value == 2
    assert StepRunner(lambda _step, a, b: a + b, 1).run(2).value == 3
    assert StepRunner(later).run().value == 2


def test_what_a_step_raises_is_raised_or_told() -> None:
    def failing(_step: StepContext) -> None:
        raise ConnectionError("down")

    with pytest.raises(ConnectionError, match="down"):
        StepRunner(failing).run()
    assert str(StepRunner(failing).run(raises=False).error) == "down"


def test_a_value_that_can_t_be_recorded_is_refused_as_in_an_execution() -> None:
    with pytest.raises(SerDesError):
        StepRunner(lambda: object()).run()


def test_a_step_that_uses_a_durable_context_is_refused_as_in_an_execution() -> None:
    def wrong(context: DurableContext) -> None:
        context.step(lambda: context.step(lambda: 1))

    with ChildContextRunner(wrong) as runner:
        runner.run().assert_failed(match="a body can't contain durable operations")
