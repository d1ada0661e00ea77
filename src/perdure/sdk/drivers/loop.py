"""The driver of a loop: operations are awaited, thousands of invocations share one thread.

An invocation is quiescent when none of its tasks can go on: each waits for a durable operation, or for another task
that does. Then whatever waits gets a SuspendExecution, and the invocation ends; until then operations that have changed
go on where they are. What runs outside of durable operations (a request, a sleep) keeps the invocation going.
"""

import asyncio
import contextvars
import heapq
import inspect
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, Final, TypeVar, cast

from perdure.exceptions import BackgroundThreadError, InvocationError, OrphanedChildException, SuspendExecution
from perdure.model.operation import Operation, OperationType, OperationUpdate
from perdure.sdk.arity import is_async
from perdure.sdk.client import Client
from perdure.sdk.drivers.linger import LINGER_S
from perdure.sdk.drivers.pool import BODIES, CALLS, Pool
from perdure.sdk.drivers.protocol import UPDATES_MAX, FanOut, Settling
from perdure.sdk.drivers.quiescence import Busy, Joined, Parked, find_going
from perdure.sdk.journal import Journal, suspension
from perdure.sdk.scope import Scope

T = TypeVar("T")

GRACE_S: Final = 1.0
"""So long does an invocation wait for what it has cancelled."""

REFRESH_S: Final = 0.05
"""How long to wait before asking again for an operation that is due here, and not yet over for the service."""

_numbers: Final = itertools.count()


class LoopDriver:
    """The driver of one invocation. Only what blocks runs elsewhere than on its loop's thread: bodies, calls.

    `main` is the task of the handler, `tasks` are all tasks of the invocation; the loop's task factory adds those that
    the author's code makes.
    """

    def __init__(self, client: Client, journal: Journal) -> None:
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._journal = journal
        self.tasks: set[asyncio.Task[Any]] = set()
        self._abandoned: set[asyncio.Task[Any]] = set()
        self.suspended: SuspendExecution | None = None
        self._buffer: list[OperationUpdate] = []
        self._added = 0
        self._sent = 0
        self._is_sending = False
        self._waiters: deque[tuple[int, Busy]] = deque()
        self._unsent: dict[str, int] = {}
        self._end: BaseException | None = None
        self._parked: dict[str, list[Parked]] = {}
        self._landing: Busy | None = None
        self._timers: list[tuple[int, int, Parked]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._bodies = 0
        self._is_check_due = False
        self.main: asyncio.Task[Any] | None = None
        self._likely: asyncio.Task[Any] | None = None
        self._awaited: asyncio.Future[Any] | None = None

    def owner(self) -> object:
        return asyncio.current_task()

    @property
    def foreigner(self) -> str:
        return "another task"

    # --- bodies --------------------------------------------------------------------------------------------------

    async def call(self, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        result = body() if is_async(function) else await self._in_thread(BODIES, body)
        if inspect.isawaitable(result):
            return cast(T, await result)
        return result

    async def call_within(self, seconds: int, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        try:
            async with asyncio.timeout(seconds):
                return await self.call(body, function)
        except TimeoutError:
            raise TimeoutError(f"it took longer than {seconds} s") from None

    async def enter(self, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        result = body()
        if inspect.isawaitable(result):
            return cast(T, await result)
        return result

    async def _in_thread(self, pool: Pool, work: Callable[[], T]) -> T:
        """Run something that blocks in a thread, with this task's context variables."""
        done: Busy = Busy(loop=self._loop)
        context = contextvars.copy_context()
        self._bodies += 1

        def finish(result: Any, error: BaseException | None) -> None:
            self._bodies -= 1
            done.settle(result, error)
            self._check_soon()

        def run() -> None:
            result, error = None, None
            try:
                result = context.run(work)
            except BaseException as raised:  # noqa: BLE001 - it is raised where it is awaited
                error = raised
            self._loop.call_soon_threadsafe(finish, result, error)

        pool.submit(run)
        return cast(T, await done)

    # --- what is recorded ----------------------------------------------------------------------------------------

    async def commit(self, scope: Scope, update: OperationUpdate, *, durable: bool) -> None:
        await self._take(self._add(scope, update), durable=durable)

    async def close(self, scope: Scope, update: OperationUpdate, inner: Scope, *, durable: bool) -> None:
        number = self._add(scope, update)
        inner.is_closed = True
        await self._take(number, durable=durable)

    async def park(self, scope: Scope, update: OperationUpdate) -> None:
        await self.commit(scope, update, durable=self._client.answers_waits)

    def _add(self, scope: Scope, update: OperationUpdate) -> int:
        if self._end is not None:
            raise self._end
        if scope.is_orphaned:
            raise OrphanedChildException("the context of this operation has ended", update.id)
        self._journal.expect(update)
        self._buffer.append(update)
        self._unsent[update.id] = self._unsent.get(update.id, 0) + 1
        self._added += 1
        return self._added

    async def _take(self, number: int, *, durable: bool) -> None:
        if not durable:
            if len(self._buffer) >= UPDATES_MAX:
                self._send()
            elif self._linger is None:
                self._linger = self._loop.call_later(LINGER_S, self._send_lingering)
            return
        while self._sent < number:
            if self._end is not None:
                raise self._end
            waiter: Busy = Busy(loop=self._loop)
            self._waiters.append((number, waiter))
            self._send()
            await waiter
        if isinstance(self._end, SuspendExecution):
            raise self._end

    def _send_lingering(self) -> None:
        self._linger = None
        if self._buffer and self._end is None:
            self._send()

    def _send(self) -> None:
        """Send what has gathered, unless a call is under way: then it goes with the next."""
        if self._is_sending or self._end is not None:
            return
        self._is_sending = True
        batch, self._buffer = self._buffer[:UPDATES_MAX], self._buffer[UPDATES_MAX:]
        last = self._added - len(self._buffer)
        for update in batch:
            left = self._unsent.pop(update.id) - 1
            if left:
                self._unsent[update.id] = left

        def run() -> None:
            answer, error = None, None
            try:
                answer = self._client.checkpoint(batch)
            except BaseException as raised:  # noqa: BLE001 - every waiter hears of it
                error = raised
            self._loop.call_soon_threadsafe(self._landed, batch, last, answer, error)

        CALLS.submit(run)

    def _landed(self, batch: Sequence[OperationUpdate], last: int, answer: Any, error: BaseException | None) -> None:
        """A call has come back: everybody who waited for it goes on."""
        self._is_sending = False
        if self._landing is not None:
            self._landing.settle(None, None)
        if error is not None:
            self._end = BackgroundThreadError(f"a checkpoint failed: {error}", error)
            self._wake_all(self._end)
            return
        self._journal.merge(answer.operations, self._unsent)
        self._sent = last
        if not answer.may_go_on:
            if batch and batch[-1].type is OperationType.EXECUTION:
                self._end = OrphanedChildException("the execution has ended", batch[-1].id)
            else:
                self._end = SuspendExecution("the right to write has been withdrawn")
        while self._waiters and self._waiters[0][0] <= last:
            self._waiters.popleft()[1].settle(None, None)
        for record in answer.operations:
            self._wake(record.id)
        if self._end is not None:
            self._wake_all(self._end)
        elif self._waiters:
            self._send()
        self._check_soon()

    def _wake_all(self, error: BaseException) -> None:
        while self._waiters:
            self._waiters.popleft()[1].settle(None, error)
        for parked in list(self._all_parked()):
            parked.settle(None, error)

    # --- waiting -------------------------------------------------------------------------------------------------

    async def until(
        self, operation_id: str, is_good: Callable[[Operation], bool], what: str, due_ms: int | None
    ) -> Operation:
        while True:
            record = self._journal.records.get(operation_id)
            if record is not None and is_good(record):
                return record
            if self._end is not None:
                raise self._end
            if self.suspended is not None:
                raise suspension(what, due_ms, (operation_id,))
            parked = Parked(what, due_ms, operation_id, loop=self._loop)
            self._parked.setdefault(operation_id, []).append(parked)
            if due_ms is not None:
                heapq.heappush(self._timers, (due_ms, next(_numbers), parked))
                self._set_timer()
            self._check_soon()
            try:
                await parked
            finally:
                self._forget(operation_id, parked)

    def _forget(self, operation_id: str, parked: Parked) -> None:
        waiting = self._parked.get(operation_id)
        if waiting is not None and parked in waiting:
            waiting.remove(parked)
            if not waiting:
                del self._parked[operation_id]

    def _wake(self, operation_id: str) -> None:
        for parked in self._parked.get(operation_id, ()):
            parked.settle(None, None)

    def _all_parked(self) -> Iterator[Parked]:
        for waiting in list(self._parked.values()):
            yield from list(waiting)

    def _set_timer(self) -> None:
        """Look at what is due when it is: only while the invocation lasts."""
        while self._timers and self._timers[0][2].done():
            heapq.heappop(self._timers)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._timers and self._end is None:
            delay_s = max(self._timers[0][0] / 1000 - time.time(), 0.0)
            self._timer = self._loop.call_later(delay_s, self._ask_for_due)

    def _ask_for_due(self) -> None:
        self._timer = None
        now_ms = time.time() * 1000
        is_any = False
        while self._timers and self._timers[0][0] <= now_ms:
            _due, _number, parked = heapq.heappop(self._timers)
            if not parked.done():
                is_any = True
                heapq.heappush(self._timers, (int(now_ms + REFRESH_S * 1000), next(_numbers), parked))
        if is_any:
            self._send()
        self._set_timer()

    # --- quiescence ----------------------------------------------------------------------------------------------

    def _check_soon(self) -> None:
        if not self._is_check_due and self.suspended is None:
            self._is_check_due = True
            self._loop.call_soon(self._check)

    def _check(self) -> None:
        """Suspend whatever waits if nothing of this invocation can go on."""
        self._is_check_due = False
        if self._bodies or self._is_sending or self._waiters or not self._parked or self._end is not None:
            return
        if self.main is None or self.main.done():
            return
        going = find_going(self.tasks, self._likely)
        if going is None:
            self._suspend()
            return
        self._likely = going.task
        if going.future is None:
            self._check_soon()
        elif going.future is not self._awaited:
            self._awaited = going.future
            going.future.add_done_callback(lambda _: self._check_soon())

    def _suspend(self) -> None:
        waiting = list(self._all_parked())
        due = [parked.due_ms for parked in waiting if parked.due_ms is not None]
        what = waiting[0].what if len(waiting) == 1 else f"{len(waiting)} operations"
        self.suspended = suspension(what, min(due, default=None))
        for parked in waiting:
            parked.settle(None, suspension(parked.what, parked.due_ms, (parked.operation_id,)))

    # --- branches ------------------------------------------------------------------------------------------------

    def spawn(self, operation: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of this invocation, whose end somebody looks at."""
        task = self._loop.create_task(operation)
        self.adopt(task)
        task.add_done_callback(_look_at)
        return task

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Count a task among those of this invocation."""
        if task not in self.tasks:
            self.tasks.add(task)
            task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        self._check_soon()

    async def fan_out(self, work: FanOut) -> None:
        running: dict[asyncio.Task[Any], Any] = {}
        ended: deque[asyncio.Task[Any]] = deque()
        joined: Joined | None = None
        retried: InvocationError | None = None
        suspended: SuspendExecution | None = None

        def note(task: asyncio.Task[Any]) -> None:
            ended.append(task)
            if joined is not None:
                joined.settle(None, None)

        try:
            while not work.is_over:
                while retried is None and suspended is None and (branch := work.next()) is not None:
                    task = self.spawn(branch.run())
                    running[task] = branch
                    task.add_done_callback(note)
                if not ended:
                    if not running:
                        break
                    joined = Joined(loop=self._loop)
                    await joined
                    joined = None
                while ended and not work.is_over:
                    task = ended.popleft()
                    branch = running.pop(task)
                    error = asyncio.CancelledError() if task.cancelled() else task.exception()
                    if error is None:
                        work.ended(branch, task.result())
                    elif isinstance(error, SuspendExecution):
                        suspended = error
                    elif isinstance(error, InvocationError):
                        retried = retried or error
                    else:
                        raise error
        finally:
            for task in running:
                self._abandon(task)
        if not work.is_over:
            raise retried or suspended or self._no_way_on()

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        """Nobody needs this task any more: it does not keep the invocation going, even if it won't be cancelled."""
        task.cancel()
        self.tasks.discard(task)
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)
        self._check_soon()

    def _no_way_on(self) -> SuspendExecution:
        return self.suspended or SuspendExecution("nothing can go on")

    async def settle(self, futures: Sequence[Settling], is_enough: Callable[[], bool]) -> None:
        bell = _Bell()
        for future in futures:
            if not future.is_settled:
                future.tell(bell)
        while not is_enough():
            bell.joined = Joined(loop=self._loop)
            await bell.joined

    async def either(self, task: asyncio.Task[Any], future: Settling) -> None:
        """Return once one of the two has ended."""
        joined = Joined(loop=self._loop)
        task.add_done_callback(lambda _: joined.settle(None, None))
        future.tell(joined)
        await joined

    def asked_for(self, scope: Scope, place: str | None) -> None:
        """A context has asked for the outcome of what ran beside it at this place."""
        self._journal.asked_for(scope, place)

    def leave(self, scope: Scope) -> None:
        pass  # what is left of a context's tasks is cancelled with the invocation

    # --- the end -------------------------------------------------------------------------------------------------

    async def finish(self) -> list[OperationUpdate]:
        """Stop sending; return what was not sent. What is left of the invocation's tasks is cancelled."""
        me = asyncio.current_task()
        left = {task for task in self.tasks | self._abandoned if task is not me}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=GRACE_S)
        for timer in (self._timer, self._linger):
            if timer is not None:
                timer.cancel()
        while self._is_sending or (len(self._buffer) > UPDATES_MAX and self._end is None):
            self._landing = Busy(loop=self._loop)
            self._send()
            await self._landing
        rest, self._buffer = self._buffer, []
        if self._end is None:
            self._end = OrphanedChildException("the invocation has ended", "")
        return rest

    @property
    def failure(self) -> BackgroundThreadError | None:
        return self._end if isinstance(self._end, BackgroundThreadError) else None

    @property
    def is_revoked(self) -> bool:
        return isinstance(self._end, SuspendExecution)


class _Bell:
    """Told of every future that ends; wakes whoever waits now."""

    joined: Joined | None = None

    def settle(self, _value: None, _error: None) -> None:
        if self.joined is not None:
            self.joined.settle(None, None)


def _look_at(task: asyncio.Task[Any]) -> None:
    """Take note of how a task ended, so that the loop does not complain that nobody has."""
    if not task.cancelled():
        task.exception()
