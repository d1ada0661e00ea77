"""The operation behind `context.map`."""

from perdure.sdk.operations.map_parallel import batch

__all__ = ["batch"]
