"""What a batch gives: its items, its verdict, and how both are written. Numbers are those of the SDK's checklist."""

import itertools
from typing import Any

import pytest
from aws_durable_execution_sdk_python import config as official_config
from aws_durable_execution_sdk_python.concurrency import models

from perdure import ChildContextError, DurableContext, ValidationError, durable_execution
from perdure.concurrency.models import (
    BatchCompletionError,
    BatchItem,
    BatchItemStatus,
    BatchResult,
    CompletionReason,
    StatusItems,
)
from perdure.config import CompletionConfig, CompletionItemStatus, complete_batch
from perdure.lambda_service import ErrorObject
from support.local import Local

official: Any = models
OK, BAD, OPEN = BatchItemStatus.SUCCEEDED, BatchItemStatus.FAILED, BatchItemStatus.STARTED
BOOM = ErrorObject("boom", "ValueError", "data", ["line"])
MIXED: BatchResult[Any] = BatchResult(
    [BatchItem(0, OK, "a"), BatchItem(1, BAD, None, BOOM), BatchItem(2, OPEN), BatchItem(3, OK, None)],
    CompletionReason.MIN_SUCCESSFUL_REACHED,
)


def test_a_result_counts_and_sorts_its_items() -> None:
    assert [item.index for item in MIXED.succeeded()] == [0, 3]
    assert [item.index for item in MIXED.failed()] == [1]
    assert [item.index for item in MIXED.started()] == [2]
    assert MIXED.get_results() == ["a", None]
    assert MIXED.get_errors() == [BOOM]
    counts = (MIXED.success_count, MIXED.failure_count, MIXED.started_count, MIXED.total_count)
    assert counts == (2, 1, 1, 4)
    assert MIXED.has_failure
    assert MIXED.status is BAD


def test_a_result_is_a_sequence_of_its_items() -> None:
    assert len(MIXED) == 4
    assert [item.index for item in MIXED] == [0, 1, 2, 3]
    assert MIXED[0].unwrap() == "a"
    assert MIXED[-1].unwrap() is None
    assert [item.index for item in MIXED[1:3]] == [1, 2]
    assert BatchResult([], CompletionReason.ALL_COMPLETED), "also an empty one is a result"


def test_an_item_without_a_result_says_why() -> None:
    with pytest.raises(ChildContextError, match="boom") as caught:
        MIXED[1].unwrap()
    assert (caught.value.error_type, caught.value.data, caught.value.stack_trace) == ("ValueError", "data", ["line"])
    with pytest.raises(ValidationError, match="item 2 had not ended"):
        MIXED[2].unwrap()
    with pytest.raises(ChildContextError, match="item 7 of the batch failed"):
        BatchItem(7, BAD).unwrap()


def test_a_result_raises_for_its_first_failed_item_then_for_its_verdict() -> None:
    with pytest.raises(ChildContextError, match="boom"):
        MIXED.throw_if_error()
    with pytest.raises(ChildContextError, match="boom"):
        MIXED.results_or_raise()
    with pytest.raises(BatchCompletionError) as caught:
        BatchResult([BatchItem(0, OK, 1)], CompletionReason.CUSTOM_COMPLETION_FAILED).throw_if_error()
    assert caught.value.completion_reason is CompletionReason.CUSTOM_COMPLETION_FAILED
    fine = BatchResult([BatchItem(0, OK, 1), BatchItem(1, OPEN)], CompletionReason.FAILURE_TOLERANCE_EXCEEDED)
    fine.throw_if_error()
    assert fine.results_or_raise() == [1]


@pytest.mark.parametrize("reason", list(CompletionReason))
@pytest.mark.parametrize("status", [OK, BAD])
def test_the_status_of_a_result_is_the_official_one(reason: CompletionReason, status: BatchItemStatus) -> None:
    theirs = official.BatchResult(
        [official.BatchItem(0, official.BatchItemStatus(str(status)))], official.CompletionReason(str(reason))
    )
    assert str(BatchResult([BatchItem(0, status)], reason).status) == theirs.status.value


def test_a_result_is_written_as_the_official_one_is_and_read_again() -> None:
    error = official.ErrorObject("boom", "ValueError", "data", ["line"])
    statuses = official.BatchItemStatus
    theirs = official.BatchResult(
        [
            official.BatchItem(0, statuses.SUCCEEDED, "a"),
            official.BatchItem(1, statuses.FAILED, None, error),
            official.BatchItem(2, statuses.STARTED),
            official.BatchItem(3, statuses.SUCCEEDED, None),
        ],
        official.CompletionReason.MIN_SUCCESSFUL_REACHED,
    )
    assert MIXED.to_dict() == theirs.to_dict()
    assert BatchResult.from_dict(theirs.to_dict()) == MIXED
    assert [BatchItem.from_dict(item.to_dict()) for item in MIXED] == MIXED.all


CRITERIA: list[dict[str, Any] | None] = [
    None,
    {},
    {"min_successful": 1},
    {"min_successful": 2},
    {"tolerated_failure_count": 0},
    {"tolerated_failure_count": 1},
    {"tolerated_failure_percentage": 100},
    {"tolerated_failure_percentage": 50},
    {"min_successful": 1, "tolerated_failure_count": 0},
]


@pytest.mark.parametrize("criteria", CRITERIA, ids=str)
def test_the_reason_that_follows_from_items_is_the_official_one(criteria: dict[str, Any] | None) -> None:
    for count in range(4):
        for statuses in itertools.product(BatchItemStatus, repeat=count):
            ours: BatchResult[Any] = BatchResult.from_items(
                [BatchItem(index, status) for index, status in enumerate(statuses)],
                None if criteria is None else CompletionConfig(**criteria),
            )
            theirs = official.BatchResult.from_items(
                [
                    official.BatchItem(index, official.BatchItemStatus(str(status)))
                    for index, status in enumerate(statuses)
                ],
                None if criteria is None else official_config.CompletionConfig(**criteria),
            )
            assert str(ours.completion_reason) == theirs.completion_reason.value, statuses
            data = {"all": [item.to_dict() for item in ours]}
            again = BatchResult.from_dict(data, None if criteria is None else CompletionConfig(**criteria))
            assert again == ours


def test_a_predicate_sees_items_that_are_made_when_it_looks() -> None:
    statuses: list[BatchItemStatus | None] = [None, None, None]
    items = StatusItems(["a", None, "c"], statuses)
    statuses[1] = OPEN
    assert len(items) == 3
    assert items[1] == CompletionItemStatus(1, None, OPEN)
    assert items[-1] == CompletionItemStatus(2, "c", None)
    assert [item.index for item in items[:2]] == [0, 1]
    assert [item.status for item in items] == [None, OPEN, None]
    with pytest.raises(IndexError):
        items[3]


def test_a_decision_has_an_outcome_if_and_only_if_it_completes() -> None:
    assert complete_batch("FAILED").outcome == "FAILED"
    with pytest.raises(ValidationError, match="outcome must be one of"):
        complete_batch("PERHAPS")


def test_a_result_that_a_handler_returns_is_plain_json() -> None:
    """[64]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def function(ctx: DurableContext, item: int) -> Any:
            return {"halves": (item / 2,)}

        return {"batch": context.map([1, 2], function)}

    items = [{"index": i, "status": "SUCCEEDED", "result": {"halves": [(i + 1) / 2]}, "error": None} for i in (0, 1)]
    assert Local(handler).run().result == {"batch": {"all": items, "completionReason": "ALL_COMPLETED"}}
