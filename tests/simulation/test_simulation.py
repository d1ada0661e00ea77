"""Service and store under one seed, with faults at every call to the store.

Each run takes fresh seeds and prints them; a failure names its own. `PERDURE_SEED=n` runs that one alone,
`PERDURE_SIMULATIONS=n` that many of each kind.
"""

import os
import random
import time

import pytest

from simulation.world import World

FRESH = random.SystemRandom().randrange(2**32)
SIMULATIONS = int(os.environ.get("PERDURE_SIMULATIONS", "60"))
SECONDS_MAX = 40


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("faults", [0.0, 0.01, 0.08])
def test_programs_end_as_they_would_without_faults(
    nodes: int, faults: float, capsys: pytest.CaptureFixture[str]
) -> None:
    only = os.environ.get("PERDURE_SEED")
    seeds = [int(only)] if only else range(FRESH, FRESH + SIMULATIONS)
    started, counts, runs = time.monotonic(), dict[str, int](), 0
    for seed in seeds:
        world = World(seed, nodes=nodes, faults=faults, programs=4)
        try:
            world.run()
        except BaseException as error:
            pytest.fail(f"PERDURE_SEED={seed} with {nodes} nodes and faults {faults}: {type(error).__name__}: {error}")
        runs += 1
        for what, count in world.counts.items():
            counts[what] = counts.get(what, 0) + count
        if time.monotonic() - started > SECONDS_MAX:
            break
    with capsys.disabled():
        told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        print(f"\n{runs} worlds of {nodes} node(s), faults {faults}, seeds {seeds[0]}…{seeds[0] + runs - 1}: {told}")
    if faults > 0.05 and not only:
        assert counts.get("deaths", 0) > runs, "the faults did not happen"


def test_the_same_seed_gives_the_same_world() -> None:
    first, second = (World(FRESH, nodes=2, faults=0.05, programs=2) for _ in range(2))
    first.run()
    second.run()
    assert first.counts == second.counts
    assert first.clock.now == second.clock.now
    assert first.store._journals == second.store._journals
