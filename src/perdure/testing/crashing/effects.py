"""What bodies do to the outside world, as a test records it."""

from collections.abc import Mapping, MutableSequence, Sequence
from contextvars import ContextVar
from typing import Any, Final

from perdure.exceptions import ValidationError

recording: Final[ContextVar["Record | None"]] = ContextVar("perdure_effects", default=None)
"""Where what the running body does is recorded."""


class Effect:
    """One thing done to the outside world."""

    __slots__ = ("data", "key", "name")

    def __init__(self, name: str, key: object, data: Mapping[str, Any]) -> None:
        self.name = name
        self.key = key
        self.data = dict(data)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.data.items())
        return f"{self.name}({arguments})" + (f" with key {self.key!r}" if self.key is not None else "")


class Record:
    """The effects of one run."""

    def __init__(self) -> None:
        self.effects: list[Any] = []
        self._keys: set[tuple[str, object]] = set()

    def add(self, effect: Effect) -> None:
        if effect.key is not None:
            if (effect.name, effect.key) in self._keys:
                return
            self._keys.add((effect.name, effect.key))
        self.effects.append(effect)


class Effects:
    """Stands for the outside world: bodies tell it what they do.

    `effects.record("charge", amount=12)` is one more charge at every call. With a `key` the outside world knows it
    again, as one that takes idempotency keys does: the second call with the same key does nothing.
    """

    def __init__(self) -> None:
        self._outside = Record()

    def record(self, name: str, *, key: object = None, **data: Any) -> None:
        """Something was done."""
        (recording.get() or self._outside).add(Effect(name, key, data))

    @property
    def recorded(self) -> list[Any]:
        """What was recorded outside of a check."""
        return list(self._outside.effects)


class Ledger:
    """Reads the effects of one run after the other from what the test gave."""

    def __init__(self, given: Any) -> None:
        if given is not None and not isinstance(given, (Effects, MutableSequence)) and not callable(given):
            raise ValidationError(
                f"effects must be Effects(), a list that bodies append to, or a function that gives one, not {given!r}"
            )
        self._given: Any = given
        self._at = 0

    @property
    def is_shared(self) -> bool:
        """Several runs at a time could not be told apart."""
        return self._given is not None and not isinstance(self._given, Effects)

    def begin(self) -> None:
        if isinstance(self._given, MutableSequence):
            self._at = len(self._given)

    def size(self) -> int:
        """How many there are by now, where that can be seen."""
        return len(self._given) if isinstance(self._given, MutableSequence) else 0

    def since(self, size: int) -> list[Any]:
        """What has been appended since there were `size`."""
        return list(self._given[size:]) if isinstance(self._given, MutableSequence) else []

    def end(self, record: Record) -> list[Any] | None:
        """The effects of the run that began last; None if nobody records any."""
        if self._given is None:
            return None
        if isinstance(self._given, Effects):
            return record.effects
        if isinstance(self._given, MutableSequence):
            return list(self._given[self._at :])
        recorded: Sequence[Any] = self._given()
        return list(recorded)
