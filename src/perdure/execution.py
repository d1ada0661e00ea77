"""The decorator that makes a function durable."""

import re
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial, wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast, overload

from perdure.config import to_word
from perdure.context import DurableContext
from perdure.exceptions import ValidationError
from perdure.sdk.arity import is_async
from perdure.sdk.invocation import Definition, InvocationStatus
from perdure.sdk.misuse import Guard
from perdure.sdk.plugins import factories

if TYPE_CHECKING:
    from perdure.async_context import AsyncDurableContext
    from perdure.config import RetryStrategy
    from perdure.lambda_service import (
        DurableExecutionInvocationOutput as DurableExecutionInvocationOutput,
        DurableServiceClient,
    )
    from perdure.plugin_discovery import PluginLike
    from perdure.sdk.boto3_client import Boto3LambdaClient
    from perdure.sdk.event import (
        DurableExecutionInvocationInput as DurableExecutionInvocationInput,
        DurableExecutionInvocationInputWithClient as DurableExecutionInvocationInputWithClient,
        InitialExecutionState as InitialExecutionState,
    )
    from perdure.serdes import SerDes
    from perdure.testing.replaying.replayer import HistoryLike, ReplayResult
    from perdure.types import DurableFunction, LoggerInterface

_HOMES: Final = {
    "DurableExecutionInvocationInput": "perdure.sdk.event",
    "DurableExecutionInvocationInputWithClient": "perdure.sdk.event",
    "DurableExecutionInvocationOutput": "perdure.lambda_service",
    "InitialExecutionState": "perdure.sdk.event",
}
"""Loaded when they are first used: a function that runs elsewhere than on Lambda needs none of them."""
_ALSO: Final = frozenset({"DurableServiceClient", "ErrorObject", "LambdaClient", "Operation", "OperationUpdate"})
"""What the official module of this name has from elsewhere, and programs import from it."""

__all__ = ["InvocationStatus", "definition_of", "durable_execution", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]

E = TypeVar("E")
R = TypeVar("R")
Handler = Callable[[Any, DurableContext], Any] | Callable[[Any, "AsyncDurableContext"], Any]
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class _Decorator(Protocol):
    """`durable_execution` with its options."""

    @overload
    def __call__(
        self, func: "Callable[[E, AsyncDurableContext], Coroutine[Any, Any, R]]", /
    ) -> "DurableFunction[E, R]": ...

    @overload
    def __call__(self, func: Callable[[E, DurableContext], R], /) -> "DurableFunction[E, R]": ...


@overload
def durable_execution(
    func: "Callable[[E, AsyncDurableContext], Coroutine[Any, Any, R]]",
) -> "DurableFunction[E, R]": ...


@overload
def durable_execution(func: Callable[[E, DurableContext], R]) -> "DurableFunction[E, R]": ...


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
    client: "DurableServiceClient | None" = None,
    boto3_client: "Boto3LambdaClient | None" = None,
    plugins: "Sequence[PluginLike] | None" = None,
) -> _Decorator: ...


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
    client: "DurableServiceClient | None" = None,
    boto3_client: "Boto3LambdaClient | None" = None,
    plugins: "Sequence[PluginLike] | None" = None,
) -> Any:
    """Mark `handler(event, context)` as a durable function.

    `name` is what it goes by in stores and lists: without one, the file and the function (`orders-process`). `serdes`
    and `retry_strategy` are the defaults of its steps, `input_serdes` and `output_serdes` read its input and write its
    result (plain JSON), `logger` takes the place of the root logger. `guard` says what happens when a context is used
    where it must not be: "error", "warn" or "off". `plugins` watch: factories, plugins or their classes; together with
    those that the environment names. Raises PluginLoadError if one can't be loaded.

    On Lambda, and whatever invokes functions as Lambda does, the result is the function's entry point:
    `handler(event, lambda_context)` runs one invocation and answers with its status. It reaches the service through
    `client`, or through boto3's Lambda client: the given `boto3_client`, or one of its own that is made when needed.
    """
    if client is not None and boto3_client is not None:
        raise ValidationError("give durable_execution either `client` or `boto3_client`, not both")

    service = client
    if boto3_client is not None:
        from perdure.sdk.boto3_client import LambdaClient

        service = LambdaClient(boto3_client)

    def decorate(handler: Handler) -> Callable[[Any, Any], Any]:
        if not callable(handler):
            raise ValidationError(f"durable_execution needs a function, not {type(handler).__name__} {handler!r}")
        definition = Definition(
            handler=handler,
            name=name or default_name(handler),
            is_async=is_async(handler),
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

        @wraps(cast("Callable[..., Any]", handler))
        def invoked(event: Any, lambda_context: Any = None) -> Any:
            from perdure.sdk.entry import invoke

            return invoke(definition, event, lambda_context, service)

        from perdure.types import FunctionRef

        invoked.__perdure__ = definition  # type: ignore[attr-defined]
        invoked.invoke_ref = FunctionRef(definition.name, _result_type(handler))  # type: ignore[attr-defined]
        invoked.check_determinism = partial(_check_determinism, invoked)  # type: ignore[attr-defined]
        return invoked

    return decorate if func is None else decorate(func)


def __getattr__(name: str) -> Any:
    """Load the objects of events and answers from their homes."""
    home = "perdure.lambda_service" if name in _ALSO else _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def _check_determinism(handler: Callable[..., Any], history: "HistoryLike") -> "ReplayResult":
    from perdure.testing import Replayer  # no part of what a function package needs

    return Replayer(handler).replay(history)


def _result_type(handler: Callable[..., Any]) -> Any:
    """What a handler says that it returns, as far as that is a class of the author's; else None."""
    said = getattr(handler, "__annotations__", {}).get("return")
    return said if isinstance(said, type) and said.__module__ != "builtins" else None


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
