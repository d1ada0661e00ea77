"""The simulation finds what it is there to find: defects that are put into the product, one by one.

Each has a budget of worlds, about a minute of simulation; how many it took is printed, with fresh seeds in every run.
"""

import random
import time
from collections.abc import Callable

import pytest

from simulation.defects import DEFECTS
from simulation.running import SEEDS, FoundViolation, run_worlds

WORLDS_MAX = 4_000
FOR_EVER = float("inf")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found_within_a_minute_of_simulation(name: str, tell: Callable[[str], None]) -> None:
    first = random.SystemRandom().randrange(SEEDS)
    cpu = time.process_time()
    with pytest.MonkeyPatch.context() as patch:
        DEFECTS[name](patch)
        with pytest.raises(FoundViolation) as found:
            run_worlds(FOR_EVER, first, worlds_max=WORLDS_MAX)
    seed = found.value.seed
    worlds = (seed - first) % SEEDS + 1
    tell(f"{worlds:>5} worlds, {time.process_time() - cpu:5.1f} s: {name} (seed {seed})")


def test_there_are_more_than_ten_defects_to_be_found() -> None:
    assert len(DEFECTS) > 10


def test_without_a_defect_nothing_is_found_where_each_of_them_is() -> None:
    """The worlds of one seed after the other are right: what is found is the defect and not the judge's error."""
    assert run_worlds(FOR_EVER, random.SystemRandom().randrange(SEEDS), worlds_max=100).found == []
