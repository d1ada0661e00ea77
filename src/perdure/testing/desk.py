"""What runs in a runner right now, and who waits for a change of that."""

import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from perdure.engine.state import ExecutionState
from perdure.sdk.drivers.linger import Linger, Lingering
from perdure.service.invocation import Invocation

if TYPE_CHECKING:
    from perdure.testing.client import LocalClient

Key = tuple[str, int]

within: Final[ContextVar["Desk | None"]] = ContextVar("perdure_testing_within", default=None)
"""The desk of the invocation that runs here."""

acting: Final[ContextVar[object]] = ContextVar("perdure_testing_acting", default=None)
"""Who acts, where it is not the thread: the task that a thread works for."""


def who_acts() -> object:
    """The task or thread that asks."""
    return acting.get() or threading.current_thread()


class Running:
    """An invocation that runs. `start_ms` is when it began, on the runner's clock."""

    __slots__ = ("client", "invocation", "start_ms")

    def __init__(self, invocation: Invocation, start_ms: int) -> None:
        self.invocation = invocation
        self.start_ms = start_ms
        self.client: LocalClient | None = None


class Desk:
    """Safe to use from any thread. `version` changes with everything that somebody may wait for."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.version = 0
        self.running: dict[Key, Running] = {}
        self.held: dict[str, Invocation] = {}
        self.holding: set[str] = set()
        self.calls = 0
        self._lookouts = 0
        self._here = threading.local()

    @property
    def is_idle(self) -> bool:
        return not self.running and not self.calls

    def tell(self) -> None:
        """Have everybody look again who waits."""
        with self.lock:
            self.version += 1
            self.changed.notify_all()

    def written(self, state: ExecutionState, _events: object) -> None:
        """Something is on disk: of interest only to those who look out for it, unless it is an end."""
        if self._lookouts or state.head.has_ended:
            self.tell()

    @contextmanager
    def looking_out(self, is_wanted: bool) -> Iterator[None]:
        """Within, what is written is told."""
        with self.lock:
            self._lookouts += is_wanted
        try:
            yield
        finally:
            with self.lock:
                self._lookouts -= is_wanted

    def has_running(self, execution_id: str) -> bool:
        """Whether an invocation of this execution runs."""
        with self.lock:
            return any(key[0] == execution_id for key in self.running)

    def begin(self, invocation: Invocation, now_ms: int) -> None:
        with self.lock:
            self.running[invocation.execution_id, invocation.epoch] = Running(invocation, now_ms)
            self.version += 1

    def end(self, invocation: Invocation) -> None:
        with self.lock:
            self.running.pop((invocation.execution_id, invocation.epoch), None)
            self.version += 1
            self.changed.notify_all()

    @contextmanager
    def holding_new(self) -> Iterator[None]:
        """Within, in this thread, the invocations of executions that begin are kept back."""
        self._here.is_holding = True
        try:
            yield
        finally:
            self._here.is_holding = False

    def hold(self, invocation: Invocation) -> bool:
        """Keep an invocation back, if those of its execution are to be; whether it is."""
        if getattr(self._here, "is_holding", False):
            self.holding.add(invocation.execution_id)
        with self.lock:
            if invocation.execution_id not in self.holding:
                return False
            self.held[invocation.execution_id] = invocation
            self.version += 1
            self.changed.notify_all()
            return True

    def call(self, change: int) -> None:
        """A call of a plain function begins (1) or has ended (-1)."""
        with self.lock:
            self.calls += change
            self.version += 1
            self.changed.notify_all()

    def of(self, invocation: Invocation) -> Running | None:
        with self.lock:
            return self.running.get((invocation.execution_id, invocation.epoch))

    def now_running(self) -> list[Running]:
        with self.lock:
            return list(self.running.values())


class Unsent(Linger):
    """Drivers with updates that nobody waits for. They are sent by whoever waits for the invocation: no thread is."""

    def __init__(self) -> None:
        super().__init__()
        self._drivers: deque[weakref.ref[Lingering]] = deque()

    def note(self, driver: Lingering) -> None:
        self._drivers.append(weakref.ref(driver))
        with contextlib.suppress(IndexError):  # those whose invocations have ended
            while self._drivers[0]() is None:
                self._drivers.popleft()

    def __bool__(self) -> bool:
        return bool(self._drivers)

    def send(self) -> None:
        """Send them, so that what runs can be seen."""
        while self._drivers:
            try:
                driver = self._drivers.popleft()()
            except IndexError:
                return  # somebody else has just taken the last one
            if driver is not None:
                driver.send_lingering()
