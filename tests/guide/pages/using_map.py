# mypy: ignore-errors
"""Map: the same for each item, with limits on how many at once and on how many may fail."""

from aws_durable_execution_sdk_python import DurableContext, complete_batch, continue_batch, durable_execution
from aws_durable_execution_sdk_python.config import (
    CompletionConfig,
    Duration,
    MapConfig,
    NestingType,
    StepConfig,
)
from aws_durable_execution_sdk_python.retries import RetryPresets

NO_RETRY = StepConfig(retry_strategy=RetryPresets.none())


def resize(ctx: DurableContext, picture: dict, index: int, pictures: list) -> str:
    def work(step):
        if picture.get("broken"):
            raise ValueError(f"{picture['name']} is broken")
        return f"{picture['name']} ({index + 1} of {len(pictures)})"

    return ctx.step(work, name="resize", config=NO_RETRY)


@durable_execution
def album(event: list, context: DurableContext) -> dict:
    config = MapConfig(
        max_concurrency=2,
        completion_config=CompletionConfig(tolerated_failure_percentage=50),
        item_namer=lambda picture, index: f"{picture['name']}-{index}",
    )
    results = context.map(event, resize, name="album", config=config)
    return {
        "done": results.get_results(),
        "failed": [error.message for error in results.get_errors()],
        "reason": results.completion_reason.value,
        "counts": [results.success_count, results.failure_count, results.total_count],
    }


@durable_execution
def quorum(event: dict, context: DurableContext) -> list:
    def vote(ctx, voter, index, voters):
        return ctx.step(lambda _: voter.upper(), name="vote")

    config = MapConfig(max_concurrency=1, completion_config=CompletionConfig(min_successful=2))
    result = context.map(inputs=["ann", "bob", "cyd"], func=vote, name="votes", config=config)
    return [result.get_results(), result.completion_reason.value, len(result.all)]


@durable_execution
def reminders(event: dict, context: DurableContext) -> list:
    def remind(ctx, days, index, items):
        ctx.wait(Duration.from_days(days), name="until-then")
        return ctx.step(lambda _: f"day {days}", name="remind")

    config = MapConfig(nesting_type=NestingType.FLAT)
    return context.map([1, 3, 2], remind, config=config).get_results()


@durable_execution
def first_failure(event: dict, context: DurableContext) -> list:
    result = context.map([{"name": "a", "broken": True}, {"name": "b"}], resize, config=MapConfig(max_concurrency=1))
    try:
        result.throw_if_error()
    except Exception as error:
        return [result.completion_reason.value, result.status.value, str(error)]


@durable_execution
def enough(event: dict, context: DurableContext) -> list:
    def should_complete(status):
        return complete_batch() if status.success_count >= 2 else continue_batch()

    def body(ctx, item, index, items):
        return item

    config = MapConfig(max_concurrency=1, completion_config=CompletionConfig(should_complete=should_complete))
    result = context.map(range(5), body, config=config)
    return [result.get_results(), result.completion_reason.value]
