"""Executions in this process on a clock of their own: the real service, the real worker, no wire."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from perdure.engine.terms import Ids, Terms
from perdure.execution import definition_of
from perdure.model.error import ErrorObject
from perdure.model.execution import DurableConfig, ExecutionStatus
from perdure.model.ids import ExecutionArn, Home
from perdure.model.operation import Operation
from perdure.sdk.client import Client
from perdure.sdk.drivers.blocking import BlockingDriver
from perdure.sdk.drivers.hands import HANDS
from perdure.sdk.drivers.linger import Linger
from perdure.sdk.invocation import DriverOf
from perdure.sdk.journal import Journal
from perdure.serdes import SerDes, watched
from perdure.service.agenda import Agenda
from perdure.service.invocation import Call, Invocation
from perdure.service.service import Service
from perdure.service.starting import StartRequest
from perdure.service.ticker import Ticker
from perdure.store.protocol import Store
from perdure.testing.client import LocalClient
from perdure.testing.clock import VirtualClock
from perdure.testing.desk import Desk, Unsent, within
from perdure.testing.driving import hooked
from perdure.testing.facts import Facts
from perdure.testing.faults import Plan
from perdure.testing.functions import Functions
from perdure.testing.logs import Logs, listened
from perdure.testing.pace import FOREVER_MS, Pace
from perdure.testing.waiting import invocations_of
from perdure.worker.threads import THREADS, ThreadWorker

if TYPE_CHECKING:
    from perdure.model.event import HistoryEvent
    from perdure.sdk.drivers.loop import LoopDriver

log: Final = logging.getLogger("perdure.testing")

Handler = Callable[..., Any]
D = TypeVar("D", bound="BlockingDriver | LoopDriver")

CLOSE_S: Final = 0.8


class LocalBackend:
    """The service, the worker and the clock of one runner. Without an invocation to run it has no thread."""

    def __init__(
        self,
        *,
        clock: VirtualClock,
        store: Store,
        plan: Plan,
        terms: Terms,
        home: Home,
        config: DurableConfig,
        invocation_timeout_s: int,
        ids: Ids | None = None,
        driver_of: DriverOf | None = None,
    ) -> None:
        self.own_clock = clock
        self.plan = plan
        self.desk = Desk()
        self._config = config
        self._timeout_s = invocation_timeout_s
        self._given_driver_of = driver_of
        self._functions = Functions(home)
        self._handlers: dict[str, Handler] = {}
        self._logs = Logs(list)
        self._unsent = Unsent()
        threads = THREADS if driver_of is None else 1  # what is scheduled by a seed is not scheduled by threads
        self._worker = ThreadWorker({}, threads, driver_of=self._driver, loop_driver_of=self._loop_driver)
        self._worker.bind_to(self._client)
        self._store = store
        # Its owner is one of its own: what another runner has left in a store is known to be nobody's.
        self.service = Service(
            store,
            self._functions,
            self,
            home=home,
            terms=terms,
            clock=clock,
            ids=ids,
            agenda=Agenda(horizon_ms=FOREVER_MS),
        )
        self.service.watch_all(self.desk.written)
        self.pace = Pace(self.service, clock, self.desk, self._unsent, invocation_timeout_s * 1000)
        clock.bind(self.pace, self.desk.tell)
        self._began_s: dict[str, float] = {}
        self._values: dict[str, dict[str, SerDes[Any]]] = {}
        self._ticker: Ticker | None = None
        self._is_opened = False
        self._is_closed = False

    @property
    def clock(self) -> VirtualClock | None:
        return self.own_clock

    # --- functions -----------------------------------------------------------------------------------------------

    def put(self, name: str, handler: Handler, config: DurableConfig | None = None) -> None:
        """Have a function run under this name from its next invocation on."""
        self._handlers[name] = listened(handler, self._logs)
        is_durable = definition_of(handler) is not None
        self._worker.take(self._handlers)
        self._functions.put(name, (config or self._config) if is_durable else None)

    def has(self, name: str) -> bool:
        return self._functions.serves(name)

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
        self._open()
        config = None
        if execution_timeout_s is not None:
            config = DurableConfig(execution_timeout_s, self._config.retention_days)
        request = StartRequest(function=function, input=payload, name=name, tenant_id=tenant_id, config=config)
        started_s = time.monotonic()
        (started,) = self.service.start([request])
        self._began_s.setdefault(started.execution_id, started_s)
        return started.arn

    def _open(self) -> None:
        """Take up what a given store has in flight; have a real clock looked at."""
        if not self._is_opened:
            self._is_opened = True
            self.service.tick()
            if self.own_clock.is_real:
                self._ticker = Ticker(self.service)
                self._ticker.start()

    def status(self, arn: str) -> ExecutionStatus:
        return self.service.ledger.read(id_of(arn), lambda state: state.head.status)

    def operations(self, arn: str) -> Sequence[Operation]:
        if not self.desk.is_idle:
            self._unsent.send()
        return self.service.operations(id_of(arn))

    def history(self, arn: str) -> "Sequence[HistoryEvent]":
        return list(self.service.all_events(id_of(arn)))

    def invocations(self, arn: str) -> int:
        return self.service.ledger.read(id_of(arn), lambda state: state.head.invocation_count)

    def facts(self, arn: str) -> Facts:
        execution_id = id_of(arn)
        operations = self.operations(arn)
        view = self.service.get(execution_id)
        events = self.history(arn)
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
            operations=operations,
            events=events,
            invocations=invocations_of(execution_id, events),
            logs=list(self._logs.get(view.arn, ())),
            values=self._values_of(view.arn, view.function),
            wall_s=time.monotonic() - self._began_s.get(execution_id, time.monotonic()),
        )

    def _values_of(self, arn: str, function: str) -> dict[str, SerDes[Any]]:
        """The serdes of each result that was not written with the default one."""
        from perdure.testing.values import RESULT

        definition = definition_of(self._handlers.get(function))
        own = definition.output_serdes if definition is not None else None
        return {**self._values.get(arn, {}), **({RESULT: own} if own is not None else {})}

    def fork(self, arn: str, operation_id: str, *, name: str | None = None) -> str:
        """Begin an execution with the past of another one, up to where an operation began; return its ARN."""
        self._open()
        started = self.service.fork(id_of(arn), operation_id, name=name)
        self._began_s[started.execution_id] = time.monotonic()
        self._values[started.arn] = watched.setdefault(started.arn, dict(self._values.get(arn, {})))
        return started.arn

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

    def until(
        self, is_true: Callable[[], bool], *, wall_s: float, what: str, arn: str | None = None, settles: bool = False
    ) -> None:
        def complain(why: str) -> str:
            text = f"waiting for {what}: {why}"
            if not self.own_clock.auto:
                text += "; the clock is frozen, and no timer fires before clock.advance has moved it"
            return text if arn is None else f"{text}\n{self.tree(arn)}"

        self._open()
        execution_id = id_of(arn) if arn is not None else None
        self.pace.until(is_true, wall_s=wall_s, complain=complain, execution_id=execution_id, settles=settles)

    def first_due(self) -> tuple[int, str] | None:
        """What is due first, the end of an execution not left out: the moment, and the execution."""
        return next(iter(self.service.agenda.entries()), None)

    def got(self, arn: str, callback_id: str) -> None:
        """Whoever asks knows a callback, and may answer it."""
        self.pace.got(id_of(arn), callback_id)

    def tree(self, arn: str) -> str:
        """The execution as text: its operations, and what each open one waits for."""
        from perdure.testing.tree import tree_of

        return tree_of(self.facts(arn), now_ms=self.own_clock.now_ms())

    # --- invocation by invocation --------------------------------------------------------------------------------

    def let_go(self, arn: str, *, is_last: bool = False) -> None:
        """Run the invocation that is kept back, if one is. If it is the last, the others run as ever."""
        if not self.desk.holding:
            return
        execution_id = id_of(arn)
        if is_last:
            self.desk.holding.discard(execution_id)
        invocation = self.desk.held.pop(execution_id, None)
        if invocation is not None:
            self._begin(invocation)

    def is_held(self, arn: str) -> bool:
        """Whether an invocation of an execution is kept back."""
        return id_of(arn) in self.desk.held

    # --- the dispatcher of the service ---------------------------------------------------------------------------

    def reserve(self, target: str) -> bool:
        return self._worker.reserve(target)

    @property
    def has_backlog(self) -> bool:
        return self._worker.has_backlog

    def release(self, target: str) -> None:
        self._worker.release(target)

    def run(self, invocation: Invocation) -> None:
        if not self.desk.hold(invocation):
            self._begin(invocation)

    def _begin(self, invocation: Invocation) -> None:
        if invocation.arn not in self._values:
            self._values[invocation.arn] = watched.setdefault(invocation.arn, {})
        if self._timeout_s != invocation.timeout_s:
            invocation = msgspec.structs.replace(invocation, timeout_s=self._timeout_s)
        self.desk.begin(invocation, self.own_clock.now_ms())
        self._worker.run(invocation)

    def call(self, call: Call) -> None:
        def answer(result: str | None, error: ErrorObject | None) -> None:
            try:
                call.answer(result, error)
            finally:
                self.desk.call(-1)

        self.desk.call(1)
        self._worker.call(Call(call.function, call.version, call.input, answer))

    # --- what runs -----------------------------------------------------------------------------------------------

    def _client(self, invocation: Invocation) -> LocalClient:
        client = LocalClient(self, invocation)
        if self.plan:
            client.script = self.plan.script(client)
        running = self.desk.of(invocation)
        if running is not None:
            running.client = client
        return client

    def _driver(self, client: Client, journal: Journal, _linger: Linger | None) -> BlockingDriver:
        linger = None if self.plan.faults else self._unsent  # which checkpoint has what must not depend on the machine
        driver = (self._given_driver_of or BlockingDriver)(client, journal, linger)
        return self._prepared(driver, client, journal)

    def _loop_driver(self, client: Client, journal: Journal) -> "LoopDriver":
        from perdure.sdk.drivers.loop import LoopDriver  # asyncio is not for everybody

        return self._prepared(LoopDriver(client, journal), client, journal)

    def _prepared(self, driver: D, client: Client, journal: Journal) -> D:
        within.set(self.desk)
        script = client.script if isinstance(client, LocalClient) else None
        if script is None:
            return driver
        journal.records = script.bind(journal.records)
        return hooked(driver, script)

    # --- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self.service.close()
        for invocation in list(self.desk.held.values()):
            self._worker.release(f"{invocation.function}:{invocation.version}")
        if self._ticker is not None:
            self._ticker.stop(CLOSE_S)
        if not self._worker.close(CLOSE_S):
            log.warning("a handler was still running when its test ended; its thread is left behind")
        HANDS.dismiss()
        self._store.close()
        for arn, values in self._values.items():
            if watched.get(arn) is values:
                del watched[arn]


def id_of(arn: str) -> str:
    """The id of the execution with this ARN; InvalidParameterValue if it is none."""
    return ExecutionArn.parse(arn).execution_id
