"""What happens because time passes: timers, lost invocations, leases, retention; and what other processes have done."""

import logging
from typing import Final

from perdure.engine import commands as cmd
from perdure.model.error import ErrorObject, ResourceNotFound, ServiceError
from perdure.model.function import target_of
from perdure.service.functions import Functions
from perdure.service.ledger import Ledger
from perdure.service.looking import Looker
from perdure.service.loop import RETRY_MS, Loop
from perdure.store.protocol import Lease

log: Final = logging.getLogger("perdure.service")

SWEEP_MS: Final = 60_000
BATCH: Final = 256


class Timekeeper:
    """Runs no thread of its own: `tick` is to be called when `next_tick_ms` has come, or anything earlier is due."""

    def __init__(self, ledger: Ledger, loop: Loop, functions: Functions) -> None:
        self._ledger = ledger
        self._loop = loop
        self._functions = functions
        self._next_sweep_ms = 0
        self._next_renewal_ms = 0
        self.looker = Looker(ledger, loop, self.look)

    def next_tick_ms(self) -> int:
        """When `tick` has to be called next."""
        moments = [self._loop.agenda.next_at_ms(), self._next_sweep_ms]
        if self._loop.unended:
            moments.append(self._ledger.clock.now_ms() + RETRY_MS)
        if self._ledger.store.lease_ms is not None:
            moments.append(self._next_renewal_ms)
        return min(moments)

    def tick(self) -> None:
        """Do what is due now."""
        now_ms = self._ledger.clock.now_ms()
        unended, self._loop.unended = self._loop.unended, []
        for end in unended:
            self._loop.insist(end)
        self._scan_ahead(now_ms)
        self._renew_leases(now_ms)
        while due := self._loop.agenda.pop_due(now_ms, BATCH):
            self.looker.look(due)
        self._loop.fill_now()
        if self._next_sweep_ms <= now_ms:
            self._next_sweep_ms = now_ms + SWEEP_MS
            self._loop.look_for_waiters()
            self.sweep()

    def look(self, execution_id: str, target: str, *, has_place: bool) -> bool:
        """Let happen what is due, and have the execution run if it can and there is a place; True if that is used.

        If the store can't be read or written now, somebody looks again in a second.
        """
        try:
            command = self._command_for(execution_id)
            return self._loop.do_in_place(execution_id, command, has_place=has_place)
        except ResourceNotFound:
            return False
        except ServiceError as error:
            log.warning("an execution could not be looked at", extra={"execution": execution_id, "error": str(error)})
            self._loop.agenda.schedule(execution_id, target, self._ledger.clock.now_ms() + RETRY_MS)
            return False

    def _command_for(self, execution_id: str) -> cmd.Command:
        """Wake, unless an invocation is in flight that nobody runs: its owner is gone, or never knew of it."""
        entry = self._ledger.hot.pin(execution_id)
        try:
            with entry.lock:
                head = self._ledger.refresh(entry).head
                now, has_ended, is_ours = head.in_flight, head.has_ended, self._loop.runs(head)
        finally:
            self._ledger.hot.unpin(entry)
        if now is None or has_ended or is_ours:
            return cmd.Wake()
        if now.owner == self._loop.owner:
            error = ErrorObject(f"the process {now.owner} was not told that it had begun", "Runtime.ExitError")
            return cmd.LoseInvocation(epoch=now.epoch, error=error)
        if self._ledger.store.lease_ms is not None:
            row = self._ledger.store.row(execution_id)
            if row is None or row.wake_at_ms is None or row.wake_at_ms > self._ledger.clock.now_ms():
                return cmd.Wake()
        error = ErrorObject(f"the process {now.owner} ended without an answer", "Runtime.ExitError")
        return cmd.LoseInvocation(epoch=now.epoch, error=error)

    def _scan_ahead(self, now_ms: int) -> None:
        """Take what is due soon from the store into the agenda."""
        agenda = self._loop.agenda
        if now_ms < agenda.next_scan_ms:
            return
        until_ms = now_ms + agenda.horizon_ms
        ours = self._loop.ours
        limit = agenda.room + agenda.known + len(ours)  # those that are known already must not hide any other
        found = self._ledger.store.due(until_ms, self._functions.names, limit)
        if len(found) == limit:
            until_ms = found[-1].wake_at_ms if found else now_ms - 1
        agenda.cover(
            [
                (due.execution_id, target_of(due.function, due.version), due.wake_at_ms)
                for due in found
                if due.execution_id not in ours
            ],
            until_ms,
            now_ms,
        )

    def _renew_leases(self, now_ms: int) -> None:
        store = self._ledger.store
        if store.lease_ms is None or self._next_renewal_ms > now_ms:
            return
        self._next_renewal_ms = now_ms + store.lease_ms // 3
        leases = [Lease(key, epoch, now_ms + store.lease_ms) for key, epoch in list(self._loop.ours.items())]
        if leases:
            store.renew(leases)

    def sweep(self) -> int:
        """Remove what is past its retention, in small batches; return how many executions went."""
        gone = 0
        while expired := self._ledger.store.expired(self._ledger.clock.now_ms(), 100):
            self._ledger.store.delete(expired)
            gone += len(expired)
        return gone

    def changed_elsewhere(self, execution_id: str) -> None:
        """Another process has appended to an execution: know it, and look at it now."""
        try:
            target, has_ended = self._ledger.read(execution_id, lambda state: (state.head.target, state.head.has_ended))
        except ServiceError:
            return
        if has_ended:
            self._loop.tell_waiters(execution_id)
        self._loop.agenda.schedule(execution_id, target, self._ledger.clock.now_ms())
