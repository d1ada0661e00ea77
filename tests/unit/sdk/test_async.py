"""Handlers that are `async def`. Numbers in brackets are those of the SDK specification's checklist."""

import asyncio
import contextvars
import threading
from typing import Any

import pytest

import perdure
from perdure import (
    AsyncDurableContext,
    CallbackTimeoutError,
    ChildContextError,
    DurableContext,
    MapConfig,
    RetryPresets,
    StepConfig,
    StepContext,
    StepError,
    WaitForConditionConfig,
    durable_execution,
    durable_step,
    fixed_wait,
)
from perdure.config import CallbackConfig, CompletionConfig, Duration, ParallelConfig
from perdure.model.execution import ExecutionStatus
from support.local import Local

NO_RETRY = StepConfig(RetryPresets.none())


def test_an_async_handler_awaits_its_operations_and_replays_them() -> None:
    """[87]"""
    runs: list[str] = []

    @durable_step
    async def fetch(step: StepContext, what: str) -> str:
        await asyncio.sleep(0)
        runs.append(what)
        return what.upper()

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        first = await context.step(fetch("a"))
        await context.wait(3600)
        second = await context.step(lambda _: first + "b", name="sync body")
        return [first, second]

    outcome = Local(handler).run()
    assert outcome.result == ["A", "Ab"]
    assert runs == ["a"]
    assert outcome.local.invocations == 2
    assert [operation.name for operation in outcome.operations] == ["fetch", None, "sync body"]


def test_a_sync_handler_given_an_async_step_says_what_to_change() -> None:
    """[87]"""

    async def fetch() -> int:
        return 1

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.step(lambda _: fetch(), config=NO_RETRY)

    outcome = Local(handler).run()
    assert outcome.status is ExecutionStatus.FAILED
    assert "make the handler `async def` too, or the function `def`" in outcome.error.message


def test_a_body_that_blocks_does_not_block_the_loop() -> None:
    """The blocking body ends only once the other one, on the loop, has run."""
    went_on = threading.Event()

    def blocking(_: Any) -> bool:
        return went_on.wait(20)

    async def other(_: Any) -> str:
        went_on.set()
        return "other"

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        return list(await context.gather(context.step(blocking, name="b"), context.step(other, name="o")))

    assert Local(handler).run().result == [True, "other"]


def test_operations_have_the_places_in_which_they_were_called() -> None:
    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        late = context.step(lambda _: "late", name="first")
        early = await context.step(lambda _: "early", name="second")
        return [await late, early]

    outcome = Local(handler).run()
    assert outcome.result == ["late", "early"]
    one = Local(durable_execution(name="sync")(_two_steps)).run()
    assert {o.name: o.id for o in outcome.operations} == {o.name: o.id for o in one.operations}


def _two_steps(event: Any, context: DurableContext) -> Any:
    context.step(lambda _: 1, name="first")
    context.step(lambda _: 1, name="second")


def test_suspension_runs_finally_and_async_with_and_passes_except_exception() -> None:
    """[70]"""
    seen: list[str] = []

    class Session:
        async def __aenter__(self) -> "Session":
            seen.append("enter")
            return self

        async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
            await asyncio.sleep(0)
            seen.append("exit")

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        try:
            async with Session():
                await context.wait(5)
        except Exception:
            seen.append("caught")
        finally:
            seen.append("finally")
        return "done"

    assert Local(handler).run().result == "done"
    assert seen == ["enter", "exit", "finally"] * 2


def test_a_swallowed_suspension_is_one_all_the_same() -> None:
    """[71]"""
    later: list[str] = []

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        try:
            await context.wait(5)
        except BaseException:
            try:
                await context.step(lambda _: later.append("ran"), name="later")
            except BaseException as error:
                later.append(type(error).__name__)
        return "x"

    local = Local(handler)
    outcome = local.go_on(local.start(), until_s=0)
    assert outcome.status is ExecutionStatus.RUNNING
    assert later == ["TimedSuspendExecution"]


@pytest.mark.parametrize("shape", ["gather", "task group", "asyncio.wait"])
def test_an_invocation_ends_when_all_its_tasks_wait(shape: str) -> None:
    async def branch(context: AsyncDurableContext, seconds: int) -> int:
        await context.wait(seconds)
        return seconds

    async def awaited(future: Any) -> Any:
        return await future

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        futures = [context.child(branch, seconds) for seconds in (10, 20)]
        if shape == "gather":
            return list(await asyncio.gather(*futures))
        if shape == "task group":
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(awaited(future)) for future in futures]
        else:
            tasks = [asyncio.ensure_future(awaited(future)) for future in futures]
            await asyncio.wait(tasks)
        return [task.result() for task in tasks]

    outcome = Local(handler).run()
    assert outcome.result == [10, 20]
    assert outcome.local.invocations == 3


def test_what_runs_outside_of_operations_keeps_the_invocation_going() -> None:
    """The handler awaits something of its own while a wait is open: nothing is suspended until that is over."""
    seen: list[str] = []

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        wait = context.start.wait(3600)
        await asyncio.sleep(0.05)
        seen.append("slept")
        await wait
        return "over"

    assert Local(handler).run().result == "over"
    assert seen == ["slept", "slept"]


def test_a_task_of_its_own_can_not_use_the_context_of_another() -> None:
    """[22]"""

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        async def other() -> Any:
            return await context.step(lambda _: 1, name="foreign")

        return await asyncio.create_task(other())

    outcome = Local(handler).run()
    assert outcome.error.type == "perdure.exceptions.ContextUsageError"
    assert "context.step('foreign') was called on the handler's context inside another task" in outcome.error.message
    assert not outcome.operations


def test_a_nested_step_and_the_parent_in_a_child_are_refused() -> None:
    """[22]"""

    @durable_execution
    async def nested(event: Any, context: AsyncDurableContext) -> Any:
        async def body(_: Any) -> Any:
            return await context.step(lambda _: 1, name="inner")

        return await context.step(body, name="outer", config=NO_RETRY)

    @durable_execution
    async def parent(event: Any, context: AsyncDurableContext) -> Any:
        async def child(_: AsyncDurableContext) -> Any:
            return await context.step(lambda _: 1, name="inner")

        return await context.run_in_child_context(child, name="child")

    assert "inside the body of step 'outer'" in Local(nested).run().error.message
    assert "inside the child context 'child'" in Local(parent).run().error.message


def test_an_operation_that_nobody_awaits_fails_the_handler_and_names_its_line() -> None:
    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        context.step(lambda _: 1, name="forgotten")

    outcome = Local(handler).run()
    assert outcome.error.type == "perdure.exceptions.ContextUsageError"
    assert "context.step('forgotten'), called at " in outcome.error.message
    assert "test_async.py" in outcome.error.message
    assert "was never awaited" in outcome.error.message


def test_the_same_in_a_child() -> None:
    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        async def body(child: AsyncDurableContext) -> None:
            child.wait(5, name="forgotten")

        await context.run_in_child_context(body)

    assert "context.wait('forgotten')" in Local(handler).run().error.message


def test_a_map_runs_in_tasks_and_comes_back_after_its_waits() -> None:
    """[58] for the loop: what is due alone suspends the invocation."""

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        async def one(branch: AsyncDurableContext, item: int) -> int:
            await branch.wait(item)
            return await branch.step(lambda _: item * 10, name="s")

        result = await context.map([3, 1, 2], one, name="m")
        return [result.get_results(), str(result.completion_reason)]

    outcome = Local(handler).run()
    assert outcome.result == [[30, 10, 20], "ALL_COMPLETED"]
    assert outcome.op("map-item-1").status == "SUCCEEDED"


def test_a_map_of_thousands_takes_no_threads_of_its_own() -> None:
    threads: set[int] = set()

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        async def one(branch: AsyncDurableContext, item: int) -> int:
            async def body(_: Any) -> int:
                threads.add(threading.get_ident())
                return item

            return await branch.step(body)

        return sum((await context.map(range(2000), one)).get_results())

    assert Local(handler).run().result == sum(range(2000))
    assert len(threads) == 1


def test_max_concurrency_counts_branches_that_wait() -> None:
    """[56]"""
    open_now = 0
    most = 0

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        nonlocal open_now, most
        open_now = 0

        async def one(branch: AsyncDurableContext, item: int) -> int:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            await branch.step(lambda _: None, name="before")
            await branch.wait(item + 1)
            open_now -= 1
            return item

        return (await context.map(range(6), one, config=MapConfig(max_concurrency=2))).get_results()

    assert Local(handler).run().result == list(range(6))
    assert most == 2


def test_what_a_batch_does_not_need_any_more_is_cancelled_and_records_nothing() -> None:
    """[63]"""
    cancelled: list[str] = []

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        async def quick(branch: AsyncDurableContext) -> str:
            return await branch.step(lambda _: "quick", name="quick")

        async def slow(branch: AsyncDurableContext) -> str:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append("slow")
                raise
            return await branch.step(lambda _: "slow", name="slow")

        config = ParallelConfig(completion_config=CompletionConfig.first_successful())
        result = await context.parallel([slow, quick], config=config)
        return [item.status for item in result.all]

    outcome = Local(handler).run()
    assert outcome.result == ["STARTED", "SUCCEEDED"]
    assert cancelled == ["slow"]
    assert "slow" not in [operation.name for operation in outcome.operations]


def test_a_failed_step_is_tried_again_and_then_raised() -> None:
    attempts: list[int] = []

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        async def flaky(step: StepContext) -> None:
            attempts.append(step.attempt)
            raise ValueError("no")

        try:
            await context.step(flaky, config=StepConfig(retry=3))
        except StepError as error:
            return [error.error_type, str(error)]

    assert Local(handler).run().result == ["ValueError", "no"]
    assert attempts == [1, 2, 3]


def test_a_child_s_error_is_the_same_on_every_run() -> None:
    seen: list[Any] = []

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        async def body(_: AsyncDurableContext) -> None:
            raise KeyError("k")

        try:
            await context.run_in_child_context(body)
        except ChildContextError as error:
            seen.append((error.error_type, str(error)))
        await context.wait(1)

    Local(handler).run()
    assert seen == [("KeyError", "'k'")] * 2


def test_conditions_invokes_and_callbacks_are_awaited_too() -> None:
    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        async def more(state: int) -> int:
            return state + 1

        polled = await context.wait_for_condition(
            more, WaitForConditionConfig(fixed_wait(lambda state: state < 3), 0), name="poll"
        )
        doubled = await context.invoke("double", {"n": polled})
        callback = await context.create_callback(name="ask", config=CallbackConfig(timeout=Duration(60)))
        future, callback_id = callback
        assert future is callback
        assert callback_id
        try:
            await callback
        except CallbackTimeoutError:
            return [polled, doubled, "timed out"]

    local = Local(handler, functions={"double": lambda event, _: event["n"] * 2})
    assert local.run().result == [3, 6, "timed out"]


def test_wait_for_callback_takes_async_submitters() -> None:
    sent: list[str] = []

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        async def submit(callback_id: str) -> None:
            await asyncio.sleep(0)
            sent.append(callback_id)

        return await context.wait_for_callback(submit, name="job")

    local = Local(handler)
    execution = local.start()
    local.go_on(execution)
    local.service.succeed_callback(sent[0], "answer")
    assert local.go_on(execution).result == "answer"


def test_the_handler_and_its_branches_see_the_caller_s_context_variables() -> None:
    """[80]"""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        async def one(branch: AsyncDurableContext, item: int) -> list[str]:
            return [variable.get(), await branch.step(lambda _: variable.get(), name="sync")]

        return [variable.get(), (await context.map([1], one)).get_results()]

    token = variable.set("set")
    try:
        assert Local(handler).run().result == ["set", [["set", "set"]]]
    finally:
        variable.reset(token)


def test_thousands_of_executions_wait_in_one_process_on_one_loop() -> None:
    threads: set[str] = set()

    @durable_execution(name="waiter")
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        threads.add(threading.current_thread().name)
        callback = await context.create_callback(name="c")
        return await callback

    with perdure.open("memory://", functions=[handler]) as app:
        executions = app.start_many(handler, range(500))
        answered = 0
        while answered < 500:
            for callback in app.callbacks():
                callback.succeed("1")
                answered += 1
        assert [execution.result(timeout=30) for execution in executions] == ["1"] * 500
    assert threads == {"perdure-loop"}


def test_a_branch_that_will_not_be_cancelled_keeps_no_invocation_going() -> None:
    """[63] What it does is of no use to anybody: the handler's wait suspends all the same."""

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        async def quick(branch: AsyncDurableContext) -> str:
            return await branch.step(lambda _: "quick", name="quick")

        async def stubborn(_: AsyncDurableContext) -> str:
            for _turn in range(2):
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    continue
            return "never"

        config = ParallelConfig(completion_config=CompletionConfig.first_successful())
        result = await context.parallel([stubborn, quick], config=config)
        await context.wait(60)
        return result.get_results()

    outcome = Local(handler).run()
    assert outcome.result == ["quick"]
    assert outcome.local.invocations == 2, "none of them had to be broken off"
