"""The service: all that can be asked of durable executions.

Nothing is answered, and no effect happens, before what it rests on is on disk.
"""

import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from perdure.engine import commands as cmd, tokens
from perdure.engine.checkpoint import holds_right
from perdure.engine.history import visible_operations
from perdure.engine.state import ExecutionState
from perdure.engine.terms import Ids, Terms
from perdure.engine.timers import next_due_ms
from perdure.model.error import ErrorObject, InvalidParameterValue, ResourceNotFound, StaleToken, StoreError
from perdure.model.event import HistoryEvent
from perdure.model.execution import ExecutionRow
from perdure.model.function import target_of
from perdure.model.ids import Home, execution_text
from perdure.model.operation import Callback, ExecutionOperation, Operation, OperationStatus, OperationUpdate
from perdure.model.view import Changes, ExecutionView, OpenCallback
from perdure.service import histories
from perdure.service.agenda import Agenda
from perdure.service.changes import changes_of
from perdure.service.clock import Clock, SystemClock
from perdure.service.functions import Functions
from perdure.service.hot import HotCache
from perdure.service.ids import RandomIds
from perdure.service.invocation import Checkpointed, Dispatcher, Invocation
from perdure.service.ledger import Ledger
from perdure.service.loop import Loop, starts_invocation
from perdure.service.starting import Started, Starter, StartRequest
from perdure.service.timekeeper import Timekeeper
from perdure.service.views import view_of
from perdure.service.watching import Watcher
from perdure.store.protocol import PAGE_MAX, TIME_MS_MAX, Page, Query, Store


class Service:
    """Safe to use from any thread. It runs none itself: `tick` is to be called when `next_tick_ms` has come."""

    def __init__(
        self,
        store: Store,
        functions: Functions,
        dispatcher: Dispatcher,
        *,
        home: Home | None = None,
        terms: Terms | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
        owner: str | None = None,
        hot: HotCache | None = None,
        agenda: Agenda | None = None,
    ) -> None:
        self.store = store
        self.functions = functions
        self.owner = owner or f"{socket.gethostname()[:20]}-{os.getpid()}-{secrets.token_hex(3)}"
        self.clock = clock or SystemClock()
        self.agenda = agenda if agenda is not None else Agenda()
        self.why_waiting: Callable[[str], str | None] = lambda _target: None
        """Why an execution of a target has no place, where somebody knows."""
        self._loop = Loop(dispatcher, self.agenda, functions, home or Home(), self.owner)
        self.ledger = Ledger(
            store, self.clock, ids or RandomIds(), terms or Terms(), self._loop.kept, self._loop.unsure, hot
        )
        self._starter = Starter(self.ledger, self._loop, functions)
        self._timekeeper = Timekeeper(self.ledger, self._loop, functions)
        self._loop.bind(self.ledger, self._starter.begin_child, self._timekeeper.looker.look)
        self.next_tick_ms = self._timekeeper.next_tick_ms
        self.tick = self._timekeeper.tick
        self.sweep = self._timekeeper.sweep
        store.listen(self._timekeeper.changed_elsewhere)

    def fill_elsewhere(self, filler: Callable[[], None]) -> None:
        """Have `filler` called when there may be a place for an execution that waits for one; `tick` then fills it.

        Who runs `tick` in a thread of its own asks for this: that thread then takes many at once.
        """
        self._loop.filler = filler

    def fill_places(self) -> None:
        """A place has become free: executions that wait for one may have it."""
        self._loop.fill_places()

    def close(self) -> None:
        """Begin nothing any more; what is running may still record its end."""
        self._loop.is_closing = True

    # --- starting ------------------------------------------------------------------------------------------------

    def start(self, requests: Sequence[StartRequest]) -> list[Started]:
        """Begin executions, in one commit; those that exist with the same name and input are returned.

        Raises ExecutionAlreadyStarted if a name is taken with another input; then none is begun.
        """
        return self._starter.start(requests)

    def fork(self, execution_id: str, operation_id: str, *, name: str | None = None) -> Started:
        """Begin an execution with the past of another one, up to where an operation of that began, and let it go on.

        Raises ResourceNotFound if there is no such execution, InvalidParameterValue if there is no such operation,
        ExecutionAlreadyStarted if the name is taken.
        """
        return self._starter.fork(execution_id, operation_id, name)

    # --- handlers ------------------------------------------------------------------------------------------------

    def checkpoint(
        self,
        execution_id: str,
        token: cmd.Token,
        updates: Sequence[OperationUpdate],
        client_token: str | None = None,
        resolve: cmd.Resolve | None = None,
    ) -> Checkpointed:
        """Apply `updates` to one execution, all or none, and return what its handler has not seen yet.

        `resolve` looks up what chained invokes point at, if not every function may be invoked.

        Raises StaleToken if another invocation has moved the execution on, and InvalidParameterValue if an update can't
        be; in both cases nothing of it is stored.

        Source: Lambda API 2025-12-01, CheckpointDurableExecution.
        """
        command = cmd.Checkpoint(
            token=token, updates=updates, resolve=resolve or self.functions.chained, client_token=client_token
        )
        return self._loop.do(execution_id, command, _checkpointed)

    def checkpoint_told(
        self,
        execution_id: str,
        token: cmd.Token,
        updates: Sequence[OperationUpdate],
        client_token: str | None,
        told: Callable[[Checkpointed | Exception | None], None],
        *,
        resolve: cmd.Resolve | None = None,
        waits: bool = False,
    ) -> bool:
        """The same without waiting for the disk: `told` is called, perhaps in another thread, with what it returns.

        If it `waits` all the same, `told` is called here. False if it must be asked for with `checkpoint` after all; so
        it must if `told` is given None.
        """
        command = cmd.Checkpoint(
            token=token, updates=updates, resolve=resolve or self.functions.chained, client_token=client_token
        )
        return self._loop.do_told(execution_id, command, _checkpointed, told, waits=waits)

    def state_page(
        self, execution_id: str, token: cmd.Token, marker: int = 0, limit: int = PAGE_MAX
    ) -> tuple[list[Operation], int | None]:
        """A page of the operations that a replay needs, EXECUTION first, and the next marker; the token stays good.

        Source: Lambda API 2025-12-01, GetDurableExecutionState.
        """

        def page(state: ExecutionState) -> tuple[list[Operation], int | None]:
            if not holds_right(state.head, token):
                raise StaleToken
            operations = [_execution_operation(state), *visible_operations(state.operations)]
            end = marker + limit
            return operations[marker:end], end if end < len(operations) else None

        return self.ledger.read(execution_id, page)

    def end_invocation(
        self,
        invocation: Invocation,
        token: cmd.Token,
        outcome: cmd.Outcome,
        updates: Sequence[OperationUpdate] = (),
        *,
        has_place: bool = True,
    ) -> None:
        """Record how an invocation ended, and what follows; the place it had is free afterwards.

        A dispatcher that has taken the place back already says so (`has_place` False): another one is reserved then if
        the execution can go on at once.

        Raises InvalidParameterValue if `updates`, which it had not sent yet, can't be; then it has not ended. A store
        that can't take it now is tried again until it can.
        """
        loop = self._loop
        execution_id = invocation.execution_id
        command = cmd.EndInvocation(
            token=token,
            outcome=outcome,
            resolve=self.functions.chained,
            updates=updates,
            invoker=None if loop.is_closing else loop.owner,
        )
        if not has_place:
            self._record_end(execution_id, command)
            return
        is_again = False

        def look(_state: ExecutionState, decision: cmd.Decision) -> None:
            nonlocal is_again
            is_again = starts_invocation(decision)

        try:
            if loop.has_backlog:
                is_again = loop.do_soon(execution_id, command)
            else:
                loop.do(execution_id, command, look)
        except StoreError:
            loop.insist(lambda: loop.do_with_place(execution_id, command))
        except ResourceNotFound:
            loop.ours.pop(execution_id, None)
        if not is_again:
            loop.release(target_of(invocation.function, invocation.version))
            loop.fill_places()

    def lose_invocation(self, invocation: Invocation, error: ErrorObject) -> None:
        """Record that an invocation will not answer any more: its worker is gone, or it has taken too long.

        It is tried again; what it still sends is refused. Nothing happens if it has ended. The place it had is the
        dispatcher's affair.
        """
        self._record_end(invocation.execution_id, cmd.LoseInvocation(epoch=invocation.epoch, error=error))

    def _record_end(self, execution_id: str, command: cmd.Command) -> None:
        loop = self._loop
        try:
            loop.do_with_place(execution_id, command)
        except StoreError:
            loop.insist(lambda: loop.do_with_place(execution_id, command))
        except ResourceNotFound:
            loop.ours.pop(execution_id, None)

    # --- callbacks -----------------------------------------------------------------------------------------------

    def succeed_callback(self, callback_id: str, result: bytes | str | None = None) -> None:
        """Complete a callback; an empty `result` leaves its result absent.

        Raises ResourceNotFound, CallbackTimeout if it is closed, InvalidParameterValue if the result is no UTF-8 text.
        """
        if isinstance(result, bytes):
            try:
                result = result.decode()
            except UnicodeDecodeError:
                raise InvalidParameterValue("a callback's result must be UTF-8 text") from None
        command = cmd.CompleteCallback(callback_id=callback_id, result=result or None)
        self._loop.do_with_place(_execution_of(callback_id), command)

    def fail_callback(self, callback_id: str, error: ErrorObject | None = None) -> None:
        """Complete a callback with a failure."""
        command = cmd.CompleteCallback(callback_id=callback_id, error=error, is_failure=True)
        self._loop.do_with_place(_execution_of(callback_id), command)

    def heartbeat_callback(self, callback_id: str) -> None:
        """Say that work on a callback goes on: its heartbeat time-out begins anew."""
        command = cmd.HeartbeatCallback(callback_id=callback_id)
        self._loop.do_with_place(_execution_of(callback_id), command)

    def open_callbacks(self, execution_id: str | None = None, *, limit: int = 1000) -> list[OpenCallback]:
        """The callbacks that wait to be completed: of one execution, or the oldest of all."""
        if execution_id is not None:
            return self.ledger.read(execution_id, _open_callbacks)
        found: list[OpenCallback] = []
        after: str | None = None
        while len(found) < limit:
            page = self.store.open_callbacks(self.clock.now_ms(), after, 100)
            for row in page.rows:
                found += self.ledger.read(row.execution_id, _open_callbacks)
            after = page.marker
            if after is None:
                break
        return found[:limit]

    # --- operators -----------------------------------------------------------------------------------------------

    def stop(self, execution_id: str, error: ErrorObject | None = None) -> int:
        """STOPPED at once; return when it ended. What has ended before stays as it is."""
        return self._loop.do(execution_id, cmd.Stop(error=error), lambda state, _decision: state.head.end_ms or 0)

    def pause(
        self,
        execution_id: str,
        reason: str | None = None,
        *,
        is_timeout_paused: bool = True,
        client_token: str | None = None,
    ) -> None:
        """No invocation starts until `resume`. Raises ResourceConflict unless the execution is RUNNING."""
        command = cmd.Pause(reason=reason, is_timeout_paused=is_timeout_paused, client_token=client_token)
        self._loop.do_with_place(execution_id, command)

    def resume(self, execution_id: str, reason: str | None = None, *, client_token: str | None = None) -> None:
        """Go on. Raises ResourceConflict unless the execution is paused."""
        self._loop.do_with_place(execution_id, cmd.Resume(reason=reason, client_token=client_token))

    def delete(self, execution_id: str) -> None:
        """Remove an execution that has ended, with its history. Raises ResourceConflict if it has not."""
        self._loop.do_with_place(execution_id, cmd.Delete())
        self.ledger.forget(execution_id)
        self.store.delete([execution_id])

    # --- reading -------------------------------------------------------------------------------------------------

    def get(self, execution_id: str) -> ExecutionView:
        """What is known of an execution; ResourceNotFound if there is none."""

        def view(state: ExecutionState) -> ExecutionView:
            found = view_of(state, self._loop.arn_of(state))
            if not state.head.can_be_invoked(self.clock.now_ms()):
                return found
            return replace(found, waiting_reason=self.why_waiting(state.head.target))

        return self.ledger.read(execution_id, view)

    def operations(self, execution_id: str) -> list[Operation]:
        """All operations of an execution, in the order in which they started."""
        return self.ledger.read(execution_id, lambda state: list(state.operations.values()))

    def history(
        self, execution_id: str, *, marker: str | None = None, limit: int = 100, is_reversed: bool = False
    ) -> histories.HistoryPage:
        """A page of the history, oldest event first unless `is_reversed`.

        Source: Lambda API 2025-12-01, GetDurableExecutionHistory.
        """
        read = histories.descending if is_reversed else histories.ascending
        return self.ledger.read(execution_id, lambda state: read(self.store, state, marker, limit))

    def all_events(self, execution_id: str, *, is_reversed: bool = False) -> Iterator[HistoryEvent]:
        """The whole history, read page by page while one iterates."""
        marker: str | None = None
        while True:
            page = self.history(execution_id, marker=marker, limit=PAGE_MAX, is_reversed=is_reversed)
            yield from page.events
            marker = page.marker
            if marker is None:
                return

    def all_rows(self, query: Query) -> Iterator[ExecutionRow]:
        """Everything that `query` finds, from its page on, read page by page while one iterates."""
        while True:
            page = self.search(query)
            yield from page.rows
            if page.marker is None:
                return
            query = replace(query, after=page.marker)

    def search(self, query: Query) -> Page:
        """Executions that fulfil all conditions of `query`."""
        return self.store.search(query)

    def wait(self, execution_id: str, timeout_s: float | None = None) -> bool:
        """Wait until an execution has ended; False if it has not within `timeout_s`."""
        return self._loop.wait(execution_id, timeout_s)

    def when_ended(self, execution_id: str, told: Callable[[], None]) -> Callable[[], None]:
        """Call `told` once the execution has ended, perhaps at once, in any thread; what is returned calls it off."""
        return self._loop.when_ended(execution_id, told)

    def watch(self, execution_id: str, watcher: Watcher, *, is_from_start: bool = False) -> Callable[[], None]:
        """Call `watcher` with the events of an execution, in order, once they are on disk, until it has ended.

        With `is_from_start` it is shown what there is already. What another process writes is seen when this one hears
        of it. The watcher is called under the execution's lock: it must be quick and must not call the service. What is
        returned calls it off.
        """
        return self.ledger.read(
            execution_id, lambda state: self.ledger.watching.add(state, watcher, is_from_start=is_from_start)
        )

    def changes(self, execution_id: str, after: str | None = None) -> Changes:
        """What has happened to an execution after the position `after`, and how it stands now.

        With None, the position is that of now, and every operation is among what changed.
        """
        return self.ledger.read(
            execution_id, lambda state: changes_of(self.store, state, self._loop.arn_of(state), after)
        )

    def next_due_ms(self, counts: Callable[[ExecutionState, int], bool] = lambda _state, _at_ms: True) -> int | None:
        """When something happens next by itself that `counts`; None if nothing will.

        A moment that has passed says that something runs, waits for a place, or is about to happen. Where many nodes
        share the store, an invocation counts as over when its lease is.
        """
        for due in self.store.due(TIME_MS_MAX, None, PAGE_MAX):
            at_ms = due.wake_at_ms
            with contextlib.suppress(ResourceNotFound):
                if self.ledger.read(due.execution_id, lambda state, at_ms=at_ms: counts(state, at_ms)):  # type: ignore[misc]
                    return at_ms
        return None

    def running(self) -> list[tuple[str, int | None]]:
        """The executions of which an invocation of this process runs, each with when something is due in it."""
        due: list[tuple[str, int | None]] = []
        for execution_id in list(self._loop.ours):
            with contextlib.suppress(ResourceNotFound):
                due.append((execution_id, self.ledger.read(execution_id, next_due_ms)))
        return due

    def watch_all(self, watcher: Watcher) -> None:
        """Call `watcher` with whatever this process writes of any execution, once it is on disk, as `watch` does."""
        self.ledger.watching.all = watcher


def _execution_operation(state: ExecutionState) -> ExecutionOperation:
    """The EXECUTION operation, which stands before all others."""
    head = state.head
    return ExecutionOperation(
        id=head.execution_id,
        number=0,
        status=OperationStatus.STARTED,
        start_ms=head.start_ms,
        name=head.name or head.execution_id,
        input=head.input,
    )


def _checkpointed(state: ExecutionState, decision: cmd.Decision) -> Checkpointed:
    if decision.is_token_withheld or decision.refusal is not None:
        return Checkpointed(None, ())
    delivered = state.delivered
    assert delivered is not None
    return Checkpointed(cmd.Token(delivered.epoch, delivered.count), delivered.operations)


def _execution_of(callback_id: str) -> str:
    key = tokens.callback_owner(callback_id)
    if key is None:
        raise InvalidParameterValue("Invalid callback id", hint=f"{callback_id[:60]!r} is none of ours")
    return execution_text(key)


def _open_callbacks(state: ExecutionState) -> list[OpenCallback]:
    head = state.head
    if head.has_ended:
        return []
    return [
        OpenCallback(
            operation.callback_id,
            operation.name,
            operation.id,
            head.execution_id,
            head.name or head.execution_id,
            head.function,
            operation.start_ms,
            operation.timeout_ms,
            operation.heartbeat_ms,
        )
        for operation_id in state.callback_ids.values()
        if isinstance(operation := state.operations[operation_id], Callback)
        and operation.status is OperationStatus.STARTED
    ]
