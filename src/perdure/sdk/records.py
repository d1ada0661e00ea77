"""Which fields a class of the author's has, and how an object is made of them again.

A record is a dataclass, an attrs class or a msgspec struct. Classes are read as they are; nothing is imported.
"""

import dataclasses
import enum
import inspect
import sys
import typing
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, ForwardRef, NewType, TypeVar, get_args, get_origin
from weakref import WeakKeyDictionary

import msgspec

from perdure.exceptions import SerDesError


class Field(msgspec.Struct, frozen=True):
    """One field. `key` is its name in plain JSON, `argument` that of the constructor (None: it takes none)."""

    name: str
    key: str
    argument: str | None
    type: Any
    is_required: bool


class Record(msgspec.Struct, frozen=True):
    """A class and its fields, in their order."""

    cls: type
    fields: tuple[Field, ...]

    def values(self, instance: Any) -> dict[str, Any]:
        """What an object's fields hold; a field that was never set is left out."""
        held = ((field.name, getattr(instance, field.name, msgspec.UNSET)) for field in self.fields)
        return {name: value for name, value in held if value is not msgspec.UNSET}

    def make(self, values: Mapping[str, Any]) -> Any:
        """An object with these fields; TypeError or ValueError, by the class, if it can't be."""
        arguments = {
            field.argument: values[field.name]
            for field in self.fields
            if field.argument is not None and field.name in values
        }
        made = self.cls(**arguments)
        for field in self.fields:
            if field.argument is None and field.name in values:
                object.__setattr__(made, field.name, values[field.name])
        return made


_records: "WeakKeyDictionary[type, Record | None]" = WeakKeyDictionary()


def record_of(cls: type) -> Record | None:
    """The fields of a dataclass, an attrs class or a msgspec struct; None for any other class."""
    try:
        return _records[cls]
    except KeyError:
        record = _records[cls] = _read(cls)
        return record


def _read(cls: type) -> Record | None:
    if issubclass(cls, msgspec.Struct):
        return Record(cls, tuple(_of_struct(cls)))
    if "__attrs_attrs__" in cls.__dict__:
        return Record(cls, tuple(_of_attrs(cls)))
    if dataclasses.is_dataclass(cls):
        return Record(cls, tuple(_of_dataclass(cls)))
    return None


def _of_dataclass(cls: Any) -> typing.Iterator[Field]:
    types = hints_of(cls)
    for field in dataclasses.fields(cls):
        missing = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        argument = field.name if field.init else None
        yield Field(field.name, field.name, argument, types.get(field.name, Any), field.init and missing)


def _of_attrs(cls: Any) -> typing.Iterator[Field]:
    types = hints_of(cls)
    nothing = sys.modules["attr"].NOTHING
    for field in cls.__attrs_attrs__:
        argument = field.alias if field.init else None
        kind = types.get(field.name, field.type or Any)
        yield Field(field.name, field.name, argument, kind, field.init and field.default is nothing)


def _of_struct(cls: type[msgspec.Struct]) -> typing.Iterator[Field]:
    types = hints_of(cls)
    for field in msgspec.structs.fields(cls):
        kind = types.get(field.name, Any)
        yield Field(field.name, field.encode_name, field.name, kind, field.required)


def is_model(cls: Any) -> bool:
    """Whether this is a pydantic model; pydantic is not loaded for it."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(cls, type) and issubclass(cls, pydantic.BaseModel)


def is_typed_dict(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, dict) and hasattr(cls, "__total__")


def is_named_tuple(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields")


def is_mixed_enum(cls: Any) -> bool:
    """StrEnum, IntEnum and the like: written as the text or the number that a member is."""
    return isinstance(cls, type) and issubclass(cls, enum.Enum) and issubclass(cls, (str, int, float))


def recorded_name(cls: type) -> str:
    """The name under which a class stands in payloads."""
    return f"{cls.__module__}.{cls.__qualname__}"


# --- annotations -------------------------------------------------------------------------------------------------


def hints_of(cls: type) -> dict[str, Any]:
    """The types of a class's fields; Any for those that can't be resolved."""
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation is code; one that fails says nothing of the others
        return _one_by_one(cls)


def _one_by_one(cls: type) -> dict[str, Any]:
    types: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        namespace = vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {}
        try:
            annotations = inspect.get_annotations(base)
        except Exception:  # noqa: BLE001, S112 - since Python 3.14 they are computed when asked for
            continue
        for name, annotation in annotations.items():
            types[name] = resolve(annotation, namespace, {base.__name__: base})
    return types


def resolve(annotation: Any, namespace: dict[str, Any], local: Mapping[str, Any]) -> Any:
    """The type that an annotation means; Any if that can't be told."""

    def bearer() -> None: ...

    bearer.__annotations__ = {"return": annotation}
    try:
        return typing.get_type_hints(bearer, namespace, dict(local), include_extras=True)["return"]
    except Exception:  # noqa: BLE001 - see above
        return Any


_QUALIFIERS: Final = frozenset(
    {ClassVar, typing.Final, typing.Required, typing.NotRequired, getattr(typing, "ReadOnly", typing.Required)}
)


def bare(tp: Any) -> Any:
    """A type without what is said about it: Annotated, NewType, aliases, Required, ..."""
    while True:
        origin = get_origin(tp)
        if origin is Annotated or origin in _QUALIFIERS:
            tp = get_args(tp)[0]
        elif isinstance(tp, NewType):
            tp = tp.__supertype__
        elif type(tp).__name__ == "TypeAliasType":  # `type Orders = list[Order]`, from Python 3.12 on
            tp = tp.__value__
        elif tp is None:
            return type(None)
        elif isinstance(tp, (TypeVar, str, ForwardRef)):
            return Any
        else:
            return tp


def parameters_of(tp: Any) -> tuple[Any, dict[Any, Any]]:
    """A class and what its type parameters stand for: `Box[Order]` is Box, with T for Order."""
    origin = get_origin(tp)
    if origin is None:
        return tp, {}
    return origin, dict(zip(getattr(origin, "__parameters__", ()), get_args(tp), strict=False))


def filled(tp: Any, parameters: Mapping[Any, Any]) -> Any:
    """A field's type with its type parameters replaced."""
    if isinstance(tp, TypeVar):
        return parameters.get(tp, Any)
    open_ones = getattr(tp, "__parameters__", ())
    if not open_ones or isinstance(tp, type):
        return tp
    return tp[tuple(parameters.get(one, Any) for one in open_ones)]


def class_of_payload(cls: type) -> SerDesError:
    """What to say of a class whose objects can't be made of payloads."""
    return SerDesError(
        f"{recorded_name(cls)} is no dataclass, attrs class, pydantic model, msgspec struct or enum any more; "
        "give a serdes that reads what was recorded"
    )
