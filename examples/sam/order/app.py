"""An order: its price is asked of another function, then somebody has to confirm it."""

import os
from typing import Any

from perdure import DurableContext, StepContext, durable_execution, durable_step


@durable_step
def reserve(step: StepContext, item: str) -> str:
    step.logger.info("reserving %s", item)
    return f"reserved {item}"


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    item = event.get("item", "espresso")
    price = context.invoke(os.environ["PRICE_FUNCTION"], {"item": item}, name="price")
    reservation = context.step(reserve(item))
    confirmed_by = context.create_callback("confirmation").result()
    return {"item": item, "price": price, "reservation": reservation, "confirmed_by": confirmed_by}
