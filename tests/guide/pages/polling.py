# mypy: ignore-errors
"""Polling: looking again and again, with the state of the search kept between the looks."""

from aws_durable_execution_sdk_python import DurableContext, WaitForConditionError, durable_execution
from aws_durable_execution_sdk_python.waits import (
    Duration,
    JitterStrategy,
    WaitForConditionConfig,
    WaitForConditionDecision,
    WaitStrategyConfig,
    create_wait_strategy,
)

looks = []


def look(state: dict, check) -> dict:
    looks.append(check.attempt)
    return {"progress": state["progress"] + 40}


@durable_execution
def encode(event: dict, context: DurableContext) -> dict:
    strategy = create_wait_strategy(
        WaitStrategyConfig(
            should_continue_polling=lambda state: state["progress"] < 100,
            max_attempts=event.get("looks", 10),
            initial_delay=Duration.from_seconds(30),
            backoff_rate=2,
            jitter_strategy=JitterStrategy.NONE,
        )
    )
    config = WaitForConditionConfig(wait_strategy=strategy, initial_state={"progress": 0})
    try:
        return context.wait_for_condition(check=look, config=config, name="encoded")
    except WaitForConditionError:
        return {"progress": "unknown"}


@durable_execution
def own_strategy(event: dict, context: DurableContext) -> int:
    def decide(state, attempts):
        if state >= 3:
            return WaitForConditionDecision.stop_polling()
        return WaitForConditionDecision.continue_waiting(Duration.from_minutes(attempts))

    config = WaitForConditionConfig(wait_strategy=decide, initial_state=0)
    return context.wait_for_condition(lambda state, check: state + 1, config)


@durable_execution
def broken(event: dict, context: DurableContext) -> None:
    def check(state, check_context):
        raise LookupError("no such job")

    config = WaitForConditionConfig(lambda state, attempts: WaitForConditionDecision.stop_polling(), None)
    context.wait_for_condition(check, config, name="job")
