"""How simulated operations run: branches take turns by chance, bodies take the time of the world."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from perdure.sdk.arity import refuse_coroutine
from perdure.sdk.drivers.scheduled import ScheduledDriver
from simulation.timing import TIME

T = TypeVar("T")


class SimulatedDriver(ScheduledDriver):
    """A step's time-out is measured by the clock of the world, and its body runs where everything runs."""

    async def call_within(self, seconds: int, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        end = TIME.time() + seconds
        result = body()
        refuse_coroutine(result, function)
        if TIME.time() > end:
            raise TimeoutError(f"it took longer than {seconds} s")
        return cast(T, result)
