"""The language that the table of shapes is written in: members, groups of members, shapes.

A shape belongs to one struct of the model. Writing leaves out what is absent (None); reading ignores members it does
not know, takes null for absent, and names the member that can't be.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from perdure.model.error import InvalidParameterValue
from perdure.wire.forms import Form

T = TypeVar("T")
Json = dict[str, Any]


class Kind(Protocol):
    """What a member's value is: how it is written, and read from the outside, where `where` names it.

    A value of the type `as_is` is read as it is; with None, all are looked at.
    """

    @property
    def as_is(self) -> type | None: ...

    def write(self, value: Any, form: Form) -> Any: ...

    def read(self, value: Any, form: Form, where: str) -> Any: ...


class _Plain:
    """A value that JSON has itself."""

    def __init__(self, python: type, words: str) -> None:
        self.as_is: type | None = python
        self._words = words

    def write(self, value: Any, form: Form) -> Any:
        return value

    def read(self, value: Any, form: Form, where: str) -> Any:
        if type(value) is not self.as_is:
            raise InvalidParameterValue(f"{where} must be {self._words}, not {value!r:.80}")
        return value


class _Time:
    """Milliseconds since the epoch, as the form writes them."""

    as_is: type | None = None

    def write(self, value: int, form: Form) -> Any:
        return form.times.write(value)

    def read(self, value: Any, form: Form, where: str) -> int:
        return form.times.read(value, where)


TEXT: Final = _Plain(str, "a text")
WHOLE: Final = _Plain(int, "a whole number")
FLAG: Final = _Plain(bool, "true or false")
TIME: Final = _Time()


class OneOf:
    """A word of an enumeration."""

    as_is: type | None = None

    def __init__(self, words: Iterable[str]) -> None:
        self._words = {str(word): word for word in words}

    def write(self, value: Any, form: Form) -> Any:
        return str(value)

    def read(self, value: Any, form: Form, where: str) -> Any:
        word = self._words.get(value) if isinstance(value, str) else None
        if word is None:
            known = ", ".join(self._words)
            raise InvalidParameterValue(f"{where} must be one of {known}, not {value!r:.80}")
        return word


class ListOf:
    """A list, kept as a tuple."""

    as_is: type | None = None

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def write(self, value: Sequence[Any], form: Form) -> Any:
        return [self._kind.write(item, form) for item in value]

    def read(self, value: Any, form: Form, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise InvalidParameterValue(f"{where} must be a list, not {value!r:.80}")
        return tuple(self._kind.read(item, form, f"{where}[{at}]") for at, item in enumerate(value))


class Member(msgspec.Struct, frozen=True):
    """One attribute under its name on the wire. `is_data` marks payloads, which a form may leave out."""

    name: str
    attribute: str
    kind: Kind = TEXT
    is_data: bool = False
    is_zero_absent: bool = False

    def write(self, value: Any, form: Form, into: Json) -> None:
        found = getattr(value, self.attribute)
        if found is None or (self.is_data and not form.is_data_shown) or (self.is_zero_absent and not found):
            return
        into[self.name] = self.kind.write(found, form)

    def read(self, given: Json, form: Form, where: str, into: Json) -> None:
        found = given.get(self.name)
        if found is None:
            return
        if type(found) is self.kind.as_is:
            into[self.attribute] = found
        else:
            into[self.attribute] = self.kind.read(found, form, f"{where}.{self.name}" if where else self.name)


class Derived(msgspec.Struct, frozen=True):
    """A member that is worked out, and only ever written."""

    name: str
    work_out: Callable[[Any], Any]
    kind: Kind = TEXT

    def write(self, value: Any, form: Form, into: Json) -> None:
        found = self.work_out(value)
        if found is not None:
            into[self.name] = self.kind.write(found, form)

    def read(self, given: Json, form: Form, where: str, into: Json) -> None:
        pass


class Group(msgspec.Struct, frozen=True):
    """Members that lie in an object of their own on the wire, and flat in the model."""

    name: str
    members: "tuple[AnyMember, ...]"
    is_always_there: bool = False

    def write(self, value: Any, form: Form, into: Json) -> None:
        inner = write_all(self.members, value, form)
        if inner or self.is_always_there:
            into[self.name] = inner

    def read(self, given: Json, form: Form, where: str, into: Json) -> None:
        found = given.get(self.name)
        if found is None:
            return
        path = f"{where}.{self.name}" if where else self.name
        inner = expect_object(found, path)
        for member in self.members:
            member.read(inner, form, path, into)


AnyMember = Member | Derived | Group


class Writable(Protocol):
    """What a shape that is only ever written is made of."""

    def write(self, value: Any, form: Form, into: Json) -> None: ...


def write_all(members: Iterable[Writable], value: Any, form: Form) -> Json:
    """An object with all members that are there."""
    into: Json = {}
    for member in members:
        member.write(value, form, into)
    return into


class Shape(Generic[T]):
    """A struct of the model and its members on the wire; also the kind of a member that holds such a struct."""

    as_is: type | None = None

    def __init__(self, model: type[T], *members: AnyMember, assumed: Mapping[str, Any] | None = None) -> None:
        """`assumed` are the attributes that the wire doesn't carry and the model wants."""
        self._model = model
        self._members = members
        self._assumed = dict(assumed or {})
        fields = {field.name: field for field in msgspec.structs.fields(model)}  # type: ignore[arg-type]
        self._required = {
            member.attribute: member.name
            for member in members
            if isinstance(member, Member) and member.attribute in fields and fields[member.attribute].required
        }

    def write(self, value: T, form: Form) -> Json:
        return write_all(self._members, value, form)

    def read(self, value: Any, form: Form, where: str = "", **more: Any) -> T:
        """Make the struct; `more` are attributes that the caller knows. InvalidParameterValue names what can't be."""
        given = expect_object(value, where)
        attributes = {**self._assumed, **more}
        for member in self._members:
            member.read(given, form, where, attributes)
        for attribute, name in self._required.items():
            if attribute not in attributes:
                raise InvalidParameterValue(f"{where + '.' if where else ''}{name} is missing")
        return self._model(**attributes)


def expect_object(value: Any, where: str) -> Json:
    if not isinstance(value, dict):
        raise InvalidParameterValue(f"{where or 'the document'} must be a JSON object, not {value!r:.80}")
    return value
