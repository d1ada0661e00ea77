"""The plan of a world, as data: what is started and when, what operators do, what goes wrong. All else follows."""

import random
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from simulation.faults import KINDS
from simulation.programs import Author, Operation, Program


class Planned(msgspec.Struct):
    """An execution: its program, the moments at which somebody starts it, in ms, and what operators do after that."""

    operations: list[Operation]
    raises: bool = False
    starts_ms: list[int] = msgspec.field(default_factory=lambda: [0])
    timeout_s: int | None = None
    orders: list[tuple[int, str]] = []


class Plan(msgspec.Struct):
    """A world. With `faults` (point, kind, number) these strike, else at a share of the points, `rate`, by chance; no
    more than `faults_max`.

    Nodes share the store if it `is_shared`, and then have leases; else there is one node at a time. Workers that are
    remote number their requests and ask again.
    """

    seed: int
    programs: list[Planned]
    nodes: int = 1
    is_shared: bool = False
    is_remote: bool = False
    skew_ms: int = 0
    retention_days: int = 1_000
    rate: float = 0.0
    kinds: list[str] = msgspec.field(default_factory=lambda: list(KINDS))
    faults: list[tuple[int, str, int]] | None = None
    faults_max: int | None = None


RATES: Final = (0.0, 0.005, 0.005, 0.01, 0.02, 0.05)
CROWDED: Final = 0.6
"""So many worlds have a crowd of small programs, which meet each other; the others have few, of all sizes."""


def make_plan(seed: int, *, rates: Sequence[float] = RATES) -> Plan:
    """The plan of a seed."""
    rng = random.Random(seed)
    author = Author(rng)
    nodes = rng.choice([1, 1, 2, 3])
    if rng.random() < CROWDED:
        programs = [_planned(rng, author.small()) for _ in range(rng.choice([30, 60, 90]))]
    else:
        programs = [_planned(rng, author.program()) for _ in range(rng.choice([2, 6, 12]))]
    rate = rng.choice(rates)
    kinds = list(KINDS)
    if rate and rng.random() < 0.3:
        kinds = rng.sample(kinds, rng.randint(1, 4))
    return Plan(
        seed=seed,
        programs=programs,
        nodes=nodes,
        is_shared=nodes > 1 or rng.random() < 0.2,
        is_remote=rng.random() < 0.5,
        skew_ms=rng.choice([1, 2_000]) if nodes > 1 and rng.random() < 0.25 else 0,
        retention_days=1 if rng.random() < 0.1 else 1_000,
        rate=rate,
        kinds=kinds,
    )


def _planned(rng: random.Random, program: Program) -> Planned:
    planned = Planned(program)
    start_ms = rng.choice([0, 0, 0, 5, 2_000, 100_000])
    planned.starts_ms = [start_ms]
    chance = rng.random()
    if chance < 0.04:
        planned.starts_ms.append(start_ms + rng.choice([0, 1, 3_000, 90_000_000]))
    elif chance < 0.08:
        planned.raises = True
    elif chance < 0.11:
        planned.timeout_s = rng.choice([2, 20, 4_000])
    elif chance < 0.24:
        planned.orders = _orders(rng)
    return planned


def _orders(rng: random.Random) -> list[tuple[int, str]]:
    """Delays are from the start on."""
    first_ms = rng.choice([0, 1, 500, 1_000, 3_000, 30_000])
    match rng.choice(["pause", "pause", "stop", "delete", "look", "twice"]):
        case "pause":
            resume_ms = first_ms + rng.choice([0, 1, 2_000, 100_000])
            orders = [(first_ms, "pause"), (resume_ms, "resume")]
            if rng.random() < 0.3:
                orders.append((resume_ms + 1, rng.choice(["pause", "stop"])))
            return orders
        case "stop":
            return [(first_ms, "stop"), (first_ms + rng.choice([0, 5_000]), rng.choice(["stop", "delete"]))]
        case "delete":
            return [(first_ms, "delete"), (first_ms + 200_000, "delete")]
        case what:
            return [(first_ms, what)]


def to_json(plan: Plan) -> str:
    return msgspec.json.format(msgspec.json.encode(plan), indent=1).decode()


def from_json(text: str | bytes) -> Plan:
    return msgspec.json.decode(text, type=Plan)


def as_builtins(plan: Plan) -> Any:
    return msgspec.to_builtins(plan)
