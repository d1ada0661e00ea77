"""Every plan that has ever broken a promise, played in every run: `found/` has them, named after what was wrong."""

from pathlib import Path

import msgspec
import pytest

from simulation.plans import Plan
from simulation.running import play, quiet

FOLDER = Path(__file__).parent / "found"


class Case(msgspec.Struct):
    """A plan that was shrunk from what the simulation had found, and what was wrong."""

    what: str
    plan: Plan


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.json")), ids=lambda file: file.stem)
def test_what_was_found_stays_mended(file: Path) -> None:
    case = msgspec.json.decode(file.read_bytes(), type=Case)
    with quiet():
        play(case.plan)
