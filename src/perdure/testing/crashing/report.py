"""What a crash check found: the matrix of points and verdicts, the first failure, and how to see it again."""

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from perdure.model.word import Word
from perdure.testing.crashing.points import BodyRun, Point

SHOWN_MAX: Final = 8


class Verdict(Word):
    """What became of a run."""

    PASSED = "passed"
    REPEATED = "repeated"
    """It came to the same end; a body that may run more than once did."""
    INTERRUPTED = "interrupted"
    """An at-most-once body was cut off, and not run again: that is what was asked for."""
    NOT_REACHED = "not reached"
    FAILED = "failed"


class RepeatedBody(NamedTuple):
    """A body that ran again after it had been cut off, and what it did outside both times."""

    name: str
    where: str
    effects: Sequence[str]

    @property
    def advice(self) -> str:
        return (
            "an at-least-once step may run again when its process died before its end was recorded. If it must not "
            "happen twice, give it an idempotency key made in an earlier step; or use "
            "StepSemantics.AT_MOST_ONCE_PER_RETRY, and decide what an interrupted attempt means"
        )

    def __str__(self) -> str:
        did = f" (did again: {', '.join(self.effects)})" if self.effects else ""
        return f"'{self.name}' at {self.where}{did}"


class Outcome(NamedTuple):
    """A run with something going wrong at `points`, and what came of it."""

    points: tuple[Point, ...]
    what: str
    verdict: Verdict
    problems: Sequence[str] = ()
    repeats: Sequence[RepeatedBody] = ()

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {self.what}", *(f"  {problem}" for problem in self.problems)]
        return "\n".join(lines)


class CrashReport:
    """What came of each run. `str` is for people, `to_json` for programs.

    `findings` are what is wrong without any crash; `outcomes` are in the order of the points, `failures` those of
    them that failed. `repeats` are the bodies that ran more than once, each once.
    """

    def __init__(
        self,
        handler: str,
        outcomes: Sequence[Outcome],
        findings: Sequence[str],
        bodies: Sequence[BodyRun],
        seed: int,
        command: str,
    ) -> None:
        self.handler = handler
        self.outcomes = list(outcomes)
        self.findings = list(findings)
        self.bodies = list(bodies)
        self._seed = seed
        self._command = command

    @property
    def passed(self) -> bool:
        return not self.findings and not self.failures

    @property
    def failures(self) -> list[Outcome]:
        return [each for each in self.outcomes if each.verdict is Verdict.FAILED]

    @property
    def first_failure(self) -> Outcome | None:
        """The first run that failed, with as few points as it takes."""
        return min(self.failures, key=lambda each: len(each.points), default=None)

    @property
    def repeats(self) -> list[RepeatedBody]:
        found: dict[tuple[str, str], RepeatedBody] = {}
        for outcome in self.outcomes:
            for repeat in outcome.repeats:
                known = found.get(repeat[:2])
                if known is None or len(repeat.effects) > len(known.effects):
                    found[repeat[:2]] = repeat
        return list(found.values())

    def count(self, verdict: Verdict | str) -> int:
        return sum(each.verdict == verdict for each in self.outcomes)

    def verdict(self, point: str) -> Verdict:
        """The verdict of the run with this one point; KeyError if there was none."""
        for outcome in self.outcomes:
            if [str(each) for each in outcome.points] == [point]:
                return outcome.verdict
        raise KeyError(f"no run had the point {point!r}; there were {', '.join(each.what for each in self.outcomes)}")

    @property
    def command(self) -> str:
        """What shows the first failure again."""
        first = self.first_failure
        points = [str(point) for point in first.points] if first is not None else []
        if self._command:
            return " ".join([self._command, *(f"--point '{point}'" for point in points)])
        return f"check_crashes({self.handler}, …, points={points or 'all'!r}, seed={self._seed})"

    def matrix(self) -> str:
        """A line for each run: the point, and the verdict."""
        width = max((len(each.what) for each in self.outcomes), default=0)
        return "\n".join(f"{each.what.ljust(width)}  {each.verdict}" for each in self.outcomes)

    def __str__(self) -> str:
        counts = ", ".join(f"{self.count(verdict)} {verdict}" for verdict in Verdict if self.count(verdict))
        lines = [f"{self.handler}: {len(self.outcomes)} runs with something going wrong: {counts or 'none'}"]
        lines += [f"wrong without any crash: {finding}" for finding in self.findings]
        first = self.first_failure
        if first is not None:
            lines += [f"first failure: {first.what}", *(f"  {problem}" for problem in first.problems)]
            others = [each.what for each in self.failures if each is not first]
            lines += [f"  also at: {'; '.join(others[:8])}{' …' if len(others) > 8 else ''}"] if others else []
            lines += [f"  again: {self.command}"]
        repeats = sorted(self.repeats, key=lambda each: not each.effects)
        if repeats:
            lines += ["bodies that ran again:", *(f"  {repeat}" for repeat in repeats[:SHOWN_MAX])]
            lines += [f"  and {len(repeats) - SHOWN_MAX} more"] if len(repeats) > SHOWN_MAX else []
            lines += [f"  {repeats[0].advice}"]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        first = self.first_failure
        return {
            "Handler": self.handler,
            "Passed": self.passed,
            "Runs": len(self.outcomes),
            "Verdicts": {str(verdict): self.count(verdict) for verdict in Verdict},
            "Findings": self.findings,
            "FirstFailure": None if first is None else {"Point": first.what, "Problems": list(first.problems)},
            "Command": self.command,
            "Repeats": [
                {"Name": each.name, "Where": each.where, "Effects": list(each.effects), "Advice": each.advice}
                for each in self.repeats
            ],
            "Matrix": [
                {
                    "Points": [str(point) for point in each.points],
                    "What": each.what,
                    "Verdict": str(each.verdict),
                    "Problems": list(each.problems),
                }
                for each in self.outcomes
            ],
        }

    def to_text(self) -> str:
        return json.dumps(self.to_json(), indent=2)


class CrashCheckFailed(AssertionError):
    """An execution does not come to the same end wherever its process dies. `report` says where not, and why."""

    def __init__(self, report: CrashReport) -> None:
        super().__init__(str(report))
        self.report = report
