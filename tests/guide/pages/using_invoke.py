# mypy: ignore-errors
"""Invoke: one function asks another, durable or not, and waits for what it says."""

from aws_durable_execution_sdk_python import DurableContext, InvokeError, durable_execution
from aws_durable_execution_sdk_python.config import Duration, InvokeConfig
from aws_durable_execution_sdk_python.serdes import SerDes


def tax(event, lambda_context):
    return round(event["net"] * 0.19, 2)


def sold_out(event, lambda_context):
    raise LookupError(f"{event} is sold out")


@durable_execution
def stock(event: dict, context: DurableContext) -> dict:
    context.wait(Duration.from_minutes(2))
    return {"item": event["item"], "left": context.step(lambda _: 7)}


FUNCTIONS = {"tax": tax, "sold-out": sold_out, "stock": stock}


class Shout(SerDes):
    def serialize(self, value, serdes_context):
        return f'"{value.upper()}"'

    def deserialize(self, data, serdes_context):
        return data


@durable_execution
def order(event: dict, context: DurableContext) -> dict:
    left = context.invoke("stock", {"item": "tea"}, name="stock")
    vat = context.invoke(function_name="tax", payload={"net": 100}, name="vat")
    try:
        context.invoke("sold-out", "coffee", name="coffee", config=InvokeConfig(serdes_payload=Shout()))
    except InvokeError as error:
        return {"left": left, "vat": vat, "error": [error.message, error.error_type]}


@durable_execution
def unknown(event: dict, context: DurableContext) -> None:
    context.invoke("not-deployed", None)
