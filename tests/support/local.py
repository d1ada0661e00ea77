"""Durable functions in one thread, on the real service with a store in memory and a clock that jumps to what is due."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perdure.engine.terms import Terms
from perdure.execution import definition_of
from perdure.model.event import HistoryEvent
from perdure.model.execution import DurableConfig, ExecutionStatus
from perdure.model.ids import Home
from perdure.model.operation import Operation
from perdure.model.view import ExecutionView
from perdure.sdk.drivers.blocking import BlockingDriver
from perdure.sdk.invocation import DriverOf, to_json
from perdure.service.functions import LoadedFunctions
from perdure.service.invocation import Call, Invocation
from perdure.service.service import Service
from perdure.service.starting import StartRequest
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Store
from perdure.worker.client import InProcessClient
from perdure.worker.handlers import answer_call, run_and_end
from support.ids import SeededIds

T0 = 1_764_547_200_000


class ManualClock:
    """A clock that stands until it is moved."""

    def __init__(self, now_ms: int = T0) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        return self.now


class Queue:
    """A dispatcher that only remembers what is to be run."""

    def __init__(self, places: int = 1_000_000) -> None:
        self.places = places
        self.taken = 0
        self.work: deque[Invocation | Call] = deque()

    def reserve(self, target: str) -> bool:
        if self.taken >= self.places:
            return False
        self.taken += 1
        return True

    @property
    def has_backlog(self) -> bool:
        return bool(self.work)

    def release(self, target: str) -> None:
        self.taken -= 1
        assert self.taken >= 0

    def run(self, invocation: Invocation) -> None:
        self.work.append(invocation)

    def call(self, call: Call) -> None:
        self.work.append(call)


Client = Callable[[Service, Invocation], InProcessClient]


class Local:
    """Handlers by name; the first one is what `run` runs."""

    def __init__(
        self,
        *handlers: Callable[..., Any],
        functions: Mapping[str, Callable[..., Any]] | None = None,
        terms: Terms | None = None,
        config: DurableConfig | None = None,
        store: Store | None = None,
        places: int = 1_000_000,
        client: Client = InProcessClient,
        seed: int = 0,
        driver_of: DriverOf = BlockingDriver,
    ) -> None:
        named = {definition.name: handler for handler in handlers if (definition := definition_of(handler))}
        self.handlers: dict[str, Callable[..., Any]] = {**named, **(functions or {})}
        self.clock = ManualClock()
        self.queue = Queue(places)
        self.store = store or MemoryStore(secret=b"s" * 32)
        self.make_client = client
        self.driver_of = driver_of
        self.invocations = 0
        config = config or DurableConfig()
        configs = {name: config if definition_of(handler) else None for name, handler in self.handlers.items()}
        self.service = Service(
            self.store,
            LoadedFunctions(configs, Home()),
            self.queue,
            clock=self.clock,
            ids=SeededIds(seed),
            terms=terms,
            owner="local",
        )
        self.service.tick()

    def start(self, event: Any = None, *, name: str | None = None, function: str | None = None) -> str:
        request = StartRequest(function=function or next(iter(self.handlers)), input=to_json(event), name=name)
        return self.service.start([request])[0].execution_id

    def run(self, event: Any = None, *, name: str | None = None, until_s: float | None = None) -> "Outcome":
        """Begin an execution and run it, over all its waits, until it has ended or only others can move it."""
        return self.go_on(self.start(event, name=name), until_s=until_s)

    def go_on(self, execution_id: str, *, until_s: float | None = None) -> "Outcome":
        """Run what can run, then jump to what is due next, and so on; not beyond `until_s` seconds from now."""
        end_ms = self.clock.now + int((until_s if until_s is not None else 10**9) * 1000)
        while True:
            self.pump()
            view = self.service.get(execution_id)
            due_ms = self.next_due_ms(execution_id)
            if view.end_ms is not None or due_ms is None or due_ms > end_ms:
                if until_s is not None and view.end_ms is None:
                    self.clock.now = end_ms
                return Outcome(self, execution_id)
            self.clock.now = max(self.clock.now, due_ms)
            self.service.tick()

    def next_due_ms(self, execution_id: str) -> int | None:
        """When something happens to this execution by itself, its execution time-out aside."""
        row = self.store.row(execution_id)
        view = self.service.get(execution_id)
        if row is None or row.wake_at_ms is None or row.wake_at_ms == view.deadline_ms:
            return None
        return row.wake_at_ms

    def pump(self) -> None:
        """Run everything that is to be run."""
        while self.queue.work:
            self.pump_one()

    def pump_one(self) -> None:
        """Run what is to be run next."""
        work = self.queue.work.popleft()
        if isinstance(work, Call):
            answer_call(work, self.handlers[work.function])
            return
        self.invocations += 1
        definition = definition_of(self.handlers[work.function])
        assert definition is not None
        run_and_end(work, definition, self.make_client(self.service, work), driver_of=self.driver_of)

    def advance(self, seconds: float) -> None:
        """Let time pass, with all that happens in it at its own moment."""
        end_ms = self.clock.now + int(seconds * 1000)
        while True:
            self.pump()
            next_ms = self.service.next_tick_ms()
            if next_ms > end_ms:
                break
            self.clock.now = max(self.clock.now, next_ms)
            self.service.tick()
        self.clock.now = end_ms
        self.service.tick()
        self.pump()


class Outcome:
    """What has become of an execution."""

    def __init__(self, local: Local, execution_id: str) -> None:
        self.local = local
        self.id = execution_id

    @property
    def view(self) -> ExecutionView:
        return self.local.service.get(self.id)

    @property
    def status(self) -> ExecutionStatus:
        return self.view.status

    @property
    def result(self) -> Any:
        import json

        view = self.view
        assert view.status is ExecutionStatus.SUCCEEDED, f"{view.status}: {view.error}"
        return json.loads(view.result) if view.result else None

    @property
    def error(self) -> Any:
        return self.view.error

    @property
    def operations(self) -> Sequence[Operation]:
        return self.local.service.operations(self.id)

    def op(self, name: str) -> Any:
        (found,) = [operation for operation in self.operations if operation.name == name]
        return found

    @property
    def history(self) -> list[HistoryEvent]:
        events: list[HistoryEvent] = []
        marker: str | None = None
        while True:
            page = self.local.service.history(self.id, marker=marker, limit=1000)
            events += page.events
            marker = page.marker
            if marker is None:
                return events

    @property
    def shown(self) -> list[str]:
        return [event.type for event in self.history]

    def callback_id(self, name: str | None = None) -> str:
        (found,) = [c for c in self.local.service.open_callbacks(self.id) if name is None or c.name == name]
        return found.callback_id
