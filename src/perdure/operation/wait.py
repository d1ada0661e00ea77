"""wait: time that passes without anything running."""

from perdure.sdk.operations.wait import wait

__all__ = ["wait"]
