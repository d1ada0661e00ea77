"""What comes from outside and can't be is refused in words that name it."""

from typing import Any

import pytest

from perdure.model.error import InvalidParameterValue
from perdure.wire.forms import API, FUNCTION, PEOPLE
from perdure.wire.operations import UPDATE, read_operation

GOOD: dict[str, Any] = {"Id": "1", "Type": "STEP", "Action": "START"}


def refusal(**members: Any) -> str:
    given = {name: value for name, value in {**GOOD, **members}.items() if value is not ...}
    with pytest.raises(InvalidParameterValue) as refused:
        UPDATE.read(given, API, "Updates[2]")
    return refused.value.message


def test_the_member_is_named_with_what_was_found_and_what_would_be_right() -> None:
    assert refusal(Id=...) == "Updates[2].Id is missing"
    assert refusal(Id=5) == "Updates[2].Id must be a text, not 5"
    assert refusal(Type="STEPS").startswith("Updates[2].Type must be one of EXECUTION, CONTEXT, STEP")
    assert refusal(StepOptions=[]) == "Updates[2].StepOptions must be a JSON object, not []"
    assert (
        refusal(StepOptions={"NextAttemptDelaySeconds": True})
        == "Updates[2].StepOptions.NextAttemptDelaySeconds must be a whole number, not True"
    )
    assert refusal(Error={"StackTrace": ["a", 1]}) == "Updates[2].Error.StackTrace[1] must be a text, not 1"
    assert refusal(Error={"StackTrace": "a"}) == "Updates[2].Error.StackTrace must be a list, not 'a'"


def test_a_long_value_is_quoted_in_part() -> None:
    assert len(refusal(Type="x" * 100_000)) < 300


def test_an_unknown_member_is_ignored_and_null_is_absent() -> None:
    update = UPDATE.read({**GOOD, "Novelty": {"a": 1}, "Name": None}, API)
    assert update.name is None


def test_an_operation_of_no_type_is_refused() -> None:
    with pytest.raises(InvalidParameterValue, match=r"Operation\.Type must be one of EXECUTION.*not None"):
        read_operation({"Id": "1"}, API, 1)


@pytest.mark.parametrize(
    ("form", "text"),
    [(API, 1764547200.25), (FUNCTION, 1764547200250), (PEOPLE, "2025-12-01T00:00:00.250Z")],
)
def test_a_time_looks_as_its_place_wants_it(form: Any, text: Any) -> None:
    assert form.times.write(1_764_547_200_250) == text
    assert form.times.read(text, "StartTimestamp") == 1_764_547_200_250


def test_a_body_may_hold_a_time_as_iso_text_too() -> None:
    assert API.times.read("2025-12-01T01:00:00+01:00", "t") == 1_764_547_200_000


@pytest.mark.parametrize(("form", "value"), [(API, True), (FUNCTION, 1.5), (PEOPLE, "yesterday"), (API, [])])
def test_what_is_no_time_is_refused(form: Any, value: Any) -> None:
    with pytest.raises(InvalidParameterValue, match="StartTimestamp must be"):
        form.times.read(value, "StartTimestamp")
