"""What is around a durable function runs with it."""

import functools
from dataclasses import dataclass
from typing import Any

import pytest

from perdure import DurableContext, durable_execution
from perdure.testing import DurableFunctionTestRunner, LocalRunner
from perdure.testing.entries import as_entry
from support.kit import run


@dataclass
class Order:
    number: int


@durable_execution
def plain(order: Order, context: DurableContext) -> int:
    return context.step(lambda _: order.number, name="number")


def noted(notes: list[Any]) -> Any:
    """A decorator of Lambda handlers that notes what they answer."""

    def decorate(handler: Any) -> Any:
        @functools.wraps(handler)
        def wrapper(event: Any, lambda_context: Any) -> Any:
            answer = handler(event, lambda_context)
            notes.append((lambda_context.function_name, answer))
            return answer

        return wrapper

    return decorate


def test_a_decorator_sees_the_answers_that_lambda_gets() -> None:
    notes: list[Any] = []
    result = run(noted(notes)(plain), {"number": 7})
    result.assert_succeeded(7).assert_operations(["number"])
    assert [answer for _, answer in notes] == [{"Status": "SUCCEEDED", "Result": "7"}]
    assert notes[0][0] == result.facts.function


def test_a_function_without_anything_around_it_is_run_as_it_is() -> None:
    assert as_entry(plain) is plain


def test_a_function_that_runs_no_durable_one_is_refused_under_the_official_name() -> None:
    def forgotten(_event: Any, _context: Any) -> str:
        return "not durable"

    with DurableFunctionTestRunner(forgotten) as runner:
        result = runner.run("{}", 10)
    result.assert_failed("ValidationError", match="'forgotten' is no durable function, ran none, and returned 'not dur")
    run(forgotten).assert_succeeded("not durable")


def test_an_async_function_runs_without_what_is_around_it() -> None:
    notes: list[Any] = []

    @durable_execution
    async def handler(event: Any, context: Any) -> Any:
        return await context.step(lambda _: event, name="echo")

    run(noted(notes)(handler), 5).assert_succeeded(5)
    assert notes == []

    def calling(event: Any, lambda_context: Any) -> Any:
        return handler(event, lambda_context)

    with LocalRunner(as_entry(calling)) as runner:
        runner.run(5).assert_failed("ValidationError", match="is async: give the runner the function itself")


@pytest.mark.parametrize("make", [LocalRunner, DurableFunctionTestRunner])
def test_a_decorated_function_can_be_invoked_by_others(make: Any) -> None:
    @durable_execution
    def caller(_event: Any, context: DurableContext) -> Any:
        return context.invoke("numbers", {"number": 3}, name="call")

    notes: list[Any] = []
    with make(caller) as runner:
        runner.register_durable_function("numbers", noted(notes)(plain))
        assert runner.run().raw_result == "3"
    assert len(notes) == 1
