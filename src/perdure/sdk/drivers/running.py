"""Run an operation whose driver blocks."""

from collections.abc import Coroutine
from typing import Any, TypeVar, cast

T = TypeVar("T")


def run_blocking(operation: Coroutine[Any, Any, T]) -> T:
    """Drive an operation whose driver blocks the thread: one `send` runs it to its end."""
    try:
        operation.send(None)
    except StopIteration as finished:
        return cast(T, finished.value)
    operation.close()
    raise RuntimeError("a driver suspended inside run_blocking; give it a blocking driver")
