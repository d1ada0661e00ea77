"""Which serdes an annotation asks for, and what it gives back that the official format forgets."""

import functools
import math
from collections import namedtuple
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union
from uuid import UUID

import pytest
from aws_durable_execution_sdk_python import serdes as official

from perdure.context import StepContext, durable_step
from perdure.exceptions import SerDesError
from perdure.sdk.annotated import typed_serdes, typed_serdes_for
from perdure.sdk.typed import AnnotatedSerDes, returned_by
from perdure.serdes import SerDesContext, TypedSerDes, encode

T = TypeVar("T")
CONTEXT = SerDesContext()


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Side(Enum):
    LEFT = 1


class Point(NamedTuple):
    x: int
    colour: Colour


Pair = namedtuple("Pair", "a b")


class PlainEntry(TypedDict):
    a: int
    when: datetime


class Entry(TypedDict):
    when: datetime
    colour: Colour
    children: "list[Entry]"


@dataclass
class Order:
    sku: str


@dataclass
class Box(Generic[T]):
    content: T
    by_number: dict[int, T]


@dataclass
class Tree:
    value: Colour
    branches: "list[Tree]"


OrderNo = NewType("OrderNo", str)
Paint = NewType("Paint", Colour)


def annotated(tp: Any) -> Callable[[Any], Any]:
    def function(_: Any) -> Any: ...

    function.__annotations__["return"] = tp
    return function


@pytest.mark.parametrize(
    "tp",
    [
        *(Any, object, None, str, int, float, bool, bytes, dict, list, tuple, set, datetime, Decimal, UUID, timedelta),
        *(dict[str, Any], list[int], dict[str, Decimal], tuple[datetime, ...], set[UUID], int | None, Optional[str]),  # noqa: UP045
        *(OrderNo, T, Literal["a", 1], Annotated[int, "metres"], "Missing", "list[Missing]", dict[int, str]),
        *(PlainEntry, Callable[[int], str], type),
    ],
)
def test_an_annotation_that_adds_nothing_leaves_the_default(tp: Any) -> None:
    assert typed_serdes_for(annotated(tp)) is None


def test_no_annotation_leaves_the_default() -> None:
    assert typed_serdes_for(lambda _: 1) is None
    assert typed_serdes_for(math.sqrt) is None
    assert typed_serdes_for(functools.partial(max, 1)) is None
    assert typed_serdes_for(durable_step(lambda _: 1)()) is None


ROUND: list[tuple[Any, Any]] = [
    (Colour.RED, Colour),
    (Level.LOW, Level),
    (Point(1, Colour.RED), Point),
    (Pair(1, 2), Pair),
    ([Colour.RED, None], list[Colour | None]),
    ([Colour.RED], Sequence[Colour]),
    ((1, Colour.RED), tuple[int, Colour]),
    ((Colour.RED, Colour.BLUE), tuple[Colour, ...]),
    ({"a": Colour.RED}, dict[str, Colour]),
    ({Colour.RED: Level.LOW}, Mapping[Colour, Level]),
    ({Colour.RED}, set[Colour]),
    (Colour.RED, Literal[Colour.RED]),
    (Colour.RED, Paint),
    (Colour.RED, Annotated[Optional[Colour], "paint"]),  # noqa: UP045
    ({"when": datetime(2026, 1, 2), "colour": Colour.RED, "children": []}, Entry),  # noqa: DTZ001
    ([Order("a"), Side.LEFT], list[Union[Order, Side]]),  # noqa: UP007
    ({"a": (Order("a"), Decimal(1))}, dict[str, tuple[Order, Decimal]]),
    (Box(Order("a"), {1: Order("b")}), Box[Order]),
    (Box(Colour.RED, {1: Colour.BLUE}), Box[Colour]),
    (Tree(Colour.RED, [Tree(Colour.BLUE, [])]), Tree),
    ({Side.LEFT: Order("a"), (1, 2): None}, dict[Any, Order | Side | None]),
]


def kinds(value: Any) -> Any:
    """A value's type and those of what is in it: members of a StrEnum are equal to texts."""
    if isinstance(value, dict):
        return dict, [(kinds(key), kinds(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple, set)):
        return type(value), [kinds(item) for item in value]
    if isinstance(value, (Tree, Box)):
        return type(value), [kinds(item) for item in vars(value).values()]
    return type(value)


@pytest.mark.parametrize(("value", "tp"), ROUND)
def test_an_annotation_gives_back_what_was_returned(value: Any, tp: Any) -> None:
    serdes = typed_serdes_for(annotated(tp))
    assert serdes is not None
    read = serdes.deserialize(serdes.serialize(value, CONTEXT), CONTEXT)
    assert read == value
    if tp != Box[Colour]:  # an implicit serdes does not follow type parameters into a record
        assert kinds(read) == kinds(value)
    explicit = TypedSerDes[Any](tp)
    asked_for = explicit.deserialize(explicit.serialize(value, CONTEXT), CONTEXT)
    assert asked_for == value


@pytest.mark.parametrize(
    ("value", "tp"),
    [
        (Colour.RED, Colour),
        ({"a": Level.LOW}, dict[str, Level]),
        (Point(1, Colour.RED), Point),
        ({"when": datetime(2026, 1, 2), "colour": Colour.RED, "children": []}, Entry),  # noqa: DTZ001
    ],
)
def test_what_the_official_sdk_can_write_is_written_for_it_to_read(value: Any, tp: Any) -> None:
    serdes = typed_serdes_for(annotated(tp))
    assert serdes is not None
    text = serdes.serialize(value, CONTEXT)
    theirs = official.EXTENDED_TYPES_SERDES
    assert text == theirs.serialize(value, official.SerDesContext("", ""))
    assert theirs.deserialize(text, official.SerDesContext("", "")) == serdes.deserialize(text, CONTEXT)


@pytest.mark.parametrize(
    ("value", "tp"),
    [
        ("green", Colour),
        ({"sku": "a"}, Order),
        ((1, 2, 3), Point),
        (7, list[Colour]),
        ("red", Order | None),
        ({"a": 1}, Entry),
        ((1,), tuple[int, Colour]),
        (None, Box[Order]),
        ({"1": "a"}, dict[int, Order | str]),
        ("red", Colour | str),
    ],
)
def test_an_annotation_that_is_wrong_changes_nothing(value: Any, tp: Any) -> None:
    """Programs for the official SDK keep what they get there, whatever their annotations say."""
    serdes = typed_serdes_for(annotated(tp))
    assert serdes is not None
    read = serdes.deserialize(encode(value), CONTEXT)
    assert (type(read), read) == (type(value), value)


def test_keys_that_are_numbers_come_back_if_they_were_asked_for() -> None:
    """[32] stays true of annotations: `-> dict[int, str]` gives texts as the official SDK does."""
    assert typed_serdes_for(annotated(dict[int, str])) is None
    asked_for = typed_serdes(dict[int, dict[Level, bool | None]])
    assert asked_for is not None
    assert asked_for.deserialize(encode({1: {Level.LOW: None}}), CONTEXT) == {1: {Level.LOW: None}}


def test_a_type_that_was_asked_for_is_checked() -> None:
    asked_for = typed_serdes(dict[str, int])
    assert asked_for is not None
    assert asked_for is typed_serdes(dict[str, int])
    with pytest.raises(SerDesError, match=r"the payload does not fit TypedSerDes.*: a: expected a whole number"):
        asked_for.deserialize(encode({"a": "x"}), CONTEXT)
    assert typed_serdes(Any) is None


# --- where annotations are found ---------------------------------------------------------------------------------


def returns_order(context: "NotImportedHere", sku: str = "a") -> "Order":  # type: ignore[name-defined]  # noqa: F821
    return Order(sku)


class Shop:
    def order(self, _: Any) -> Order:
        return Order("a")

    def __call__(self, _: Any) -> list[Order]:
        return []

    @classmethod
    def make(cls, _: Any) -> Order:
        return Order("a")


async def order_later(_: Any) -> Order:
    return Order("a")


def order_soon(_: Any) -> Awaitable[Order]:
    return order_later(_)


def order_by_coroutine(_: Any) -> Coroutine[Any, Any, Order]:
    return order_later(_)


@functools.wraps(returns_order)
def wrapped(*args: Any) -> Any:
    return returns_order(*args)


def bare_wrapper(*args: Any) -> Any: ...


bare_wrapper.__annotations__ = {}
bare_wrapper.__wrapped__ = returns_order  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("function", "tp"),
    [
        (returns_order, Order),
        (Shop().order, Order),
        (Shop().make, Order),
        (Shop(), list[Order]),
        (Order, Order),
        (functools.partial(Shop().order, 1), Order),
        (functools.cache(returns_order), Order),
        (order_later, Order),
        (order_soon, Order),
        (order_by_coroutine, Order),
        (wrapped, Order),
        (bare_wrapper, Order),
    ],
)
def test_an_annotation_is_found_beneath(function: Callable[..., Any], tp: Any) -> None:
    assert returned_by(function) == tp
    assert isinstance(typed_serdes_for(function), AnnotatedSerDes)


def test_the_function_beneath_a_durable_step_is_asked() -> None:
    def order(context: StepContext, sku: str) -> Order:
        return Order(sku)

    call = durable_step(order)("a")
    call._original_function = order  # type: ignore[attr-defined]
    assert returned_by(call) is Order


def test_an_annotation_in_quotes_may_name_a_captured_class() -> None:
    @dataclass
    class Local:
        n: int

    def function(_: Any) -> "Local":
        return Local(1)

    assert returned_by(function) is Local
    serdes = typed_serdes_for(function)
    assert serdes is not None
    assert serdes.deserialize(encode(Local(1)), CONTEXT) == Local(1)


def test_a_function_is_looked_at_once_and_not_kept_alive() -> None:
    import gc
    import weakref

    function = annotated(Order)
    assert typed_serdes_for(function) is typed_serdes_for(function)
    gone = weakref.ref(function)
    del function
    gc.collect()
    assert gone() is None


def test_the_same_annotation_has_one_serdes() -> None:
    assert typed_serdes_for(annotated(list[Order])) is typed_serdes_for(annotated(list[Order]))


def test_an_annotation_that_can_not_be_hashed_is_good_all_the_same() -> None:
    serdes = typed_serdes_for(annotated(Annotated[Order, []]))
    assert serdes is not None
    assert serdes.deserialize(encode(Order("a")), CONTEXT) == Order("a")
    assert TypedSerDes[Any](Annotated[Order, []]).deserialize(encode(Order("a")), CONTEXT) == Order("a")
