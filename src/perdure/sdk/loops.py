"""Event loops for handlers that are `async def`: one for each thread that runs them, kept between invocations."""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from perdure.sdk.drivers.hands import HANDS

if TYPE_CHECKING:
    from perdure.sdk.drivers.loop import LoopDriver

T = TypeVar("T")

current_driver: "Final[contextvars.ContextVar[LoopDriver | None]]" = contextvars.ContextVar(
    "perdure_driver", default=None
)
"""The driver of the invocation whose code is running: tasks made meanwhile belong to that invocation."""

_local = threading.local()


def prepare(loop: asyncio.AbstractEventLoop) -> None:
    """Have the tasks that an invocation makes on this loop counted among its own."""
    loop.set_task_factory(_make_task)


def _make_task(loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **more)
    context = more.get("context")
    driver = context.get(current_driver) if context is not None else current_driver.get()
    if driver is not None:
        driver.adopt(task)
    return task


def run_here(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end on this thread's loop; if that is running already, on the one of another thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _loop_of_this_thread().run_until_complete(make())
    answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            answers.put((context.run(lambda: _loop_of_this_thread().run_until_complete(make())), None))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            answers.put((None, error))

    HANDS.run(run)
    result, error = answers.get()
    if error is not None:
        raise error
    answer: T = result
    return answer


def _loop_of_this_thread() -> asyncio.AbstractEventLoop:
    owned: _Owned | None = getattr(_local, "owned", None)
    if owned is None or owned.loop.is_closed():
        owned = _local.owned = _Owned()
    return owned.loop


class _Owned:
    """A loop that is closed when its thread ends."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        prepare(self.loop)

    def __del__(self) -> None:
        if not self.loop.is_closed() and not self.loop.is_running():
            self.loop.close()
