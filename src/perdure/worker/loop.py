"""The loop of a worker: all invocations of `async def` handlers, in one thread."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final

from perdure.engine import commands as cmd
from perdure.sdk.drivers.pool import CALLS
from perdure.sdk.invocation import Definition, LoopDriverOf, run_on_loop
from perdure.sdk.loops import prepare
from perdure.service.invocation import Invocation
from perdure.worker.client import InvocationClient
from perdure.worker.handlers import LocalContext, crashed, given_of, outcome_of_answer

log: Final = logging.getLogger("perdure.worker")

Make = Callable[[], Coroutine[Any, Any, None]]


class LoopThread:
    """A loop in a thread of its own, which is made when the first work comes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds them weakly

    def submit(self, make: Make) -> None:
        """Run a coroutine on the loop, in a task with context variables of its own."""
        loop = self._loop or self._begin()
        loop.call_soon_threadsafe(self._start, loop, make)

    def _begin(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                prepare(loop)
                self._thread = threading.Thread(target=self._run, args=(loop,), name="perdure-loop", daemon=True)
                self._thread.start()
                self._loop = loop
            return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()

    def _start(self, loop: asyncio.AbstractEventLoop, make: Make) -> None:
        task = loop.create_task(make(), context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_ended)

    def close(self) -> None:
        """Stop the loop; what still runs on it is cancelled."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or loop.is_closed():
            return
        loop.call_soon_threadsafe(lambda: loop.create_task(self._finish(loop)))
        if thread is not threading.current_thread():
            thread.join(2 * CANCEL_S + 1.0)

    async def _finish(self, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(2):  # first what is about to end, then what had to be told
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=CANCEL_S)
            for task in self._tasks:
                task.cancel()
        loop.stop()


CANCEL_S: Final = 0.5
"""So long does a closing worker wait for tasks that are about to end, and again for those that it has cancelled."""


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("an invocation met an error of the worker's own", exc_info=error)


async def in_thread(work: Callable[[], None]) -> None:
    """Run something of the service's in a thread, and wait for it here."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(None)

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:  # noqa: BLE001 - it is raised where it is awaited
            error = raised
        loop.call_soon_threadsafe(finish, error)

    CALLS.submit(run)
    await done


async def run_on_loop_and_end(
    invocation: Invocation, definition: Definition, client: InvocationClient, driver_of: "LoopDriverOf | None" = None
) -> None:
    """Run an `async def` handler on the loop that is running, and have its outcome recorded, in a thread."""
    try:
        answer = await run_on_loop(
            definition, given_of(invocation), client, lambda_context=LocalContext(invocation), driver_of=driver_of
        )
        outcome, updates = outcome_of_answer(answer, client)
    except BaseException as error:  # noqa: BLE001 - an invocation that raises is one that failed
        is_ours = isinstance(error, asyncio.CancelledError) and client.is_closing
        outcome, updates = (cmd.Released() if is_ours else crashed(error)), ()
    await in_thread(lambda: client.end(outcome, updates))
