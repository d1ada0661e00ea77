"""Load one execution, let the engine decide, commit once.

Within a process the calls of one execution take turns; between processes the number of the next journal row decides who
was first. A state changes in memory just before its events are written, under its lock, and is dropped if they could
not be: so nobody ever sees what is not on disk.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from perdure.engine import commands as cmd, decide
from perdure.engine.adopt import adopt
from perdure.engine.fold import apply, fold
from perdure.engine.state import ExecutionState
from perdure.engine.terms import Ids, Terms
from perdure.engine.timers import wake_at_ms
from perdure.model import event as ev
from perdure.model.error import ResourceNotFound, ServiceError
from perdure.model.function import target_of
from perdure.service.clock import Clock
from perdure.service.hot import Entry, HotCache
from perdure.service.views import expires_at_ms, row_of
from perdure.service.watching import Watching
from perdure.store.packing import pack, unpack
from perdure.store.protocol import Commit, Store

R = TypeVar("R")

CONFLICTS_MAX: Final = 100
"""So often in a row may another node be faster before a call gives up."""

QUIET: Final[frozenset[type[ev.Event]]] = frozenset(
    {
        ev.StepStarted,
        ev.StepSucceeded,
        ev.StepFailed,
        ev.ContextStarted,
        ev.ContextSucceeded,
        ev.ContextFailed,
        ev.WaitStarted,
        ev.WaitSucceeded,
        ev.WaitCancelled,
        ev.StepReady,
        ev.CheckpointAccepted,
        ev.CallbackHeartbeat,
        ev.ChildStarted,
    }
)
"""Events that leave the execution's row as it is while an invocation is in flight."""

Kept = Callable[[ExecutionState, Sequence[ev.Event]], None]


class Ledger:
    """States in memory over journals in a store.

    `kept` is called, under the lock, after every commit; `unsure` after one that may be on disk or not.
    """

    def __init__(
        self, store: Store, clock: Clock, ids: Ids, terms: Terms, kept: Kept, unsure: Kept, hot: HotCache | None = None
    ) -> None:
        self.store = store
        self.clock = clock
        self.ids = ids
        self.terms = terms
        self.hot = hot if hot is not None else HotCache()
        self.watching = Watching(store)
        self._kept = kept
        self._unsure = unsure

    def carry_out(self, entry: Entry, command: cmd.Command) -> tuple[cmd.Decision, ExecutionState]:
        """Under the entry's lock: decide until the append gets its number."""
        for _ in range(CONFLICTS_MAX):
            decision, state = self.think(entry, command)
            if not decision.events:
                return decision, state
            try:
                is_kept = self.store.append([self.commit_of(state, decision)])[0]
            except BaseException:
                entry.state = None
                self._unsure(state, decision.events)
                raise
            if is_kept:
                self._kept(state, decision.events)
                return decision, state
            entry.state = None
        raise _too_fast(entry)

    def think(self, entry: Entry, command: cmd.Command) -> tuple[cmd.Decision, ExecutionState]:
        """Under the entry's lock: decide. If nothing is to happen, or it is refused, that rests on what is on disk."""
        for _ in range(CONFLICTS_MAX):
            state = entry.state
            if state is None:
                state = entry.state = self._load(entry.execution_id)
            try:
                decision = decide(state, command, self.clock.now_ms(), self.ids, self.terms)
            except ServiceError:
                if self._was_behind(entry):
                    continue
                raise
            if decision.events or not self._was_behind(entry):
                return decision, state
        raise _too_fast(entry)

    def _was_behind(self, entry: Entry) -> bool:
        """Whether others have appended what this process did not know of; it knows now.

        What is appended is checked by its number. A refusal, and a decision that nothing happens, append nothing: they
        must not rest on a state that may be old.
        """
        assert entry.state is not None
        seq = entry.state.seq
        return self.refresh(entry).seq != seq

    def think_start(self, command: cmd.Start) -> tuple[ExecutionState, cmd.Decision, Commit]:
        """Decide a start, and make the commit that would put it on disk."""
        decision = decide(None, command, self.clock.now_ms(), self.ids, self.terms)
        state = apply(None, decision.events[0])
        return state, decision, self.commit_of(state, decision, is_new=True)

    def think_past(self, events: Sequence[ev.Event]) -> tuple[ExecutionState, Commit]:
        """The state that the whole journal of a new execution makes, and the commit that would put it on disk."""
        state = fold(events)
        state.seq = 1
        row = row_of(state, wake_at_ms(state, self.clock.now_ms(), self.store.lease_ms))
        return state, Commit(state.head.execution_id, state.seq, pack(events), row, is_new=True)

    def enter(self, state: ExecutionState, events: Sequence[ev.Event]) -> None:
        """Take in the state of an execution whose start is on disk."""
        entry = self.hot.pin(state.head.execution_id)
        try:
            with entry.lock:
                entry.state = state
                self._kept(state, events)
        finally:
            self.hot.unpin(entry)

    def commit_of(self, state: ExecutionState, decision: cmd.Decision, *, is_new: bool = False) -> Commit:
        """Change the state as the decision says, and make the commit that holds its events."""
        events = decision.events
        if decision.draft is not None:
            adopt(state, decision.draft)
        else:
            for event in events:
                apply(state, event)
        state.seq += 1
        row = None
        if is_new or state.head.in_flight is None or not QUIET.issuperset(map(type, events)):
            row = row_of(state, wake_at_ms(state, self.clock.now_ms(), self.store.lease_ms))
        return Commit(state.head.execution_id, state.seq, pack(events), row, is_new)

    # --- reading ---------------------------------------------------------------------------------------------

    def read(self, execution_id: str, reader: Callable[[ExecutionState], R]) -> R:
        """What `reader` makes of the state as it is on disk; ResourceNotFound if there is none."""
        entry = self.hot.pin(execution_id)
        try:
            with entry.lock:
                return reader(self.refresh(entry))
        finally:
            self.hot.unpin(entry)

    def refresh(self, entry: Entry) -> ExecutionState:
        """Under the entry's lock: the state with what other processes have appended meanwhile."""
        state = entry.state
        if state is None:
            state = entry.state = self._load(entry.execution_id)
            return state
        try:
            for data in self._news(state):
                state.seq += 1
                for event in unpack(data, execution_id=entry.execution_id, seq=state.seq):
                    apply(state, event)
            self._check_kept(state)
            self.watching.show(state)
        except BaseException:
            entry.state = None
            raise
        return state

    def _news(self, state: ExecutionState) -> list[bytes]:
        """What others have appended; ResourceNotFound if they have deleted the execution, which leaves no event."""
        execution_id = state.head.execution_id
        news = self.store.read(execution_id, after_seq=state.seq)
        if not news and self.store.row(execution_id) is None:
            raise not_found(execution_id)
        return news

    def forget(self, execution_id: str) -> None:
        """Drop what is in memory of an execution."""
        entry = self.hot.pin(execution_id)
        with entry.lock:
            entry.state = None
        self.hot.unpin(entry)

    def target_of(self, execution_id: str) -> str | None:
        """The target that an execution runs, `function:version`; None if there is no such execution."""
        entry = self.hot.pin(execution_id)
        try:
            state = entry.state
            if state is not None:
                return state.head.target
        finally:
            self.hot.unpin(entry)
        row = self.store.row(execution_id)
        return target_of(row.function, row.version) if row is not None else None

    def _load(self, execution_id: str) -> ExecutionState:
        return self.fold(execution_id, self.store.read(execution_id))

    def fold(self, execution_id: str, rows: Sequence[bytes]) -> ExecutionState:
        """The state that a whole journal makes; ResourceNotFound if it is empty, or past its retention."""
        state: ExecutionState | None = None
        for seq, data in enumerate(rows, 1):
            for event in unpack(data, execution_id=execution_id, seq=seq):
                state = apply(state, event)
        if state is None:
            raise not_found(execution_id)
        state.seq = len(rows)
        self._check_kept(state)
        self.watching.show(state)
        return state

    def _check_kept(self, state: ExecutionState) -> None:
        gone_ms = expires_at_ms(state)
        if gone_ms is not None and gone_ms <= self.clock.now_ms():
            raise not_found(state.head.execution_id)


def _too_fast(entry: Entry) -> ServiceError:
    return ServiceError(f"execution {entry.execution_id} changes too fast to be written", hint="try again")


def not_found(execution_id: str) -> ResourceNotFound:
    hint = "it was never started here, or it is past its retention"
    return ResourceNotFound(f"Durable Execution does not exist: {execution_id}", hint=hint)
