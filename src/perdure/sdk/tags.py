"""How values are written that the official format has no form for, and read again.

What needs no class has a tag that says all: set, frozenset, timedelta, time, path, and dictionaries with keys that JSON
has no form for. Enums, records and models are written with their class's name and read only if that class was expected:
named by an annotation, a result type or a list. A payload never has anything imported.
"""

import enum
import importlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import time, timedelta
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Final, cast

import msgspec

from perdure.exceptions import SerDesError
from perdure.sdk.records import class_of_payload, is_model, record_of, recorded_name
from perdure.serdes import Tagged, unwrap, wrap

BATCHES: Final = "perdure.concurrency.models"


# --- writing -----------------------------------------------------------------------------------------------------


def wrap_other(value: Any) -> Tagged:
    """The tagged form of a value that is of none of the official kinds; SerDesError if it has none."""
    for known, form in _FORMS:
        if isinstance(value, known):
            return form(value)
    if is_batch(value):
        return {"t": "br", "v": wrap(value.to_dict())["v"]}
    cls = type(value)
    if is_model(cls):
        from perdure.sdk.models import wrap_model

        return wrap_model(value, recorded_name(cls))
    record = record_of(cls)
    if record is not None:
        fields = {name: wrap(held) for name, held in record.values(value).items()}
        return {"t": "object", "c": recorded_name(cls), "v": fields}
    raise SerDesError(
        f"a value of type {recorded_name(cls)} can't be written; return texts, numbers, lists, dictionaries, tuples, "
        "sets, bytes, dates and times, UUIDs, Decimals, paths, enums, dataclasses, attrs classes, pydantic models or "
        "msgspec structs, or give a serdes"
    )


def wrap_pairs(value: dict[Any, Any]) -> Tagged:
    """A dictionary that has keys for which JSON has no form."""
    return {"t": "map", "v": [[wrap(key), wrap(item)] for key, item in value.items()]}


def is_batch(value: object) -> bool:
    models = sys.modules.get(BATCHES)
    return models is not None and isinstance(value, models.BatchResult)


def _wrap_set(value: set[Any] | frozenset[Any]) -> Tagged:
    """In one order, whatever the process: a set of texts has another in each."""
    items = sorted((wrap(item) for item in value), key=lambda item: json.dumps(item))
    return {"t": "frozenset" if isinstance(value, frozenset) else "set", "v": items}


def _wrap_time(value: time) -> Tagged:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise SerDesError(
            f"the time {value!r} can't be written: without a date its zone has no offset; return a datetime, or a time "
            "without a zone"
        )
    return {"t": "time", "v": value.isoformat()}


def _wrap_path(value: PurePath) -> Tagged:
    kind = "" if isinstance(value, Path) else type(value).__name__
    return {"t": "path", "v": str(value), **({"c": kind} if kind in _PATHS else {})}


_FORMS: Final[list[tuple[type | tuple[type, ...], Callable[[Any], Tagged]]]] = [
    ((set, frozenset), _wrap_set),
    (timedelta, lambda value: {"t": "timedelta", "v": msgspec.to_builtins(value)}),
    (time, _wrap_time),
    (PurePath, _wrap_path),
    (enum.Enum, lambda value: {"t": "enum", "c": recorded_name(type(value)), "v": wrap(value.value)}),
]
_PATHS: Final[dict[str, type[PurePath]]] = {"PurePosixPath": PurePosixPath, "PureWindowsPath": PureWindowsPath}


# --- reading -----------------------------------------------------------------------------------------------------


class Allowed:
    """The classes that payloads may be made into, each under the name by which it is recorded.

    Their subclasses, as far as they are loaded, are allowed with them. `refine` gives a record's fields what an
    annotation knows and a payload does not: that a text is a member of a StrEnum.
    """

    def __init__(self, named: Mapping[str, type], refine: "Callable[[type], Mapping[str, Any]] | None" = None) -> None:
        self._named = dict(named)
        self._refine = refine

    @classmethod
    def of(cls, types: "Iterable[type] | Mapping[str, type]") -> "Allowed":
        from perdure.sdk.typed import classes_in, refinements

        named = dict(cast("Mapping[str, type]", types)) if isinstance(types, Mapping) else {}
        for one in list(named.values()) or cast("Iterable[type]", types):
            named.update({recorded_name(found): found for found in classes_in(one)})
        return cls(named, refinements)

    def find(self, name: str) -> type:
        """The class recorded as `name`; SerDesError if it is not allowed."""
        found = self._named.get(name)
        if found is not None:
            return found
        known = set(self._known())
        same = [cls for cls in known if recorded_name(cls) == name] or [
            # the same file goes by another name when it is the program itself: `__main__.Order`, `shop.Order`
            cls
            for cls in known
            if name.endswith("." + cls.__qualname__)
        ]
        if len(same) != 1:
            names = ", ".join(sorted(self._named)) or "no class"
            raise SerDesError(
                f"the payload holds a {name}, and {names} was expected; correct the annotation or the result type, or, "
                f"if the class was renamed, read it with ExtendedTypeSerDes(types={{{name!r}: TheClass}})"
            )
        self._named[name] = same[0]
        return same[0]

    def _known(self) -> Iterator[type]:
        """All allowed classes and their loaded subclasses."""
        open_ones, seen = list(self._named.values()), set[type]()
        while open_ones:
            cls = open_ones.pop()
            if cls not in seen:
                seen.add(cls)
                yield cls
                open_ones.extend(type.__subclasses__(cls))

    def refined(self, cls: type, values: dict[str, Any]) -> dict[str, Any]:
        """A record's values with what its annotations know of them."""
        if self._refine is not None:
            for name, refine in self._refine(cls).items():
                if name in values:
                    values[name] = refine(values[name])
        return values


def unwrap_other(data: Tagged, allowed: Allowed | None) -> Any:
    """The value of a form with a tag that is not official; SerDesError if it is unknown or its class not expected."""
    tag, value = data["t"], data["v"]
    if tag in ("set", "frozenset"):
        items = [unwrap(item, allowed) for item in value]
        return set(items) if tag == "set" else frozenset(items)
    if tag == "timedelta":
        return msgspec.convert(value, timedelta)
    if tag == "time":
        return time.fromisoformat(value)
    if tag == "path":
        return _PATHS.get(data.get("c", ""), Path)(value)
    if tag == "map":
        return {unwrap(key, allowed): unwrap(item, allowed) for key, item in value}
    if tag == "br":
        return importlib.import_module(BATCHES).BatchResult.from_dict(unwrap({"t": "m", "v": value}, allowed))
    if tag not in ("enum", "object", "model", "fields"):
        raise SerDesError(f'Unknown type tag: "{tag}"')
    name = data["c"]
    if allowed is None:
        short = name.rpartition(".")[2]
        raise SerDesError(
            f"the value is a {name}, and nothing says that a payload may be made into one; annotate the function with "
            f"what it returns (`-> {short}`), set result_type={short}, or give serdes=TypedSerDes({short})"
        )
    try:
        return _make(tag, allowed.find(name), value, allowed)
    except (TypeError, ValueError) as error:
        raise SerDesError(f"a {name} can't be made of the payload: {error}") from error


def _make(tag: str, cls: type, value: Any, allowed: Allowed) -> Any:
    if is_model(cls):
        from perdure.sdk.models import read_fields, read_json

        if tag == "model":
            return read_json(cls, value)
        return read_fields(cls, {name: unwrap(held, allowed) for name, held in value.items()})
    if issubclass(cls, enum.Enum):
        return cls(unwrap(value, allowed))
    record = record_of(cls)
    if record is None or tag == "model":
        raise class_of_payload(cls)
    values = allowed.refined(cls, {name: unwrap(held, allowed) for name, held in value.items()})
    missing = [field.name for field in record.fields if field.is_required and field.name not in values]
    if missing:
        raise SerDesError(
            f"a {recorded_name(cls)} can't be made of the payload: it was recorded without {', '.join(missing)}; "
            "give new fields a default"
        )
    return record.make(values)
