"""Random programs: trees of operations, as JSON, for the interpreter.

All that happens in a run follows from the program and from where its processes die, as long as one branch runs at a
time. `is_concurrent` programs have batches whose branches run beside each other, and nothing whose outcome depends on
their order.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any, Final

Program = list[dict[str, Any]]
DEPTH_MAX: Final = 2


class Author:
    """Writes a program from a seed."""

    def __init__(self, seed: int, *, is_concurrent: bool = False, size: int = 4) -> None:
        self.rng = random.Random(seed)
        self.is_concurrent = is_concurrent
        self.size = size
        self.numbers = 0
        self.catching = 0
        self.makers: dict[str, Callable[[int], dict[str, Any]]] = {
            "step": self.step,
            "wait": lambda depth: {"seconds": self.rng.choice([1, 2, 60, 86_400])},
            "child": self.child,
            "condition": self.condition,
            "callback": self.callback,
            "wait_for_callback": self.wait_for_callback,
            "invoke": self.invoke,
            "map": self.batch,
            "parallel": self.batch,
            "attempt": self.attempt,
            "raise": lambda depth: {"error": self.error()},
        }

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def program(self, depth: int = 0) -> Program:
        count = self.rng.randint(1, self.size if depth == 0 else 2)
        return [self.operation(depth) for _ in range(count)]

    def operation(self, depth: int) -> dict[str, Any]:
        kinds = ["step"] * 6 + ["wait", "condition", "callback", "wait_for_callback", "invoke"]
        if depth < DEPTH_MAX:
            kinds += ["child"] * 3 + ["map", "parallel"] * 2 + ["attempt"] * 4
        if depth:
            kinds.append("raise")
        kind = self.rng.choice(kinds)
        self.numbers += 1
        name = None if self.chance(0.1) else f"{kind} {self.numbers}"
        return {"kind": kind, "name": name, **self.makers[kind](depth + 1)}

    # --- parts ---------------------------------------------------------------------------------------------------

    def error(self) -> str:
        kinds = ["ValueError", "KeyError", "Refused", "Refused"]
        return self.rng.choice(kinds if self.is_concurrent or self.catching else [*kinds, "ExecutionError"])

    def attempt(self, depth: int) -> dict[str, Any]:
        """Who catches an ExecutionError, of which nothing is recorded, is not deterministic."""
        self.catching += 1
        body = self.program(depth)
        self.catching -= 1
        return {"body": body}

    def value(self, depth: int = 0) -> list[Any]:
        rng = self.rng
        plain: list[list[Any]] = [
            ["json", rng.choice([None, True, 7, -1.5, "text", 'ü ☃ 𝄞 " \\ \n', [1, 2, [None, "x"]], [], 2**70, 1e300])],
            ["json", rng.choice([{"a": 1}, {"b": {"c": [1, {"d": None}]}}, {}, {"t": "s", "v": "tricky"}, [{}, {}]])],
            ["bytes", rng.randbytes(rng.randint(0, 5)).hex()],
            ["uuid", "01234567-89ab-cdef-0123-456789abcdef"],
            ["decimal", rng.choice(["1.50", "-0", "1E+30", "NaN"])],
            ["datetime", rng.choice(["2026-02-03T04:05:06", "2026-02-03T04:05:06.789+01:00"])],
            ["date", "2026-02-03"],
        ]
        if depth < 2 and self.chance(0.3):
            parts = [self.value(depth + 1) for _ in range(rng.randint(0, 3))]
            named = {f"key{at}": part for at, part in enumerate(parts)}
            return rng.choice([["tuple", parts], ["list", parts], ["dict", named], ["numbered", parts]])
        return rng.choice(plain)

    def retry(self) -> list[Any]:
        kind = self.rng.choice(["none", "linear", "filtered", "exponential", "exponential"])
        return [kind, self.rng.randint(1, 4), self.rng.choice([1, 5, 90])]

    def step(self, depth: int) -> dict[str, Any]:
        as_json = self.chance(0.15)
        value = self.value()
        if self.chance(0.03):
            value = ["object", None]
        return {
            "value": ["json", {"plain": [1, None]}] if as_json else value,
            "as_json": as_json,
            "failures": self.rng.choice([0, 0, 0, 0, 1, 2, 9]),
            "error": self.error() if self.chance(0.3) else "ValueError",
            "retry": self.retry(),
            "once": not self.is_concurrent and self.chance(0.3),
            "sub_type": "Charge" if self.chance(0.1) else None,
            "is_unnamed": self.chance(0.1),
        }

    def child(self, depth: int) -> dict[str, Any]:
        return {
            "body": self.program(depth),
            "is_virtual": self.chance(0.2),
            "value": ["large", self.rng.choice("xü")] if self.chance(0.1) else self.value(),
            "is_summed_up": self.chance(0.5),
            "sub_type": "Saga" if self.chance(0.1) else None,
        }

    def condition(self, depth: int) -> dict[str, Any]:
        return {
            "polls": self.rng.randint(1, 3),
            "attempts": self.rng.choice([2, 5]),
            "fails_at": self.rng.choice([0, 0, 0, 1, 2]),
            "error": self.rng.choice(["ValueError", "Refused"]),
            "seconds": self.rng.choice([1, 30]),
        }

    def callback(self, depth: int) -> dict[str, Any]:
        body = [self.operation(DEPTH_MAX)] if self.chance(0.5) else []
        return {"timeout": self.timeout(), "as_json": self.chance(0.3), "body": body}

    def timeout(self) -> int:
        return self.rng.choice([0, 0, 3600])

    def wait_for_callback(self, depth: int) -> dict[str, Any]:
        return {
            "timeout": self.timeout(),
            "as_json": self.chance(0.3),
            "is_refused": self.chance(0.2),
            "error": self.rng.choice(["ValueError", "Refused"]),
            "retry": self.retry(),
        }

    def invoke(self, depth: int) -> dict[str, Any]:
        functions = ["echo", "refuse", "other", "other-refuses", "nobody"]
        payload = self.rng.choice([None, 1, "text", {"a": [1, 2]}])
        return {"function": self.rng.choice(functions), "payload": payload}

    def batch(self, depth: int) -> dict[str, Any]:
        bodies = [self.program(depth) for _ in range(self.rng.randint(0, 4))]
        count = len(bodies)
        completion: list[Any] = ["all_completed", None]
        if not self.is_concurrent:
            completion = self.rng.choice(
                [
                    [None, None],
                    ["all_completed", None],
                    ["all_successful", None],
                    ["first_successful", None],
                    ["min_successful", max(1, count - 1)],
                    ["tolerated_failure_count", 1],
                    ["tolerated_failure_percentage", 50],
                    ["predicate", self.rng.randint(1, 4)],
                ]
            )
        return {
            "bodies": bodies,
            "names": [f"branch {at}" if at else "" for at in range(count)] if self.chance(0.3) else None,
            "max_concurrency": self.rng.choice([2, None]) if self.is_concurrent else 1,
            "completion": completion,
            "is_flat": self.chance(0.3),
            "throws": self.chance(0.2),
            "value": ["large", "y"] if self.chance(0.08) else ["json", "branch"],
        }


def random_crashes(seed: int, updates: int) -> dict[int, bool]:
    """After how many updates processes die, and whether each of them has heard that the last was recorded."""
    rng = random.Random(seed)
    count = rng.choice([0, 1, 1, 2, 4])
    return {number: rng.random() < 0.5 for number in rng.sample(range(1, updates + 2), min(count, updates))}


def smaller(program: Program) -> Iterator[Program]:
    """Programs with one operation less, or with one that is less: first those that leave out most."""
    for at, operation in enumerate(program):
        rest = [program[:at], program[at + 1 :]]
        yield [*rest[0], *rest[1]]
        if isinstance(operation.get("body"), list):
            yield [*rest[0], *operation["body"], *rest[1]]
            for body in smaller(operation["body"]):
                yield [*rest[0], {**operation, "body": body}, *rest[1]]
        for number, branch in enumerate(operation.get("bodies", ())):
            for body in smaller(branch):
                bodies = [*operation["bodies"]]
                bodies[number] = body
                yield [*rest[0], {**operation, "bodies": bodies}, *rest[1]]
