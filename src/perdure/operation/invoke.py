"""invoke: another function and its result."""

from perdure.sdk.operations.invoke import invoke

__all__ = ["invoke"]
