"""Previews are those of the official SDK, field for field; what it can't show, ours can."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from aws_durable_execution_sdk_python import preview as official
from hypothesis import given, strategies as st

from perdure.exceptions import ValidationError
from perdure.preview import FieldMatchMode, PreviewConfig, PreviewField, PreviewMode, build_preview

NAMES = st.sampled_from(["a", "b", "c", "é", "", "a.b", "1"])
LEAVES = st.none() | st.booleans() | st.integers(-5, 5000) | st.text("xé", max_size=9) | st.just((1, 2)) | st.just(1.5)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.just(1) | st.none(), inner, max_size=4),
    max_leaves=14,
)
PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(".".join)
RULES = st.lists(st.tuples(NAMES | PATHS, st.sampled_from(["ANYWHERE", "PATH"])), max_size=2)


def rules(module: Any, given_rules: list[tuple[str, str]]) -> Any:
    return [module.PreviewField(name, module.FieldMatchMode(match)) for name, match in given_rules]


@given(
    value=VALUES,
    mode=st.sampled_from(["INCLUDE_ALL", "EXCLUDE_ALL"]),
    include=RULES,
    exclude=RULES,
    mask=RULES,
    size=st.integers(0, 80) | st.just(4096),
)
def test_a_preview_is_that_of_the_official_sdk(
    value: Any,
    mode: str,
    include: list[tuple[str, str]],
    exclude: list[tuple[str, str]],
    mask: list[tuple[str, str]],
    size: int,
) -> None:
    theirs = official.build_preview(
        value,
        official.PreviewConfig(
            official.PreviewMode(mode),
            rules(official, include),
            rules(official, exclude),
            rules(official, mask),
            max_preview_bytes=size,
        ),
    )
    import perdure.preview as module

    ours = build_preview(
        value,
        PreviewConfig(
            PreviewMode(mode),
            rules(module, include),
            rules(module, exclude),
            rules(module, mask),
            max_preview_bytes=size,
        ),
    )
    assert (ours is None) == (theirs is None)
    assert [*as_json(ours)] == [*as_json(theirs)]


def as_json(value: Any) -> Any:
    """A tuple is a list once it is written, and the order of fields counts."""
    if isinstance(value, dict):
        return [(key, as_json(item)) for key, item in value.items()]
    return list(value) if isinstance(value, (tuple, list)) else [value]


def test_dates_decimals_and_objects_are_shown_as_plain_json() -> None:
    @dataclass
    class Line:
        price: Decimal

    value = {"due": date(2026, 1, 2), "line": Line(Decimal("1.5")), "bytes": b"\xff"}
    assert build_preview(value, PreviewConfig(PreviewMode.INCLUDE_ALL)) == {
        "due": "2026-01-02",
        "line": {"price": "1.5"},
        "bytes": "/w==",
    }


def test_what_is_no_dictionary_has_no_preview() -> None:
    assert build_preview([{"a": 1}], PreviewConfig(PreviewMode.INCLUDE_ALL)) is None


def test_options_may_be_given_by_their_words() -> None:
    assert PreviewConfig("EXCLUDE_ALL") == PreviewConfig(PreviewMode.EXCLUDE_ALL)  # type: ignore[arg-type]
    assert PreviewField("a", "PATH") == PreviewField("a", FieldMatchMode.PATH)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="mode must be one of INCLUDE_ALL, EXCLUDE_ALL"):
        PreviewConfig("ALL")  # type: ignore[arg-type]
