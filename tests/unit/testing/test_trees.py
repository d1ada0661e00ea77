"""An execution as text says what it did, what it waits for, and who may answer."""

from datetime import timedelta
from typing import Any

import pytest

from perdure import DurableContext, durable_execution
from perdure.config import CallbackConfig
from perdure.testing import LocalRunner, tree_of
from perdure.testing.tree import SHOWN_MAX, human
from perdure.waits import WaitForConditionConfig, WaitForConditionDecision
from support.kit import every, run, shop


def test_a_tree_has_a_line_for_each_operation_with_its_outcome() -> None:
    result = run(shop, 7)
    assert result.tree() == "\n".join(
        [
            f"{result.name} SUCCEEDED (22 operations, 5 invocations, 1 h 1 min)",
            "├─ validate              STEP SUCCEEDED               True",
            "├─ orders                Map SUCCEEDED                3 of 3 succeeded, ALL_COMPLETED",
            "│  ├─ map-item-0         MapIteration SUCCEEDED       'tea'",
            "│  │  ├─ reserve         STEP SUCCEEDED               'tea'",
            "│  │  ├─ charge          STEP SUCCEEDED               'TEA'",
            "│  │  └─ charge          STEP SUCCEEDED               'TEA'",
            "│  ├─ map-item-1         MapIteration SUCCEEDED       'milk'",
            "│  │  ├─ reserve         STEP SUCCEEDED               'milk'",
            "│  │  ├─ charge          STEP SUCCEEDED               'MILK'",
            "│  │  └─ charge          STEP SUCCEEDED               'MILK'",
            "│  └─ map-item-2         MapIteration SUCCEEDED       'jam'",
            "│     ├─ reserve         STEP SUCCEEDED               'jam'",
            "│     ├─ charge          STEP SUCCEEDED               'JAM'",
            "│     └─ charge          STEP SUCCEEDED               'JAM'",
            "├─ cool down             WAIT SUCCEEDED               took 1 h",
            "├─ (Wait)                WAIT SUCCEEDED               took 1 min",
            "├─ tell                  Parallel SUCCEEDED           2 of 2 succeeded, ALL_COMPLETED",
            "│  ├─ parallel-branch-0  ParallelBranch SUCCEEDED     1",
            "│  │  └─ mail            STEP SUCCEEDED               1",
            "│  └─ parallel-branch-1  ParallelBranch SUCCEEDED     2",
            "└─ bill                  RunInChildContext SUCCEEDED  12; took 10 s",
            "   └─ charge             STEP SUCCEEDED               3 attempts; 12; took 10 s",
        ]
    )


def test_what_is_pending_says_until_when_and_who_may_answer() -> None:
    @durable_execution
    def handler(_event: Any, context: DurableContext) -> None:
        def fails(_: Any) -> None:
            raise ValueError("no " + "luck " * 30)

        def never(_state: int) -> int:
            return 0

        def again(_state: int, _attempt: int) -> WaitForConditionDecision:
            return WaitForConditionDecision.continue_waiting(60)

        context.parallel(
            [
                lambda inner: inner.wait(3600, name="pause"),
                lambda inner: inner.step(fails, name="fails", config=every(10, 2)),
                lambda inner: inner.create_callback(name="ask", config=CallbackConfig(timeout=86_400)).result(),
                lambda inner: inner.wait_for_callback(lambda _id: None, name="approve"),
                lambda inner: inner.invoke("slow", None, name="other"),
                lambda inner: inner.wait_for_condition(never, WaitForConditionConfig(again, 0), name="poll"),
            ],
            name="all",
        )

    @durable_execution
    def slow(_event: Any, context: DurableContext) -> None:
        context.wait(86_400 * 30)

    with LocalRunner(handler) as runner:
        runner.register_durable_function("slow", slow)
        early = runner.run(until="suspended")
    at = early.facts.start_ms
    lines = tree_of(early.facts, now_ms=at + 1_000).splitlines()

    def said(name: str) -> str:
        (line,) = [line for line in lines if f" {name} " in line]
        return line.split("  ")[-1]

    start = early.start_timestamp
    assert lines[0].startswith(f"{early.name} RUNNING (")
    assert said("pause") == f"due at {_iso(start + timedelta(hours=1))} (in 59 min 59 s)"
    assert said("fails").startswith("attempt 1 failed: ValueError: no luck luck")
    assert said("fails").endswith(f"…; next at {_iso(start + timedelta(seconds=10))} (in 9 s)")
    callback = early.callbacks[0]
    assert (
        said("ask")
        == f"callback id {callback.callback_id}; times out at {_iso(start + timedelta(days=1))} (in 23 h 59 min)"
    )
    assert said("approve create callback id").endswith("; no time-out")
    assert said("other") == "of function 'slow'"
    assert said("poll") == f"looked 1 times; next at {_iso(start + timedelta(minutes=1))} (in 59 s)"
    assert "(due since 1 h)" in tree_of(early.facts, now_ms=at + 7_200_000)


def _iso(at: Any) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def test_invocations_that_crashed_are_told() -> None:
    @durable_execution
    def handler(_event: Any, context: DurableContext) -> None:
        def dies(_: Any) -> None:
            raise SystemExit(3)

        context.step(dies, name="dies")

    result = run(handler)
    assert "invocation 1 CRASHED: Runtime.ExitError: the handler left with exit code 3" in result.tree()


def test_a_crowd_is_counted_after_the_first_ones() -> None:
    result = run(shop)
    facts = result.facts

    @durable_execution
    def handler(_event: Any, context: DurableContext) -> None:
        for _ in range(SHOWN_MAX + 3):
            context.step(lambda _: 1, name="same")

    lines = run(handler).tree().splitlines()
    assert lines[-1] == "└─ … and 3 more"
    assert len(lines) == SHOWN_MAX + 2
    assert tree_of(facts) == result.tree()


def test_a_table_has_the_columns_that_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(shop)
    result.print(columns=("path", "attempts", "duration", "outcome"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{result.name} SUCCEEDED (22 operations")
    assert lines[1].split() == ["path", "attempts", "duration", "outcome"]
    assert lines[-1].split() == ["bill/charge", "3", "10", "s", "12"]
    assert len(lines) == 3 + 22
    with pytest.raises(ValueError, match="no column 'colour'; there are: path, name, type"):
        result.print(columns=("colour",))
    for column in ("name", "type", "sub_type", "status", "start", "end", "error", "id", "operations", "bytes"):
        result.print(columns=(column,))
    result.print()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (0.25, "0.25 s"), (59, "59 s"), (60, "1 min"), (3_661, "1 h 1 min"), (86_400 * 3 + 7, "3 d 7 s")],
)
def test_a_duration_is_said_as_people_say_it(seconds: float, said: str) -> None:
    assert human(timedelta(seconds=seconds)) == said
