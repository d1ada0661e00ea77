"""The decorator that makes a function durable."""

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from perdure.config import to_word
from perdure.context import DurableContext
from perdure.exceptions import ExecutionError, ValidationError
from perdure.sdk.invocation import Definition, InvocationStatus
from perdure.sdk.misuse import Guard
from perdure.sdk.plugins import factories

if TYPE_CHECKING:
    from perdure.config import RetryStrategy
    from perdure.plugin_discovery import PluginLike
    from perdure.serdes import SerDes
    from perdure.types import LoggerInterface

__all__ = ["InvocationStatus", "definition_of", "durable_execution"]

T = TypeVar("T")
Handler = Callable[[Any, DurableContext], Any]
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@overload
def durable_execution(func: Handler) -> Callable[[Any, Any], Any]: ...


@overload
def durable_execution(
    func: None = None,
    *,
    name: str | None = None,
    guard: Guard | str = Guard.ERROR,
    serdes: "SerDes[Any] | None" = None,
    input_serdes: "SerDes[Any] | None" = None,
    output_serdes: "SerDes[Any] | None" = None,
    retry_strategy: "RetryStrategy | None" = None,
    logger: "LoggerInterface | None" = None,
    plugins: "Sequence[PluginLike] | None" = None,
) -> Callable[[Handler], Callable[[Any, Any], Any]]: ...


def durable_execution(
    func: Handler | None = None,
    *,
    name: str | None = None,
    guard: Guard | str = Guard.ERROR,
    serdes: "SerDes[Any] | None" = None,
    input_serdes: "SerDes[Any] | None" = None,
    output_serdes: "SerDes[Any] | None" = None,
    retry_strategy: "RetryStrategy | None" = None,
    logger: "LoggerInterface | None" = None,
    plugins: "Sequence[PluginLike] | None" = None,
) -> Any:
    """Mark `handler(event, context)` as a durable function.

    `name` is what it goes by in stores and lists: without one, the file and the function (`orders-process`). `serdes`
    and `retry_strategy` are the defaults of its steps, `input_serdes` and `output_serdes` read its input and write its
    result (plain JSON), `logger` takes the place of the root logger. `guard` says what happens when a context is used
    where it must not be: "error", "warn" or "off". `plugins` watch: factories, plugins or their classes; together with
    those that the environment names. Raises PluginLoadError if one can't be loaded.
    """

    def decorate(handler: Handler) -> Callable[[Any, Any], Any]:
        if not callable(handler):
            raise ValidationError(f"durable_execution needs a function, not {type(handler).__name__} {handler!r}")
        if inspect.iscoroutinefunction(handler):
            raise ValidationError(
                f"{handler.__qualname__} is an `async def` function; a durable handler must be a `def`"
            )
        definition = Definition(
            handler=handler,
            name=name or default_name(handler),
            guard=to_word(Guard, guard, "guard"),
            serdes=serdes,
            input_serdes=input_serdes,
            output_serdes=output_serdes,
            retry_strategy=retry_strategy,
            logger=logger,
            plugins=factories(plugins),
        )
        if not _NAME.fullmatch(definition.name):
            rule = "1 to 64 of the characters a-z, A-Z, 0-9, '-' and '_'"
            raise ValidationError(f"a function's name must be {rule}, not {definition.name!r}")

        @wraps(handler)
        def invoked(event: Any, lambda_context: Any = None) -> Any:
            raise ExecutionError(
                f"unexpected payload: {definition.name!r} is a durable function and was called as an ordinary one. "
                "Check that durability is enabled where it is deployed; to run it here use `perdure run`, "
                "or perdure.open"
            )

        invoked.__perdure__ = definition  # type: ignore[attr-defined]
        return invoked

    return decorate if func is None else decorate(func)


def definition_of(handler: object) -> Definition | None:
    """What `durable_execution` knows of a handler; None if it is not durable."""
    found = getattr(handler, "__perdure__", None)
    return found if isinstance(found, Definition) else None


def default_name(handler: Callable[..., Any]) -> str:
    """The file of a function and its name, as far as names of functions may contain them."""
    module = handler.__module__
    if module == "__main__":
        file = getattr(sys.modules.get("__main__"), "__file__", None)
        from pathlib import Path  # not needed in a function package

        module = Path(file).stem if file else "main"
    text = f"{module.rpartition('.')[2]}-{getattr(handler, '__name__', type(handler).__name__)}"
    return re.sub(r"[^a-zA-Z0-9_-]+", "-", text)[:64].strip("-") or "function"
