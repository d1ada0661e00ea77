# mypy: ignore-errors
"""Serialization: which values survive as they are, and how to write one's own."""

import datetime
import json
import uuid
from decimal import Decimal

from aws_durable_execution_sdk_python import BatchResult, DurableContext, SerDesError, durable_execution
from aws_durable_execution_sdk_python.config import ChildConfig, Duration, MapConfig, StepConfig
from aws_durable_execution_sdk_python.serdes import JsonSerDes, PassThroughSerDes, SerDes, SerDesContext

VALUES = [
    None,
    7,
    "text",
    [1, [2.5, True]],
    {"a": {"b": [None]}},
    b"\x00\xff",
    Decimal("19.90"),
    uuid.UUID("12345678-1234-5678-1234-567812345678"),
    datetime.date(2026, 2, 3),
    datetime.datetime(2026, 2, 3, 4, 5, tzinfo=datetime.UTC),
    (1, ("two", 3)),
]


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


class MoneySerDes(SerDes[Money]):
    def serialize(self, value: Money, context: SerDesContext) -> str:
        assert context.operation_id
        assert context.durable_execution_arn
        return json.dumps({"cents": value.cents})

    def deserialize(self, data: str, context: SerDesContext) -> Money:
        return Money(json.loads(data)["cents"])


@durable_execution
def round_trips(event: dict, context: DurableContext) -> list:
    seen = [context.step(lambda _, value=value: value, name="value") for value in VALUES]
    context.wait(Duration.from_seconds(1))
    return [repr(value) for value in seen]


@durable_execution
def own(event: dict, context: DurableContext) -> list:
    config = StepConfig(serdes=MoneySerDes())
    price = context.step(lambda _: Money(1990), name="price", config=config)
    total = context.run_in_child_context(lambda child: Money(3980), config=ChildConfig(serdes=MoneySerDes()))
    text = context.step(lambda _: "as it is", config=StepConfig(serdes=PassThroughSerDes()))
    plain = context.step(lambda _: {1: "one"}, config=StepConfig(serdes=JsonSerDes()))
    context.wait(Duration.from_seconds(1))
    return [price.cents, total.cents, text, plain]


@durable_execution
def items(event: dict, context: DurableContext) -> list:
    def body(ctx, item, index, all_items):
        return Decimal(item)

    result: BatchResult = context.map(["1.1", "2.2"], body, config=MapConfig(max_concurrency=1))
    inner = context.step(lambda _: result, name="kept")
    return [str(sum(inner.get_results())), inner.completion_reason.value]


@durable_execution
def refused(event: dict, context: DurableContext) -> str:
    try:
        context.step(lambda _: open, name="a-function")
    except SerDesError:
        return "not written"


@durable_execution
def lossy(event: dict, context: DurableContext) -> str:
    return repr(context.step(lambda _: {2: "a", None: "b", True: "c"}))
