"""step: one recorded call of a function."""

from perdure.sdk.operations.step import step

__all__ = ["step"]
