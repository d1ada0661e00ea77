"""base: what an operation asks of the world."""

from perdure.sdk.drivers.protocol import Driver

__all__ = ["Driver"]
