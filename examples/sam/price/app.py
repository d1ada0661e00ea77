"""What an item costs."""

import os
from typing import Any

PRICES = {"espresso": "2.20", "cappuccino": "3.10"}


def handler(event: dict[str, Any], context: Any) -> str:
    return f"{PRICES.get(event['item'], '4.00')} {os.environ['CURRENCY']}"
