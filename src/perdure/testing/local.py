"""Executions in this process on a clock of their own: the real service, the real worker, no wire."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from perdure.engine import commands as cmd
from perdure.engine.state import ExecutionState
from perdure.engine.terms import Ids, Terms
from perdure.engine.timers import deadline_ms
from perdure.execution import definition_of
from perdure.model.error import ErrorObject
from perdure.model.execution import EXECUTION_TIMEOUT_S_MAX, DurableConfig, ExecutionStatus
from perdure.model.ids import ExecutionArn, Home
from perdure.model.operation import Operation, OperationUpdate
from perdure.serdes import SerDes, watched
from perdure.service.agenda import Agenda
from perdure.service.functions import LoadedFunctions
from perdure.service.invocation import Call, Invocation
from perdure.service.service import Service
from perdure.service.starting import StartRequest
from perdure.service.ticker import Ticker
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Commit, Store
from perdure.testing.backend import WallTimeout
from perdure.testing.clock import VirtualClock
from perdure.testing.facts import Facts
from perdure.testing.values import RESULT
from perdure.testing.waiting import invocations_of, what_is_pending
from perdure.worker.client import InProcessClient
from perdure.worker.threads import ThreadWorker

if TYPE_CHECKING:
    from perdure.model.event import HistoryEvent

log: Final = logging.getLogger("perdure.testing")

Handler = Callable[..., Any]

FOREVER_MS: Final = 1_000 * 366 * 86_400_000
"""The agenda looks so far ahead: there is nothing that it does not know of."""

SETTLED_S: Final = 0.1
"""An invocation that has recorded nothing for so long is busy with a body of the author's."""

CLOSE_S: Final = 0.8


class Functions(LoadedFunctions):
    """The functions of a test, which may become more. Accounts, regions and qualifiers of references don't matter."""

    def __init__(self, home: Home) -> None:
        super().__init__({}, home)
        self._configs: dict[str, DurableConfig | None] = {}

    def put(self, name: str, config: DurableConfig | None) -> None:
        """Have a function, durable if it has a configuration."""
        self._configs[name] = config
        LoadedFunctions.__init__(self, self._configs, self._home)

    def chained(self, update: OperationUpdate) -> cmd.Target:
        name = (update.function_name or "").partition(":function:")[2] or update.function_name or ""
        return super().chained(update) if name == update.function_name else super().chained(_pointing(update, name))


def _pointing(update: OperationUpdate, name: str) -> OperationUpdate:
    from msgspec.structs import replace

    return replace(update, function_name=name)


class NamesAgain(MemoryStore):
    """A store in which a name is free for every new execution: one test of a runner does not see the other."""

    def find(self, function: str, name: str) -> str | None:
        return None

    def append(self, commits: Sequence[Commit]) -> list[bool]:
        for commit in commits:
            if commit.is_new and commit.row is not None and commit.row.name is not None:
                self._names.pop((commit.row.function, commit.row.name), None)
        return super().append(commits)

    def delete(self, execution_ids: Sequence[str]) -> None:
        for execution_id in execution_ids:
            row = self.row(execution_id)
            if row is not None and row.name is not None:
                self._names.setdefault((row.function, row.name), execution_id)
        super().delete(execution_ids)


class LocalClient(InProcessClient):
    """The client of one invocation, which tells the backend when it has ended."""

    def __init__(self, backend: "LocalBackend", invocation: Invocation) -> None:
        super().__init__(backend.service, invocation)
        self.backend = backend
        self.invocation = invocation

    def end(self, outcome: cmd.Outcome, updates: Sequence[OperationUpdate]) -> None:
        try:
            super().end(outcome, updates)
        finally:
            self.backend.ended(self.invocation)


class LocalBackend:
    """The service, the worker and the clock of one runner. Without an invocation to run it has no thread.

    Time stands while something runs and while nobody waits. While somebody waits and nothing runs, it jumps to what is
    due next. An invocation that runs for longer, in real time, than it is to what is due next does not keep that from
    happening: so the time-outs of what is stuck are modelled exactly, too.
    """

    def __init__(
        self,
        *,
        clock: VirtualClock,
        store: Store,
        ids: Ids | None,
        terms: Terms,
        home: Home,
        config: DurableConfig,
        invocation_timeout_s: float,
    ) -> None:
        self._clock = clock
        self._config = config
        self._invocation_timeout_ms = round(invocation_timeout_s * 1000)
        self.home = home
        self.functions = Functions(home)
        self.handlers: dict[str, Handler] = {}
        self._worker = ThreadWorker({})
        self.store = store
        self.service = Service(
            store,
            self.functions,
            self,
            home=home,
            terms=terms,
            clock=clock,
            ids=ids,
            owner="perdure-testing",
            agenda=Agenda(horizon_ms=FOREVER_MS),
        )
        self._worker.bind_to(self._client)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._moving = threading.RLock()
        self._version = 0
        self._watchers = 0
        self._running: dict[tuple[str, int], Invocation] = {}
        self._calls = 0
        self._moved_s = time.monotonic()
        self._began: dict[str, float] = {}
        self._arns: set[str] = set()
        self._got: dict[str, tuple[str, object]] = {}
        self._ticker: Ticker | None = None
        self._is_quiet = False
        self._is_closed = False
        self.service.watch_all(self._written)
        clock.bind(self)
        self.service.tick()

    @property
    def clock(self) -> VirtualClock | None:
        return self._clock

    # --- functions -----------------------------------------------------------------------------------------------

    def put(self, name: str, handler: Handler, config: DurableConfig | None = None) -> None:
        """Have a function run under this name from its next invocation on."""
        self.handlers[name] = handler
        is_durable = definition_of(handler) is not None
        self._worker.take(self.handlers)
        self.functions.put(name, (config or self._config) if is_durable else None)

    # --- executions ----------------------------------------------------------------------------------------------

    def start(
        self,
        function: str,
        payload: str | None,
        *,
        name: str | None = None,
        tenant_id: str | None = None,
        execution_timeout_s: int | None = None,
    ) -> str:
        if self._clock.is_real and self._ticker is None:
            self._ticker = Ticker(self.service)
            self._ticker.start()
        durable = self.functions.durable(function).durable
        assert durable is not None
        config = durable if execution_timeout_s is None else DurableConfig(execution_timeout_s, durable.retention_days)
        request = StartRequest(function=function, input=payload, name=name, tenant_id=tenant_id, config=config)
        started_s = time.monotonic()
        (started,) = self.service.start([request])
        self._began.setdefault(started.execution_id, started_s)
        return started.arn

    def status(self, arn: str) -> ExecutionStatus:
        return self.service.ledger.read(id_of(arn), lambda state: state.head.status)

    def operations(self, arn: str) -> Sequence[Operation]:
        return self.service.operations(id_of(arn))

    def history(self, arn: str) -> "Sequence[HistoryEvent]":
        return list(self.service.all_events(id_of(arn)))

    def invocations(self, arn: str) -> int:
        return self.service.ledger.read(id_of(arn), lambda state: state.head.invocation_count)

    def facts(self, arn: str) -> Facts:
        execution_id = id_of(arn)
        view = self.service.get(execution_id)
        events = list(self.service.all_events(execution_id))
        return Facts(
            arn=view.arn,
            name=view.name,
            function=view.function,
            version=view.version,
            status=view.status,
            input=view.input,
            result=view.result,
            error=view.error,
            start_ms=view.start_ms,
            end_ms=view.end_ms,
            operations=self.service.operations(execution_id),
            events=events,
            invocations=invocations_of(execution_id, events),
            values=self._values(view.arn, view.function),
            wall_s=time.monotonic() - self._began.get(execution_id, time.monotonic()),
        )

    def _values(self, arn: str, function: str) -> dict[str, SerDes[Any]]:
        """The serdes of each result that was not written with the default one."""
        definition = definition_of(self.handlers.get(function))
        own = definition.output_serdes if definition is not None else None
        return {**watched.get(arn, {}), **({RESULT: own} if own is not None else {})}

    def succeed_callback(self, callback_id: str, result: str | None) -> None:
        self.service.succeed_callback(callback_id, result)

    def fail_callback(self, callback_id: str, error: ErrorObject | None) -> None:
        self.service.fail_callback(callback_id, error)

    def heartbeat_callback(self, callback_id: str) -> None:
        self.service.heartbeat_callback(callback_id)

    def stop(self, arn: str, error: ErrorObject | None) -> None:
        self.service.stop(id_of(arn), error)

    def pause(self, arn: str) -> None:
        self.service.pause(id_of(arn))

    def resume(self, arn: str) -> None:
        self.service.resume(id_of(arn))

    # --- the dispatcher of the service ---------------------------------------------------------------------------

    def reserve(self, target: str) -> bool:
        return self._worker.reserve(target)

    @property
    def has_backlog(self) -> bool:
        return self._worker.has_backlog

    def release(self, target: str) -> None:
        self._worker.release(target)

    def run(self, invocation: Invocation) -> None:
        self._arns.add(invocation.arn)
        watched.setdefault(invocation.arn, {})
        with self._lock:
            self._running[invocation.execution_id, invocation.epoch] = invocation
            self._version += 1
        self._worker.run(invocation)

    def call(self, call: Call) -> None:
        with self._lock:
            self._calls += 1
            self._version += 1

        def answer(result: str | None, error: ErrorObject | None) -> None:
            try:
                call.answer(result, error)
            finally:
                with self._lock:
                    self._calls -= 1
                    self._tell()

        self._worker.call(Call(call.function, call.version, call.input, answer))

    def _client(self, invocation: Invocation) -> LocalClient:
        return LocalClient(self, invocation)

    def ended(self, invocation: Invocation) -> None:
        """An invocation is over, and what follows from that has begun."""
        with self._lock:
            self._running.pop((invocation.execution_id, invocation.epoch), None)
            self._tell()

    def _tell(self) -> None:
        """Under the lock: whoever waits looks again."""
        self._version += 1
        self._changed.notify_all()

    def _written(self, *_: object) -> None:
        """Something is on disk: whoever waits for something else than an end looks again."""
        if self._watchers:
            with self._lock:
                self._tell()

    # --- time ----------------------------------------------------------------------------------------------------

    def next_due_ms(self) -> int | None:
        """When something happens by itself next: a timer, a time-out that was asked for, the end of an invocation."""
        due = [self._agenda_due_ms(), *self._invocations_due()]
        return min((moment for moment in due if moment is not None), default=None)

    def _invocations_due(self) -> list[int]:
        with self._lock:
            return [each.start_ms + self._invocation_timeout_ms for each in self._running.values()]

    def _agenda_due_ms(self) -> int | None:
        """The first moment of the agenda at which more happens than the end that every execution has."""
        first_ms = self.service.agenda.next_at_ms()
        if first_ms - self._clock.now_ms() > FOREVER_MS // 4:
            return None
        for at_ms, execution_id in self.service.agenda.entries():
            if not self.service.ledger.read(execution_id, partial(_is_mere_end, at_ms)):
                return at_ms
        return None

    def advance_to(self, moment_ms: int) -> None:
        """Move the clock on, letting what is due happen at its own moment, and what that leads to run."""
        is_within = self._is_invocation()
        while True:
            if not is_within:
                self._until_idle()
            with self._moving:
                due_ms = min([self.service.agenda.next_at_ms(), *self._invocations_due()])
                if due_ms > moment_ms:
                    self._move(moment_ms)
                    break
                if not self._move(due_ms):
                    self._clock.move_to(moment_ms)
                    break
        if not is_within:
            self._until_idle()

    def _move(self, moment_ms: int) -> bool:
        """Under the lock of moving: make it that time and let happen what is due; False if nothing came of it."""
        before = self._version, self.service.agenda.next_at_ms()
        is_later = moment_ms > self._clock.now_ms()
        if is_later:
            self._clock.move_to(moment_ms)
        self._moved_s = time.monotonic()
        self._end_overdue()
        self.service.tick()
        is_changed = is_later or before != (self._version, self.service.agenda.next_at_ms())
        with self._lock:
            self._tell()
        return is_changed

    def _end_overdue(self) -> None:
        """Give up the invocations whose time is over."""
        now_ms = self._clock.now_ms()
        with self._lock:
            overdue = [each for each in self._running.values() if each.start_ms + self._invocation_timeout_ms <= now_ms]
        for invocation in overdue:
            text = f"Task timed out after {self._invocation_timeout_ms / 1000:.2f} seconds"
            self.service.lose_invocation(invocation, ErrorObject(text, "Sandbox.Timedout"))
            self.ended(invocation)

    # --- waiting -------------------------------------------------------------------------------------------------

    def until(
        self, is_true: Callable[[], bool], *, wall_s: float, what: str, arn: str | None = None, settles: bool = False
    ) -> None:
        end_s = time.monotonic() + wall_s
        with self._lock:
            self._watchers += settles
        try:
            while True:
                seen = self._version
                if is_true() and not (settles and arn is not None and self._is_busy(arn)):
                    return
                if self._jump(seen):
                    continue
                left_s = end_s - time.monotonic()
                if left_s <= 0 or (self._version == seen and self._is_vain()):
                    raise WallTimeout(self._complaint(what, arn, wall_s if left_s <= 0 else None))
                self._wait(seen, left_s, settles=settles)
        finally:
            with self._lock:
                self._watchers -= settles

    def _is_busy(self, arn: str) -> bool:
        """Whether an invocation of this execution runs, and is not merely held up by a body of the author's."""
        execution_id = id_of(arn)
        with self._lock:
            if not any(key[0] == execution_id for key in self._running):
                return False
        return not self._is_quiet

    def _jump(self, seen: int) -> bool:
        """Move on to what is due next, if nothing runs and nothing has changed since; whether to look again."""
        with self._moving:
            if self._version != seen:
                return True
            if self._running or self._calls or not self._clock.auto or self._clock.is_real:
                return False
            due_ms = self.next_due_ms()
            if due_ms is None or self._is_kept_open(due_ms):
                return False
            return self._move(due_ms)

    def _is_kept_open(self, due_ms: int) -> bool:
        """Whether a callback would time out by then that somebody else has got and may still answer."""
        me = who_runs()
        for callback_id, (execution_id, who) in list(self._got.items()):
            if who is me:
                continue
            opened = [each for each in self.service.open_callbacks(execution_id) if each.callback_id == callback_id]
            if not opened:
                del self._got[callback_id]
            elif any(
                moment is not None and moment <= due_ms for moment in (opened[0].timeout_ms, opened[0].heartbeat_ms)
            ):
                return True
        return False

    def got(self, arn: str, callback_id: str) -> None:
        """Whoever asks knows a callback, and may answer it."""
        self._got[callback_id] = (id_of(arn), who_runs())

    def _wait(self, seen: int, left_s: float, *, settles: bool) -> None:
        """Wait for a change; what runs for longer than it is to what is due next does not keep that from happening."""
        due_ms = self.next_due_ms() if self._clock.auto and not self._clock.is_real else None
        timeout_s = left_s
        if due_ms is not None and self._running:
            passed_s = time.monotonic() - self._moved_s
            timeout_s = min(left_s, max((due_ms - self._clock.now_ms()) / 1000 - passed_s, 0.0))
        with self._changed:
            if self._version != seen:
                return
            is_told = self._changed.wait(min(timeout_s, SETTLED_S) if settles else timeout_s)
        if is_told:
            self._is_quiet = False
            return
        self._is_quiet = True
        if due_ms is not None and timeout_s < left_s and not (settles and timeout_s > SETTLED_S):
            with self._moving:
                if self._version == seen:
                    self._move(due_ms)

    def _until_idle(self) -> None:
        """Return once nothing runs that could go on by itself."""
        with self._changed:
            while self._running or self._calls:
                seen = self._version
                if not self._changed.wait(SETTLED_S) and self._version == seen:
                    return

    def _is_invocation(self) -> bool:
        """Whether this is the thread of a handler or of a body."""
        return threading.current_thread().name.startswith("perdure-")

    def _is_vain(self) -> bool:
        """Whether nothing runs, nothing is due, and there is no other thread that could change that."""
        if self._running or self._calls or (self._clock.is_real and self.next_due_ms() is not None):
            return False
        me = threading.current_thread()
        return all(thread is me or thread.name.startswith("perdure-") for thread in threading.enumerate())

    def _complaint(self, what: str, arn: str | None, wall_s: float | None) -> str:
        """What was waited for in vain, and what there is to wait for."""
        if wall_s is not None:
            text = f"waited {wall_s:g} s (wall_timeout) for {what}, in vain"
        else:
            text = f"waiting for {what} is in vain: nothing runs, and nothing will happen by itself"
        if not self._clock.auto:
            text += "; the clock is frozen, so no timer fires (clock.advance moves it)"
        if arn is not None:
            text += "\n" + what_is_pending(self.service.get(id_of(arn)), self.operations(arn), self._clock.now_ms())
        return text

    # --- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self.service.close()
        if self._ticker is not None:
            self._ticker.stop(CLOSE_S)
        if not self._worker.close(CLOSE_S if self._running else 0.0):
            log.warning("a handler was still running when its test ended; its thread is left behind")
        self.store.close()
        for arn in self._arns:
            watched.pop(arn, None)


def _is_mere_end(at_ms: int, state: ExecutionState) -> bool:
    """Whether what is due then is only the end that an execution has to which none was given."""
    head = state.head
    return head.config.execution_timeout_s >= EXECUTION_TIMEOUT_S_MAX and deadline_ms(head) == at_ms


def who_runs() -> object:
    """Who asks: this thread."""
    return threading.current_thread()


def id_of(arn: str) -> str:
    """The id of the execution with this ARN; InvalidParameterValue if it is none."""
    return ExecutionArn.parse(arn).execution_id
