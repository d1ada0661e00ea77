"""Frozen dataclasses that are objects on the wire, in both directions, from their fields alone.

The official SDK's service models are such dataclasses; inside, Perdure uses its own (`perdure.model`).
"""

import dataclasses
import enum
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from types import NoneType
from typing import Any, Final, Self, cast

from perdure.wire.forms import AnyTime, from_ms, to_ms

_ANY_TIME: Final = AnyTime()

Times = Callable[[Any], Any]


def under(key: str, *, is_blank_absent: bool = False) -> dict[str, Any]:
    """The metadata of a field whose name on the wire is not its own in PascalCase, or whose empty text is left out."""
    return {"key": key, "is_blank_absent": is_blank_absent}


def as_it_is(value: Any) -> Any:
    return value


def read_time(value: Any) -> datetime:
    """A datetime as it is; milliseconds, seconds and ISO text as a datetime in UTC."""
    return value if isinstance(value, datetime) else from_ms(_ANY_TIME.read(value, "a timestamp"))


class WireShape:
    """The base of the service models. Absent members are None, and are left out when written.

    `to_dict` keeps datetimes, as boto3 takes and gives them; `to_json_dict` writes milliseconds since the epoch.
    """

    __slots__ = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read an object of the wire. ValueError says which member is missing or can't be."""
        return cast(Self, _read(cls, data, read_time))

    @classmethod
    def from_json_dict(cls, data: Mapping[str, Any]) -> Self:
        """The same, with numbers as milliseconds since the epoch."""
        return cast(Self, _read(cls, data, _from_json_time))

    def to_dict(self) -> dict[str, Any]:
        return _write(self, as_it_is)

    def to_json_dict(self) -> dict[str, Any]:
        return _write(self, to_ms)


def _from_json_time(value: Any) -> datetime:
    return from_ms(round(value)) if isinstance(value, (int, float)) else read_time(value)


class _Member(typing.NamedTuple):
    """One field. `kind` is what its value is made of: a shape, an enumeration, datetime; None for what JSON has."""

    name: str
    key: str
    kind: Any
    is_list: bool
    has_default: bool
    may_be_none: bool
    is_blank_absent: bool


@cache
def _members(shape: Any) -> tuple[_Member, ...]:
    hints = typing.get_type_hints(shape)
    return tuple(_member(field, hints[field.name]) for field in dataclasses.fields(shape))


def _member(field: "dataclasses.Field[Any]", hint: Any) -> _Member:
    choices = typing.get_args(hint) if typing.get_origin(hint) not in (None, list) else (hint,)
    (only,) = [choice for choice in choices if choice is not NoneType]
    is_list = typing.get_origin(only) is list
    kind = typing.get_args(only)[0] if is_list else only
    has_default = not (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)
    return _Member(
        field.name,
        field.metadata.get("key") or "".join(word.capitalize() for word in field.name.split("_")),
        kind if isinstance(kind, type) and issubclass(kind, (WireShape, enum.Enum, datetime)) else None,
        is_list,
        has_default,
        NoneType in choices,
        field.metadata.get("is_blank_absent", False),
    )


def _read(shape: Any, data: Mapping[str, Any], read_moment: Times) -> Any:
    given: dict[str, Any] = {}
    for name, key, kind, is_list, has_default, may_be_none, _ in _members(shape):
        value = data.get(key)
        if value is None:
            if not has_default and not may_be_none:
                raise ValueError(f"{shape.__name__}: {key} is missing from {sorted(data)}")
            if not has_default:
                given[name] = None
        elif kind is None:
            given[name] = list(value) if is_list else value
        elif kind is datetime:
            given[name] = read_moment(value)
        elif issubclass(kind, enum.Enum):
            given[name] = kind(value)
        else:
            given[name] = (
                [_read(kind, item, read_moment) for item in value] if is_list else _read(kind, value, read_moment)
            )
    return shape(**given)


def _write(value: Any, write_moment: Times) -> dict[str, Any]:
    written: dict[str, Any] = {}
    for name, key, kind, is_list, _, _, is_blank_absent in _members(value.__class__):
        found = getattr(value, name)
        if found is None or (is_blank_absent and not found):
            continue
        if kind is None:
            written[key] = list(found) if is_list else found
        elif kind is datetime:
            written[key] = write_moment(found)
        elif issubclass(kind, enum.Enum):
            written[key] = str(found.value)
        else:
            written[key] = [_write(item, write_moment) for item in found] if is_list else _write(found, write_moment)
    return written
