"""Tests that are written from stored executions run green, and say what the execution did."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import perdure
from perdure.model.error import ResourceConflict
from perdure.testing import LocalRunner, WallTimeout, recorded_error, recorded_value
from perdure.testing.histories import History, history_of_facts, read_history, write_history
from perdure.testing.reproducing import write_test
from perdure.worker.loading import load_functions

CODE = '''
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from perdure import (
    CompletionConfig, Duration, InvokeError, MapConfig, RetryDecision, StepConfig, StepError, WaitForConditionConfig,
    durable_execution, fixed_wait,
)

IS_REAL = True


def real(value):
    """What a body does: never in a reproduction, for which IS_REAL is changed."""
    if not IS_REAL:
        raise AssertionError("a real body has run")
    return value


@dataclass
class Card:
    number: str
    limit: Decimal


class NoMoney(Exception):
    pass


FAILURES = []


def flaky(_):
    real(None)
    FAILURES.append(1)
    if len(FAILURES) % 3:
        raise ConnectionError(f"try {len(FAILURES)}")
    return "at last"


def card(_) -> Card:
    return real(Card("4711", Decimal("99.5")))


def broke(_):
    real(None)
    raise NoMoney("nothing left")


def patiently(_error, attempt):
    return RetryDecision.retry(2) if attempt < 5 else RetryDecision.no_retry()


@durable_execution(name="order")
def order(event, context):
    paid = context.step(card, name="card")
    when = context.step(lambda _: real({"at": datetime(2026, 1, 31, tzinfo=UTC), "ids": (1, {2})}), name="when")
    text = context.step(flaky, name="flaky", config=StepConfig(patiently))
    context.wait(Duration.from_days(1), name="cool-down")
    try:
        context.step(broke, name="broke", config=StepConfig(lambda _e, _n: RetryDecision.no_retry()))
        known = "?"
    except StepError as error:
        known = error.message
    return [paid.number, when["at"].year, text, known, event["n"], context.now().year]


@durable_execution(name="many")
def many(event, context):
    def one(child, item, index):
        child.wait(item, name="pause")
        return child.step(lambda _: real(item * 10), name="ten")

    first = context.map(event, one, name="all", config=MapConfig(max_concurrency=2)).get_results()
    again = context.run_in_child_context(lambda child: child.step(lambda _: real("inner"), name="ten"), name="box")
    polls = context.wait_for_condition(
        lambda state: real(state + 1),
        WaitForConditionConfig(fixed_wait(lambda state: state < 3, delay=2), 0),
        name="poll",
    )
    unnamed = context.step(lambda _: real(5))
    unnamed += context.step(lambda _: real(6))
    return {"first": first, "again": again, "polls": polls, "unnamed": unnamed}


@durable_execution(name="asks")
def asks(event, context):
    said = [context.wait_for_callback(lambda _id: real(None), name="approval") for _ in range(2)]
    try:
        context.wait_for_callback(lambda _id: real(None), name="refusal")
    except Exception as error:
        said.append(str(error))
    said.append(context.invoke("helper", {"a": 1}, name="one"))
    said.append(context.invoke("helper", {"a": 2}, name="two"))
    try:
        context.invoke("broken", 1, name="three")
    except InvokeError as error:
        said.append(error.message)
    return said


@durable_execution(name="fails")
async def fails(event, context):
    await context.step(lambda _: real(1), name="first")
    raise NoMoney("none at all")
'''

Act = Callable[[Any], None]


def nothing(_execution: Any) -> None:
    """The execution needs nobody."""


def answer(execution: Any) -> None:
    execution.callback("approval").succeed('"yes"')
    execution.callback("approval", 1).succeed()
    execution.callback("refusal").fail("Refused", "not today", "data")


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))  # what is there afterwards goes with the test
    del sys.modules["shop"]
    Path("shop.py").write_text(CODE)
    return load_functions("shop.py").functions


def history_of_run(handler: Any, event: Any, act: Act = nothing, name: str = "one") -> History:
    """What is stored of an execution of the real code, as it comes out of a file."""
    with LocalRunner(handler) as runner:
        numbers = iter([{"answer": 42}, ["another"]])
        runner.register_function("helper", lambda _event, _context: next(numbers))
        runner.invoke_target("broken").fails("went wrong", type="shop.NoMoney")
        execution = runner.start(event, name=name)
        act(execution)
        facts = execution.result().facts
    return read_history(json.loads(json.dumps(write_history(history_of_facts(facts)))))


@pytest.mark.parametrize(
    ("function", "event", "act"),
    [
        ("order", {"n": 2}, nothing),
        ("many", [3, 1, 2], nothing),
        ("asks", None, answer),
        ("fails", {"x": None}, nothing),
    ],
)
def test_a_test_of_a_stored_execution_is_green_and_runs_no_body(
    code: dict[str, Any], function: str, event: Any, act: Act
) -> None:
    text = write_test(history_of_run(code[function], event, act), "shop", function)
    changed = CODE.replace("IS_REAL = True", "IS_REAL = False")
    run_written(text, changed)
    with pytest.raises((AssertionError, WallTimeout)):
        run_written(text, changed.replace(', name="', ', name="new-'))


def run_written(text: str, code: str) -> None:
    """Run the tests in a written file, with this code in the module that it imports."""
    sys.modules["shop"] = module = ModuleType("shop")
    exec(compile(code, "shop.py", "exec"), vars(module))
    written: dict[str, Any] = {}
    exec(compile(text, "test_stored.py", "exec"), written)
    for name, test in list(written.items()):
        if name.startswith("test_"):
            test()


def test_the_file_is_one_that_pytest_runs(code: dict[str, Any]) -> None:
    Path("test_stored.py").write_text(write_test(history_of_run(code["order"], {"n": 2}), "shop", "order"))
    sources = str(Path(perdure.__file__).parents[1])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_stored.py"]
    said = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=50, env={**os.environ, "PYTHONPATH": sources}
    )
    assert said.returncode == 0, said.stdout


def test_a_written_test_reads_well(code: dict[str, Any]) -> None:
    text = write_test(history_of_run(code["order"], {"n": 2}), "shop", "order")
    for told in (
        "from shop import order",
        "def test_order_one() -> None:",
        "returns={'at': datetime.datetime(2026, 1, 31, 0, 0, ",
        "    recorded_error('ConnectionError', 'try 1'),",
        "recorded_error('shop.NoMoney', 'nothing left')",
        "execution = runner.start({'n': 2}, name='one')",
        "result.assert_operations(['card', 'when', 'flaky', 'cool-down', 'broke'])",
    ):
        assert told in text
    compile(text, "test_stored.py", "exec")


def test_of_an_execution_that_has_not_ended_by_itself_no_test_is_made(code: dict[str, Any]) -> None:
    with LocalRunner(code["order"]) as runner:
        execution = runner.start({"n": 1})
        execution.stop("enough")
        stopped = history_of_facts(execution.result().facts)
    with pytest.raises(ResourceConflict, match="is STOPPED"):
        write_test(stopped, "shop", "order")


def test_recorded_errors_are_of_their_own_class_or_of_one_that_is_recorded_alike() -> None:
    assert repr(recorded_error("ValueError", "no")) == "ValueError('no')"
    own = recorded_error("nowhere.NoMoney", "none")
    assert (type(own).__module__, type(own).__qualname__, str(own)) == ("nowhere", "NoMoney", "none")
    assert type(recorded_error("perdure.exceptions.CallbackError", "late")).__name__ == "CallbackError"


def test_recorded_values_are_made_of_their_classes() -> None:
    payload = '{"t":"object","c":"perdure.config.Duration","v":{"seconds":{"t":"i","v":5}}}'
    assert recorded_value(payload).seconds == 5
    assert recorded_value("[1, 2]") == [1, 2]
