"""The processes of a world: a service with its clock and its memory, and the workers that run what it is given."""

import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from perdure.engine.terms import RetryPolicy, Terms
from perdure.execution import definition_of, durable_execution
from perdure.sdk.invocation import run_invocation
from perdure.service.invocation import Call, Invocation
from perdure.service.service import Service
from perdure.worker.handlers import LocalContext, answer_call, crashed, given_of, outcome_of_answer
from simulation.driver import SimulatedDriver
from simulation.faults import Died, FaultyClient, FaultyStore, OneThreadCache, Vanished
from simulation.journals import Violation
from simulation.timing import TIME

if TYPE_CHECKING:
    from simulation.world import World

TERMS: Final = Terms(retries=RetryPolicy(quarantine_after=25))


@durable_execution(name="program")
def program(event: Any, context: Any) -> Any:
    return TIME.world.handle(event, context)


@durable_execution(name="short")
def short(event: Any, context: Any) -> Any:
    return TIME.world.handle(event, context)


def plain(event: Any, _context: Any) -> Any:
    return f"plain {event}"


def refusing(_event: Any, _context: Any) -> Any:
    raise ValueError("on purpose")


HANDLERS: Final[dict[str, Callable[..., Any]]] = {
    "program": program,
    "short": short,
    "plain": plain,
    "refusing": refusing,
}
"""The functions of all worlds."""


class NodeClock:
    """The clock of one node, which may be before or behind the others."""

    def __init__(self, world: "World", skew_ms: int) -> None:
        self._world = world
        self.skew_ms = skew_ms

    def now_ms(self) -> int:
        return self._world.now + self.skew_ms


class Places:
    """The workers of a node: what waits to be run, in places that are counted."""

    def __init__(self, places: int) -> None:
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
        if self.taken < 0:
            raise Violation("a place was given back twice")

    def run(self, invocation: Invocation) -> None:
        self.work.append(invocation)

    def call(self, call: Call) -> None:
        self.work.append(call)


class Node:
    """A process: a service with its memory, and the invocations that it has been given."""

    def __init__(self, world: "World", name: str, *, places: int, skew_ms: int) -> None:
        self.world = world
        self.name = name
        self.store = FaultyStore(world, name)
        self.queue = Places(places)
        self.clock = NodeClock(world, skew_ms)
        self.service = Service(
            self.store,
            world.functions,
            self.queue,
            clock=self.clock,
            ids=world.ids,
            terms=TERMS,
            owner=name,
            hot=OneThreadCache(self.store),
        )

    def tick(self) -> None:
        self.service.tick()

    def close(self) -> None:
        """Forget everything."""
        self.service.__dict__.clear()
        self.queue.work.clear()

    def next_tick_at(self) -> int:
        """When it has to be looked after, by the true clock."""
        return self.service.next_tick_ms() - self.clock.skew_ms

    def run_one(self) -> None:
        """Run one of the invocations that wait here, to its end or the node's."""
        world = self.world
        work = self.queue.work.popleft()
        if isinstance(work, Call):
            world.counts["calls"] += 1
            answer_call(work, HANDLERS[work.function])
            return
        world.counts["invocations"] += 1
        client = FaultyClient(world, self, work)
        world.running.append(client)
        try:
            run_and_end(work, HANDLERS[work.function], client, world.schedule)
        except Vanished:
            pass
        finally:
            world.running.pop()
        if self.store.is_dead:
            raise Died


def run_and_end(
    invocation: Invocation, handler: Callable[..., Any], client: FaultyClient, chance: random.Random
) -> None:
    """What a worker does, with a driver whose time is that of the world, and whose branches take turns by `chance`."""
    definition = definition_of(handler)
    assert definition is not None
    context = LocalContext(invocation)
    try:
        answer = run_invocation(
            definition,
            given_of(invocation),
            client,
            lambda_context=context,
            driver_of=lambda client, journal, _linger: SimulatedDriver(client, journal, chance, TIME.now_ms),
        )
        outcome, updates = outcome_of_answer(answer, client)
    except (Died, Vanished):
        raise
    except Violation:
        raise
    except BaseException as error:
        outcome, updates = crashed(error), ()
    client.end(outcome, updates)
