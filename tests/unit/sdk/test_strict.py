"""The guard against what a replay would not repeat."""

import datetime
import logging
import os
import random
import secrets
import socket
import subprocess
import sys
import time
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from random import choice
from time import time as clock
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from perdure import (
    AsyncDurableContext,
    DurableContext,
    MapConfig,
    NonDeterminismError,
    NonDeterminismWarning,
    RetryDecision,
    StepConfig,
    ValidationError,
    durable_execution,
)
from perdure.model.execution import ExecutionStatus
from perdure.sdk.strictness import Strict, strict, to_strict
from support.local import Local

HERE = Path(__file__)

UNREPEATABLE: dict[str, Callable[[], Any]] = {
    "time.time": lambda: time.time(),
    "time.time_ns": lambda: time.time_ns(),
    "time.monotonic": lambda: time.monotonic(),
    "datetime.now": lambda: datetime.datetime.now(datetime.UTC),
    "date.today": lambda: datetime.date.today(),  # noqa: DTZ011
    "random.random": lambda: random.random(),
    "random.choice": lambda: choice([1, 2]),
    "random.Random": lambda: random.Random().random(),
    "uuid.uuid4": lambda: uuid.uuid4(),
    "uuid.uuid1": lambda: uuid.uuid1(),
    "secrets.token_hex": lambda: secrets.token_hex(),
    "os.urandom": lambda: os.urandom(4),
    "os.getpid": lambda: os.getpid(),
    "open": lambda: HERE.read_text(),
    "os.listdir": lambda: os.listdir(),  # noqa: PTH208
    "socket.socket": lambda: socket.socket().close(),
    "subprocess.Popen": lambda: subprocess.run([sys.executable, "-V"], check=True, capture_output=True),
    "time.sleep": lambda: time.sleep(0),
}

REPEATABLE: dict[str, Callable[[], Any]] = {
    "a generator with a seed": lambda: random.Random(7).random(),
    "a moment": lambda: datetime.datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Zurich")).isoformat(),
    "a UUID that is known": lambda: uuid.UUID(int=7),
    "a log record": lambda: logging.getLogger("orders").warning("paid"),
    "an import": lambda: __import__("colorsys"),
}


def run(body: Callable[[DurableContext], Any]) -> Any:
    """How an execution ended whose handler is `body`."""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> str:
        return str(body(context))

    return Local(handler).run().view


def run_async(body: Callable[[], Any]) -> Any:
    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> str:
        await context.step(lambda _: 1)
        return str(body())

    return Local(handler).run().view


@pytest.fixture(autouse=True)
def strictly() -> Any:
    with strict():
        yield


@pytest.mark.parametrize("name", UNREPEATABLE)
def test_what_a_replay_would_not_repeat_fails_the_execution_and_says_where_it_was_called(name: str) -> None:
    call = UNREPEATABLE[name]
    view = run(lambda _: call())

    assert view.status is ExecutionStatus.FAILED
    assert view.error.type.endswith("NonDeterminismError")
    assert view.error.message.startswith(f"{name} was called at {__file__}:{call.__code__.co_firstlineno}, in <lambda>")


@pytest.mark.parametrize("name", UNREPEATABLE)
def test_it_may_be_done_in_a_step(name: str) -> None:
    assert run(lambda context: context.step(lambda _: str(UNREPEATABLE[name]()))).status is ExecutionStatus.SUCCEEDED


@pytest.mark.parametrize("name", UNREPEATABLE)
def test_a_handler_on_a_loop_is_guarded_as_well(name: str) -> None:
    assert name in run_async(UNREPEATABLE[name]).error.message


@pytest.mark.parametrize("name", REPEATABLE)
def test_what_a_replay_repeats_is_left_alone(name: str) -> None:
    assert run(lambda _: REPEATABLE[name]()).status is ExecutionStatus.SUCCEEDED
    assert run_async(REPEATABLE[name]).status is ExecutionStatus.SUCCEEDED


def test_a_function_is_found_however_it_was_imported() -> None:
    assert "time.time was called" in run(lambda _: clock()).error.message


def test_branches_and_children_are_guarded_and_steps_in_them_are_not() -> None:
    def branch(context: DurableContext, item: int) -> float:
        return context.step(lambda _: clock()) if item else clock()

    assert "time.time" in run(lambda context: context.map([0], branch).get_results()).error.message
    assert "time.time" in run(lambda context: context.map([1, 0, 1], branch).throw_if_error()).error.message
    assert "time.time" in run(lambda context: context.run_in_child_context(lambda _: clock())).error.message
    assert run(lambda context: context.map([1, 2, 3], branch).success_count).status is ExecutionStatus.SUCCEEDED


def test_what_a_context_gives_instead_is_the_way_out() -> None:
    message = run(lambda _: clock()).error.message
    assert message.endswith("context.now() is the same in every replay; for the clock itself, read it in a step")
    assert run(lambda c: (c.now(), c.uuid4(), c.random().random())).status is ExecutionStatus.SUCCEEDED


def test_an_error_that_the_handler_swallows_counts_all_the_same() -> None:
    def swallowing(context: DurableContext) -> str:
        try:
            clock()
        except Exception:
            pass
        return context.step(lambda _: "done")

    assert run(swallowing).status is ExecutionStatus.FAILED


def test_strategies_may_draw_lots() -> None:
    def impatient(_error: Exception, attempts: int) -> RetryDecision:
        return RetryDecision.retry(1) if random.random() < 2 and attempts < 2 else RetryDecision.no_retry()

    def once(context: DurableContext) -> int:
        return context.step(lambda step: 1 // (step.attempt - 1), config=StepConfig(impatient))

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        return await context.step(lambda step: 1 // (step.attempt - 1), config=StepConfig(impatient))

    assert run(once).status is ExecutionStatus.SUCCEEDED
    assert Local(handler).run().status is ExecutionStatus.SUCCEEDED


def test_names_are_part_of_what_a_replay_must_repeat() -> None:
    config = MapConfig(item_namer=lambda item, _: f"{item}-{clock()}")

    assert "time.time" in run(lambda context: context.map([1], lambda _, item: item, config=config)).error.message


def test_a_warning_names_file_and_line_and_lets_the_handler_go_on() -> None:
    with strict("warn"), pytest.warns(NonDeterminismWarning, match=r"time\.time was called") as caught:
        assert run(lambda context: (clock(), context.step(lambda _: 1))).status is ExecutionStatus.SUCCEEDED
    assert caught[0].filename == __file__


def test_off_is_off() -> None:
    with strict("off"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(lambda _: clock()).status is ExecutionStatus.SUCCEEDED


def test_a_profiler_of_somebody_elses_is_left_alone() -> None:
    def theirs(*_: object) -> None: ...

    sys.setprofile(theirs)
    try:
        run(lambda context: context.step(lambda _: clock()))
        assert sys.getprofile() is theirs
    finally:
        sys.setprofile(None)
    run(lambda context: context.step(lambda _: clock()))
    assert sys.getprofile() is None


def test_a_function_may_be_guarded_by_itself() -> None:
    @durable_execution(name="f")
    def handler(event: Any, context: DurableContext) -> float:
        return clock()

    with strict(Strict.OFF):
        assert Local(handler).run().status is ExecutionStatus.SUCCEEDED
        handler.__perdure__ = msgspec.structs.replace(handler.__perdure__, strict=Strict.RAISE)  # type: ignore[attr-defined]
        assert Local(handler).run().status is ExecutionStatus.FAILED


def test_strictness_is_asked_for_by_the_environment() -> None:
    code = "from perdure.sdk import strictness; print(strictness.mode.value)"

    def mode(value: str | None) -> str:
        environment = {name: text for name, text in os.environ.items() if name != "PERDURE_STRICT"}
        if value is not None:
            environment["PERDURE_STRICT"] = value
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip() + (" and a warning" if "PERDURE_STRICT must be" in done.stderr else "")

    assert [mode(value) for value in (None, "0", "1", "raise", "warn")] == ["off", "off", "raise", "raise", "warn"]
    assert mode("very") == "off and a warning"


def test_a_mode_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValidationError, match="strict must be 'off', 'warn' or 'raise', not 'maybe'"):
        to_strict("maybe")
    assert issubclass(NonDeterminismError, Exception)
