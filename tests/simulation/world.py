"""A deterministic world: nodes, a store they share, a clock, operators, and all that can go wrong, from one seed.

One thread does it all. Nodes run one invocation at a time to its end; what happens "meanwhile" (another node's tick, an
operator's command, an answered callback, a clock that moves) happens inside the calls that they make to the store.
"""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from perdure.engine.terms import RetryPolicy, Terms
from perdure.execution import definition_of, durable_execution
from perdure.model.error import (
    CallbackTimeout,
    ErrorObject,
    ResourceConflict,
    ResourceNotFound,
    ServiceError,
    StoreError,
)
from perdure.model.execution import ENDED, DurableConfig, ExecutionRow, ExecutionStatus
from perdure.model.ids import Home
from perdure.service.functions import LoadedFunctions
from perdure.service.invocation import Call
from perdure.service.service import Service
from perdure.service.starting import StartRequest
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Change, Commit, Due, Lease, Page, Query, Record
from perdure.worker.client import InProcessClient
from perdure.worker.handlers import answer_call, run_and_end
from simulation.programs import Journalist, Program, interpreter, outcome_of, random_program
from support.ids import SeededIds
from support.local import ManualClock, Queue

LEASE_MS = 30_000
TERMS = Terms(retries=RetryPolicy(quarantine_after=10**6))


class Died(BaseException):
    """The node is dead from here on."""


class Violation(AssertionError):
    """Something happened that must never happen."""


class FaultyStore:
    """One node's way to the shared store: slow, forgetful, mortal."""

    def __init__(self, world: "World", real: MemoryStore) -> None:
        self._world = world
        self._real = real
        self.is_dead = False

    @property
    def lease_ms(self) -> int | None:
        return self._real.lease_ms

    @property
    def secret(self) -> bytes:
        return self._real.secret

    def _call(self, call: Callable[[], Any], *, writes: bool = False) -> Any:
        """Do it, unless the world has other plans, before or after."""
        if self.is_dead:
            raise Died
        world, rng = self._world, self._world.rng
        faults = world.faults
        if rng.random() < faults * 0.3:
            self.is_dead = True
            raise Died
        if rng.random() < faults:
            world.count("store refused")
            raise StoreError("the store is away")
        if rng.random() < faults * 3:
            world.meanwhile()
        answer = call()
        if rng.random() < faults * 0.3:
            world.count("died after a call")
            self.is_dead = True
            raise Died
        if writes and rng.random() < faults:
            world.count("reply lost")
            raise StoreError("the reply was lost")
        return answer

    def append(self, commits: Sequence[Commit]) -> list[bool]:
        answer: list[bool] = self._call(lambda: self._real.append(commits), writes=True)
        return answer

    def append_soon(self, commits: Sequence[Commit], told: Callable[[list[bool] | StoreError], None]) -> None:
        answer: list[bool] | StoreError
        try:
            answer = self.append(commits)
        except StoreError as error:
            answer = error
        told(answer)

    def read(self, execution_id: str, after_seq: int = 0, limit: int | None = None) -> list[bytes]:
        answer: list[bytes] = self._call(lambda: self._real.read(execution_id, after_seq, limit))
        return answer

    def read_many(self, execution_ids: Sequence[str]) -> dict[str, list[bytes]]:
        answer: dict[str, list[bytes]] = self._call(lambda: self._real.read_many(execution_ids))
        return answer

    def change(self, changes: Sequence[Change]) -> bool:
        answer: bool = self._call(lambda: self._real.change(changes), writes=True)
        return answer

    def record(self, kind: str, key: str) -> Record | None:
        answer: Record | None = self._call(lambda: self._real.record(kind, key))
        return answer

    def records(
        self, kind: str, *, prefix: str = "", after: str | None = None, limit: int = 100, is_reversed: bool = False
    ) -> list[Record]:
        read = self._real.records
        answer: list[Record] = self._call(
            lambda: read(kind, prefix=prefix, after=after, limit=limit, is_reversed=is_reversed)
        )
        return answer

    def records_version(self, kind: str) -> int:
        answer: int = self._call(lambda: self._real.records_version(kind))
        return answer

    def row(self, execution_id: str) -> ExecutionRow | None:
        answer: ExecutionRow | None = self._call(lambda: self._real.row(execution_id))
        return answer

    def find(self, function: str, name: str) -> str | None:
        answer: str | None = self._call(lambda: self._real.find(function, name))
        return answer

    def search(self, query: Query) -> Page:
        answer: Page = self._call(lambda: self._real.search(query))
        return answer

    def due(self, until_ms: int, functions: Sequence[str] | None, limit: int) -> list[Due]:
        answer: list[Due] = self._call(lambda: self._real.due(until_ms, functions, limit))
        return answer

    def renew(self, leases: Sequence[Lease]) -> list[bool]:
        answer: list[bool] = self._call(lambda: self._real.renew(leases), writes=True)
        return answer

    def open_callbacks(self, now_ms: int, after: str | None, limit: int) -> Page:
        answer: Page = self._call(lambda: self._real.open_callbacks(now_ms, after, limit))
        return answer

    def expired(self, now_ms: int, limit: int) -> list[str]:
        answer: list[str] = self._call(lambda: self._real.expired(now_ms, limit))
        return answer

    def delete(self, execution_ids: Sequence[str]) -> None:
        self._call(lambda: self._real.delete(execution_ids), writes=True)

    def listen(self, changed: Callable[[str], None]) -> None:
        """Nobody tells anybody anything: what is not needed must not be missed."""

    def close(self) -> None:
        """The shared store stays open."""


class Node:
    """A process: a service with its memory, and the invocations that it has been given."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.store = FaultyStore(world, world.store)
        self.queue = Queue(places=world.rng.choice([1, 3, 50]))
        self.service = Service(
            self.store,
            world.functions,
            self.queue,
            clock=world.clock,
            ids=world.ids,
            terms=TERMS,
            owner=name,
        )

    def tick(self) -> None:
        try:
            self.service.tick()
        except ServiceError:
            self.world.count("tick failed")

    def run_one(self) -> None:
        """Run one of the invocations that wait here, to its end or the node's."""
        work = self.queue.work.popleft()
        handler = self.world.handlers[work.function]
        if isinstance(work, Call):
            answer_call(work, handler)
            return
        self.world.count("invocations")
        definition = definition_of(handler)
        assert definition is not None
        self.world.running.append(self)
        try:
            run_and_end(work, definition, InProcessClient(self.service, work))
        except ServiceError:
            self.world.count("end refused")
        finally:
            self.world.running.pop()
        if self.store.is_dead:
            raise Died


class World(Journalist):
    """All of it. `run` goes on until every program has ended, then without faults to be sure that they can."""

    def __init__(self, seed: int, *, nodes: int, faults: float, programs: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.faults = 0.0
        self.clock = ManualClock()
        self.ids = SeededIds(seed)
        self.store = MemoryStore(lease_ms=LEASE_MS if nodes > 1 else None, secret=b"s" * 32)
        program = durable_execution(name="program")(interpreter(self))
        self.handlers: dict[str, Callable[..., Any]] = {"program": program, "plain": lambda _event, _context: "plain"}
        configs = {
            "program": DurableConfig(retention_days=1_000),
            "plain": None,
        }
        self.functions = LoadedFunctions(configs, Home())
        self.counts: dict[str, int] = {}
        self.running: list[Node] = []
        self.busy: list[Node] = []
        """Nodes that are in the middle of something: one thread can't enter them a second time."""
        self.depth = 0
        self.node_number = 0
        self.nodes = [self._new_node() for _ in range(nodes)]
        self.started: dict[tuple[str, str, int], int] = {}
        self.returned: dict[tuple[str, str], Any] = {}
        self.begun: dict[tuple[str, str], int] = {}
        self.ends: dict[str, tuple[str, Any]] = {}
        self.programs: dict[str, Program] = {}
        self.stopped: set[str] = set()
        self._start(programs)
        self.faults = faults

    def _new_node(self) -> Node:
        self.node_number += 1
        return Node(self, f"node-{self.node_number}")

    def _start(self, programs: int) -> None:
        requests = []
        made = [random_program(self.rng) for _ in range(programs)]
        for number, program in enumerate(made):
            requests.append(StartRequest(function="program", input=json.dumps(program), name=f"p-{number}"))
        for started, program in zip(self.nodes[0].service.start(requests), made, strict=True):
            self.programs[started.execution_id] = program

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # --- what the bodies tell ------------------------------------------------------------------------------------

    def _may_die(self) -> None:
        """A crash in the middle of the author's code."""
        if self.running and self.rng.random() < self.faults * 0.5:
            self.count("died in a body")
            self.running[-1].store.is_dead = True
            raise Died

    def body_starts(self, execution: str, path: str, attempt: int, *, once: bool) -> None:
        if (execution, path) in self.returned:
            raise Violation(f"{path} ran again after it had returned {self.returned[execution, path]!r}")
        key = (execution, path, attempt)
        self.started[key] = self.started.get(key, 0) + 1
        if once and self.started[key] > 1:
            raise Violation(f"{path} was started twice in its attempt {attempt}, and it is at most once")
        self._may_die()

    def body_ends(self, execution: str, path: str, attempt: int) -> None:
        self._may_die()

    def value_seen(self, execution: str, path: str, value: Any) -> None:
        before = self.returned.setdefault((execution, path), value)
        if before != value:
            raise Violation(f"{path} returned {before!r} and later {value!r}")

    def wait_begins(self, execution: str, path: str, seconds: int) -> None:
        self.begun.setdefault((execution, path), self.clock.now + seconds * 1000)

    def wait_over(self, execution: str, path: str) -> None:
        if self.clock.now < self.begun[execution, path]:
            raise Violation(f"{path} was over {self.begun[execution, path] - self.clock.now} ms early")

    # --- what happens meanwhile ----------------------------------------------------------------------------------

    def meanwhile(self) -> None:
        """Somebody else does something while a call to the store is under way."""
        if self.depth > 1:
            return
        self.depth += 1
        try:
            others = [node for node in self.nodes if node not in self.busy and not node.store.is_dead]
            if others and self.rng.random() < 0.6:
                self._survive(self.rng.choice(others), lambda node: node.tick())
            else:
                self.act_from_outside()
        finally:
            self.depth -= 1

    def act_from_outside(self) -> None:
        """Time passes, callbacks are answered, operators meddle."""
        choice = self.rng.random()
        if choice < 0.4:
            self.clock.now += self.rng.choice([1, 200, 1_000, 5_000, 40_000])
        elif choice < 0.75:
            self.answer_a_callback()
        else:
            self.operate()

    def operator(self) -> Service:
        """A process of its own that looks, and appends, and does not run anything."""
        return Service(
            self.store, self.functions, Queue(places=0), clock=self.clock, ids=self.ids, terms=TERMS, owner="operator"
        )

    def answer_a_callback(self) -> None:
        operator = self.operator()
        opened = operator.open_callbacks()
        if not opened:
            return
        callback = self.rng.choice(opened)
        operator.succeed_callback(callback.callback_id, "answered")
        self.count("callbacks answered")
        if self.rng.random() < 0.3:
            try:
                operator.succeed_callback(callback.callback_id, "answered again")
            except CallbackTimeout:
                self.count("second answers refused")
            else:
                raise Violation("a callback was completed twice")

    def operate(self) -> None:
        operator = self.operator()
        running = self.store.search(Query(now_ms=self.clock.now, statuses=_OPEN, limit=1000)).rows
        if not running:
            return
        row = self.rng.choice(running)
        try:
            if row.status in (ExecutionStatus.PAUSED, ExecutionStatus.PAUSING):
                operator.resume(row.execution_id)
                self.count("resumed")
            elif self.rng.random() < 0.85:
                operator.pause(row.execution_id, "just so")
                self.count("paused")
            elif self.rng.random() < 0.1 and row.parent is None:
                operator.stop(row.execution_id, ErrorObject("enough"))
                self.stopped.add(row.execution_id)
                self.count("stopped")
        except (ResourceConflict, ResourceNotFound):
            pass

    # --- running -------------------------------------------------------------------------------------------------

    def _survive(self, node: Node, act: Callable[[Node], None]) -> None:
        """Let a node act; if it dies of it, another one takes its place."""
        self.busy.append(node)
        try:
            act(node)
        except Died:
            self.count("deaths")
            if node in self.nodes:
                self.nodes[self.nodes.index(node)] = self._new_node()
        finally:
            self.busy.remove(node)

    def turn(self) -> None:
        """One thing happens."""
        node = self.rng.choice(self.nodes)
        choice = self.rng.random()
        if node.store.is_dead:
            self._survive(node, _die)
        elif node.queue.work and choice < 0.7:
            self._survive(node, lambda node: node.run_one())
        elif choice < 0.8:
            self._survive(node, lambda node: node.tick())
        elif choice < 0.82 and self.faults:
            self._survive(node, _die)
        else:
            self.act_from_outside()
        if self.rng.random() < 0.2:
            self.check()

    def run(self, turns: int = 3_000) -> None:
        """Until all programs have ended; the second half without faults and meddling, and then they must."""
        for _ in range(turns):
            if self.is_over():
                break
            self.turn()
        self.faults = 0.0
        for _ in range(20_000):
            if self.is_over():
                break
            self.finish_turn()
        else:
            raise Violation(f"these executions never ended: {self.open_executions()}")
        self.check()
        self.check_ends()

    def finish_turn(self) -> None:
        """Bring things to their end: run what can run, answer what waits, resume what is paused, let time pass."""
        for node in list(self.nodes):
            while node.queue.work and not node.store.is_dead:
                self._survive(node, lambda node: node.run_one())
            self._survive(node, lambda node: node.tick())
        if any(node.queue.work for node in self.nodes):
            return
        operator = self.operator()
        for row in self.store.search(Query(now_ms=self.clock.now, statuses=_PAUSED, limit=1000)).rows:
            operator.resume(row.execution_id)
        self.answer_a_callback()
        next_ms = min(node.service.next_tick_ms() for node in self.nodes)
        self.clock.now = max(self.clock.now + 100, next_ms)

    def open_executions(self) -> list[ExecutionRow]:
        return list(self.store.search(Query(now_ms=self.clock.now, statuses=_OPEN, limit=1000)).rows)

    def is_over(self) -> bool:
        return not self.open_executions()

    # --- what must be true ---------------------------------------------------------------------------------------

    def check(self) -> None:
        """An end is an end; nobody is invoked twice at a time."""
        for row in self.store.search(Query(now_ms=self.clock.now, limit=1000)).rows:
            if row.status in ENDED:
                view = self.operator().get(row.execution_id)
                end = (view.status, view.result)
                if self.ends.setdefault(row.execution_id, end) != end:
                    raise Violation(f"{row.execution_id} ended as {self.ends[row.execution_id]} and later as {end}")

    def check_ends(self) -> None:
        """Every program has returned what it returns without faults, and every history is whole."""
        operator = self.operator()
        for execution_id, program in self.programs.items():
            view = operator.get(execution_id)
            if execution_id in self.stopped:
                if view.status not in (ExecutionStatus.STOPPED, ExecutionStatus.SUCCEEDED):
                    raise Violation(f"a stopped execution is {view.status}")
            elif view.status is not ExecutionStatus.SUCCEEDED or json.loads(view.result or "null") != outcome_of(
                program
            ):
                raise Violation(f"{view.status} {view.error} {view.result} instead of {outcome_of(program)}")
            self.check_history(operator, execution_id)

    def check_history(self, operator: Service, execution_id: str) -> None:
        numbers: list[int] = []
        types: list[str] = []
        marker: str | None = None
        while True:
            page = operator.history(execution_id, marker=marker, limit=7)
            numbers += [event.event_id for event in page.events]
            types += [event.type for event in page.events]
            marker = page.marker
            if marker is None:
                break
        if numbers != list(range(1, len(numbers) + 1)) or types[0] != "ExecutionStarted":
            raise Violation(f"the history of {execution_id} has gaps: {numbers}")


_PAUSED = (ExecutionStatus.PAUSED, ExecutionStatus.PAUSING)
_OPEN = (ExecutionStatus.RUNNING, *_PAUSED)


def _die(_node: Node) -> None:
    raise Died
