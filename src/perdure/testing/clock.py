"""The time of a test: it stands, jumps to what is due while somebody waits, and is moved by hand."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Mover(Protocol):
    """Whoever lets happen what is due when time passes."""

    def advance_to(self, moment_ms: int) -> None:
        """Move the clock there, with all that is due until then happening at its own moment, in order."""
        ...

    def next_due_ms(self) -> int | None:
        """When something happens by itself next; None if nothing will."""
        ...


class VirtualClock:
    """What time it is in a test.

    `auto` says whether it jumps to what is due next while a test waits for a result or a callback and nothing runs.
    A real one (`is_real`) is the machine's, as far as it was not moved on.
    """

    def __init__(self, start: datetime | None = None, *, is_real: bool = False) -> None:
        now_ms = time.time_ns() // 1_000_000
        start_ms = now_ms if start is None else _milliseconds(start)
        self.is_real = is_real
        self._is_auto = True
        self._told: Callable[[], None] = _nobody
        self._base_ms = start_ms - now_ms if is_real else start_ms
        self._mover: Mover | None = None

    @property
    def auto(self) -> bool:
        return self._is_auto

    @auto.setter
    def auto(self, is_auto: bool) -> None:
        self._is_auto = is_auto
        self._told()

    def bind(self, mover: Mover, told: Callable[[], None] | None = None) -> None:
        """Give the clock what lets things happen when it is moved, and what is `told` when `auto` is set."""
        self._mover = mover
        self._told = told or _nobody

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self._base_ms + time.time_ns() // 1_000_000 if self.is_real else self._base_ms

    def now(self) -> datetime:
        """The modelled time, in UTC."""
        return datetime.fromtimestamp(self.now_ms() / 1000, UTC)

    def advance(self, by: timedelta | float) -> None:
        """Let time pass, a timedelta or seconds: what is due on the way happens, each at its own moment and in order.

        Returns once all that has led to has run. ValueError for less than nothing.
        """
        seconds = by.total_seconds() if isinstance(by, timedelta) else by
        if seconds < 0:
            raise ValueError(f"a clock can't go back: advance({by!r})")
        self.advance_to_ms(self.now_ms() + round(seconds * 1000))

    def advance_to(self, moment: datetime) -> None:
        """The same up to a moment; one without a time zone is in UTC. ValueError if it is past."""
        moment_ms = _milliseconds(moment)
        if moment_ms < self.now_ms():
            raise ValueError(f"a clock can't go back: it is {self.now().isoformat()}, later than {moment.isoformat()}")
        self.advance_to_ms(moment_ms)

    def advance_to_ms(self, moment_ms: int) -> None:
        """The same for milliseconds since the epoch."""
        if self._mover is None:
            self.move_to(moment_ms)
        else:
            self._mover.advance_to(moment_ms)

    def run_next_timer(self) -> datetime | None:
        """Let happen what is due next, and nothing later; return when that was, None if nothing is due ever."""
        due_ms = self._mover.next_due_ms() if self._mover is not None else None
        if due_ms is None:
            return None
        self.advance_to_ms(max(due_ms, self.now_ms()))
        return datetime.fromtimestamp(due_ms / 1000, UTC)

    @contextmanager
    def frozen(self) -> Iterator["VirtualClock"]:
        """Within, time passes only by hand: what waits, waits."""
        before, self.auto = self.auto, False
        try:
            yield self
        finally:
            self.auto = before

    def move_to(self, moment_ms: int) -> None:
        """Set the clock on, and let nothing happen: for whoever does that."""
        self._base_ms += max(0, moment_ms - self.now_ms())


def _nobody() -> None:
    """Nobody is told."""


def _milliseconds(moment: datetime) -> int:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)
