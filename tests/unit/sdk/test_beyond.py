"""What no official SDK has: deterministic helpers, decisions about changed code, sagas, executions that go on anew."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import (
    AsyncDurableContext,
    CallbackConfig,
    ChildConfig,
    CompensationError,
    DurableContext,
    DurableTimeoutError,
    JsonSerDes,
    MapConfig,
    NestingType,
    RetryPresets,
    StepConfig,
    StepContext,
    StepError,
    ValidationError,
    durable_execution,
    durable_step,
)
from perdure.execution import definition_of
from perdure.model.execution import ExecutionStatus
from perdure.sdk.client import Answer
from perdure.worker.client import InProcessClient
from support.local import Local

NO_RETRY = StepConfig(RetryPresets.none())


def _failing(_: Any) -> Any:
    raise ValueError("boom")


# --- the same in every replay ------------------------------------------------------------------------------------


def test_now_is_the_end_of_the_latest_operation_and_the_same_in_every_replay() -> None:
    seen: list[tuple[datetime, datetime, datetime]] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        begin = context.now()
        context.step(lambda _: 1)
        after_step = context.now()
        context.wait(timedelta(hours=1))
        seen.append((begin, after_step, context.now()))
        context.wait(1)
        return seen[-1][2].isoformat()

    local = Local(handler)
    began = datetime.fromtimestamp(local.clock.now / 1000, UTC)
    outcome = local.run()
    assert outcome.result == (began + timedelta(hours=1)).isoformat()
    assert seen == [(began, began, began + timedelta(hours=1))] * 2
    assert len(outcome.operations) == 3, "asking takes no operation"


@pytest.mark.parametrize("async_", [False, True])
def test_now_does_not_depend_on_what_runs_beside_the_context_until_it_is_asked_for(async_: bool) -> None:
    seen: list[tuple[datetime, datetime]] = []

    @durable_execution(name="timer")
    def blocking(event: Any, context: DurableContext) -> Any:
        timer = context.start.wait(timedelta(hours=1))
        context.create_callback(config=CallbackConfig(5))
        beside = context.now()
        context.wait(1)
        timer.result()
        seen.append((beside, context.now()))
        context.wait(1)

    @durable_execution(name="timer")
    async def on_loop(event: Any, context: AsyncDurableContext) -> Any:
        timer = context.wait(timedelta(hours=1)).start()
        await context.create_callback(config=CallbackConfig(5))
        beside = context.now()
        await context.wait(1)
        await timer
        seen.append((beside, context.now()))
        await context.wait(1)

    local = Local(on_loop if async_ else blocking)
    began = datetime.fromtimestamp(local.clock.now / 1000, UTC)
    assert local.run().status is ExecutionStatus.SUCCEEDED
    assert seen == [(began, began + timedelta(hours=1))] * 2


def test_now_is_the_time_of_an_answer_once_it_has_been_asked_for() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        callback = context.create_callback()
        if event:
            context.start.wait(1).result()
        else:
            context.wait(1)
        before = context.now()
        callback.result()
        return [before.timestamp(), context.now().timestamp()]

    for event in (True, False):
        local = Local(handler)
        began = local.clock.now / 1000
        execution_id = local.start(event)
        local.go_on(execution_id)
        local.clock.now += 60_000
        (opened,) = local.service.open_callbacks(execution_id)
        local.service.succeed_callback(opened.callback_id, "yes")
        assert local.go_on(execution_id).result == [began + 1, began + 61]


def test_uuids_and_random_numbers_are_the_same_in_every_replay_and_differ_otherwise() -> None:
    seen: list[list[Any]] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        inner = context.run_in_child_context(lambda child: str(child.uuid4()), name="child")
        drawn = [
            str(context.uuid4()),
            str(context.uuid4()),
            inner,
            context.random().random(),
            context.random().random(),
        ]
        context.wait(1)
        seen.append(drawn)
        assert context.uuid4().version == 4
        context.wait(1)
        return drawn

    outcomes = [Local(handler, seed=seed).run() for seed in (1, 2)]
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 5
    assert not set(outcomes[0].result) & set(outcomes[1].result)


# --- changed code ------------------------------------------------------------------------------------------------


def _deploy(local: Local, handler: Callable[..., Any]) -> None:
    """Put new code in the place of the old."""
    (name,) = local.handlers
    local.handlers[name] = handler
    assert definition_of(handler) is not None


def test_a_patch_is_for_executions_that_were_not_past_it() -> None:
    @durable_execution(name="tax")
    def old(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: "before", name="before")
        context.wait(60)
        if event == "late":
            context.wait(60)
        return "old"

    @durable_execution(name="tax")
    def new(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: "before", name="before")
        is_new = context.patched("fix-tax")
        context.wait(60)
        if event == "late":
            context.wait(60)
        return ["new" if is_new else "old", context.patched("fix-tax") == is_new]

    local = Local(old)
    in_flight = local.start("early")
    local.go_on(in_flight, until_s=1)
    _deploy(local, new)
    assert local.go_on(in_flight).result == ["old", True]
    fresh = local.run("early")
    assert fresh.result == ["new", True]
    assert fresh.op("patch fix-tax").sub_type == "Patch"


@pytest.mark.parametrize("nesting", [NestingType.NESTED, NestingType.FLAT])
def test_what_runs_for_the_first_time_goes_the_new_way_after_and_in_contexts_too(nesting: NestingType) -> None:
    """Whether an execution is past a point says the record of what follows it; a virtual context has none itself."""

    def branch(context: DurableContext, index: int) -> Any:
        if index == 0:
            context.wait(1)
        return context.patched(f"in branch {index}")

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        virtual: ChildConfig[None] = ChildConfig(is_virtual=True)
        context.run_in_child_context(lambda child: child.wait(1), config=virtual)
        after = context.patched("after a virtual context")
        config = MapConfig(max_concurrency=1, nesting_type=nesting)
        return [after, context.map([0, 1], branch, config=config).get_results()]

    assert Local(handler).run().result == [True, [True, True]]


def test_a_decision_that_was_lost_with_its_process_is_taken_in_the_same_way_again() -> None:
    """The timer of the block is recorded, and nothing behind it: the execution has not passed this point."""
    decisions: list[bool] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.wait(1)
        with context.timeout(60):
            context.step(lambda _: 1)
            timer = context.start.wait(5)
            decisions.append(context.patched("within"))
            if len(decisions) == 1:
                raise SystemExit(1)
            timer.result()
        return decisions

    assert set(Local(handler, client=_Sending).run().result) == {True}


class _Sending(InProcessClient):
    """A client that sends what an invocation can only wait for at once, as a remote one does."""

    @property
    def answers_waits(self) -> bool:
        return True


def test_what_comes_after_a_time_out_is_new_when_it_runs_for_the_first_time() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        with contextlib.suppress(DurableTimeoutError), context.timeout(1):
            context.create_callback().result()
        is_new = context.patched("after it")
        context.wait(1)
        return [is_new, context.patched("after that")]

    assert Local(handler).run().result == [True, True]


def test_what_has_run_before_a_virtual_context_was_replayed_goes_the_old_way() -> None:
    def program(*, is_patched: bool) -> Any:
        @durable_execution(name="program")
        def handler(event: Any, context: DurableContext) -> Any:
            context.step(lambda _: 1)
            is_new = is_patched and context.patched("before it")
            virtual: ChildConfig[None] = ChildConfig(is_virtual=True)
            context.run_in_child_context(lambda child: child.wait(60), config=virtual)
            context.wait(60)
            return is_new

        return handler

    local = Local(program(is_patched=False))
    in_flight = local.start()
    local.go_on(in_flight, until_s=1)
    _deploy(local, program(is_patched=True))
    assert local.go_on(in_flight).result is False


def test_a_patch_moves_no_operation() -> None:
    @durable_execution(name="same")
    def plain(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: 1, name="a")

    @durable_execution(name="same")
    def patched(event: Any, context: DurableContext) -> Any:
        context.patched("p")
        context.step(lambda _: 1, name="a")

    assert Local(plain).run().op("a").id == Local(patched).run().op("a").id


def test_a_version_is_chosen_once_and_kept() -> None:
    def code(most: int) -> Callable[..., Any]:
        @durable_execution(name="schema")
        def handler(event: Any, context: DurableContext) -> Any:
            found = context.version("schema", min=1, max=most)
            context.wait(60)
            return found

        return handler

    local = Local(code(2))
    execution = local.start()
    local.go_on(execution, until_s=1)
    _deploy(local, code(3))
    assert local.go_on(execution).result == 2
    assert local.run().result == 3


def test_a_version_that_the_code_does_not_have_any_more_ends_the_execution_with_the_way_out() -> None:
    def code(least: int, most: int) -> Callable[..., Any]:
        @durable_execution(name="schema")
        def handler(event: Any, context: DurableContext) -> Any:
            context.version("schema", min=least, max=most)
            context.wait(60)

        return handler

    local = Local(code(1, 2))
    execution = local.start()
    local.go_on(execution, until_s=1)
    _deploy(local, code(3, 4))
    outcome = local.go_on(execution)
    assert outcome.error.type == "perdure.exceptions.NonDeterministicExecutionError"
    assert "goes on with version 2 of 'schema', the code has 3 to 4" in outcome.error.message


def test_patches_and_versions_need_names_and_a_range() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        with pytest.raises(ValidationError, match="a patch needs a name, not ''"):
            context.patched("")
        with pytest.raises(ValidationError, match="min must not be greater than max"):
            context.version("v", min=3, max=2)

    assert Local(handler).run().status is ExecutionStatus.SUCCEEDED


# --- sagas -------------------------------------------------------------------------------------------------------


def test_a_saga_undoes_what_was_done_in_reverse_and_lets_the_error_go_on() -> None:
    log: list[str] = []

    @durable_step
    def book(step: StepContext, what: str) -> str:
        log.append(f"book {what}")
        return what

    @durable_step
    def cancel(step: StepContext, what: str) -> None:
        log.append(f"cancel {what}")

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        with context.saga() as saga:
            saga.step(book("hotel"), name="hotel", undo=cancel)
            context.wait(60)
            saga.step(book("flight"), name="flight", undo=lambda what: log.append(f"release {what}"))
            context.step(_failing, name="pay", config=NO_RETRY)

    outcome = Local(handler).run()
    assert outcome.error.type == "perdure.exceptions.StepError"
    assert log == ["book hotel", "book flight", "release flight", "cancel hotel"]
    assert [o.name for o in outcome.operations if o.name and o.name.startswith("undo")] == ["undo:flight", "undo:hotel"]


def test_a_saga_that_succeeds_or_suspends_undoes_nothing() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        with context.saga() as saga:
            done = saga.child(lambda child: child.step(lambda _: "x"), name="child", undo=_failing)
            context.wait(60)
        return done

    outcome = Local(handler).run()
    assert outcome.result == "x"
    assert not [o for o in outcome.operations if o.name and o.name.startswith("undo")]


def test_all_undo_steps_are_attempted_and_their_failures_gathered() -> None:
    log: list[str] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            with context.saga(NO_RETRY) as saga:
                saga.add(lambda: log.append("first"), name="first")
                saga.step(lambda _: 2, name="second", undo=_failing)
                context.step(_failing, config=NO_RETRY)
        except CompensationError as error:
            return [str(error), [name for name, _ in error.failures], type(error.__cause__).__name__]

    assert Local(handler).run().result == [
        "1 of 2 undo steps failed (undo:second: boom) after: boom",
        ["undo:second"],
        "StepError",
    ]
    assert log == ["first"]


def test_an_async_saga_undoes_too() -> None:
    log: list[str] = []

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        async def release(what: str) -> None:
            log.append(f"release {what}")

        try:
            async with context.saga() as saga:
                await saga.step(lambda _: "a", name="a", undo=release)
                await context.wait(5)
                await saga.step(lambda _: "b", name="b", undo=lambda what: log.append(f"sync {what}"))
                await context.step(_failing, config=NO_RETRY)
        except StepError:
            return "undone"

    assert Local(handler).run().result == "undone"
    assert log == ["sync b", "release a"]


# --- going on anew -----------------------------------------------------------------------------------------------


def test_an_execution_goes_on_anew_and_has_the_result_of_the_last() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: event, name="work")
        if event["left"]:
            return context.continue_as_new({"left": event["left"] - 1})
        return "all done"

    outcome = Local(handler).run({"left": 3})
    assert outcome.result == "all done"
    assert len(outcome.operations) == 2


# --- time-outs ---------------------------------------------------------------------------------------------------


def test_a_block_that_takes_too_long_raises_where_it_waits_and_does_so_in_every_replay() -> None:
    seen: list[str] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        callback = context.create_callback("late")
        try:
            with context.timeout(minutes=1):
                context.step(lambda _: 1, name="quick")
                callback.result()
        except DurableTimeoutError as error:
            seen.append(str(error))
        context.step(lambda _: 2, name="after")
        context.wait(3600)
        return "over"

    local = Local(handler)
    execution = local.start()
    outcome = local.go_on(execution, until_s=120)
    local.service.succeed_callback(outcome.callback_id(), "too late")
    assert local.go_on(execution).result == "over"
    assert seen == ["the block took longer than its time-out of 60 s"] * 3
    assert local.service.get(execution).end_ms is not None


def test_a_block_that_is_quick_enough_gives_up_its_time_out() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        with context.timeout(60):
            context.wait(30)
            value = context.run_in_child_context(lambda child: child.step(lambda _: "done"))
        context.wait(120)
        return value

    assert Local(handler).run().result == "done"


def test_a_child_in_a_block_is_given_up_as_a_whole() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def slow(child: DurableContext) -> None:
            child.wait(600)
            child.step(lambda _: 1, name="never")

        try:
            with context.timeout(60):
                context.run_in_child_context(slow, name="slow")
        except DurableTimeoutError:
            context.wait(1200)
            return "gave up"

    outcome = Local(handler).run()
    assert outcome.result == "gave up"
    assert "never" not in [operation.name for operation in outcome.operations]


def test_an_async_block_has_a_time_out_too() -> None:
    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        async with context.timeout(60):
            quick = await context.wait(5) or "quick"
        try:
            async with context.timeout(60):
                await context.wait(600)
        except DurableTimeoutError:
            await context.wait(1200)
            return [quick, "gave up"]

    assert Local(handler).run().result == ["quick", "gave up"]


def test_a_time_out_needs_a_duration() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        for given in ({}, {"duration": 5, "hours": 1}):
            with pytest.raises(ValidationError, match="timeout needs a duration"):
                context.timeout(**given)
        with pytest.raises(ValidationError, match="seconds must be from 1"):
            context.timeout(0)

    assert Local(handler).run().status is ExecutionStatus.SUCCEEDED


def test_an_attempt_that_takes_too_long_fails_and_is_tried_again() -> None:
    never = threading.Event()
    attempts: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def slow_at_first(step: StepContext) -> str:
            attempts.append(step.attempt)
            if step.attempt == 1:
                never.wait(30)
            return "done"

        return context.step(slow_at_first, config=StepConfig(retry=2, timeout=1))

    outcome = Local(handler).run()
    never.set()
    assert outcome.result == "done"
    assert attempts == [1, 2]


def test_an_async_attempt_that_takes_too_long_is_cancelled() -> None:
    cancelled: list[str] = []

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        async def slow() -> None:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cancelled.append("slow")
                raise

        try:
            await context.step(slow, config=StepConfig(retry=1, timeout=1))
        except StepError as error:
            return [error.error_type, str(error)]

    assert Local(handler).run().result == ["TimeoutError", "it took longer than 1 s"]
    assert cancelled == ["slow"]


# --- set once ----------------------------------------------------------------------------------------------------


class _Loud(JsonSerDes):
    def serialize(self, value: Any, serdes_context: Any) -> str:
        return json.dumps([value])

    def deserialize(self, data: str, serdes_context: Any) -> Any:
        return json.loads(data)[0]


def test_serdes_can_be_set_once_for_a_handler() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.configure_serdes(default=_Loud(), callback=JsonSerDes())
        value = context.step(lambda _: "x", name="step")
        return [value, context.create_callback("ask").result()]

    local = Local(handler)
    execution = local.start()
    outcome = local.go_on(execution)
    assert outcome.op("step").result == '["x"]'
    local.service.succeed_callback(outcome.callback_id(), '{"a": 1}')
    assert local.go_on(execution).result == ["x", {"a": 1}]


def test_a_step_s_decorator_may_say_how_it_is_run() -> None:
    attempts: list[int] = []

    @durable_step(name="charge", retry=2, semantics="AT_MOST_ONCE_PER_RETRY", serdes=_Loud())
    def pay(step: StepContext, amount: int) -> int:
        attempts.append(step.attempt)
        if step.attempt == 1:
            raise ValueError("once")
        return amount

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.step(pay(5))

    outcome = Local(handler).run()
    assert outcome.result == 5
    assert attempts == [1, 2]
    assert outcome.op("charge").result == "[5]"


# --- steps with an id --------------------------------------------------------------------------------------------


def test_a_step_with_an_id_keeps_its_place_when_code_before_it_changes() -> None:
    charged: list[int] = []

    def code(*, is_new: bool) -> Callable[..., Any]:
        @durable_execution(name="keyed")
        def handler(event: Any, context: DurableContext) -> Any:
            if is_new:
                context.step(lambda _: "checked", name="check", id="check")
            context.step(lambda _: charged.append(1), name="charge", id="charge")
            went_new_way = is_new and context.patched("later")
            context.wait(60)
            return [is_new, went_new_way]

        return handler

    local = Local(code(is_new=False))
    execution = local.start()
    local.go_on(execution, until_s=1)
    _deploy(local, code(is_new=True))
    outcome = local.go_on(execution)
    assert outcome.result == [True, False], "what comes after is still a replay"
    assert charged == [1]
    assert outcome.op("check").status == "SUCCEEDED"


def test_an_id_is_for_one_step() -> None:
    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        await context.step(lambda _: 1, id="a")
        with pytest.raises(ValidationError, match="id 'a' is taken by an earlier step of the handler's context"):
            context.step(lambda _: 2, id="a")
        with pytest.raises(ValidationError, match="id must be a text"):
            context.step(lambda _: 2, id="")

    assert Local(handler).run().status is ExecutionStatus.SUCCEEDED


def test_a_patch_whose_start_alone_was_recorded_is_finished() -> None:
    """The process died between the two halves of the marker."""

    class Dying(InProcessClient):
        died = False

        def checkpoint(self, updates: Any) -> Answer:
            if not Dying.died and any(update.sub_type == "Patch" for update in updates):
                Dying.died = True
                super().checkpoint([update for update in updates if update.action == "START"][:1])
                raise KeyboardInterrupt
            return super().checkpoint(updates)

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        is_new = context.patched("p")
        return [is_new, context.step(lambda _: "after", name="after")]

    outcome = Local(handler, client=Dying).run()
    assert Dying.died
    assert outcome.result == [True, "after"]
    assert outcome.op("patch p").status == "SUCCEEDED"
