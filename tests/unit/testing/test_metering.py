"""What an execution counts for, by the rules that AWS counts by."""

from typing import Any

import pytest

from perdure import DurableContext, durable_execution
from perdure.testing import LocalRunner, Metering, Prices, Result
from perdure.waits import WaitForConditionConfig, WaitForConditionDecision
from support.kit import every, run


def counted(body: Any) -> Metering:
    """What the operation of a handler that does this one thing counts for."""

    @durable_execution
    def handler(_event: Any, context: DurableContext) -> None:
        body(context)

    with LocalRunner(handler) as runner:
        runner.register_function("other", lambda _event, _: "12345678")
        runner.auto_callback("approve", "yes")
        result = runner.run()
    (only,) = result.operations
    found: Metering = only.metering
    return found


def flaky(step: Any) -> int:
    if step.attempt < 3:
        raise ValueError("1234")
    return 7


def until_three(state: int, _attempt: int) -> WaitForConditionDecision:
    return WaitForConditionDecision.stop_polling() if state == 3 else WaitForConditionDecision.continue_waiting(1)


POLL = WaitForConditionConfig[int](until_three, 0)


@pytest.mark.parametrize(
    ("body", "operations"),
    [
        (lambda c: c.step(lambda _: "x"), 1),
        (lambda c: c.step(flaky, config=every(1, 3)), 3),
        (lambda c: c.wait(5), 1),
        (lambda c: c.wait_for_condition(lambda state: state + 1, POLL), 4),
        (lambda c: c.run_in_child_context(lambda _: 1), 1),
        (lambda c: c.run_in_child_context(lambda inner: inner.step(lambda _: 1)), 2),
        (lambda c: c.map([1, 2, 3], lambda *_: 1), 4),
        (lambda c: c.wait_for_callback(lambda _: None, name="approve"), 3),
        (lambda c: c.invoke("other", None), 1),
    ],
)
def test_operations_are_counted_with_their_retries_polls_and_branches(body: Any, operations: int) -> None:
    assert counted(body).operations == operations


def test_bytes_are_those_of_payloads_and_errors() -> None:
    assert counted(lambda c: c.step(lambda _: "äb")).written_bytes == len('"\\u00e4b"')
    assert counted(lambda c: c.invoke("other", "in")).written_bytes == len('"in"') + len('"12345678"')
    assert counted(lambda c: c.wait_for_callback(lambda _: None, name="approve")).written_bytes == len('yes"yes"null')
    assert counted(lambda c: c.step(flaky, config=every(1, 3))).written_bytes > 2 * len("1234ValueError")


def test_an_execution_counts_itself_its_input_and_its_result() -> None:
    @durable_execution
    def handler(event: str, _context: DurableContext) -> str:
        return event * 2

    assert run(handler, "ab").metering == Metering(1, len('"ab""abab"'))


def test_an_invocation_that_is_tried_again_is_counted() -> None:
    left = [SystemExit(1)]

    @durable_execution
    def handler(_event: Any, _context: DurableContext) -> None:
        if left:
            raise left.pop()

    assert run(handler).metering.operations == 2


def test_the_cost_is_that_of_operations_unless_other_prices_are_given() -> None:
    metering = Metering(1_000_000, 2 * 10**9)
    assert metering.estimated_cost == 8.0
    prices = Prices(operations_per_million=4.0, written_per_gb=0.5, retained_per_gb_month=0.1)
    assert metering.cost(prices) == 5.0
    assert metering.cost(prices, retention_days=15) == pytest.approx(5.1)


def test_what_is_within_counts_with_what_it_is_in() -> None:
    @durable_execution
    def handler(_event: Any, context: DurableContext) -> None:
        context.map([1, 2], lambda inner, n, _i, _all: inner.step(lambda _: n), name="m")

    result: Result = run(handler)
    assert result.op("m").metering.operations == 5
    assert result.metering.operations == 6
