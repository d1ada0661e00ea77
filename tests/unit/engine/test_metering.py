"""What is counted, against the rows of the table in the wire specification, 9.1."""

from typing import Any

import pytest

from perdure.engine import commands as cmd
from perdure.model.error import ErrorObject
from support.one import One, callback, context, step, wait

BOOM = ErrorObject("boom", "E")
START = 1
"""The execution itself."""


def _counted(one: One) -> tuple[int, int]:
    return one.head.metered_operations - START, one.head.written_bytes


def test_an_execution_counts_one_and_its_input_and_output() -> None:
    one = One(input='"abc"')
    assert (one.head.metered_operations, one.head.written_bytes) == (1, 5)
    one.end(cmd.Succeeded('"é"'))
    assert (one.head.metered_operations, one.head.written_bytes) == (1, 5 + 4)


def test_a_step_counts_one_and_its_payload() -> None:
    one = One()
    one.checkpoint(step("a", "START"), step("a", "SUCCEED", payload="12345"))
    assert _counted(one) == (1, 5)


def test_a_step_counts_one_more_for_each_retry_and_the_errors_of_all_attempts() -> None:
    one = One()
    for _ in range(2):
        one.end(cmd.Pending(), step("a", "START"), step("a", "RETRY", error=BOOM, next_attempt_delay_s=1))
        one.after(1)
    one.checkpoint(step("a", "START"), step("a", "SUCCEED", payload="12345"))
    assert _counted(one) == (1 + 2, 2 * BOOM.size_bytes() + 5)


def test_a_wait_counts_one_and_no_bytes() -> None:
    one = One()
    one.checkpoint(wait("w"))
    assert _counted(one) == (1, 0)


def test_a_condition_counts_one_and_one_for_each_poll_with_their_payloads() -> None:
    one = One()
    for state in ("1", "22"):
        one.end(cmd.Pending(), step("a", "START"), step("a", "RETRY", payload=state, next_attempt_delay_s=1))
        one.after(1)
    one.checkpoint(step("a", "START"), step("a", "SUCCEED", payload="333"))
    assert _counted(one) == (1 + 2, 6)


def test_a_failed_invocation_counts_one_and_its_error() -> None:
    one = One()
    one.end(cmd.Crashed(BOOM))
    assert _counted(one) == (1, BOOM.size_bytes())


def test_a_callback_counts_one_and_its_completion_only_bytes() -> None:
    one = One()
    one.checkpoint(callback("c"))
    assert _counted(one) == (1, 0)
    one.do(cmd.CompleteCallback(callback_id=one.op("c").callback_id, result="1234"))
    assert _counted(one) == (1, 4)


def test_a_wait_for_callback_counts_three_and_two_copies_of_the_payload() -> None:
    one = One()
    described: dict[str, Any] = {"sub_type": "WaitForCallback"}
    one.checkpoint(
        context("1", "START", **described), callback("2", parent_id="1"), step("3", "SUCCEED", parent_id="1")
    )
    assert _counted(one) == (3, 0)
    one.do(cmd.CompleteCallback(callback_id=one.op("2").callback_id, result="1234"))
    one.checkpoint(context("1", "SUCCEED", payload="1234", **described))
    assert _counted(one) == (3, 8)


@pytest.mark.parametrize(("outer", "inner"), [("Map", "MapIteration"), ("Parallel", "ParallelBranch")])
def test_a_batch_counts_one_and_one_for_each_branch_when_they_start(outer: str, inner: str) -> None:
    one = One()
    one.checkpoint(
        context("1", "START", sub_type=outer),
        *(context(f"b{n}", "START", sub_type=inner, parent_id="1") for n in range(3)),
    )
    assert _counted(one) == (1 + 3, 0)
    one.checkpoint(
        *(context(f"b{n}", "SUCCEED", sub_type=inner, parent_id="1", payload="1") for n in range(3)),
        context("1", "SUCCEED", sub_type=outer, payload="[1,1,1]"),
    )
    assert _counted(one) == (1 + 3, 3 + 7)


def test_a_child_context_counts_one_when_it_ends() -> None:
    one = One()
    one.checkpoint(context("1", "START", sub_type="RunInChildContext"))
    assert _counted(one) == (0, 0)
    one.checkpoint(context("1", "FAIL", sub_type="RunInChildContext", error=BOOM))
    assert _counted(one) == (1, BOOM.size_bytes())
