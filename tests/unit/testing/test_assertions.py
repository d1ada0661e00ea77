"""Assertions hold or fail as they say, and a failure shows the tree and what differs."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure import DurableContext, ExecutionStopped, ExecutionTimedOut, StepError, durable_execution
from perdure.testing import LocalRunner, Result
from perdure.testing.assertions import diff, outlines
from support.kit import NEVER, run, shop


class CardError(Exception):
    """Raised by a handler below."""


@durable_execution
def declined(_event: Any, context: DurableContext) -> None:
    def charge(_: Any) -> None:
        raise CardError("card 4711 was declined")

    context.step(lambda _: 1, name="validate")
    context.step(charge, name="charge", config=NEVER)


@durable_execution
def raising(_event: Any, _context: DurableContext) -> None:
    raise CardError("card 4711 was declined")


@pytest.fixture(scope="module")
def done() -> Result:
    return run(shop)


@pytest.fixture(scope="module")
def failed() -> Result:
    return run(declined)


OUTLINE = ["validate", "orders", "cool down", "(Wait)", "tell", "bill", ["charge"]]


def test_what_is_so_can_be_said_one_after_another(done: Result) -> None:
    done.assert_succeeded().assert_succeeded({"state": "done", "for": None}).assert_operations(OUTLINE).assert_attempts(
        "bill/charge", 3
    ).assert_ran_once("orders/**").assert_invocations(5).assert_max_invocations(5).assert_max_operations(
        25
    ).assert_max_bytes(5_000).assert_max_duration(timedelta(hours=2)).assert_max_duration(3_670).assert_max_cost(0.001)


def test_a_failure_can_be_told_by_its_type_and_message(failed: Result) -> None:
    failed.assert_failed().assert_failed(StepError).assert_failed("StepError", match=r"card \d+ was declined")
    failed.assert_failed("perdure.exceptions.StepError")
    run(raising).assert_failed(CardError).assert_failed("CardError").assert_failed(Exception, "declined")


def failing(check: Callable[[Result], Any], result: Result) -> str:
    with pytest.raises(AssertionError) as caught:
        check(result)
    return str(caught.value)


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda r: r.assert_failed(), "the execution should be FAILED, and is SUCCEEDED"),
        (lambda r: r.assert_stopped(), "the execution should be STOPPED, and is SUCCEEDED"),
        (lambda r: r.assert_timed_out(), "the execution should be TIMED_OUT, and is SUCCEEDED"),
        (lambda r: r.assert_succeeded(1), "the execution succeeded with another result"),
        (lambda r: r.assert_operations(["validate"]), "the execution did other operations"),
        (lambda r: r.assert_attempts("bill/charge", 1), "'bill/charge' should have 1 attempts, and has 3:"),
        (lambda r: r.assert_ran_once("bill/*"), "'bill/charge' should have 1 attempts, and has 3:"),
        (lambda r: r.assert_ran_once("nothing"), "no step is at 'nothing'"),
        (lambda r: r.assert_invocations(1), "the execution should have 1 invocations, and has 5:"),
        (lambda r: r.assert_max_invocations(4), "the execution may have at most 4 invocations, and has 5"),
        (lambda r: r.assert_max_operations(3), "the execution may have at most 3 operations, retries and polls"),
        (lambda r: r.assert_max_bytes(3), "the execution may have at most 3 bytes written, and has"),
        (lambda r: r.assert_max_cost(0.0), "the execution may have at most 0 USD of operations, and has 0.0002"),
        (lambda r: r.assert_max_duration(60), "the execution should take at most 1 min, and took 1 h 1 min"),
    ],
)
def test_a_failure_says_what_is_wrong_and_shows_the_tree(
    check: Callable[[Result], Any], said: str, done: Result
) -> None:
    text = failing(check, done)
    assert text.startswith(said)
    assert done.tree() in text


def test_another_result_is_shown_as_a_difference(done: Result) -> None:
    text = failing(lambda r: r.assert_succeeded({"state": "done", "for": 7}), done)
    assert "-{'for': 7, 'state': 'done'}\n+{'for': None, 'state': 'done'}" in text


def test_other_operations_are_shown_as_a_difference(done: Result) -> None:
    wanted = ["validate", "orders", "tell", ["parallel-branch-0", ["male"], "parallel-branch-1"], "bill"]
    text = failing(lambda r: r.assert_operations(wanted), done)
    assert text.startswith(
        "the execution did other operations\n\n"
        "--- expected\n+++ actual\n"
        " validate\n orders\n+cool down\n+(Wait)\n tell\n   parallel-branch-0\n-    male\n+    mail\n"
        "   parallel-branch-1\n bill\n\n"
    )


def test_a_failure_that_was_not_expected_is_shown_with_its_stack(failed: Result) -> None:
    text = failing(lambda r: r.assert_succeeded(), failed)
    assert "and is FAILED with perdure.exceptions.StepError: card 4711 was declined" in text
    assert 'raise CardError("card 4711 was declined")' in text
    text = failing(lambda r: r.assert_failed(KeyError), failed)
    assert "-KeyError\n+perdure.exceptions.StepError" in text
    text = failing(lambda r: r.assert_failed(match="insufficient"), failed)
    assert "-a match of 'insufficient'" in text


def test_executions_that_were_stopped_or_timed_out_say_so() -> None:
    @durable_execution
    def handler(_event: Any, context: DurableContext) -> None:
        context.wait(86_400, name="a day")

    with LocalRunner(handler) as runner:
        execution = runner.start()
        execution.stop("not needed")
        stopped = execution.result()
        stopped.assert_stopped()
        late = runner.run(execution_timeout=60)
        late.assert_timed_out()
    assert (stopped.status, late.status) == ("FAILED", "FAILED")
    assert late.duration == timedelta(minutes=1)
    with pytest.raises(ExecutionStopped, match="not needed"):
        stopped.raise_if_failed()
    with pytest.raises(ExecutionTimedOut):
        late.raise_if_failed()


def test_a_list_that_comes_after_no_name_is_refused() -> None:
    with pytest.raises(ValueError, match="must come after the name of the operation"):
        outlines([["charge"]], [])
    with pytest.raises(ValueError, match="must come after the name of the operation"):
        outlines(["a", ["b"], ["c"]], [])


def test_equal_texts_have_no_difference() -> None:
    assert diff("a\nb", "a\nb") == ""
