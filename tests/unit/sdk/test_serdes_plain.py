"""Events and results of handlers are plain JSON; an annotated handler gets what it asks for."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from aws_durable_execution_sdk_python import BatchItemStatus
from aws_durable_execution_sdk_python.concurrency import models as official_models

from perdure.exceptions import ExecutionError
from perdure.sdk.annotated import input_type_of
from perdure.sdk.plain import read_input_as, to_json

T = TypeVar("T")


class Colour(Enum):
    RED = "r"


class Size(StrEnum):
    SMALL = "s"


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclass(frozen=True)
class Line:
    sku: str
    price: Decimal
    size: Size = Size.SMALL


@dataclass
class Order:
    id: UUID
    lines: list[Line]
    colour: Colour = Colour.RED
    placed: datetime | None = None
    replaces: "Order | None" = None
    by_hour: dict[int, timedelta] = field(default_factory=dict)


@dataclass
class Page(Generic[T]):
    items: list[T]


@dataclass
class Card:
    number: str


@dataclass
class Transfer:
    number: str
    bank: str


@attrs.define
class Money:
    _cents: int


class Parcel(msgspec.Struct, rename="camel", tag=True, omit_defaults=True):
    weight_g: int
    line: Line | None = None
    note: str | msgspec.UnsetType = msgspec.UNSET


class Pet(pydantic.BaseModel):
    name: str
    born: date | None = None
    photo: bytes = b""


class Event(TypedDict):
    when: datetime
    lines: NotRequired[list[Line]]


class PlainEvent(TypedDict):
    order_id: str
    lines: list[dict[str, Any]]


LINE = Line("a", Decimal("1.5"))
ORDER = Order(UUID(int=1), [LINE], placed=datetime(2026, 1, 2, tzinfo=UTC), by_hour={7: timedelta(hours=1)})

PLAIN: list[tuple[Any, Any]] = [
    (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
    ([date(2026, 1, 2), time(1)], ["2026-01-02", "01:00:00"]),
    (timedelta(hours=1), "PT3600S"),
    ((Decimal("1.50"), UUID(int=1), Path("/a")), ["1.50", str(UUID(int=1)), "/a"]),
    ([b"\xff", bytearray(b"a"), memoryview(b"a")], ["/w==", "YQ==", "YQ=="]),
    ([Colour.RED, Size.SMALL], ["r", "s"]),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({Decimal(1)}), ["1"]),
    (Point(1, 2), [1, 2]),
    (MappingProxyType({"a": {1}}), {"a": [1]}),
    (LINE, {"sku": "a", "price": "1.5", "size": "s"}),
    (Money(5), {"_cents": 5}),
    (Parcel(5), {"type": "Parcel", "weightG": 5}),
    (Parcel(5, LINE, "x"), {"type": "Parcel", "weightG": 5, "line": to_json, "note": "x"}),
    (Pet(name="Rex"), {"name": "Rex", "born": None, "photo": ""}),
    (Pet(name="Rex", photo=b"\xff"), {"name": "Rex", "born": None, "photo": "/w=="}),
    ({UUID(int=1): {date(2026, 1, 2): {Colour.RED: LINE}}}, {str(UUID(int=1)): {"2026-01-02": {"r": to_json}}}),
    ({2: {2}, None: 1, True: (UUID(int=1),)}, {"2": [2], "null": 1, "true": [str(UUID(int=1))]}),
]


def filled(form: Any) -> Any:
    """`to_json` stands for the line."""
    if form is to_json:
        return {"sku": "a", "price": "1.5", "size": "s"}
    return {key: filled(item) for key, item in form.items()} if isinstance(form, dict) else form


@pytest.mark.parametrize(("value", "form"), PLAIN)
def test_a_result_is_what_its_callers_expect(value: Any, form: Any) -> None:
    assert json.loads(to_json(value)) == filled(form)
    assert json.loads(to_json({"deep": [value]})) == {"deep": [filled(form)]}


@pytest.mark.parametrize("value", [{"a": [1, "é", None, 1.5, True]}, (1, [2]), {1: 2}, "x", None, Size.SMALL, Point(1)])
def test_what_json_knows_is_written_as_json_writes_it(value: Any) -> None:
    assert to_json(value) == json.dumps(value)


@pytest.mark.parametrize("value", [object(), {"a": [lambda: 1]}, {object(): 1}, {(1, 2): 3}, {Point(1): 1}])
def test_what_has_no_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="can't be written as JSON"):
        to_json(value)


def test_a_batch_is_written_as_plain_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """[64]"""
    monkeypatch.setitem(sys.modules, "perdure.concurrency.models", official_models)
    item = official_models.BatchItem(0, BatchItemStatus.SUCCEEDED, LINE)
    batch = official_models.BatchResult([item], official_models.CompletionReason.ALL_COMPLETED)
    assert json.loads(to_json({"batch": batch})) == {
        "batch": {
            "all": [{"index": 0, "status": "SUCCEEDED", "result": filled(to_json), "error": None}],
            "completionReason": "ALL_COMPLETED",
        }
    }


# --- events ------------------------------------------------------------------------------------------------------


def takes(tp: Any) -> Callable[..., Any]:
    def handler(event: Any, context: Any) -> Any: ...

    handler.__annotations__["event"] = tp
    return handler


@pytest.mark.parametrize(
    "tp",
    [
        *(Any, object, dict, list, str, int, None, dict[str, Any], list[dict[str, int]], PlainEvent, "Missing"),
        *(datetime, Decimal, dict[str, datetime], tuple[int, ...], Callable[[], None], T, str | None, Path),
    ],
)
def test_an_event_stays_as_it_came_for_handlers_that_ask_for_nothing_else(tp: Any) -> None:
    assert input_type_of(takes(tp)) is None


def test_an_event_stays_as_it_came_for_handlers_without_annotations() -> None:
    assert input_type_of(lambda event, context: None) is None
    assert input_type_of(lambda: None) is None
    assert input_type_of(print) is None


def quoted(event: "list[Order]", context: "NotImported") -> None: ...  # type: ignore[name-defined]  # noqa: F821


class Handlers:
    def handle(self, event: Order, context: Any) -> None: ...

    def __call__(self, event: Order, context: Any) -> None: ...


def test_the_type_of_the_first_parameter_is_found() -> None:
    assert input_type_of(quoted) == list[Order]
    assert input_type_of(Handlers().handle) is Order
    assert input_type_of(Handlers()) is Order
    for tp in (Order, Page[Line], Money, Parcel, Pet, Event, Colour, Point, Order | None, dict[str, Pet]):
        assert input_type_of(takes(tp)) == tp


EVENTS: list[tuple[Any, Any, Any]] = [
    (Order, json.loads(to_json(ORDER)), ORDER),
    (Order, {"id": str(UUID(int=1)), "lines": [], "unknown": 1}, Order(UUID(int=1), [])),
    (Order | None, None, None),
    (Page[Line], {"items": [{"sku": "a", "price": 1.5}]}, Page([LINE])),
    (Card | Transfer, {"number": "1", "bank": "b"}, Transfer("1", "b")),
    (Card | Transfer, {"number": "1"}, Card("1")),
    (Money, {"_cents": 5}, Money(5)),
    (Money, {"cents": 5}, Money(5)),
    (Parcel, {"type": "Parcel", "weightG": 5, "line": {"sku": "a", "price": "1.5"}}, Parcel(5, LINE)),
    (Pet, {"name": "Rex", "born": "2026-01-02"}, Pet(name="Rex", born=date(2026, 1, 2))),
    (list[Pet], [{"name": "Rex"}], [Pet(name="Rex")]),
    (Event, {"when": "2026-01-02T00:00:00Z", "x": 1}, {"when": datetime(2026, 1, 2, tzinfo=UTC), "x": 1}),
    (Mapping[str, Colour], {"a": "r"}, {"a": Colour.RED}),
    (Sequence[Point], [[1, 2], {"x": 1, "y": 3}], [Point(1, 2), Point(1, 3)]),
    (tuple[Size, Literal["a", 1]], ["s", 1], (Size.SMALL, 1)),
    (set[Colour], ["r"], {Colour.RED}),
    (dict[UUID, Size], {str(UUID(int=1)): "s"}, {UUID(int=1): Size.SMALL}),
]


@pytest.mark.parametrize(("tp", "event", "value"), EVENTS)
def test_an_event_becomes_what_the_handler_asks_for(tp: Any, event: Any, value: Any) -> None:
    assert read_input_as(tp, event) == value


LINES: dict[str, Any] = {"id": str(UUID(int=1)), "lines": [{"sku": "a", "price": []}]}


@pytest.mark.parametrize(
    ("tp", "event", "complaint"),
    [
        (Order, [], "does not fit Order: expected an object with the fields of Order, found list []"),
        (Order, {}, "does not fit Order: id: expected a value for this field of Order, found none"),
        (Order, LINES, "lines[0].price: expected a decimal number (a text or a number), found list []"),
        (Order, {**LINES, "lines": {}}, "lines: expected a list, found dict {}"),
        (Order, {**LINES, "lines": [], "colour": "x"}, "colour: expected a Colour ('r'), found str 'x'"),
        (Order, {**LINES, "lines": [], "replaces": {"id": 1}}, "replaces.id: expected a UUID (a text), found int 1"),
        (Order, {**LINES, "lines": [], "by_hour": {"x": 1}}, "by_hour.x: expected a whole number, found str 'x'"),
        (Card | Transfer, 5, "expected Card or Transfer, found int 5"),
        (Parcel, {"type": "Parcel", "weightG": "x"}, "weightG: Expected `int`, got `str`"),
        (Parcel, {"type": "Other"}, "type: Invalid value 'Other'"),
        (list[Pet], [{"name": 1}], "[0].name: Input should be a valid string (found 1)"),
        (Event, {}, "when: expected a value for this key of Event, found none"),
        (Event, {"when": "soon"}, "when: expected a date and time (a text in ISO 8601), found str 'soon'"),
        (tuple[Size, int], ["s"], "expected a list of 2, found list ['s']"),
        (tuple[Size, int], ["s", True], "[1]: expected a whole number, found bool True"),
        (Point, [1], "expected a list of 2 (x, y), found list [1]"),
        (list[Literal["a", Size.SMALL]], ["b"], "[0]: expected one of 'a', <Size.SMALL: 's'>, found str 'b'"),
    ],
)
def test_an_event_that_does_not_fit_is_refused_with_the_place(tp: Any, event: Any, complaint: str) -> None:
    with pytest.raises(ExecutionError) as refused:
        read_input_as(tp, event)
    assert complaint in str(refused.value)
    assert str(refused.value).startswith("the input does not fit ")


def test_what_a_class_says_itself_of_bad_fields_is_passed_on() -> None:
    @dataclass
    class Positive:
        n: int

        def __post_init__(self) -> None:
            if self.n <= 0:
                raise ValueError("n must be positive")

    with pytest.raises(ExecutionError, match="Positive refuses it: n must be positive"):
        read_input_as(Positive, {"n": 0})
