"""Values come back as they were, and go to and fro between the official SDK and this one."""

import json
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from aws_durable_execution_sdk_python import exceptions as official_errors, serdes as official
from hypothesis import example, given, strategies as st

from perdure.exceptions import SerDesError
from perdure.sdk.annotated import typed_serdes_for
from perdure.sdk.convert import converter
from perdure.sdk.plain import to_json
from perdure.serdes import ExtendedTypeSerDes, SerDesContext, TypedSerDes, decode, encode

OURS, THEIRS = SerDesContext("op", "arn"), official.SerDesContext("op", "arn")
theirs = official.EXTENDED_TYPES_SERDES


class Word(StrEnum):
    A = "a"
    B = "é"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Colour(Enum):
    RED = "r"
    MIXED = (1, 2)


Pair = namedtuple("Pair", "a b")


# --- the official format -----------------------------------------------------------------------------------------

ZONES = st.none() | st.just(UTC) | st.timezones()
TIMES = st.datetimes(timezones=ZONES)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.text(st.characters(codec=None), max_size=3),
    st.binary(max_size=20),
    st.uuids(),
    st.decimals(allow_nan=False),
    TIMES,
    st.dates(),
    st.sampled_from(Word),
    st.sampled_from(Level),
    st.binary(max_size=3).map(bytearray),
    st.binary(max_size=3).map(lambda raw: memoryview(raw)),
)
KEYS = (
    st.text(max_size=5)
    | st.integers()
    | st.none()
    | st.booleans()
    | st.sampled_from(Word)
    | st.just("t")
    | st.just("v")
)


def nested(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=4).map(tuple),
            st.dictionaries(KEYS, inner, max_size=4),
            st.dictionaries(KEYS, inner, max_size=2).map(OrderedDict),
            st.tuples(inner, inner).map(lambda pair: Pair(*pair)),
        ),
        max_leaves=15,
    )


@given(nested(SCALARS))
@example(float("nan"))
@example([float("inf"), {"a": -float("inf")}])
def test_what_the_official_sdk_writes_is_written_alike_and_read_alike(value: Any) -> None:
    text = theirs.serialize(value, THEIRS)
    assert encode(value) == text
    assert repr(decode(text)) == repr(theirs.deserialize(text, THEIRS))


TAGS = st.sampled_from(["n", "s", "i", "f", "b", "B", "u", "d", "dt", "D", "t", "l", "m", "zz", "", 5])
FORMS = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(max_size=5) | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from("tvab"), inner, max_size=3)
        | st.fixed_dictionaries({"t": TAGS, "v": inner})
    ),
    max_leaves=8,
)


@given(FORMS)
@example({"t": "B", "v": "\x80"})
def test_whatever_is_in_a_payload_is_read_as_the_official_sdk_reads_it_or_refused(form: Any) -> None:
    """An error of any kind there is a SerDesError here."""
    text = json.dumps(form)
    try:
        expected = theirs.deserialize(text, THEIRS)
    except (official_errors.SerDesError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError):
        with pytest.raises(SerDesError):
            decode(text)
    else:
        assert repr(decode(text)) == repr(expected)


# --- what the official format has no form for --------------------------------------------------------------------

FIXED = st.none() | st.just(UTC)
PATHS = st.text("ab./", min_size=1, max_size=6)
EXTENSIONS = st.one_of(
    st.timedeltas(),
    st.times(timezones=FIXED),
    PATHS.map(Path),
    PATHS.map(PurePosixPath),
    PATHS.map(PureWindowsPath).filter(lambda path: PureWindowsPath(str(path)) == path),  # pathlib loses `//a/`
)
HASHABLE = st.recursive(
    st.text(max_size=4) | st.integers() | st.uuids() | st.dates() | st.binary(max_size=4) | EXTENSIONS,
    lambda inner: st.frozensets(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=5,
)
SELF_DESCRIBING = st.recursive(
    HASHABLE,
    lambda inner: st.one_of(
        st.sets(HASHABLE, max_size=4),
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.dictionaries(HASHABLE.filter(lambda key: not isinstance(key, (str, int))), inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=10,
)


@given(SELF_DESCRIBING)
def test_what_describes_itself_comes_back_without_an_annotation(value: Any) -> None:
    assert decode(encode(value)) == value


@given(st.sets(st.text()), st.data())
def test_equal_sets_are_written_alike(value: set[str], data: st.DataObject) -> None:
    other = set(data.draw(st.permutations(sorted(value))))
    assert encode(value) == encode(other)


@dataclass(frozen=True)
class Line:
    sku: str
    price: Decimal
    word: Word
    at: datetime | None
    numbers: dict[int, frozenset[Level]]
    raw: bytes


@dataclass
class Order:
    id: UUID
    lines: list[Line]
    colour: Colour
    took: timedelta
    replaces: "Order | None" = None


@attrs.define
class Visit:
    _day: date
    at: time
    by: tuple[Word, ...]
    order: Order | None = None


class Parcel(msgspec.Struct):
    weight: float
    content: Order | Visit | str
    where: dict[str, Path]


class Pet(pydantic.BaseModel):
    name: str
    born: datetime | None = None
    colours: set[Colour] = set()


class Dog(Pet):
    fee: Decimal = Decimal(0)
    picture: bytes = b""


class Owner(pydantic.BaseModel):
    pets: list[Pet]
    by_level: dict[Level, int] = {}
    walk: timedelta = timedelta(0)


LINES = st.builds(
    Line,
    sku=st.text(max_size=5),
    price=st.decimals(allow_nan=False),
    word=st.sampled_from(Word),
    at=st.none() | st.datetimes(timezones=FIXED),
    numbers=st.dictionaries(st.integers(), st.frozensets(st.sampled_from(Level)), max_size=3),
    raw=st.binary(max_size=5),
)
ORDERS = st.builds(
    Order,
    id=st.uuids(),
    lines=st.lists(LINES, max_size=2),
    colour=st.sampled_from(Colour),
    took=st.timedeltas(),
    replaces=st.none() | st.builds(Order, st.uuids(), st.just([]), st.sampled_from(Colour), st.timedeltas()),
)
VISITS = st.builds(
    Visit,
    day=st.dates(),
    at=st.times(),
    by=st.lists(st.sampled_from(Word), max_size=3).map(tuple),
    order=st.none() | ORDERS,
)
PARCELS = st.builds(
    Parcel,
    weight=st.floats(allow_nan=False),
    content=ORDERS | VISITS | st.text(max_size=3),
    where=st.dictionaries(st.text(max_size=3), PATHS.map(Path), max_size=2),
)
PETS = st.builds(
    Pet,
    name=st.text(max_size=5),
    born=st.none() | st.datetimes(timezones=FIXED),
    colours=st.sets(st.sampled_from(Colour)),
)
DOGS = st.builds(
    Dog,
    name=st.text(max_size=5),
    colours=st.sets(st.sampled_from(Colour)),
    fee=st.decimals(allow_nan=False, allow_infinity=False),
    picture=st.binary(max_size=5),
)
OWNERS = st.builds(
    Owner,
    pets=st.lists(PETS | DOGS, max_size=2),
    by_level=st.dictionaries(st.sampled_from(Level), st.integers(), max_size=2),
    walk=st.timedeltas(min_value=timedelta(-99999), max_value=timedelta(99999)),
)
MODELS = {
    Order: ORDERS,
    Visit: VISITS,
    Parcel: PARCELS,
    Pet: PETS | DOGS,
    Owner: OWNERS,
    Colour: st.sampled_from(Colour),
}


@pytest.mark.parametrize("tp", MODELS, ids=lambda tp: tp.__name__)
@given(data=st.data())
def test_a_value_of_a_class_comes_back_by_its_annotation(tp: Any, data: st.DataObject) -> None:
    value = data.draw(MODELS[tp])

    def function(_: Any) -> dict[str, list[tp | None]]: ...  # type: ignore[empty-body]

    implicit = typed_serdes_for(function)
    assert implicit is not None
    whole = {"a": [value, None]}
    for serdes in (implicit, TypedSerDes[Any](dict[str, list[tp | None]]), ExtendedTypeSerDes(types=[tp])):
        read = serdes.deserialize(serdes.serialize(whole, OURS), OURS)
        assert read == whole
        assert type(read["a"][0]) is type(value)
    with pytest.raises(SerDesError, match="nothing says that a payload may be made into one"):
        decode(encode(whole))


@given(ORDERS)
def test_members_and_keys_inside_a_record_are_what_they_were(order: Order) -> None:
    read = TypedSerDes[Order](Order).deserialize(encode(order), OURS)
    for line in read.lines:
        assert type(line.word) is Word
        assert all(type(key) is int for key in line.numbers)
        assert all(type(level) is Level for levels in line.numbers.values() for level in levels)


@pytest.mark.parametrize("tp", [Order, Visit], ids=lambda tp: tp.__name__)
@given(data=st.data())
def test_the_plain_json_of_a_value_is_an_event_that_gives_it_again(tp: Any, data: st.DataObject) -> None:
    value = data.draw(MODELS[tp])
    assert converter(tp)(json.loads(to_json(value))) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=12,
)


@given(JSON)
def test_plain_json_is_that_of_the_standard_library(value: Any) -> None:
    assert to_json(value) == json.dumps(value)
