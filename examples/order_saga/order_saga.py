"""A trip is booked as a saga: what has been done is undone, in the reverse order, when a later part fails for good.

    hotel → flight → payment (at most once) → trip, or: void the payment → cancel the flight → cancel the hotel

A process that dies while it pays leaves a payment of which nobody knows whether it was made. So voiding it is on the
list before it is tried; voiding what was never paid does nothing.

Each body writes a line to `bookings.log` (or to the file that BOOKINGS names): what the outside world saw. Kill the
program anywhere and run it again: completed parts are not done again, neither are completed undos.

Try it:

    perdure run examples/order_saga/order_saga.py:handler -e '{"trip": "lisbon", "cents": 42000}'
    perdure run examples/order_saga/order_saga.py:handler -e '{"trip": "oslo", "cents": 42000, "declined": true}'
"""

import os
from pathlib import Path
from typing import Any

from perdure import (
    DurableContext,
    RetryPresets,
    StepConfig,
    StepContext,
    StepError,
    StepSemantics,
    durable_execution,
    durable_step,
)

ONCE = StepConfig(step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY, retry_strategy=RetryPresets.none())
"""A card is not charged twice: a process that dies meanwhile counts as a failure, and there is one attempt."""

INSIST = StepConfig(retry_strategy=RetryPresets.critical())
"""An undo has to succeed: it is tried ten times."""


def world(word: str, trip: str, key: str) -> None:
    """What a partner's service would see. `key` lets it recognize a request that it has had before."""
    with Path(os.environ.get("BOOKINGS", "bookings.log")).open("a") as file:
        print(word, trip, key, file=file, flush=True)


@durable_step
def book_hotel(step: StepContext, trip: str) -> str:
    world("book-hotel", trip, step.idempotency_key)
    return f"hotel-{trip}"


@durable_step
def cancel_hotel(step: StepContext, booking: str) -> None:
    world("cancel-hotel", booking, step.idempotency_key)


@durable_step
def book_flight(step: StepContext, trip: str) -> str:
    world("book-flight", trip, step.idempotency_key)
    return f"flight-{trip}"


@durable_step
def cancel_flight(step: StepContext, booking: str) -> None:
    world("cancel-flight", booking, step.idempotency_key)


class CardDeclined(Exception):
    """The bank says no."""


@durable_step
def pay(step: StepContext, trip: str, cents: int, declined: bool) -> str:
    world("pay", trip, step.idempotency_key)
    if declined:
        raise CardDeclined(f"{cents} cents are too much")
    return f"payment-{trip}"


@durable_step
def void_payment(step: StepContext, trip: str) -> None:
    world("void-payment", trip, step.idempotency_key)


@durable_execution(name="trip")
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    trip = event["trip"]
    try:
        with context.saga(INSIST) as saga:
            hotel = saga.step(book_hotel(trip), undo=cancel_hotel)
            flight = saga.step(book_flight(trip), undo=cancel_flight)
            saga.add(void_payment, trip, name="pay")
            payment = context.step(pay(trip, event["cents"], event.get("declined", False)), config=ONCE)
    except StepError as error:  # by now all is undone; CompensationError would say what is not
        context.logger.warning("trip %s was undone: %s", trip, error)
        return {"trip": trip, "state": "undone", "why": str(error)}
    return {"trip": trip, "state": "booked", "parts": [hotel, flight, payment]}
