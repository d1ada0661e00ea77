"""Stored histories against changed code: what goes on is accepted, and where code and record part is shown."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    AsyncDurableContext,
    DurableContext,
    Duration,
    MapConfig,
    RetryDecision,
    StepConfig,
    StepContext,
    WaitForCallbackConfig,
    durable_execution,
)
from perdure.exceptions import ValidationError
from perdure.model.error import InvalidParameterValue
from perdure.testing import LocalRunner
from perdure.testing.facts import Facts
from perdure.testing.histories import History, facts_of, history_of, write_history
from perdure.testing.replaying.judging import Difference, Verdict
from perdure.testing.replaying.replayer import IncompatibleError, Replayer, ReplayResult
from perdure.testing.result import Result
from support.local import Local
from testing.stored import PROGRAM, moments

Handler = Callable[..., Any]


def recorded(handler: Handler, event: Any = None, *, until_s: float | None = None, name: str = "one") -> History:
    """The history of one execution, as it is stored."""
    local = Local(handler, functions={"helper": lambda event, context: event})
    execution_id = local.start(event, name=name)
    local.go_on(execution_id, until_s=until_s)
    return history_of(local.service, execution_id)


def never(*_: object) -> Any:
    raise AssertionError("a body has run in a replay")


def replayed(old: Handler, new: Handler, *, until_s: float | None = None) -> ReplayResult:
    return Replayer(new).replay(recorded(old, {"n": 2}, until_s=until_s))


# --- the sample and its successors -------------------------------------------------------------------------------


@durable_execution(name="order")
def order(event: Any, context: DurableContext) -> str:
    context.step(lambda _: "reserved", name="reserve")
    context.wait(Duration.from_days(1), name="cool-down")
    context.step(lambda _: "charged", name="charge")
    return f"done with {event['n']}"


@durable_execution(name="order")
def same(event: Any, context: DurableContext) -> str:
    context.step(never, name="reserve")
    context.wait(Duration.from_days(1), name="cool-down")
    context.step(never, name="charge")
    return f"done with {event['n']}"


@durable_execution(name="order")
def without_the_wait(event: Any, context: DurableContext) -> str:
    context.step(never, name="reserve")
    context.step(never, name="charge")
    return "done"


@durable_execution(name="order")
def without_the_charge(event: Any, context: DurableContext) -> str:
    context.step(never, name="reserve")
    context.wait(Duration.from_days(1), name="cool-down")
    return "done with 2"


@durable_execution(name="order")
def reordered(event: Any, context: DurableContext) -> str:
    context.wait(Duration.from_days(1), name="cool-down")
    context.step(never, name="reserve")
    context.step(never, name="charge")
    return "done"


@durable_execution(name="order")
def renamed(event: Any, context: DurableContext) -> str:
    context.step(never, name="reserve-stock")
    context.wait(Duration.from_days(1), name="cool-down")
    context.step(never, name="charge")
    return "done with 2"


@durable_execution(name="order")
def retyped(event: Any, context: DurableContext) -> str:
    context.step(never, name="reserve")
    context.invoke("helper", name="cool-down")
    context.step(never, name="charge")
    return "done"


@durable_execution(name="order")
def inserted(event: Any, context: DurableContext) -> str:
    context.step(never, name="reserve")
    context.step(never, name="check-fraud")
    context.wait(Duration.from_days(1), name="cool-down")
    context.step(never, name="charge")
    return "done"


@durable_execution(name="order")
def gated(event: Any, context: DurableContext) -> str:
    context.step(never, name="reserve")
    if context.patched("check-fraud"):
        context.step(never, name="check-fraud")
    context.wait(Duration.from_days(1), name="cool-down")
    context.step(never, name="charge")
    return f"done with {event['n']}"


@durable_execution(name="order")
def gated_by_version(event: Any, context: DurableContext) -> str:
    context.step(never, name="reserve")
    if context.version_gate("fraud", min=1, max=2) >= 2:
        context.step(never, name="check-fraud")
    context.wait(Duration.from_days(1), name="cool-down")
    context.step(never, name="charge")
    return f"done with {event['n']}"


@pytest.mark.parametrize("until_s", [0, 3_600, None])
def test_unchanged_code_is_compatible_whether_the_execution_is_open_or_has_ended(until_s: float | None) -> None:
    """[T62]"""
    result = replayed(order, same, until_s=until_s)
    assert (result.verdict, result.divergence, list(result.warnings)) == (Verdict.COMPATIBLE, None, [])
    assert result.is_compatible


def test_a_durable_function_checks_a_history_itself() -> None:
    """[T62]"""
    with LocalRunner(order) as runner:
        history = runner.run({"n": 2}).facts
    assert same.check_determinism(history).is_compatible
    found = renamed.check_determinism(history).divergence
    assert found is not None
    assert "'reserve-stock'" in str(found)


@pytest.mark.parametrize(
    ("new", "difference", "number", "expected", "actual"),
    [
        (without_the_wait, Difference.MOVED, 2, "WAIT 'cool-down'", "STEP 'charge'"),
        (without_the_charge, Difference.REMOVED, 3, "STEP 'charge'", None),
        (reordered, Difference.MOVED, 1, "STEP 'reserve'", "WAIT 'cool-down'"),
        (renamed, Difference.RENAMED, 1, "STEP 'reserve'", "STEP 'reserve-stock'"),
        (retyped, Difference.RETYPED, 2, "WAIT 'cool-down'", "CHAINED_INVOKE 'cool-down'"),
        (inserted, Difference.REPLACED, 2, "WAIT 'cool-down'", "STEP 'check-fraud'"),
    ],
)
def test_the_first_divergence_is_shown_with_both_sides_and_the_line(
    new: Handler, difference: Difference, number: int, expected: str, actual: str | None
) -> None:
    """[T62]"""
    result = replayed(order, new)
    assert result.verdict is Verdict.INCOMPATIBLE
    found = result.divergence
    assert found is not None
    assert (found.difference, found.number, found.expected, found.actual) == (difference, number, expected, actual)
    assert found.where is not None
    assert found.where.file == __file__
    assert found.where.text.startswith("context.")
    assert f"- {number}. {expected}" in found.diff
    if actual is not None:
        assert f"+ {number}. {actual}" in found.diff
        assert (actual.partition("'")[2].rstrip("'")) in found.where.text
    assert "patched" in found.suggestion
    with pytest.raises(IncompatibleError, match="incompatible"):
        result.assert_compatible()


@pytest.mark.parametrize("new", [gated, gated_by_version])
@pytest.mark.parametrize("until_s", [0, 3_600, None])
def test_a_change_behind_a_version_gate_is_accepted(new: Handler, until_s: float | None) -> None:
    """[T62]"""
    assert replayed(order, new, until_s=until_s).verdict is Verdict.COMPATIBLE


def test_a_change_is_found_at_the_boundary_where_it_first_shows() -> None:
    """[T62]"""
    result = replayed(order, without_the_wait)
    assert result.divergence is not None
    assert result.divergence.after_event < result.events
    assert result.boundaries == 1


# --- what is no divergence ---------------------------------------------------------------------------------------


def test_code_that_goes_on_after_the_recorded_end_is_warned_of() -> None:
    @durable_execution(name="order")
    def longer(event: Any, context: DurableContext) -> str:
        context.step(never, name="reserve")
        context.wait(Duration.from_days(1), name="cool-down")
        context.step(never, name="charge")
        context.step(never, name="thank")
        return "done"

    result = replayed(order, longer)
    assert result.verdict is Verdict.WARNINGS
    assert list(result.warnings) == ["the execution has ended SUCCEEDED; the code would go on with STEP 'thank'"]


def test_another_result_is_warned_of() -> None:
    @durable_execution(name="order")
    def other(event: Any, context: DurableContext) -> str:
        same_operations(context)
        return "another"

    result = replayed(order, other)
    assert list(result.warnings) == ['the execution returned "done with 2"; the code returns "another"']
    assert result.is_compatible


def same_operations(context: DurableContext) -> None:
    context.step(never, name="reserve")
    context.wait(Duration.from_days(1), name="cool-down")
    context.step(never, name="charge")


def test_code_that_raises_where_it_did_not_is_incompatible_and_the_line_is_shown() -> None:
    @durable_execution(name="order")
    def broken(event: Any, context: DurableContext) -> str:
        same_operations(context)
        return str(event["missing"])

    found = replayed(order, broken).divergence
    assert found is not None
    assert found.difference is Difference.RAISES
    assert "KeyError" in found.message
    assert found.where is not None
    assert found.where.text == 'return str(event["missing"])'


def test_an_execution_that_failed_may_fail_again() -> None:
    @durable_execution(name="order")
    def fails(event: Any, context: DurableContext) -> str:
        context.step(_failing, name="charge", config=StepConfig(lambda _e, _n: RetryDecision.no_retry()))
        return "done"

    assert Replayer(fails).replay(recorded(fails)).verdict is Verdict.COMPATIBLE


def _failing(_: StepContext) -> None:
    raise ValueError("no money")


def waits(seconds: int) -> Handler:
    @durable_execution(name="order")
    def handler(event: Any, context: DurableContext) -> None:
        context.wait(seconds, name="pause")

    return handler


def answers(timeout_s: int) -> Handler:
    @durable_execution(name="order")
    def handler(event: Any, context: DurableContext) -> None:
        context.wait_for_callback(
            lambda _callback_id: None, name="approval", config=WaitForCallbackConfig(Duration.from_seconds(timeout_s))
        )

    return handler


def retries(times: int, delay_s: int = 1) -> Handler:
    failures: list[int] = []

    def body(_: StepContext) -> str:
        failures.append(1)
        if len(failures) < 3:
            raise ValueError("not yet")
        return "done"

    def strategy(_error: Exception, attempt: int) -> RetryDecision:
        return RetryDecision.retry(delay_s) if attempt < times else RetryDecision.no_retry()

    @durable_execution(name="order")
    def handler(event: Any, context: DurableContext) -> Any:
        return context.step(body, name="charge", config=StepConfig(strategy))

    return handler


def invokes(function: str) -> Handler:
    @durable_execution(name="order")
    def handler(event: Any, context: DurableContext) -> Any:
        return context.invoke(function, 1, name="call")

    return handler


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        (waits(60), waits(90), "WAIT 'pause': it waits 60 s as recorded; the code asks for 90 s"),
        (answers(60), answers(0), "CALLBACK 'approval': its time-out is 60 s as recorded; the code asks for none"),
        (retries(5), retries(5, 7), "after attempt 1 it was tried again after 1 s; the code's retry policy waits 7 s"),
        (retries(5), retries(2), "after attempt 2 it was tried again after 1 s; with the code's retry policy it would"),
        (invokes("helper"), invokes("other"), "CHAINED_INVOKE 'call': it invoked 'helper'; the code invokes 'other'"),
    ],
)
def test_a_changed_time_out_retry_policy_or_target_is_warned_of(old: Handler, new: Handler, warning: str) -> None:
    result = replayed(old, new)
    assert result.verdict is Verdict.WARNINGS
    (told,) = result.warnings
    assert warning in told


def test_a_step_with_an_id_of_its_own_that_comes_first_needs_to_run() -> None:
    @durable_execution(name="order")
    def keyed(event: Any, context: DurableContext) -> str:
        context.step(never, name="check-fraud", id="check-fraud")
        same_operations(context)
        return "done"

    result = replayed(order, keyed, until_s=3_600)
    assert result.verdict is Verdict.NEEDS_NEW_OPERATION
    assert not result.is_compatible
    assert result.divergence is not None
    assert result.divergence.actual == "STEP 'check-fraud'"


# --- other programs ----------------------------------------------------------------------------------------------


@durable_execution(name="many")
def many(event: Any, context: DurableContext) -> Any:
    def one(child: DurableContext, item: int, _index: int) -> Any:
        child.step(lambda _: "x" * 200_000 if item == 0 else item, name="double")
        child.wait(5, name="rest")
        return child.step(lambda _: "y" * 200_000, name="large")

    batch = context.map([0, 1, 2], one, name="all", config=MapConfig(max_concurrency=event))
    future = context.start.wait(10, name="timer")
    text = context.step(lambda _: "slow", name="slow")
    future.result()
    with context.timeout(hours=2):
        context.wait_for_callback(lambda _: None, name="approval")
    return len(batch.get_results()) + len(text)


@pytest.mark.parametrize("concurrency", [None, 1, 2])
def test_branches_started_operations_and_large_results_are_replayed(concurrency: int | None) -> None:
    local = Local(many)
    execution_id = local.start(concurrency)
    local.go_on(execution_id, until_s=3_000)
    open_one = history_of(local.service, execution_id)
    assert open_one.view.end_ms is None
    assert Replayer(many).replay(open_one).verdict is Verdict.COMPATIBLE
    (callback,) = local.service.open_callbacks()
    local.service.succeed_callback(callback.callback_id, "yes")
    local.go_on(execution_id)
    ended = history_of(local.service, execution_id)
    result = Replayer(many).replay(ended)
    assert (result.verdict, result.divergence, list(result.warnings)) == (Verdict.COMPATIBLE, None, [])
    assert result.boundaries > 3


@durable_execution(name="many")
async def async_many(event: Any, context: AsyncDurableContext) -> Any:
    async def one(child: AsyncDurableContext, item: int, _index: int) -> Any:
        await child.step(lambda _: "x" * 200_000 if item == 0 else item, name="double")
        await child.wait(5, name="rest")
        return await child.step(lambda _: "y" * 200_000, name="large")

    batch = await context.map([0, 1, 2], one, name="all", config=MapConfig(max_concurrency=event))
    timer = context.wait(10, name="timer").start()
    text, again = await asyncio.gather(
        context.step(lambda _: "slow", name="slow"), context.step(lambda _: "again", name="again")
    )
    await timer
    async with context.timeout(hours=2):
        await context.wait_for_callback(submit, name="approval")
    return len(batch.get_results()) + len(text) + len(again)


async def submit(_callback_id: str) -> None:
    """Nobody is told."""


@pytest.mark.parametrize("concurrency", [None, 1, 2])
def test_tasks_of_handlers_on_a_loop_are_replayed_from_every_boundary(concurrency: int | None) -> None:
    with LocalRunner(async_many) as runner:
        execution = runner.start(concurrency)
        execution.callback("approval").wait()
        open_one = execution.so_far()
        execution.callback("approval").succeed("yes")
        ended = execution.result().assert_succeeded()
    for result in (open_one, ended):
        replayed_one = Replayer(async_many).replay(result)
        told = (replayed_one.verdict, str(replayed_one.divergence), list(replayed_one.warnings))
        assert told == (Verdict.COMPATIBLE, "None", [])


def test_a_divergence_within_a_branch_has_its_path_and_line() -> None:
    def batch(name: str) -> Handler:
        def one(child: DurableContext, item: int, _index: int) -> Any:
            child.step(lambda _: item, name=name)
            child.wait(60, name="rest")

        @durable_execution(name="many")
        def handler(event: Any, context: DurableContext) -> None:
            context.map([1, 2], one, name="all")

        return handler

    found = replayed(batch("double"), batch("triple"), until_s=5).divergence
    assert found is not None
    assert (found.difference, found.path) == (Difference.RENAMED, "all/map-item-0/double")
    assert found.where is not None
    assert found.where.text == "child.step(lambda _: item, name=name)"


@durable_execution(name="order")
async def async_order(event: Any, context: AsyncDurableContext) -> str:
    await context.step(never, name="reserve")
    await context.wait(Duration.from_days(1), name="cool-down")
    await context.step(never, name="charge")
    return f"done with {event['n']}"


@durable_execution(name="order")
async def async_reordered(event: Any, context: AsyncDurableContext) -> str:
    await context.wait(Duration.from_days(1), name="cool-down")
    await context.step(never, name="reserve")
    return "done"


def test_handlers_on_a_loop_are_replayed_too() -> None:
    assert replayed(order, async_order).verdict is Verdict.COMPATIBLE
    found = replayed(order, async_reordered).divergence
    assert found is not None
    assert found.difference is Difference.MOVED
    assert found.where is not None
    assert found.where.text == 'await context.wait(Duration.from_days(1), name="cool-down")'


# --- what is given -----------------------------------------------------------------------------------------------


def test_a_history_is_taken_as_a_file_a_document_facts_or_itself(tmp_path: Path) -> None:
    history = recorded(order, {"n": 2})
    document = write_history(history)
    file = tmp_path / "one.history.json"
    file.write_text(json.dumps(document))
    facts: Facts = facts_of(history)
    saved = tmp_path / "saved.history.json"
    Result(facts).save(saved)
    for given in (history, document, file, str(file), facts, Result(facts), saved):
        result = Replayer(same).replay(given)
        assert (result.verdict, result.label, result.operations) == (Verdict.COMPATIBLE, "order/one", 3)


def test_of_ended_executions_with_the_same_operations_one_is_enough() -> None:
    ended = [recorded(order, {"n": n}, name=f"e-{n}") for n in range(5)]
    running = [recorded(order, {"n": n}, name=f"r-{n}", until_s=60) for n in range(3)]
    summary = Replayer(same).replay_many([*ended, *running], is_distinct=True)
    assert [result.name for result in summary] == ["e-0", "r-0", "r-1", "r-2"]
    assert (summary.skipped, summary.is_compatible, summary.count(Verdict.COMPATIBLE)) == (4, True, 4)


def test_each_of_several_handlers_takes_its_own_histories() -> None:
    @durable_execution(name="other")
    def other(event: Any, context: DurableContext) -> None:
        context.wait(1, name="pause")

    replayer = Replayer([same, other])
    assert replayer.replay_many([recorded(order, {"n": 1}), recorded(other)]).is_compatible
    with pytest.raises(ValidationError, match="no handler is for function 'many'; there are handlers for order, other"):
        replayer.replay(recorded(waits_named_many()))


def waits_named_many() -> Handler:
    @durable_execution(name="many")
    def handler(event: Any, context: DurableContext) -> None:
        context.wait(1, name="pause")

    return handler


def test_what_is_no_durable_function_is_refused() -> None:
    with pytest.raises(ValidationError, match="is not durable"):
        Replayer(never)
    with pytest.raises(ValidationError, match="at least one"):
        Replayer([])
    with pytest.raises(InvalidParameterValue, match="is no history"):
        Replayer(same).replay({})


@pytest.mark.parametrize("seed", [*range(60), 97, 346])
def test_any_program_is_compatible_with_its_own_history_wherever_it_stands(seed: int) -> None:
    """[T62]"""
    for local, execution_id in moments(seed):
        result = Replayer(PROGRAM).replay(history_of(local.service, execution_id))
        assert (result.verdict, str(result.divergence), list(result.warnings)) == (Verdict.COMPATIBLE, "None", [])
