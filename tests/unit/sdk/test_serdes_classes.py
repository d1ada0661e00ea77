"""Values that the official format has no form for: how they are written, and what it takes to read them."""

import sys
import types
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, StrEnum
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest
from aws_durable_execution_sdk_python import serdes as official
from aws_durable_execution_sdk_python.concurrency import models as official_models
from aws_durable_execution_sdk_python.lambda_service import ErrorObject

from perdure.exceptions import SerDesError
from perdure.sdk.annotated import batch_serdes_for, typed_serdes_for
from perdure.serdes import ExtendedTypeSerDes, PydanticSerDes, SerDesContext, TypedSerDes, decode, encode

CONTEXT = SerDesContext()


class Colour(Enum):
    RED = "r"


class Right(Flag):
    READ = 1
    WRITE = 2


class Size(StrEnum):
    SMALL = "s"


@dataclass(frozen=True)
class Line:
    sku: str
    price: Decimal
    size: Size = Size.SMALL
    numbers: dict[int, str] = field(default_factory=dict)


@dataclass
class Order:
    id: UUID
    lines: list[Line]
    colour: Colour = Colour.RED
    replaces: "Order | None" = None
    checked: bool = field(init=False, default=False)


@dataclass
class Rush(Order):
    until: date = date(2026, 1, 1)


@attrs.frozen
class Money:
    _cents: int
    currency: Size


class Parcel(msgspec.Struct, rename="camel", tag="parcel"):
    weight_g: int
    line: Line | None = None


class Pet(pydantic.BaseModel):
    name: str
    born: datetime | None = None


class Dog(Pet):
    tricks: set[str] = set()


class Owner(pydantic.BaseModel):
    pet: Pet
    photo: bytes = b""
    home: pydantic.HttpUrl | None = None
    mobile: str = pydantic.Field(default="", alias="MobilePhone")


class Sealed(pydantic.BaseModel):
    key: pydantic.SecretStr


ORDER = Order(UUID(int=1), [Line("a", Decimal("1.50"), numbers={1: "x"})])

WITHOUT_A_CLASS: list[tuple[Any, str]] = [
    ({2, 1}, '{"t":"set","v":[{"t":"i","v":1},{"t":"i","v":2}]}'),
    (frozenset({"b", "a"}), '{"t":"frozenset","v":[{"t":"s","v":"a"},{"t":"s","v":"b"}]}'),
    (timedelta(days=1, microseconds=5), '{"t":"timedelta","v":"P1DT0.000005S"}'),
    (-timedelta(seconds=1), '{"t":"timedelta","v":"-PT1S"}'),
    (time(1, 2, tzinfo=UTC), '{"t":"time","v":"01:02:00+00:00"}'),
    (Path("/a/b"), '{"t":"path","v":"/a/b"}'),
    (PureWindowsPath("c:/a"), '{"t":"path","v":"c:\\\\a","c":"PureWindowsPath"}'),
    (PurePosixPath("a"), '{"t":"path","v":"a","c":"PurePosixPath"}'),
    (
        {(1, 2): 3, 4: b"x"},
        '{"t":"map","v":[[{"t":"t","v":[{"t":"i","v":1},{"t":"i","v":2}]},{"t":"i","v":3}],'
        '[{"t":"i","v":4},{"t":"B","v":"eA=="}]]}',
    ),
    ({UUID(int=1): {date(2026, 1, 2)}}, ""),
]


@pytest.mark.parametrize(("value", "text"), WITHOUT_A_CLASS)
def test_what_needs_no_class_says_itself_what_it_is(value: Any, text: str) -> None:
    written = encode(value)
    assert written == text or not text
    read = decode(written)
    assert (type(read), read) == (type(value), value)


WITH_A_CLASS: list[tuple[Any, Any, str]] = [
    (Colour.RED, Colour, '{"t":"enum","c":"%s.Colour","v":{"t":"s","v":"r"}}'),
    (Right.READ | Right.WRITE, Right, '{"t":"enum","c":"%s.Right","v":{"t":"i","v":3}}'),
    (
        Money(5, Size.SMALL),
        Money,
        '{"t":"object","c":"%s.Money","v":{"_cents":{"t":"i","v":5},"currency":{"t":"s","v":"s"}}}',
    ),
    (
        Parcel(5),
        Parcel,
        '{"t":"object","c":"%s.Parcel","v":{"weight_g":{"t":"i","v":5},"line":{"t":"n","v":null}}}',
    ),
    (Pet(name="Rex"), Pet, '{"t":"model","c":"%s.Pet","v":{"name":"Rex","born":null}}'),
    (Dog(name="Rex", tricks={"sit"}), Pet, ""),
    (Owner(pet=Dog(name="Rex", tricks={"sit"}), MobilePhone="1"), Owner, ""),
    (Owner(pet=Pet(name="Rex"), photo=b"\xff\x00", home=pydantic.HttpUrl("http://a.b/")), Owner, ""),
    (ORDER, Order, ""),
    (Rush(UUID(int=2), [], replaces=ORDER), Order, ""),
    (Parcel(5, Line("a", Decimal(1))), Parcel, ""),
]


@pytest.mark.parametrize(("value", "tp", "text"), WITH_A_CLASS)
def test_what_needs_a_class_is_read_as_the_class_that_is_expected(value: Any, tp: Any, text: str) -> None:
    written = encode(value)
    assert written == text.replace("%s", __name__) or not text

    def annotated(_: Any) -> tp: ...

    by_annotation = typed_serdes_for(annotated)
    assert by_annotation is not None
    for serdes in (by_annotation, TypedSerDes[Any](tp), ExtendedTypeSerDes(types=[tp])):
        read = serdes.deserialize(serdes.serialize(value, CONTEXT), CONTEXT)
        assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize("value", [Colour.RED, ORDER, Money(1, Size.SMALL), Parcel(1), Pet(name="Rex")])
def test_without_an_expected_class_it_is_refused_with_the_ways_out(value: Any) -> None:
    name = type(value).__name__
    with pytest.raises(SerDesError, match="nothing says that a payload may be made into one") as refused:
        decode(encode([value]))
    for way_out in (f"`-> {name}`", f"result_type={name}", f"TypedSerDes({name})"):
        assert way_out in str(refused.value)


def test_fields_that_no_constructor_takes_come_back_too() -> None:
    order = Order(UUID(int=1), [])
    order.checked = True
    assert TypedSerDes(Order).deserialize(encode(order), CONTEXT).checked


def test_a_class_that_was_not_expected_is_not_made() -> None:
    with pytest.raises(SerDesError, match=r"holds a .*\.Order, and .*\.Line, .* was expected"):
        TypedSerDes(Line).deserialize(encode(ORDER), CONTEXT)


def test_nothing_is_imported_for_a_payload() -> None:
    loaded = set(sys.modules)
    for name in ("colorsys.Order", "os.system", "subprocess.Popen", "builtins.eval", "perdure.__main__.x"):
        for tag in ("enum", "object", "model", "fields"):
            text = f'{{"t":"{tag}","c":"{name}","v":{{"a":{{"t":"s","v":"true"}}}}}}'
            for allowed in (TypedSerDes[Any](Order), ExtendedTypeSerDes(types=[Order, Colour]), ExtendedTypeSerDes()):
                with pytest.raises(SerDesError):
                    allowed.deserialize(text, CONTEXT)
    assert "colorsys" not in set(sys.modules) - loaded


def test_a_class_of_another_kind_than_recorded_is_refused_and_not_called() -> None:
    for tag in ("enum", "object", "model", "fields"):
        for cls in (Order, Colour, Pet, Money):
            text = f'{{"t":"{tag}","c":"{__name__}.{cls.__name__}","v":[]}}'
            with pytest.raises(SerDesError):
                ExtendedTypeSerDes(types=[cls]).deserialize(text, CONTEXT)


def test_a_file_is_the_same_whether_it_is_imported_or_the_program() -> None:
    text = encode(Line("a", Decimal(1))).replace(__name__, "__main__")
    assert TypedSerDes(Line).deserialize(text, CONTEXT) == Line("a", Decimal(1))


def test_a_renamed_class_is_read_by_its_former_name() -> None:
    text = encode(Money(5, Size.SMALL)).replace(f"{__name__}.Money", "shop.Amount")
    with pytest.raises(SerDesError, match="if the class was renamed"):
        TypedSerDes(Money).deserialize(text, CONTEXT)
    serdes = ExtendedTypeSerDes(types={"shop.Amount": Money})
    assert serdes.deserialize(text, CONTEXT) == Money(5, Size.SMALL)
    assert serdes.deserialize(encode(Money(5, Size.SMALL)), CONTEXT) == Money(5, Size.SMALL)


def test_fields_may_come_with_a_default_and_go() -> None:
    text = encode(Line("a", Decimal(1)))
    newer = text.replace('"size"', '"gone"')
    assert TypedSerDes(Line).deserialize(newer, CONTEXT) == Line("a", Decimal(1))
    with pytest.raises(SerDesError, match="it was recorded without price; give new fields a default"):
        TypedSerDes(Line).deserialize(text.replace('"price"', '"cost"'), CONTEXT)


def test_a_class_that_refuses_its_own_fields_is_named() -> None:
    @dataclass
    class Picky:
        n: int
        scale: InitVar[int]

        def __post_init__(self, scale: int) -> None:
            self.n *= scale

    with pytest.raises(SerDesError, match=r"Picky can't be made of the payload: .*scale"):
        TypedSerDes(Picky).deserialize(encode(Picky(1, 2)), CONTEXT)


def test_an_enum_without_the_recorded_member_is_refused() -> None:
    with pytest.raises(SerDesError, match="Colour can't be made of the payload: 'x' is not a valid Colour"):
        TypedSerDes(Colour).deserialize(encode(Colour.RED).replace('"r"', '"x"'), CONTEXT)


def test_a_time_in_a_zone_without_an_offset_is_refused() -> None:
    with pytest.raises(SerDesError, match="without a date its zone has no offset"):
        encode(time(1, tzinfo=ZoneInfo("Europe/Berlin")))


def test_a_secret_is_written_as_pydantic_shows_it() -> None:
    text = encode(Sealed(key=pydantic.SecretStr("hunter2")))
    assert "hunter2" not in text


def test_an_explicit_type_makes_what_was_recorded_as_a_dictionary() -> None:
    """A function that returned dictionaries may return a class from now on."""
    old = encode({"sku": "a", "price": "1.5", "numbers": {"1": "x"}})
    assert TypedSerDes(Line).deserialize(old, CONTEXT) == Line("a", Decimal("1.5"), numbers={1: "x"})
    with pytest.raises(SerDesError, match=r"does not fit TypedSerDes\(list.*\): \[0\]\.price: expected a value"):
        TypedSerDes(list[Line]).deserialize(encode([{"sku": "a"}]), CONTEXT)


def test_pydantic_serdes_is_plain_json_of_any_type_that_pydantic_knows() -> None:
    owner = Owner(pet=Pet(name="Rex"), MobilePhone="1")
    serdes = PydanticSerDes[Owner](Owner)
    text = serdes.serialize(owner, CONTEXT)
    assert text == '{"pet":{"name":"Rex","born":null},"photo":"","home":null,"mobile":"1"}'
    assert serdes.deserialize(text, CONTEXT) == owner
    many = PydanticSerDes[Any](dict[int, list[Pet]])
    assert many.deserialize(many.serialize({1: [Pet(name="a")]}, CONTEXT), CONTEXT) == {1: [Pet(name="a")]}


# --- batches -----------------------------------------------------------------------------------------------------


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The official SDK's module of batches under the name of ours: both have the same two methods."""
    monkeypatch.setitem(sys.modules, "perdure.concurrency.models", official_models)
    monkeypatch.setattr(official_models.BatchResult, "__module__", "perdure.concurrency.models")
    return official_models


def batch_of(models: types.ModuleType, *results: Any) -> Any:
    items = [models.BatchItem(n, models.BatchItemStatus.SUCCEEDED, result) for n, result in enumerate(results)]
    items.append(
        models.BatchItem(len(items), models.BatchItemStatus.FAILED, None, ErrorObject("no", "T", None, ["here"]))
    )
    items.append(models.BatchItem(len(items), models.BatchItemStatus.STARTED))
    return models.BatchResult(items, models.CompletionReason.FAILURE_TOLERANCE_EXCEEDED)


def test_a_batch_is_written_as_the_official_sdk_writes_it_and_read_back(batches: types.ModuleType) -> None:
    batch = batch_of(batches, {"a": datetime(2026, 1, 1, tzinfo=UTC)}, 7, None)
    text = encode([batch])
    assert text == official.EXTENDED_TYPES_SERDES.serialize([batch], official.SerDesContext("", ""))
    assert decode(text) == [batch]


def test_a_batch_of_a_class_is_read_by_the_functions_of_its_branches(batches: types.ModuleType) -> None:
    def first(_: Any) -> Order:
        return ORDER

    def second(_: Any) -> Size | None:
        return None

    serdes = batch_serdes_for(first, second)
    assert serdes is not None
    batch = batch_of(batches, ORDER, Size.SMALL, None)
    read = serdes.deserialize(serdes.serialize(batch, CONTEXT), CONTEXT)
    assert read == batch
    assert type(read.all[1].result) is Size
    assert batch_serdes_for(lambda _: 1) is None


def test_a_batch_is_checked_against_a_type_that_was_asked_for(batches: types.ModuleType) -> None:
    expected = types.GenericAlias(batches.BatchResult, (Line,))
    batch = batch_of(batches, {"sku": "a", "price": "1"})
    read = TypedSerDes[Any](expected).deserialize(encode(batch), CONTEXT)
    assert read.all[0].result == Line("a", Decimal(1))
    with pytest.raises(SerDesError, match=r"\[0\]\.price: expected a value for this field of Line, found none"):
        TypedSerDes[Any](expected).deserialize(encode(batch_of(batches, {"sku": "a"})), CONTEXT)
