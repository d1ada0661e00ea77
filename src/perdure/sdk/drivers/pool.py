"""Threads for what would block a loop: bodies of steps that are not `async def`, and calls of the service."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from perdure.sdk.drivers.hands import HANDS

Work = Callable[[], None]


class Pool:
    """At most `size` pieces of work at once, in borrowed threads; the others wait in their order."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._queue: deque[Work] = deque()
        self._running = 0

    def submit(self, work: Work) -> None:
        with self._lock:
            self._queue.append(work)
            if self._running >= self._size:
                return
            self._running += 1
        HANDS.run(self._drain)

    def _drain(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._running -= 1
                    return
                work = self._queue.popleft()
            work()


BODIES: Final = Pool(64)
"""For bodies, in all invocations of the process."""

CALLS: Final = Pool(32)
"""For calls of the service: a store takes what waits together in one commit."""
