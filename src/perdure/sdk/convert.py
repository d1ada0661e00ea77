"""How plain JSON becomes a value of an expected type, and what is said of one that does not fit.

It is what a handler's event goes through if the handler names a class of the author's, and what a payload goes through
if a type was asked for. A value that is of the type already stays as it is.
"""

import base64
import collections.abc
import enum
import types
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from pathlib import Path, PurePath
from typing import Any, Final, Literal, Union, get_args, get_origin
from uuid import UUID

import msgspec

from perdure.sdk.records import (
    Record,
    bare,
    filled,
    hints_of,
    is_model,
    is_named_tuple,
    is_typed_dict,
    parameters_of,
    record_of,
    recorded_name,
)
from perdure.sdk.tags import is_batch
from perdure.sdk.typed import LISTS, MAPPINGS, SETS, is_batch_class

Convert = Callable[[Any], Any]


class Misfit(ValueError):
    """A value is not of the type that was expected. `place` leads to it from the outermost value."""

    def __init__(self, complaint: str, place: "list[str | int] | None" = None) -> None:
        super().__init__(complaint)
        self.complaint = complaint
        self.place = place or []

    def __str__(self) -> str:
        where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.place).lstrip(".")
        return f"{where}: {self.complaint}" if where else self.complaint


def expected(what: str, found: Any) -> Misfit:
    shown = repr(found)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return Misfit(f"expected {what}, found {type(found).__name__} {shown}")


def converter(tp: Any) -> Convert:
    """What makes values of `tp`; it raises Misfit. Types without a rule are those of their instances."""
    try:
        return _converter(tp)
    except TypeError:  # not hashable
        return _converter.__wrapped__(tp)


@lru_cache(1024)
def _converter(tp: Any) -> Convert:
    tp = bare(tp)
    scalar = _SCALARS.get(tp) if isinstance(tp, type) else None
    if scalar is not None:
        return scalar
    origin, args = get_origin(tp), get_args(tp)
    if tp in (Any, object):
        return _as_it_is
    if origin in (Union, types.UnionType):
        return partial(_union, args)
    if origin is Literal:
        return partial(_literal, args)
    if origin is tuple or tp is tuple:
        return partial(_tuple, args or (Any, ...))
    if (origin or tp) in MAPPINGS:
        return partial(_mapping, *(args or (Any, Any)))
    if (origin or tp) in LISTS | SETS | {frozenset}:
        target = list if (origin or tp) in LISTS else frozenset if (origin or tp) is frozenset else set
        return partial(_collection, target, args[0] if args else Any)
    cls, parameters = parameters_of(tp)
    return _of_class(cls, parameters, args) if isinstance(cls, type) else _as_it_is


def _of_class(cls: type, parameters: Mapping[Any, Any], args: tuple[Any, ...]) -> Convert:
    if is_batch_class(cls):
        return partial(_batch, args[0] if args else Any)
    if issubclass(cls, enum.Enum):
        return partial(_member, cls)
    if is_model(cls):
        return partial(_model, cls)
    if issubclass(cls, msgspec.Struct):
        return partial(_struct, cls, cls[args] if args else cls)  # type: ignore[index]
    if is_typed_dict(cls):
        return partial(_typed_dict, cls, parameters)
    if is_named_tuple(cls):
        return partial(_named_tuple, cls)
    record = record_of(cls)
    return partial(_instance, cls) if record is None else partial(_record, record, parameters)


def _as_it_is(value: Any) -> Any:
    return value


def _instance(cls: type, value: Any) -> Any:
    if isinstance(value, cls):
        return value
    raise expected(f"an instance of {recorded_name(cls)}, which can't be made of JSON", value)


# --- what is no container ----------------------------------------------------------------------------------------


def _exactly(what: str, *kinds: type) -> Convert:
    def convert(value: Any) -> Any:
        if isinstance(value, kinds) and (type(value) is not bool or bool in kinds):
            return value
        raise expected(what, value)

    return convert


def _float(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise expected("a number", value)


def _parsed(what: str, kind: type, parse: Callable[[Any], Any], *sources: type) -> Convert:
    """A value of `kind`, or of one of `sources`, from which `parse` makes one."""

    def convert(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if type(value) in sources:
            try:
                return parse(value)
            except (ValueError, ArithmeticError):
                pass
        raise expected(what, value)

    return convert


def _to_timedelta(value: Any) -> timedelta:
    return msgspec.convert(value, timedelta) if isinstance(value, str) else timedelta(seconds=value)


_SCALARS: Final[dict[type, Convert]] = {
    type(None): _exactly("null", type(None)),
    str: _exactly("a text", str),
    int: _exactly("a whole number", int),
    bool: _exactly("true or false", bool),
    float: _float,
    bytes: _parsed("bytes (a text in base64)", bytes, partial(base64.b64decode, validate=True), str),
    datetime: _parsed("a date and time (a text in ISO 8601)", datetime, datetime.fromisoformat, str),
    date: _parsed("a date (a text in ISO 8601)", date, date.fromisoformat, str),
    time: _parsed("a time of day (a text in ISO 8601)", time, time.fromisoformat, str),
    timedelta: _parsed("a duration (a text in ISO 8601, or seconds)", timedelta, _to_timedelta, str, int, float),
    Decimal: _parsed("a decimal number (a text or a number)", Decimal, lambda n: Decimal(str(n)), str, int, float),
    UUID: _parsed("a UUID (a text)", UUID, UUID, str),
    Path: _parsed("a path (a text)", Path, Path, str),
    PurePath: _parsed("a path (a text)", PurePath, PurePath, str),
}


def _member(cls: type[enum.Enum], value: Any) -> Any:
    if isinstance(value, cls):
        return value
    try:
        return cls(tuple(value) if isinstance(value, list) else value)
    except ValueError:
        values = ", ".join(repr(member.value) for member in list(cls)[:10])
        raise expected(f"a {cls.__qualname__} ({values})", value) from None


def _literal(args: tuple[Any, ...], value: Any) -> Any:
    for arg in args:
        plain = arg.value if isinstance(arg, enum.Enum) else arg
        if value is arg or (type(value) is type(plain) and value == plain):
            return arg
    raise expected(f"one of {', '.join(map(repr, args))}", value)


# --- containers --------------------------------------------------------------------------------------------------


def _inside(step: str | int, convert: Convert, value: Any) -> Any:
    try:
        return convert(value)
    except Misfit as misfit:
        misfit.place.insert(0, step)
        raise


def _collection(target: Callable[[list[Any]], Any], item: Any, value: Any) -> Any:
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise expected("a list", value)
    convert = converter(item)
    return target([_inside(index, convert, each) for index, each in enumerate(value)])


def _tuple(args: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        raise expected("a list", value)
    if len(args) == 2 and args[1] is Ellipsis:
        return _collection(tuple, args[0], value)
    if len(value) != len(args):
        raise expected(f"a list of {len(args)}", value)
    pairs = enumerate(zip(args, value, strict=True))
    return tuple(_inside(index, converter(arg), each) for index, (arg, each) in pairs)


def _mapping(key: Any, item: Any, value: Any) -> Any:
    if not isinstance(value, collections.abc.Mapping):
        raise expected("an object", value)
    to_key, to_item = _of_key(key), converter(item)
    return {
        _inside(str(name), to_key, name): _inside(str(name), to_item, each) for name, each in value.items()
    }  # fmt: skip


def _of_key(tp: Any) -> Convert:
    """Keys are texts in JSON, whatever they were."""
    convert = converter(tp)

    def of_key(key: Any) -> Any:
        try:
            return convert(key)
        except Misfit:
            if type(key) is str:
                try:
                    return convert(msgspec.json.decode(key))
                except (msgspec.DecodeError, Misfit):
                    pass
            raise

    return of_key


def _batch(item: Any, value: Any) -> Any:
    if not is_batch(value):
        raise expected("a BatchResult", value)
    form, convert = value.to_dict(), converter(item | None)
    for index, each in enumerate(form["all"]):
        each["result"] = _inside(index, convert, each["result"])
    return type(value).from_dict(form)


def _union(members: tuple[Any, ...], value: Any) -> Any:
    """The value as the member whose type it has; else as the first that it fits, of records the one it knows best."""
    kinds = [bare(member) for member in members]
    for kind in kinds:
        if type(value) is kind:
            return value
    misfits = []
    for kind in sorted(kinds, key=partial(_unknown_keys, value)):
        try:
            return converter(kind)(value)
        except Misfit as misfit:
            misfits.append(misfit)
    inner = [misfit for misfit in misfits if misfit.place]
    if len(misfits) - len(inner) == len([kind for kind in kinds if kind is type(None)]) and len(inner) == 1:
        raise inner[0]
    names = " or ".join(getattr(kind, "__qualname__", str(kind)) for kind in kinds)
    raise expected(names.replace("NoneType", "null"), value)


def _unknown_keys(value: Any, kind: Any) -> int:
    """How many of an object's keys a record has no field for."""
    cls, _ = parameters_of(kind)
    if not isinstance(value, dict) or not isinstance(cls, type):
        return 0
    record = record_of(cls)
    if record is not None:
        return len(value.keys() - {field.key for field in record.fields})
    if is_typed_dict(cls):
        return len(value.keys() - hints_of(cls).keys())
    return len(value.keys() - _keys_of_model(cls)) if is_model(cls) else 0


def _keys_of_model(cls: Any) -> set[str]:
    return {key for name, info in cls.model_fields.items() for key in (name, info.alias)}


# --- classes of the author's -------------------------------------------------------------------------------------


def _fields(cls: type, value: Any) -> Mapping[str, Any]:
    if isinstance(value, collections.abc.Mapping):
        return value
    raise expected(f"an object with the fields of {cls.__qualname__}", value)


def _record(record: Record, parameters: Mapping[Any, Any], value: Any) -> Any:
    """A dataclass or an attrs object. Keys without a field are passed over: callers may know more than the code."""
    cls = record.cls
    if isinstance(value, cls):
        return value
    given = _fields(cls, value)
    values: dict[str, Any] = {}
    for field in record.fields:
        key = field.key if field.key in given or field.argument is None else field.argument
        if key in given:
            values[field.name] = _inside(key, converter(filled(field.type, parameters)), given[key])
        elif field.is_required:
            raise Misfit(f"expected a value for this field of {cls.__qualname__}, found none", [field.key])
    try:
        return record.make(values)
    except (TypeError, ValueError) as error:
        raise Misfit(f"{cls.__qualname__} refuses it: {error}") from error


def _struct(cls: type, tp: Any, value: Any) -> Any:
    """A msgspec struct, by msgspec's own rules: renamed fields, tags, constraints."""
    if isinstance(value, cls):
        return value
    _fields(cls, value)
    try:
        return msgspec.convert(value, tp, dec_hook=lambda kind, found: converter(kind)(found))
    except msgspec.ValidationError as error:
        complaint, _, place = str(error).partition(" - at `$")
        raise Misfit(complaint, [place.strip("`").lstrip(".")] if place else None) from error
    except TypeError as error:
        raise Misfit(f"msgspec can't read {cls.__qualname__}: {error}") from error


def _model(cls: Any, value: Any) -> Any:
    if isinstance(value, cls):
        return value
    from perdure.sdk import models

    _fields(cls, value) if not hasattr(cls, "root") and "root" not in cls.model_fields else None
    try:
        return models.from_plain(cls, value)
    except ValueError as error:
        place, complaint = models.misfit(error)
        raise Misfit(complaint, place) from error


def _typed_dict(cls: Any, parameters: Mapping[Any, Any], value: Any) -> Any:
    given = _fields(cls, value)
    for key in sorted(cls.__required_keys__ - given.keys()):
        raise Misfit(f"expected a value for this key of {cls.__qualname__}, found none", [key])
    types_of_keys = hints_of(cls)
    return {
        key: _inside(str(key), converter(filled(types_of_keys.get(key, Any), parameters)), each)
        for key, each in given.items()
    }


def _named_tuple(cls: Any, value: Any) -> Any:
    if isinstance(value, collections.abc.Mapping):
        value = [value[name] for name in cls._fields if name in value]
    if not isinstance(value, (list, tuple)) or len(value) != len(cls._fields):
        raise expected(f"a list of {len(cls._fields)} ({', '.join(cls._fields)})", value)
    types_of_fields = hints_of(cls)
    return cls(
        *(
            _inside(name, converter(types_of_fields.get(name, Any)), each)
            for name, each in zip(cls._fields, value, strict=True)
        )
    )
