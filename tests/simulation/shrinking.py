"""From a plan that breaks a promise to a small one that breaks it too.

Candidates are smaller plans: fewer programs, operations, orders, nodes, faults. One is taken if it fails with the same
kind of violation; played with its faults as they are, or with the same kinds by chance, under some other seeds.
"""

import random
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from simulation.plans import Plan, Planned
from simulation.programs import Operation, Program

TRIES: Final = 5
"""So often is a candidate played: as it is, then with other seeds, its faults moved or struck anew by chance."""

Fails = Callable[[Plan], "tuple[str, Plan] | None"]
"""What a plan breaks, and the plan with the faults that struck until then; None if it breaks nothing."""


def kind_of(violation: BaseException) -> str:
    """What two violations have in common that are the same one: their words, without names, numbers and values."""
    words = re.findall(r"[A-Za-z']{2,}", re.sub(r'".*?"|\'[^\']*\'|\[.*\]|\{.*\}|[0-9a-f-]{36}', " ", str(violation)))
    return " ".join([type(violation).__name__, *words[:6]])


class Shrinker:
    """`fails` plays a plan. At most `plays_max` plans are played, for no longer than `seconds_max`."""

    def __init__(self, fails: Fails, plays_max: int = 1_500, seconds_max: float = 60.0) -> None:
        self._fails = fails
        self._left = plays_max
        self._end_s = time.monotonic() + seconds_max

    def shrink(self, plan: Plan) -> Plan:
        """The smallest plan that was found. `plan` fails, with its faults written down."""
        failed = self._fails(plan)
        if failed is None:
            return plan
        kind, plan = failed
        found = True
        while found and self._left > 0:
            found = False
            for candidate in candidates(plan):
                better = self._try(candidate, kind)
                if better is not None:
                    plan, found = better, True
                    break
                if self._left <= 0:
                    break
        return plan

    def _try(self, candidate: Plan, kind: str) -> Plan | None:
        for number in range(TRIES):
            if self._left <= 0:
                return None
            self._left -= 1
            if time.monotonic() > self._end_s:
                self._left = 0
            failed = self._fails(candidate if number == 0 else _elsewhere(candidate, number))
            if failed is not None and failed[0] == kind:
                return failed[1]
        return None


def _elsewhere(plan: Plan, number: int) -> Plan:
    """The same plan with another order of things, and its faults moved, or struck by chance and no more than before."""
    rng = random.Random(plan.seed * 31 + number)
    seed, faults = rng.getrandbits(32), plan.faults or []
    if number % 2 and faults:
        kinds = sorted({kind for _, kind, _ in faults})
        return replace(plan, seed=seed, faults=None, kinds=kinds, rate=rng.choice([0.02, 0.1]), faults_max=len(faults))
    moved = [(max(1, point - rng.randint(0, 2 + point // 3)), kind, rng.getrandbits(32)) for point, kind, _ in faults]
    return replace(plan, seed=seed, faults=sorted(moved))


def candidates(plan: Plan) -> Iterator[Plan]:
    """Smaller plans, those that leave out most first."""
    if len(plan.programs) > 4:
        for planned in plan.programs:
            yield replace(plan, programs=[planned])
    for some in _without(plan.programs):
        if some:
            yield replace(plan, programs=some)
    for faults in _without(plan.faults or []):
        yield replace(plan, faults=faults)
    if plan.nodes > 1:
        yield replace(plan, nodes=plan.nodes - 1)
    yield from _simpler(plan)
    for at, planned in enumerate(plan.programs):
        for less in _smaller_planned(planned):
            yield replace(plan, programs=[*plan.programs[:at], less, *plan.programs[at + 1 :]])


def _simpler(plan: Plan) -> Iterator[Plan]:
    if plan.skew_ms:
        yield replace(plan, skew_ms=0)
    if plan.is_remote:
        yield replace(plan, is_remote=False)
    if plan.is_shared and plan.nodes == 1:
        yield replace(plan, is_shared=False)
    if plan.retention_days != 1_000:
        yield replace(plan, retention_days=1_000)


def _without(items: list[Any]) -> Iterator[list[Any]]:
    """The list without its halves, quarters and so on, down to single items."""
    size = len(items)
    while size >= 1:
        for at in range(0, len(items), size):
            yield [*items[:at], *items[at + size :]]
        size = size // 2 if size > 1 else 0


def _smaller_planned(planned: Planned) -> Iterator[Planned]:
    if planned.orders:
        for orders in _without(planned.orders):
            yield replace(planned, orders=orders)
    if len(planned.starts_ms) > 1:
        yield replace(planned, starts_ms=planned.starts_ms[:1])
    if planned.starts_ms != [0]:
        yield replace(planned, starts_ms=[0])
    if planned.timeout_s is not None:
        yield replace(planned, timeout_s=None)
    if planned.raises:
        yield replace(planned, raises=False)
    for operations in smaller(planned.operations):
        yield replace(planned, operations=operations)


def smaller(program: Program) -> Iterator[Program]:
    """Programs with one operation less, or with one that is less."""
    for at, operation in enumerate(program):
        before, after = program[:at], program[at + 1 :]
        if len(program) > 1:
            yield [*before, *after]
        for inside in [operation.get("body"), operation.get("between"), *operation.get("bodies", ())]:
            if inside and all(each["do"] != "again" for each in inside):
                yield [*before, *inside, *after]
        for less in _less(operation):
            yield [*before, less, *after]


_OPTIONS: Final = (
    "fails",
    "attempts",
    "once",
    "timeout",
    "bytes",
    "raises",
    "virtual",
    "short",
    "submitter_fails",
    "between",
)


def _less(operation: Operation) -> Iterator[Operation]:
    for key in ("body", "between"):
        for body in smaller(operation.get(key) or []):
            yield {**operation, key: body}
    bodies = operation.get("bodies")
    if bodies is not None:
        for number in range(len(bodies)):
            if len(bodies) > 1:
                failing = [each - (each > number) for each in operation.get("failing", ()) if each != number]
                yield {**operation, "bodies": bodies[:number] + bodies[number + 1 :], "failing": failing}
            for body in smaller(bodies[number]):
                yield {**operation, "bodies": [*bodies[:number], body, *bodies[number + 1 :]]}
    if operation["do"] not in ("step", "saga"):
        yield {"do": "step"}
    for key in (
        "fails",
        "attempts",
        "once",
        "timeout",
        "bytes",
        "raises",
        "virtual",
        "short",
        "submitter_fails",
        "between",
    ):
        if operation.get(key) and not (operation["do"] == "saga" and key == "raises"):
            yield {name: value for name, value in operation.items() if name != key}
    answers = operation.get("answers")
    if answers and len(answers) > 1:
        yield {**operation, "answers": answers[:1]}
    if operation.get("flat"):
        yield {**operation, "flat": False}


def told(plan: Plan) -> str:
    """The plan as somebody reads it: its programs, and what goes wrong."""
    lines = [
        f"{plan.nodes} node(s), {'shared' if plan.is_shared else 'own'} store, "
        f"{'remote' if plan.is_remote else 'local'} workers, seed {plan.seed}"
        + (f", clocks {plan.skew_ms} ms apart" if plan.skew_ms else "")
    ]
    for number, planned in enumerate(plan.programs):
        more = {
            "starts at": planned.starts_ms if planned.starts_ms != [0] else None,
            "times out after s": planned.timeout_s,
            "raises": planned.raises or None,
            "orders": planned.orders or None,
        }
        said = ", ".join(f"{name} {value}" for name, value in more.items() if value is not None)
        lines.append(f"program {number}{': ' + said if said else ''}")
        lines += _lines(planned.operations, "  ")
    lines.append("faults: " + (", ".join(f"{kind} at {point}" for point, kind, _ in plan.faults or ()) or "none"))
    return "\n".join(lines)


def _lines(program: Program, indent: str) -> Iterator[str]:
    for number, operation in enumerate(program):
        how = {key: value for key, value in operation.items() if key not in ("do", "body", "bodies", "between")}
        text = msgspec.json.encode(how).decode() if how else ""
        yield f"{indent}{number} {operation['do']} {text}".rstrip()
        for key in ("body", "between"):
            yield from _lines(operation.get(key) or [], indent + "  ")
        for index, body in enumerate(operation.get("bodies", ())):
            yield f"{indent}  branch {index}"
            yield from _lines(body, indent + "    ")
