"""Crashes that are real: each run is a process of its own on a store file, killed at its point, and begun again.

`python -m perdure.testing.crashing.process SPEC` is such a process; `check_process_crashes` starts them.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from perdure.exceptions import DurableExecutionsError, NonDeterminismWarning
from perdure.testing.backend import WallTimeout
from perdure.testing.crashing.check import Check, Ran, WatchedRunner, chosen
from perdure.testing.crashing.compare import Ending, ending_of
from perdure.testing.crashing.effects import Ledger
from perdure.testing.crashing.points import BodyRun, Point, Trace, Where, to_point
from perdure.testing.crashing.report import CrashCheckFailed, CrashReport
from perdure.testing.crashing.watch import Repeat, Watch
from perdure.worker.loading import load_handler

NAME: Final = "crash-test"
STARTS_MAX: Final = 5
"""A process that was killed once must not have to be begun more often than this."""


class ProcessBroken(DurableExecutionsError):
    """A process of the check ended in a way that it should not."""


def check_process_crashes(
    reference: str,
    input: Any = None,  # noqa: A002 - as check_crashes has it
    *,
    points: str | int | list[str] = 20,
    seed: int = 0,
    callbacks: Mapping[str, Any] | None = None,
    wall_timeout: float = 30.0,
    raises: bool = True,
    command: str = "",
) -> CrashReport:
    """The same as `check_crashes` with `kill -9`: `reference` is MODULE:HANDLER, so that a process can load it.

    Each run takes two processes, about a second. `callbacks` are answered by their names. At-most-once bodies are
    counted over all processes of a run.
    """
    loaded = load_handler(reference)
    with tempfile.TemporaryDirectory(prefix="perdure-crash-test-") as folder:
        check = ProcessCheck(loaded.handler, input, seed, reference, callbacks or {}, Path(folder), wall_timeout)
        report = check.report(chosen(points), workers=1, pairs=False, sequences=0, command=command)
    if raises and not report.passed:
        raise CrashCheckFailed(report)
    return report


class ProcessCheck(Check):
    """A check whose runs are processes."""

    looks_max = 3

    def __init__(
        self,
        handler: Callable[..., Any],
        given: Any,
        seed: int,
        reference: str,
        callbacks: Mapping[str, Any],
        folder: Path,
        wall_timeout: float,
    ) -> None:
        super().__init__(handler, given, None, seed, None, {})
        self._reference = reference
        self._callbacks = dict(callbacks)
        self._folder = folder
        self._wall_timeout = wall_timeout
        self._runs = 0

    def points_of(self, trace: Trace) -> list[Point]:
        """Those at which a process dies: its requests and their answers go astray in the same process."""
        return [each for each in trace.points() if each.where not in (Where.ANSWER_LOST, Where.SENT_TWICE)]

    def run(self, points: Collection[Point], *, seed: int, strict: Any = "off") -> Ran:
        self._runs += 1
        folder = self._folder / str(self._runs)
        folder.mkdir()
        spec = {
            "reference": self._reference,
            "input": self._input,
            "seed": seed,
            "strict": str(strict),
            "callbacks": self._callbacks,
            "points": [str(point) for point in points],
            "wall_timeout": self._wall_timeout,
            "folder": str(folder),
        }
        for start in range(STARTS_MAX):
            code, said = _start({**spec, "points": spec["points"] if start == 0 else []})
            if code == 0:
                return _read(folder, self._function, was_killed=start > 0)
            if code != -signal.SIGKILL:
                raise ProcessBroken(f"a process of the check left with exit code {code}: {said.strip()[-500:]}")
        raise ProcessBroken(f"a process that was killed once was begun {STARTS_MAX} times, and did not come to its end")


def _start(spec: dict[str, Any]) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "perdure.testing.crashing.process", json.dumps(spec)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, done.stderr


def _read(folder: Path, function: str, *, was_killed: bool) -> Ran:
    """What the processes of a run have left behind."""
    found = json.loads((folder / "end.json").read_text())
    missed = [] if was_killed else [to_point(text) for text in found["missed"]]
    watch = Watch(function, missed, Ledger(None))
    watch.trace.restore({to_point(text): what for text, what in found["points"]})
    watch.findings = found["findings"]
    started: dict[tuple[str, int], int] = {}
    for line in (folder / "bodies.jsonl").read_text().splitlines():
        body = BodyRun(*json.loads(line))
        watch.trace.bodies.append(body)
        times = started[body.operation_id, body.attempt] = started.get((body.operation_id, body.attempt), 0) + 1
        if times > 1 and body.is_once:
            text = (
                f"the body of '{body.name}' ({body.where}) ran twice in attempt {body.attempt}, and it is at most once"
            )
            watch.violations.append(text)
        elif times > 1:
            watch.repeats.append(Repeat(body))
    if found["stuck"]:
        return Ran(watch, None, found["stuck"])
    return Ran(watch, Ending(**found["ending"]))


# --- in the process ----------------------------------------------------------------------------------------------


class KilledWatch(Watch):
    """A watch whose points are the death of this very process."""

    def __init__(self, function: str, points: Collection[Point], folder: Path) -> None:
        super().__init__(function, points, Ledger(None))
        self._folder = folder
        self.now_ms: Callable[[], int] = lambda: 0

    def body_begins(self, execution: str, body: BodyRun, by: object) -> Repeat | None:
        with (self._folder / "bodies.jsonl").open("a") as file:
            print(json.dumps(body), file=file, flush=True)
        return super().body_begins(execution, body, by)

    def cut_off(self, execution: str) -> NoReturn:
        (self._folder / "clock").write_text(str(self.now_ms()))
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("it should be dead")


def main(spec: Mapping[str, Any]) -> None:
    """Run the execution, or go on with it, and leave behind what became of it."""
    folder = Path(spec["folder"])
    loaded = load_handler(spec["reference"])
    watch = KilledWatch(loaded.name, [to_point(text) for text in spec["points"]], folder)
    (folder / "bodies.jsonl").touch()
    clock = folder / "clock"
    start_time = datetime.fromtimestamp(int(clock.read_text()) / 1000, UTC) if clock.exists() else None
    runner = WatchedRunner(
        loaded.handler,
        watch,
        store=str(folder / "store.db"),
        start_time=start_time,
        schedule_seed=spec["seed"],
        strict=spec["strict"],
        wall_timeout=spec["wall_timeout"],
    )
    stuck, ending = "", None
    with warnings.catch_warnings(record=True) as caught, runner:
        warnings.simplefilter("always", NonDeterminismWarning)
        watch.now_ms = runner.clock.now_ms
        for name, handler in loaded.functions.items():
            if name != loaded.name:
                runner.register_durable_function(name, handler)
        for name, answer in spec["callbacks"].items():
            runner.auto_callback(name, answer)
        try:
            execution = runner.start(spec["input"], name=NAME)
            runner.finish(execution)
            ending = ending_of(runner.backend.facts(execution), None)
        except WallTimeout as error:
            stuck = f"it does not come to an end: {error}"
    end = {
        "stuck": stuck,
        "ending": None if ending is None else {**ending._asdict(), "loose": sorted(ending.loose), "effects": None},
        "points": [(str(point), watch.trace.what(point)) for point in watch.trace.points()],
        "missed": [str(point) for point in watch.missed],
        "findings": [str(each.message) for each in caught if isinstance(each.message, NonDeterminismWarning)],
    }
    (folder / "end.json").write_text(json.dumps(end))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
