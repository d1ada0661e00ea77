"""An execution comes to the same end wherever its process dies. Numbers in brackets: checklist of the tooling."""

import asyncio
import json
import random
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    AsyncDurableContext,
    CompletionConfig,
    DurableContext,
    MapConfig,
    RetryDecision,
    StepConfig,
    StepContext,
    StepError,
    StepSemantics,
    ValidationError,
    durable_execution,
)
from perdure.testing import CrashCheckFailed, CrashReport, Effects, LocalRunner, check_crashes
from perdure.worker.loading import load_handler

ROOT = Path(__file__).resolve().parents[2]
ONCE = StepSemantics.AT_MOST_ONCE_PER_RETRY


def line_of(function: Callable[..., Any]) -> str:
    code = function.__code__
    file = Path(code.co_filename)
    return f"{file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}:{code.co_firstlineno}"


def failed(handler: Any, given: Any = None, **how: Any) -> CrashReport:
    """The report of a check that fails."""
    with pytest.raises(CrashCheckFailed) as caught:
        check_crashes(handler, given, **how)
    return caught.value.report


# --- programs that are right -------------------------------------------------------------------------------------


@durable_execution
def tour(event: Any, context: DurableContext) -> Any:
    """One of everything that takes no answer."""
    first = context.step(lambda _: 1, name="first")
    context.wait(3600, name="an hour")
    items = context.map([1, 2, 3], lambda inner, item: inner.step(lambda _: item, name="item"), name="items")
    child = context.run_in_child_context(lambda inner: inner.step(lambda _: 2, name="within"), name="child")
    started = context.start.step(lambda _: "beside", name="beside")
    failing = context.step(stumbling, name="stumbling", config=StepConfig(lambda *_: RetryDecision.retry(5)))
    return [first, items.get_results(), child, started.result(), failing]


def stumbling(step: StepContext) -> int:
    if step.attempt < 3:
        raise ValueError("not yet")
    return step.attempt


@durable_execution
async def tour_on_a_loop(event: Any, context: AsyncDurableContext) -> Any:
    async def polite(_: StepContext) -> str:
        await asyncio.sleep(0)
        return "awaited"

    first = await context.step(polite, name="first")
    await context.wait(60)
    many = await context.gather(*(context.step(lambda _, n=n: n, name=f"step-{n}") for n in range(3)))
    return [first, list(many)]


@pytest.mark.parametrize("handler", [tour, tour_on_a_loop], ids=["blocking", "on a loop"])
def test_a_handler_that_is_right_passes_at_every_point(handler: Any) -> None:
    report = check_crashes(handler)

    assert report.passed
    assert len(report.outcomes) > 20
    assert report.count("passed") + report.count("repeated") + report.count("not reached") == len(report.outcomes)
    assert report.count("passed") > 5


def example(name: str) -> Any:
    return load_handler(f"{ROOT / 'examples' / name}:handler").handler


def test_the_order_saga_passes_and_says_that_its_payment_may_be_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[T61]"""
    bookings = tmp_path / "bookings.log"
    monkeypatch.setenv("BOOKINGS", str(bookings))

    def by_key() -> list[str]:
        """Partners know a request by its key: one that comes twice is one."""
        return sorted(set(bookings.read_text().splitlines())) if bookings.exists() else []

    report = check_crashes(
        example("order_saga/order_saga.py"),
        {"trip": "lisbon", "cents": 42_000},
        setup=lambda _: bookings.unlink(missing_ok=True),
        effects=by_key,
    )

    cut_off = [each for each in report.outcomes if each.verdict == "interrupted"]
    assert cut_off
    assert all("'pay' runs at most once, and was cut off" in each.problems[0] for each in cut_off)
    assert all("'state'" in "".join(each.problems) for each in cut_off)


def test_the_files_and_the_approval_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[T61]"""
    monkeypatch.setenv("MAILS", str(tmp_path / "mails.log"))

    assert check_crashes(example("files/files.py"), {"folder": str(ROOT / "examples/files/invoices")}).passed
    assert check_crashes(example("approval/approval.py"), {"what": "cups"}).passed


def test_the_espresso_passes_with_a_barista_who_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """[T61]"""
    handler = example("espresso/espresso.py")
    monkeypatch.setitem(handler.__perdure__.handler.__globals__, "note", lambda *_: None)
    monkeypatch.setattr(time, "sleep", lambda _: None)

    report = check_crashes(
        handler,
        {"order": 7, "drink": "cortado", "cents": 320},
        setup=lambda runner: runner.auto_callback("barista", "Ada"),
    )

    assert report.count("interrupted") > 0


# --- programs that are not ---------------------------------------------------------------------------------------


def test_what_a_body_changes_outside_of_itself_is_found_after_its_first_checkpoint() -> None:
    """[T61]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> int:
        seen: list[int] = []
        context.step(lambda _: seen.append(1), name="load")
        context.step(lambda _: 3, name="next")
        return len(seen)

    report = failed(handler)

    first = report.first_failure
    assert first is not None
    assert [str(point) for point in first.points] == ["lost answer of checkpoint 1"]
    assert first.what.endswith("(START 'load', SUCCEED 'load')")
    assert first.problems[0] == "the result is 0 instead of 1"
    assert "return it from the step" in first.problems[1]
    assert report.verdict("before checkpoint 1") == "repeated"
    assert report.verdict("after checkpoint 1") == "failed"


def charging(effects: Effects, semantics: StepSemantics = StepSemantics.AT_LEAST_ONCE_PER_RETRY) -> Any:
    def charge(_: StepContext) -> str:
        effects.record("charge", cents=320)
        return "paid"

    @durable_execution
    def handler(event: Any, context: DurableContext) -> str:
        context.step(lambda _: 320, name="quote")
        config = StepConfig(lambda *_: RetryDecision.no_retry(), semantics)
        try:
            return context.step(charge, name="charge", config=config)
        except StepError:
            return "is it paid?"

    handler.charge = charge  # type: ignore[attr-defined]
    return handler


def test_a_charge_that_is_made_twice_is_found_where_its_process_dies_after_it() -> None:
    """[T61]"""
    effects = Effects()
    handler = charging(effects)

    report = failed(handler, effects=effects)

    assert {str(each.points[0]) for each in report.failures} == {
        "after body 2",
        "before checkpoint 2",
        "in checkpoint 2 after 1",
    }
    first = report.first_failure
    assert first is not None
    where = line_of(handler.charge)
    assert first.problems == [
        f"charge(cents=320) was done twice instead of once: the body of 'charge' at {where} ran again"
    ]
    (repeat,) = [each for each in report.repeats if each.effects]
    assert (repeat.name, repeat.where, list(repeat.effects)) == ("charge", where, ["charge(cents=320)"])
    assert "idempotency key" in repeat.advice
    assert "AT_MOST_ONCE_PER_RETRY" in repeat.advice


def test_a_charge_with_an_idempotency_key_passes() -> None:
    effects = Effects()

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        key = context.step(lambda _: uuid.uuid4().hex, name="key")
        return context.step(lambda _: effects.record("charge", key=key, cents=320), name="charge")

    report = check_crashes(handler, effects=effects)
    assert [each.name for each in report.repeats] == ["key", "charge"]


def test_a_charge_at_most_once_passes_and_its_interruption_is_reported() -> None:
    effects = Effects()

    report = check_crashes(charging(effects, ONCE), effects=effects)

    assert report.verdict("after body 2") == "interrupted"
    assert report.verdict("before checkpoint 3") == "interrupted"
    assert report.verdict("before body 1") == "passed"


def test_an_at_most_once_step_that_is_retried_charges_again() -> None:
    """At most once is at most once per attempt."""
    effects = Effects()

    @durable_execution
    def handler(event: Any, context: DurableContext) -> None:
        config = StepConfig(lambda *_: RetryDecision.retry(1), ONCE)
        context.step(lambda _: effects.record("charge"), name="charge", config=config)

    assert "charge() was done twice" in failed(handler, effects=effects).first_failure.problems[0]  # type: ignore[union-attr]


def test_a_clock_in_the_handler_is_found_with_its_line() -> None:
    """[T61]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> str:
        day = time.time_ns()
        return context.step(lambda _: "done", name=f"report-{day}")

    report = failed(handler)

    assert report.findings[0].startswith(
        f"time.time_ns was called at {__file__}:{handler_line(handler) + 2}, in handler"
    )
    assert report.findings[1].startswith("two runs without a crash differ: the name of operation 'report-")


def handler_line(handler: Any) -> int:
    return int(handler.__perdure__.handler.__code__.co_firstlineno)


def test_a_clock_that_decides_is_found_where_a_crash_makes_the_difference() -> None:
    calls: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> str:
        calls.append(1)  # as good as a clock: the second invocation sees something else
        context.step(lambda _: 1, name="first")
        if len(calls) > 1:
            context.step(lambda _: 2, name="late")
        return "done"

    report = failed(handler, setup=lambda _: calls.clear())

    first = report.first_failure
    assert first is not None
    assert str(first.points[0]) == "before body 1"
    assert first.problems[0] == "there is one operation more: STEP 'late'"


def test_a_replay_that_skips_what_was_recorded_is_found() -> None:
    calls: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> str:
        calls.append(1)
        context.step(lambda _: 1, name="first")
        if len(calls) == 1:
            context.step(lambda _: 2, name="only at first")
        return "done"

    report = failed(handler, points=["at return of invocation 1"], setup=lambda _: calls.clear())

    assert (
        report.failures[0]
        .problems[0]
        .startswith("the last replay did not ask for STEP 'only at first', which is recorded")
    )


# --- what is compared --------------------------------------------------------------------------------------------


def test_values_that_bodies_draw_anew_are_not_compared_and_others_are() -> None:
    @durable_execution
    def drawing(event: Any, context: DurableContext) -> Any:
        order = context.step(lambda _: {"id": uuid.uuid4().hex, "lots": [random.random()], "cents": 3}, name="order")
        return {"order": order, "note": "thanks"}

    assert check_crashes(drawing).passed


def test_a_race_may_be_won_by_another_branch() -> None:
    @durable_execution
    def race(event: Any, context: DurableContext) -> int:
        first = MapConfig(completion_config=CompletionConfig.first_successful())
        done = context.map("abc", lambda inner, item: inner.step(lambda _: item, name=item), config=first)
        context.step(lambda _: done.get_results()[0], name="winner")
        return done.success_count

    assert check_crashes(race).passed


def test_children_of_other_functions_die_too() -> None:
    @durable_execution
    def child(event: Any, context: DurableContext) -> int:
        return int(context.step(lambda _: 2, name="billed"))

    @durable_execution
    def parent(event: Any, context: DurableContext) -> Any:
        return context.invoke("billing", {"n": 1}, name="bill")

    report = check_crashes(parent, setup=lambda runner: runner.register_durable_function("billing", child))

    assert report.verdict("before body 1 of billing") == "passed"
    assert report.verdict("after body 1 of billing") == "repeated"


def test_a_list_and_a_function_serve_as_effects() -> None:
    charges: list[tuple[str, int]] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> None:
        context.step(lambda _: charges.append(("charge", 320)), name="charge")

    assert "('charge', 320) was done twice" in str(failed(handler, effects=charges))
    shown = failed(handler, effects=lambda: charges, setup=lambda _: charges.clear())
    assert "('charge', 320) was done twice" in str(shown)
    with pytest.raises(ValidationError, match="with several workers, effects must be Effects"):
        check_crashes(handler, effects=charges, workers=2)
    with pytest.raises(ValidationError, match="effects must be Effects"):
        check_crashes(handler, effects=7)  # type: ignore[arg-type]


# --- which points ------------------------------------------------------------------------------------------------


def test_points_are_all_some_or_those_that_are_named() -> None:
    everywhere = check_crashes(tour, seed=3)
    some = check_crashes(tour, points=7, seed=3)
    named = check_crashes(tour, points=["after checkpoint 2", "before body 1"])

    assert len(some.outcomes) == 7
    assert {each.points for each in some.outcomes} < {each.points for each in everywhere.outcomes}
    assert [each.points for each in some.outcomes] == [
        each.points for each in check_crashes(tour, points=7, seed=3).outcomes
    ]
    assert [[str(point) for point in each.points] for each in named.outcomes] == [
        ["after checkpoint 2", "before body 1"]
    ]
    assert check_crashes(tour, points=["before checkpoint 999"]).outcomes[0].verdict == "not reached"
    with pytest.raises(ValidationError, match="a point is called like 'after checkpoint 3'"):
        check_crashes(tour, points=["somewhere"])


def test_pairs_and_sequences_are_brought_down_to_what_it_takes() -> None:
    calls: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> int:
        calls.append(1)
        context.step(lambda _: 1, name="only")
        return int(len(calls) > 2)

    setup = lambda _: calls.clear()  # noqa: E731
    assert check_crashes(handler, setup=setup).passed, "it takes two crashes"
    in_pairs = failed(handler, setup=setup, pairs=True)
    assert {len(each.points) for each in in_pairs.failures} == {2}
    in_sequences = failed(handler, setup=setup, points=0, sequences=10, seed=1)
    assert {len(each.points) for each in in_sequences.failures} == {2}


def test_a_batch_is_cut_in_the_middle() -> None:
    report = check_crashes(tour)
    cuts = [str(each.points[0]) for each in report.outcomes if each.points[0].cut]
    assert "in checkpoint 1 after 1" in cuts


def test_runs_may_go_on_beside_each_other() -> None:
    effects = Effects()

    @durable_execution
    def handler(event: Any, context: DurableContext) -> None:
        key = context.step(lambda _: "k", name="key")
        context.step(lambda _: effects.record("charge", key=key), name="charge")

    alone, together = (check_crashes(handler, effects=effects, workers=workers) for workers in (1, 4))
    assert [each.verdict for each in alone.outcomes] == [each.verdict for each in together.outcomes]


# --- the report --------------------------------------------------------------------------------------------------


def test_the_report_says_it_to_people_and_to_programs() -> None:
    effects = Effects()
    report = failed(charging(effects), effects=effects)
    text, data = str(report), json.loads(report.to_text())

    assert "first failure: after body 2 ('charge', " in text
    assert "again: check_crashes(" in text
    assert "points=['after body 2'], seed=0)" in text
    assert (data["Passed"], data["Runs"], data["FirstFailure"]["Point"]) == (
        False,
        len(report.outcomes),
        report.first_failure.what,  # type: ignore[union-attr]
    )
    assert len(data["Matrix"]) == len(report.matrix().splitlines()) == data["Runs"]
    again = failed(charging(effects), effects=effects, points=["after body 2"], seed=0)
    assert again.first_failure.problems[0][:30] == report.first_failure.problems[0][:30]  # type: ignore[union-attr]


def test_an_execution_that_never_ends_is_reported_with_where_it_is_stuck() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.create_callback(name="approval").result()

    report = failed(handler, wall_timeout=0.2)

    assert "it does not come to an end" in report.findings[0]
    assert "approval" in report.findings[0]


def test_nothing_is_left_of_a_check() -> None:
    """The runners of a check are closed."""
    import threading

    before = threading.active_count()
    check_crashes(tour, points=5)
    assert threading.active_count() <= before + 1
    assert LocalRunner(tour).run().status == "SUCCEEDED"
