"""The threads of map and parallel: few, never waiting for each other, none for what waits. Numbers: SDK checklist."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import perdure
from perdure import DurableContext, RetryPresets, StepConfig, durable_execution
from perdure.config import CompletionConfig, MapConfig, NestingType
from perdure.model.execution import ExecutionStatus
from perdure.sdk.drivers.crew import WORKERS_MAX, Crew, Group, Unit
from perdure.sdk.drivers.running import run_blocking
from support.local import Local

WAIT_S = 10.0


class Bodies:
    """Counts bodies that run at the same moment."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = 0
        self.running_max = 0
        self.begun = 0

    @contextmanager
    def one(self) -> Iterator[int]:
        with self.lock:
            self.running += 1
            self.begun += 1
            self.running_max = max(self.running, self.running_max)
            number = self.begun
        yield number
        with self.lock:
            self.running -= 1


def test_ten_thousand_blocking_branches_take_64_threads() -> None:
    """Sixty-four branches block, and the handler's own thread helps with one: only that lets them all go on."""
    bodies, go_on = Bodies(), threading.Event()

    def body(_: Any) -> int:
        with bodies.one() as number:
            if number == WORKERS_MAX + 1:
                go_on.set()
            assert go_on.wait(WAIT_S)
            return number

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.map(range(10_000), lambda ctx, item: ctx.step(body)).success_count

    assert Local(handler).run().result == 10_000
    assert bodies.running_max == WORKERS_MAX + 1


def test_a_branch_that_blocks_outside_of_steps_does_not_hold_up_those_behind_it() -> None:
    """Each waits for the one after it; nobody says that it is about to block."""
    reached = [threading.Event() for _ in range(6)]
    reached[-1].set()

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def function(ctx: DurableContext, item: int) -> int:
            assert reached[item].wait(WAIT_S)
            reached[item - 1].set()
            return item

        return context.map(range(6), function).get_results()

    assert Local(handler).run().result == [0, 1, 2, 3, 4, 5]


def test_more_nested_batches_than_workers_end() -> None:
    """All workers run a branch that waits for branches of its own, and more such are queued."""
    bodies, all_taken = Bodies(), threading.Event()

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def take(_: Any) -> None:
            with bodies.one() as number:
                if number == WORKERS_MAX:
                    all_taken.set()
                assert all_taken.wait(WAIT_S)

        def outer(ctx: DurableContext, item: int) -> int:
            ctx.step(take)
            inner = ctx.map(range(3), lambda c, i: c.map([i], lambda d, j: d.step(lambda _: j)).get_results()[0])
            return sum(inner.get_results())

        return sum(context.map(range(WORKERS_MAX + 20), outer).get_results())

    assert Local(handler).run().result == 3 * (WORKERS_MAX + 20)


@pytest.mark.parametrize("workers_max", [1, 2, 3, 64])
def test_any_number_of_workers_brings_nested_groups_to_their_end(workers_max: int) -> None:
    crew = Crew(lambda operation_id: None, lambda: None, workers_max)

    async def node(depth: int) -> int:
        if depth == 0:
            return 1
        group = Group(crew)
        for key in range(3):
            group.start(Unit(group, key, lambda: node(depth - 1)))
        ended = [group.next() for _ in range(3)]
        crew.forget(group)
        assert [each.error for each in ended] == [None] * 3
        return sum(each.outcome for each in ended)

    assert run_blocking(node(4)) == 81
    assert crew.wait_quiet(WAIT_S)


def test_what_is_known_to_block_does_not_wait_for_the_stall_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that begins to wait for its own branches, or to run a step's body, lets another one in."""
    monkeypatch.setattr("perdure.sdk.drivers.crew.STALL_S", 1_000.0)
    go_on = [threading.Event() for _ in range(4)]
    go_on[-1].set()

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def deep(ctx: DurableContext, depth: int) -> int:
            if depth == 0:
                return 1
            return sum(ctx.map([depth - 1] * 2, deep).get_results())

        def body(item: int) -> int:
            assert go_on[item].wait(WAIT_S)
            go_on[item - 1].set()
            return item

        blocked = context.map(range(4), lambda ctx, item: ctx.step(lambda _: body(item))).get_results()
        return [deep(context, 5), blocked]

    assert Local(handler).run().result == [32, [0, 1, 2, 3]]


@pytest.mark.parametrize("nesting", list(NestingType))
def test_batches_nest(nesting: NestingType) -> None:
    runs: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def inner(ctx: DurableContext, item: int) -> int:
            ctx.wait(1 + item)
            return ctx.step(lambda _: item * 10)

        def outer(ctx: DurableContext, item: int) -> list[int]:
            runs.append(item)
            return ctx.map(range(item), inner, config=MapConfig(nesting_type=nesting)).get_results()

        found = context.map(range(4), outer, config=MapConfig(nesting_type=nesting)).get_results()
        context.wait(1)
        return found

    assert Local(handler).run().result == [[], [0], [0, 10], [0, 10, 20]]


# --- resuming within the invocation; this needs real time --------------------------------------------------------


class Counted:
    """A handler, how often it was invoked, and what its logger got."""

    def __init__(self, branches: Callable[[DurableContext], Any]) -> None:
        self.invocations = 0
        self.log = logging.getLogger("test-batch-threads")
        self.log.setLevel(logging.INFO)

        @durable_execution(name="counted", logger=self.log)
        def handler(event: Any, context: DurableContext) -> Any:
            self.invocations += 1
            return branches(context)

        self.handler = handler

    def run(self) -> Any:
        with perdure.open("memory://", [self.handler]) as app:
            return app.run(self.handler, None, timeout=WAIT_S)


@pytest.mark.parametrize("nesting", list(NestingType))
def test_a_timed_branch_goes_on_while_another_runs(nesting: NestingType, caplog: pytest.LogCaptureFixture) -> None:
    """[58]"""
    waited = threading.Event()
    bodies: list[str] = []

    def branches(context: DurableContext) -> Any:
        def timed(ctx: DurableContext) -> str:
            bodies.append("timed")
            ctx.logger.info("before the wait")
            ctx.step(lambda _: bodies.append("step"), name="first")
            ctx.wait(1, name="nap")
            ctx.logger.info("after the wait")
            ctx.step(lambda _: waited.set(), name="second")
            return "rested"

        def busy(ctx: DurableContext) -> bool:
            return ctx.step(lambda _: waited.wait(WAIT_S), name="busy")

        return context.parallel([timed, busy], config=perdure.config.ParallelConfig(nesting_type=nesting)).get_results()

    counted = Counted(branches)
    with caplog.at_level(logging.INFO, logger=counted.log.name):
        assert counted.run() == ["rested", True]
    assert counted.invocations == 1
    assert bodies == ["timed", "step", "timed"], "the branch ran again over what it had recorded"
    assert [entry.message for entry in caplog.records if entry.name == counted.log.name] == [
        "before the wait",
        "after the wait",
    ]


def test_a_timed_branch_alone_suspends_the_invocation() -> None:
    """[58]"""

    def branches(context: DurableContext) -> Any:
        def timed(ctx: DurableContext, item: int) -> int:
            if item == 1:
                ctx.wait(1)
            return item

        return context.map([1, 2], timed).get_results()

    counted = Counted(branches)
    assert counted.run() == [1, 2]
    assert counted.invocations == 2


def test_the_next_attempt_of_a_step_comes_while_another_branch_runs() -> None:
    again = threading.Event()
    attempts: list[int] = []

    def branches(context: DurableContext) -> Any:
        def failing(ctx: DurableContext) -> Any:
            def body(step: Any) -> int:
                attempts.append(step.attempt)
                if step.attempt == 1:
                    raise ValueError("once")
                again.set()
                return len(attempts)

            from perdure import Duration

            return ctx.step(body, config=StepConfig(RetryPresets.fixed(Duration(1))))

        return context.parallel([failing, lambda ctx: ctx.step(lambda _: again.wait(WAIT_S))]).get_results()

    counted = Counted(branches)
    assert counted.run() == [2, True]
    assert (counted.invocations, attempts) == (1, [1, 2])


def test_a_lost_branch_that_blocks_does_not_hold_the_result_for_ever() -> None:
    """The invocation waits for it for a moment, then leaves it behind."""
    released = threading.Event()

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        begun = threading.Event()

        def blocks(ctx: DurableContext) -> None:
            begun.set()
            assert released.wait(WAIT_S)

        def wins(ctx: DurableContext) -> str:
            assert begun.wait(WAIT_S)
            return "won"

        config = perdure.config.ParallelConfig(completion_config=CompletionConfig.first_successful())
        return context.parallel([blocks, wins], config=config).get_results()

    outcome = Local(handler).run()
    assert not released.is_set()
    released.set()
    assert outcome.status is ExecutionStatus.SUCCEEDED
    assert outcome.result == ["won"]
