"""When somebody must look at which execution: the near future in memory, the rest on disk.

`covered_until_ms` is how far ahead the store has been scanned: what is due until then is here, what is due later need
not be. So a million sleeping executions cost nothing but the few that are due soon. `next_scan_ms` is when to scan
again, which is before then. Executions that could go on but find no free place wait in `ready`, for each target
(`function:version`) first come, first served.
"""

import heapq
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

HORIZON_MS: Final = 60_000
SIZE_MAX: Final = 50_000
"""So many executions are taken from the store into memory (about 150 bytes each); if more are due, it sees less far."""

PAUSE_MS: Final = 1_000
"""Between two scans while there is more to be looked at than there is memory for."""


class Agenda:
    """Moments and the executions to look at then. Safe to use from any thread."""

    def __init__(self, *, horizon_ms: int = HORIZON_MS, size_max: int = SIZE_MAX) -> None:
        self.horizon_ms = horizon_ms
        self.size_max = size_max
        self.covered_until_ms = -1
        self.next_scan_ms = -1
        self._lock = threading.RLock()
        self._heap: list[tuple[int, str]] = []
        self._at: dict[str, tuple[int, str]] = {}
        self._ready: OrderedDict[str, deque[str]] = OrderedDict()
        self._is_ready: set[str] = set()
        self.earlier = threading.Condition(self._lock)
        """Notified when something is to be looked at earlier than anything before."""

    def schedule(self, execution_id: str, target: str, at_ms: int | None) -> None:
        """Look at this execution at `at_ms`, and not at the moment that was scheduled before."""
        with self._lock:
            self._schedule(execution_id, target, at_ms)

    def look_by(self, execution_id: str, target: str, at_ms: int) -> None:
        """Look at this execution at `at_ms` at the latest."""
        with self._lock:
            before = self._at.get(execution_id)
            if before is None or at_ms < before[0]:
                self._schedule(execution_id, target, at_ms)

    def _schedule(self, execution_id: str, target: str, at_ms: int | None) -> None:
        before = self._at.get(execution_id)
        if at_ms is None or at_ms > self.covered_until_ms:
            if before is not None:
                del self._at[execution_id]
            return
        if before is not None and before[0] == at_ms:
            return
        self._at[execution_id] = (at_ms, target)
        is_first = not self._heap or at_ms < self._heap[0][0]
        heapq.heappush(self._heap, (at_ms, execution_id))
        if is_first:
            self.earlier.notify_all()

    @property
    def room(self) -> int:
        """How many executions more may be taken from the store."""
        return max(0, self.size_max - len(self._at))

    @property
    def known(self) -> int:
        """How many executions are here, of which a scan need not tell."""
        return len(self._at) + len(self._is_ready)

    def cover(self, found: Iterable[tuple[str, str, int]], until_ms: int, now_ms: int) -> None:
        """Take in what a scan of the store has found to be due until `until_ms`."""
        with self._lock:
            self.covered_until_ms = covered_ms = max(self.covered_until_ms, until_ms)
            before = len(self._at)
            for execution_id, target, at_ms in found:
                if execution_id not in self._at and execution_id not in self._is_ready:
                    self._schedule(execution_id, target, at_ms)
            if covered_ms > now_ms:
                self.next_scan_ms = min(covered_ms, max((now_ms + covered_ms) // 2, now_ms + PAUSE_MS))
            else:
                self.next_scan_ms = now_ms if len(self._at) > before else now_ms + PAUSE_MS

    def pop_due(self, now_ms: int, limit: int) -> list[tuple[str, str]]:
        """The executions that are due, with their targets; they are on the agenda no more."""
        due: list[tuple[str, str]] = []
        with self._lock:
            heap = self._heap
            while heap and heap[0][0] <= now_ms and len(due) < limit:
                at_ms, execution_id = heapq.heappop(heap)
                entry = self._at.get(execution_id)
                if entry is not None and entry[0] == at_ms:
                    del self._at[execution_id]
                    due.append((execution_id, entry[1]))
        return due

    def next_at_ms(self) -> int:
        """The moment of the first entry, or the one at which the next scan is due."""
        with self._lock:
            heap = self._heap
            while heap and self._at.get(heap[0][1], (None,))[0] != heap[0][0]:
                heapq.heappop(heap)
            return min(heap[0][0], self.next_scan_ms) if heap else self.next_scan_ms

    def entries(self) -> Iterator[tuple[int, str]]:
        """Every moment with its execution, earliest first, as they are when this is called."""
        with self._lock:
            left = list(self._heap)
        while left:
            at_ms, execution_id = heapq.heappop(left)
            if self._at.get(execution_id, (None,))[0] == at_ms:
                yield at_ms, execution_id

    # --- executions without a place --------------------------------------------------------------------------

    def add_ready(self, execution_id: str, target: str, now_ms: int) -> None:
        """This execution can go on as soon as there is a place for it."""
        with self._lock:
            if execution_id in self._is_ready:
                return
            if len(self._is_ready) >= self.size_max:
                self.covered_until_ms = min(self.covered_until_ms, now_ms - 1)
                self.next_scan_ms = min(self.next_scan_ms, now_ms + PAUSE_MS)
                return
            self._is_ready.add(execution_id)
            waiting = self._ready.get(target)
            if waiting is None:
                waiting = self._ready[target] = deque()
            waiting.append(execution_id)

    def pop_ready(
        self, reserve: Callable[[str], bool], release: Callable[[str], None], limit: int
    ) -> list[tuple[str, str]]:
        """Executions that have been ready for longest, each with its target, of which `reserve` has given a place.

        Targets take turns, so that many executions of one keep none of another waiting.
        """
        popped: list[tuple[str, str]] = []
        for target in self._targets_in_turn():
            while len(popped) < limit and reserve(target):
                execution_id = self._pop_ready(target)
                if execution_id is None:
                    release(target)
                    break
                popped.append((execution_id, target))
        return popped

    def _targets_in_turn(self) -> list[str]:
        with self._lock:
            if len(self._ready) > 1:
                self._ready.move_to_end(next(iter(self._ready)))
            return list(self._ready)

    def _pop_ready(self, target: str) -> str | None:
        with self._lock:
            waiting = self._ready.get(target)
            if not waiting:
                return None
            execution_id = waiting.popleft()
            self._is_ready.discard(execution_id)
            if not waiting:
                del self._ready[target]
            return execution_id

    @property
    def ready_count(self) -> int:
        return len(self._is_ready)

    def __len__(self) -> int:
        return len(self._at)
