# mypy: ignore-errors
"""Waits: time that passes without anything running."""

from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python.config import Duration

woken = []


@durable_execution
def trial(event: dict, context: DurableContext) -> list:
    mails = [context.step(lambda _: "welcome", name="mail-1")]
    context.wait(Duration.from_days(7), name="first-week")
    woken.append("after a week")
    mails.append(context.step(lambda _: "how is it going?", name="mail-2"))
    context.wait(duration=Duration.from_days(7), name="second-week")
    if event.get("bought"):
        return mails
    mails.append(context.step(lambda _: "last call", name="mail-3"))
    return mails


@durable_execution
def short_waits(event: dict, context: DurableContext) -> str:
    context.wait(Duration.from_seconds(90))
    context.wait(Duration.from_minutes(1.5))
    context.wait(Duration(seconds=90))
    return "three times the same"


@durable_execution
def no_wait(event: dict, context: DurableContext) -> None:
    context.wait(Duration.from_seconds(0.5))
