"""The same runner for tests that are `async def`: what waits there is awaited here."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from perdure.testing.desk import acting
from perdure.testing.handles import CallbackHandle, Execution
from perdure.testing.local_runner import Invoked, LocalRunner

if TYPE_CHECKING:
    from perdure.testing.clock import VirtualClock

T = TypeVar("T")

THREADS = 64


class AsyncLocalRunner:
    """`LocalRunner` with `await`: for `run`, `start`, `invoke_once` and all that waits; the rest is as it is there.

    Handlers run as ever, blocking ones in threads. `async with` closes it.
    """

    def __init__(self, handler: Callable[..., Any], **options: Any) -> None:
        self.sync = LocalRunner(handler, **options)
        self._threads: ThreadPoolExecutor | None = None

    def __getattr__(self, name: str) -> Any:
        """What does not wait: mocks, faults, registered functions."""
        return getattr(self.sync, name)

    @property
    def clock(self) -> "AsyncClock":
        return AsyncClock(self, self.sync.clock)

    async def wait_for(self, wait: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call what waits, in a thread that works for this task."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "perdure-test")
        context = contextvars.copy_context()
        context.run(acting.set, asyncio.current_task())
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: context.run(wait, *args, **kwargs))

    async def run(self, input: Any = None, **how: Any) -> Any:  # noqa: A002
        """As `LocalRunner.run`."""
        return await self.wait_for(self.sync.run, input, **how)

    async def start(self, input: Any = None, **how: Any) -> "AsyncExecution":  # noqa: A002
        """As `LocalRunner.start`."""
        return AsyncExecution(await self.wait_for(self.sync.start, input, **how), self)

    async def run_async(self, input: Any = None, **how: Any) -> "AsyncExecution":  # noqa: A002
        """The same as `start`."""
        return await self.start(input, **how)

    async def invoke_once(self, input: Any = None, **how: Any) -> Invoked:  # noqa: A002
        """As `LocalRunner.invoke_once`."""
        return await self.wait_for(self.sync.invoke_once, input, **how)

    async def wait_for_result(self, execution_arn: str, timeout: float = 60) -> Any:
        """As `LocalRunner.wait_for_result`."""
        return await self.wait_for(self.sync.wait_for_result, execution_arn, timeout)

    async def wait_for_callback(self, execution_arn: str, name: str | None = None, timeout: float = 60) -> str:
        """As `LocalRunner.wait_for_callback`."""
        return await self.wait_for(self.sync.wait_for_callback, execution_arn, name, timeout)

    async def close(self) -> None:
        """Give back what the runner has taken."""
        await asyncio.to_thread(self.sync.close) if self._threads is None else await self.wait_for(self.sync.close)
        if self._threads is not None:
            self._threads.shutdown()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncClock:
    """The clock of a runner, for tasks."""

    def __init__(self, runner: AsyncLocalRunner, clock: "VirtualClock") -> None:
        self._runner = runner
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)

    @property
    def auto(self) -> bool:
        return self._clock.auto

    @auto.setter
    def auto(self, is_auto: bool) -> None:
        self._clock.auto = is_auto

    async def advance(self, by: Any) -> None:
        """As `VirtualClock.advance`."""
        await self._runner.wait_for(self._clock.advance, by)

    async def advance_to(self, moment: Any) -> None:
        """As `VirtualClock.advance_to`."""
        await self._runner.wait_for(self._clock.advance_to, moment)

    async def run_next_timer(self) -> Any:
        """As `VirtualClock.run_next_timer`."""
        return await self._runner.wait_for(self._clock.run_next_timer)


class AsyncExecution(str):
    """An execution, for tasks: its ARN, with what can be done with it."""

    _runner: AsyncLocalRunner
    _execution: Execution

    def __new__(cls, execution: Execution, runner: AsyncLocalRunner) -> "AsyncExecution":
        found = super().__new__(cls, execution)
        found._execution, found._runner = execution, runner
        return found

    def __getattr__(self, name: str) -> Any:
        """What does not wait: `status`, `operations`, `stop`, `resume` and so on."""
        return getattr(self._execution, name)

    async def result(self, **how: Any) -> Any:
        """As `Execution.result`."""
        return await self._runner.wait_for(self._execution.result, **how)

    async def pause(self, **how: Any) -> None:
        """As `Execution.pause`."""
        await self._runner.wait_for(self._execution.pause, **how)

    def callback(self, name: str | None = None, index: int = 0) -> "AsyncCallback":
        """As `Execution.callback`."""
        return AsyncCallback(self._execution.callback(name, index), self._runner)


class AsyncCallback:
    """A callback, for tasks."""

    def __init__(self, handle: CallbackHandle, runner: AsyncLocalRunner) -> None:
        self._handle = handle
        self._runner = runner

    @property
    def id(self) -> str:
        """Its callback id, once it has been waited for."""
        return self._handle.id

    async def wait(self, **how: Any) -> "AsyncCallback":
        """As `CallbackHandle.wait`."""
        await self._runner.wait_for(self._handle.wait, **how)
        return self

    async def succeed(self, value: Any = None) -> None:
        """As `CallbackHandle.succeed`."""
        await self._runner.wait_for(self._handle.succeed, value)

    async def fail(self, *args: Any, **kwargs: Any) -> None:
        """As `CallbackHandle.fail`."""
        await self._runner.wait_for(self._handle.fail, *args, **kwargs)

    async def heartbeat(self) -> None:
        """As `CallbackHandle.heartbeat`."""
        await self._runner.wait_for(self._handle.heartbeat)

    async def time_out(self) -> None:
        """As `CallbackHandle.time_out`."""
        await self._runner.wait_for(self._handle.time_out)
