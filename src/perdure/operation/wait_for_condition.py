"""wait_for_condition: a check that is repeated until it is met."""

from perdure.sdk.operations.condition import wait_for_condition

__all__ = ["wait_for_condition"]
