"""The operation behind `context.parallel`."""

from perdure.sdk.operations.map_parallel import batch

__all__ = ["batch"]
