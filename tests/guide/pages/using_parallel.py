# mypy: ignore-errors
"""Parallel: different things beside each other."""

from aws_durable_execution_sdk_python import (
    DurableContext,
    ParallelBranch,
    durable_execution,
    durable_parallel_branch,
)
from aws_durable_execution_sdk_python.config import CompletionConfig, Duration, ParallelConfig, StepConfig
from aws_durable_execution_sdk_python.retries import RetryPresets


@durable_parallel_branch(name="flight")
def book_flight(ctx: DurableContext, to: str) -> str:
    return ctx.step(lambda _: f"flight to {to}", name="reserve")


@durable_parallel_branch()
def book_hotel(ctx: DurableContext, to: str) -> str:
    ctx.wait(Duration.from_minutes(10), name="hotel-answers")
    return f"hotel in {to}"


def rent_car(ctx: DurableContext) -> str:
    return ctx.step(lambda _: "a car", name="rent")


@durable_execution
def trip(event: dict, context: DurableContext) -> list:
    functions = [
        book_flight(event["to"]),
        book_hotel(event["to"]),
        rent_car,
        ParallelBranch(rent_car, name="spare-car"),
    ]
    return context.parallel(functions=functions, name="trip").get_results()


@durable_execution
def race(event: dict, context: DurableContext) -> list:
    def slow(ctx):
        ctx.wait(Duration.from_hours(5))
        return "slow"

    def fast(ctx):
        ctx.wait(Duration.from_seconds(5))
        return "fast"

    config = ParallelConfig(completion_config=CompletionConfig.first_successful())
    result = context.parallel([slow, fast], name="race", config=config)
    return [result.get_results(), result.completion_reason.value, [item.status.value for item in result.all]]


@durable_execution
def tolerant(event: dict, context: DurableContext) -> list:
    def fail(step):
        raise OSError("disk")

    config = ParallelConfig(max_concurrency=1, completion_config=CompletionConfig.all_completed())
    branches = [
        lambda ctx: ctx.step(fail, config=StepConfig(retry_strategy=RetryPresets.none())),
        lambda ctx: "fine",
    ]
    result = context.parallel(branches, config=config)
    return [result.has_failure, result.get_results(), [item.index for item in result.failed()]]
