"""The extended format, to the letter of the official SDK, and what is refused."""

import math
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from perdure import DEFAULT_JSON_SERDES, EXTENDED_TYPES_SERDES, PassThroughSerDes, SerDes, SerDesContext, SerDesError
from perdure.serdes import decode, deserialize, encode, serialize


class Colour(IntEnum):
    RED = 1


class Word(StrEnum):
    A = "x"


Point = namedtuple("Point", "x y")

TABLE: list[tuple[Any, str]] = [
    ("é\u2028/", '"\\u00e9\\u2028/"'),
    (1.5, "1.5"),
    (1e20, "1e+20"),
    (-0.0, "-0.0"),
    (10**30, "1000000000000000000000000000000"),
    (True, "true"),
    (None, "null"),
    ([1, "a", [None]], '[1,"a",[null]]'),
    ([], "[]"),
    ({"a": 1}, '{"t":"m","v":{"a":{"t":"i","v":1}}}'),
    ((1, 2), '{"t":"t","v":[{"t":"i","v":1},{"t":"i","v":2}]}'),
    ({}, '{"t":"m","v":{}}'),
    ([(1,)], '{"t":"l","v":[{"t":"t","v":[{"t":"i","v":1}]}]}'),
    (b"ab", '{"t":"B","v":"YWI="}'),
    (UUID(int=1), '{"t":"u","v":"00000000-0000-0000-0000-000000000001"}'),
    (Decimal("1.50"), '{"t":"d","v":"1.50"}'),
    (datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), '{"t":"dt","v":"2024-01-02T03:04:05+00:00"}'),
    (datetime(2024, 1, 2, 3, 4, 5, 1), '{"t":"dt","v":"2024-01-02T03:04:05.000001"}'),  # noqa: DTZ001
    (date(2024, 1, 2), '{"t":"D","v":"2024-01-02"}'),
    ({"t": 1, "v": 2}, '{"t":"m","v":{"t":{"t":"i","v":1},"v":{"t":"i","v":2}}}'),
]


@pytest.mark.parametrize(("value", "text"), TABLE)
def test_a_value_is_written_as_the_official_sdk_writes_it_and_read_back(value: Any, text: str) -> None:
    assert encode(value) == text
    read = decode(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("value", "text", "read"),
    [
        (Colour.RED, "1", 1),
        (Word.A, '"x"', "x"),
        (Point(1, 2), '{"t":"t","v":[{"t":"i","v":1},{"t":"i","v":2}]}', (1, 2)),
        (OrderedDict(a=1), '{"t":"m","v":{"a":{"t":"i","v":1}}}', {"a": 1}),
        (bytearray(b"ab"), '{"t":"B","v":"YWI="}', b"ab"),
        (memoryview(b"ab"), '{"t":"B","v":"YWI="}', b"ab"),
        (
            {1: 1, None: 2, 1.5: 4, False: 5},
            '{"t":"m","v":{"1":{"t":"i","v":1},"null":{"t":"i","v":2},"1.5":{"t":"i","v":4},"false":{"t":"i","v":5}}}',
            {"1": 1, "null": 2, "1.5": 4, "false": 5},
        ),
    ],
)
def test_what_is_lossy_is_lossy_in_the_known_way(value: Any, text: str, read: Any) -> None:
    assert encode(value) == text
    assert decode(text) == read


def test_not_a_number_is_written_as_such() -> None:
    assert encode(math.nan) == "NaN"
    assert math.isnan(decode("NaN"))
    assert decode(encode([math.inf, -math.inf])) == [math.inf, -math.inf]


@pytest.mark.parametrize("value", [object(), [object()], {object(): 1}, {"a": {1, object()}}, lambda: 1, range(3)])
def test_what_has_no_form_is_refused_with_the_way_out(value: Any) -> None:
    with pytest.raises(SerDesError, match="can't be written"):
        encode(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(SerDesError, match="can't be written"):
        encode(circle)
    ring: dict[str, Any] = {}
    ring["a"] = ring
    with pytest.raises(SerDesError, match="can't be written"):
        encode(ring)


DAMAGED = [
    "",
    "nope",
    '{"a":1}',
    '{"t":"zz","v":1}',
    '[{"t":"i","v":1}]',
    '{"t":[],"v":1}',
    '{"t":"i","v":"x"}',
    '{"t":"l","v":"ab"}',
    '{"t":"t","v":5}',
    '{"t":"m","v":[1]}',
    '{"t":"dt","v":5}',
    '{"t":"d","v":"x"}',
    '{"t":"u","v":"x"}',
    '{"t":"set","v":[{"t":"l","v":[]}]}',
    '{"t":"map","v":[[1]]}',
    '{"t":"timedelta","v":"soon"}',
    '{"t":"time","v":"soon"}',
    '{"t":"path","v":5}',
    '{"t":"object","v":{}}',
    '{"t":"enum","c":5,"v":1}',
]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_payload_is_refused(text: str) -> None:
    with pytest.raises(SerDesError):
        decode(text)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000 + "]" * 100_000, '{"t":"l","v":[' * 5_000 + "]}" * 5_000, '{"t":"set","v":[' * 5_000 + "]}" * 5_000],
    ids=["json", "lists", "sets"],
)
def test_a_payload_nested_beyond_measure_is_refused(text: str) -> None:
    with pytest.raises(SerDesError, match="RecursionError"):
        decode(text)


def test_a_value_nested_beyond_measure_is_refused() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerDesError, match="can't be written"):
        encode(deep)
    with pytest.raises(SerDesError, match="can't be written"):
        encode(10**5_000)


def test_a_trailing_z_is_understood() -> None:
    assert decode('{"t":"dt","v":"2024-01-02T03:04:05Z"}') == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner) | st.binary(),
    max_leaves=20,
)


@given(json_like)
def test_every_value_of_plain_types_comes_back_as_it_was(value: Any) -> None:
    assert decode(encode(value)) == value


@given(st.text(st.characters(codec=None)))
def test_every_text_comes_back_half_surrogates_included(value: str) -> None:
    assert decode(encode(value)) == value


def test_foreign_errors_of_a_serdes_become_serdes_errors() -> None:
    class Broken(SerDes[Any]):
        def serialize(self, value: Any, serdes_context: SerDesContext) -> str:
            raise KeyError("x")

        def deserialize(self, data: str, serdes_context: SerDesContext) -> Any:
            raise KeyError("x")

    with pytest.raises(SerDesError, match="the value can't be written: KeyError: 'x'"):
        serialize(Broken(), 1, "op", "arn")
    with pytest.raises(SerDesError, match="the payload can't be read: KeyError: 'x'"):
        deserialize(Broken(), "1", "op", "arn")
    with pytest.raises(SerDesError, match="the payload can't be read: JSONDecodeError"):
        deserialize(None, "nope", "op", "arn")


def test_a_serdes_learns_whose_payload_it_is() -> None:
    seen: list[SerDesContext] = []

    class Curious(PassThroughSerDes):
        def serialize(self, value: str, serdes_context: SerDesContext) -> str:
            seen.append(serdes_context)
            return value

    assert serialize(Curious(), "x", "op", "arn") == "x"
    assert serialize(Curious(), "x", "op", "arn", name="pay", operation_type="STEP", attempt=2) == "x"
    assert seen == [SerDesContext("op", "arn"), SerDesContext("op", "arn", "pay", "STEP", 2)]


def test_the_ready_made_serdes_are_what_they_are_called() -> None:
    context = SerDesContext()
    assert DEFAULT_JSON_SERDES.serialize({"a": [1, "é"]}, context) == '{"a": [1, "\\u00e9"]}'
    assert DEFAULT_JSON_SERDES.deserialize('{"a": 1}', context) == {"a": 1}
    assert EXTENDED_TYPES_SERDES.deserialize(EXTENDED_TYPES_SERDES.serialize((1,), context), context) == (1,)
    assert PassThroughSerDes().deserialize("x", context) == "x"


@pytest.mark.parametrize(
    ("value", "is_primitive"), [(None, True), ([1, ["a"]], True), ({}, False), ((1,), False), ([{}], False)]
)
def test_primitives_are_texts_numbers_and_lists_of_them(value: Any, *, is_primitive: bool) -> None:
    assert SerDes.is_primitive(value) is is_primitive
