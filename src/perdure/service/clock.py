"""What time it is."""

import time
from typing import Protocol


class Clock(Protocol):
    """Milliseconds since the epoch. Tests and the simulation bring their own."""

    def now_ms(self) -> int: ...


class SystemClock:
    """The clock of the machine."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000
