"""The idle threads of the process: who needs one for a while borrows it, so that few are ever made."""

import queue
import threading
from collections.abc import Callable
from typing import Final

IDLE_S: Final = 5.0
"""An idle thread goes after this long."""

JOIN_S: Final = 1.0

Work = Callable[[], None]


class Hands:
    """Runs work in a thread that is idle, or in a new one. They are daemons: a blocked one keeps no process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[queue.SimpleQueue[Work | None], threading.Thread]] = []
        self._made = 0

    def run(self, work: Work) -> None:
        with self._lock:
            idle = self._idle.pop() if self._idle else None
            self._made += idle is None
        if idle is not None:
            idle[0].put(work)
        else:
            threading.Thread(target=self._serve, args=(work,), name=f"perdure-branch-{self._made}", daemon=True).start()

    def _serve(self, work: Work | None) -> None:
        inbox: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        place = (inbox, threading.current_thread())
        while work is not None:
            work()
            with self._lock:
                self._idle.append(place)
            work = self._next(*place)

    def _next(self, inbox: "queue.SimpleQueue[Work | None]", thread: threading.Thread) -> Work | None:
        try:
            return inbox.get(timeout=IDLE_S)
        except queue.Empty:
            with self._lock:
                if (inbox, thread) in self._idle:
                    self._idle.remove((inbox, thread))
                    return None
        return inbox.get()  # somebody has just taken this thread

    def dismiss(self) -> None:
        """Let the idle threads go now, and return once they are gone."""
        with self._lock:
            idle, self._idle = self._idle, []
        for inbox, _thread in idle:
            inbox.put(None)
        for _inbox, thread in idle:
            thread.join(JOIN_S)


HANDS: Final = Hands()
