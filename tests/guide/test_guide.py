"""One page of programs for each topic of the durable-execution guide, and what they come to with either SDK."""

import logging
from typing import Any

import pytest

from guide.conftest import Book
from perdure.model.error import ErrorObject
from perdure.model.execution import ExecutionStatus
from support.local import Outcome
from support.sdks import Ground

FAILED = ExecutionStatus.FAILED


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    """The official SDK logs the errors that it passes on."""
    logging.getLogger("aws_durable_execution_sdk_python").setLevel(logging.CRITICAL)


def names(outcome: Outcome) -> list[str | None]:
    return [operation.name for operation in outcome.operations]


# --- steps -------------------------------------------------------------------------------------------------------


def test_steps_run_once_are_named_and_tried_again(page: Book) -> None:
    steps = page("steps")
    outcome = steps.run("ship", {"parcel": {"grams": 1500}})
    assert outcome.result == {
        "courier": "fox",
        "price": 5.5,
        "attempt": 3,
        "label": "LABEL",
        "stamps": [0, 1, 4],
        "unnamed": "quiet",
    }
    assert names(outcome) == ["weigh", "book_courier", "print-label", "stamp-0", "stamp-1", "stamp-2", None]
    assert steps.attempts == [1, 2, 3]
    assert outcome.view.end_ms is not None
    assert outcome.view.end_ms - outcome.view.start_ms == (10 + 20) * 1000


def test_a_step_at_most_once_does_not_run_again_after_a_crash(page: Book) -> None:
    steps = page("steps")
    ground = steps.ground("pay")
    ground.crashes = {1: True}
    outcome = ground.run_answering({"amount": 5}, lambda _ground, _callback: False)
    assert steps.charges == [5]
    assert outcome.status is FAILED
    assert outcome.error.type == steps.error_type("StepError")
    assert outcome.op("charge").error.type == steps.error_type("StepInterruptedError")


def test_a_filter_decides_which_errors_are_tried_again(page: Book) -> None:
    outcome = page("steps").run("give_up")
    assert outcome.shown.count("StepFailed") == 1
    assert (outcome.error.message, outcome.op("refuse").error.type) == ("not allowed", "PermissionError")


# --- waits -------------------------------------------------------------------------------------------------------


def test_waits_pass_without_running(page: Book) -> None:
    waits = page("waits")
    outcome = waits.run("trial", {})
    assert outcome.result == ["welcome", "how is it going?", "last call"]
    assert waits.woken == ["after a week"] * 2
    assert outcome.view.end_ms is not None
    assert outcome.view.end_ms - outcome.view.start_ms == 14 * 86_400_000
    assert waits.run("trial", {"bought": True}).result == ["welcome", "how is it going?"]


def test_durations_are_whole_seconds(page: Book) -> None:
    outcome = page("waits").run("short_waits")
    assert outcome.view.end_ms is not None
    assert outcome.view.end_ms - outcome.view.start_ms == 270_000
    too_short = page("waits").run("no_wait")
    assert too_short.error.type == page("waits").error_type("ValidationError")
    assert names(too_short) == []


# --- callbacks ---------------------------------------------------------------------------------------------------


def succeed_with(text: str) -> Any:
    def answer(ground: Ground, callback: Any) -> bool:
        ground.service.succeed_callback(callback.callback_id, text)
        return True

    return answer


def test_a_callback_is_answered_refused_or_forgotten(page: Book) -> None:
    callbacks = page("callbacks")
    answered = callbacks.ground("expense").run_answering({"amount": 40}, succeed_with('{"by": "Ada"}'))
    assert answered.result == "approved by Ada"
    assert callbacks.outbox[0][1] == 40
    assert names(answered) == ["approval", "approval create callback id", "approval submitter"]

    def refuse(ground: Ground, callback: Any) -> bool:
        ground.service.fail_callback(callback.callback_id, ErrorObject("too much", "Budget"))
        return True

    assert callbacks.ground("expense").run_answering({"amount": 1}, refuse).result == "refused: too much"
    assert callbacks.run("expense", {"amount": 1}).result == "nobody answered"


def test_a_callback_that_is_silent_for_too_long_is_lost(page: Book) -> None:
    callbacks = page("callbacks")
    outcome = callbacks.run("scan")
    assert outcome.result == ["unknown", "CallbackTimeoutError"]
    assert outcome.view.end_ms is not None
    assert outcome.view.end_ms - outcome.view.start_ms == 300_000
    assert callbacks.ground("scan").run_answering({}, succeed_with("ok")).result == ["clean", "ok"]


def test_a_submitter_that_fails_is_told(page: Book) -> None:
    assert page("callbacks").run("unreachable").result == "not sent: no network"


# --- child contexts ----------------------------------------------------------------------------------------------


def test_children_are_recorded_as_a_whole(page: Book) -> None:
    contexts = page("child_contexts")
    outcome = contexts.run("bakery")
    assert outcome.result == [{"bread": "rye"}, {"bread": "wheat"}]
    assert names(outcome)[:4] == ["bake", "knead", "rise", "bake"]
    assert contexts.bodies == ["rye", "rye", "wheat", "wheat"], "each runs until its wait, and once more after it"


def test_a_large_result_is_made_again_from_its_steps(page: Book) -> None:
    outcome = page("child_contexts").run("large")
    assert outcome.result == 300_000
    assert outcome.op("book").result == "300000 characters"
    assert outcome.shown.count("StepSucceeded") == 3


def test_a_child_that_fails_says_what_failed_in_it(page: Book) -> None:
    assert page("child_contexts").run("burnt").result == "smoke, from a step: True"
    grouped = page("child_contexts").run("grouped")
    assert grouped.result == [0, 1]
    assert {operation.parent_id for operation in grouped.operations} == {None}


# --- map and parallel --------------------------------------------------------------------------------------------


def test_a_map_tolerates_failures(page: Book) -> None:
    album = [{"name": "a"}, {"name": "b", "broken": True}, {"name": "c"}]
    outcome = page("using_map").run("album", album)
    assert outcome.result == {
        "done": ["a (1 of 3)", "c (3 of 3)"],
        "failed": ["b is broken"],
        "reason": "ALL_COMPLETED",
        "counts": [2, 1, 3],
    }
    assert {"a-0", "b-1", "c-2"} <= set(names(outcome))


def test_a_map_ends_when_there_is_enough(page: Book) -> None:
    book = page("using_map")
    assert book.run("quorum").result == [["ANN", "BOB"], "MIN_SUCCESSFUL_REACHED", 2]
    assert book.run("first_failure").result == ["FAILURE_TOLERANCE_EXCEEDED", "FAILED", "a is broken"]
    assert book.run("enough").result == [[0, 1], "CUSTOM_COMPLETION_SUCCEEDED"]


def test_the_items_of_a_map_wait_beside_each_other(page: Book) -> None:
    outcome = page("using_map").run("reminders")
    assert outcome.result == ["day 1", "day 3", "day 2"]
    assert outcome.view.end_ms is not None
    assert outcome.view.end_ms - outcome.view.start_ms == 3 * 86_400_000


def test_branches_are_different_things_beside_each_other(page: Book) -> None:
    outcome = page("using_parallel").run("trip", {"to": "Oslo"})
    assert outcome.result == ["flight to Oslo", "hotel in Oslo", "a car", "a car"]
    assert {"flight", "parallel-branch-1", "parallel-branch-2", "spare-car"} <= set(names(outcome))


def test_the_first_branch_wins_and_failures_are_told(page: Book) -> None:
    book = page("using_parallel")
    race = book.run("race")
    assert race.result == [["fast"], "MIN_SUCCESSFUL_REACHED", ["STARTED", "SUCCEEDED"]]
    assert race.view.end_ms is not None
    assert race.view.end_ms - race.view.start_ms == 5_000
    assert book.run("tolerant").result == [True, ["fine"], [0]]


# --- polling -----------------------------------------------------------------------------------------------------


def test_polling_keeps_its_state_between_the_looks(page: Book) -> None:
    polling = page("polling")
    outcome = polling.run("encode", {})
    assert outcome.result == {"progress": 120}
    assert polling.looks == [1, 2, 3]
    assert outcome.view.end_ms is not None
    assert outcome.view.end_ms - outcome.view.start_ms == (30 + 60) * 1000
    assert polling.run("encode", {"looks": 2}).result == {"progress": "unknown"}
    assert polling.run("own_strategy").result == 3


def test_a_check_that_raises_is_not_repeated(page: Book) -> None:
    polling = page("polling")
    outcome = polling.run("broken")
    assert outcome.shown.count("StepFailed") == 1
    assert (outcome.error.type, outcome.error.message) == (polling.error_type("WaitForConditionError"), "no such job")


# --- invoke ------------------------------------------------------------------------------------------------------


def test_functions_ask_each_other(page: Book) -> None:
    invoke = page("using_invoke")
    assert invoke.run("order").result == {
        "left": {"item": "tea", "left": 7},
        "vat": 19.0,
        "error": ["COFFEE is sold out", "LookupError"],
    }
    unknown = invoke.run("unknown")
    assert unknown.status is FAILED
    assert unknown.error.type == invoke.error_type("InvokeError")


# --- errors ------------------------------------------------------------------------------------------------------


def test_errors_are_caught_and_what_was_done_is_undone(page: Book) -> None:
    errors = page("errors")
    assert errors.run("saga").result == ["errors.SeatTaken", "12A", "no hotel"]
    assert errors.run("any_operation").result == ["StepError", "ChildContextError", "InvokeError"]
    uncaught = errors.run("uncaught")
    assert (uncaught.error.type, uncaught.error.message) == ("errors.SeatTaken", "handler")


def test_an_execution_error_ends_it_and_an_invocation_error_only_this_invocation(page: Book) -> None:
    errors = page("errors")
    stopped = errors.run("stop_now")
    assert (stopped.status, stopped.error.type) == (FAILED, errors.error_type("ExecutionError"))
    assert "StepFailed" not in stopped.shown
    assert errors.run("once_more").result == "warm"
    assert len(errors.tries) == 2


def test_several_operations_are_tried_again_as_one(page: Book) -> None:
    errors = page("errors")
    paid = errors.run("whole_block", {"attempts": 5})
    assert paid.result == {"paid": True, "attempt": 3}
    assert names(paid) == ["pay", "reserve", "pay-backoff-1", "reserve", "pay-backoff-2", "reserve"]
    assert errors.run("whole_block", {"attempts": 2}).result == {"paid": False, "why": "payment is down"}
    unwrapped = errors.run("unwrapped")
    assert (unwrapped.result, names(unwrapped)) == ("attempt 2", [None])


# --- serialization -----------------------------------------------------------------------------------------------


def test_values_survive_as_they_are(page: Book) -> None:
    book = page("serialization")
    assert book.run("round_trips").result == [repr(value) for value in book.VALUES]
    assert book.run("lossy").result == "{'2': 'a', 'null': 'b', 'true': 'c'}"
    assert book.run("refused").result == "not written"


def test_values_are_written_as_their_author_says(page: Book) -> None:
    book = page("serialization")
    outcome = book.run("own")
    assert outcome.result == [1990, 3980, "as it is", {"1": "one"}]
    assert outcome.op("price").result == '{"cents": 1990}'
    assert book.run("items").result == ["3.3", "ALL_COMPLETED"]


# --- logging -----------------------------------------------------------------------------------------------------


def test_lines_are_said_once_with_where_they_were_said(page: Book) -> None:
    book = page("using_logging")
    outcome = book.run("parcel")
    assert [line[:2] for line in book.book.lines] == [
        ("info", "began"),
        ("info", "packing tea"),
        ("warning", "in the child"),
        ("info", "after the wait"),
        ("error", "last"),
    ]
    extras = {text: extra for _, text, extra in book.book.lines}
    assert all(extra["executionArn"] == outcome.view.arn for extra in extras.values())
    assert extras["began"]["order"] == 7
    assert (extras["packing tea"]["operationName"], extras["packing tea"]["attempt"]) == ("pack", 1)
    assert extras["in the child"]["parentId"] == outcome.op("shelf").id


# --- testing patterns --------------------------------------------------------------------------------------------


def test_handlers_are_made_to_be_tested(page: Book) -> None:
    book = page("testing")
    book.mailer.failures = 2
    outcome = book.run("checkout", {"items": [{"price": 3}, {"price": 4}], "to": "a@example.com"})
    assert outcome.result == {"total": 7, "sent": True}
    assert book.mailer.sent == ["a@example.com"]
    assert outcome.op("send_receipt").attempt == 3
    assert outcome.view.end_ms is not None
    assert outcome.view.end_ms - outcome.view.start_ms == (30 + 20 + 20) * 1000
    assert book.price_of([{"price": 1}]) == 1
    assert book.strategy_table() == [(True, 5), (True, 10), (False, 0)]
    assert book.STATUSES == ["SUCCEEDED", "READY", "CHAINED_INVOKE"]
