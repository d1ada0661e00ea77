# mypy: ignore-errors
"""Steps: work that runs once, is named, is tried again, and at most once where once too often would hurt."""

from aws_durable_execution_sdk_python import DurableContext, StepContext, durable_execution, durable_step
from aws_durable_execution_sdk_python.config import Duration, JitterStrategy, StepConfig, StepSemantics
from aws_durable_execution_sdk_python.retries import RetryPresets, RetryStrategyConfig, create_retry_strategy

attempts = []


@durable_step
def weigh(step: StepContext, parcel: dict) -> float:
    step.logger.info("weighing")
    return parcel["grams"] / 1000


@durable_step
def book_courier(step: StepContext, weight: float) -> dict:
    attempts.append(step.attempt)
    if step.attempt < 3:
        raise ConnectionError("the courier's line is busy")
    return {"courier": "fox", "price": 4 + weight, "attempt": step.attempt}


def print_label(_):
    return "LABEL"


@durable_execution
def ship(event: dict, context: DurableContext) -> dict:
    weight = context.step(weigh(event["parcel"]))
    patient = create_retry_strategy(
        RetryStrategyConfig(
            max_attempts=4,
            initial_delay=Duration.from_seconds(10),
            backoff_rate=2,
            jitter_strategy=JitterStrategy.NONE,
            retryable_error_types=[ConnectionError],
        )
    )
    booking = context.step(book_courier(weight), config=StepConfig(retry_strategy=patient))
    label = context.step(print_label, name="print-label")
    stamps = [context.step(lambda _, n=n: n * n, name=f"stamp-{n}") for n in range(3)]
    return {**booking, "label": label, "stamps": stamps, "unnamed": context.step(lambda _: "quiet")}


charges = []


@durable_step
def charge(step: StepContext, amount: int) -> str:
    charges.append(amount)
    return f"charged {amount}"


@durable_execution
def pay(event: dict, context: DurableContext) -> str:
    config = StepConfig(
        step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY,
        retry_strategy=RetryPresets.none(),
    )
    return context.step(charge(event["amount"]), config=config)


@durable_execution
def give_up(event: dict, context: DurableContext) -> None:
    def refuse(step):
        raise PermissionError("not allowed")

    strategy = create_retry_strategy(RetryStrategyConfig(retryable_errors=["busy"]))
    context.step(refuse, name="refuse", config=StepConfig(retry_strategy=strategy))
