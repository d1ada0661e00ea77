"""The idle threads of the process: who needs one for a while borrows it, so that few are ever made."""

import queue
import threading
from collections.abc import Callable
from typing import Final

IDLE_S: Final = 5.0
"""An idle thread goes after this long."""

JOIN_S: Final = 1.0
SETTLE_S: Final = 0.05
"""So long are threads waited for that are leaving their work; those that are blocked in it are not."""

Work = Callable[[], None]


class Hands:
    """Runs work in a thread that is idle, or in a new one. They are daemons: a blocked one keeps no process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[queue.SimpleQueue[Work | None], threading.Thread]] = []
        self._busy: set[threading.Thread] = set()
        self._changed = threading.Condition(self._lock)
        self._made = 0

    def run(self, work: Work) -> None:
        with self._lock:
            idle = self._idle.pop() if self._idle else None
            if idle is not None:
                self._busy.add(idle[1])
                idle[0].put(work)
                return
            self._made += 1
            thread = threading.Thread(
                target=self._serve, args=(work,), name=f"perdure-branch-{self._made}", daemon=True
            )
            self._busy.add(thread)
        thread.start()

    def _serve(self, work: Work | None) -> None:
        inbox: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        place = (inbox, threading.current_thread())
        while work is not None:
            work()
            with self._lock:
                self._busy.discard(place[1])
                self._idle.append(place)
                self._changed.notify_all()
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
        """Let the idle threads go now, and those that are about to be idle; return once they are gone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy, SETTLE_S)
            idle, self._idle = self._idle, []
        for inbox, _thread in idle:
            inbox.put(None)
        for _inbox, thread in idle:
            thread.join(JOIN_S)


HANDS: Final = Hands()
