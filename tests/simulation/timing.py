"""The time that the SDK sees: that of the world which is running."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

if TYPE_CHECKING:
    from simulation.interpreter import Teller

_MODULES: Final = (
    "perdure.sdk.markers",
    "perdure.sdk.operations.child",
    "perdure.sdk.operations.condition",
    "perdure.sdk.operations.invoke",
    "perdure.sdk.operations.step",
    "perdure.sdk.operations.wait",
    "perdure.sdk.drivers.crew",
    "perdure.timeouts",
)


class WorldTime:
    """Stands in for the module `time` where the SDK asks it what time it is."""

    def __init__(self) -> None:
        self._world: Teller | None = None
        self._is_installed = False

    @contextmanager
    def of(self, world: "Teller") -> Iterator[None]:
        """The time of this world, until it is over."""
        before, self._world = self._world, world
        patches = [mock.patch.object(import_module(name), "time", self) for name in _MODULES]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()
            self._world = before

    @property
    def world(self) -> "Teller":
        """The one that is running."""
        assert self._world is not None
        return self._world

    def now_ms(self) -> int:
        assert self._world is not None
        return self._world.now_ms()

    def time_ns(self) -> int:
        assert self._world is not None
        return self._world.now_ms() * 1_000_000

    def time(self) -> float:
        assert self._world is not None
        return self._world.now_ms() / 1000

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


TIME: Final = WorldTime()
