"""Times and durations as people write and read them."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    _IntType = click.ParamType[int]
    _FloatType = click.ParamType[float]
else:  # older versions of click know no such subscript
    _IntType = _FloatType = click.ParamType

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def duration_text(ms: float) -> str:
    """`3 ms`, `1.25 s`, `4 min 5 s`, `2 h 10 min`, `3 d 4 h`: two units at most."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.2f}".rstrip("0").rstrip(".") + " s"
    seconds = int(ms // 1000)
    parts = [("d", seconds // 86_400), ("h", seconds // 3600 % 24), ("min", seconds // 60 % 60), ("s", seconds % 60)]
    while not parts[0][1]:
        parts.pop(0)
    return " ".join(f"{count} {unit}" for unit, count in parts[:2] if count)


def countdown(ms: float) -> str:
    """What is left, as a clock shows it: `0:05`, `23:59:41`, `3 d 04:00:00`."""
    seconds = max(0, -int(-ms // 1000))
    days, seconds = divmod(seconds, 86_400)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    clock = f"{hours:02}:{minutes:02}:{seconds:02}" if hours or days else f"{minutes}:{seconds:02}"
    return f"{days} d {clock}" if days else clock


def local(at_ms: int, *, is_utc: bool) -> datetime:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at if is_utc else at.astimezone()


def date_text(at_ms: int, *, is_utc: bool) -> str:
    """`2026-01-31 12:00:00`."""
    return f"{local(at_ms, is_utc=is_utc):%Y-%m-%d %H:%M:%S}"


def clock_text(at_ms: int, *, is_utc: bool) -> str:
    """`12:00:00.250`."""
    return f"{local(at_ms, is_utc=is_utc):%H:%M:%S}.{at_ms % 1000:03}"


class Moment(_IntType):
    """A time, in milliseconds: `2h` is two hours ago, ISO 8601 is that time (local if it names no zone)."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        seconds = _seconds(value)
        if seconds is not None:
            return round((datetime.now(UTC) - timedelta(seconds=seconds)).timestamp() * 1000)
        try:
            return round(datetime.fromisoformat(value).astimezone().timestamp() * 1000)
        except ValueError:
            self.fail(f"{value!r} is no time; write 30m, 2h, 7d, or 2026-01-31T12:00", param, ctx)


class Span(_FloatType):
    """A duration, in seconds: `30s`, `5m`, `1h`, `2d`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return value
        seconds = _seconds(value)
        if seconds is None:
            self.fail(f"{value!r} is no duration; write 30s, 5m, 1h or 2d", param, ctx)
        return seconds


class Seconds(Span):
    """A duration in whole seconds: `30`, `30s`, `5m`, `1h`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = float(value) if isinstance(value, str) and value.isdecimal() else super().convert(value, param, ctx)
        if found != int(found) or found < 1:
            self.fail(f"{value!r} must be at least 1 second, and whole seconds", param, ctx)
        return found


def _seconds(text: str) -> float | None:
    found = _DURATION.fullmatch(text.strip())
    return float(found[1]) * _UNITS_S[found[2]] if found else None
