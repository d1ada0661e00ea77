# mypy: ignore-errors
"""Child contexts: operations grouped under one, which is recorded as a whole."""

from aws_durable_execution_sdk_python import (
    ChildContextError,
    DurableContext,
    StepError,
    durable_execution,
    durable_with_child_context,
)
from aws_durable_execution_sdk_python.config import ChildConfig, Duration, StepConfig
from aws_durable_execution_sdk_python.retries import RetryPresets

bodies = []


@durable_with_child_context
def bake(child: DurableContext, kind: str) -> dict:
    bodies.append(kind)
    dough = child.step(lambda _: f"dough for {kind}", name="knead")
    child.wait(Duration.from_hours(1), name="rise")
    return {"bread": child.step(lambda _: dough.replace("dough for ", ""), name="bake")}


@durable_execution
def bakery(event: dict, context: DurableContext) -> list:
    first = context.run_in_child_context(bake("rye"))
    second = context.run_in_child_context(bake("wheat"), name="white-bread")
    context.wait(Duration.from_minutes(5), name="cool")
    return [first, second]


@durable_execution
def large(event: dict, context: DurableContext) -> int:
    def read(child):
        pages = [child.step(lambda _: "p" * 100_000, name=f"page-{n}") for n in range(3)]
        return "".join(pages)

    config = ChildConfig(summary_generator=lambda text: f"{len(text)} characters")
    book = context.run_in_child_context(read, name="book", config=config)
    context.wait(Duration.from_seconds(1))
    return len(book)


@durable_execution
def burnt(event: dict, context: DurableContext) -> str:
    def fail(step):
        raise RuntimeError("smoke")

    def body(child):
        child.step(fail, name="oven", config=StepConfig(retry_strategy=RetryPresets.none()))

    try:
        context.run_in_child_context(body, name="burning")
    except ChildContextError as error:
        inner = isinstance(error.__cause__, StepError)
        return f"{error}, from a step: {inner}"


@durable_execution
def grouped(event: dict, context: DurableContext) -> list:
    config = ChildConfig(is_virtual=True)

    def count(n):
        return lambda child: child.step(lambda _: n)

    return [context.run_in_child_context(count(n), config=config) for n in range(2)]
