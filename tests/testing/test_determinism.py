"""Handlers ask for the same whenever they run, in whatever order things happen. Numbers: checklist of the tooling."""

import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from perdure import (
    AsyncDurableContext,
    CallbackConfig,
    CompletionConfig,
    DurableContext,
    MapConfig,
    NonDeterminismWarning,
    ParallelConfig,
    StepContext,
    ValidationError,
    durable_execution,
)
from perdure.testing import (
    LocalRunner,
    NotDeterministic,
    Result,
    ScheduleDependent,
    assert_deterministic,
    fuzz_schedules,
    strict,
)

# --- always replay -----------------------------------------------------------------------------------------------


@durable_execution
def tour(event: Any, context: DurableContext) -> Any:
    first = context.step(lambda _: 1, name="first")
    items = context.map([1, 2, 3], lambda inner, item: inner.step(lambda _: item, name="item"), name="items")
    context.wait(100, name="pause")
    child = context.run_in_child_context(lambda inner: inner.step(lambda _: 2, name="within"), name="child")
    return [first, items.get_results(), child, context.wait_for_callback(lambda _: None, name="approval")]


@durable_execution
async def tour_on_a_loop(event: Any, context: AsyncDurableContext) -> Any:
    first = await context.step(lambda _: 1, name="first")
    many = await context.gather(*(context.step(lambda _, n=n: n, name=f"step-{n}") for n in range(3)))
    return [first, list(many), await context.wait_for_callback(lambda _: None, name="approval")]


@pytest.mark.parametrize("handler", [tour, tour_on_a_loop], ids=["blocking", "on a loop"])
def test_with_always_replay_each_operation_ends_its_invocation(handler: Any) -> None:
    with LocalRunner(handler) as runner:
        expected = runner.auto_callback("approval", "yes").run()
    with LocalRunner(handler, always_replay=True) as runner:
        result = runner.auto_callback("approval", "yes").run()

    assert result.result == expected.result
    assert len(result.invocations) > len(expected.invocations) + 3
    assert {each.status for each in result.invocations} == {"PENDING", "SUCCEEDED"}


def test_with_always_replay_what_a_replay_does_not_repeat_shows() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> int:
        seen: list[int] = []
        context.step(lambda _: seen.append(1), name="load")
        context.step(lambda _: None, name="next")
        return len(seen)

    with LocalRunner(handler) as runner:
        assert runner.run().result == 1
    with LocalRunner(handler, always_replay=True) as runner:
        assert runner.run().result == 0


# --- assert_deterministic ----------------------------------------------------------------------------------------


@durable_execution
def unordered(event: Any, context: DurableContext) -> None:
    for name in {"espresso", "cortado", "flat white", "lungo", "ristretto"}:
        context.step(lambda _: None, name=name)


@durable_execution
def ordered(event: Any, context: DurableContext) -> Any:
    for name in sorted({"espresso", "cortado", "flat white"}):
        context.step(lambda _: random.random(), name=name)
    return context.now().isoformat()


@durable_execution
def by_the_clock(event: Any, context: DurableContext) -> None:
    context.step(lambda _: None, name=f"report-{datetime.now().year}")  # noqa: DTZ005


@durable_execution
def by_chance(event: Any, context: DurableContext) -> None:
    context.step(lambda _: None, name=f"lot-{random.random()}")


invocations: list[int] = []


@durable_execution
def by_count(event: Any, context: DurableContext) -> None:
    invocations.append(1)
    context.step(lambda _: None, name="first")
    context.step(lambda _: None, name="second" if len(invocations) == 1 else "another")


def test_a_handler_that_is_deterministic_passes_and_its_result_is_returned() -> None:
    assert assert_deterministic(tour, setup=lambda runner: runner.auto_callback("approval", "yes")).result[0] == 1
    assert assert_deterministic(ordered).status == "SUCCEEDED"


@pytest.mark.filterwarnings("ignore::perdure.NonDeterminismWarning")
@pytest.mark.parametrize(
    ("handler", "how"),
    [
        (unordered, r"another order of sets \(PYTHONHASHSEED=101\)"),
        (by_the_clock, "another clock and other random numbers"),
        (by_chance, "another clock and other random numbers"),
    ],
    ids=["sets", "the clock", "chance"],
)
def test_one_that_is_not_fails_with_the_first_operation_that_differs_and_its_line(handler: Any, how: str) -> None:
    with pytest.raises(NotDeterministic, match=f"replayed with {how}") as caught:
        assert_deterministic(handler, hash_seeds=3)

    function = handler.__perdure__.handler
    assert f"{__file__}:{function.__code__.co_firstlineno + 3 - (handler is not unordered)}" in str(caught.value)
    assert f"in {function.__name__}" in str(caught.value)


def test_one_that_counts_its_invocations_fails() -> None:
    invocations.clear()
    with pytest.raises(NotDeterministic, match="operation 2 is renamed"):
        assert_deterministic(by_count, hash_seeds=0)


def test_one_that_goes_another_way_only_when_each_operation_is_replayed_fails() -> None:
    begun: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> None:
        context.step(lambda _: begun.append(1), name="first")
        context.step(lambda _: None, name="second" if len(begun) < 2 else "another")

    with pytest.raises(NotDeterministic, match="where STEP 'second' was, STEP 'another' is"):
        assert_deterministic(handler)


def test_a_result_is_replayed_with_the_handler_that_it_knows_or_is_given() -> None:
    with LocalRunner(ordered) as runner:
        result = runner.run()
    assert result.assert_deterministic() is result
    assert result.assert_deterministic(ordered) is result
    with LocalRunner(unordered) as runner, pytest.raises(NotDeterministic, match="another order of sets"):
        runner.run().assert_deterministic()
    with pytest.raises(ValidationError, match="does not know its handler"):
        Result.from_json(result.to_json()).assert_deterministic()


def test_a_handler_within_a_function_is_replayed_in_this_process_only() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> None:
        for name in {"espresso", "cortado", "flat white", "lungo", "ristretto"}:
            context.step(lambda _: None, name=name)

    assert_deterministic(handler)


# --- strictness of runners ---------------------------------------------------------------------------------------


def test_a_runner_warns_or_refuses_or_lets_pass_what_a_replay_would_not_repeat() -> None:
    with LocalRunner(by_chance) as runner, pytest.warns(NonDeterminismWarning, match=r"random\.random was called at"):
        assert runner.run().status == "SUCCEEDED"
    with LocalRunner(by_chance, strict="raise") as runner:
        assert runner.run().error.type.endswith("NonDeterminismError")
    with LocalRunner(by_chance, strict=False) as runner:
        assert runner.run().status == "SUCCEEDED"
    with strict(), LocalRunner(by_chance) as runner:
        assert runner.run().error.type.endswith("NonDeterminismError")


def test_functions_that_are_invoked_are_guarded_too() -> None:
    @durable_execution
    def caller(event: Any, context: DurableContext) -> Any:
        return context.invoke("drawing", name="draw")

    with LocalRunner(caller, strict="raise") as runner:
        runner.register_durable_function("drawing", by_chance)
        assert "random.random was called" in runner.run().error.message


# --- schedule fuzzing --------------------------------------------------------------------------------------------


def order_of(handler: Callable[..., Any], seed: int, **how: Any) -> tuple[Any, list[str]]:
    (result,) = fuzz_schedules(handler, seeds=[seed], **how)
    return result.result, [each.id for each in result.facts.operations]


@durable_execution
def tangle(event: Any, context: DurableContext) -> Any:
    def branch(inner: DurableContext, item: int) -> Any:
        inner.wait(10, name="tie")
        first = inner.step(lambda _: item, name="first")
        return first, inner.wait_for_callback(lambda _: None, name=f"approval-{item}")

    return [list(each) for each in context.map([1, 2, 3], branch, name="branches").get_results()]


ANSWERS = {f"approval-{item}": f"answer-{item}" for item in (1, 2, 3)}


def test_a_seed_gives_the_same_order_twice_and_whatever_the_order_one_result() -> None:
    """[T64]"""
    orders = [order_of(tangle, seed, callbacks=ANSWERS) for seed in range(12)]

    assert orders == [order_of(tangle, seed, callbacks=ANSWERS) for seed in range(12)]
    assert len({tuple(order) for _, order in orders}) > 6
    assert {str(result) for result, _ in orders} == {"[[1, 'answer-1'], [2, 'answer-2'], [3, 'answer-3']]"}


def test_callbacks_are_answered_before_they_are_waited_for_then_and_later() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        callback = context.create_callback("approval", CallbackConfig(timeout=3600))
        context.step(lambda _: None, name="ask")
        context.map([1, 2], lambda inner, item: inner.wait(item * 60))
        return callback.result()

    results = fuzz_schedules(handler, seeds=30, callbacks={"approval": lambda callback_id: len(callback_id) > 0})

    def answered(result: Any) -> int:
        """How many operations had begun when the callback was answered."""
        ids = [event.event_type for event in result.history]
        return ids[: ids.index("CallbackSucceeded")].count("StepSucceeded") + ids[
            : ids.index("CallbackSucceeded")
        ].count("WaitSucceeded")

    assert {answered(result) for result in results} >= {0, 1, 2, 3}


def test_timers_that_are_due_at_about_the_same_time_fire_together_or_one_after_the_other() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.map([1000, 1001], lambda inner, item: inner.wait(item)).success_count

    assert {len(result.invocations) for result in fuzz_schedules(handler, seeds=30)} == {2, 3}


def test_a_result_that_depends_on_the_order_is_found_with_its_seed() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> list[str]:
        seen: list[str] = []

        def branch(inner: DurableContext, item: str) -> None:
            seen.append(inner.step(lambda _: item, name=item))

        context.map("abc", branch, name="branches")
        return seen

    with pytest.raises(ScheduleDependent, match=r"the result\[\d\] is '.' instead of '.'") as caught:
        fuzz_schedules(handler, seeds=50)

    found = caught.value
    assert f"again: fuzz_schedules(…, seeds=[0, {found.seed}])" in str(found)
    assert "SUCCEED 'a'" in str(found)
    with pytest.raises(ScheduleDependent):
        fuzz_schedules(handler, seeds=[found.first, found.seed])


def test_values_that_bodies_draw_and_races_that_are_meant_do_not_count() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        lot = context.step(lambda _: random.random(), name="lot")
        first = ParallelConfig(completion_config=CompletionConfig(min_successful=1))
        done = context.parallel([lambda c: c.step(lambda _: 1), lambda c: c.step(lambda _: 1)], config=first)
        return {"lot": lot, "done": done.get_results()[0]}

    assert len(fuzz_schedules(handler, seeds=20)) == 20


def test_on_a_loop_bodies_let_others_go_first() -> None:
    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> list[str]:
        seen: list[str] = []

        async def branch(inner: AsyncDurableContext, item: str) -> None:
            seen.append(await inner.step(lambda _: item, name=item))

        await context.map("abc", branch, name="branches")
        return seen

    with pytest.raises(ScheduleDependent):
        fuzz_schedules(handler, seeds=50)


def test_at_most_so_many_branches_are_begun_with_a_seed_too() -> None:
    running: list[int] = []

    def body(_: StepContext) -> None:
        assert len(running) < 2
        running.append(1)
        running.pop()

    @durable_execution
    def handler(event: Any, context: DurableContext) -> int:
        config = MapConfig(max_concurrency=2)
        return context.map(range(6), lambda inner, _item: inner.step(body), config=config).success_count

    assert {result.result for result in fuzz_schedules(handler)} == {6}


def test_time_and_seed_of_a_runner_are_those_that_are_given() -> None:
    started = datetime.fromisoformat("2031-02-03T04:05:06+00:00")
    begun = time.perf_counter()
    (result,) = fuzz_schedules(ordered, seeds=[7], start_time=started)
    assert result.result == started.isoformat()
    assert begun <= time.perf_counter()
