"""How the operations of a simulated invocation run: as everywhere, but for the time that a body takes."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from perdure.sdk.arity import refuse_coroutine
from perdure.sdk.drivers.blocking import BlockingDriver
from simulation.timing import TIME

T = TypeVar("T")


class SimulatedDriver(BlockingDriver):
    """A step's time-out is measured by the clock of the world, and its body runs where everything runs."""

    async def call_within(self, seconds: int, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        end = TIME.time() + seconds
        result = body()
        refuse_coroutine(result, function)
        if TIME.time() > end:
            raise TimeoutError(f"it took longer than {seconds} s")
        return cast(T, result)
