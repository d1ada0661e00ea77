"""The threads of one invocation's branches: few, made when the ones at work block, none for a branch that waits.

A unit is one thing that runs beside others: a branch of a batch, or a future. It runs in a thread until it has an
outcome or can only wait; then it is parked, without a thread, and run again over its records once an operation that it
waits for has changed. Units belong to a group: whoever waits for them hears of each that ends.

One worker takes unit after unit; further ones join when a worker is about to block and units are queued, up to
`WORKERS_MAX`. So branches that are only replayed all run in one thread, and blocking ones do not wait for each other.
"""

import contextvars
import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from perdure.exceptions import SuspendExecution
from perdure.model.operation import Operation
from perdure.sdk.drivers.hands import HANDS
from perdure.sdk.drivers.running import run_blocking
from perdure.sdk.journal import may_start, suspension

WORKERS_MAX: Final = 64
"""More branches than this never run at once; what has no thread yet is queued."""

STALL_S: Final = 0.01
"""A worker that has not ended a unit for this long, with units queued, is taken to be blocked in the author's code."""

REFRESH_S: Final = 0.05
REFRESH_S_MAX: Final = 1.0
"""How long to wait before asking again for an operation that is due here, and not yet over for the service."""

_numbers: Final = itertools.count()


class Unit:
    """One thing that runs beside others. `make` makes its operation anew for every run."""

    __slots__ = ("context", "group", "is_abandoned", "key", "make", "suspended")

    def __init__(self, group: "Group", key: Any, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.group = group
        self.key = key
        self.make = make
        self.context = contextvars.copy_context()
        self.suspended: SuspendExecution | None = None
        self.is_abandoned = False


class Ended:
    """What a group hears: a unit's outcome, or what it raised."""

    __slots__ = ("error", "outcome", "unit")

    def __init__(self, unit: Unit, outcome: Any, error: BaseException | None) -> None:
        self.unit = unit
        self.outcome = outcome
        self.error = error


class Crew:
    """The workers of one invocation. `look` gives the record of an operation, `refresh` asks for changes."""

    def __init__(
        self,
        look: Callable[[str], Operation | None],
        refresh: Callable[[], None],
        workers_max: int = WORKERS_MAX,
    ) -> None:
        self.lock = threading.Lock()
        self.queued = 0
        self.workers = 0
        self.workers_max = workers_max
        self.refresh = refresh
        self._look = look
        self._listed: list[Group] = []
        self._waiting: dict[str, list[Unit]] = {}
        self._quiet = threading.Condition(self.lock)
        self._running = 0
        self._here = threading.local()
        self.ended = 0

    # --- units ---------------------------------------------------------------------------------------------------

    def group(self) -> "Group":
        return Group(self)

    def put(self, unit: Unit) -> None:
        """Queue a unit; under the lock."""
        group = unit.group
        if not group.queue:
            self._listed.append(group)
        group.queue.append(unit)
        self.queued += 1
        if not self.workers:
            self.hire()

    def hire(self) -> None:
        """One more worker; under the lock."""
        self.workers += 1
        HANDS.run(self._work)

    def about_to_block(self) -> None:
        """Said by a thread before it blocks: let somebody else take what is queued."""
        if self.queued and self.workers < self.workers_max:
            with self.lock:
                if self.queued and self.workers < self.workers_max:
                    self.hire()

    @property
    def is_worker(self) -> bool:
        """Whether this thread is one of the workers."""
        return getattr(self._here, "is_worker", False)

    def _work(self) -> None:
        self._here.is_worker = True
        while (unit := self._take()) is not None:
            self.run(unit)

    def _take(self) -> Unit | None:
        with self.lock:
            while self._listed:
                group = self._listed[-1]  # the newest: what is nested ends before its siblings begin
                if group.queue:
                    return self.take_of(group)
                self._listed.pop()
            self.workers -= 1
            self._here.is_worker = False
            return None

    def take_of(self, group: "Group") -> Unit:
        """The next queued unit of a group, to be run by the caller; under the lock."""
        unit = group.queue.popleft()
        self.queued -= 1
        self.begin(unit)
        return unit

    def begin(self, unit: Unit) -> None:
        """A unit is about to run; under the lock."""
        unit.group.running += 1
        self._running += 1

    def run(self, unit: Unit) -> None:
        """Run a unit to its end, or until it can only wait; tell its group."""
        outcome: Any = None
        error: BaseException | None = None
        try:
            outcome = unit.context.copy().run(_run, unit)
        except BaseException as raised:  # noqa: BLE001 - whoever waits for the unit decides what it means
            error = raised
        group = unit.group
        with self.lock:
            self._running -= 1
            self.ended += 1
            group.running -= 1
            if isinstance(error, SuspendExecution) and not unit.is_abandoned:
                self._park(unit, error)
                if group.is_news(error.due_ms):
                    group.changed.notify_all()
            else:
                group.ended.append(Ended(unit, outcome, error))
                group.changed.notify_all()
            if not self._running:
                self._quiet.notify_all()

    # --- waiting -------------------------------------------------------------------------------------------------

    def _park(self, unit: Unit, suspended: SuspendExecution) -> None:
        suspended.__traceback__ = None  # it would keep the frames of the branch, in cycles that cost collections
        unit.suspended = suspended
        group = unit.group
        group.parked.add(unit)
        if suspended.due_ms is not None:
            heapq.heappush(group.timers, (suspended.due_ms, next(_numbers), unit, suspended))
        for operation_id in suspended.operation_ids:
            self._waiting.setdefault(operation_id, []).append(unit)
            record = self._look(operation_id)
            if record is not None and may_start(record):
                self._resume(unit)
                return

    def _resume(self, unit: Unit) -> None:
        self._unpark(unit)
        self.put(unit)
        unit.group.changed.notify_all()

    def changed(self, records: Iterable[Operation]) -> None:
        """The service has said what has become of these operations: whoever waited for one of them goes on."""
        if not self._waiting:
            return
        with self.lock:
            for record in records:
                if may_start(record):
                    for unit in list(self._waiting.get(record.id, ())):
                        if unit.suspended is not None:  # it may wait for the same operation in several ways
                            self._resume(unit)

    # --- the end -------------------------------------------------------------------------------------------------

    def forget(self, group: "Group") -> None:
        """Nobody waits for this group any more: what is queued or parked of it never runs again."""
        with self.lock:
            for unit in list(group.parked):
                self._unpark(unit)
            for unit in group.units:
                unit.is_abandoned = True
            self.queued -= len(group.queue)
            group.queue.clear()

    def drop(self, unit: Unit) -> bool:
        """Never run this unit again; False if it runs right now, or has ended."""
        group = unit.group
        with self.lock:
            if unit in group.parked:
                self._unpark(unit)
            elif unit in group.queue:
                group.queue.remove(unit)
                self.queued -= 1
            else:
                return False
            unit.is_abandoned = True
            return True

    def _unpark(self, unit: Unit) -> None:
        suspended, unit.suspended = unit.suspended, None
        for operation_id in suspended.operation_ids if suspended is not None else ():
            units = self._waiting.get(operation_id)
            if units is not None and unit in units:
                units.remove(unit)
                if not units:
                    del self._waiting[operation_id]
        unit.group.parked.discard(unit)

    def wait_quiet(self, timeout_s: float | None) -> bool:
        """Return once no unit runs any more, or after the time; whether none does."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self.lock:
            while self._running:
                left_s = None if deadline is None else deadline - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return False
                self._quiet.wait(left_s)
            return True


def _run(unit: Unit) -> Any:
    return run_blocking(unit.make())


class Group:
    """Units that somebody waits for together. Not for several waiters at once."""

    __slots__ = (
        "_awake_ms",
        "_crew",
        "_is_replaced",
        "_refresh_at",
        "_refresh_s",
        "changed",
        "ended",
        "parked",
        "queue",
        "running",
        "timers",
        "units",
    )

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._is_replaced = not crew.is_worker
        self.changed = threading.Condition(crew.lock)
        self.ended: deque[Ended] = deque()
        self.parked: set[Unit] = set()
        self.units: list[Unit] = []
        self.queue: deque[Unit] = deque()
        self.running = 0
        self.timers: list[tuple[int, int, Unit, SuspendExecution]] = []
        self._awake_ms: float | None = None
        self._refresh_at = 0.0
        self._refresh_s = REFRESH_S

    def start(self, unit: Unit) -> None:
        """Have a unit run beside the others."""
        crew = self._crew
        with crew.lock:
            self.units.append(unit)
            crew.put(unit)

    def run_here(self, unit: Unit) -> None:
        """Run a unit in this thread, now."""
        crew = self._crew
        with crew.lock:
            self.units.append(unit)
            crew.begin(unit)
        crew.run(unit)

    def next(self) -> Ended:
        """Wait for the next unit to end; help with what is queued if all workers are taken.

        Raises SuspendExecution once all units that are left are parked.
        """
        crew = self._crew
        while True:
            unit: Unit | None = None
            is_refresh_due = False
            with crew.lock:
                if self.ended:
                    return self.ended.popleft()
                if not self.running and not self.queue:
                    raise self.suspension()
                if self.queue and crew.workers >= crew.workers_max:
                    unit = crew.take_of(self)
                else:
                    is_refresh_due = self._wait(crew)
            if unit is not None:
                crew.run(unit)
            elif is_refresh_due:
                crew.refresh()

    def poll(self) -> Ended | None:
        """A unit that has ended, if there is one."""
        with self._crew.lock:
            return self.ended.popleft() if self.ended else None

    def _wait(self, crew: Crew) -> bool:
        """Wait for a change, under the lock; whether the service should be asked because something is due."""
        now = time.time()
        timeout_s: float | None = None
        due_ms = self.due_ms()
        if due_ms is not None:
            timeout_s = max(due_ms / 1000, self._refresh_at) - now
            if timeout_s <= 0:
                self._refresh_s = min(self._refresh_s * 2, REFRESH_S_MAX) if now - self._refresh_at < 1 else REFRESH_S
                self._refresh_at = now + self._refresh_s
                return True
        before = crew.ended
        if crew.queued and crew.workers < crew.workers_max:
            if not self._is_replaced:  # a worker begins to wait: another one does its work
                self._is_replaced = True
                crew.hire()
            timeout_s = STALL_S if timeout_s is None else min(timeout_s, STALL_S)
        self._awake_ms = None if timeout_s is None else (now + timeout_s) * 1000
        is_stalled = not self.changed.wait(timeout_s) and crew.ended == before
        if is_stalled and crew.queued and crew.workers < crew.workers_max:
            crew.hire()
        return False

    def is_news(self, due_ms: int | None) -> bool:
        """Whether a unit that was parked changes what its waiter waits for; under the lock."""
        if not self.running and not self.queue:
            return True
        return due_ms is not None and (self._awake_ms is None or due_ms < self._awake_ms)

    def due_ms(self) -> int | None:
        """When the first of the parked units is due by itself."""
        timers = self.timers
        while timers and timers[0][2].suspended is not timers[0][3]:
            heapq.heappop(timers)  # it has gone on since
        return timers[0][0] if timers else None

    def suspension(self) -> SuspendExecution:
        """What the group as a whole waits for."""
        waiting = [unit.suspended for unit in self.parked if unit.suspended is not None]
        if len(waiting) == 1:
            return suspension(str(waiting[0]).removeprefix("waiting for "), waiting[0].due_ms, waiting[0].operation_ids)
        due_ms = self.due_ms()
        ids = tuple(operation_id for each in waiting for operation_id in each.operation_ids)
        return suspension(f"{len(waiting)} branches", due_ms, ids)
