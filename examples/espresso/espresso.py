"""The order workflow of an espresso bar.

    validate → reserve beans → charge (at most once) → wait for the machine → the barista's answer → served

If the barista says no, or says nothing in time, what was done is undone in the reverse order: refund, release.

Try it:

    perdure run examples/espresso/espresso.py -e '{"order": 7, "drink": "cortado", "cents": 320}'
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perdure import (
    CallbackError,
    DurableContext,
    Duration,
    StepConfig,
    StepContext,
    StepError,
    StepSemantics,
    WaitForCallbackConfig,
    durable_execution,
    durable_step,
)
from perdure.retries import RetryPresets

MENU = {"espresso", "cortado", "flat white"}
JOURNAL = Path(os.environ.get("ESPRESSO_LOG", "espresso.log"))
"""What the outside world saw: each step body writes a line when it begins and when it is done."""

CHARGE_ONCE = StepConfig(step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY, retry_strategy=RetryPresets.none())


def note(word: str, order: int, name: str) -> None:
    """Append one line, on disk before anything else happens."""
    with JOURNAL.open("a") as file:
        print(word, order, name, os.getpid(), file=file, flush=True)
        os.fsync(file.fileno())


def work(order: int, name: str, seconds: float = 0.05) -> None:
    """Something that takes time and that the world can see."""
    note("begin", order, name)
    time.sleep(seconds)
    note("done", order, name)


@durable_step
def validate(step: StepContext, event: dict[str, Any]) -> dict[str, Any]:
    if event["drink"] not in MENU:
        raise ValueError(f"{event['drink']!r} is not on the menu: {', '.join(sorted(MENU))}")
    work(event["order"], "validate")
    return {"order": event["order"], "drink": event["drink"], "cents": int(event["cents"])}


@durable_step
def reserve(step: StepContext, order: dict[str, Any]) -> str:
    work(order["order"], "reserve", seconds=1.5)
    return f"beans-{order['order']}"


@durable_step
def charge(step: StepContext, order: dict[str, Any]) -> str:
    work(order["order"], "charge")
    return f"payment-{order['order']}"


@durable_step
def refund(step: StepContext, order: dict[str, Any], payment: str) -> str:
    work(order["order"], "refund")
    return f"{payment} refunded"


@durable_step
def release(step: StepContext, order: dict[str, Any], beans: str) -> str:
    work(order["order"], "release")
    return f"{beans} released"


@durable_execution(name="espresso-order")
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    order = context.step(validate(event))
    undo: list[Callable[[], str]] = []
    try:
        beans = context.step(reserve(order))
        undo.append(lambda: context.step(release(order, beans)))
        payment = context.step(charge(order), config=CHARGE_ONCE)
        undo.append(lambda: context.step(refund(order, payment)))
        context.wait(Duration.from_seconds(3), name="heat-the-machine")
        answer = context.wait_for_callback(
            lambda callback_id, _: note("asked", order["order"], "barista"),
            name="barista",
            config=WaitForCallbackConfig(timeout=Duration.from_seconds(event.get("patience_s", 600))),
        )
    except (CallbackError, StepError) as error:
        context.logger.warning("order %s is undone: %s", order["order"], error)
        return {"order": order["order"], "state": "refunded", "undone": [step() for step in reversed(undo)]}
    return {"order": order["order"], "state": "served", "drink": order["drink"], "by": answer, "paid": payment}
