"""Waits and conditions. Numbers in brackets are those of the SDK specification's checklist."""

from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    DurableContext,
    Duration,
    ExecutionError,
    JitterStrategy,
    ValidationError,
    WaitForConditionConfig,
    WaitForConditionDecision,
    WaitForConditionError,
    WaitStrategyConfig,
    create_wait_strategy,
    durable_execution,
    exponential_wait,
    fixed_wait,
    linear_wait,
)
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import OperationStatus, Wait
from perdure.sdk.client import Answer
from perdure.sdk.invocation import InvocationStatus
from support.local import Local
from support.wire import Handmade


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        (86400, 86400),
        (timedelta(minutes=2), 120),
        (0.2, 1),
        (1.5, 2),
        (Duration.from_hours(1), 3600),
        (Duration.from_seconds(60), 60),
        ({"days": 1, "seconds": 1}, 86401),
    ],
)
def test_a_wait_takes_whatever_means_a_duration(duration: Any, seconds: int) -> None:
    """[2] and [3]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.wait(duration, name="w")

    local = Local(handler)
    execution_id = local.start()
    local.pump()
    (wait,) = local.service.operations(execution_id)
    assert isinstance(wait, Wait)
    assert wait.scheduled_end_ms == local.clock.now + seconds * 1000
    assert local.service.get(execution_id).status is ExecutionStatus.RUNNING


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (True, "duration must be a Duration, a number of seconds or a timedelta, not bool True"),
        (0, "seconds must be from 1 to 31622400, not 0"),
        (Duration(0), "seconds must be from 1 to 31622400, not 0"),
        (31_622_401, "seconds must be from 1 to 31622400, not 31622401"),
        (-1, "duration can't be -1 seconds"),
        (float("nan"), "duration can't be nan seconds"),
        ("60", "not str '60'"),
        ({"weeks": 1}, r"unknown units \['weeks'\]"),
    ],
)
def test_what_is_no_duration_is_refused_and_nothing_is_recorded(duration: Any, text: str) -> None:
    """[38]"""
    raised: list[str] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        with pytest.raises(ValidationError, match=text):
            context.wait(duration)
        raised.append("yes")

    outcome = Local(handler).run()
    assert raised == ["yes"]
    assert outcome.operations == []


def test_a_wait_for_a_year_takes_no_time_and_goes_on_at_its_moment() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.wait(duration=timedelta(days=365), name="year")
        return "done"

    outcome = Local(handler).run()
    assert outcome.result == "done"
    wait = outcome.op("year")
    assert wait.end_ms - wait.start_ms == 365 * 86_400_000


def test_a_wait_that_is_answered_as_over_goes_on_in_the_same_invocation() -> None:
    """[39]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.wait(1)
        return "same invocation"

    handmade = Handmade(handler)
    over = handmade.wait(None, status="SUCCEEDED")
    handmade.operations.clear()
    handmade.answers = [Answer([over])]
    assert handmade.invoke().result == '"same invocation"'


@pytest.mark.parametrize("status", ["CANCELLED", "STOPPED", "FAILED"])
def test_a_wait_that_ended_otherwise_raises(status: str) -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.wait(1, name="w")

    handmade = Handmade(handler)
    handmade.wait("w", status=status)
    answer = handmade.invoke()
    assert answer.status is InvocationStatus.FAILED
    assert answer.error is not None
    assert answer.error.message == f"wait 'w' was {status.lower()}"


# --- conditions --------------------------------------------------------------------------------------------------


def _until(limit: int) -> Any:
    return fixed_wait(lambda state: state < limit, delay=2)


def test_a_condition_is_polled_until_it_is_met_with_its_state_kept() -> None:
    """[42] The first state is the initial one, later ones come from the record; the attempt counts from 1."""
    seen: list[tuple[Any, int]] = []

    def check(state: Any, context: Any) -> Any:
        seen.append((state, context.attempt))
        return state + 1

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.wait_for_condition(check=check, config=WaitForConditionConfig(_until(3), 0), name="ready")

    outcome = Local(handler).run()
    assert outcome.result == 3
    assert seen == [(0, 1), (1, 2), (2, 3)]
    assert outcome.op("ready").sub_type == "WaitForCondition"
    assert outcome.shown == [
        "ExecutionStarted",
        *["StepStarted", "StepSucceeded", "InvocationCompleted"] * 3,
        "ExecutionSucceeded",
    ]


def test_a_check_may_take_the_state_alone_and_gets_it_as_a_replay_would_read_it() -> None:
    seen: list[Any] = []

    def check(state: Any) -> Any:
        seen.append(state)
        return state

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        config = WaitForConditionConfig(lambda _state, _attempts: WaitForConditionDecision.stop_polling(), {1: (2,)})
        return context.wait_for_condition(check, config)

    Local(handler).run()
    assert seen == [{"1": (2,)}]


def test_a_condition_that_is_met_at_the_last_poll_is_met_and_one_poll_more_fails() -> None:
    """[43]"""

    def handler_with(limit: int) -> Any:
        @durable_execution
        def handler(event: Any, context: DurableContext) -> Any:
            strategy: Any = create_wait_strategy(
                WaitStrategyConfig(lambda state: state < limit, max_attempts=3, jitter_strategy=JitterStrategy.NONE)
            )
            return context.wait_for_condition(lambda state: state + 1, WaitForConditionConfig(strategy, 0), name="c")

        return handler

    assert Local(handler_with(3)).run().result == 3
    outcome = Local(handler_with(4)).run()
    assert (outcome.status, outcome.error.type) == (ExecutionStatus.FAILED, "perdure.exceptions.WaitForConditionError")
    assert outcome.error.message == "the condition was not met in 3 polls"


def test_an_exception_in_the_check_fails_at_once() -> None:
    """[44]"""
    errors: list[tuple[str, str | None]] = []

    def check(state: Any) -> Any:
        raise KeyError("lost")

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            context.wait_for_condition(check, WaitForConditionConfig(_until(1), 0), name="c")
        except WaitForConditionError as error:
            errors.append((str(error), error.error_type))
        context.wait(1)

    outcome = Local(handler).run()
    assert errors == [("'lost'", "KeyError")] * 2
    assert outcome.op("c").status is OperationStatus.FAILED


def test_an_execution_error_in_a_check_passes_unwrapped() -> None:
    def check(state: Any) -> Any:
        raise ExecutionError("enough")

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.wait_for_condition(check, WaitForConditionConfig(_until(1), 0))

    assert Local(handler).run().error.type == "perdure.exceptions.ExecutionError"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("no function", WaitForConditionConfig(_until(1), 0)), "check must be a function"),
        ((lambda state: state, None), "needs a config"),
        ((lambda: 1, WaitForConditionConfig(_until(1), 0)), "takes no argument"),
    ],
)
def test_a_condition_without_what_it_needs_is_refused(arguments: Any, text: str) -> None:
    raised: list[str] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        with pytest.raises(ValidationError, match=text):
            context.wait_for_condition(*arguments)
        raised.append("yes")

    outcome = Local(handler).run()
    assert raised == ["yes"]
    assert outcome.operations == []


def test_a_poll_that_dies_after_its_start_goes_on_from_the_state_it_had() -> None:
    polls: list[Any] = []

    class Died(BaseException):
        pass

    def check(state: Any) -> Any:
        polls.append(state)
        if len(polls) == 2:
            raise Died
        return state + 1

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.wait_for_condition(check, WaitForConditionConfig(_until(2), 0), name="c")

    assert Local(handler).run().result == 2
    assert polls == [0, 1, 1]


def test_the_ready_made_strategies_wait_as_they_say() -> None:
    always = lambda _state: True  # noqa: E731
    linear = linear_wait(always, initial_delay=1, increment=2, max_delay=4)
    assert [linear(0, n).delay_seconds for n in (1, 2, 3)] == [1, 3, 4]
    exponential = exponential_wait(
        always, initial_delay=2, backoff_rate=3, max_delay=10, jitter="NONE", max_attempts=9_999
    )
    assert [exponential(0, n).delay_seconds for n in (1, 2, 3, 4000)] == [2, 6, 10, 10]
    fixed = fixed_wait(always, delay=7, max_attempts=2)
    assert fixed(0, 1).delay_seconds == 7
    with pytest.raises(WaitForConditionError):
        fixed(0, 2)
