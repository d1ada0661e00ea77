"""How many arguments a function of the author's takes, and so which of the ones on offer it gets.

The official SDK passes all of them always; its documentation shows functions that take fewer.
"""

import inspect
from collections.abc import Callable
from functools import partial
from types import CoroutineType, FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from perdure.exceptions import ValidationError

_known: "WeakKeyDictionary[Any, int | None]" = WeakKeyDictionary()


def positional_max(function: Callable[..., Any]) -> int | None:
    """The most positional arguments that `function` takes; None if there is no limit, or nobody can tell."""
    if type(function) is FunctionType and not hasattr(function, "__wrapped__"):
        code = function.__code__
        return None if code.co_flags & inspect.CO_VARARGS else code.co_argcount
    try:
        return _known[function]
    except (KeyError, TypeError):
        most = _count(function)
    try:
        _known[function] = most
    except TypeError:
        pass
    return most


def _count(function: Callable[..., Any]) -> int | None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    return sum(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) for parameter in parameters
    )


def takes_context(function: Callable[..., Any]) -> bool:
    """Whether a step's function takes its context; one without parameters is called without."""
    return positional_max(function) != 0


def require_context(function: Callable[..., Any], what: str) -> None:
    """ValidationError unless a child's function takes its context."""
    if positional_max(function) == 0:
        name = getattr(function, "__qualname__", repr(function))
        raise ValidationError(
            f"{what} {name} takes no argument; it must take the context of the child: def {name}(ctx)"
        )


def first_or_both(function: Callable[..., Any], what: str, first: str, second: str) -> bool:
    """Whether the function takes both of two arguments (True) or the first alone; ValidationError if it takes none."""
    most = positional_max(function)
    if most == 0:
        name = getattr(function, "__qualname__", repr(function))
        raise ValidationError(f"{what} {name} takes no argument; it must take ({first}) or ({first}, {second})")
    return most is None or most >= 2


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling the function gives a coroutine, as far as one can tell without calling it."""
    function = getattr(function, "_original_function", function)
    if type(function) is FunctionType:
        return bool(function.__code__.co_flags & inspect.CO_COROUTINE)
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def refuse_coroutine(result: Any, function: Callable[..., Any]) -> None:
    """ValidationError if a body that blocks its thread has returned a coroutine, which nobody would ever run."""
    if type(result) is CoroutineType:
        result.close()
        name = getattr(result, "__qualname__", getattr(function, "__qualname__", repr(function)))
        raise ValidationError(
            f"{name} is an `async def` function in a handler that is not: make the handler `async def` too, "
            "or the function `def`"
        )


def map_arguments(function: Callable[..., Any]) -> int:
    """How many of (context, item, index, items) the function of a `map` gets; ValidationError if it can't take two."""
    most = positional_max(function)
    if most is None or most >= 4:
        return 4
    if _required(function) == 3:
        return 3
    if most >= 2:
        return 2
    name = getattr(function, "__qualname__", repr(function))
    raise ValidationError(
        f"the function of map {name} takes {most} argument{'s' * (most != 1)}; it must take (ctx, item), "
        "(ctx, item, index) or (ctx, item, index, items)"
    )


def _required(function: Callable[..., Any]) -> int:
    """How many positional arguments have no default."""
    return sum(
        parameter.default is parameter.empty
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    )
