# mypy: ignore-errors
"""Callbacks: somebody else's turn, with time limits, heartbeats, failures and typed answers."""

from aws_durable_execution_sdk_python import (
    CallbackError,
    CallbackExternalError,
    CallbackSubmitterError,
    CallbackTimeoutError,
    DurableContext,
    durable_execution,
    durable_wait_for_callback,
)
from aws_durable_execution_sdk_python.config import CallbackConfig, Duration, WaitForCallbackConfig
from aws_durable_execution_sdk_python.retries import RetryPresets
from aws_durable_execution_sdk_python.serdes import JsonSerDes
from aws_durable_execution_sdk_python.types import WaitForCallbackContext

outbox = []


@durable_wait_for_callback
def ask_manager(callback_id: str, context: WaitForCallbackContext, amount: int) -> None:
    context.logger.info("asking")
    outbox.append((callback_id, amount))


@durable_execution
def expense(event: dict, context: DurableContext) -> str:
    config = WaitForCallbackConfig(timeout=Duration.from_days(1), serdes=JsonSerDes())
    try:
        answer = context.wait_for_callback(ask_manager(event["amount"]), name="approval", config=config)
    except CallbackTimeoutError:
        return "nobody answered"
    except CallbackExternalError as error:
        return f"refused: {error}"
    return f"approved by {answer['by']}"


@durable_execution
def scan(event: dict, context: DurableContext) -> list:
    config = CallbackConfig(timeout=Duration.from_hours(2), heartbeat_timeout=Duration.from_minutes(5))
    callback = context.create_callback(name="scanner", config=config)
    context.step(lambda _: outbox.append((callback.callback_id, "scan")), name="start-scanner")
    try:
        return ["clean", callback.result()]
    except CallbackError as error:
        return ["unknown", type(error).__name__]


@durable_execution
def unreachable(event: dict, context: DurableContext) -> str:
    def submit(callback_id, submit_context):
        raise ConnectionError("no network")

    config = WaitForCallbackConfig(retry_strategy=RetryPresets.none())
    try:
        return context.wait_for_callback(submit, name="fax", config=config)
    except CallbackSubmitterError as error:
        return f"not sent: {error}"
