"""Random programs: trees of operations as JSON, which a handler interprets and the oracle judges.

An operation is a dictionary: `do` says which it is, the rest how. Most programs have one to four operations; now and
then there is a big tree.
"""

import random
from typing import Any, Final

Operation = dict[str, Any]
Program = list[Operation]

DEPTH_MAX: Final = 3
ALWAYS: Final = 99
"""So often fails what never succeeds."""

_LEAVES: Final = [
    ("step", 60),
    ("wait", 6),
    ("condition", 3),
    ("callback", 4),
    ("wait_for_callback", 3),
    ("call", 3),
    ("marker", 3),
    ("race", 3),
]
_NESTED: Final = [("child", 6), ("map", 4), ("parallel", 5), ("invoke", 8), ("saga", 3), ("timeout", 4), ("futures", 5)]


class Author:
    """Writes programs. `rng` is all that they depend on."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._leaves = [kind for kind, weight in _LEAVES for _ in range(weight)]
        self._all = self._leaves + [kind for kind, weight in _NESTED for _ in range(weight)]
        self._left = 0

    def small(self) -> Program:
        """A program for one of a crowd: one operation, seldom two."""
        self._left = 0
        return self._some(2 if self.rng.random() < 0.1 else 1, 0)

    def program(self) -> Program:
        """A program for an execution that somebody starts."""
        rng = self.rng
        is_big = rng.random() < 0.012
        self._left = 60 if is_big else 8
        count = rng.randint(5, 14) if is_big else rng.choice([1, 1, 1, 1, 2, 2, 2, 3, 3, 4])
        made = self._some(count, 0)
        if rng.random() < 0.02:
            made.append({"do": "again", "body": self._some(1, 2)})
        return made

    def _some(self, count: int, depth: int) -> Program:
        return [self._one(depth) for _ in range(count)]

    def _body(self, depth: int) -> Program:
        return self._some(self.rng.choice([1, 1, 2] if self._left > 0 else [1]), depth)

    def _bodies(self, depth: int) -> list[Program]:
        rng = self.rng
        count = rng.choice([0, 1, 2, 2, 2, 3] if self._left < 20 else [2, 3, 5, 9, 16])
        return [self._body(depth) for _ in range(count)]

    def _one(self, depth: int) -> Operation:
        rng = self.rng
        self._left -= 1
        kinds = self._all if depth < DEPTH_MAX and self._left > 0 else self._leaves
        kind = kinds[int(rng.random() * len(kinds))]
        made: Operation = {"do": kind}
        getattr(self, f"_{kind}")(made, depth + 1)
        return made

    # --- leaves ------------------------------------------------------------------------------------------------

    def _step(self, made: Operation, _depth: int) -> None:
        rng = self.rng
        chance = rng.random()
        if chance > 0.85:
            made["fails"] = 1 if chance < 0.95 else 2 if chance < 0.98 else ALWAYS
            made["attempts"] = rng.choice([1, 2, 3])
        if rng.random() < 0.2:
            made["once"] = True
        if rng.random() < 0.04:
            made["timeout"] = rng.choice(["kept", "exceeded"])
        if rng.random() < 0.05:
            made["bytes"] = rng.choice([300, 5_000, 60_000])

    def _wait(self, made: Operation, _depth: int) -> None:
        made["seconds"] = self.rng.choice([1, 1, 2, 5, 30, 3_600, 90_000])

    def _condition(self, made: Operation, _depth: int) -> None:
        rng = self.rng
        made["polls"] = rng.choice([1, 1, 2, 3])
        made["seconds"] = rng.choice([1, 2, 60])
        if rng.random() < 0.15:
            made["raises"] = rng.randint(1, 2)

    def _callback(self, made: Operation, depth: int) -> None:
        self._answers(made)
        if self.rng.random() < 0.4:
            made["between"] = self._some(1, DEPTH_MAX)

    def _wait_for_callback(self, made: Operation, _depth: int) -> None:
        self._answers(made)
        chance = self.rng.random()
        if chance < 0.2:
            made["submitter_fails"] = 1 if chance < 0.13 else ALWAYS

    def _answers(self, made: Operation) -> None:
        """What becomes of a callback: who says what, how long after its id has been handed out."""
        rng = self.rng
        answers: list[list[Any]] = []
        if rng.random() < 0.25:
            made["timeout_s"] = rng.choice([1, 5, 60, 600])
        if rng.random() < (0.4 if "timeout_s" in made else 0.1):
            made["heartbeat_s"] = rng.choice([2, 20])
            answers += [[rng.choice([500, 1_500, 19_000]), "heartbeat"] for _ in range(rng.randint(0, 3))]
        is_answered = not ("timeout_s" in made or "heartbeat_s" in made) or rng.random() < 0.6
        for _ in range(rng.choice([1, 1, 1, 2, 3]) if is_answered else 0):
            answers.append([rng.choice([0, 0, 1, 700, 4_000, 30_000]), rng.choice(["yes", "yes", "yes", "no"])])
        made["answers"] = answers

    def _call(self, made: Operation, _depth: int) -> None:
        if self.rng.random() < 0.3:
            made["fails"] = True

    def _marker(self, made: Operation, _depth: int) -> None:
        made["kind"] = self.rng.choice(["patched", "version", "now", "uuid"])

    def _race(self, made: Operation, _depth: int) -> None:
        """A callback against a wait: either may win, and the one that did has done so for good."""
        self._answers(made)
        made["seconds"] = self.rng.choice([1, 2, 10])

    # --- with operations inside ----------------------------------------------------------------------------------

    def _child(self, made: Operation, depth: int) -> None:
        rng = self.rng
        made["body"] = self._body(depth)
        if rng.random() < 0.25:
            made["virtual"] = True
        if rng.random() < 0.15:
            made["raises"] = True
        if rng.random() < 0.03:
            made["bytes"] = 300_000

    def _invoke(self, made: Operation, depth: int) -> None:
        made["body"] = self._body(depth)
        rng = self.rng
        if rng.random() < 0.15:
            made["raises"] = True
        if rng.random() < 0.12:
            made["short"] = True

    def _map(self, made: Operation, depth: int) -> None:
        rng = self.rng
        made["bodies"] = self._bodies(depth)
        count = len(made["bodies"])
        made["failing"] = [number for number in range(count) if rng.random() < 0.2]
        made["at_once"] = rng.choice([1, 1, 2, None])
        made["flat"] = rng.random() < 0.35
        made["until"] = rng.choice(
            [
                ["all_completed", 0],
                ["all_completed", 0],
                ["all_successful", 0],
                ["first_successful", 0] if count else ["default", 0],
                ["min_successful", max(1, count - 1)] if count else ["default", 0],
                ["tolerated_count", 1],
                ["tolerated_percentage", 40],
                ["default", 0],
                ["predicate", rng.randint(1, 3)],
            ]
        )

    _parallel = _map

    def _saga(self, made: Operation, depth: int) -> None:
        rng = self.rng
        made["body"] = [self._bare_step() for _ in range(rng.randint(1, 3))]
        made["raises"] = rng.random() < 0.6

    def _bare_step(self) -> Operation:
        made: Operation = {"do": "step"}
        self._step(made, 0)
        made.pop("fails", None)
        return made

    def _timeout(self, made: Operation, depth: int) -> None:
        made["seconds"] = self.rng.choice([1, 3, 30])
        made["body"] = [self._one(DEPTH_MAX)]

    def _futures(self, made: Operation, depth: int) -> None:
        rng = self.rng
        made["bodies"] = [self._body(depth) for _ in range(rng.randint(1, 3))]
        made["how"] = rng.choice(["gather", "all", "settled", "any", "race", "completed"])
