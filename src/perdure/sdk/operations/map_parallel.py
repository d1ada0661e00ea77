"""Map and parallel: branches beside each other, under one CONTEXT that is recorded as a whole."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

import msgspec

from perdure.batches import BatchItemStatus, CompletionConfig, CompletionStatus, NestingType
from perdure.concurrency.models import (
    BatchItem,
    BatchResult,
    CompletionPolicy,
    CompletionReason,
    CompletionRecord,
    StatusItems,
    ask_predicate,
    envelope_summary_generator,
)
from perdure.exceptions import NonDeterministicExecutionError, SuspendExecution, ValidationError
from perdure.lambda_service import ErrorObject
from perdure.model.operation import Operation, OperationType
from perdure.sdk.annotated import batch_serdes_for, typed_serdes_for
from perdure.sdk.identity import operation_id
from perdure.sdk.journal import Begun
from perdure.sdk.operations.child import (
    ChildOptions,
    ChildRun,
    Failure,
    child_at,
    virtual_outcome,
    virtual_scope,
)
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session
from perdure.serdes import EXTENDED_TYPES_SERDES, SerDes

BranchBody = Callable[[int, Scope], Awaitable[Any]]
"""Runs the function of a branch, given by its index, in the branch's scope."""


class BatchKind(msgspec.Struct, frozen=True):
    """What map and parallel are called in the records."""

    sub_type: str
    branch_sub_type: str
    result_type: str


MAP: Final = BatchKind("Map", "MapIteration", "MapResult")
PARALLEL: Final = BatchKind("Parallel", "ParallelBranch", "ParallelResult")


class BatchOptions(msgspec.Struct, frozen=True):
    """How the branches run, and how the batch records its end."""

    max_concurrency: int | None
    completion: CompletionConfig
    serdes: SerDes[Any] | None
    item_serdes: SerDes[Any] | None
    summary_generator: Callable[[Any], str] | None
    nesting: NestingType
    functions: Sequence[Callable[..., Any]]


def batch(
    session: Session,
    scope: Scope,
    kind: BatchKind,
    body: BranchBody,
    names: Sequence[str | None],
    name: str | None,
    options: BatchOptions,
) -> Begun[BatchResult[Any]]:
    """The result of running `body` once for each of `names`. Raises ValidationError if it can't be complete.

    The batch does not fail because a branch does. A branch that raises ExecutionError ends it with that.
    """
    total, least = len(names), options.completion.min_successful
    if least is not None and least > total:
        raise ValidationError(f"min_successful is {least}, and there are only {total} items")
    place, _ = session.journal.begin(scope, OperationType.CONTEXT, kind.sub_type, name)
    child_options = ChildOptions(
        kind.sub_type,
        options.serdes or batch_serdes_for(*options.functions) or EXTENDED_TYPES_SERDES,
        envelope_summary_generator(kind.result_type, options.summary_generator),
        is_remade=session.default_serdes is not None,
    )
    is_replaying = scope.is_replaying

    def run() -> Coroutine[Any, Any, BatchResult[Any]]:
        work = _Batch(session, kind, body, names, options, place, is_replaying=is_replaying)
        return child_at(session, scope, place, work.result, name, child_options)

    return run


class _Batch:
    """One run of a batch: which branches are in flight, and what has become of the others. Is the driver's `FanOut`."""

    def __init__(
        self,
        session: Session,
        kind: BatchKind,
        body: BranchBody,
        names: Sequence[str | None],
        options: BatchOptions,
        place: str,
        *,
        is_replaying: bool,
    ) -> None:
        total = len(names)
        self._session = session
        self._kind = kind
        self._body = body
        self._names = names
        self._options = options
        self._place = place
        self._is_replaying = is_replaying
        self._is_flat = options.nesting is NestingType.FLAT
        serdes = options.item_serdes or options.serdes or session.default_serdes
        functions = options.functions
        self._serdes = [serdes or typed_serdes_for(function) for function in functions]
        # What a branch returned is seen when the batch is over: its record is durable with, or before, the batch's.
        self._branch_options = [ChildOptions(kind.branch_sub_type, each, is_seen=False) for each in self._serdes]
        self._policy = CompletionPolicy.from_config(total, options.completion)
        self._total = total
        self._limit = options.max_concurrency or total
        self._cursor = 0
        self._in_flight = 0
        self._successes = 0
        self._failures = 0
        self._statuses: list[BatchItemStatus | None] = [None] * total
        self._items: list[BatchItem[Any] | None] = [None] * total
        self._started_max = -1
        self._reason: CompletionReason | None = None
        self._scope: Scope | None = None

    # --- the whole -----------------------------------------------------------------------------------------------

    async def result(self, scope: Scope) -> BatchResult[Any]:
        """Run the branches until the batch is over; or make a result again that was too large to store."""
        self._scope = scope
        record = self._session.journal.records.get(self._place)
        if record is not None and record.is_terminal:
            return await self._rebuilt(record.result)
        self._judge()
        if not self._is_flat and record is not None:
            await self._take_what_is_recorded()
        try:
            if self._reason is None:
                await self._session.driver.fan_out(self)
        except SuspendExecution:
            raise
        except BaseException:
            scope.is_closed = True  # what still runs is abandoned, although nothing records the end of the batch
            raise
        assert self._reason is not None
        items = [self._item(index) for index in range(self._started_max + 1)]
        return BatchResult(items, self._reason)

    def _item(self, index: int) -> BatchItem[Any]:
        return self._items[index] or BatchItem(index, BatchItemStatus.STARTED)

    def _judge(self) -> None:
        """Whether the batch is over now, and why."""
        successes, failures = self._successes, self._failures
        decision = None
        if self._policy.should_complete is not None:
            items = StatusItems(self._names, self._statuses)
            status = CompletionStatus(successes, failures, successes + failures, self._total, items)
            decision = ask_predicate(self._policy, status)
        if self._policy.is_complete(successes, failures, decision):
            self._reason = self._policy.reason(successes, failures, decision)

    async def _take_what_is_recorded(self) -> None:
        """Count the branches that have ended in an earlier invocation, in their order.

        Only one with a result too large to store runs again, over its records.
        """
        scope = self._scope
        assert scope is not None
        records = self._session.journal.records
        for index in range(self._total):
            record = records.get(operation_id(scope.prefix, index))
            if record is None:
                continue
            self._started_max = index
            self._statuses[index] = BatchItemStatus.STARTED
            if self._reason is None and record.is_terminal:
                self._settle(index, await self.branch(index))
                self._judge()

    # --- what the driver asks ------------------------------------------------------------------------------------

    @property
    def is_serial(self) -> bool:
        return self._limit == 1 or self._total == 1

    @property
    def is_over(self) -> bool:
        return self._reason is not None

    def next(self) -> "_Branch | None":
        if self._in_flight >= self._limit:
            return None
        while self._cursor < self._total and self._items[self._cursor] is not None:
            self._cursor += 1
        if self._cursor >= self._total:
            return None
        self._cursor += 1
        self._in_flight += 1
        return _Branch(self, self._cursor - 1)

    def ended(self, branch: Any, outcome: Any) -> None:
        self._in_flight -= 1
        self._settle(branch.index, outcome)
        self._judge()

    def _settle(self, index: int, outcome: Any) -> None:
        if isinstance(outcome, Failure):
            self._failures += 1
            error = ErrorObject.of(outcome.recorded) if outcome.recorded is not None else None
            self._items[index] = BatchItem(index, BatchItemStatus.FAILED, None, error)
            self._statuses[index] = BatchItemStatus.FAILED
        else:
            self._successes += 1
            self._items[index] = BatchItem(index, BatchItemStatus.SUCCEEDED, outcome)
            self._statuses[index] = BatchItemStatus.SUCCEEDED

    # --- branches ------------------------------------------------------------------------------------------------

    def branch(self, index: int) -> Coroutine[Any, Any, Any]:
        """One run of a branch: its value, or its Failure."""
        if self._started_max < index:
            self._started_max = index
        is_rerun = self._is_replaying or self._statuses[index] is BatchItemStatus.STARTED
        self._statuses[index] = BatchItemStatus.STARTED
        body = self._body
        if self._is_flat:
            return self._flat(index, is_rerun=is_rerun)
        run, record = self._branch_run(index)
        run.inner.is_replaying = is_rerun and record is not None and self._session.journal.begins(run.operation_id)
        return run.outcome(lambda inner: body(index, inner))

    def _of(self, index: int) -> int:
        """Which function a branch runs: a map has one for all."""
        return index if len(self._serdes) > 1 else 0

    def _branch_run(self, index: int) -> tuple[ChildRun[Any], Operation | None]:
        """One run of a branch, and what is recorded of it."""
        scope = self._scope
        assert scope is not None
        name = self._names[index]
        at = operation_id(scope.prefix, index)
        at, record = self._session.journal.begin_at(
            at, scope, OperationType.CONTEXT, self._kind.branch_sub_type, name or None
        )
        run: ChildRun[Any] = ChildRun(self._session, scope, at, name, self._branch_options[self._of(index)])
        return run, record

    async def _flat(self, index: int, *, is_rerun: bool) -> Any:
        """A branch that records nothing itself."""
        scope, session = self._scope, self._session
        assert scope is not None
        at = session.journal.virtual_at(operation_id(scope.prefix, index))
        inner = virtual_scope(session, at, scope, self._names[index], self._kind.branch_sub_type)
        inner.is_replaying = is_rerun and session.journal.begins(at)
        body = self._body
        return await virtual_outcome(session, inner, lambda own: body(index, own), self._serdes[self._of(index)])

    # --- a large result, made again ------------------------------------------------------------------------------

    async def _rebuilt(self, envelope: str | None) -> BatchResult[Any]:
        """The result as it was decided: nothing runs that had not ended then."""
        decided = CompletionRecord.from_summary_payload(envelope, self._total)
        if decided is None:
            raise self._diverged("its record does not say how it was decided")
        for index in range(decided.started_total):
            if index in decided.started_indexes:
                continue
            record = self._session.journal.records.get(operation_id(self._place, index))
            if not self._is_flat and (record is None or not record.is_terminal):
                raise self._diverged(f"its branch {index} ended, and the journal has no end of it")
            self._settle(index, await self.branch(index))
        items = [self._item(index) for index in range(decided.started_total)]
        return BatchResult(items, decided.completion_reason)

    def _diverged(self, why: str) -> NonDeterministicExecutionError:
        journal = self._session.journal
        what = f"{self._kind.sub_type.lower()} in '{journal.execution}'"
        divergence = NonDeterministicExecutionError(f"the result of {what} can't be made again: {why}", self._place)
        journal.divergence = journal.divergence or divergence
        return divergence


class _Branch:
    """A branch as its driver sees it."""

    __slots__ = ("_batch", "index")

    def __init__(self, batch: _Batch, index: int) -> None:
        self._batch = batch
        self.index = index

    def run(self) -> Coroutine[Any, Any, Any]:
        return self._batch.branch(self.index)
