"""How a handler's event and result are plain JSON, as their callers know it: never with the tags of payloads."""

import base64
import collections.abc
import datetime
import decimal
import enum
import inspect
import json
import pathlib
import uuid
from collections.abc import Callable
from typing import Any, Final

import msgspec

from perdure.exceptions import ExecutionError, SerDesError
from perdure.sdk.convert import Misfit, converter
from perdure.sdk.records import is_model, is_named_tuple, is_typed_dict, record_of, recorded_name, resolve
from perdure.sdk.tags import is_batch
from perdure.sdk.typed import mentioned, namespace_of
from perdure.serdes import SerDes, SerDesContext


def to_json(value: Any) -> str:
    """Plain JSON of a handler's result or of an event: what `json.dumps` writes, of more kinds of values.

    Dates, times and durations are texts in ISO 8601; Decimals, UUIDs and paths are texts, bytes texts in base64; enums
    are their values, sets lists; dataclasses, attrs objects, msgspec structs, pydantic models and mappings are objects;
    a BatchResult is its `to_dict()`. TypeError for anything else.
    """
    try:
        return json.dumps(value, default=plain)
    except TypeError:
        return json.dumps(_with_text_keys(value))


def plain(value: Any) -> Any:
    """What `json.dumps` takes in place of a value that it does not know."""
    if isinstance(value, enum.Enum):
        return value.value
    for known, form in _FORMS:
        if isinstance(value, known):
            return form(value)
    if is_batch(value):
        return value.to_dict()
    if is_model(type(value)):
        return _of_model(value)
    record = record_of(type(value))
    if record is not None:
        if isinstance(value, msgspec.Struct):
            return _of_struct(value)
        return record.values(value)
    if isinstance(value, collections.abc.Mapping):
        return dict(value)
    raise TypeError(
        f"a value of type {recorded_name(type(value))} can't be written as JSON; "
        "return texts, numbers, lists, dictionaries, dataclasses or models, or give the handler an output_serdes"
    )


def _in_order(value: collections.abc.Set[Any]) -> list[Any]:
    try:
        return sorted(value)
    except TypeError:
        return list(value)


_FORMS: Final[list[tuple[type | tuple[type, ...], Callable[[Any], Any]]]] = [
    ((datetime.date, datetime.time), lambda value: value.isoformat()),  # a datetime is a date
    (datetime.timedelta, msgspec.to_builtins),
    ((decimal.Decimal, uuid.UUID, pathlib.PurePath), str),
    ((bytes, bytearray, memoryview), lambda value: base64.b64encode(bytes(value)).decode()),
    (collections.abc.Set, _in_order),
]


def _of_model(value: Any) -> Any:
    try:
        return value.model_dump(mode="json")
    except ValueError:  # bytes that are no text
        return value.model_dump()


def _of_struct(value: msgspec.Struct) -> dict[str, Any]:
    """As msgspec writes it: renamed fields, the tag, and defaults left out if the class says so."""
    cls = type(value)
    config = cls.__struct_config__
    form: dict[str, Any] = {} if config.tag is None else {config.tag_field or "type": config.tag}
    for field in msgspec.structs.fields(cls):
        held = getattr(value, field.name)
        if held is not msgspec.UNSET and not (config.omit_defaults and _is_default(field, held)):
            form[field.encode_name] = held
    return form


def _is_default(field: msgspec.structs.FieldInfo, held: Any) -> bool:
    if field.default_factory is not msgspec.NODEFAULT:
        return bool(held == field.default_factory())
    return field.default is not msgspec.NODEFAULT and bool(held == field.default)


def _with_text_keys(value: Any) -> Any:
    """A value all of JSON, where the keys of dictionaries need a form of their own."""
    if isinstance(value, dict):
        return {_key(key): _with_text_keys(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_text_keys(item) for item in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    return _with_text_keys(plain(value))


def _key(key: Any) -> Any:
    if key is None or isinstance(key, (str, int, float)):
        return key
    form = plain(key) if isinstance(key, (enum.Enum, *_TEXTS)) else key
    if form is None or isinstance(form, (str, int, float)):
        return form
    raise TypeError(f"a dictionary with the key {key!r} can't be written as JSON; use texts as keys")


_TEXTS: Final = (datetime.date, datetime.time, decimal.Decimal, uuid.UUID, pathlib.PurePath, bytes)


# --- events ------------------------------------------------------------------------------------------------------


def converted_input(handler: Callable[..., Any]) -> Any:
    """The type of a handler's event if it is to be converted; else None. See `input_type_of`."""
    try:
        first = next(iter(inspect.signature(handler).parameters.values())).annotation
    except Exception:  # noqa: BLE001 - no signature, no parameter, or an annotation that fails when computed
        return None
    if first is inspect.Parameter.empty:
        return None
    tp = resolve(first, *namespace_of(handler))
    return tp if needs_conversion(tp) else None


def needs_conversion(tp: Any) -> bool:
    """Whether plain JSON has to be made into something else to be of this type."""
    kinds = mentioned(tp)
    if any(is_typed_dict(kind) for kind in kinds) and any(kind in _NOT_JSON for kind in kinds):
        return True
    return any(_is_made(kind) for kind in kinds)


_NOT_JSON: Final = frozenset(
    {datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID, bytes}
    | {pathlib.Path, pathlib.PurePath, tuple, set, frozenset}
)


def _is_made(kind: type) -> bool:
    if kind in _NOT_JSON:
        return False
    return is_model(kind) or issubclass(kind, enum.Enum) or is_named_tuple(kind) or record_of(kind) is not None


def read_input_as(tp: Any, json_value: Any) -> Any:
    """An event as the type that the handler names; ExecutionError, with the place, if it does not fit."""
    try:
        return converter(tp)(json_value)
    except Misfit as misfit:
        name = getattr(tp, "__qualname__", str(tp))
        raise ExecutionError(
            f"the input does not fit {name}: {misfit}. Send an input of that shape, or annotate the handler's first "
            "parameter with what is sent"
        ) from misfit


class PlainJson(SerDes[Any]):
    """Plain JSON on the wire, a type here: what other functions and callbacks answer."""

    def __init__(self, tp: Any) -> None:
        self._tp = tp

    def serialize(self, value: Any, serdes_context: SerDesContext) -> str:
        return to_json(value)

    def deserialize(self, data: str, serdes_context: SerDesContext) -> Any:
        try:
            return converter(self._tp)(json.loads(data))
        except Misfit as misfit:
            name = getattr(self._tp, "__qualname__", str(self._tp))
            raise SerDesError(f"the answer does not fit {name}: {misfit}") from misfit
