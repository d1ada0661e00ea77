"""Many worlds, one after the other and side by side: for as long as one is told, or until something is wrong."""

import gc
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from simulation.journals import Violation
from simulation.plans import Plan, make_plan
from simulation.world import World

SEEDS: Final = 2**32
PROGRESS_S: Final = 10.0
COLLECT_EACH: Final = 500
"""After each world its garbage is collected, after so many of them all there is, which takes longer than a world."""
WHAT_HAPPENED: Final = ("executions", "invocations", "calls", "deaths")


class Summary(msgspec.Struct):
    """What a run of the simulation was. `counts` are of all that happened, faults by their kinds among it."""

    seeds: int = 0
    first_seed: int = 0
    counts: dict[str, int] = {}
    cpu_s: float = 0.0
    wall_s: float = 0.0
    jobs: int = 1
    found: list[str] = []
    """A description of each violation, if the run was not to end with the first."""

    @property
    def executions(self) -> int:
        return self.counts.get("executions", 0)

    @property
    def per_cpu_s(self) -> float:
        """Executions per second of processor time: per core."""
        return self.executions / self.cpu_s if self.cpu_s else 0.0

    def add(self, other: "Summary") -> None:
        self.seeds += other.seeds
        self.counts = dict(Counter(self.counts) + Counter(other.counts))
        self.cpu_s += other.cpu_s
        self.found += other.found

    def told(self) -> str:
        """The lines that a run ends with."""
        faults = {what: count for what, count in self.counts.items() if what not in WHAT_HAPPENED}
        wall = self.executions / self.wall_s if self.wall_s else 0.0
        lines = [
            f"{self.seeds} worlds from seed {self.first_seed} on, {self.jobs} job(s), {self.wall_s:.1f} s",
            f"{self.executions} executions, {self.counts.get('invocations', 0)} invocations, "
            f"{self.counts.get('deaths', 0)} deaths of nodes",
            "faults and events: " + (", ".join(f"{count} {what}" for what, count in sorted(faults.items())) or "none"),
            f"{self.per_cpu_s:.0f} executions a second and core (processor time), {wall:.0f} a second in all",
            "found: nothing" if not self.found else f"found: {len(self.found)}",
        ]
        return "\n".join([*lines, *self.found])


class FoundViolation(AssertionError):
    """A world broke a promise. `plan` is what was played, with the faults that struck before."""

    def __init__(self, seed: int, plan: Plan, violation: BaseException) -> None:
        self.seed = seed
        self.plan = plan
        self.violation = violation
        super().__init__(f"PERDURE_SEED={seed}: {type(violation).__name__}: {violation}")


MakePlan = Callable[[int], Plan]


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines, which cost more than what they tell of, and no collections in the middle of a world."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        logging.disable(before)
        if was_enabled:
            gc.enable()


def play(plan: Plan) -> World:
    """Play one plan to its end. Raises FoundViolation."""
    world = World(plan)
    try:
        world.run()
    except (Exception, Violation) as error:
        struck = msgspec.structs.replace(plan, faults=list(world.faults.struck))
        raise FoundViolation(plan.seed, struck, error) from error
    return world


def run_worlds(
    seconds: float,
    seed: int | None = None,
    *,
    plan_of: MakePlan = make_plan,
    worlds_max: int | None = None,
    stride: int = 1,
    told: Callable[[Summary], None] | None = None,
    summary: Summary | None = None,
    is_over: Callable[[], bool] = lambda: False,
) -> Summary:
    """Play the worlds of the seeds from `seed` on, in this thread, for so many seconds of wall time.

    Raises FoundViolation, an AssertionError that names the seed, at the first promise that is broken; `summary`, if
    given, is filled all the same. `told` is called every ten seconds with what has been done so far. `stride` is the
    distance from one seed to the next.
    """
    first = random.SystemRandom().randrange(SEEDS) if seed is None else seed
    done = summary if summary is not None else Summary()
    done.first_seed = first
    began, cpu, next_told = time.monotonic(), time.process_time(), PROGRESS_S
    counts: Counter[str] = Counter()
    try:
        with quiet():
            while (wall_s := time.monotonic() - began) < seconds and done.seeds != worlds_max and not is_over():
                world = play(plan_of((first + done.seeds * stride) % SEEDS))
                counts.update(world.counts)
                world.close()
                del world
                done.seeds += 1
                gc.collect(0 if done.seeds % COLLECT_EACH else 2)
                if told is not None and wall_s > next_told:
                    next_told = wall_s + PROGRESS_S
                    done.counts, done.cpu_s, done.wall_s = dict(counts), time.process_time() - cpu, wall_s
                    told(done)
    finally:
        done.counts = dict(counts)
        done.cpu_s, done.wall_s = time.process_time() - cpu, time.monotonic() - began
    return done
