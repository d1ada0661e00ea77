"""Clients of simulated nodes: what they were answered, with every fault of the simulation, is explained by one order.

Calls overlap where a fault lets others act in the middle of one; a node that dies leaves its client without an answer.
"""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from linearizability.checker import Action, NotLinearizable
from linearizability.recording import CALLBACKS, Desk, InProcess, Lost, Record, Work
from perdure.model.error import StoreError
from perdure.model.execution import ExecutionStatus
from perdure.service.service import Service
from perdure.service.starting import StartRequest
from simulation.defects import DEFECTS
from simulation.nodes import Node
from simulation.plans import Plan, make_plan
from simulation.running import SEEDS, quiet
from simulation.world import World

WORLDS = 100
CALLS = 120


class AskedWorld(World):
    """A world whose clients write down what they ask and are answered."""

    def __init__(self, plan: Plan) -> None:
        self.clerk = Desk()
        self.record = Record()
        self.asked: list[str] = []
        kinds = [kind for kind in plan.kinds if kind != "order"]  # operators whose calls nobody writes down
        super().__init__(replace(plan, programs=[], skew_ms=0, retention_days=1_000, kinds=kinds))
        self.is_exact = False
        for number in range(4):
            self.later(0, lambda number=number: self._begin(number))
        work_rng = random.Random(plan.seed ^ 0xC11E)
        for number in range(CALLS):
            self.later(work_rng.randrange(20_000), lambda number=number: self._call(number, work_rng))

    def handle(self, event: Any, context: Any) -> Any:
        return self.clerk.ask(CALLBACKS, context) if event == "ask" else event

    def _begin(self, number: int) -> None:
        def begin(service: Service) -> None:
            request = StartRequest(function="program", input='"ask"', name=f"asked-{number}")
            self.asked.append(service.start([request])[0].execution_id)

        self._ask(begin, lambda: self._begin(number))

    def _call(self, number: int, rng: random.Random) -> None:
        ready = [execution_id for execution_id in self.asked if execution_id in self.clerk.callbacks]
        if not ready:
            self.later(1_000, lambda: self._call(number, rng))
            return
        thing, action = Work(["name-1", "name-2", "name-3"], ready).next(rng)
        self._record(f"client-{number}", thing, action)

    def _record(self, client: str, thing: str, action: Action) -> None:
        nodes = [node for node in [*self.nodes, self.desk] if not node.store.busy and not node.store.is_dead]
        if nodes:
            self.record.call(OfNode(self, self.rng.choice(nodes)), client, thing, action)

    def play(self) -> None:
        for _ in range(20 * CALLS):
            if not self._turn() and not self._rest():
                break

    def _help(self) -> None:
        """What sleeps waits for a client: they bring everything to its end."""
        for row in self._open():
            if row.status in (ExecutionStatus.PAUSED, ExecutionStatus.PAUSING):
                self._record("last", row.execution_id, ("resume",))
            for number in range(CALLBACKS):
                self._record("last", row.execution_id, ("succeed", number, "at last"))

    def judge(self) -> None:
        for execution_id in self.asked:
            for action in (("read",), ("list",), ("history",), ("open",)):
                self._record("judge", execution_id, action)
        self.record.check(self.asked)
        super().judge()


class OfNode:
    """A client that asks one node. If that dies, it never learns of an answer."""

    def __init__(self, world: AskedWorld, node: Node) -> None:
        self._world = world
        self._node = node

    def ask(self, thing: str, action: Action) -> Any:
        answers: list[Any] = []
        asked = InProcess(self._world.clerk, [self._node.service], "program")
        try:
            self._world._let(self._node, lambda: answers.append(asked.ask(thing, action)))
        except StoreError as error:
            raise Lost from error
        if not answers:
            raise Lost
        return answers[0]


def test_one_order_of_calls_explains_what_clients_of_simulated_nodes_were_answered(
    tell: Callable[[str], None],
) -> None:
    first = random.SystemRandom().randrange(SEEDS)
    lost = calls = 0
    counts: Counter[str] = Counter()
    with quiet():
        for number in range(WORLDS):
            seed = (first + number) % SEEDS
            world = AskedWorld(make_plan(seed))
            try:
                world.run()
            except BaseException as error:
                pytest.fail(f"seed {seed}: {type(error).__name__}: {error}")
            lost += world.record.lost
            calls += len(world.record.calls)
            counts.update(world.counts)
    told = f"{calls} calls, {lost} without an answer, {counts['deaths']} deaths"
    tell(f"simulated nodes: {told}, {WORLDS} worlds, seeds from {first}")
    assert lost


def test_a_defect_of_the_service_is_found_in_what_clients_of_simulated_nodes_are_answered() -> None:
    """The last answer to a callback wins: the checker alone finds that."""
    with pytest.MonkeyPatch.context() as patch, quiet(), pytest.raises(NotLinearizable):
        DEFECTS["The last answer to a callback wins"](patch)
        for seed in range(200):
            AskedWorld(make_plan(seed, rates=(0.0,))).run()
