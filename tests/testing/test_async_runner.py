"""The runner for tests that are `async def`."""

import asyncio
import threading
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest

from perdure import AsyncDurableContext, CallbackConfig, CallbackTimeoutError, Duration, durable_execution, durable_step
from perdure.testing import AsyncLocalRunner


@durable_step
async def double(_step: Any, value: int) -> int:
    await asyncio.sleep(0)
    return value * 2


@durable_execution
async def approving(event: int, context: AsyncDurableContext) -> Any:
    doubled = await context.step(double(event), name="double")
    await context.wait(3600)
    callback = await context.create_callback("approve", CallbackConfig(timeout=Duration.from_hours(1)))
    try:
        return [doubled, await callback.result()]
    except CallbackTimeoutError:
        return [doubled, "nobody"]


def in_loop(main: Coroutine[Any, Any, None]) -> None:
    before = set(threading.enumerate())
    asyncio.run(main)
    assert set(threading.enumerate()) <= before


def test_run_is_awaited() -> None:
    async def main() -> None:
        async with AsyncLocalRunner(approving) as runner:
            runner.auto_callback("approve", "yes")
            result = await runner.run(4)
            assert (result.result, result.duration) == ([8, "yes"], timedelta(hours=1))

    in_loop(main())


def test_callbacks_are_answered_by_tasks() -> None:
    async def main() -> None:
        async with AsyncLocalRunner(approving) as runner:
            execution = await runner.start(1)

            async def answer() -> None:
                callback = await execution.callback("approve").wait()
                is_known.set()
                await asyncio.sleep(0.05)
                await callback.succeed("from a task")

            is_known = asyncio.Event()
            task = asyncio.create_task(answer())
            await is_known.wait()
            result = await execution.result()
            await task
            assert (result.result, result.duration) == ([2, "from a task"], timedelta(hours=1))
            assert execution.status == "SUCCEEDED"

    in_loop(main())


def test_the_same_task_s_callback_times_out_in_modelled_time() -> None:
    async def main() -> None:
        async with AsyncLocalRunner(approving) as runner:
            execution = await runner.start(1)
            await execution.callback("approve").wait()
            assert (await execution.result()).result == [2, "nobody"]

    in_loop(main())


def test_time_is_moved_and_invocations_are_stepped_through() -> None:
    async def main() -> None:
        async with AsyncLocalRunner(approving) as runner:
            mock = runner.mock_step("double", returns=5)
            first = await runner.invoke_once(1)
            assert (first.status, mock.call_count) == ("PENDING", 1)
            second = await runner.invoke_once()
            assert [each.type for each in second.pending] == ["CALLBACK"]
            before = runner.clock.now()
            await runner.clock.advance(timedelta(hours=2))
            assert runner.clock.now() - before == timedelta(hours=2)
            third = await runner.invoke_once()
            assert third.result.result == [5, "nobody"]

    in_loop(main())


def test_many_runs_at_once_are_one_gather() -> None:
    async def main() -> None:
        async with AsyncLocalRunner(approving) as runner:
            runner.auto_callback("approve", "yes")
            results = await asyncio.gather(*(runner.run(number) for number in range(20)))
            assert [each.result[0] for each in results] == [2 * number for number in range(20)]

    in_loop(main())


def test_what_the_handler_fails_with_can_be_raised() -> None:
    @durable_execution
    async def failing(_event: Any, _context: AsyncDurableContext) -> None:
        raise LookupError("nothing there")

    async def main() -> None:
        async with AsyncLocalRunner(failing) as runner:
            with pytest.raises(LookupError, match="nothing there"):
                await runner.run(raises=True)

    in_loop(main())
