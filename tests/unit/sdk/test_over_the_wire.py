"""What is new in Perdure's SDK, spoken to the service as Lambda is: every wait is answered, every call has a token."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from perdure import (
    AsyncDurableContext,
    DurableContext,
    DurableTimeoutError,
    MapConfig,
    RetryPresets,
    StepConfig,
    StepError,
)
from support.remote import remote

NO_RETRY = StepConfig(RetryPresets.none())


async def _async_journey(event: Any, context: AsyncDurableContext) -> Any:
    async def fetch() -> str:
        await asyncio.sleep(0)
        return "fetched"

    async def branch(inner: AsyncDurableContext, item: int) -> int:
        await inner.wait(item)
        return await inner.step(lambda _: item * 2, name="double")

    async def flaky(step: Any) -> int:
        if step.attempt < 3:
            raise ValueError("not yet")
        return int(step.attempt)

    fetched = await context.step(fetch, name="fetch")
    mapped = await context.map([3, 1, 2], branch, name="map")
    attempts = await context.step(flaky, name="flaky")
    both = await context.gather(context.wait(5), context.step(lambda _: "sync", name="sync"))
    raced = await context.race(context.wait(60), context.step(lambda _: "quick"), name="race")
    return [fetched, mapped.get_results(), attempts, both, raced]


def _futures(event: Any, context: DurableContext) -> Any:
    futures = [context.start.wait(20), context.start.step(lambda _: "b", name="b")]
    both = context.all(*futures, name="both")
    winner = context.race(context.start.wait(50), context.start.wait(5), name="race")
    order = [each.result() for each in context.as_completed(context.start.wait(9), context.start.step(lambda _: 1))]
    return [both, winner, order]


def _limited(event: Any, context: DurableContext) -> Any:
    callback = context.create_callback("never")
    try:
        with context.timeout(30):
            callback.result()
    except DurableTimeoutError:
        return [context.patched("p"), context.version("v", max=2), str(context.uuid4()) == event]
    return None


def _saga(event: Any, context: DurableContext) -> Any:
    undone: list[str] = []
    try:
        with context.saga() as saga:
            saga.step(lambda _: "x", name="x", undo=lambda what: undone.append(what))
            context.wait(5)
            context.step(lambda _: 1 / 0, name="fails", config=NO_RETRY)
    except StepError:
        return "undone"
    return None


def _map(event: Any, context: DurableContext) -> Any:
    def one(branch: DurableContext, item: int) -> int:
        branch.wait(item % 3 + 1)
        return branch.step(lambda _: item)

    return sum(context.map(range(40), one, config=MapConfig(max_concurrency=8)).results_or_raise())


@pytest.mark.parametrize("page", [1000, 2])
@pytest.mark.parametrize(
    ("handler", "result"),
    [
        (_async_journey, ["fetched", [6, 2, 4], 3, [None, "sync"], "quick"]),
        (_futures, [[None, "b"], None, [1, None]]),
        (_limited, [True, 2, False]),
        (_saga, "undone"),
        (_map, sum(range(40))),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_beyond_the_official_sdk_runs_over_the_wire(
    handler: Callable[..., Any], result: Any, page: int
) -> None:
    assert remote(handler, page=page).run().result == result
