"""Group commit: whatever waits goes to disk in one transaction, flushed by the first who waits.

Nobody is handed to a background thread: alone, a committer flushes for itself; among others, one flushes for all while
those who come meanwhile gather for the next flush, which the first of them leads. (Tried: that each of the flushed
wakes the next one, to spare the crowd at the interpreter's lock. It made no difference at 16 threads or at 64.)

Who has something better to do than to wait submits and is told: those flushes are led by a thread of the group's own,
made when it is first needed.
"""

import _thread
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from perdure.model.error import StoreError

log: Final = logging.getLogger("perdure.store")

T = TypeVar("T")
R = TypeVar("R")


class _Ticket(Generic[T, R]):
    """One committer's items on their way to disk. Its gate opens when it is done or leads; or `told` is called."""

    __slots__ = ("error", "gate", "items", "leads", "outcome", "told")

    def __init__(
        self, items: Sequence[T], *, leads: bool, told: "Callable[[list[R] | Exception], None] | None" = None
    ) -> None:
        self.items = items
        self.told = told
        self.leads = leads
        self.gate = _thread.allocate_lock()
        self.gate.acquire()
        self.outcome: list[R] | None = None
        self.error: BaseException | None = None


class GroupCommit(Generic[T, R]):
    """Turns a `write` of many items, which only one thread may call at a time, into a `commit` that any thread may.

    `write` gets the items of all who wait and answers in their order. If it raises, everybody whose items it had gets
    the error. `batch_max` bounds the items of one write.
    """

    def __init__(self, write: Callable[[Sequence[T]], list[R]], batch_max: int = 2_000) -> None:
        self._write = write
        self._batch_max = batch_max
        self._lock: Final = threading.Lock()
        self._waiting: list[_Ticket[T, R]] = []
        self._is_led = False
        self._to_lead = threading.Semaphore(0)
        self._is_lead_given = False
        self._has_leader_thread = False
        self._is_closed = False

    def commit(self, items: Sequence[T]) -> list[R]:
        """Have `items` written and return what `write` answered for them."""
        with self._lock:
            ticket: _Ticket[T, R] = _Ticket(items, leads=not self._is_led)
            self._is_led = True
            self._waiting.append(ticket)
        if not ticket.leads:
            self._wait(ticket)
        if ticket.leads:
            self._lead()
        if ticket.error is not None:
            raise ticket.error
        assert ticket.outcome is not None
        return ticket.outcome

    def submit(self, items: Sequence[T], told: Callable[[list[R] | Exception], None]) -> None:
        """Have `items` written soon; `told` is called, in another thread, with what was answered, or with the error."""
        with self._lock:
            self._waiting.append(_Ticket(items, leads=False, told=told))
            if not self._is_led:
                self._is_led = True
                self._give_lead()
            if not self._has_leader_thread:
                self._has_leader_thread = True
                threading.Thread(target=self._lead_for_others, name="perdure-commits", daemon=True).start()

    def close(self) -> None:
        """Wait until all that was submitted is written, and let the group's own thread go."""
        with contextlib.suppress(Exception):
            self.commit([])
        with self._lock:
            self._is_closed = True
            self._to_lead.release()

    def _give_lead(self) -> None:
        """Under the lock: the group's own thread is the next leader."""
        self._is_lead_given = True
        self._to_lead.release()

    def _lead_for_others(self) -> None:
        while not self._is_closed or self._waiting:
            self._to_lead.acquire()
            with self._lock:
                is_mine, self._is_lead_given = self._is_lead_given, False
            if is_mine:
                with contextlib.suppress(Exception):  # who had submitted has been told
                    self._lead()

    def _wait(self, ticket: _Ticket[T, R]) -> None:
        """Wait to be flushed, or to lead."""
        try:
            ticket.gate.acquire()
        except BaseException:
            self._abandon(ticket)
            raise

    def _abandon(self, ticket: _Ticket[T, R]) -> None:
        """The committer was interrupted while it waited: take its items out, if they are not on their way."""
        with self._lock:
            waits = ticket in self._waiting
            if waits:
                self._waiting.remove(ticket)
        if waits and ticket.leads:
            self._hand_on()

    def _lead(self) -> None:
        """Flush for everybody who waits, oneself included, and hand the lead on."""
        with self._lock:
            batch, self._waiting = self._cut(self._waiting)
        try:
            outcomes = self._write([item for ticket in batch for item in ticket.items])
        except BaseException as error:
            for ticket in batch:
                ticket.error = error if isinstance(error, Exception) else StoreError("the commit was interrupted")
            raise
        else:
            start = 0
            for ticket in batch:
                end = start + len(ticket.items)
                ticket.outcome = outcomes[start:end]
                start = end
        finally:
            self._hand_on()
            for ticket in batch:
                if ticket.told is None and not ticket.leads:
                    ticket.gate.release()
            for ticket in batch:
                if ticket.told is not None:
                    _tell(ticket, ticket.told)

    def _hand_on(self) -> None:
        """Make the first who waits the next leader."""
        with self._lock:
            if not self._waiting:
                self._is_led = False
            elif self._waiting[0].told is not None:
                self._give_lead()
            else:
                self._waiting[0].leads = True
                self._waiting[0].gate.release()

    def _cut(self, waiting: list[_Ticket[T, R]]) -> tuple[list[_Ticket[T, R]], list[_Ticket[T, R]]]:
        """As many tickets from the front as fit into one write, but at least one; and the rest."""
        size = 0
        for index, ticket in enumerate(waiting):
            size += len(ticket.items)
            if index and size > self._batch_max:
                return waiting[:index], waiting[index:]
        return waiting, []


def _tell(ticket: _Ticket[T, R], told: Callable[[list[R] | Exception], None]) -> None:
    answer = ticket.outcome if ticket.outcome is not None else ticket.error
    assert isinstance(answer, (list, Exception))
    try:
        told(answer)
    except Exception:
        log.exception("who submitted a commit could not be told of it")
