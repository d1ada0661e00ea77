# mypy: ignore-errors
"""Error handling: what fails, what is caught, what is undone, and what is tried again as a whole."""

from aws_durable_execution_sdk_python import (
    ChildContextError,
    DurableContext,
    DurableOperationError,
    ExecutionError,
    InvocationError,
    StepError,
    WithRetryConfig,
    durable_execution,
    with_retry,
)
from aws_durable_execution_sdk_python.config import Duration, JitterStrategy, StepConfig
from aws_durable_execution_sdk_python.retries import (
    LinearRetryStrategyConfig,
    RetryDecision,
    RetryPresets,
    create_linear_retry_strategy,
)

NO_RETRY = StepConfig(retry_strategy=RetryPresets.none())


class SeatTaken(Exception):
    pass


@durable_execution
def saga(event: dict, context: DurableContext) -> list:
    def seat(step):
        raise SeatTaken("12A")

    undo = []
    try:
        context.step(lambda _: "hotel", name="hotel")
        undo.append("hotel")
        context.step(seat, name="seat", config=NO_RETRY)
    except StepError as error:
        cancelled = [context.step(lambda _, what=what: f"no {what}", name=f"cancel-{what}") for what in reversed(undo)]
        return [error.error_type, error.message, *cancelled]


@durable_execution
def any_operation(event: dict, context: DurableContext) -> list:
    def fail(step):
        raise SeatTaken("3C")

    kinds = []
    for attempt in (
        lambda: context.step(fail, config=NO_RETRY),
        lambda: context.run_in_child_context(lambda child: child.step(fail, config=NO_RETRY)),
        lambda: context.invoke("nowhere", {}),
    ):
        try:
            attempt()
        except DurableOperationError as error:
            kinds.append(type(error).__name__)
    return kinds


@durable_execution
def stop_now(event: dict, context: DurableContext) -> None:
    def validate(step):
        raise ExecutionError("the order makes no sense")

    context.step(validate, name="validate")


tries = []


@durable_execution
def once_more(event: dict, context: DurableContext) -> str:
    tries.append("try")
    if len(tries) % 2:
        raise InvocationError("the cache was cold")
    return "warm"


@durable_execution
def whole_block(event: dict, context: DurableContext) -> dict:
    def reserve_and_pay(ctx, attempt):
        ctx.step(lambda _: "reserved", name="reserve")
        if attempt < 3:
            raise ConnectionError("payment is down")
        return {"paid": True, "attempt": attempt}

    strategy = create_linear_retry_strategy(
        LinearRetryStrategyConfig(max_attempts=event["attempts"], jitter_strategy=JitterStrategy.NONE)
    )
    try:
        return with_retry(context, reserve_and_pay, WithRetryConfig(retry_strategy=strategy), name="pay")
    except ChildContextError as error:
        return {"paid": False, "why": str(error)}


@durable_execution
def unwrapped(event: dict, context: DurableContext) -> str:
    def body(ctx, attempt):
        raise SeatTaken(f"attempt {attempt}")

    def twice(error, attempts):
        return RetryDecision.retry(Duration(60)) if attempts < 2 else RetryDecision.no_retry()

    config = WithRetryConfig(retry_strategy=twice, wrap_with_run_in_child_context=False)
    try:
        return with_retry(context, body, config)
    except SeatTaken as error:
        return str(error)


@durable_execution
def uncaught(event: dict, context: DurableContext) -> None:
    raise SeatTaken("handler")
