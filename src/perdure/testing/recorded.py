"""What a payload or an error was, for tests that were written from a history: as an object that a mock can give."""

import json
from collections.abc import Iterator
from typing import Any

from perdure.exceptions import DurableOperationError
from perdure.serdes import decode
from perdure.testing.exceptions import class_named


def recorded_value(payload: str) -> Any:
    """The value of a payload in the format of steps. Its classes are imported: payloads are to be trusted for that.

    Raises SerDesError if it can't be read.
    """
    from perdure.sdk.tags import Allowed

    classes = {name: found for name in _names_in(json.loads(payload)) if (found := class_named(name)) is not None}
    return decode(payload, Allowed.of(classes) if classes else None)


def _names_in(form: Any) -> Iterator[str]:
    """The classes that a payload names."""
    if isinstance(form, dict):
        name = form.get("c")
        if isinstance(name, str) and "t" in form:
            yield name
        for held in form.values():
            yield from _names_in(held)
    elif isinstance(form, list):
        for held in form:
            yield from _names_in(held)


def recorded_error(type: str, message: str = "", data: str | None = None) -> Exception:  # noqa: A002 - an error's own word
    """An exception that is recorded with this type and message: of its own class where that can be had and made."""
    kind = class_named(type)
    if kind is not None and issubclass(kind, DurableOperationError):
        return kind(message, None, data)
    if kind is not None and issubclass(kind, Exception):
        try:
            made = kind(message)
        except Exception:  # noqa: BLE001 - a class with a constructor of its own can't be made from a text
            made = None
        if made is not None and str(made) == message:
            return made
    return _stand_in(type)(message)


def _stand_in(qualified: str) -> type[Exception]:
    """A class that is recorded under this name."""
    module, _, name = qualified.rpartition(".")
    return type(name or "Exception", (Exception,), {"__module__": module or "builtins", "__qualname__": name})
