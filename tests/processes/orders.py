"""What the killed process runs: fifty orders, whose bodies write down what they do, each line on disk.

python orders.py STORE LOG
"""

import os
import sys
import time
from typing import Any

import perdure
from perdure import DurableContext, StepConfig, StepContext, StepSemantics, durable_execution

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
        pack = f"pack-{turn}"
        seen.append(context.run_in_child_context(lambda child, pack=pack: step(child, pack, 0.08), name="packing"))
        seen.append(step(context, f"label-{turn}", 0.001, ONCE))
        seen.append(step(context, f"ship-{turn}", 0.03))
    return seen


def main() -> None:
    with perdure.open(sys.argv[1], [order]) as durable:
        executions = [durable.start(order, {"order": n}, name=f"order-{n}") for n in range(ORDERS)]
        print("started", flush=True)
        for execution in executions:
            execution.result(60)
    print("done", flush=True)


if __name__ == "__main__":
    main()
