"""The runners that one test makes: how they are made, what they came to, and what else is asked of them at its end."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from perdure.testing.modes import Mode, chosen, make_runner

if TYPE_CHECKING:
    from perdure.testing.clock import VirtualClock
    from perdure.testing.facts import Facts
    from perdure.testing.local_runner import LocalRunner
    from perdure.testing.result import Result
    from perdure.testing.runner import Runner

Handler = Callable[..., Any]

EVENTS_SHOWN: Final = 10
LOGS_SHOWN: Final = 50
PATH_MAX: Final = 100


class Wishes(msgspec.Struct, frozen=True):
    """What is asked of each test beside what it says itself.

    `crashes`: that its executions come to the same with a crash anywhere. `histories`: a folder with histories of
    executions, which the code that the test runs must be able to go on with. `save`: a folder for the histories of its
    own executions.
    """

    crashes: bool = False
    histories: Path | None = None
    save: Path | None = None


class Made:
    """Makes runners for one test: called with a handler, and options of LocalRunner; they are closed at its end.

    What the test is marked with, `@pytest.mark.durable(handler=…, input=…, skip_time=…, …)`, is what is left out here.
    """

    def __init__(self, test: str, defaults: Mapping[str, Any], wishes: Wishes) -> None:
        given = dict(defaults)
        self._test = test
        self._handler: Handler | None = given.pop("handler", None)
        self._input = given.pop("input", None)
        self._options = given
        self._wishes = wishes
        self._clock: VirtualClock | None = None
        self.runners: list[Runner] = []
        self.handlers: list[Handler] = []
        self._given: list[dict[str, Any]] = []

    def __call__(self, handler: Handler | None = None, **options: Any) -> Any:
        """A new runner."""
        handler = handler or self._handler
        if handler is None:
            raise ValueError(
                "which handler is to be run? Write perdure_runner(handler), or mark the test: "
                "@pytest.mark.durable(handler=handler)"
            )
        if self._clock is not None:
            options.setdefault("clock", self._clock)
        options = {**self._options, **options}
        runner: Runner = make_runner(handler, **options)
        self.runners.append(runner)
        self.handlers.append(handler)
        self._given.append(options)
        return runner

    def run(self, input: Any = None, **options: Any) -> Any:  # noqa: A002 - the official name
        """The Result of the marked handler, run with `input` or else with what the mark says."""
        return self().run(self._input if input is None else input, **options)

    def use_clock(self, clock: "VirtualClock") -> None:
        """Have all runners from now on be on this clock."""
        self._clock = clock

    def close(self) -> None:
        """Close all runners, the last one first."""
        while self.runners:
            self.runners.pop().close()

    # --- what they came to ---------------------------------------------------------------------------------------

    def results(self) -> "Iterator[tuple[Runner, Result]]":
        """The executions of all runners, as they stand now."""
        for runner in self.runners:
            for execution in runner.executions:
                yield runner, runner.result_of(execution)

    def report(self) -> str:
        """All executions with their trees, last events and logs, for the report of a failed test."""
        return "\n\n".join(described(result, _now_ms(runner)) for runner, result in self.results())

    # --- when the test has passed --------------------------------------------------------------------------------

    def check(self) -> None:
        """Do what is wished for; AssertionError if a wish is not met."""
        if self._wishes.save is not None:
            self._save(self._wishes.save)
        if self._wishes.histories is not None:
            self._replay(self._wishes.histories)
        if self._wishes.crashes and chosen().mode is Mode.LOCAL:
            self._crash()

    def _save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (_runner, result) in enumerate(self.results(), 1):
            result.save(folder / f"{file_name(self._test)}-{number}.history.json")

    def _replay(self, folder: Path) -> None:
        from perdure.testing.gates import check_histories

        for handler in self.handlers:
            check_histories(handler, folder)

    def _crash(self) -> None:
        from perdure.testing.gates import check_all_crashes

        for runner, handler, options in zip(self.runners, self.handlers, self._given, strict=True):
            check_all_crashes(cast("LocalRunner", runner), handler, options)


def described(result: "Result", now_ms: int | None) -> str:
    """An execution as text: its tree, its last events, what it has logged."""
    facts = result.facts
    parts = [result.tree(now_ms=now_ms), *_events(facts), *_logs(facts)]
    return "\n".join(parts)


def _events(facts: "Facts") -> list[str]:
    shown = facts.events[-EVENTS_SHOWN:]
    if not shown:
        return []
    names = {operation.id: operation.name for operation in facts.operations}
    lines = ["", "last events:" if len(shown) < len(facts.events) else "events:"]
    for event in shown:
        operation_id = getattr(event.event, "operation_id", None)
        name = names.get(operation_id) if operation_id is not None else None
        after_s = (event.event.at_ms - facts.start_ms) / 1000
        lines.append(f"{event.event_id:>5}  +{after_s:<12g} {event.type}{f' {name!r}' if name else ''}")
    return lines


def _logs(facts: "Facts") -> list[str]:
    shown = facts.logs[-LOGS_SHOWN:]
    if not shown:
        return []
    lines = ["", "logs:"]
    for record in shown:
        where = getattr(record, "operationName", None) or ""
        lines.append(f"  {record.levelname:<8} {f'{where}: ' if where else ''}{record.getMessage()}")
    return lines


def _now_ms(runner: "Runner") -> int | None:
    clock = runner.backend.clock
    return clock.now_ms() if clock is not None else None


def file_name(test: str) -> str:
    """A test's id as the name of a file."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", test.replace(os.sep, "-")).strip("-")[-PATH_MAX:]


__all__: Sequence[str] = ("Made", "Wishes", "described", "file_name")
