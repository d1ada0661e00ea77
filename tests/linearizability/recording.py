"""Clients that ask at the same time, and the record of what they were told."""

import itertools
import json
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from linearizability.checker import UNKNOWN, Action, Call, order_of
from linearizability.models import Execution, Name
from perdure import CallbackError, DurableContext, durable_execution
from perdure.model.error import CallbackTimeout, ErrorObject, ExecutionAlreadyStarted, ResourceConflict, StoreError
from perdure.service.service import Service
from perdure.service.starting import StartRequest
from perdure.store.protocol import Query

SOON_S = 20.0
CLIENTS = 6
CALLS = 60
CALLBACKS = 3


class Lost(Exception):
    """The client asked, and will never know what became of it."""


class Away(Exception):
    """Nobody was there to be asked: nothing has happened."""


class Desk:
    """The functions whose executions clients ask about, and the callbacks that these have made, by execution id."""

    def __init__(self) -> None:
        self.callbacks: dict[str, dict[int, str]] = defaultdict(dict)
        self._all_there = threading.Condition()

        @durable_execution(name="asks")
        def asks(count: int, context: DurableContext) -> list[list[str]]:
            return self.ask(count, context)

        @durable_execution(name="named")
        def named(event: Any, _context: DurableContext) -> Any:
            return event

        self.handlers: dict[str, Callable[..., Any]] = {"asks": asks, "named": named}

    def ask(self, count: int, context: DurableContext) -> list[list[str]]:
        """Wait for so many callbacks in their order, and return how each of them was completed."""
        execution_id = context.execution_context.durable_execution_arn.rpartition("/")[2]
        made = [context.create_callback(name=f"callback-{number}") for number in range(count)]
        with self._all_there:
            self.callbacks[execution_id] = {number: one.callback_id for number, one in enumerate(made)}
            self._all_there.notify_all()
        outcomes = []
        for one in made:
            try:
                outcomes.append(["succeeded", str(one.result())])
            except CallbackError as error:
                outcomes.append(["failed", str(error)])
        return outcomes

    def until_asked(self, execution_id: str) -> None:
        """Wait until an execution has made its callbacks."""
        with self._all_there:
            assert self._all_there.wait_for(lambda: execution_id in self.callbacks, SOON_S), "it made no callbacks"


class Clients(Protocol):
    """A way to the service. What is asked and answered is as the models say; `thing` is a name or an execution id."""

    def ask(self, thing: str, action: Action) -> Any:
        """The answer; raises Lost and Away."""
        ...


class InProcess:
    """The service itself, or one of several over one store, taken in turn."""

    def __init__(self, desk: Desk, services: Sequence[Service], named: str = "named") -> None:
        """`named` is the function whose executions have names."""
        self._desk = desk
        self._named = named
        self._services = itertools.cycle(services)
        self._lock = threading.Lock()

    def ask(self, thing: str, action: Action) -> Any:
        with self._lock:
            service = next(self._services)
        verb, *given = action
        act = getattr(self, f"_{verb}")
        try:
            return act(service, thing, *given)
        except StoreError as error:
            raise Lost from error

    def _start(self, service: Service, name: str, payload: str) -> Any:
        request = StartRequest(function=self._named, input=json.dumps(payload), name=name)
        try:
            started = service.start([request])[0]
        except ExecutionAlreadyStarted:
            return ("refused",)
        return ("started", started.execution_id, started.is_new)

    def _find(self, service: Service, name: str) -> str | None:
        rows = service.search(Query(now_ms=service.clock.now_ms(), function=self._named, name=name)).rows
        assert len(rows) <= 1, f"{len(rows)} executions are called {name}"
        return rows[0].execution_id if rows else None

    def _succeed(self, service: Service, execution_id: str, number: int, result: str) -> str:
        return _or_closed(lambda: service.succeed_callback(self._desk.callbacks[execution_id][number], result))

    def _fail(self, service: Service, execution_id: str, number: int, message: str) -> str:
        error = ErrorObject(message, "Refused")
        return _or_closed(lambda: service.fail_callback(self._desk.callbacks[execution_id][number], error))

    def _heartbeat(self, service: Service, execution_id: str, number: int) -> str:
        return _or_closed(lambda: service.heartbeat_callback(self._desk.callbacks[execution_id][number]))

    def _pause(self, service: Service, execution_id: str) -> str:
        return _or_conflict(lambda: service.pause(execution_id))

    def _resume(self, service: Service, execution_id: str) -> str:
        return _or_conflict(lambda: service.resume(execution_id))

    def _stop(self, service: Service, execution_id: str) -> Any:
        return ("ok", service.stop(execution_id))

    def _read(self, service: Service, execution_id: str) -> Any:
        view = service.get(execution_id)
        return (str(view.status), outcomes_of(view.result), view.end_ms)

    def _list(self, service: Service, execution_id: str) -> str:
        (row,) = service.search(Query(now_ms=service.clock.now_ms(), id_prefix=execution_id)).rows
        return str(row.status)

    def _history(self, service: Service, execution_id: str) -> int:
        return service.history(execution_id, limit=1, is_reversed=True).events[0].event_id

    def _open(self, service: Service, execution_id: str) -> Any:
        numbers = {callback_id: number for number, callback_id in self._desk.callbacks[execution_id].items()}
        return frozenset(numbers[one.callback_id] for one in service.open_callbacks(execution_id))


def outcomes_of(result: str | None) -> Any:
    """What an execution returned, as its model says it."""
    return tuple((how, text) for how, text in json.loads(result)) if result else None


def _or_closed(act: Callable[[], None]) -> str:
    try:
        act()
    except CallbackTimeout:
        return "closed"
    return "ok"


def _or_conflict(act: Callable[[], None]) -> str:
    try:
        act()
    except ResourceConflict:
        return "conflict"
    return "ok"


class Record:
    """All calls of all clients, with the moments of their requests and answers."""

    def __init__(self) -> None:
        self._moments = itertools.count(1)
        self.calls: list[tuple[str, Call]] = []

    def call(self, clients: Clients, client: str, thing: str, action: Action) -> Any:
        """Ask, and write down what came of it; UNKNOWN if nobody knows."""
        invoked = next(self._moments)
        try:
            answer = clients.ask(thing, action)
        except Lost:
            self.calls.append((thing, Call(client, action, UNKNOWN, invoked, None)))
            return UNKNOWN
        self.calls.append((thing, Call(client, action, answer, invoked, next(self._moments))))
        return answer

    @property
    def lost(self) -> int:
        return sum(call.returned is None for _, call in self.calls)

    def check(self, executions: Sequence[str]) -> None:
        """Raise NotLinearizable if what was answered about any name or execution can't be explained."""
        by_thing: dict[str, list[Call]] = defaultdict(list)
        for thing, call in self.calls:
            by_thing[thing].append(call)
        for thing, calls in by_thing.items():
            order_of(Execution(CALLBACKS) if thing in executions else Name(), calls)


class Work:
    """What clients ask for, at random: names are started and found, executions asked about and meddled with."""

    def __init__(self, names: Sequence[str], executions: Sequence[str]) -> None:
        self._names = names
        self._executions = executions

    def next(self, rng: random.Random) -> tuple[str, Action]:
        """What a client asks about what."""
        if rng.random() < 0.2:
            name = rng.choice(self._names)
            return name, ("find",) if rng.random() < 0.3 else ("start", rng.choice("ab"))
        number, text = rng.randrange(CALLBACKS), f"{rng.randrange(10**6)}"
        actions: list[Action] = [
            *[("succeed", number, text), ("fail", number, text)],
            *[("heartbeat", number)] * 6,
            *[("read",), ("list",), ("history",)] * 4,
            *[("open",)] * 3,
            *[("pause",)] * 3,
            *[("resume",)] * 4,
        ]
        if rng.random() < 0.01:
            actions = [("stop",)]
        return rng.choice(self._executions), rng.choice(actions)


def let_clients_ask(
    record: Record, clients_of: Callable[[int, random.Random], Clients], work: Work, seed: int, back: Callable[[], None]
) -> None:
    """Many clients at once, each with questions of its own; `back` waits for the service where it is away."""
    failures: list[BaseException] = []

    def ask(number: int) -> None:
        rng = random.Random(seed * 1000 + number)
        clients = clients_of(number, rng)
        try:
            for _ in range(CALLS):
                thing, action = work.next(rng)
                while True:
                    try:
                        record.call(clients, f"client-{number}", thing, action)
                        break
                    except Away:
                        back()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure


def finish(record: Record, clients: Clients, executions: Sequence[str], until_ended: Callable[[str], None]) -> None:
    """Bring every execution to its end: resume what is paused, answer what waits; and see how it has ended."""
    for execution_id in executions:
        for action in (("resume",), *[("succeed", number, "at last") for number in range(CALLBACKS)]):
            record.call(clients, "last", execution_id, action)
        until_ended(execution_id)
        for action in (("read",), ("list",), ("history",)):
            record.call(clients, "last", execution_id, action)
