"""How strict the process is with handlers that do what a replay would not repeat. What it does then is in `strict`."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from perdure.exceptions import ValidationError
from perdure.model.word import Word

VARIABLE: Final = "PERDURE_STRICT"


class Strict(Word):
    """What becomes of a clock, a random number, a file or a connection that a handler uses outside of a step."""

    OFF = "off"
    WARN = "warn"
    RAISE = "raise"


_WORDS: Final = {"": Strict.OFF, "0": Strict.OFF, "off": Strict.OFF, "warn": Strict.WARN, "1": Strict.RAISE}


def to_strict(given: Strict | str | bool | None) -> Strict:
    """The mode that was asked for: "off", "warn", "raise", False, True. ValidationError if there is no such."""
    if given is None or given is False:
        return Strict.OFF
    if given is True:
        return Strict.RAISE
    try:
        return _WORDS.get(given.lower()) or Strict(given.lower())
    except (ValueError, AttributeError):
        raise ValidationError(f"strict must be 'off', 'warn' or 'raise', not {given!r}") from None


def stricter(one: Strict, other: Strict) -> Strict:
    """The stricter of two modes."""
    order = list(Strict)
    return max(one, other, key=order.index)


def _of_environment() -> Strict:
    text = os.environ.get(VARIABLE, "").strip()
    try:
        return to_strict(text)
    except ValidationError:
        warnings.warn(f"{VARIABLE} must be 0, 1, warn or raise, not {text!r}: it is ignored", stacklevel=2)
        return Strict.OFF


mode: Strict = _of_environment()
"""For functions that say nothing themselves. Read when an invocation begins."""


@contextmanager
def strict(given: Strict | str | bool = Strict.RAISE) -> Iterator[None]:
    """Be that strict with every handler of the process meanwhile: `with strict(): …`, `with strict("warn"): …`."""
    global mode
    before, mode = mode, to_strict(given)
    try:
        yield
    finally:
        mode = before
