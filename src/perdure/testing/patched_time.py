"""The clock of a test in the place of the machine's: for code that asks `time` or `datetime` what time it is."""

import datetime as datetimes
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from perdure.testing.desk import within

if TYPE_CHECKING:
    from perdure.testing.clock import VirtualClock

_REAL: Final[dict[str, Any]] = {
    "datetime": datetimes.datetime,
    "date": datetimes.date,
    "time": time.time,
    "time_ns": time.time_ns,
    "sleep": time.sleep,
}


class PatchedTime:
    """While it lasts, `time.time`, `time.time_ns`, `datetime.now`, `utcnow` and `today` and `date.today` tell the time
    of a clock, wherever they were imported to outside of installed packages. `time.sleep` lets the clock pass, in a
    handler or a body; elsewhere it sleeps.
    """

    def __init__(self, clock: "VirtualClock") -> None:
        self._undone: list[tuple[Any, str, Any]] = []
        instead = _instead(clock)
        for module in [time, datetimes, *_own_modules()]:
            for name, value in list(vars(module).items()):
                for word, real in _REAL.items():
                    if value is real:
                        self._undone.append((module, name, value))
                        setattr(module, name, instead[word])

    def undo(self) -> None:
        """Give back the machine's time."""
        for module, name, value in reversed(self._undone):
            setattr(module, name, value)
        self._undone.clear()


def _own_modules() -> list[Any]:
    """The loaded modules that are neither Perdure's, nor installed, nor of the standard library."""
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        is_foreign = "site-packages" in file or file.startswith((sys.prefix, sys.base_prefix))
        if file and not is_foreign and name.partition(".")[0] != "perdure":
            found.append(module)
    main = sys.modules.get("__main__")
    return found if main is None or main in found else [*found, main]


def _instead(clock: "VirtualClock") -> dict[str, Any]:
    real_sleep: Callable[[float], None] = _REAL["sleep"]

    def time_ns() -> int:
        return clock.now_ms() * 1_000_000

    def sleep(seconds: float) -> None:
        if within.get() is not None and not clock.is_real:
            clock.advance(seconds)
        else:
            real_sleep(seconds)

    return {
        "datetime": _datetime(clock),
        "date": _date(clock),
        "time": lambda: clock.now_ms() / 1000,
        "time_ns": time_ns,
        "sleep": sleep,
    }


class _LooksLike(type):
    """The class of a class whose instances are all those of the class in whose place it stands."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.__mro__[1])

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.__mro__[1])


def _datetime(clock: "VirtualClock") -> type:
    real: type[datetimes.datetime] = _REAL["datetime"]

    class Datetime(real, metaclass=_LooksLike):  # type: ignore[valid-type, misc]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.fromtimestamp(clock.now_ms() / 1000, tz)

        @classmethod
        def utcnow(cls) -> Any:
            return real.fromtimestamp(clock.now_ms() / 1000, datetimes.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Any:
            return real.fromtimestamp(clock.now_ms() / 1000)

    return _named(Datetime, "datetime")


def _date(clock: "VirtualClock") -> type:
    real: type[datetimes.date] = _REAL["date"]

    class Date(real, metaclass=_LooksLike):  # type: ignore[valid-type, misc]
        @classmethod
        def today(cls) -> Any:
            return real.fromtimestamp(clock.now_ms() / 1000)

    return _named(Date, "date")


def _named(kind: type, name: str) -> type:
    kind.__name__ = kind.__qualname__ = name
    kind.__module__ = "datetime"
    return kind
