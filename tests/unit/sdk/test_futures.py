"""Operations that are begun now and asked for later, and several of them as one, in both kinds of handlers."""

import asyncio
import threading
from typing import Any

import pytest

from perdure import (
    AsyncDurableContext,
    CallbackExternalError,
    DurableContext,
    PromiseCombinatorError,
    RetryPresets,
    StepConfig,
    StepError,
    ValidationError,
    durable_execution,
)
from perdure.exceptions import DurableCancelledError
from perdure.futures import Promise
from perdure.model.error import ErrorObject
from perdure.model.execution import ExecutionStatus
from perdure.sdk.client import Answer
from perdure.sdk.identity import operation_id
from perdure.worker.client import InProcessClient
from support.local import Local

NO_RETRY = StepConfig(RetryPresets.none())


def _boom(_: Any) -> Any:
    raise ValueError("boom")


def test_a_started_step_runs_beside_the_handler() -> None:
    """It ends only once the handler has gone on."""
    went_on = threading.Event()

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        future = context.start.step(lambda _: went_on.wait(20), name="beside")
        context.step(lambda _: went_on.set(), name="meanwhile")
        return future.result()

    outcome = Local(handler).run()
    assert outcome.result is True
    assert outcome.op("beside").id == operation_id("", 1), "its place is that of the call"
    assert outcome.op("meanwhile").id == operation_id("", 2)


def test_started_waits_run_out_together() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        futures = [context.start.wait(seconds) for seconds in (30, 10, 20)]
        return [future.result() for future in futures]

    local = Local(handler)
    before = local.clock.now
    outcome = local.run()
    assert outcome.result == [None] * 3
    assert (local.clock.now - before) // 1000 in (30, 31)


def test_a_future_raises_what_its_operation_raised() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        future = context.start.step(_boom, name="bad", config=NO_RETRY)
        error = future.exception()
        assert isinstance(error, StepError)
        with pytest.raises(StepError, match="boom"):
            future.result()
        return future.done()

    assert Local(handler).run().result is True


def test_a_future_that_nobody_asks_for_fails_the_handler_and_names_its_line() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.start.step(lambda _: 1, name="forgotten")

    outcome = Local(handler).run()
    assert outcome.error.type == "perdure.exceptions.ContextUsageError"
    assert "context.start.step('forgotten'), called at " in outcome.error.message
    assert "test_futures.py" in outcome.error.message


def test_a_future_that_waits_can_be_cancelled() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        future = context.start.wait(3600)
        assert future.cancel()
        assert not future.cancel()
        with pytest.raises(DurableCancelledError, match=r"context.start.wait\(…\) was cancelled"):
            future.result()
        return "not waited for"

    assert Local(handler).run().result == "not waited for"


def test_a_suspended_handler_waits_for_what_it_has_started() -> None:
    """The step beside it is recorded before the invocation ends; it does not run again."""
    runs: list[int] = []
    may_end = threading.Event()

    def beside(_: Any) -> str:
        runs.append(1)
        may_end.wait(20)
        return "beside"

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        future = context.start.step(beside, name="beside")
        threading.Timer(0.02, may_end.set).start()
        context.wait(60)
        return future.result()

    assert Local(handler).run().result == "beside"
    assert runs == [1]


def test_children_and_maps_can_be_started() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def double(child: DurableContext, number: int) -> int:
            child.wait(5)
            return child.step(lambda _: number * 2)

        one = context.start.child(double, 4, name="one")
        many = context.start.map([1, 2], lambda branch, item: double(branch, item), name="many")
        return [one.result(), many.result().get_results()]

    assert Local(handler).run().result == [8, [2, 4]]


def test_all_gives_the_results_in_the_order_of_the_futures() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.all(context.start.wait(9), context.start.step(lambda _: "b"), name="both")

    outcome = Local(handler).run()
    assert outcome.result == [None, "b"]
    assert (outcome.op("both").type, outcome.op("both").sub_type) == ("CONTEXT", "RunInChildContext")


def test_all_fails_with_the_first_failure_on_every_run() -> None:
    seen: list[Any] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            context.all(context.start.wait(3600), context.start.step(_boom, config=NO_RETRY))
        except PromiseCombinatorError as error:
            seen.append((str(error), type(error.__cause__).__name__))
        context.wait(1)
        return "over"

    assert Local(handler).run().result == "over"
    assert seen == [("boom", "StepError")] * 2


def test_all_settled_says_how_each_ended() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        settled = context.all_settled(context.start.step(_boom, config=NO_RETRY), context.start.step(lambda _: 2))
        assert isinstance(settled[0].error, StepError)
        context.wait(1)
        return [[each.status, each.value] for each in settled]

    assert Local(handler).run().result == [["rejected", None], ["fulfilled", 2]]


def test_any_passes_over_failures() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.any(context.start.step(_boom, config=NO_RETRY), context.start.wait(5))

    assert Local(handler).run().result is None


def test_any_fails_when_all_have() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            context.any(*(context.start.step(_boom, config=NO_RETRY) for _ in range(2)))
        except PromiseCombinatorError as error:
            return str(error)

    assert Local(handler).run().result == "all 2 futures failed: StepError: boom; StepError: boom"


def test_any_and_race_of_nothing_are_refused() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        for call in (context.any, context.race):
            with pytest.raises(ValidationError, match="needs at least one future"):
                call()

    outcome = Local(handler).run()
    assert outcome.status is ExecutionStatus.SUCCEEDED
    assert not outcome.operations


class _Lost(InProcessClient):
    """Dies when the race's end is sent, once: the winner was known, and not recorded."""

    died = False

    def checkpoint(self, updates: Any) -> Answer:
        if not _Lost.died and any(update.name == "race" and update.action == "SUCCEED" for update in updates):
            _Lost.died = True
            raise KeyboardInterrupt
        return super().checkpoint(updates)


def test_the_winner_of_a_race_is_the_same_in_every_replay() -> None:
    seen: list[Any] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        slow = context.start.wait(60, name="slow")
        quick = context.start.wait(5, name="quick")
        seen.append(context.race(slow, quick, name="race"))
        slow.result()
        return context.step(lambda _: "both are over")

    outcome = Local(handler).run()
    assert outcome.result == "both are over"
    assert outcome.op("race").result == "1"
    assert seen == [None, None]


def test_a_race_whose_end_was_lost_is_run_again() -> None:
    _Lost.died = False

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.race(context.start.step(lambda _: "a", name="a"), context.start.wait(60), name="race")

    outcome = Local(handler, client=_Lost).run()
    assert _Lost.died
    assert outcome.result == "a"


def test_a_callback_against_a_time_out_in_one_line() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        callback = context.create_callback("approval")
        return context.race(callback, context.start.wait(60), name="approval or a minute")

    assert Local(handler).run().result is None
    local = Local(handler)
    execution = local.start()
    local.service.succeed_callback(local.go_on(execution, until_s=1).callback_id(), "yes")
    assert local.go_on(execution).result == "yes"


def test_a_race_that_a_failure_wins_raises_it() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            context.race(context.create_callback("approval"), context.start.wait(60))
        except PromiseCombinatorError as error:
            return [str(error), type(error.__cause__).__name__]

    local = Local(handler)
    execution = local.start()
    local.service.fail_callback(local.go_on(execution, until_s=1).callback_id(), ErrorObject("no", "Refused"))
    assert local.go_on(execution).result == ["no", CallbackExternalError.__name__]


def test_as_completed_gives_the_recorded_order() -> None:
    orders: list[list[int]] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def late(child: DurableContext, seconds: int) -> int:
            child.wait(seconds)
            return seconds

        futures = [context.start.child(late, seconds) for seconds in (30, 10, 20)]
        order = [future.result() for future in context.as_completed(*futures)]
        context.wait(1)
        orders.append(order)
        return order

    assert Local(handler).run().result == [10, 20, 30]
    assert orders == [[10, 20, 30]]


def test_a_future_of_another_context_is_refused() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        future = context.start.wait(5, name="outer")
        future.use()
        context.run_in_child_context(lambda child: child.race(future), name="child")

    assert "race was given context.start.wait('outer') of the handler's context" in Local(handler).run().error.message


def test_gather_and_combinators_of_async_handlers() -> None:
    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        first = await context.gather(context.step(lambda _: 1), context.wait(5))
        both = await context.all(context.step(lambda _: 2), context.wait(5), name="both")
        settled = await context.all_settled(context.step(_boom, config=NO_RETRY), context.step(lambda _: 3))
        winner = await context.any(context.step(_boom, config=NO_RETRY), context.step(lambda _: 4))
        raced = await context.race(context.wait(60), context.step(lambda _: 5), name="race")
        order = [await future async for future in context.as_completed(context.wait(20), context.step(lambda _: 6))]
        return [first, both, [each.status for each in settled], winner, raced, order]

    outcome = Local(handler).run()
    assert outcome.result == [[1, None], [2, None], ["rejected", "fulfilled"], 4, 5, [6, None]]


def test_async_operations_can_be_started_and_awaited_twice() -> None:
    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        future = context.start.step(lambda _: "once", name="s")
        return [await future, await future, future.result(), future.done()]

    outcome = Local(handler).run()
    assert outcome.result == ["once", "once", "once", True]
    assert len(outcome.operations) == 1


def test_an_async_callback_against_a_time_out() -> None:
    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        callback = await context.create_callback("approval")
        return await context.race(callback, context.wait(60))

    local = Local(handler)
    execution = local.start()
    local.service.succeed_callback(local.go_on(execution, until_s=1).callback_id(), "yes")
    assert local.go_on(execution).result == "yes"


def test_a_cancelled_async_future_never_runs() -> None:
    ran: list[int] = []

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        future = context.step(lambda _: ran.append(1), name="never")
        assert future.cancel()
        with pytest.raises(DurableCancelledError):
            await future
        return "over"

    assert Local(handler).run().result == "over"
    assert not ran


def test_waiting_for_all_registers_with_each_future_a_few_times_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They end one after the other: each end wakes the waiter, and must not make it look at all others again."""
    told = 0
    gates: list[asyncio.Event] = []
    tell, settle = Promise.tell, Promise.settle

    def counted(self: Any, listener: Any) -> None:
        nonlocal told
        told += 1
        tell(self, listener)

    def in_turn(self: Any, value: Any, error: Any) -> None:
        settle(self, value, error)
        if error is None and isinstance(value, int) and value < len(gates):
            gates[value].set()

    monkeypatch.setattr(Promise, "tell", counted)
    monkeypatch.setattr(Promise, "settle", in_turn)

    @durable_execution(name="many")
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        gates[:] = [asyncio.Event() for _ in range(event)]
        gates[0].set()

        def waits_for(number: int) -> Any:
            async def body() -> int:
                await gates[number].wait()
                return number + 1

            return body

        return len(await context.all(*(context.step(waits_for(number)) for number in range(event))))

    each = []
    for number in (20, 80):
        told = 0
        assert Local(handler).run(number).result == number
        each.append(told / number)
    assert each[1] <= each[0] + 1
