"""The blocking driver: operations run in the thread that calls them, and commit in it too."""

import contextvars
import queue
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar, cast

from perdure.exceptions import BackgroundThreadError, InvocationError, OrphanedChildException, SuspendExecution
from perdure.model.operation import Operation, OperationType, OperationUpdate
from perdure.sdk.arity import refuse_coroutine
from perdure.sdk.client import Client
from perdure.sdk.drivers.crew import Crew, Ended, Unit
from perdure.sdk.drivers.hands import HANDS
from perdure.sdk.drivers.linger import Linger
from perdure.sdk.drivers.protocol import UPDATES_MAX, FanOut, Settling
from perdure.sdk.drivers.running import run_blocking
from perdure.sdk.journal import Begun, Journal, suspension
from perdure.sdk.scope import Scope

__all__ = ["BlockingDriver", "Linger", "run_blocking"]

T = TypeVar("T")

GRACE_S: Final = 1.0
"""So long does an invocation wait for abandoned branches that are inside the author's code."""


class BlockingDriver:
    """Sends updates from the thread that needs them durable; others that wait meanwhile are sent along.

    Safe for several threads of one invocation: one call is under way at a time, and carries what all have gathered.
    """

    def __init__(self, client: Client, journal: Journal, linger: "Linger | None" = None) -> None:
        self._client = client
        self._journal = journal
        self._linger = linger
        self._is_noted = False
        self._buffer_lock = threading.Lock()
        self._sending = threading.Lock()
        self._buffer: list[OperationUpdate] = []
        self._added = 0
        self._sent = 0
        self._end: BaseException | None = None
        self._crew: Crew | None = None

    def owner(self) -> object:
        return threading.get_ident()

    async def call(self, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        if self._crew is not None:
            self._crew.about_to_block()
        result = body()
        refuse_coroutine(result, function)
        return cast(T, result)

    async def call_within(self, seconds: int, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        if self._crew is not None:
            self._crew.about_to_block()
        answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        context = contextvars.copy_context()

        def run() -> None:
            try:
                answers.put((context.run(body), None))
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                answers.put((None, error))

        HANDS.run(run)
        try:
            result, error = answers.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"it took longer than {seconds} s") from None
        if error is not None:
            raise error
        refuse_coroutine(result, function)
        return cast(T, result)

    async def enter(self, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        result = body()
        refuse_coroutine(result, function)
        return cast(T, result)

    @property
    def foreigner(self) -> str:
        return "another thread"

    # --- branches ------------------------------------------------------------------------------------------------

    @property
    def crew(self) -> Crew:
        """The threads of this invocation's branches."""
        if self._crew is None:
            with self._buffer_lock:
                if self._crew is None:
                    self._crew = self._new_crew()
        return self._crew

    def _new_crew(self) -> Crew:
        return Crew(self._journal.records.get, self.refresh)

    async def fan_out(self, work: FanOut) -> None:
        crew = self.crew
        group = crew.group()
        retried: InvocationError | None = None
        try:
            while not work.is_over:
                while retried is None and (branch := work.next()) is not None:
                    unit = Unit(group, branch, branch.run)
                    if work.is_serial:
                        group.run_here(unit)
                        break
                    group.start(unit)
                try:
                    ended = group.next()
                except SuspendExecution:
                    if retried is not None:
                        break
                    raise
                if isinstance(ended.error, InvocationError):
                    retried = retried or ended.error
                elif ended.error is not None:
                    raise ended.error
                else:
                    work.ended(ended.unit.key, ended.outcome)
        finally:
            crew.forget(group)
        if retried is not None:
            raise retried

    def start(self, scope: Scope, key: Any, begun: Begun[Any], *, light: bool) -> Unit:
        """Run an operation beside what its context does next; a `light` one in this thread, as far as it goes now."""
        if scope.group is None:
            scope.group = self.crew.group()
        unit = Unit(scope.group, key, begun)
        if light:
            scope.group.run_here(unit)
        else:
            scope.group.start(unit)
        return unit

    async def settle(self, futures: Sequence[Settling], is_enough: Callable[[], bool]) -> None:
        while not is_enough():
            group = futures[0].scope.group
            assert group is not None
            self._settle_one(group.next())

    def collect(self, scope: Scope) -> None:
        """Settle the futures of a context that have ended by now."""
        while scope.group is not None and (ended := scope.group.poll()) is not None:
            self._settle_one(ended)

    def _settle_one(self, ended: Ended) -> None:
        if ended.error is not None and not isinstance(ended.error, Exception):
            raise ended.error
        ended.unit.key.settle(ended.outcome, ended.error)

    def drain(self, scope: Scope, suspended: SuspendExecution) -> SuspendExecution:
        """A context can't go on, but what was started in it may: wait for that. Returns what all of it waits for."""
        group = scope.group
        try:
            while True:
                self._settle_one(group.next())
        except SuspendExecution as others:
            due = [each.due_ms for each in (suspended, others) if each.due_ms is not None]
            ids = suspended.operation_ids + others.operation_ids
            return suspension(str(suspended).removeprefix("waiting for "), min(due, default=None), ids)

    def drop(self, unit: Unit) -> bool:
        """Never run a unit that does not run right now."""
        return self.crew.drop(unit)

    def asked_for(self, scope: Scope, place: str | None) -> None:
        """A context has asked for the outcome of what ran beside it at this place."""
        self._journal.asked_for(scope, place)

    def leave(self, scope: Scope) -> None:
        if scope.group is not None:
            self.crew.forget(scope.group)
            scope.group = None

    # --- what is recorded ----------------------------------------------------------------------------------------

    async def commit(self, scope: Scope, update: OperationUpdate, *, durable: bool) -> None:
        self._take(self._add(scope, update), durable=durable)

    async def close(self, scope: Scope, update: OperationUpdate, inner: Scope, *, durable: bool) -> None:
        self._take(self._add(scope, update, inner), durable=durable)

    def _take(self, number: int, *, durable: bool) -> None:
        if durable or len(self._buffer) >= UPDATES_MAX:
            self._send(number)
        elif self._linger is not None and not self._is_noted:
            self._is_noted = True
            self._linger.note(self)

    async def park(self, scope: Scope, update: OperationUpdate) -> None:
        if self._crew is None:  # else every update is expected
            self._journal.expect(update)
        await self.commit(scope, update, durable=self._client.answers_waits)

    async def until(
        self, operation_id: str, is_good: Callable[[Operation], bool], what: str, due_ms: int | None
    ) -> Operation:
        record = self._journal.records.get(operation_id)
        if record is not None and is_good(record):
            return record
        raise suspension(what, due_ms, (operation_id,))

    def _add(self, scope: Scope, update: OperationUpdate, closing: Scope | None = None) -> int:
        """Put an update into the outgoing batch; return its number. What comes after the end of its context can't."""
        if self._end is not None:
            raise self._end
        with self._buffer_lock:
            if scope.is_orphaned:
                raise OrphanedChildException("the context of this operation has ended", update.id)
            if closing is not None:
                closing.is_closed = True
            if self._crew is not None:
                self._journal.expect(update)
            self._buffer.append(update)
            self._added += 1
            return self._added

    def refresh(self) -> None:
        """Ask what has changed, and send what has gathered with it."""
        with self._sending:
            self._send_gathered()

    def _send(self, number: int) -> None:
        """Return once the update of this number is durable, having sent it if nobody else has."""
        if self._crew is not None:
            self._crew.about_to_block()
        with self._sending:
            if self._sent < number:
                self._send_gathered()
        if self._end is not None and (self._sent < number or isinstance(self._end, SuspendExecution)):
            raise self._end

    def _send_gathered(self) -> None:
        """Send all that has gathered; under the lock of sending."""
        if self._end is not None:
            return
        with self._buffer_lock:
            batch, self._buffer = self._buffer, []
            last = self._added
        try:
            answer = self._client.checkpoint(batch)
        except Exception as error:
            self._end = BackgroundThreadError(f"a checkpoint failed: {error}", error)
            raise self._end from error
        with self._buffer_lock:
            self._journal.merge(answer.operations, {update.id for update in self._buffer})
        self._sent = last
        if self._crew is not None and answer.operations:
            self._crew.changed(answer.operations)
        if not answer.may_go_on:
            if batch and batch[-1].type is OperationType.EXECUTION:
                self._end = OrphanedChildException("the execution has ended", batch[-1].id)
            else:
                self._end = SuspendExecution("the right to write has been withdrawn")

    def send_lingering(self) -> None:
        """Send what has waited for too long, so that others can see it."""
        self._is_noted = False
        with self._sending:
            if self._buffer and self._end is None:
                try:
                    self._send_gathered()
                except BaseException as error:  # noqa: BLE001 - whoever needs the driver next gets it
                    self._end = self._end or error

    def finish(self) -> list[OperationUpdate]:
        """Stop sending; return what was not sent. What abandoned branches do goes nowhere."""
        if self._crew is not None:
            self._crew.wait_quiet(GRACE_S)
        with self._sending, self._buffer_lock:
            rest, self._buffer = self._buffer, []
            if self._end is None:
                self._end = OrphanedChildException("the invocation has ended", "")
            return rest

    @property
    def failure(self) -> BackgroundThreadError | None:
        """The failed call that ended the sending, if one did."""
        return self._end if isinstance(self._end, BackgroundThreadError) else None

    @property
    def is_revoked(self) -> bool:
        """The right to write was withdrawn before the handler had ended."""
        return isinstance(self._end, SuspendExecution)
