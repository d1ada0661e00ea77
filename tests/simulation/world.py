"""A deterministic world: nodes, a store they share, a clock, clients and operators, and all that can go wrong, from one
plan.

One thread does it all. A node runs one invocation at a time to its end; what happens "meanwhile" (another node's work,
an answered callback, a clock that moves) happens inside the calls that it makes, wherever a fault says so.
"""

import heapq
import random
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec

from perdure.model.error import (
    CallbackTimeout,
    ErrorObject,
    ExecutionAlreadyStarted,
    ResourceConflict,
    ResourceNotFound,
    ServiceError,
    StoreError,
)
from perdure.model.execution import ENDED, DurableConfig, ExecutionStatus
from perdure.model.ids import Home
from perdure.service.functions import LoadedFunctions
from perdure.service.service import Service
from perdure.service.starting import StartRequest
from simulation.faults import BODY, Died, Faults, FaultyClient, RecordingStore, Vanished
from simulation.interpreter import Interpreter, Teller
from simulation.journals import Violation
from simulation.nodes import Node
from simulation.oracle import CallbackFacts, Facts, Oracle
from simulation.plans import Plan
from simulation.programs import Operation
from simulation.timing import TIME
from support.ids import SeededIds

__all__ = ["Violation", "World"]

T0: Final = 1_000_000_000_000
LEASE_MS: Final = 30_000
FAR_MS: Final = 10 * 86_400_000
"""Nothing that a program waits for takes so long: who sleeps longer waits for an operator, or has been forgotten."""
SHORT_S: Final = 5


class World(Teller):
    """All of it. `run` plays the plan with its faults, then without until all is at rest, and judges what has happened.

    Raises Violation, with `self.faults.struck` as what went wrong before.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed)
        self.schedule = random.Random(plan.seed ^ 0x5CED)
        self.now = T0
        self.slack_ms = 2 * plan.skew_ms
        self.commits = 0
        self.faults = Faults(plan.seed, plan.rate, plan.kinds, plan.faults, self._trouble_begins, most=plan.faults_max)
        self.counts: dict[str, int] = {"invocations": 0, "calls": 0, "executions": 0, "deaths": 0}
        self.ids = SeededIds(plan.seed)
        self.is_remote = plan.is_remote
        self.store = self.make_store(LEASE_MS if plan.is_shared else None)
        self.oracle = Oracle(self)
        self.functions: LoadedFunctions = LoadedFunctions(
            {
                "program": DurableConfig(retention_days=plan.retention_days),
                "short": DurableConfig(execution_timeout_s=SHORT_S, retention_days=plan.retention_days),
                "plain": None,
                "refusing": None,
            },
            Home(),
        )
        self.running: list[FaultyClient] = []
        self.depth = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._event_number = 0
        self._callbacks: dict[str, CallbackFacts] = {}
        self._names: dict[str, str] = {}
        self._node_number = 0
        self.nodes = [self._new_node() for _ in range(plan.nodes)]
        self.desk = Node(self, "desk", places=0, skew_ms=0)
        self.passed_ms = 0
        self.exact_until = 0 if plan.is_shared else sys.maxsize
        self.is_exact = plan.nodes == 1 and not plan.rate and plan.faults is None
        for number, _ in enumerate(plan.programs):
            self._plan_program(number)

    def make_store(self, lease_ms: int | None) -> RecordingStore:
        return RecordingStore(self, lease_ms)

    def _new_node(self) -> Node:
        self._node_number += 1
        rng = self.rng
        skew_ms = rng.randint(-self.plan.skew_ms, self.plan.skew_ms) if self.plan.skew_ms else 0
        return Node(self, f"node-{self._node_number}", places=rng.choice([1, 3, 50]), skew_ms=skew_ms)

    def _trouble_begins(self) -> None:
        self.exact_until = min(self.exact_until, self.commits)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    @property
    def epoch(self) -> int:
        """Which invocation of its execution runs right now."""
        return self.running[-1].epoch if self.running else 0

    # --- what is planned -----------------------------------------------------------------------------------------

    def later(self, delay_ms: int, act: Callable[[], None]) -> None:
        self._event_number += 1
        heapq.heappush(self._events, (self.now + delay_ms, self._event_number, act))

    def _plan_program(self, number: int) -> None:
        planned = self.plan.programs[number]
        for at_ms in planned.starts_ms:
            self.later(at_ms, lambda: self._start(number))

    def _start(self, number: int) -> None:
        planned = self.plan.programs[number]
        name = f"p-{number}"
        event = {"ops": planned.operations, "raises": planned.raises}
        config = DurableConfig(
            retention_days=self.plan.retention_days,
            **({"execution_timeout_s": planned.timeout_s} if planned.timeout_s else {}),
        )
        text = msgspec.json.encode(event).decode()
        request = StartRequest(function="program", input=text, name=name, config=config)

        def start(service: Service) -> None:
            started = service.start([request])[0]
            execution = started.execution_id
            before = self._names.get(name)
            if before is None:
                self._names[name] = execution
                for delay_ms, what in planned.orders:
                    self.later(delay_ms, lambda what=what: self._order(execution, what))
            elif before != execution and not self._may_be_gone(before):
                raise Violation(f"the name {name} is that of {before}, and of {execution}")
            if self.store.length(execution) == 0 and execution not in self.store.gone:
                raise Violation(f"{execution} was started, and it is not on disk")
            self._promise(execution, "started")

        self._ask(start, lambda: self._start(number))

    def _promise(self, execution: str, what: str) -> None:
        facts = self.oracle.executions.get(execution)
        if facts is not None and what != "started":
            facts.promises.append((self.commits, what))

    def _ask(self, ask: Callable[[Service], None], again: Callable[[], None]) -> None:
        """Have somebody ask a service. Who got no answer asks again."""
        doors = self.nodes if self.is_exact else [*self.nodes, self.desk]
        nodes = [node for node in doors if not node.store.busy and not node.store.is_dead]
        if not nodes:
            self.later(1, again)
            return
        node = nodes[int(self.rng.random() * len(nodes))]
        try:
            self._let(node, lambda: ask(node.service))
        except StoreError:
            self.later(1_000, again)
        if node.store.is_dead:
            self.later(1_000, again)

    def _order(self, execution: str, what: str) -> None:
        """What an operator does to an execution."""

        def order(service: Service) -> None:
            try:
                match what:
                    case "pause":
                        service.pause(execution, "just so")
                        self._promise(execution, "paused")
                    case "resume":
                        service.resume(execution)
                    case "stop":
                        service.stop(execution, ErrorObject("enough"))
                        self._promise(execution, "ended")
                    case "delete":
                        service.delete(execution)
                        self._promise(execution, "deleted")
                    case "twice":
                        self._start_otherwise(service, execution)
                    case _:
                        view = service.get(execution)
                        list(service.all_events(execution))
                        if view.status in ENDED:
                            self._promise(execution, "ended")
            except (ResourceConflict, ResourceNotFound):
                return
            self.count(f"order: {what}")

        self._ask(order, lambda: self._order(execution, what))

    def _may_be_gone(self, execution: str) -> bool:
        """Whether an execution has been removed, or is past its retention."""
        row = self.store._rows.get(execution)
        if row is None:
            return execution in self.store.gone
        return row.expires_at_ms is not None and row.expires_at_ms <= self.now + self.slack_ms

    def _start_otherwise(self, service: Service, execution: str) -> None:
        """A name that is taken can't begin anything else."""
        name = next(name for name, known in self._names.items() if known == execution)
        try:
            service.start([StartRequest(function="program", input='{"ops": [], "no": 1}', name=name)])
        except ExecutionAlreadyStarted:
            return
        if not self._may_be_gone(execution):
            raise Violation(f"the name {name} was taken, and something else has begun under it")

    # --- callbacks -----------------------------------------------------------------------------------------------

    def handed_out(self, facts: Facts, path: str, callback_id: str, operation: Operation) -> None:
        known = facts.callbacks.get(path)
        if known is not None:
            if self._callbacks.get(callback_id) is not known:
                raise Violation(f"the callback {path} has a second id: {callback_id}")
            return
        callback = facts.callbacks[path] = self._callbacks[callback_id] = CallbackFacts(facts.execution, path)
        for number, (delay_ms, what) in enumerate(operation["answers"]):
            self.later(delay_ms, lambda text=f"{what} {path} {number}": self._answer(callback_id, callback, text))

    def _answer(self, callback_id: str, callback: CallbackFacts, text: str) -> None:
        what = text.partition(" ")[0]

        def answer(service: Service) -> None:
            said = "no" if what == "no" else text
            try:
                if what == "heartbeat":
                    service.heartbeat_callback(callback_id)
                    return
                callback.maybe.append(said)
                if what == "no":
                    service.fail_callback(callback_id, ErrorObject(text, "Refused"))
                else:
                    service.succeed_callback(callback_id, text)
            except (CallbackTimeout, ResourceNotFound) as error:
                if isinstance(error, ResourceNotFound) and not self._may_be_gone(callback.execution):
                    raise Violation(f"the callback of {callback.path} is not known: {error}") from error
                self.count("answers refused")
                if what != "heartbeat":
                    callback.maybe.remove(said)
                    callback.refused.append(said)
                return
            callback.was_accepted(said, text, self.commits)
            self.count("answers taken")

        self._ask(answer, lambda: self._answer(callback_id, callback, text))

    # --- what the bodies tell ------------------------------------------------------------------------------------

    def handle(self, event: Any, context: Any) -> Any:
        """What the handlers of all worlds do in this one."""
        facts = self.oracle.facts_of(self.running[-1].execution_id, event)
        return Interpreter(self, facts).run(context, event)

    def body(self, facts: Facts, path: str, attempt: int, *, once: bool) -> None:
        facts.body(path, attempt, once=once)
        self.body_ends(facts, path)

    def body_ends(self, facts: Facts, path: str) -> None:
        faults = self.faults
        faults.point += 1
        if faults.point < faults.next:
            return
        struck = faults.strike(BODY)
        if struck is None or not self.running:
            return
        kind, rng = struck
        self.count(kind)
        client = self.running[-1]
        match kind:
            case "meanwhile":
                self.meanwhile(rng)
                client.check_alive()
            case "died in a body":
                client.node.store.die()
            case "exit":
                raise SystemExit(rng.choice([0, 1, 137]))
            case "slow":
                self.now += rng.choice([10, 1_000, 8_000, 45_000, 1_000_000])
            case "declared lost":
                self.declare_lost(client)
            case "order":
                self.order_now(client, rng)
            case _:
                self.vanish(client, rng)

    def pass_time(self, seconds: float) -> None:
        self.passed_ms += int(seconds * 1000)
        self.now += int(seconds * 1000)

    def now_ms(self) -> int:
        """The clock of whoever runs now."""
        return self.running[-1].node.clock.now_ms() if self.running else self.now

    def vanish(self, client: FaultyClient, rng: random.Random) -> None:
        """The worker is gone; some time later the service is told."""
        client.is_gone = True
        delay_ms = rng.choice([0, 10, 5_000, 60_000])
        self.later(delay_ms, lambda: self.declare_lost(client))
        raise Vanished

    def declare_lost(self, client: FaultyClient) -> None:
        """The dispatcher says that an invocation will not answer any more. It may go on, and not know."""
        node = client.node
        if client.is_lost or node.store.is_dead:
            return
        if node.store.busy:
            self.later(10, lambda: self.declare_lost(client))
            return
        client.is_lost = True
        invocation = client.invocation
        error = ErrorObject("it took too long", "Sandbox.Timedout")

        def lose() -> None:
            node.queue.release(f"{invocation.function}:{invocation.version}")
            node.service.lose_invocation(invocation, error)
            node.service.fill_places()

        self._let(node, lose)
        if client in self.running:
            client.check_alive()

    def order_now(self, client: FaultyClient, rng: random.Random) -> None:
        """An operator does something to the very execution that runs."""
        self._order(client.execution_id, rng.choice(["stop", "stop", "pause", "pause", "resume", "look", "delete"]))
        client.check_alive()

    # --- what happens meanwhile ----------------------------------------------------------------------------------

    def meanwhile(self, rng: random.Random) -> None:
        """Others do something while somebody waits for a call, or is in the middle of a body."""
        if self.depth > 2:
            return
        self.depth += 1
        try:
            for _ in range(rng.choice([1, 1, 2, 3, 8])):
                self._one_thing(rng)
        finally:
            self.depth -= 1

    def _one_thing(self, rng: random.Random) -> None:
        chance = rng.random()
        if chance < 0.25:
            self.now += rng.choice([1, 1, 200, 1_000, 5_000, 40_000])
        elif chance < 0.3 and self.plan.skew_ms:
            self._clock_back(rng)
        elif chance < 0.5 and self._events:
            self.now = max(self.now, self._events[0][0])
            self._happen()
        else:
            nodes = [node for node in self.nodes if not node.store.busy and not node.store.is_dead]
            if not nodes:
                return
            node = nodes[int(rng.random() * len(nodes))]
            if node.queue.work and chance < 0.85:
                self.act(node, node.run_one)
            else:
                self.act(node, node.tick)

    def _clock_back(self, rng: random.Random) -> None:
        back_ms = rng.choice([1, 100, 1_500])
        self.now -= back_ms
        self.slack_ms += back_ms
        self.count("clock back")

    def freeze(self, rng: random.Random) -> None:
        """A node stands still in the middle of a call, for longer than its leases last; the others go on."""
        if self.depth > 2:
            return
        self.depth += 1
        try:
            self.now += rng.choice([LEASE_MS // 2, LEASE_MS + 5_000])
            for _ in range(rng.randint(2, 12)):
                self._turn()
        finally:
            self.depth -= 1

    # --- running -------------------------------------------------------------------------------------------------

    def _let(self, node: Node, act: Callable[[], None]) -> None:
        """Let a node act for somebody else; if it dies of it, another one takes its place."""
        try:
            if node.store.is_troubled and not node.store.is_dead:
                node.store.flush()
            act()
        except Died:
            pass
        if node.store.is_dead:
            self._replace(node)

    def act(self, node: Node, act: Callable[[], None]) -> None:
        """The same for what it does by itself: what the service raises is its own affair."""
        try:
            self._let(node, act)
        except ServiceError:
            self.count("refused by the service")

    def _replace(self, node: Node) -> None:
        if node in self.nodes:
            self.counts["deaths"] += 1
            self.nodes[self.nodes.index(node)] = self._new_node()
        elif node is self.desk:
            self.desk = Node(self, "desk", places=0, skew_ms=0)

    def _happen(self) -> None:
        """The next of what is planned happens."""
        _, _, act = heapq.heappop(self._events)
        act()

    def _turn(self) -> bool:
        """One thing happens; False if nothing can before time passes."""
        rng, now = self.rng.random, self.now
        chance = rng()
        nodes = self.nodes
        at = int(chance * 1000) % len(nodes)
        for node in nodes[at:] + nodes[:at] if len(nodes) > 1 else nodes:
            if node.queue.work and chance < 0.8 and not node.store.busy and not node.store.is_dead:
                if chance < 0.1 and len(node.queue.work) > 1:
                    node.queue.work.rotate(1)
                self.act(node, node.run_one)
                return True
        if self._events and self._events[0][0] <= now:
            self._happen()
            return True
        is_left = False
        for node in nodes:
            if node.store.busy or node.store.is_dead:
                continue
            if node.next_tick_at() <= now:
                self.act(node, node.tick)
                return True
            is_left = is_left or bool(node.queue.work)
        return is_left

    def run(self) -> None:
        with TIME.of(self):
            self.play()
            self.finish()
            self.judge()

    def close(self) -> None:
        """Let go of what is in memory: nearly all of it can go without a search for cycles."""
        for node in (*self.nodes, self.desk):
            node.close()
        self.nodes.clear()
        self.oracle.executions.clear()
        self._events.clear()
        self._callbacks.clear()

    def play(self) -> None:
        """With all that goes wrong, until everything has ended or there have been too many turns."""
        for _ in range(60 + 60 * len(self.plan.programs)):
            if not self._turn() and not self._rest():
                break

    def finish(self) -> None:
        """Without faults: everything comes to its end."""
        self.faults.stop()
        for node in self.nodes:
            node.store.heal()
        self.desk.store.heal()
        turns = 20_000 + 500 * len(self.store.logs)
        for _ in range(turns):
            if not self._turn() and not self._rest():
                return
        raise Violation(f"after {turns} turns without faults there is no rest: {self._open()[:3]}")

    def _rest(self) -> bool:
        """Nothing can happen now: let time pass until something can; False if nothing ever will."""
        first = self.store.first_wake
        at_ms = self._events[0][0] if self._events else None
        if first is None:
            if at_ms is None:
                return False
        elif first[0] > self.now:
            at_ms = first[0] if at_ms is None else min(at_ms, first[0])
        else:
            self._check_overdue(first)
            ticks = min(node.next_tick_at() for node in self.nodes)
            at_ms = ticks if at_ms is None else min(at_ms, ticks)
        assert at_ms is not None
        if at_ms - self.now > FAR_MS:
            self._help()
            return True
        self.now = max(at_ms, self.now + 1)
        return True

    def _check_overdue(self, first: tuple[int, str]) -> None:
        if self.is_exact and first[0] < self.now:
            raise Violation(f"{first[1]} was to be looked at at {first[0]}, it is {self.now}, and nobody does")

    def _open(self) -> list[Any]:
        return [row for row in self.store._rows.values() if row.status not in ENDED]

    def _help(self) -> None:
        """What sleeps now waits for somebody: resume what is paused, answer what is asked; else it is forgotten."""
        helped = False
        for row in self._open():
            if row.status in (ExecutionStatus.PAUSED, ExecutionStatus.PAUSING):
                self._order(row.execution_id, "resume")
                helped = True
        for callback_id, callback in self._callbacks.items():
            if not helped and self._is_asked(callback):
                self._answer(callback_id, callback, "yes at last")
                helped = True
        if not helped:
            asleep = [(row.execution_id, row.status, row.waiting_on, row.wake_at_ms) for row in self._open()]
            raise Violation(f"these wait for nothing: {asleep[:4]}")

    def _is_asked(self, callback: CallbackFacts) -> bool:
        """Whether somebody still waits for an answer."""
        if callback.accepted is not None or self.store.length(callback.execution) == 0:
            return False
        row = self.store._rows[callback.execution]
        return row.status not in ENDED and row.open_callbacks > 0

    # --- what must be true ---------------------------------------------------------------------------------------

    def judge(self) -> None:
        store, oracle = self.store, self.oracle
        for node in self.nodes:
            if node.queue.taken:
                raise Violation(f"{node.queue.taken} places of {node.name} are taken, and nothing runs")
        for execution, rows in store._journals.items():
            oracle.judge(
                execution, rows, store.logs[execution], store.leases.get(execution, ()), store._rows[execution]
            )
        for execution, (rows, log, _) in store.gone.items():
            reading = oracle.judge(execution, rows, log, store.leases.get(execution, ()), None)
            self._check_gone(execution, reading)
        oracle.judge_links()
        for reading in oracle.readings.values():
            self.counts["executions"] += bool(reading.ended_at)
        self._check_sample()

    def _check_gone(self, execution: str, reading: Any) -> None:
        if not reading.ended_at or reading.owes_parent:
            raise Violation(f"{execution} was removed, and it had not ended, or its parent had not been told")

    def _check_sample(self) -> None:
        """Some executions as operators see them: their history without gaps, their counters, what is in memory."""
        ids = list(self.store._rows)
        for _ in range(min(2, len(ids))):
            execution = ids[int(self.rng.random() * len(ids))]
            reading = self.oracle.readings[execution]
            service = self.desk.service
            try:
                view = service.get(execution)
            except ResourceNotFound:
                continue
            numbers: list[int] = []
            marker: str | None = None
            while True:
                page = service.history(execution, marker=marker, limit=7)
                numbers += [event.event_id for event in page.events]
                marker = page.marker
                if marker is None:
                    break
            if numbers != list(range(1, reading.shown + 1)):
                raise Violation(f"the history of {execution} has gaps: {numbers}, of {reading.shown} events")
            if view.status is not reading.status or view.operations != reading.metered:
                raise Violation(f"{execution} is shown as {view.status} with {view.operations} operations counted")
            _check_operations(execution, service, reading)


def _check_operations(execution: str, service: Service, reading: Any) -> None:
    for operation in service.operations(execution):
        read = reading.operations[operation.id]
        if operation.is_terminal != read.is_over or (read.is_over and operation.status != read.status):
            raise Violation(f"{operation.id} of {execution} is shown {operation.status}, and it is {read.status}")
