# mypy: ignore-errors
"""Testing patterns: handlers made to be tested, with what they use handed in and the parts tested alone."""

from aws_durable_execution_sdk_python import DurableContext, StepContext, durable_execution, durable_step
from aws_durable_execution_sdk_python.config import Duration, JitterStrategy, StepConfig
from aws_durable_execution_sdk_python.execution import InvocationStatus
from aws_durable_execution_sdk_python.lambda_service import OperationStatus, OperationType
from aws_durable_execution_sdk_python.retries import RetryPresets, RetryStrategyConfig, create_retry_strategy


class Mailer:
    def __init__(self):
        self.sent = []
        self.failures = 0

    def send(self, to):
        if self.failures:
            self.failures -= 1
            raise ConnectionError("mail server")
        self.sent.append(to)


mailer = Mailer()


def price_of(items: list) -> int:
    """Plain code: tested without any of this."""
    return sum(item["price"] for item in items)


@durable_step
def send_receipt(step: StepContext, to: str) -> bool:
    mailer.send(to)
    return True


@durable_execution
def checkout(event: dict, context: DurableContext) -> dict:
    total = context.step(lambda _: price_of(event["items"]), name="total")
    context.wait(Duration.from_seconds(30), name="cooling-off")
    fixed = RetryPresets.fixed(Duration.from_seconds(20))
    sent = context.step(send_receipt(event["to"]), config=StepConfig(retry_strategy=fixed))
    return {"total": total, "sent": sent}


def strategy_table() -> list:
    """A strategy is a function: what it decides is tested by asking it."""
    ask = create_retry_strategy(RetryStrategyConfig(max_attempts=3, jitter_strategy=JitterStrategy.NONE))
    decisions = [ask(ValueError("x"), attempts) for attempts in (1, 2, 3)]
    return [(decision.should_retry, decision.delay_seconds) for decision in decisions]


STATUSES = [InvocationStatus.SUCCEEDED.value, OperationStatus.READY.value, OperationType.CHAINED_INVOKE.value]
