"""What a function's annotations ask of us: the serdes of its result, the type of its event. A quick look first.

Most functions say nothing that matters, and a look costs no more than a tenth of a microsecond; what reads annotations
is loaded for the first that does.
"""

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from perdure.serdes import SerDes

_inputs: "WeakKeyDictionary[Any, Any]" = WeakKeyDictionary()
_known: "WeakKeyDictionary[Any, SerDes[Any] | None]" = WeakKeyDictionary()
_NOTHING: Final = frozenset(
    {Any, object, None, type(None), str, int, float, bool, bytes, dict, list, tuple, set}
    | {dict[str, Any], list[str], list[int], list[dict[str, Any]], list[Any]}
    | {"Any", "object", "None", "str", "int", "float", "bool", "bytes", "dict", "list", "tuple", "dict[str, Any]"}
)
"""Annotations that add nothing, as they are often written."""


def typed_serdes_for(function: Callable[..., Any]) -> "SerDes[Any] | None":
    """The serdes that a function's return annotation asks for; None if the default one does all that can be done.

    `function` may be a coroutine function, a method, a partial, a callable object, a class, or what a decorator made.
    The annotation is believed, not enforced: a function that returns something else is none the worse for it.
    """
    if isinstance(function, MethodType):
        function = function.__func__  # a method is made anew whenever it is asked for
    if type(function) is FunctionType and not function.__dict__ and _says_nothing(function, "return"):
        return None
    try:
        return _known[function]
    except (KeyError, TypeError):
        serdes = _look(function)
    try:
        _known[function] = serdes
    except TypeError:  # not hashable, or without weak references
        pass
    return serdes


def _look(function: Callable[..., Any]) -> "SerDes[Any] | None":
    from perdure.sdk.typed import implicit_serdes, returned_by, serdes_by

    return serdes_by(implicit_serdes, returned_by(function))


def _says_nothing(function: FunctionType, name: str) -> bool:
    try:
        return function.__annotations__.get(name) in _NOTHING
    except (NameError, TypeError):  # an annotation that fails when computed, or can't be hashed
        return False


def batch_serdes_for(*functions: Callable[..., Any]) -> "SerDes[Any] | None":
    """The serdes for a batch of what these functions return; None if the default one does all that can be done."""
    if not any(typed_serdes_for(function) for function in functions):
        return None
    from perdure.sdk.typed import batch_of, implicit_serdes, returned_by, serdes_by

    return serdes_by(implicit_serdes, batch_of([returned_by(function) for function in functions]))


def typed_serdes(tp: Any) -> "SerDes[Any] | None":
    """The serdes for a type that was asked for, with `result_type=`: it checks. None if the type says nothing."""
    if tp is None:
        return None
    from perdure.sdk.typed import explicit_serdes, serdes_by

    return serdes_by(explicit_serdes, tp)


def input_type_of(handler: Callable[..., Any]) -> Any:
    """What a handler's first parameter is annotated with, if an event has to be converted to it; else None.

    That is so where a class of the author's occurs that JSON has no form for: a dataclass, an attrs class, a pydantic
    model, a msgspec struct, an enum, a named tuple, or a TypedDict with something of the kind or with dates, Decimals
    and the like in it. A handler that takes a `dict`, or says nothing, gets the event as it came.
    """
    try:
        return _inputs[handler]
    except (KeyError, TypeError):
        wanted = _look_at_input(handler)
    try:
        _inputs[handler] = wanted
    except TypeError:  # not hashable, or without weak references
        pass
    return wanted


def _look_at_input(handler: Callable[..., Any]) -> Any:
    if type(handler) is FunctionType and not handler.__dict__:
        names = handler.__code__.co_varnames[: handler.__code__.co_argcount]
        if not names or _says_nothing(handler, names[0]):
            return None
    from perdure.sdk.plain import converted_input

    return converted_input(handler)
