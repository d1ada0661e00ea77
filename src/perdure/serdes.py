"""How values become payloads (text) and payloads values again.

Steps, child contexts and conditions use the extended format: JSON as it is for texts, numbers, booleans, None and lists
of them; everything else as `{"t": tag, "v": value}`. It is the format of the official SDK, to the letter. A result is
read back before it is recorded: the first run sees what a replay will see.
"""

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from perdure.exceptions import RetryableSerDesError, SerDesError

if TYPE_CHECKING:
    from decimal import Decimal
    from uuid import UUID

__all__ = [
    "DEFAULT_JSON_SERDES",
    "EXTENDED_TYPES_SERDES",
    "ExtendedTypeSerDes",
    "JsonSerDes",
    "PassThroughSerDes",
    "RetryableSerDesError",
    "SerDes",
    "SerDesContext",
    "SerDesError",
    "deserialize",
    "serialize",
]

T = TypeVar("T")


@dataclass(frozen=True)
class SerDesContext:
    """Whose payload it is."""

    operation_id: str = ""
    durable_execution_arn: str = ""


class SerDes(ABC, Generic[T]):
    """Writes and reads one kind of values. Both methods are called with positional arguments.

    An error raised by either is permanent and ends the operation as a `SerDesError`; a `RetryableSerDesError` has the
    invocation tried again.
    """

    @abstractmethod
    def serialize(self, value: T, serdes_context: SerDesContext) -> str:
        """The text that stands for `value`."""

    @abstractmethod
    def deserialize(self, data: str, serdes_context: SerDesContext) -> T:
        """The value that `data` stands for."""

    @staticmethod
    def is_primitive(obj: Any) -> bool:
        """Whether `obj` is None, a text, a number, a boolean, or a list of such, at any depth."""
        if obj is None or isinstance(obj, (str, int, float, bool)):
            return True
        return isinstance(obj, list) and all(SerDes.is_primitive(item) for item in obj)


class PassThroughSerDes(SerDes[str]):
    """The value is its payload."""

    def serialize(self, value: str, serdes_context: SerDesContext) -> str:
        return value

    def deserialize(self, data: str, serdes_context: SerDesContext) -> str:
        return data


class JsonSerDes(SerDes[Any]):
    """Plain JSON."""

    def serialize(self, value: Any, serdes_context: SerDesContext) -> str:
        return json.dumps(value)

    def deserialize(self, data: str, serdes_context: SerDesContext) -> Any:
        return json.loads(data)


# --- the extended format -----------------------------------------------------------------------------------------

_compact: Final = json.JSONEncoder(separators=(",", ":"), check_circular=True).encode
_quote: Final = json.encoder.encode_basestring_ascii


def _wrap(value: Any) -> dict[str, Any]:
    """The tagged form of a value; SerDesError if it has none."""
    kind = type(value)
    wrap = _WRAPS.get(kind)
    if wrap is None:
        for known, candidate in _WRAPS.items():
            if isinstance(value, known):
                wrap = candidate
                break
        else:
            wrap = _lazy_wrap(value)
    return wrap(value)


def _wrap_dict(value: dict[Any, Any]) -> dict[str, Any]:
    for key in value:
        if isinstance(key, tuple):
            raise SerDesError(f"a dictionary with the tuple {key!r} as a key can't be written; use texts as keys")
    return {"t": "m", "v": {key: _wrap(item) for key, item in value.items()}}


def _wrap_bytes(value: Any) -> dict[str, Any]:
    return {"t": "B", "v": base64.b64encode(bytes(value)).decode()}


_WRAPS: Final[dict[type, Callable[[Any], dict[str, Any]]]] = {
    type(None): lambda value: {"t": "n", "v": value},
    bool: lambda value: {"t": "b", "v": value},
    str: lambda value: {"t": "s", "v": value},
    int: lambda value: {"t": "i", "v": value},
    float: lambda value: {"t": "f", "v": value},
    dict: _wrap_dict,
    list: lambda value: {"t": "l", "v": [_wrap(item) for item in value]},
    tuple: lambda value: {"t": "t", "v": [_wrap(item) for item in value]},
    bytes: _wrap_bytes,
    bytearray: _wrap_bytes,
    memoryview: _wrap_bytes,
    datetime: lambda value: {"t": "dt", "v": value.isoformat()},
    date: lambda value: {"t": "D", "v": value.isoformat()},
}


def _lazy_wrap(value: Any) -> Callable[[Any], dict[str, Any]]:
    """The tagged form of types whose modules are not worth loading for everybody."""
    from decimal import Decimal
    from uuid import UUID

    if isinstance(value, UUID):
        return lambda uuid: {"t": "u", "v": str(uuid)}
    if isinstance(value, Decimal):
        return lambda number: {"t": "d", "v": str(number)}
    kind = type(value)
    raise SerDesError(
        f"a value of type {kind.__module__}.{kind.__qualname__} can't be written; "
        "return texts, numbers, lists, dictionaries, tuples, bytes, dates, UUIDs or Decimals, or give a serdes"
    )


def _unwrap(data: Any) -> Any:
    """The value of a tagged form; what has no tag, inside one, is itself."""
    if not isinstance(data, dict) or "t" not in data or "v" not in data:
        return data
    unwrap = _UNWRAPS.get(data["t"])
    if unwrap is None:
        raise SerDesError(f'Unknown type tag: "{data["t"]}"')
    return unwrap(data["v"])


def _to_uuid(text: str) -> "UUID":
    from uuid import UUID

    return UUID(text)


def _to_decimal(text: str) -> "Decimal":
    from decimal import Decimal

    return Decimal(text)


_UNWRAPS: Final[dict[str, Callable[[Any], Any]]] = {
    "n": lambda _value: None,
    "b": bool,
    "s": str,
    "i": int,
    "f": float,
    "m": lambda items: {key: _unwrap(item) for key, item in items.items()},
    "l": lambda items: [_unwrap(item) for item in items],
    "t": lambda items: tuple(_unwrap(item) for item in items),
    "B": base64.b64decode,
    "dt": datetime.fromisoformat,
    "D": date.fromisoformat,
    "u": _to_uuid,
    "d": _to_decimal,
}


class ExtendedTypeSerDes(SerDes[Any]):
    """The default of steps, child contexts and conditions."""

    def serialize(self, value: Any, serdes_context: SerDesContext) -> str:
        return encode(value)

    def deserialize(self, data: str, serdes_context: SerDesContext) -> Any:
        return decode(data)


def encode(value: Any) -> str:
    """The extended format of `value`; SerDesError if it has none."""
    kind = type(value)
    if kind is str:
        quoted: str = _quote(value)
        return quoted
    if kind is int:
        return int.__repr__(value)
    if value is None:
        return "null"
    try:
        if SerDes.is_primitive(value):
            return _compact(value)
        return _compact(_wrap(value))
    except (RecursionError, ValueError, TypeError) as error:
        raise SerDesError(f"the value can't be written: {error}") from error


def decode(data: str) -> Any:
    """The value of a payload in the extended format; SerDesError if it is in another."""
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeEncodeError):
        found = json.loads(data)  # knows NaN and half surrogates, which JSON does not
    kind = type(found)
    if kind is dict:
        if "t" not in found or "v" not in found:
            raise SerDesError('Malformed envelope: missing "t" or "v" at root.')
        return _unwrap(found)
    if kind is list and not SerDes.is_primitive(found):
        raise SerDesError('Malformed envelope: missing "t" or "v" at root.')
    return found


DEFAULT_JSON_SERDES: Final[SerDes[Any]] = JsonSerDes()
EXTENDED_TYPES_SERDES: Final[SerDes[Any]] = ExtendedTypeSerDes()


# --- with errors as the SDK wants them ---------------------------------------------------------------------------


def serialize(serdes: SerDes[T] | None, value: T, operation_id: str, durable_execution_arn: str) -> str:
    """Write a value with `serdes`, or in the extended format; every foreign error becomes a SerDesError."""
    try:
        if serdes is None or serdes is EXTENDED_TYPES_SERDES:
            return encode(value)
        return serdes.serialize(value, SerDesContext(operation_id, durable_execution_arn))
    except (SerDesError, RetryableSerDesError):
        raise
    except Exception as error:
        raise SerDesError(f"the value can't be written: {type(error).__name__}: {error}") from error


def deserialize(serdes: SerDes[T] | None, data: str, operation_id: str, durable_execution_arn: str) -> T:
    """Read a payload with `serdes`, or in the extended format; every foreign error becomes a SerDesError."""
    try:
        if serdes is None or serdes is EXTENDED_TYPES_SERDES:
            value: T = decode(data)
            return value
        return serdes.deserialize(data, SerDesContext(operation_id, durable_execution_arn))
    except (SerDesError, RetryableSerDesError):
        raise
    except Exception as error:
        raise SerDesError(f"the payload can't be read: {type(error).__name__}: {error}") from error
