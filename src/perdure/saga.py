"""Sagas: steps that know how to undo themselves, and are undone in reverse when a later one fails."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from perdure.exceptions import (
    CompensationError,
    ContextUsageError,
    InvocationError,
    NonDeterministicExecutionError,
)
from perdure.sdk.arity import is_async, positional_max
from perdure.sdk.calls import func_and_name

if TYPE_CHECKING:
    from types import TracebackType

    from perdure.async_context import AsyncDurableContext
    from perdure.config import ChildConfig, StepConfig
    from perdure.context import DurableContext
    from perdure.types import StepContext

T = TypeVar("T")
C = TypeVar("C")

__all__ = ["AsyncSaga", "Saga"]


class _Undo:
    """One thing that may have to be undone."""

    __slots__ = ("action", "config", "name", "result")

    def __init__(self, action: Callable[..., Any], result: Any, name: str | None, config: "StepConfig | None") -> None:
        self.action = action
        self.result = result
        self.name = name
        self.config = config

    @property
    def called(self) -> str:
        return f"undo:{self.name}" if self.name else "undo"

    def body(self, step: "StepContext") -> Any:
        """Call the action with what is to be undone; a function made by `durable_step` is bound by that, and runs."""
        done = self.action() if positional_max(self.action) == 0 else self.action(self.result)
        return done(step) if hasattr(done, "_original_function") else done

    async def body_on_loop(self, step: "StepContext") -> Any:
        done = self.body(step)
        return await done if hasattr(done, "__await__") else done

    @property
    def is_async(self) -> bool:
        return is_async(self.action)


class _Undos(Generic[C]):
    """What has been done so far, in its order."""

    def __init__(self, context: C, undo_config: "StepConfig | None") -> None:
        self._context = context
        self._config = undo_config
        self._done: list[_Undo] = []

    def add(self, undo: Callable[..., Any], result: Any = None, *, name: str | None = None) -> None:
        """Have `undo(result)` called, as a step, if the saga fails."""
        self._done.append(_Undo(undo, result, name or getattr(undo, "_original_name", None), self._config))

    def _keep(self, undo: Callable[..., Any] | None, result: Any, name: str | None) -> None:
        if undo is not None:
            self._done.append(_Undo(undo, result, name, self._config))

    def _failed(self, error: BaseException, failures: list[tuple[str, Exception]]) -> CompensationError:
        stated = "; ".join(f"{name}: {failure}" for name, failure in failures)
        compensation = CompensationError(
            f"{len(failures)} of {len(self._done)} undo steps failed ({stated}) after: {error}"
        )
        compensation.failures = failures
        return compensation


def _is_to_be_undone(error: BaseException | None) -> bool:
    """A failure of the saga; not a suspension, nor a run that must not do anything more."""
    if not isinstance(error, Exception) or isinstance(error, (NonDeterministicExecutionError, ContextUsageError)):
        return False
    return not (isinstance(error, InvocationError) and error.is_retryable() and not hasattr(error, "error_type"))


class Saga(_Undos["DurableContext"]):
    """Used by `with context.saga() as saga:`. When the block raises, what was done is undone in reverse, each in a step
    `undo:{name}` with retries of its own; all are attempted. Then the error goes on; CompensationError if one failed.
    """

    def __enter__(self) -> "Saga":
        return self

    def step(
        self,
        func: "Callable[[StepContext], T]",
        name: str | None = None,
        config: "StepConfig | None" = None,
        *,
        undo: Callable[..., Any] | None = None,
    ) -> T:
        """A step of the context; `undo(result)` takes back what it did."""
        _, called = func_and_name(func, name, "step")
        result = self._context.step(func, name, config)
        self._keep(undo, result, called)
        return result

    def child(
        self,
        func: "Callable[[DurableContext], T]",
        name: str | None = None,
        config: "ChildConfig[T] | None" = None,
        *,
        undo: Callable[..., Any] | None = None,
    ) -> T:
        """A child context; `undo(result)` takes back what it did."""
        _, called = func_and_name(func, name, "child")
        result = self._context.run_in_child_context(func, name, config)
        self._keep(undo, result, called)
        return result

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        if error is None or not _is_to_be_undone(error):
            return
        failures: list[tuple[str, Exception]] = []
        for undo in reversed(self._done):
            try:
                self._context.step(undo.body, undo.called, undo.config)
            except Exception as failure:
                if not _is_to_be_undone(failure):
                    raise
                failures.append((undo.called, failure))
        if failures:
            raise self._failed(error, failures) from error


class AsyncSaga(_Undos[Any]):
    """The same for `async with context.saga() as saga:`."""

    _context: "AsyncDurableContext"

    async def __aenter__(self) -> "AsyncSaga":
        return self

    async def step(
        self,
        func: Callable[..., Any],
        name: str | None = None,
        config: "StepConfig | None" = None,
        *,
        undo: Callable[..., Any] | None = None,
    ) -> Any:
        """A step of the context; `undo(result)`, which may be `async def`, takes back what it did."""
        _, called = func_and_name(func, name, "step")
        result = await self._context.step(func, name, config)
        self._keep(undo, result, called)
        return result

    async def child(
        self,
        func: Callable[..., Any],
        name: str | None = None,
        config: "ChildConfig[Any] | None" = None,
        *,
        undo: Callable[..., Any] | None = None,
    ) -> Any:
        """A child context; `undo(result)` takes back what it did."""
        _, called = func_and_name(func, name, "child")
        result = await self._context.run_in_child_context(func, name, config)
        self._keep(undo, result, called)
        return result

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        if error is None or not _is_to_be_undone(error):
            return
        failures: list[tuple[str, Exception]] = []
        for undo in reversed(self._done):
            body: Callable[..., Any] = undo.body_on_loop if undo.is_async else undo.body
            try:
                await self._context.step(body, undo.called, undo.config)
            except Exception as failure:
                if not _is_to_be_undone(failure):
                    raise
                failures.append((undo.called, failure))
        if failures:
            raise self._failed(error, failures) from error
