"""What the killed process runs: fifty orders, half of them on the loop. Their bodies write down what they do, on disk.

python orders.py STORE LOG
"""

import asyncio
import os
import sys
import time
from typing import Any

import perdure
from perdure import AsyncDurableContext, DurableContext, StepConfig, StepContext, StepSemantics, durable_execution

ORDERS = 50
TURNS = 4
LOG = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND) if len(sys.argv) > 2 else -1
ONCE = StepConfig(lambda _error, _attempts: perdure.RetryDecision.retry(1), StepSemantics.AT_MOST_ONCE_PER_RETRY)


def note(*words: object) -> None:
    """One line, whole and on disk."""
    os.write(LOG, (" ".join(map(str, words)) + "\n").encode())
    os.fsync(LOG)


def work(order: int, name: str, seconds: float) -> Any:
    def body(step: StepContext) -> str:
        note("start", order, name, step.attempt)
        time.sleep(seconds)
        note("end", order, name, step.attempt)
        return f"{name}-{order}"

    return body


@durable_execution(name="order")
def order(event: Any, context: DurableContext) -> Any:
    number = event["order"]
    seen = []

    def step(where: DurableContext, name: str, seconds: float, config: StepConfig | None = None) -> Any:
        value = where.step(work(number, name, seconds), name=name, config=config)
        note("seen", number, name, "-")
        return value

    for turn in range(TURNS):
        seen.append(step(context, f"validate-{turn}", 0.002))
        seen.append(step(context, f"reserve-{turn}", 0.05))
        seen.append(step(context, f"charge-{turn}", 0.04, ONCE))
        context.wait(1, name="cool-down")
        beside = [lambda branch, name=name: step(branch, name, 0.04) for name in (f"pack-{turn}", f"wrap-{turn}")]
        seen += context.parallel(beside, name="packing").results_or_raise()
        seen.append(step(context, f"label-{turn}", 0.001, ONCE))
        seen.append(step(context, f"ship-{turn}", 0.03))
    return seen


@durable_execution(name="order-on-the-loop")
async def order_on_the_loop(event: Any, context: AsyncDurableContext) -> Any:
    number = event["order"]
    seen = []

    async def step(where: AsyncDurableContext, name: str, seconds: float, config: StepConfig | None = None) -> Any:
        async def body(step: StepContext) -> str:
            note("start", number, name, step.attempt)
            await asyncio.sleep(seconds)
            note("end", number, name, step.attempt)
            return f"{name}-{number}"

        value = await where.step(body, name=name, config=config)
        note("seen", number, name, "-")
        return value

    for turn in range(TURNS):
        seen.append(await step(context, f"validate-{turn}", 0.002))
        seen.append(await step(context, f"reserve-{turn}", 0.05))
        seen.append(await step(context, f"charge-{turn}", 0.04, ONCE))
        await context.wait(1, name="cool-down")
        both = [context.child(step, name, 0.04) for name in (f"pack-{turn}", f"wrap-{turn}")]
        seen += await context.gather(*both)
        seen.append(await step(context, f"label-{turn}", 0.001, ONCE))
        seen.append(await step(context, f"ship-{turn}", 0.03))
    return seen


def main() -> None:
    handlers = [order, order_on_the_loop]
    with perdure.open(sys.argv[1], handlers) as durable:
        executions = [durable.start(handlers[n % 2], {"order": n}, name=f"order-{n}") for n in range(ORDERS)]
        print("started", flush=True)
        for execution in executions:
            execution.result(60)
    print("done", flush=True)


if __name__ == "__main__":
    main()
