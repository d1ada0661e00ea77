"""The idle threads of the process: who needs one for a while borrows it, so that few are ever made."""

import queue
import threading
from collections.abc import Callable
from typing import Final

IDLE_S: Final = 5.0
"""An idle thread goes after this long."""

Work = Callable[[], None]


class Hands:
    """Runs work in a thread that is idle, or in a new one. They are daemons: a blocked one keeps no process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[queue.SimpleQueue[Work]] = []
        self._made = 0

    def run(self, work: Work) -> None:
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
            self._made += inbox is None
        if inbox is not None:
            inbox.put(work)
        else:
            threading.Thread(target=self._serve, args=(work,), name=f"perdure-branch-{self._made}", daemon=True).start()

    def _serve(self, work: Work | None) -> None:
        inbox: queue.SimpleQueue[Work] = queue.SimpleQueue()
        while work is not None:
            work()
            with self._lock:
                self._idle.append(inbox)
            work = self._next(inbox)

    def _next(self, inbox: "queue.SimpleQueue[Work]") -> Work | None:
        try:
            return inbox.get(timeout=IDLE_S)
        except queue.Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    return None
        return inbox.get()  # somebody has just taken this thread


HANDS: Final = Hands()
