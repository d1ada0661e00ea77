"""What mypy and pyright infer of every operation; both read this file, and here it runs. [86]"""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, assert_type

import pytest

from perdure import (
    AsyncCallback,
    AsyncDurableContext,
    BatchResult,
    Callback,
    DurableContext,
    DurableFuture,
    Settled,
    StepContext,
    WaitForConditionConfig,
    durable_execution,
    durable_parallel_branch,
    durable_step,
    durable_wait_for_callback,
    durable_with_child_context,
    fixed_wait,
)
from perdure.types import FunctionRef, WaitForCallbackContext
from support.local import Local


@dataclass
class Quote:
    price: int


@durable_step
def greet(step: StepContext, name: str) -> str:
    return f"hello {name}"


@durable_with_child_context
def count(child: DurableContext, words: list[str]) -> int:
    return len(words)


@durable_parallel_branch(name="branch")
def branch(child: DurableContext, number: int) -> int:
    return number


@durable_wait_for_callback
def submit(callback_id: str, context: WaitForCallbackContext, to: str) -> None:
    """Nobody needs to be told: the answer is there already."""


@durable_execution(name="quote")
def quote(event: dict[str, int], context: DurableContext) -> Quote:
    return Quote(event["number"])


@durable_execution(name="typed")
def typed(event: Any, context: DurableContext) -> list[Any]:
    greeting = context.step(greet("Ada"))
    assert_type(greeting, str)
    length = context.step(lambda _: len(greeting), name="length")
    assert_type(length, int)
    number = context.run_in_child_context(count(["a", "b"]))
    assert_type(number, int)
    mapped = context.map(["a", "b"], lambda child, item: child.step(lambda _: len(item)))
    assert_type(mapped, BatchResult[int])
    assert_type(mapped.get_results(), list[int])
    indexed = context.map([1, 2], lambda child, item, index: f"{item}{index}")
    assert_type(indexed, BatchResult[str])
    alike = context.parallel([branch(1), branch(2)])
    assert_type(alike, BatchResult[int])
    mixed = context.parallel((count(["a"]), _text))
    assert_type(mixed, BatchResult[int | str])
    quoted = context.invoke(quote, {"number": 3})
    assert_type(quoted, Quote)
    referred = context.invoke(FunctionRef[dict[str, int], Quote]("quote", Quote), {"number": 4})
    assert_type(referred, Quote)
    told = context.invoke("quote", {"number": 5}, result_type=Quote)
    assert_type(told, Quote)
    assert_type(context.invoke("quote", {"number": 5}), Any)
    state = context.wait_for_condition(_more, WaitForConditionConfig(fixed_wait(_is_few), 0))
    assert_type(state, int)
    future = context.start.step(greet("Bob"))
    assert_type(future, DurableFuture[str])
    assert_type(context.all(future, context.start.step(greet("Eve"))), tuple[str, ...])
    assert_type(context.all_settled(future), list[Settled[str]])
    assert_type(context.race(future), str)
    return [greeting, length, number, quoted, referred, told, state, mixed.get_results()]


def _text(_: DurableContext) -> str:
    return "text"


def _more(state: int) -> int:
    return state + 1


def _is_few(state: int) -> bool:
    return state < 2


@durable_execution(name="callbacks")
def callbacks(event: Any, context: DurableContext) -> int:
    callback = context.create_callback("c", result_type=Quote)
    assert_type(callback, Callback[Quote])
    answer = callback.result()
    assert_type(answer, Quote)
    raced: Quote | None = context.race(callback, context.start.wait(60))
    assert raced is not None
    again = context.wait_for_callback(submit("somebody"), result_type=Quote)
    assert_type(again, Quote)
    return answer.price + again.price


@durable_step
async def fetch(step: StepContext, name: str) -> str:
    return name


@durable_execution(name="typed-async")
async def typed_async(event: Any, context: AsyncDurableContext) -> list[Any]:
    fetched = await context.step(fetch("Ada"))
    assert_type(fetched, str)
    length = await context.step(lambda _: len(fetched), name="length")
    assert_type(length, int)

    async def child(inner: AsyncDurableContext, number: int) -> int:
        return await inner.step(lambda _: number)

    doubled = await context.child(child, 4)
    assert_type(doubled, int)
    mapped = await context.map([1, 2], child)
    assert_type(mapped, BatchResult[int])
    mixed = await context.parallel((_async_text, _async_number))
    assert_type(mixed, BatchResult[str | int])
    quoted = await context.invoke(quote, {"number": 3})
    assert_type(quoted, Quote)
    both = await context.gather(context.step(fetch("a")), context.step(fetch("b")))
    assert_type(both, tuple[str, ...])
    return [fetched, length, doubled, mapped.get_results(), mixed.get_results(), quoted, list(both)]


async def _async_text(_: AsyncDurableContext) -> str:
    return "text"


async def _async_number(_: AsyncDurableContext) -> int:
    return 1


async def typed_async_callback(context: AsyncDurableContext) -> None:
    callback = await context.create_callback("c", result_type=Quote)
    assert_type(callback, AsyncCallback[Quote])


def an_awaitable_is_no_text(value: Awaitable[str]) -> Awaitable[str]:
    return value


def test_a_blocking_handler_is_typed_from_end_to_end() -> None:
    """[86]"""
    outcome = Local(typed, functions={"quote": quote}).run()
    quoted = [{"price": number} for number in (3, 4, 5)]
    assert outcome.result == ["hello Ada", 9, 2, *quoted, 2, [1, "text"]]


def test_an_async_handler_is_typed_from_end_to_end() -> None:
    """[86]"""
    outcome = Local(typed_async, functions={"quote": quote}).run()
    assert outcome.result == ["Ada", 3, 4, [1, 2], ["text", 1], {"price": 3}, ["a", "b"]]


def test_callbacks_answer_what_their_types_say() -> None:
    """[86]"""
    local = Local(callbacks)
    execution = local.start()
    for price in ("1", "2"):
        callback_id = local.go_on(execution).callback_id()
        local.service.succeed_callback(callback_id, f'{{"price": {price}}}')
    assert local.go_on(execution).result == 3


def test_an_answer_that_does_not_fit_says_where() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        with pytest.raises(Exception, match="the answer does not fit Quote: "):
            context.invoke("plain", None, result_type=Quote)

    def plain(event: Any, context: Any) -> Any:
        return {"price": "much"}

    assert Local(handler, functions={"plain": plain}).run().view.error is None
