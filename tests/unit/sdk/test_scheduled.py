"""Branches that take turns as a seed says. Numbers in brackets: checklist of the tooling specification."""

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from perdure import CompletionConfig, DurableContext, MapConfig, ParallelConfig, StepContext, durable_execution
from perdure.model.execution import ExecutionStatus
from perdure.sdk.drivers.scheduled import STACKS_MAX, scheduled
from perdure.worker.threads import ThreadWorker
from support.local import Local

SEEDS = range(40)


def run(handler: Callable[..., Any], seed: int) -> tuple[Any, list[str]]:
    """The result of a handler, and the order of its operations."""
    local = Local(handler, driver_of=scheduled(random.Random(seed)))
    outcome = local.run()
    return outcome.result, [operation.id for operation in outcome.operations]


def bodies_of(handler_of: Callable[[Callable[[str], None]], Callable[..., Any]], seed: int) -> list[str]:
    """The order in which a handler's bodies did things."""
    done: list[str] = []
    run(handler_of(done.append), seed)
    return done


def tangle(tell: Callable[[str], None]) -> Callable[..., Any]:
    """Branches in branches, waits, futures, and a parallel that is over before its branches are."""

    def branch(number: int) -> Callable[[DurableContext], int]:
        def function(context: DurableContext) -> int:
            for at in range(2):
                context.step(lambda _, at=at: tell(f"{number}.{at}"), name=f"step-{at}")
            if number == 1:
                context.wait(3)
            if number == 2:
                context.map("abc", lambda inner, item: inner.step(lambda _: tell(f"{number}.{item}")))
            context.step(lambda _: tell(f"{number}.end"), name="end")
            return number

        return function

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        started = context.start.step(lambda _: tell("started"))
        results = context.parallel([branch(number) for number in range(3)]).get_results()
        started.result()
        first = ParallelConfig(completion_config=CompletionConfig(min_successful=1))
        context.parallel([branch(number) for number in range(3, 6)], config=first)
        return results

    return handler


def test_a_seed_gives_the_same_order_twice_and_seeds_give_different_orders() -> None:
    """[T64]"""
    orders = [bodies_of(tangle, seed) for seed in SEEDS]

    assert orders == [bodies_of(tangle, seed) for seed in SEEDS]
    assert len({tuple(order) for order in orders}) == len(SEEDS)


def test_the_order_is_no_part_of_the_result() -> None:
    assert all(run(tangle(lambda _: None), seed)[0] == [0, 1, 2] for seed in SEEDS)


def test_one_branch_at_a_time_has_the_turn() -> None:
    at_work: set[int] = set()

    def body(_: StepContext) -> None:
        assert not at_work
        at_work.add(threading.get_ident())
        at_work.remove(threading.get_ident())

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.map(range(50), lambda inner, item: inner.step(body)).success_count

    assert all(run(handler, seed)[0] == 50 for seed in SEEDS)


def test_every_branch_may_be_the_first_and_the_last() -> None:
    def race(tell: Callable[[str], None]) -> Callable[..., Any]:
        @durable_execution
        def handler(event: Any, context: DurableContext) -> None:
            context.map("abc", lambda inner, item: inner.step(lambda _: tell(item)))

        return handler

    orders = [bodies_of(race, seed) for seed in range(200)]

    assert {order[0] for order in orders} == {order[-1] for order in orders} == set("abc")
    assert len({tuple(order) for order in orders}) == 6


def test_what_the_handler_does_next_may_come_before_or_after_what_it_has_started() -> None:
    def beside(tell: Callable[[str], None]) -> Callable[..., Any]:
        @durable_execution
        def handler(event: Any, context: DurableContext) -> None:
            started = context.start.step(lambda _: tell("started"))
            context.step(lambda _: tell("next"))
            started.result()

        return handler

    assert {tuple(bodies_of(beside, seed)) for seed in SEEDS} == {("started", "next"), ("next", "started")}


def test_branches_that_nobody_waits_for_are_over_when_the_invocation_is() -> None:
    before = threading.active_count()
    begun: list[str] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        first = MapConfig(completion_config=CompletionConfig.first_successful())

        def branch(inner: DurableContext, item: str) -> str:
            for _ in range(3):
                inner.step(lambda _: begun.append(item))
            return item

        return context.map("abcdefgh", branch, config=first).get_results()[0]

    for seed in SEEDS:
        begun.clear()
        winner, _ = run(handler, seed)
        assert begun.count(winner) == 3
    assert threading.active_count() - before <= STACKS_MAX + 1, "idle threads are borrowed again"


def test_more_branches_than_stacks_end_all_the_same() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def branch(outer: DurableContext, item: int) -> int:
            return outer.map(range(4), lambda inner, each: inner.step(lambda _: item * each)).success_count

        return sum(context.map(range(STACKS_MAX * 3), branch).get_results())

    assert all(run(handler, seed)[0] == STACKS_MAX * 12 for seed in range(5))


class Died(BaseException):
    """The process is dead."""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_process_that_dies_in_a_branch_does_nothing_more(seed: int) -> None:
    bodies: list[str] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def body(item: str) -> None:
            bodies.append(item)
            if item == "c":
                raise Died

        context.map("abcde", lambda inner, item: inner.step(lambda _: body(item)))

    local = Local(handler, driver_of=scheduled(random.Random(seed)))
    execution_id = local.start()
    local.pump_one()

    assert bodies[-1] == "c"
    assert local.service.get(execution_id).status is ExecutionStatus.RUNNING


def test_a_branch_whose_moment_has_come_goes_on_in_the_same_invocation() -> None:
    def invocations_of(seed: int) -> int:
        @durable_execution
        def handler(event: Any, context: DurableContext) -> None:
            def branch(inner: DurableContext, item: int) -> None:
                if item == 0:
                    inner.wait(60)
                    return
                for _ in range(30):
                    inner.step(pass_time)

            context.map(range(2), branch)

        def pass_time(_: StepContext) -> None:
            local.clock.now += 4_000

        local = Local(handler)
        local.driver_of = scheduled(random.Random(seed), local.clock.now_ms)
        local.run()
        return local.invocations

    assert 1 in {invocations_of(seed) for seed in SEEDS}


def test_a_worker_runs_blocking_handlers_with_the_driver_that_it_is_given() -> None:
    made: list[Any] = []

    def driver_of(*given: Any) -> Any:
        made.append(scheduled(random.Random(0))(*given))
        return made[-1]

    @durable_execution(name="f")
    def handler(event: Any, context: DurableContext) -> str:
        return context.step(lambda _: "done")

    local = Local(handler)
    worker = ThreadWorker({"f": handler}, driver_of=driver_of)
    worker.bind(local.service)
    execution_id = local.start()
    assert worker.reserve("f:$LATEST")
    worker.run(local.queue.work.popleft())  # type: ignore[arg-type]
    worker.close(5)
    del execution_id

    assert len(made) == 1
