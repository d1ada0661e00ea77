"""STEP: attempts, retries, polls, and what their status forbids."""

import pytest

from perdure.engine.terms import Limits, Terms
from perdure.model.error import ErrorObject, InvalidParameterValue, InvalidUpdate
from perdure.model.operation import OperationStatus as Status
from support.one import One, step

BOOM = ErrorObject("boom", "ValueError")


def test_a_step_is_started_and_succeeds_in_one_batch_with_both_events_in_the_history() -> None:
    one = One()
    one.checkpoint(
        step("a", "START", name="charge", sub_type="Step"),
        step("a", "SUCCEED", name="charge", sub_type="Step", payload='"ok"'),
    )
    assert (one.op("a").status, one.op("a").result, one.op("a").attempt) == (Status.SUCCEEDED, '"ok"', 1)
    assert one.shown() == ["ExecutionStarted", "StepStarted", "StepSucceeded"]


def test_a_step_may_be_closed_without_ever_being_started() -> None:
    one = One()
    one.checkpoint(step("a", "SUCCEED", name="charge", payload="1"))
    assert (one.op("a").name, one.op("a").number, one.op("a").status) == ("charge", 1, Status.SUCCEEDED)


def test_a_success_without_payload_leaves_the_result_absent() -> None:
    one = One()
    one.checkpoint(step("a", "SUCCEED"))
    assert one.op("a").result is None


def test_a_retry_parks_the_step_until_its_delay_has_passed() -> None:
    one = One()
    one.checkpoint(step("a", "START"), step("a", "RETRY", error=BOOM, next_attempt_delay_s=30))
    one.end()
    assert (one.status("a"), one.op("a").attempt, one.op("a").next_attempt_ms) == (
        Status.PENDING,
        1,
        one.now_ms + 30_000,
    )
    one.after(29.999)
    assert one.status("a") is Status.PENDING
    assert one.head.in_flight is None
    one.after(0.001)
    assert (one.status("a"), one.op("a").next_attempt_ms) == (Status.READY, None)
    assert one.head.in_flight is not None
    assert one.state.updated_ids == ("a",)
    assert one.shown() == ["ExecutionStarted", "StepStarted", "StepFailed", "InvocationCompleted"]


def test_a_second_attempt_that_succeeds_clears_the_error_and_counts_two() -> None:
    one = One()
    one.checkpoint(step("a", "START"), step("a", "RETRY", error=BOOM, next_attempt_delay_s=1))
    one.end()
    one.after(1)
    one.checkpoint(step("a", "START"), step("a", "SUCCEED", payload="2"))
    assert (one.op("a").attempt, one.op("a").error, one.op("a").result) == (2, None, "2")


def test_a_poll_keeps_its_state_over_the_next_start() -> None:
    """A waitForCondition that dies after its START continues from the state it had (service specification, U10)."""
    one = One()
    one.checkpoint(step("a", "START"), step("a", "RETRY", payload='"1"', next_attempt_delay_s=1))
    one.end()
    one.after(1)
    one.checkpoint(step("a", "START"))
    assert (one.status("a"), one.op("a").result) == (Status.STARTED, '"1"')
    assert one.shown()[-2:] == ["InvocationCompleted", "StepStarted"]


def test_a_failed_step_keeps_its_error_and_has_no_result() -> None:
    one = One()
    one.checkpoint(step("a", "START"), step("a", "FAIL", error=BOOM))
    assert (one.status("a"), one.op("a").error, one.op("a").result) == (Status.FAILED, BOOM, None)


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ("START", "START", "Invalid current STEP state to start."),
        ("SUCCEED", "SUCCEED", "Invalid current STEP state to close."),
        ("SUCCEED", "FAIL", "Invalid current STEP state to close."),
        ("FAIL", "SUCCEED", "Invalid current STEP state to close."),
        ("SUCCEED", "START", "Invalid current STEP state to start."),
    ],
)
def test_what_the_status_forbids_is_refused_and_changes_nothing(first: str, second: str, text: str) -> None:
    one = One()
    one.checkpoint(step("a", first))
    before, token = one.op("a"), one.token
    with pytest.raises(InvalidUpdate, match=text):
        one.checkpoint(step("b", "SUCCEED"), step("a", second))
    assert one.op("a") is before
    assert "b" not in one.state.operations
    assert one.token == token


def test_a_retry_of_a_closed_step_is_refused() -> None:
    one = One()
    one.checkpoint(step("a", "SUCCEED"))
    with pytest.raises(InvalidUpdate, match=r"Invalid current STEP state to re-attempt\."):
        one.checkpoint(step("a", "RETRY", next_attempt_delay_s=1))


@pytest.mark.parametrize("seconds", [0, 31_622_401])
def test_a_retry_delay_must_be_from_one_second_to_366_days(seconds: int) -> None:
    one = One()
    with pytest.raises(InvalidUpdate, match=f"NextAttemptDelaySeconds must be from 1 to 31622400, not {seconds}"):
        one.checkpoint(step("a", "RETRY", next_attempt_delay_s=seconds))


def test_step_options_belong_to_a_retry_and_to_nothing_else() -> None:
    one = One()
    with pytest.raises(InvalidUpdate, match="Invalid StepOptions"):
        one.checkpoint(step("a", "RETRY"))
    with pytest.raises(InvalidUpdate, match="Invalid StepOptions"):
        one.checkpoint(step("a", "START", next_attempt_delay_s=3))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (step("a", "FAIL", payload="1"), "Cannot provide a Payload for FAIL action."),
        (step("a", "SUCCEED", error=BOOM), "Cannot provide an Error for SUCCEED action."),
        (
            step("a", "RETRY", error=BOOM, payload="1", next_attempt_delay_s=1),
            "Cannot provide both error and payload to RETRY a STEP.",
        ),
        (step("a", "CANCEL"), "Invalid action for the given operation type."),
        (step("a b", "START"), "Id must be 1 to 64"),
        (step("a", "START", name="n\n"), "Name must be 1 to 256 printable ASCII"),
        (step("a", "START", sub_type="a b"), "SubType must be 1 to 32"),
    ],
)
def test_an_update_that_contradicts_itself_is_refused(wrong: object, text: str) -> None:
    one = One()
    with pytest.raises(InvalidParameterValue, match=text):
        one.checkpoint(wrong)  # type: ignore[arg-type]
    assert one.state.operations == {}


def test_a_payload_is_measured_in_bytes_and_has_a_limit() -> None:
    one = One(terms=Terms(limits=Limits(payload_bytes_max=10)))
    one.checkpoint(step("a", "SUCCEED", payload="é" * 5))
    with pytest.raises(InvalidUpdate, match="STEP output payload size must be less than or equal to 10 bytes"):
        one.checkpoint(step("b", "SUCCEED", payload="é" * 5 + "x"))


def test_an_error_object_has_a_limit() -> None:
    one = One(terms=Terms(limits=Limits(error_bytes_max=10)))
    with pytest.raises(InvalidUpdate, match="Error object size must be less than 10 bytes"):
        one.checkpoint(step("a", "FAIL", error=ErrorObject("x" * 11)))
