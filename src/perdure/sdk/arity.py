"""How many arguments a function of the author's takes, and so which of the ones on offer it gets.

The official SDK passes all of them always; its documentation shows functions that take fewer.
"""

import inspect
from collections.abc import Callable
from types import FunctionType
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
