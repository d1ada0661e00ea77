"""The same programs, with the same crashes, by the official SDK and by Perdure's: nobody can tell them apart.

Each run takes fresh seeds and prints them; a failure names its own, and the smallest program that shows it.
`PERDURE_SEED=n` runs that one alone, `PERDURE_PROGRAMS=n` that many of each kind.
"""

import json
import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from differential.ground import ended, first_difference, run, snapshot, unordered
from differential.programs import Author, Program, random_crashes, smaller
from support.sdks import OFFICIAL, PERDURE

FRESH = random.SystemRandom().randrange(2**32)
PROGRAMS = int(os.environ.get("PERDURE_PROGRAMS", "60"))
SECONDS_MAX = int(os.environ.get("PERDURE_SECONDS", "15"))
SHRINKS_MAX = 150

Compare = Callable[[Program, dict[int, bool]], tuple[str | None, int, int]]


def seeds_of_this_run() -> range:
    only = os.environ.get("PERDURE_SEED")
    return range(int(only), int(only) + 1) if only else range(FRESH, FRESH + PROGRAMS)


def in_order(program: Program, crashes: dict[int, bool]) -> tuple[str | None, int, int]:
    """How the two differ; how many operations there were, and how many processes died.

    With several crashes the service tells at most 3 operations at once.
    """
    page = 3 if len(crashes) > 1 else 1000
    theirs, ours = (run(sdk, program, crashes, page=page) for sdk in (OFFICIAL, PERDURE))
    view = ended if "ExecutionError" in json.dumps(program) else lambda found: found
    difference = first_difference(view(snapshot(theirs[1])), view(snapshot(ours[1])))
    return difference, len(ours[1].operations), ours[0].deaths


def in_any_order(program: Program, crashes: dict[int, bool]) -> tuple[str | None, int, int]:
    """The same where branches run beside each other."""
    theirs, ours = (run(sdk, program, crashes) for sdk in (OFFICIAL, PERDURE))
    difference = first_difference(unordered(snapshot(theirs[1])), unordered(snapshot(ours[1])))
    return difference, len(ours[1].operations), ours[0].deaths


def shrunk(program: Program, crashes: dict[int, bool], compare: Compare) -> tuple[Program, str]:
    """A program that differs as well, and is as small as a few tries make it."""
    difference, left, is_smaller = "", SHRINKS_MAX, True
    while is_smaller and left:
        is_smaller = False
        for candidate in smaller(program):
            left -= 1
            found = compare(candidate, crashes)[0]
            if found is not None:
                program, difference, is_smaller = candidate, found, True
                break
            if not left:
                break
    return program, difference


def compare_all(
    compare: Compare, crashes_of: Callable[[int, Program], dict[int, bool]], *, is_concurrent: bool
) -> dict[str, int]:
    """Compare programs until there are enough; fail with the first that differs."""
    began, counts = time.monotonic(), {"programs": 0, "operations": 0, "deaths": 0}
    for seed in seeds_of_this_run():
        program = Author(seed, is_concurrent=is_concurrent).program()
        crashes = crashes_of(seed, program)
        difference, operations, deaths = compare(program, crashes)
        if difference is not None:
            small, why = shrunk(program, crashes, compare)
            pytest.fail(f"PERDURE_SEED={seed}, crashes {crashes}: {difference}\n{why}\n{json.dumps(small, indent=1)}")
        counts["programs"] += 1
        counts["operations"] += operations
        counts["deaths"] += deaths
        if time.monotonic() - began > SECONDS_MAX:
            break
    return counts


def test_both_sdks_make_the_same_of_a_program_whatever_crashes(tell: Callable[[str], None]) -> None:
    """Status, result, error; of each operation id, name, kind, parent, status, payload, attempts; the history."""

    def crashes_of(seed: int, program: Program) -> dict[int, bool]:
        """None where an ExecutionError may end the execution, since what is sent last is up to the threads then."""
        ground = run(PERDURE, program)[0]
        return {} if "ExecutionError" in json.dumps(program) else random_crashes(seed, ground.updates)

    counts = compare_all(in_order, crashes_of, is_concurrent=False)
    tell(f"in order, seeds {seeds_of_this_run()[0]}…: {counts}")
    if PROGRAMS >= 30 and "PERDURE_SEED" not in os.environ:
        assert counts["deaths"] > 5, "the crashes did not happen"


def test_both_sdks_make_the_same_of_branches_that_run_beside_each_other(tell: Callable[[str], None]) -> None:
    counts = compare_all(in_any_order, lambda seed, program: {}, is_concurrent=True)
    tell(f"beside each other, seeds {seeds_of_this_run()[0]}…: {counts}")


def test_a_difference_is_found_and_made_small() -> None:
    """The yardstick measures: what differs in one operation of many is shown as that one."""
    wrong = {"kind": "wait", "name": "wait 9", "seconds": 60}
    program = [*Author(1).program(), {"kind": "attempt", "name": None, "body": [wrong]}]

    def compare(candidate: Program, crashes: dict[int, bool]) -> tuple[str | None, int, int]:
        slower = json.loads(json.dumps(candidate).replace('"seconds": 60', '"seconds": 61'))
        theirs, ours = run(PERDURE, candidate)[1], run(PERDURE, slower)[1]
        return first_difference(*map(_operations, (theirs, ours))), 0, 0

    small, why = shrunk(program, {}, compare)
    assert small == [wrong]
    assert "scheduled_end_ms" in why or "end_ms" in why


def _operations(outcome: Any) -> Any:
    return snapshot(outcome)["operations"]
