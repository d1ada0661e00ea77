"""How `map` and `parallel` are configured; the names are those of `perdure.config`, too.

All configurations are values: frozen, comparable, usable with `dataclasses.replace`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from perdure.config import set_fields, to_word
from perdure.exceptions import ValidationError
from perdure.model.word import Word

if TYPE_CHECKING:
    from perdure.context import DurableContext
    from perdure.serdes import SerDes
    from perdure.types import SummaryGenerator

T = TypeVar("T")
U = TypeVar("U")
T_co = TypeVar("T_co", covariant=True)
P = ParamSpec("P")


class NestingType(Word):
    """Whether each branch of a batch is recorded as a context of its own, or only the operations in it."""

    NESTED = "NESTED"
    FLAT = "FLAT"


class BatchItemStatus(Word):
    """How a branch of a batch ended; STARTED if it had not when the batch was decided."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STARTED = "STARTED"


class CompletionOutcome(Word):
    """What a predicate says that a batch has come to."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class CompletionItemStatus:
    """One item, as a predicate sees it; `status` is None while it has not been started."""

    index: int
    name: str | None = None
    status: BatchItemStatus | None = None


@dataclass(frozen=True)
class CompletionStatus:
    """How far a batch is. `items` is a view of the present: it costs nothing unless it is looked at."""

    success_count: int
    failure_count: int
    completed_count: int
    total_count: int
    items: Sequence[CompletionItemStatus] = ()


@dataclass(frozen=True)
class CompletionDecision:
    """Whether a batch is over, and with which outcome; made by `continue_batch` and `complete_batch`."""

    complete: bool
    outcome: CompletionOutcome | None = None

    def __post_init__(self) -> None:
        if self.outcome is not None:
            set_fields(self, outcome=to_word(CompletionOutcome, self.outcome, "outcome"))
        if self.complete != (self.outcome is not None):
            raise ValidationError("a completion decision has an outcome if, and only if, it completes the batch")


def continue_batch() -> CompletionDecision:
    """The batch goes on."""
    return CompletionDecision(complete=False)


def complete_batch(outcome: CompletionOutcome | str = CompletionOutcome.SUCCEEDED) -> CompletionDecision:
    """The batch is over; what still runs in it is abandoned."""
    return CompletionDecision(complete=True, outcome=to_word(CompletionOutcome, outcome, "outcome"))


@dataclass(frozen=True)
class CompletionConfig:
    """When a batch is over before all of its branches are.

    Without any criterion the first failure ends it. `min_successful` successes end it, and then failures never do.
    More failures than `tolerated_failure_count`, or than `tolerated_failure_percentage` of all items, end it.
    `should_complete(status)` decides alone; it must depend on nothing but the status. It is asked before anything
    starts and whenever a branch has ended.
    """

    min_successful: int | None = None
    tolerated_failure_count: int | None = None
    tolerated_failure_percentage: float | None = None
    should_complete: Callable[[CompletionStatus], CompletionDecision] | None = None

    def __post_init__(self) -> None:
        count, percentage = self.tolerated_failure_count, self.tolerated_failure_percentage
        if self.min_successful is not None and self.min_successful < 1:
            raise ValidationError(f"min_successful must be at least 1, not {self.min_successful}")
        if count is not None and count < 0:
            raise ValidationError(f"tolerated_failure_count must be at least 0, not {count}")
        if percentage is not None and not 0 <= percentage <= 100:
            raise ValidationError(f"tolerated_failure_percentage must be from 0 to 100, not {percentage}")
        if self.should_complete is None:
            return
        if not callable(self.should_complete):
            raise ValidationError(f"should_complete must be a function of the status, not {self.should_complete!r}")
        if (self.min_successful, count, percentage) != (None, None, None):
            raise ValidationError(
                "should_complete decides alone: give it, or min_successful and the tolerated failures, not both"
            )

    @staticmethod
    def first_successful() -> "CompletionConfig":
        """The first success ends the batch."""
        return CompletionConfig(min_successful=1)

    @staticmethod
    def all_completed() -> "CompletionConfig":
        """All branches run, however many fail."""
        return CompletionConfig(tolerated_failure_percentage=100)

    @staticmethod
    def all_successful() -> "CompletionConfig":
        """The first failure ends the batch."""
        return CompletionConfig(tolerated_failure_count=0, tolerated_failure_percentage=0)


def _check_concurrency(value: int | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValidationError(f"max_concurrency must be at least 1, or None for no limit, not {value!r}")


class ItemsPerBatchUnit(Word):
    """A name of the official 1.x line; nothing uses it."""

    COUNT = "COUNT"
    BYTES = "BYTES"


@dataclass(frozen=True)
class ItemBatcher(Generic[T]):
    """Gives each branch of a `map` several items at once: its function receives a `BatchedInput`.

    At most `max_items_per_batch` items and `max_item_bytes_per_batch` bytes of their JSON in one, zero is no limit; an
    item that is larger than that is in a batch of its own. `batch_input` is handed to every branch.
    """

    max_items_per_batch: int = 0
    max_item_bytes_per_batch: int = 0
    batch_input: T | None = None

    def __post_init__(self) -> None:
        for what in ("max_items_per_batch", "max_item_bytes_per_batch"):
            if getattr(self, what) < 0:
                raise ValidationError(f"{what} must be at least 0 (no limit), not {getattr(self, what)}")


@dataclass(frozen=True)
class BatchedInput(Generic[T, U]):
    """What a branch of a `map` with an `ItemBatcher` receives as its item."""

    batch_input: T
    items: list[U]


@dataclass(frozen=True)
class MapConfig:
    """How the branches of a `map` run and end, and how their results are written.

    At most `max_concurrency` branches are started and not ended, those that wait included. `item_serdes` writes the
    result of a branch, `serdes` that of the batch. `item_namer(item)` or `(item, index)` names the branches.
    """

    max_concurrency: int | None = None
    completion_config: CompletionConfig = CompletionConfig()
    serdes: "SerDes[Any] | None" = None
    item_serdes: "SerDes[Any] | None" = None
    summary_generator: "SummaryGenerator[Any] | None" = None
    nesting_type: NestingType = NestingType.NESTED
    item_namer: Callable[..., str] | None = None
    item_batcher: ItemBatcher[Any] | None = None

    def __post_init__(self) -> None:
        _check_concurrency(self.max_concurrency)
        set_fields(self, nesting_type=to_word(NestingType, self.nesting_type, "nesting_type"))


@dataclass(frozen=True)
class ParallelConfig:
    """The same for `parallel`, whose first failure ends it unless told otherwise."""

    max_concurrency: int | None = None
    completion_config: CompletionConfig = CompletionConfig.all_successful()  # noqa: RUF009 - a frozen value
    serdes: "SerDes[Any] | None" = None
    item_serdes: "SerDes[Any] | None" = None
    summary_generator: "SummaryGenerator[Any] | None" = None
    nesting_type: NestingType = NestingType.NESTED

    def __post_init__(self) -> None:
        _check_concurrency(self.max_concurrency)
        set_fields(self, nesting_type=to_word(NestingType, self.nesting_type, "nesting_type"))


@dataclass(frozen=True)
class ParallelBranch(Generic[T_co]):
    """A branch of a `parallel` with a name of its own."""

    func: Callable[..., T_co]
    name: str | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> T_co:
        return self.func(*args, **kwargs)


if TYPE_CHECKING:
    BranchFunction = Callable[Concatenate[DurableContext, P], T]
    BranchMaker = Callable[P, ParallelBranch[T]]


@overload
def durable_parallel_branch(name: "BranchFunction[P, T]") -> "BranchMaker[P, T]": ...


@overload
def durable_parallel_branch(name: str | None = None) -> "Callable[[BranchFunction[P, T]], BranchMaker[P, T]]": ...


def durable_parallel_branch(name: Any = None) -> Any:
    """Make a function of a branch: called with its other arguments, it gives what `context.parallel` takes.

    Without a `name` the branch is recorded as `parallel-branch-0`, `-1` and so on, by its place. The arguments are
    captured, not recorded. Usable as `@durable_parallel_branch`, too.
    """
    if callable(name):
        return durable_parallel_branch()(name)

    def decorate(func: Callable[..., T]) -> Callable[..., ParallelBranch[T]]:
        @wraps(func)
        def bind(*args: Any, **kwargs: Any) -> ParallelBranch[T]:
            def run(context: "DurableContext") -> T:
                return func(context, *args, **kwargs)

            run._original_function = func  # type: ignore[attr-defined]
            return ParallelBranch(run, name)

        return bind

    return decorate
