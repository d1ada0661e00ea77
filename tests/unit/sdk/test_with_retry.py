"""`with_retry`: several operations that are tried again together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, assert_type

import pytest

from perdure import (
    AsyncDurableContext,
    ChildConfig,
    ChildContextError,
    DurableContext,
    Duration,
    ExecutionError,
    InvocationError,
    JitterStrategy,
    RetryDecision,
    RetryPresets,
    RetryStrategyConfig,
    StepConfig,
    StepError,
    ValidationError,
    WithRetryConfig,
    create_retry_strategy,
    durable_execution,
    with_retry,
)
from perdure.model.execution import ExecutionStatus
from support.local import Local
from support.wire import Handmade
from support.yardstick import run_official, run_ours

EVERY_SECOND = RetryPresets.fixed(Duration(1))


def ran(handler: Callable[[Any, DurableContext], Any]) -> Any:
    return Local(durable_execution(handler)).run()


@pytest.mark.parametrize(
    ("name", "succeeds_at", "child", "is_wrapped"),
    [
        ("r", 1, {}, True),
        ("r", 3, {}, True),
        ("r", 9, {}, True),
        ("", 3, {}, True),
        (None, 3, {}, True),
        ("r", 3, {"sub_type": "Mine"}, True),
        ("r", 3, {"is_virtual": True}, True),
        ("r", 9, {"is_virtual": True}, True),
        ("r", 1, {}, False),
        ("r", 3, {}, False),
        ("r", 9, {}, False),
        ("", 9, {}, False),
        (None, 3, {}, False),
    ],
)
def test_what_is_recorded_is_what_the_official_sdk_records(
    name: str | None, succeeds_at: int, child: dict[str, Any], *, is_wrapped: bool
) -> None:
    def make(sdk: Any) -> Callable[..., Any]:
        @sdk.durable_execution  # type: ignore[untyped-decorator]
        def handler(event: Any, context: Any) -> Any:
            def body(ctx: Any, attempt: int) -> int:
                ctx.step(lambda _: attempt, name=f"s{attempt}")
                if attempt < succeeds_at:
                    raise LookupError(attempt)
                return attempt

            second, none = sdk.config.Duration(1), sdk.config.JitterStrategy.NONE
            strategy = sdk.retries.create_retry_strategy(
                sdk.retries.RetryStrategyConfig(3, second, second, jitter_strategy=none)
            )
            config = sdk.retries.WithRetryConfig(strategy, is_wrapped, sdk.config.ChildConfig(**child))
            try:
                return sdk.retries.with_retry(context, body, config, name)
            except Exception as error:
                return [type(error).__name__, str(error), getattr(error, "error_type", None)]

        return handler  # type: ignore[no-any-return]

    ours, official = run_ours(make), run_official(make)
    assert ours.operations == official.operations
    assert ours.result == official.result


def test_without_a_configuration_there_are_three_attempts_in_a_child_context() -> None:
    attempts: list[int] = []

    def handler(event: Any, context: DurableContext) -> Any:
        def body(ctx: DurableContext, attempt: int) -> str:
            attempts.append(attempt)
            raise LookupError(f"attempt {attempt}")

        with pytest.raises(ChildContextError, match="attempt 3") as caught:
            with_retry(context, body)
        return caught.value.error_type

    outcome = ran(handler)
    assert outcome.result == "LookupError"
    assert sorted(set(attempts)) == [1, 2, 3]
    assert [str(each.type) for each in outcome.operations] == ["CONTEXT", "WAIT", "WAIT"]


def test_a_function_may_do_without_the_attempt() -> None:
    def handler(event: Any, context: DurableContext) -> Any:
        def body(ctx: DurableContext) -> int:
            return ctx.step(lambda _: 1)

        with pytest.raises(ValidationError, match=r"the function of with_retry .* takes no argument"):
            with_retry(context, lambda: 1)  # type: ignore[arg-type]
        return with_retry(context, body)

    assert ran(handler).result == 1


def test_a_step_s_failure_is_tried_again_too() -> None:
    runs: list[int] = []

    def handler(event: Any, context: DurableContext) -> Any:
        def body(ctx: DurableContext, attempt: int) -> int:
            def charge(_: Any) -> int:
                runs.append(attempt)
                if attempt == 1:
                    raise ValueError
                return attempt

            return ctx.step(charge, name="charge", config=StepConfig(RetryPresets.none()))

        return with_retry(context, body, WithRetryConfig(EVERY_SECOND))

    assert ran(handler).result == 2
    assert runs == [1, 2]


def test_the_strategy_sees_the_error_and_the_attempt() -> None:
    seen: list[Any] = []

    def handler(event: Any, context: DurableContext) -> Any:
        def strategy(error: Exception, attempts_made: int) -> RetryDecision:
            seen.append((type(error).__name__, attempts_made))
            return RetryDecision.no_retry()

        def body(ctx: DurableContext, attempt: int) -> None:
            ctx.step(lambda _: 1 / 0, config=StepConfig(RetryPresets.none()))

        with pytest.raises(StepError):
            with_retry(context, body, WithRetryConfig(strategy, wrap_with_run_in_child_context=False))

    assert ran(handler).status is ExecutionStatus.SUCCEEDED
    assert seen == [("StepError", 1)]


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_an_execution_error_is_not_tried_again(*, is_wrapped: bool) -> None:
    attempts: list[int] = []

    def handler(event: Any, context: DurableContext) -> Any:
        def body(ctx: DurableContext, attempt: int) -> None:
            attempts.append(attempt)
            raise ExecutionError("no use")

        with_retry(context, body, WithRetryConfig(EVERY_SECOND, is_wrapped))

    outcome = ran(handler)
    assert (outcome.status, outcome.error.message) == (ExecutionStatus.FAILED, "no use")
    assert attempts == [1]
    assert "WAIT" not in [str(each.type) for each in outcome.operations]


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_a_retryable_invocation_error_is_the_platform_s(*, is_wrapped: bool) -> None:
    attempts: list[int] = []

    def handler(event: Any, context: DurableContext) -> Any:
        def body(ctx: DurableContext, attempt: int) -> None:
            attempts.append(attempt)
            raise InvocationError("another invocation may do better")

        with_retry(context, body, WithRetryConfig(EVERY_SECOND, is_wrapped))

    wire = Handmade(durable_execution(handler))
    with pytest.raises(InvocationError, match="another invocation"):
        wire.invoke()
    assert attempts == [1]
    assert "WAIT" not in [str(update.type) for call in wire.calls for update in call]


def test_a_divergence_is_not_tried_again() -> None:
    def handler(event: Any, context: DurableContext) -> Any:
        def body(ctx: DurableContext, attempt: int) -> None:
            ctx.step(lambda _: 1, name="renamed")

        with_retry(context, body, WithRetryConfig(EVERY_SECOND, wrap_with_run_in_child_context=False))

    wire = Handmade(durable_execution(handler))
    wire.step("before", status="SUCCEEDED")
    answer = wire.invoke()
    assert answer.error is not None
    assert answer.error.type == "perdure.exceptions.NonDeterministicExecutionError"
    assert wire.calls == []


def test_a_suspension_is_no_failure() -> None:
    asked: list[int] = []

    def handler(event: Any, context: DurableContext) -> Any:
        def strategy(error: Exception, attempts_made: int) -> RetryDecision:
            asked.append(attempts_made)
            return RetryDecision.no_retry()

        def body(ctx: DurableContext, attempt: int) -> int:
            ctx.wait(60)
            return attempt

        return with_retry(context, body, WithRetryConfig(strategy))

    assert ran(handler).result == 1
    assert asked == []


def test_a_delay_below_a_second_is_raised_to_one(caplog: pytest.LogCaptureFixture) -> None:
    def handler(event: Any, context: DurableContext) -> Any:
        def body(ctx: DurableContext, attempt: int) -> int:
            if attempt == 1:
                raise ValueError
            return attempt

        return with_retry(context, body, WithRetryConfig(lambda error, attempt: RetryDecision.retry(0)), "r")

    outcome = ran(handler)
    assert outcome.result == 2
    wait = outcome.op("r-backoff-1")
    assert wait.scheduled_end_ms - wait.start_ms == 1_000
    assert "a retry delay of 0 s was raised to 1 s" in caplog.text


@dataclass
class Paid:
    amount: int


def test_the_result_is_what_the_function_s_annotation_says() -> None:
    def handler(event: Any, context: DurableContext) -> Any:
        def pay(ctx: DurableContext, attempt: int) -> Paid:
            return Paid(attempt)

        paid = with_retry(context, pay, name="pay")
        assert_type(paid, Paid)
        context.wait(1)
        return paid.amount

    assert ran(handler).result == 1


def test_the_child_s_configuration_is_the_child_s() -> None:
    def handler(event: Any, context: DurableContext) -> Any:
        strategy = create_retry_strategy(RetryStrategyConfig(jitter_strategy=JitterStrategy.NONE))
        config: WithRetryConfig[int] = WithRetryConfig(strategy, child_context_config=ChildConfig(sub_type="Payment"))
        return with_retry(context, lambda ctx, attempt: attempt, config, "pay")

    assert ran(handler).op("pay").sub_type == "Payment"


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_async_handlers_await_it(is_wrapped: bool) -> None:
    attempts: list[int] = []

    @durable_execution
    async def handler(event: Any, context: AsyncDurableContext) -> Any:
        async def reserve(inner: AsyncDurableContext, attempt: int) -> str:
            attempts.append(attempt)
            await inner.step(lambda _: attempt, name="try")
            if attempt < 3:
                raise ValueError("not yet")
            return f"at attempt {attempt}"

        config: WithRetryConfig[str] = WithRetryConfig(wrap_with_run_in_child_context=is_wrapped)
        return await with_retry(context, reserve, config, name="reserve")

    outcome = Local(handler).run()
    assert outcome.result == "at attempt 3"
    assert sorted(set(attempts)) == [1, 2, 3]
    assert {"reserve-backoff-1", "reserve-backoff-2"} <= {operation.name for operation in outcome.operations}
