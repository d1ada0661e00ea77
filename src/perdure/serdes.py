"""How values become payloads (text) and payloads values again.

Steps, child contexts and conditions use the extended format: JSON as it is for texts, numbers, booleans, None and lists
of them; everything else as `{"t": tag, "v": value}`. It is the format of the official SDK, to the letter; what that one
refuses (sets, enums, dataclasses, models, ...) has tags of its own, in `perdure.sdk.tags`. A result is read back before
it is recorded: the first run sees what a replay will see.
"""

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import msgspec

from perdure.exceptions import RetryableSerDesError, SerDesError

if TYPE_CHECKING:
    from decimal import Decimal
    from uuid import UUID

    from perdure.sdk.tags import Allowed

__all__ = [
    "DEFAULT_JSON_SERDES",
    "EXTENDED_TYPES_SERDES",
    "ExtendedTypeSerDes",
    "JsonSerDes",
    "PassThroughSerDes",
    "PydanticSerDes",
    "RetryableSerDesError",
    "SerDes",
    "SerDesContext",
    "SerDesError",
    "TypedSerDes",
    "deserialize",
    "serialize",
]

T = TypeVar("T")


@dataclass(frozen=True)
class SerDesContext:
    """Whose payload it is. What is not known is None: `attempt` counts the runs of a step's body, from 1."""

    operation_id: str = ""
    durable_execution_arn: str = ""
    name: str | None = None
    operation_type: str | None = None
    attempt: int | None = None


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

Tagged = dict[str, Any]


def wrap(value: Any) -> Tagged:
    """The tagged form of a value; SerDesError if it has none."""
    form = _WRAPS.get(type(value))
    if form is None:
        for known, candidate in _WRAPS.items():
            if isinstance(value, known):
                form = candidate
                break
        else:
            form = _lazy_wrap(value)
    return form(value)


def _wrap_dict(value: dict[Any, Any]) -> Tagged:
    for key in value:
        if type(key) is not str and not (key is None or isinstance(key, (str, int, float))):
            from perdure.sdk.tags import wrap_pairs

            return wrap_pairs(value)
    return {"t": "m", "v": {key: wrap(item) for key, item in value.items()}}


def _wrap_bytes(value: Any) -> Tagged:
    return {"t": "B", "v": base64.b64encode(bytes(value)).decode()}


_WRAPS: Final[dict[type, Callable[[Any], Tagged]]] = {
    type(None): lambda value: {"t": "n", "v": value},
    bool: lambda value: {"t": "b", "v": value},
    str: lambda value: {"t": "s", "v": value},
    int: lambda value: {"t": "i", "v": value},
    float: lambda value: {"t": "f", "v": value},
    dict: _wrap_dict,
    list: lambda value: {"t": "l", "v": [wrap(item) for item in value]},
    tuple: lambda value: {"t": "t", "v": [wrap(item) for item in value]},
    bytes: _wrap_bytes,
    bytearray: _wrap_bytes,
    memoryview: _wrap_bytes,
    datetime: lambda value: {"t": "dt", "v": value.isoformat()},
    date: lambda value: {"t": "D", "v": value.isoformat()},
}


def _lazy_wrap(value: Any) -> Callable[[Any], Tagged]:
    """The tagged form of types whose modules are not worth loading for everybody."""
    from decimal import Decimal
    from uuid import UUID

    if isinstance(value, UUID):
        return lambda uuid: {"t": "u", "v": str(uuid)}
    if isinstance(value, Decimal):
        return lambda number: {"t": "d", "v": str(number)}
    from perdure.sdk.tags import wrap_other

    return wrap_other


def unwrap(data: Any, allowed: "Allowed | None" = None) -> Any:
    """The value of a tagged form, made into the classes that are allowed; what has no tag, inside one, is itself."""
    if type(data) is not dict or "t" not in data or "v" not in data:
        return data
    tag, value = data["t"], data["v"]
    scalar = _SCALARS.get(tag)
    if scalar is not None:
        return scalar(value)
    if tag == "m":
        return {key: unwrap(item, allowed) for key, item in value.items()}
    if tag == "l":
        return [unwrap(item, allowed) for item in _array(value)]
    if tag == "t":
        return tuple(unwrap(item, allowed) for item in _array(value))
    from perdure.sdk.tags import unwrap_other

    return unwrap_other(data, allowed)


def _array(value: Any) -> list[Any]:
    if type(value) is not list:
        raise SerDesError(f"a payload is damaged: a list was expected, {type(value).__name__} found")
    return value


def _to_uuid(text: str) -> "UUID":
    from uuid import UUID

    return UUID(text)


def _to_decimal(text: str) -> "Decimal":
    from decimal import Decimal

    return Decimal(text)


_SCALARS: Final[dict[str, Callable[[Any], Any]]] = {
    "n": lambda _value: None,
    "b": bool,
    "s": str,
    "i": int,
    "f": float,
    "B": lambda text: base64.b64decode(text.encode()),  # as bytes: what is not in the alphabet is passed over
    "dt": datetime.fromisoformat,
    "D": date.fromisoformat,
    "u": _to_uuid,
    "d": _to_decimal,
}


def encode(value: Any) -> str:
    """The extended format of `value`; SerDesError if it has none."""
    kind = type(value)
    if kind is str:
        quoted: str = _quote(value)
        return quoted
    if value is None:
        return "null"
    try:
        if kind is int:
            return int.__repr__(value)
        if SerDes.is_primitive(value):
            return _compact(value)
        return _compact(wrap(value))
    except (RecursionError, ValueError, TypeError) as error:
        raise SerDesError(f"the value can't be written: {error}") from error


def decode(data: str, allowed: "Allowed | None" = None) -> Any:
    """The value of a payload in the extended format; SerDesError if it is in another.

    `allowed` are the classes that the payload may be made into; without it, a payload that needs one is refused.
    """
    try:
        try:
            found = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeEncodeError):
            found = json.loads(data)  # knows NaN and half surrogates, which JSON does not
        kind = type(found)
        if kind is dict:
            if "t" not in found or "v" not in found:
                raise SerDesError('Malformed envelope: missing "t" or "v" at root.')
            return unwrap(found, allowed)
        if kind is list and not SerDes.is_primitive(found):
            raise SerDesError('Malformed envelope: missing "t" or "v" at root.')
    except (RecursionError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise SerDesError(f"the payload can't be read: {type(error).__name__}: {error}") from error
    return found


def _allow(types: "Iterable[type] | Mapping[str, type]") -> "Allowed":
    from perdure.sdk.tags import Allowed

    return Allowed.of(types)


class ExtendedTypeSerDes(SerDes[Any]):
    """The default of steps, child contexts and conditions.

    `types` are classes that payloads may be made into without an annotation that says so: enums, dataclasses, attrs
    classes, pydantic models, msgspec structs. As a mapping, they are found under the names that it gives, which is how
    a payload recorded under a class's former name is read: `{"shop.Order": Order}`.
    """

    def __init__(self, types: "Iterable[type] | Mapping[str, type]" = ()) -> None:
        self._allowed = _allow(types) if types else None

    def serialize(self, value: Any, serdes_context: SerDesContext) -> str:
        return encode(value)

    def deserialize(self, data: str, serdes_context: SerDesContext) -> Any:
        return decode(data, self._allowed)


class TypedSerDes(SerDes[T]):
    """The extended format for values of a given type, which is checked when they are read.

    `expected` is a class or any annotation: `Order`, `list[Order]`, `Card | Cash | None`, `dict[int, Decimal]`. What
    was recorded as a dictionary is made into the class that is expected; SerDesError, with the place, if it does not
    fit.
    """

    def __init__(self, expected: "type[T] | Any") -> None:
        from perdure.sdk.convert import converter
        from perdure.sdk.typed import allowed_by

        self.expected = expected
        self._allowed = allowed_by(expected)
        self._convert = converter(expected)

    def __repr__(self) -> str:
        return f"TypedSerDes({getattr(self.expected, '__qualname__', self.expected)})"

    def serialize(self, value: T, serdes_context: SerDesContext) -> str:
        return encode(value)

    def deserialize(self, data: str, serdes_context: SerDesContext) -> T:
        from perdure.sdk.convert import Misfit

        try:
            return cast(T, self._convert(decode(data, self._allowed)))
        except Misfit as misfit:
            raise SerDesError(f"the payload does not fit {self!r}: {misfit}") from misfit


class PydanticSerDes(SerDes[T]):
    """Plain JSON by pydantic, of a model or of any type it knows: `PydanticSerDes(list[Order])`.

    Fields go by their names, not their aliases, as far as pydantic can read that again (from 2.11 on).
    """

    def __init__(self, model_or_type: "type[T] | Any") -> None:
        from perdure.sdk.models import adapter

        self._adapter = adapter(model_or_type)

    def serialize(self, value: T, serdes_context: SerDesContext) -> str:
        return self._adapter.dump(value)

    def deserialize(self, data: str, serdes_context: SerDesContext) -> T:
        return cast(T, self._adapter.load(data))


DEFAULT_JSON_SERDES: Final[SerDes[Any]] = JsonSerDes()
EXTENDED_TYPES_SERDES: Final[SerDes[Any]] = ExtendedTypeSerDes()


# --- with errors as the SDK wants them ---------------------------------------------------------------------------

watched: Final[dict[str, dict[str, SerDes[Any]]]] = {}
"""By ARN, of the executions that a test looks at: by operation, the serdes that read its payload last. An execution is
watched once it has an entry; the default serdes is not noted.
"""


def _context(operation_id: str, arn: str, name: str | None, operation_type: str | None, attempt: int | None) -> Any:
    context = SerDesContext.__new__(SerDesContext)
    context.__dict__.update(  # a frozen dataclass takes 2 µs to fill by its own means
        operation_id=operation_id, durable_execution_arn=arn, name=name, operation_type=operation_type, attempt=attempt
    )
    return context


def serialize(
    serdes: SerDes[T] | None,
    value: T,
    operation_id: str,
    durable_execution_arn: str,
    *,
    name: str | None = None,
    operation_type: str | None = None,
    attempt: int | None = None,
) -> str:
    """Write a value with `serdes`, or in the extended format; every foreign error becomes a SerDesError."""
    try:
        if serdes is None or serdes is EXTENDED_TYPES_SERDES:
            return encode(value)
        return serdes.serialize(value, _context(operation_id, durable_execution_arn, name, operation_type, attempt))
    except (SerDesError, RetryableSerDesError):
        raise
    except Exception as error:
        raise SerDesError(f"the value can't be written: {type(error).__name__}: {error}") from error


def deserialize(
    serdes: SerDes[T] | None,
    data: str,
    operation_id: str,
    durable_execution_arn: str,
    *,
    name: str | None = None,
    operation_type: str | None = None,
    attempt: int | None = None,
) -> T:
    """Read a payload with `serdes`, or in the extended format; every foreign error becomes a SerDesError."""
    try:
        if serdes is None or serdes is EXTENDED_TYPES_SERDES:
            value: T = decode(data)
            return value
        if (read := watched.get(durable_execution_arn)) is not None:
            read[operation_id] = serdes
        return serdes.deserialize(data, _context(operation_id, durable_execution_arn, name, operation_type, attempt))
    except (SerDesError, RetryableSerDesError):
        raise
    except Exception as error:
        raise SerDesError(f"the payload can't be read: {type(error).__name__}: {error}") from error
