"""What a `map` or `parallel` gives, and the rule by which it is over."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from perdure.batches import (
    BatchItemStatus,
    CompletionConfig,
    CompletionDecision,
    CompletionItemStatus,
    CompletionOutcome,
    CompletionStatus,
)
from perdure.concurrency.parts import Branch, BranchEvent, BranchEventKind, BranchStatus, Executable
from perdure.exceptions import (
    ChildContextError,
    DurableOperationError,
    ValidationError,
    register_operation_error,
)
from perdure.lambda_service import ErrorObject
from perdure.model.word import Word

if TYPE_CHECKING:
    from perdure.types import SummaryGenerator

__all__ = [
    "BatchCompletionError",
    "BatchItem",
    "BatchItemStatus",
    "BatchResult",
    "Branch",
    "BranchEvent",
    "BranchEventKind",
    "BranchStatus",
    "CompletionPolicy",
    "CompletionReason",
    "CompletionRecord",
    "Executable",
    "envelope_summary_generator",
]

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class CompletionReason(Word):
    """Why a batch was over."""

    ALL_COMPLETED = "ALL_COMPLETED"
    MIN_SUCCESSFUL_REACHED = "MIN_SUCCESSFUL_REACHED"
    FAILURE_TOLERANCE_EXCEEDED = "FAILURE_TOLERANCE_EXCEEDED"
    CUSTOM_COMPLETION_SUCCEEDED = "CUSTOM_COMPLETION_SUCCEEDED"
    CUSTOM_COMPLETION_FAILED = "CUSTOM_COMPLETION_FAILED"


@register_operation_error
class BatchCompletionError(DurableOperationError):
    """The predicate of a batch said that it has failed."""

    def __init__(
        self,
        completion_reason: CompletionReason = CompletionReason.CUSTOM_COMPLETION_FAILED,
        message: str | None = None,
        error_type: str | None = None,
        data: str | None = None,
        stack_trace: Sequence[str] | None = None,
    ) -> None:
        text = message or f"the batch was completed as failed by its should_complete ({completion_reason})"
        super().__init__(text, error_type, data, stack_trace)
        self.completion_reason = completion_reason


@dataclass(frozen=True)
class BatchItem(Generic[R_co]):
    """One branch of a batch: `result` if it SUCCEEDED, `error` if it FAILED, neither while it is STARTED."""

    index: int
    status: BatchItemStatus
    result: R_co | None = None
    error: ErrorObject | None = None

    def unwrap(self) -> R_co:
        """The result. Raises ChildContextError if the branch failed, ValidationError if it never ended."""
        if self.status is BatchItemStatus.FAILED:
            raise item_error(self)
        if self.status is BatchItemStatus.STARTED:
            raise ValidationError(f"item {self.index} had not ended when the batch was decided: it has no result")
        return cast(R_co, self.result)

    def to_dict(self) -> dict[str, Any]:
        error = self.error.to_dict() if self.error is not None else None
        return {"index": self.index, "status": str(self.status), "result": self.result, "error": error}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "BatchItem[Any]":
        error = data.get("error")
        return BatchItem(
            data["index"],
            BatchItemStatus(data["status"]),
            data.get("result"),
            ErrorObject.from_dict(error) if error is not None else None,
        )


def item_error(item: BatchItem[Any]) -> ChildContextError:
    """The error that a failed item stands for."""
    error = item.error
    if error is None:
        return ChildContextError(f"item {item.index} of the batch failed, and nothing is known of its error")
    return ChildContextError(error.message, error.type, error.data, error.stack_trace)


@dataclass(frozen=True)
class BatchResult(Generic[R_co]):
    """The items of a batch in the order of their indexes, and why it was over. Items that never began are absent.

    A batch does not raise for failed items: look at them, or call `throw_if_error`.
    """

    all: list[BatchItem[R_co]]
    completion_reason: CompletionReason

    # --- items ---------------------------------------------------------------------------------------------------

    def succeeded(self) -> list[BatchItem[R_co]]:
        return [item for item in self.all if item.status is BatchItemStatus.SUCCEEDED]

    def failed(self) -> list[BatchItem[R_co]]:
        return [item for item in self.all if item.status is BatchItemStatus.FAILED]

    def started(self) -> list[BatchItem[R_co]]:
        """The items that had not ended when the batch was decided."""
        return [item for item in self.all if item.status is BatchItemStatus.STARTED]

    def get_results(self) -> list[R_co]:
        """The results of the items that succeeded; one that is None is among them."""
        return [cast(R_co, item.result) for item in self.succeeded()]

    def get_errors(self) -> list[ErrorObject | None]:
        """The error of each item that failed."""
        return [item.error for item in self.failed()]

    def __iter__(self) -> Iterator[BatchItem[R_co]]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    def __bool__(self) -> bool:
        return True

    @overload
    def __getitem__(self, index: int) -> BatchItem[R_co]: ...

    @overload
    def __getitem__(self, index: slice) -> list[BatchItem[R_co]]: ...

    def __getitem__(self, index: int | slice) -> BatchItem[R_co] | list[BatchItem[R_co]]:
        return self.all[index]

    # --- the whole -----------------------------------------------------------------------------------------------

    @property
    def success_count(self) -> int:
        return len(self.succeeded())

    @property
    def failure_count(self) -> int:
        return len(self.failed())

    @property
    def started_count(self) -> int:
        return len(self.started())

    @property
    def total_count(self) -> int:
        """How many items are here: those that never began are not."""
        return len(self.all)

    @property
    def has_failure(self) -> bool:
        return any(item.status is BatchItemStatus.FAILED for item in self.all)

    @property
    def status(self) -> BatchItemStatus:
        """FAILED if an item failed, unless a predicate has decided."""
        if self.completion_reason is CompletionReason.CUSTOM_COMPLETION_SUCCEEDED:
            return BatchItemStatus.SUCCEEDED
        if self.completion_reason is CompletionReason.CUSTOM_COMPLETION_FAILED or self.has_failure:
            return BatchItemStatus.FAILED
        return BatchItemStatus.SUCCEEDED

    def throw_if_error(self) -> None:
        """Raise ChildContextError for the first item that failed, BatchCompletionError if a predicate said so."""
        for item in self.all:
            if item.status is BatchItemStatus.FAILED:
                raise item_error(item)
        if self.completion_reason is CompletionReason.CUSTOM_COMPLETION_FAILED:
            raise BatchCompletionError(self.completion_reason)

    def results_or_raise(self) -> list[R_co]:
        """The results of all items; raises as `throw_if_error` does."""
        self.throw_if_error()
        return self.get_results()

    # --- as data -------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        return {"all": [item.to_dict() for item in self.all], "completionReason": str(self.completion_reason)}

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], completion_config: CompletionConfig | None = None
    ) -> "BatchResult[Any]":
        """What `to_dict` wrote; a missing reason is worked out from the items."""
        items = [BatchItem.from_dict(item) for item in data["all"]]
        reason = data.get("completionReason")
        if reason is None:
            return cls.from_items(items, completion_config)
        return BatchResult(items, CompletionReason(reason))

    @classmethod
    def from_items(
        cls, items: Sequence[BatchItem[R]], completion_config: CompletionConfig | None = None
    ) -> "BatchResult[R]":
        """The result with these items, and the reason that follows from them; without a configuration, the first
        failure would have ended the batch.
        """
        policy = CompletionPolicy.from_config(len(items), completion_config or CompletionConfig())
        failures = sum(item.status is BatchItemStatus.FAILED for item in items)
        successes = sum(item.status is BatchItemStatus.SUCCEEDED for item in items)
        return BatchResult(list(items), policy.reason(successes, failures))


@dataclass(frozen=True)
class CompletionPolicy:
    """When a batch of `total` items is over, as a rule of numbers. Pure: it knows of no branches."""

    total: int
    min_successful: int | None = None
    tolerated_failure_count: int | None = None
    tolerated_failure_percentage: float | None = None
    should_complete: Any = None

    @classmethod
    def from_config(cls, total: int, config: CompletionConfig) -> "CompletionPolicy":
        return cls(
            total,
            config.min_successful,
            config.tolerated_failure_count,
            config.tolerated_failure_percentage,
            config.should_complete,
        )

    @property
    def has_criteria(self) -> bool:
        criteria = (self.min_successful, self.tolerated_failure_count, self.tolerated_failure_percentage)
        return criteria != (None, None, None) or self.should_complete is not None

    def is_tolerance_exceeded(self, failures: int) -> bool:
        if self.should_complete is not None:
            return False
        if not self.has_criteria:
            return failures > 0
        if self.tolerated_failure_count is not None and failures > self.tolerated_failure_count:
            return True
        percentage = self.tolerated_failure_percentage
        return percentage is not None and self.total > 0 and failures / self.total * 100 > percentage

    def is_complete(self, successes: int, failures: int, decision: CompletionDecision | None = None) -> bool:
        """Whether the batch is over; `decision` is what the predicate said, if there is one."""
        if decision is not None and decision.complete:
            return True
        if successes + failures >= self.total:
            return True
        if self.min_successful is not None and successes >= self.min_successful:
            return True
        return self.is_tolerance_exceeded(failures)

    def reason(self, successes: int, failures: int, decision: CompletionDecision | None = None) -> CompletionReason:
        """Why it is over; the first that holds."""
        if self.is_tolerance_exceeded(failures):
            return CompletionReason.FAILURE_TOLERANCE_EXCEEDED
        if decision is not None and decision.complete:
            if decision.outcome is CompletionOutcome.FAILED:
                return CompletionReason.CUSTOM_COMPLETION_FAILED
            return CompletionReason.CUSTOM_COMPLETION_SUCCEEDED
        if successes + failures >= self.total:
            return CompletionReason.ALL_COMPLETED
        if self.min_successful is not None and successes >= self.min_successful:
            return CompletionReason.MIN_SUCCESSFUL_REACHED
        return CompletionReason.ALL_COMPLETED


@dataclass(frozen=True)
class CompletionRecord:
    """How a batch was decided whose result was too large to store: how many branches began, which had not ended."""

    completion_reason: CompletionReason
    started_total: int
    started_indexes: frozenset[int]

    @classmethod
    def from_summary_payload(cls, payload: str | None, total: int) -> "CompletionRecord | None":
        """What an envelope says; None if it is none, or not that of a batch with at most `total` items."""
        try:
            found = json.loads(payload or "")
            count, reason = found["totalCount"], CompletionReason(found["completionReason"])
            if "startedIndexes" in found:
                started = frozenset(found["startedIndexes"])
            else:
                started = frozenset(range(count)) - frozenset(found["completedIndexes"])
        except (ValueError, KeyError, TypeError):
            return None
        if not isinstance(count, int) or not 0 <= count <= total or not started <= frozenset(range(count)):
            return None
        return cls(reason, count, started)


class StatusItems(Sequence[CompletionItemStatus]):
    """The items of a status, made when they are looked at."""

    def __init__(self, names: Sequence[str | None], statuses: Sequence[BatchItemStatus | None]) -> None:
        self._names = names
        self._statuses = statuses

    def __len__(self) -> int:
        return len(self._statuses)

    @overload
    def __getitem__(self, index: int) -> CompletionItemStatus: ...

    @overload
    def __getitem__(self, index: slice) -> "Sequence[CompletionItemStatus]": ...

    def __getitem__(self, index: int | slice) -> "CompletionItemStatus | Sequence[CompletionItemStatus]":
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        at = range(len(self))[index]
        return CompletionItemStatus(at, self._names[at], self._statuses[at])


def ask_predicate(policy: CompletionPolicy, status: CompletionStatus) -> CompletionDecision | None:
    """What the predicate says of `status`; None if there is no predicate."""
    if policy.should_complete is None:
        return None
    decision = policy.should_complete(status)
    if not isinstance(decision, CompletionDecision):
        raise ValidationError(f"should_complete must return continue_batch() or complete_batch(), not {decision!r}")
    return decision


def envelope_summary_generator(
    result_type: str, custom_generator: "Callable[[Any], str] | None" = None
) -> "SummaryGenerator[Any]":
    """What is stored of a batch whose result is too large to store: how it was decided, from which, with the records
    of the branches, a replay makes it again.
    """

    def summarize(result: BatchResult[Any]) -> str:
        started = [item.index for item in result.all if item.status is BatchItemStatus.STARTED]
        completed = [item.index for item in result.all if item.status is not BatchItemStatus.STARTED]
        shorter = ("startedIndexes", started) if len(started) <= len(completed) else ("completedIndexes", completed)
        envelope = {
            "type": result_type,
            "totalCount": result.total_count,
            "completionReason": str(result.completion_reason),
            shorter[0]: shorter[1],
            "startedCount": result.started_count,
            "successCount": result.success_count,
            "failureCount": result.failure_count,
            "status": str(result.status),
        }
        if custom_generator is not None:
            envelope["summary"] = custom_generator(result)
        return json.dumps(envelope)

    return summarize
