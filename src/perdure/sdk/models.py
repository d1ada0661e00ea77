"""How pydantic writes and reads its models for us. Only loaded where the author has pydantic."""

import json
from functools import lru_cache
from typing import Any, Final

import msgspec
import pydantic
from pydantic import BaseModel, TypeAdapter

from perdure.exceptions import SerDesError
from perdure.serdes import Tagged, wrap

_VERSION: Final = tuple(int(part) for part in pydantic.VERSION.split(".")[:2])
_NAMES_SUFFICE: Final = _VERSION >= (2, 11)
"""Since 2.11 fields can be read by name, whatever their aliases; before, they are written and read by alias."""
_READ: Final[dict[str, Any]] = {"by_name": True, "by_alias": False} if _NAMES_SUFFICE else {}
_WRITE: Final[dict[str, Any]] = {"round_trip": True, "by_alias": not _NAMES_SUFFICE}


class Adapter(msgspec.Struct, frozen=True):
    """Plain JSON of one type."""

    of: TypeAdapter[Any]

    def dump(self, value: Any) -> str:
        return self.of.dump_json(value, **_WRITE).decode()

    def load(self, data: str) -> Any:
        return self.of.validate_json(data, **_READ)


def adapter(tp: Any) -> Adapter:
    return Adapter(TypeAdapter(tp))


@lru_cache(1024)
def _adapter_of(cls: type[BaseModel]) -> Adapter:
    return adapter(cls)


def wrap_model(model: BaseModel, name: str) -> Tagged:
    """A model as the JSON that pydantic makes of it, if that is the same model when read; else field by field.

    JSON can't hold bytes that are no text, nor a subclass where a field names its base.
    """
    cls = type(model)
    try:
        text = _adapter_of(cls).dump(model)
        is_same = _adapter_of(cls).load(text) == model
    except ValueError:
        text, is_same = "", False
    if is_same:
        return {"t": "model", "c": name, "v": json.loads(text)}
    held = {**model.__dict__, **(model.__pydantic_extra__ or {})}
    return {"t": "fields", "c": name, "v": {field: _wrap_field(model, field, value) for field, value in held.items()}}


def _wrap_field(model: BaseModel, field: str, value: Any) -> Tagged:
    """A field's value by our own means, or, of a type that only pydantic knows, as its JSON."""
    try:
        return wrap(value)
    except SerDesError:
        return wrap(model.model_dump(mode="json", include={field}, by_alias=False)[field])


def read_json(cls: type[BaseModel], value: Any) -> BaseModel:
    """A model of what `wrap_model` wrote as JSON; ValueError if it does not fit."""
    model: BaseModel = _adapter_of(cls).load(json.dumps(value))
    return model


def read_fields(cls: type[BaseModel], values: dict[str, Any]) -> BaseModel:
    """A model of what `wrap_model` wrote field by field; ValueError if it does not fit."""
    if _NAMES_SUFFICE:
        return cls.model_validate(values, **_READ)
    aliases = {field: info.validation_alias or info.alias or field for field, info in cls.model_fields.items()}
    return cls.model_validate({str(aliases.get(field, field)): value for field, value in values.items()})


def from_plain(cls: type[BaseModel], value: Any) -> BaseModel:
    """A model of plain JSON from outside, by pydantic's own rules; ValueError if it does not fit."""
    try:
        text = json.dumps(value)
    except TypeError:  # not plain: a payload's dictionary with dates and the like
        return cls.model_validate(value)
    return cls.model_validate_json(text)


def misfit(error: ValueError) -> tuple[list[str | int], str]:
    """Where a value does not fit and what was expected there, of the first complaint."""
    if not isinstance(error, pydantic.ValidationError):
        return [], str(error)
    first = error.errors(include_url=False, include_context=False)[0]
    return list(first["loc"]), f"{first['msg']} (found {first['input']!r:.100})"
