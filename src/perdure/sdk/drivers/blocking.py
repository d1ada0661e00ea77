"""The blocking driver: operations run in the thread that calls them, and commit in it too."""

import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import Any, Final, TypeVar, cast

from perdure.exceptions import (
    BackgroundThreadError,
    OrphanedChildException,
    SuspendExecution,
    ValidationError,
)
from perdure.model.operation import Operation, OperationType, OperationUpdate
from perdure.sdk.client import Client
from perdure.sdk.journal import Journal
from perdure.sdk.scope import Scope

T = TypeVar("T")

LINGER_S: Final = 0.05
IDLE_S: Final = 10.0
"""So long may the START of a running step stay unsent: then it is sent alone, and operators see what is running."""


def run_blocking(operation: Coroutine[Any, Any, T]) -> T:
    """Drive an operation whose driver blocks the thread: one `send` runs it to its end."""
    try:
        operation.send(None)
    except StopIteration as finished:
        return cast(T, finished.value)
    operation.close()
    raise RuntimeError("a driver suspended inside run_blocking; give it a blocking driver")


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

    async def call(self, body: Callable[[], T | Awaitable[T]]) -> T:
        result = body()
        if type(result) is CoroutineType:
            result.close()
            name = getattr(result, "__qualname__", "the function")
            raise ValidationError(
                f"{name} is an `async def` function in a handler that is not: make the handler `async def` too, "
                "or the function `def`"
            )
        return cast(T, result)

    async def commit(self, scope: Scope, update: OperationUpdate, *, durable: bool) -> None:
        if scope.is_orphaned:
            raise OrphanedChildException("the context of this operation has ended", update.id)
        number = self._add(update)
        if durable:
            self._send(number)
        elif self._linger is not None and not self._is_noted:
            self._is_noted = True
            self._linger.note(self)

    async def park(self, scope: Scope, update: OperationUpdate) -> Operation | None:
        await self.commit(scope, update, durable=self._client.answers_waits)
        return self._journal.records.get(update.id) if self._client.answers_waits else None

    def _add(self, update: OperationUpdate) -> int:
        """Put an update into the outgoing batch; return its number."""
        if self._end is not None:
            raise self._end
        with self._buffer_lock:
            self._buffer.append(update)
            self._added += 1
            return self._added

    def _send(self, number: int) -> None:
        """Return once the update of this number is durable, having sent it if nobody else has."""
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
        self._journal.merge(answer.operations)
        self._sent = last
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
        """Stop sending; return what was not sent."""
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


class Linger:
    """One thread that sends lingering updates of all invocations of a process; it goes when there are none."""

    def __init__(self, delay_s: float = LINGER_S) -> None:
        self._delay_s = delay_s
        self._noted: deque[tuple[float, weakref.ref[BlockingDriver]]] = deque()
        self._changed = threading.Condition()
        self._is_running = False
        self._is_idle = False
        self._is_closed = False

    def note(self, driver: BlockingDriver) -> None:
        """Look at this driver after the delay."""
        self._noted.append((time.monotonic() + self._delay_s, weakref.ref(driver)))
        if self._is_idle or not self._is_running:
            with self._changed:
                self._changed.notify()
                if not self._is_running:
                    self._is_running = True
                    threading.Thread(target=self._run, name="perdure-linger", daemon=True).start()

    def close(self) -> None:
        """Let the thread go at once when there is nothing left to look at."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _run(self) -> None:
        while self._wait_for_work():
            due, noted = self._noted.popleft()
            driver = noted()
            if driver is None:
                continue  # its invocation has ended
            del driver
            time.sleep(max(0.0, due - time.monotonic()))
            driver = noted()
            if driver is not None:
                driver.send_lingering()

    def _wait_for_work(self) -> bool:
        """Whether there is something to look at; False after a while without, and then this thread ends."""
        if self._noted:
            return True
        with self._changed:
            self._is_idle = True
            if not self._noted and not self._is_closed:
                self._changed.wait(timeout=IDLE_S)
            self._is_idle = False
            self._is_running = bool(self._noted)
            return self._is_running
