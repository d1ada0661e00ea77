"""Runs an execution again and again, each time with something going wrong at another point, and compares."""

import itertools
import random
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

from perdure.exceptions import NonDeterminismError, NonDeterminismWarning, ValidationError
from perdure.execution import definition_of
from perdure.sdk.errors import error_object
from perdure.testing.backend import WallTimeout
from perdure.testing.crashing.compare import (
    Difference,
    Ending,
    Path,
    beyond,
    differences,
    effect_differences,
    ending_of,
    in_words,
    may_vary,
)
from perdure.testing.crashing.effects import Effects, Ledger
from perdure.testing.crashing.points import Point, Trace, to_point
from perdure.testing.crashing.report import CrashCheckFailed, CrashReport, Outcome, RepeatedBody, Verdict
from perdure.testing.crashing.watch import Watch
from perdure.testing.local_runner import LocalRunner
from perdure.testing.runner import as_durable

Handler = Callable[..., Any]
Setup = Callable[[LocalRunner], object]

PROBLEMS_MAX: Final = 5
SEQUENCE_POINTS_MAX: Final = 4
LOOKS_MAX: Final = 10
"""So many runs without a crash at most are compared to learn what varies anyhow."""


class WatchedRunner(LocalRunner):
    """A local runner whose every invocation is watched."""

    def __init__(self, handler: Handler, watch: Watch, **options: Any) -> None:
        super().__init__(handler, **options)
        watch.delay_s = self._plan.delay_s
        watch.is_always_replaying = self._plan.is_always_replaying
        self._plan = watch


class Ran(NamedTuple):
    """A run: what was watched, and what became of it."""

    watch: Watch
    ending: Ending | None
    stuck: str = ""


def check_crashes(
    handler: Handler,
    input: Any = None,  # noqa: A002 - the official name
    *,
    points: str | int | Iterable[str | Point] = "all",
    effects: Effects | list[Any] | Callable[[], Sequence[Any]] | None = None,
    workers: int = 1,
    seed: int = 0,
    pairs: bool = False,
    sequences: int = 0,
    setup: Setup | None = None,
    raises: bool = True,
    command: str = "",
    **options: Any,
) -> CrashReport:
    """Run an execution of a durable function, then once for every point at which its process may die, or a request or
    its answer be lost or come twice; it must come to the same end, with the same operations, each time.

    `points` are "all", so many of them drawn by `seed`, or named: "after checkpoint 3". `pairs` goes on with two
    points at a time, `sequences` with so many random ones of up to four. `setup` gets the runner of each run before it
    begins: it registers functions, mocks steps, answers callbacks, and brings what stands for the outside world back
    to its beginning. `effects` are what bodies do to that: `Effects()`, a list that they append to, or a function that
    returns one; an effect that comes more often than without a crash is a failure. `workers` runs go on at a time, in
    threads. `options` are those of `LocalRunner`.

    What two runs without any crash do not agree on in their results (identifiers, times) is not compared.

    Raises CrashCheckFailed with the report unless everything is well; with `raises` False it is only returned.
    """
    check = Check(handler, input, effects, seed, setup, options)
    if workers > 1 and check.ledger.is_shared:
        raise ValidationError("with several workers, effects must be Effects(): those of several runs would mix")
    report = check.report(chosen(points), workers=workers, pairs=pairs, sequences=sequences, command=command)
    if raises and not report.passed:
        raise CrashCheckFailed(report)
    return report


def chosen(points: str | int | Iterable[str | Point]) -> int | list[Point] | None:
    """How many points are to be drawn, or which are meant; None for all."""
    if points == "all":
        return None
    if isinstance(points, int):
        return points
    named = [points] if isinstance(points, str) else points
    return [each if isinstance(each, Point) else to_point(each) for each in named]


class Check:
    """All runs of one check, and what they are compared with."""

    looks_max = LOOKS_MAX

    def __init__(
        self, handler: Handler, given: Any, effects: Any, seed: int, setup: Setup | None, options: dict[str, Any]
    ) -> None:
        self._handler = as_durable(handler)
        definition = definition_of(self._handler)
        assert definition is not None
        self._function = definition.name
        self._input = given
        self._effects = effects
        self._seed = seed
        self._setup = setup
        self._options = options
        self.ledger = Ledger(effects)
        self._findings: dict[str, None] = {}
        self._looks = 0
        self._volatile: set[Path] = set()
        self._unsteady: set[Path] = set()
        self._steady = True
        self._base: Ran | None = None

    def report(
        self, chosen: int | list[Point] | None, *, workers: int, pairs: bool, sequences: int, command: str
    ) -> CrashReport:
        base = self._begin()
        trace = base.watch.trace
        plans: list[tuple[Point, ...]] = []
        if base.ending is not None and not self._unsteady:
            plans = self._plans(self.points_of(trace), chosen, pairs=pairs, sequences=sequences)
        if workers > 1:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(workers) as threads:
                outcomes = list(threads.map(self._judged, plans))
        else:
            outcomes = [self._judged(plan) for plan in plans]
        outcomes = [self._minimised(each) for each in outcomes]
        return CrashReport(self._handler_name(), outcomes, list(self._findings), trace.bodies, self._seed, command)

    def _handler_name(self) -> str:
        handler = definition_of(self._handler)
        assert handler is not None
        return getattr(handler.handler, "__qualname__", self._function)

    # --- without crashes -----------------------------------------------------------------------------------------

    def _begin(self) -> Ran:
        """Run twice without a crash: what both agree on, all others must agree on too."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", NonDeterminismWarning)
            base = self._base = self.run((), seed=self._seed, strict=self._options.get("strict", "warn"))
        self._findings.update(dict.fromkeys(base.watch.findings))
        for warning in caught:
            if isinstance(warning.message, NonDeterminismWarning):
                self._findings[str(warning.message)] = None
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        if base.ending is None:
            self._findings[base.stuck] = None
            return base
        if base.ending.error is not None and base.ending.error["type"] == error_object(NonDeterminismError("")).type:
            self._findings[base.ending.error["message"]] = None
        self._findings.update(dict.fromkeys(base.watch.violations))
        for _ in range(2):
            self._look_again()
        return base

    def _look_again(self) -> None:
        """One more run without a crash, the first with the same seed: what differs in it, may."""
        base = self._base
        assert base is not None and base.ending is not None
        again = self.run((), seed=self._seed + self._looks)
        self._looks += 1
        if again.ending is None:
            self._findings[again.stuck] = None
            return
        for difference in differences(base.ending, again.ending):
            if may_vary(difference):
                self._volatile.add(difference.path)
            elif difference.path not in self._unsteady:
                self._unsteady.add(difference.path)
                text = in_words(difference, base.ending)
                self._findings[f"two runs without a crash differ: {text}"] = None
        if self._looks == 1 and effect_differences(base.ending.effects, again.ending.effects, is_steady=True):
            self._steady = False  # not even with the same seed

    # --- plans ---------------------------------------------------------------------------------------------------

    def _plans(
        self, every: Sequence[Point], chosen: int | list[Point] | None, *, pairs: bool, sequences: int
    ) -> list[tuple[Point, ...]]:
        rng = random.Random(self._seed)
        if chosen is None:
            single = list(every)
        elif isinstance(chosen, int):
            drawn = set(rng.sample(range(len(every)), min(chosen, len(every))))
            single = [point for index, point in enumerate(every) if index in drawn]
        else:
            return [tuple(chosen)] if len(chosen) > 1 else [(point,) for point in chosen]
        plans: list[tuple[Point, ...]] = [(point,) for point in single]
        if pairs:
            plans += itertools.combinations(single, 2)
        for _ in range(sequences):
            size = rng.randint(2, SEQUENCE_POINTS_MAX)
            plans.append(tuple(rng.sample(list(every), min(size, len(every)))))
        return plans

    def points_of(self, trace: Trace) -> list[Point]:
        """The points of a run at which something is to go wrong."""
        return trace.points()

    # --- runs ----------------------------------------------------------------------------------------------------

    def run(self, points: Collection[Point], *, seed: int, strict: Any = "off") -> Ran:
        ledger = Ledger(self._effects)
        watch = Watch(self._function, points, ledger)
        options = {"seed": seed, "schedule_seed": seed, **self._options, "strict": strict}
        with WatchedRunner(self._handler, watch, **options) as runner:
            if self._setup is not None:
                self._setup(runner)
            ledger.begin()
            try:
                execution = runner.start(self._input)
                runner.finish(execution)
            except WallTimeout as stuck:
                return Ran(watch, None, f"it does not come to an end: {stuck}")
            facts = runner.backend.facts(execution)
        watch.check_path()
        return Ran(watch, ending_of(facts, ledger.end(watch.record)))

    def _judged(self, points: tuple[Point, ...]) -> Outcome:
        """The run with something going wrong at these points, and what is wrong with it."""
        base = self._base
        assert base is not None and base.ending is not None
        ran = self.run(points, seed=self._seed)
        what = ", then ".join(base.watch.trace.describe(point) for point in points)
        repeats = [
            RepeatedBody(each.body.name, each.body.where, [str(effect) for effect in each.effects])
            for each in ran.watch.repeats
        ]
        if ran.ending is None:
            return Outcome(points, what, Verdict.FAILED, [ran.stuck], repeats)
        problems = list(dict.fromkeys(ran.watch.violations))
        interrupted = [name for name in ran.ending.interrupted if name not in base.ending.interrupted]
        found = self._beyond(ran.ending, is_final=bool(interrupted))
        differing = [in_words(each, base.ending) for each in found]
        effects = effect_differences(
            base.ending.effects, ran.ending.effects, is_steady=self._steady, is_more=bool(interrupted)
        )
        if interrupted and not problems and not effects:
            text = f"'{interrupted[0]}' runs at most once, and was cut off: the code has to decide what that means"
            return Outcome(points, what, Verdict.INTERRUPTED, [text, *differing[:PROBLEMS_MAX]], repeats)
        problems += differing
        problems += [text + _blame(repeats) for text in effects]
        if problems:
            more = len(problems) - PROBLEMS_MAX
            shown = problems[:PROBLEMS_MAX] + ([f"and {more} more differences"] if more > 0 else [])
            return Outcome(points, what, Verdict.FAILED, shown + _hints(found), repeats)
        if len(ran.watch.missed) == len(points):
            return Outcome(points, what, Verdict.NOT_REACHED, [], repeats)
        return Outcome(points, what, Verdict.REPEATED if repeats else Verdict.PASSED, [], repeats)

    def _beyond(self, ending: Ending, *, is_final: bool) -> list[Difference]:
        """What differs, and may not. Before it is final, some more runs without a crash must not differ in it."""
        base = self._base
        assert base is not None and base.ending is not None
        found = beyond(differences(base.ending, ending), self._volatile)
        while not is_final and self._looks < self.looks_max and any(may_vary(each) for each in found):
            self._look_again()
            found = beyond(found, self._volatile)
        return found

    def _minimised(self, outcome: Outcome) -> Outcome:
        """If it failed with several points, the same with as few as it takes."""
        if outcome.verdict is not Verdict.FAILED:
            return outcome
        points = outcome.points
        while len(points) > 1:
            for left_out in range(len(points)):
                fewer = self._judged(points[:left_out] + points[left_out + 1 :])
                if fewer.verdict is Verdict.FAILED:
                    outcome, points = fewer, fewer.points
                    break
            else:
                break
        return outcome


def _blame(repeats: Sequence[RepeatedBody]) -> str:
    if not repeats:
        return ""
    first = next((each for each in repeats if each.effects), repeats[0])
    return f": the body of '{first.name}' at {first.where} ran again"


def _hints(found: Sequence[Difference]) -> list[str]:
    """What to look for, if the results of bodies are the same and what the handler makes of them is not."""
    if any(each.path[0] == "operations" and len(each.path) > 2 and each.path[2] == "result" for each in found):
        return []
    if not any(each.path[0] in ("result", "operations") for each in found):
        return []
    return [
        "a replay takes the results of steps from their records, and does not run their bodies: what a body changes "
        "outside of itself is gone then; return it from the step"
    ]
