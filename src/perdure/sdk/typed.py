"""What an annotation adds to the extended format: the classes payloads may be made into, and what a payload forgets.

A StrEnum is written as its text, a named tuple as a tuple, for the official SDK writes them so; an annotation gives the
member and the name back. What is no more than an equal value of a subclass is given back always; the int keys of
`dict[int, str]`, which the official SDK reads as texts, only inside a record or when the type was asked for.
"""

import collections.abc
import functools
import importlib
import inspect
import operator
import threading
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any, Final, Literal, Union, get_args, get_origin

from perdure.sdk.records import (
    bare,
    filled,
    hints_of,
    is_mixed_enum,
    is_model,
    is_named_tuple,
    is_typed_dict,
    parameters_of,
    record_of,
    recorded_name,
    resolve,
)
from perdure.sdk.tags import BATCHES, Allowed, is_batch
from perdure.serdes import SerDes, SerDesContext, TypedSerDes, decode, encode

Refine = Callable[[Any], Any]

_PLAIN_HOMES: Final = frozenset(
    {"builtins", "abc", "collections", "datetime", "decimal", "pathlib", "types", "typing", "uuid"}
)


# --- the classes in an annotation --------------------------------------------------------------------------------


def classes_in(tp: Any) -> list[type]:
    """The author's classes that a type mentions, at any depth, through the fields of records as well."""
    return [cls for cls in mentioned(tp) if _is_the_authors(cls)]


def _is_the_authors(cls: type) -> bool:
    return cls.__module__.partition(".")[0] not in _PLAIN_HOMES and not is_batch_class(cls) and not is_typed_dict(cls)


def mentioned(tp: Any) -> list[type]:
    """All classes that a type mentions, at any depth, through the fields of records, models and TypedDicts as well."""
    found: dict[type, None] = {}
    _collect(tp, found)
    return list(found)


def _collect(tp: Any, found: dict[type, None]) -> None:
    tp = bare(tp)
    origin = get_origin(tp)
    if origin is Literal:
        found.update({type(value): None for value in get_args(tp)})
    elif origin is not None:
        for part in (origin, *get_args(tp)):
            if not isinstance(part, (list, tuple)):
                _collect(part, found)
    elif isinstance(tp, type) and tp not in found:
        found[tp] = None
        for part in _parts(tp):
            _collect(part, found)


def _parts(cls: type) -> Iterator[Any]:
    """The types of a class's fields."""
    if is_model(cls):
        yield from (info.annotation for info in typing.cast(Any, cls).model_fields.values())
    elif is_typed_dict(cls) or is_named_tuple(cls):
        yield from hints_of(cls).values()
    elif (record := record_of(cls)) is not None:
        yield from (field.type for field in record.fields)


def is_batch_class(tp: Any) -> bool:
    return getattr(tp, "__module__", "") == BATCHES and getattr(tp, "__name__", "") == "BatchResult"


def allowed_by(tp: Any) -> Allowed:
    return Allowed({recorded_name(cls): cls for cls in classes_in(tp)}, refinements)


# --- what a payload forgets --------------------------------------------------------------------------------------


@functools.lru_cache(1024)
def refinements(cls: type) -> Mapping[str, Refine]:
    """For a record: what is done to which of its fields once they are read."""
    record = record_of(cls)
    fields = {field.name: field.type for field in record.fields} if record is not None else {}
    return _each(fields, keys=True)


def _each(types_of_fields: Mapping[str, Any], *, keys: bool) -> dict[str, Refine]:
    made = {name: refiner(tp, keys=keys) for name, tp in types_of_fields.items()}
    return {name: refine for name, refine in made.items() if refine is not None}


def refiner(tp: Any, *, keys: bool) -> Refine | None:
    """What gives a value its type back; None if nothing is missing. With `keys`, the keys of dictionaries too."""
    tp = bare(tp)
    origin, args = get_origin(tp), get_args(tp)
    if origin in (Union, types.UnionType):
        return _refiner_of_union(args, keys=keys)
    if origin is Literal:
        return _refiner_of_union(tuple({type(value) for value in args}), keys=keys)
    if origin is tuple:
        return _refiner_of_tuple(args, keys=keys)
    if origin is not None and is_batch_class(origin):
        inner = refiner(args[0], keys=keys)
        return inner and functools.partial(_batch, inner)
    if origin in MAPPINGS and len(args) == 2:
        to_key, to_item = _refiner_of_keys(args[0], keys=keys), refiner(args[1], keys=keys)
        return functools.partial(_mapping, to_key or _same, to_item or _same) if to_key or to_item else None
    if origin in COLLECTIONS and len(args) == 1:
        inner = refiner(args[0], keys=keys)
        return inner and functools.partial(_collection, inner)
    return _refiner_of_class(*parameters_of(tp), keys=keys)


MAPPINGS: Final = frozenset({dict, collections.abc.Mapping, collections.abc.MutableMapping})
LISTS: Final = frozenset(
    {
        list,
        collections.abc.Sequence,
        collections.abc.MutableSequence,
        collections.abc.Collection,
        collections.abc.Iterable,
    }
)
SETS: Final = frozenset({set, collections.abc.Set, collections.abc.MutableSet})
COLLECTIONS: Final = LISTS | SETS | {frozenset}

_open: Final = threading.local()
"""The TypedDicts and named tuples whose refiners are being made: one that contains itself must not be made for ever."""


def _refiner_of_class(cls: Any, parameters: Mapping[Any, Any], *, keys: bool) -> Refine | None:
    if is_mixed_enum(cls):
        return functools.partial(_member, cls)
    if not (is_named_tuple(cls) or is_typed_dict(cls)):
        return None
    being_made: set[type] = _open.__dict__.setdefault("classes", set())
    if cls in being_made:
        return lambda value: (refiner(cls, keys=keys) or _same)(value)
    being_made.add(cls)
    try:
        each = _each({name: filled(tp, parameters) for name, tp in hints_of(cls).items()}, keys=keys)
    finally:
        being_made.remove(cls)
    if is_named_tuple(cls):
        return functools.partial(_named, cls, each)
    return functools.partial(_entries, each) if each else None


def _refiner_of_union(members: tuple[Any, ...], *, keys: bool) -> Refine | None:
    refines = [refine for refine in (refiner(member, keys=keys) for member in members) if refine is not None]
    plain = frozenset(member for member in map(bare, members) if member in (str, int, float, tuple))
    return functools.partial(_first_to_change, plain, refines) if refines else None


def _refiner_of_tuple(args: tuple[Any, ...], *, keys: bool) -> Refine | None:
    if len(args) == 2 and args[1] is Ellipsis:
        inner = refiner(args[0], keys=keys)
        return inner and functools.partial(_collection, inner)
    each = [refiner(arg, keys=keys) for arg in args]
    return functools.partial(_places, [refine or _same for refine in each]) if any(each) else None


def _refiner_of_keys(tp: Any, *, keys: bool) -> Refine | None:
    """Keys are texts in JSON. A StrEnum's member is equal to its text; a number is not, and is given back on demand."""
    tp = bare(tp)
    if is_mixed_enum(tp) and issubclass(tp, str):
        return functools.partial(_member, tp)
    if not keys:
        return None
    if is_mixed_enum(tp):
        return lambda key: _member(tp, _number(int if issubclass(tp, int) else float, key))
    if tp in (int, float):
        return functools.partial(_number, tp)
    if tp is bool:
        return lambda key: {"true": True, "false": False}.get(key, key)
    return None


def _same(value: Any) -> Any:
    return value


def _number(kind: type[int] | type[float], key: Any) -> Any:
    try:
        return kind(key) if type(key) is str else key
    except ValueError:
        return key


def _member(cls: Any, value: Any) -> Any:
    """The member of a StrEnum or IntEnum that a value is; if it is none, itself, as the official SDK has it."""
    if type(value) not in (str, int, float):
        return value
    try:
        return cls(value)
    except ValueError:
        return value


def _named(cls: Any, each: Mapping[str, Refine], value: Any) -> Any:
    if type(value) is not tuple or len(value) != len(cls._fields):
        return value
    return cls._make(each.get(name, _same)(item) for name, item in zip(cls._fields, value, strict=True))


def _entries(each: Mapping[str, Refine], value: Any) -> Any:
    if type(value) is not dict:
        return value
    return {key: each.get(key, _same)(item) for key, item in value.items()}


def _mapping(to_key: Refine, to_item: Refine, value: Any) -> Any:
    return {to_key(key): to_item(item) for key, item in value.items()} if type(value) is dict else value


def _collection(refine: Refine, value: Any) -> Any:
    kind = type(value)
    return kind(map(refine, value)) if kind in (list, tuple, set, frozenset) else value


def _places(each: list[Refine], value: Any) -> Any:
    if type(value) is not tuple or len(value) != len(each):
        return value
    return tuple(refine(item) for refine, item in zip(each, value, strict=True))


def _first_to_change(plain: frozenset[type], refines: list[Refine], value: Any) -> Any:
    if type(value) not in plain:
        for refine in refines:
            changed = refine(value)
            if changed is not value:
                return changed
    return value


def _batch(refine: Refine, value: Any) -> Any:
    if not is_batch(value):
        return value
    form = value.to_dict()
    for item in form["all"]:
        item["result"] = refine(item["result"])
    return type(value).from_dict(form)


# --- serdes ------------------------------------------------------------------------------------------------------


class AnnotatedSerDes(SerDes[Any]):
    """The extended format for what a function is annotated to return.

    The annotation is believed where it helps and nowhere enforced: a function that returns something else has it
    written and read as if there were no annotation.
    """

    def __init__(self, tp: Any) -> None:
        self._allowed = allowed_by(tp)
        self._refine = refiner(tp, keys=False)

    def serialize(self, value: Any, serdes_context: SerDesContext) -> str:
        return encode(value)

    def deserialize(self, data: str, serdes_context: SerDesContext) -> Any:
        value = decode(data, self._allowed)
        return value if self._refine is None else self._refine(value)


def batch_of(items: list[Any]) -> Any:
    """The type of a batch whose items are of one of these types."""
    batch = importlib.import_module(BATCHES).BatchResult
    return types.GenericAlias(batch, (functools.reduce(operator.or_, items),))


@functools.lru_cache(1024)
def explicit_serdes(tp: Any) -> SerDes[Any] | None:
    """A serdes that checks; None for a type that says nothing."""
    return None if bare(tp) in (Any, object) else TypedSerDes(tp)


@functools.lru_cache(1024)
def implicit_serdes(tp: Any) -> SerDes[Any] | None:
    """A serdes that believes; None for a type that adds nothing to the extended format."""
    if not classes_in(tp) and refiner(tp, keys=False) is None:
        return None
    return AnnotatedSerDes(tp)


def serdes_by(make: Callable[[Any], SerDes[Any] | None], tp: Any) -> SerDes[Any] | None:
    """What `make` gives for a type; one that can't be hashed (`Annotated[..., []]`) is not remembered."""
    try:
        return make(tp)
    except TypeError:
        found: SerDes[Any] | None = make.__wrapped__(tp)  # type: ignore[attr-defined]
        return found


# --- return annotations ------------------------------------------------------------------------------------------


def returned_by(function: Any) -> Any:
    """What a function is annotated to return, awaited; Any if it is not, or nobody can tell."""
    if isinstance(function, type):
        return function
    plain = _plain_function(function)
    if plain is None:
        return Any
    try:
        annotation = plain.__annotations__["return"]
    except Exception:  # noqa: BLE001 - absent, or, since Python 3.14, failing when computed
        return Any
    tp = annotation if isinstance(annotation, type) else resolve(annotation, *namespace_of(plain))
    if get_origin(tp) in (Awaitable, Coroutine):
        return get_args(tp)[-1]
    return tp


def namespace_of(function: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The global and the captured names that a function's annotations are read with."""
    home = inspect.unwrap(_plain_function(function) or function)
    if not isinstance(home, FunctionType):
        return {}, {}
    cells = zip(home.__code__.co_freevars, home.__closure__ or (), strict=True)
    return home.__globals__, {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}


def _plain_function(function: Any) -> FunctionType | None:
    """The function that bears the annotations: beneath decorators of ours, partials, methods and callable objects."""
    for _ in range(100):
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        elif (original := getattr(function, "_original_function", None)) is not None:
            function = original
        elif isinstance(function, FunctionType):
            wrapped = getattr(function, "__wrapped__", None)
            if wrapped is None or _is_annotated(function):
                return function
            function = wrapped
        else:
            function = getattr(function, "__wrapped__", None) or type(function).__dict__.get("__call__")
    return None


def _is_annotated(function: FunctionType) -> bool:
    try:
        return "return" in function.__annotations__
    except NameError:
        return True


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
