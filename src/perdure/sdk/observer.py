"""What an invocation's plugins are told, and when."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from perdure.model.operation import (
    Operation,
    OperationStatus,
    OperationType,
    OperationUpdate,
)
from perdure.plugin import (
    DurableInstrumentationPlugin,
    InvocationEndInfo,
    InvocationStartInfo,
    OperationChangeInfo,
    OperationEndInfo,
    OperationInfo,
    OperationStartInfo,
    PropagationInput,
    PropagationMetadata,
    UserFunctionEndInfo,
    UserFunctionOutcome,
    UserFunctionStartInfo,
)
from perdure.sdk.changes import Changes
from perdure.sdk.errors import error_object
from perdure.sdk.expected import expected
from perdure.sdk.infos import Facts, Operations, as_object, facts_of, facts_of_record, facts_of_scope, info, moment
from perdure.sdk.journal import Journal
from perdure.sdk.scope import Scope

T = TypeVar("T")
Hook = Callable[[Any], Any]

log: Final = logging.getLogger("perdure")

FATAL: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What a hook may raise: it is not about the hook."""

HOOKS: Final = tuple(name for name in vars(DurableInstrumentationPlugin) if name.startswith(("on_", "provide_")))


class Observer:
    """The plugins of one invocation. Hooks that no plugin overrides cost nothing."""

    def __init__(self, plugins: Sequence[Any], arn: str, journal: Journal, operations: Operations) -> None:
        self._records = journal.records
        self._arn = arn
        self._operations = operations
        self._hooks = {name: [getattr(each, name) for each in plugins if _overrides(each, name)] for name in HOOKS}
        self._starts = self._hooks["on_operation_start"]
        self._ends = self._hooks["on_operation_end"]
        self._function_starts = self._hooks["on_user_function_start"]
        self._function_ends = self._hooks["on_user_function_end"]
        self._propagates = self._hooks["provide_propagation_metadata"]
        self._open: dict[str, Facts] = {}
        self._first_runs: set[str] = set()
        self._closing: set[str] = set()
        self._ended_elsewhere: dict[str, Operation] = {}
        self._is_over = False
        self._changes = Changes(self._tell_changes) if self._hooks["on_operation_change"] else None

    @property
    def watches_operations(self) -> bool:
        """Whether anybody wants to know of single operations."""
        return bool(self._starts or self._ends or self._function_starts or self._function_ends or self._propagates)

    @property
    def watches_records(self) -> bool:
        """Whether anybody wants to know of what is looked up and of what comes in."""
        return self.watches_operations or self._changes is not None

    @property
    def wants_ends(self) -> bool:
        return bool(self._ends)

    @property
    def wants_functions(self) -> bool:
        return bool(self._function_starts or self._function_ends)

    def tell(self, hooks: Sequence[Hook], what: Any) -> None:
        """Call the hooks, whatever they raise."""
        if self._is_over:
            return  # a branch that was left behind
        for hook in hooks:
            try:
                hook(what)
            except FATAL:
                raise
            except BaseException:  # noqa: BLE001 - whatever is wrong with a plugin stays with it
                _log_failure(hook)

    # --- operations ----------------------------------------------------------------------------------------------

    def starting(self, update: OperationUpdate) -> None:
        """The START of an operation is about to be recorded."""
        facts = facts_of(update)
        is_replayed = update.id not in self._open and update.id in self._records
        self._open[update.id] = facts
        if update.type is OperationType.CONTEXT:
            self._first_runs.add(update.id)
        if self._starts:
            self.tell(self._starts, info(OperationStartInfo, facts, is_replayed=is_replayed))

    def met(self, record: Operation) -> None:
        """The code asks for an operation of which there is a record."""
        if record.is_terminal:
            self.claim(record.id)
        elif record.status is not OperationStatus.READY and record.id not in self._open:
            facts = self._open[record.id] = facts_of(record)
            if self._starts:
                began = moment(record.start_ms)
                start = info(OperationStartInfo, facts, is_replayed=True, status=record.status, start_time=began)
                self.tell(self._starts, start)

    def closing(self, update: OperationUpdate) -> None:
        """The code is about to record the end of an operation."""
        self._closing.add(update.id)

    def closed(self, update: OperationUpdate) -> None:
        """It has been recorded."""
        record = self._records.get(update.id)
        if record is None or not record.is_terminal:
            record = expected(update, record, 0)
        if record is not None:
            self._tell_end(record)

    def ended_elsewhere(self, record: Operation) -> None:
        """The service says that an operation has ended: that is told where the code asks for it."""
        if record.id not in self._closing:
            self._ended_elsewhere[record.id] = record

    def claim(self, operation_id: str) -> None:
        """The code has seen that an operation has ended."""
        record = self._ended_elsewhere.pop(operation_id, None)
        if record is not None:
            self._tell_end(record)

    def _tell_end(self, record: Operation) -> None:
        self._open.pop(record.id, None)
        if self._ends:
            self.tell(self._ends, info(OperationEndInfo, facts_of_record(record)))

    def trace_header(self, update: OperationUpdate) -> str | None:
        """What the plugins want a new chained invoke to carry; the first one is heard."""
        heard: str | None = None
        target = PropagationInput(self._arn, update.id, update.function_name or "", update.parent_id)
        for hook in self._propagates:
            try:
                metadata = hook(target)
            except FATAL:
                raise
            except BaseException:  # noqa: BLE001 - whatever is wrong with a plugin stays with it
                _log_failure(hook)
                continue
            header = metadata.x_amzn_trace_id if isinstance(metadata, PropagationMetadata) else None
            if heard is None and isinstance(header, str) and header.strip():
                heard = header
        return heard

    # --- the author's functions ----------------------------------------------------------------------------------

    def function_started(self, facts: Facts, attempt: int | None, *, is_replay_children: bool = False) -> Facts:
        """A function of the author's is about to run; returns what is known of this run."""
        run = {
            **facts,
            "start_time": datetime.now(UTC),
            "attempt": attempt,
            "is_replay_children": is_replay_children,
        }
        if self._function_starts:
            self.tell(self._function_starts, info(UserFunctionStartInfo, run))
        return run

    def body_started(self, operation_id: str, attempt: int) -> Facts:
        """The same for the body of an operation that has begun."""
        return self.function_started(self._open[operation_id], attempt)

    def function_ended(self, run: Facts, error: BaseException | None) -> None:
        """It has returned, or raised `error`."""
        if not self._function_ends:
            return
        outcome, recorded = UserFunctionOutcome.SUCCEEDED, None
        if isinstance(error, Exception):
            outcome, recorded = UserFunctionOutcome.FAILED, as_object(error_object(error))
        elif error is not None:
            outcome = UserFunctionOutcome.INCOMPLETE
        ended = info(UserFunctionEndInfo, run, end_time=datetime.now(UTC), outcome=outcome, error=recorded)
        self.tell(self._function_ends, ended)

    async def within(self, scope: Scope, body: Callable[[Scope], Awaitable[T]]) -> T:
        """Run the body of a context."""
        if not self.watches_operations:
            return await body(scope)
        record = None if scope.is_virtual else self._records.get(scope.prefix)
        is_remade = record is not None and record.is_terminal
        if scope.is_virtual:
            facts = facts_of_scope(scope)
        else:
            facts = self._open[scope.prefix] if record is None or not is_remade else facts_of(record)
        is_first = scope.is_virtual or scope.prefix in self._first_runs
        self._first_runs.discard(scope.prefix)
        run = self.function_started(facts, 1 if is_first else None, is_replay_children=is_remade)
        try:
            result = await body(scope)
        except BaseException as error:
            self.function_ended(run, error)
            if scope.is_virtual and isinstance(error, Exception):
                self._tell_unrecorded_end(facts, OperationStatus.FAILED, error=as_object(error_object(error)))
            raise
        self.function_ended(run, None)
        if scope.is_virtual or is_remade:
            self._tell_unrecorded_end(facts, OperationStatus.SUCCEEDED, is_replayed=is_remade)
        return result

    def _tell_unrecorded_end(self, facts: Facts, status: OperationStatus, **more: Any) -> None:
        """The end of a context that records nothing now: one that is virtual, or whose end is recorded."""
        if self._ends:
            self.tell(self._ends, info(OperationEndInfo, facts, status=status, end_time=datetime.now(UTC), **more))

    # --- changes -------------------------------------------------------------------------------------------------

    def changed(self, records: Sequence[Operation]) -> None:
        """The service has said what has become of these operations."""
        if self._changes is not None and records:
            self._changes.add(records)

    def _tell_changes(self, records: dict[str, Operation]) -> None:
        updated = {each.id: info(OperationInfo, facts_of_record(each)) for each in records.values()}
        self.tell(self._hooks["on_operation_change"], OperationChangeInfo(self._arn, updated, self._operations))

    # --- the invocation ------------------------------------------------------------------------------------------

    def started(self, what: InvocationStartInfo) -> None:
        self.tell(self._hooks["on_invocation_start"], what)

    def finish(self) -> None:
        """Tell all that has not been told."""
        for operation_id in list(self._ended_elsewhere):
            self.claim(operation_id)
        if self._changes is not None:
            self._changes.finish()

    def ended(self, what: InvocationEndInfo) -> None:
        """Tell the end to all plugins, also if one of them wants to end the process; then nothing is told any more."""
        fatal: BaseException | None = None
        for hook in self._hooks["on_invocation_end"]:
            try:
                self.tell([hook], what)
            except FATAL as error:
                fatal = fatal or error
        self._is_over = True
        if fatal is not None:
            raise fatal


def _overrides(plugin: Any, name: str) -> bool:
    own = getattr(type(plugin), name, None)
    return own is not getattr(DurableInstrumentationPlugin, name) or name in getattr(plugin, "__dict__", {})


def _log_failure(hook: Hook) -> None:
    what = getattr(hook, "__qualname__", repr(hook))
    log.exception("a plugin's hook failed; the execution goes on without it", extra={"hook": what})
