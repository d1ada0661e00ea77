"""Sends what has waited for too long to be sent along with something else."""

import threading
import time
import weakref
from collections import deque
from typing import Final, Protocol

LINGER_S: Final = 0.05
"""So long may the START of a running step stay unsent: then it is sent alone, and operators see what is running."""

IDLE_S: Final = 10.0


class Lingering(Protocol):
    """Has updates that nobody waits for."""

    def send_lingering(self) -> None:
        """Send them, so that others can see them."""
        ...


class Linger:
    """One thread that sends lingering updates of all invocations of a process; it goes when there are none."""

    def __init__(self, delay_s: float = LINGER_S) -> None:
        self._delay_s = delay_s
        self._noted: deque[tuple[float, weakref.ref[Lingering]]] = deque()
        self._changed = threading.Condition()
        self._is_running = False
        self._is_idle = False
        self._is_closed = False

    def note(self, driver: Lingering) -> None:
        """Look at this driver after the delay."""
        self._noted.append((time.monotonic() + self._delay_s, weakref.ref(driver)))
        if self._is_idle or not self._is_running:
            with self._changed:
                self._changed.notify()
                if not self._is_running:
                    self._is_running = True
                    threading.Thread(target=self._run, name="perdure-linger", daemon=True).start()

    def close(self) -> None:
        """Let the thread go at once when there is nothing left to look at."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _run(self) -> None:
        while self._wait_for_work():
            due, noted = self._noted.popleft()
            driver = noted()
            if driver is None:
                continue  # its invocation has ended
            del driver
            time.sleep(max(0.0, due - time.monotonic()))
            driver = noted()
            if driver is not None:
                driver.send_lingering()

    def _wait_for_work(self) -> bool:
        """Whether there is something to look at; False after a while without, and then this thread ends."""
        if self._noted:
            return True
        with self._changed:
            self._is_idle = True
            if not self._noted and not self._is_closed:
                self._changed.wait(timeout=IDLE_S)
            self._is_idle = False
            self._is_running = bool(self._noted)
            return self._is_running
