"""How time passes in a runner: it stands, and jumps to what is due while somebody waits and nothing runs."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from perdure.engine.state import ExecutionState
from perdure.engine.timers import deadline_ms
from perdure.model.error import ErrorObject
from perdure.sdk.drivers.linger import LINGER_S
from perdure.service.service import Service
from perdure.testing.backend import WallTimeout
from perdure.testing.clock import VirtualClock
from perdure.testing.desk import Desk, Unsent, who_acts, within

YEAR_S: Final = 365 * 86_400
"""The clock does not jump to the time-out of an execution that has a year or more."""

FOREVER_MS: Final = 1_000 * 366 * 86_400_000
"""The agenda looks so far ahead: there is nothing that it does not know of."""

SETTLED_S: Final = 0.5
"""An invocation that has recorded nothing for so long is busy with a body of the author's."""

Complaint = Callable[[str], str]


class Pace:
    """Moves the clock of a runner, and waits.

    An invocation that runs for longer, in real time, than it is to what is due next does not keep that from happening:
    so the time-outs of what is stuck are modelled exactly, too.
    """

    def __init__(
        self, service: Service, clock: VirtualClock, desk: Desk, unsent: Unsent, invocation_timeout_ms: int
    ) -> None:
        self._service = service
        self._clock = clock
        self._desk = desk
        self._unsent = unsent
        self._timeout_ms = invocation_timeout_ms
        self._moving = threading.RLock()
        self._moved_s = time.monotonic()
        self._got: dict[str, tuple[str, object]] = {}

    # --- what is due ---------------------------------------------------------------------------------------------

    def next_due_ms(self) -> int | None:
        """When something happens by itself next: a timer, a time-out that was asked for, the end of an invocation."""
        due = [self._agenda_due_ms(), *self._overdue_at()]
        return min((moment for moment in due if moment is not None), default=None)

    def _overdue_at(self) -> list[int]:
        return [each.start_ms + self._timeout_ms for each in self._desk.now_running()]

    def _agenda_due_ms(self) -> int | None:
        """The first moment of the agenda at which more happens than the end that every execution has."""
        agenda, ledger = self._service.agenda, self._service.ledger
        if agenda.next_at_ms() - self._clock.now_ms() > FOREVER_MS // 4:
            return None
        for at_ms, execution_id in agenda.entries():
            if not ledger.read(execution_id, partial(is_mere_end, at_ms)):
                return at_ms
        return None

    # --- moving the clock ----------------------------------------------------------------------------------------

    def advance_to(self, moment_ms: int, *, is_sending: bool = False) -> None:
        """Move the clock on, letting what is due happen at its own moment, and what that leads to run.

        `is_sending` says that this is within a checkpoint.
        """
        is_within = within.get() is self._desk
        is_over = False
        while not is_over:
            if not is_within:
                self._until_idle()
            if not is_sending:
                self._unsent.send()  # what has begun, began before
            with self._moving:
                due_ms = min([self._service.agenda.next_at_ms(), *self._overdue_at()])
                is_over = due_ms > moment_ms or not self._move(due_ms)
                if is_over:
                    self._move(moment_ms)
        if not is_within:
            self._until_idle()

    def _move(self, moment_ms: int) -> bool:
        """Under the lock of moving: make it that time and let happen what is due; False if nothing came of it."""
        desk, agenda = self._desk, self._service.agenda
        before = desk.version, agenda.next_at_ms()
        is_later = moment_ms > self._clock.now_ms()
        if is_later:
            self._clock.move_to(moment_ms)
        self._moved_s = time.monotonic()
        self._end_overdue()
        self._service.tick()
        is_changed = is_later or before != (desk.version, agenda.next_at_ms())
        desk.tell()
        return is_changed

    def _end_overdue(self) -> None:
        """Give up the invocations whose time is over: their processes are dead."""
        now_ms = self._clock.now_ms()
        overdue = [each for each in self._desk.now_running() if each.start_ms + self._timeout_ms <= now_ms]
        for each in overdue:
            if each.client is not None:
                each.client.is_dead = each.client.is_lost = True
            text = f"Task timed out after {self._timeout_ms / 1000:.2f} seconds"
            self._service.lose_invocation(each.invocation, ErrorObject(text, "Sandbox.Timedout"))
            self._desk.end(each.invocation)

    def let_pass(self, seconds: float) -> None:
        """Let time pass in a checkpoint: real time if the clock is real."""
        if self._clock.is_real:
            time.sleep(seconds)
        else:
            self.advance_to(self._clock.now_ms() + round(seconds * 1000), is_sending=True)

    # --- waiting -------------------------------------------------------------------------------------------------

    def until(
        self,
        is_true: Callable[[], bool],
        *,
        wall_s: float,
        complain: Complaint,
        execution_id: str | None = None,
        settles: bool = False,
    ) -> None:
        """Wait, letting time pass; `complain` makes the text of the WallTimeout from what went wrong."""
        desk = self._desk
        end_s = time.monotonic() + wall_s
        is_quiet = False
        with desk.looking_out(settles):
            while True:
                seen = desk.version
                if is_true() and (is_quiet or not settles or not desk.has_running(execution_id or "")):
                    return
                if self._jump(seen):
                    is_quiet = False
                    continue
                left_s = end_s - time.monotonic()
                if left_s <= 0:
                    raise WallTimeout(complain(f"waited {wall_s:g} s (wall_timeout) in vain"))
                if desk.version == seen and self._is_vain():
                    raise WallTimeout(
                        complain("it is in vain to wait: nothing runs, and nothing will happen by itself")
                    )
                is_quiet = not self._wait(seen, left_s, is_patient=not settles) and settles

    def _jump(self, seen: int) -> bool:
        """Move on to what is due next, if nothing runs and nothing has changed since; whether to look again."""
        with self._moving:
            if self._desk.version != seen:
                return True
            if not self._desk.is_idle or not self._clock.auto or self._clock.is_real:
                return False
            due_ms = self._agenda_due_ms()
            if due_ms is None or self._is_kept_open(due_ms):
                return False
            return self._move(due_ms)

    def _wait(self, seen: int, left_s: float, *, is_patient: bool) -> bool:
        """Wait for a change; False if there is none for a while. What is due meanwhile happens."""
        due_s = self._due_s()
        timeout_s = min(left_s, due_s) if due_s is not None else left_s
        if not is_patient:
            timeout_s = min(timeout_s, SETTLED_S)
        if self._unsent:
            timeout_s = min(timeout_s, LINGER_S)
        desk = self._desk
        with desk.changed:
            if desk.version != seen or desk.changed.wait(timeout_s):
                return True
        if self._unsent:
            self._unsent.send()
            return True
        if due_s is not None and timeout_s >= due_s:
            with self._moving:
                due_ms = self.next_due_ms()
                if desk.version == seen and due_ms is not None:
                    self._move(due_ms)
            return True
        return False

    def _due_s(self) -> float | None:
        """In how many real seconds something is due although an invocation runs."""
        if not self._desk.running or not self._clock.auto:
            return None
        due_ms = min(self._overdue_at(), default=None) if self._clock.is_real else self.next_due_ms()
        if due_ms is None:
            return None
        passed_s = 0.0 if self._clock.is_real else time.monotonic() - self._moved_s
        return max((due_ms - self._clock.now_ms()) / 1000 - passed_s, 0.0)

    def _until_idle(self) -> None:
        """Return once nothing runs, or what runs is busy with bodies of the author's."""
        desk = self._desk
        with desk.looking_out(is_wanted=True), desk.changed:
            while not desk.is_idle:
                seen = desk.version
                if not desk.changed.wait(SETTLED_S) and desk.version == seen:
                    return

    def _is_vain(self) -> bool:
        """Whether nothing runs, nothing is due, and there is no other thread that could change that."""
        if not self._desk.is_idle or (self._clock.is_real and self.next_due_ms() is not None):
            return False
        me = threading.current_thread()
        return all(thread is me or thread.name.startswith("perdure-") for thread in threading.enumerate())

    # --- callbacks -----------------------------------------------------------------------------------------------

    def got(self, execution_id: str, callback_id: str) -> None:
        """Whoever asks knows a callback, and may answer it."""
        self._got[callback_id] = (execution_id, who_acts())

    def _is_kept_open(self, due_ms: int) -> bool:
        """Whether a callback would time out by then that somebody else has got and may still answer."""
        me = who_acts()
        for callback_id, (execution_id, who) in list(self._got.items()):
            if who is me:
                continue
            opened = [each for each in self._service.open_callbacks(execution_id) if each.callback_id == callback_id]
            if not opened:
                del self._got[callback_id]
                continue
            ends = (opened[0].timeout_ms, opened[0].heartbeat_ms)
            if any(moment is not None and moment <= due_ms for moment in ends):
                return True
        return False


def is_mere_end(at_ms: int, state: ExecutionState) -> bool:
    """Whether what is due then is only the end that every execution has sometime: a year after its start, or later."""
    head = state.head
    return head.config.execution_timeout_s >= YEAR_S and deadline_ms(head) == at_ms
