"""Worlds of random programs and faults, with fresh seeds in every run: sixty seconds, shared out over the cores.

Each test prints its first seed, and a failure names its own. `PERDURE_SEED=n` runs that one alone,
`PERDURE_SIMULATION_SECONDS=n` so many seconds in all.
"""

import os
from collections.abc import Callable

import pytest

from simulation.plans import make_plan
from simulation.running import play, quiet, run_worlds

SECONDS = float(os.environ.get("PERDURE_SIMULATION_SECONDS", "60"))
PARTS = 2


@pytest.mark.parametrize("part", range(PARTS))
def test_every_promise_holds_whatever_goes_wrong(part: int, tell: Callable[[str], None]) -> None:
    only = os.environ.get("PERDURE_SEED")
    if only is not None:
        with quiet():
            play(make_plan(int(only)))
        return
    summary = run_worlds(SECONDS / PARTS)
    tell(summary.told())
    assert summary.executions
    assert summary.counts["deaths"] > 10, "the faults did not happen"


def test_the_same_seed_gives_the_same_world() -> None:
    with quiet():
        for seed in range(30):
            first, second = play(make_plan(seed)), play(make_plan(seed))
            assert first.counts == second.counts
            assert first.now == second.now
            assert first.store._journals == second.store._journals
