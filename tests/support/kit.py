"""A handler that does a bit of everything, and short ways to run handlers with the test kit."""

from collections.abc import Callable
from typing import Any

from perdure import DurableContext, Duration, StepConfig, durable_execution
from perdure.retries import RetryDecision
from perdure.testing import LocalRunner, Result


def run(handler: Callable[..., Any], input: Any = None, **options: Any) -> Result:  # noqa: A002 - as a runner has it
    """The result of a handler, durable or not yet."""
    with LocalRunner(handler, **options) as runner:
        result = runner.run(input)
        assert isinstance(result, Result)
        return result


def every(delay_s: int, attempts: int) -> StepConfig:
    """So many attempts, so far apart."""

    def decide(_error: Exception, attempt: int) -> RetryDecision:
        return RetryDecision.retry(Duration(delay_s)) if attempt < attempts else RetryDecision.no_retry()

    return StepConfig(retry_strategy=decide)


NEVER = every(1, 1)


@durable_execution
def shop(event: Any, context: DurableContext) -> Any:
    """An order of three items, two of which are charged twice."""

    def charge(step: Any) -> int:
        if step.attempt < 3:
            raise ConnectionError("the bank is away")
        return 12

    def item(inner: DurableContext, sku: str, _index: int, _skus: Any) -> str:
        inner.step(lambda _: sku, name="reserve")
        for _ in range(2):
            inner.step(lambda _: sku.upper(), name="charge")
        return sku

    context.step(lambda _: True, name="validate")
    context.map(["tea", "milk", "jam"], item, name="orders")
    context.wait(3600, name="cool down")
    context.wait(60)
    context.parallel([lambda inner: inner.step(lambda _: 1, name="mail"), lambda _: 2], name="tell")
    context.run_in_child_context(lambda inner: inner.step(charge, name="charge", config=every(5, 3)), name="bill")
    return {"state": "done", "for": event}
