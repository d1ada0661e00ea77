"""Defects to be found: each takes one care out of the product, as a slip of the pen would.

They are put into the real functions while a test runs, and nowhere else.
"""

import contextlib
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

import pytest
from msgspec.structs import replace

from perdure.engine import callbacks, checkpoint, commands as cmd, dispatch, draft as drafts, invokes, lifecycle
from perdure.engine.draft import Draft
from perdure.engine.effects import effects_of
from perdure.engine.state import ExecutionState, Head
from perdure.engine.terms import Ids, Terms
from perdure.engine.timers import fire_due
from perdure.model import event as ev
from perdure.model.error import ErrorObject, ResourceNotFound
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import ChainedInvoke, OperationAction, OperationStatus
from perdure.sdk.drivers.blocking import BlockingDriver
from perdure.sdk.operations import step
from perdure.service.hot import Entry
from perdure.service.ledger import Ledger
from perdure.service.loop import Loop
from perdure.service.starting import Started, Starter, StartRequest
from perdure.service.timekeeper import Timekeeper
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Commit

FOLD: Final = import_module("perdure.engine.fold")
DECIDE: Final = import_module("perdure.engine.decide")
"""Two modules whose names are those of their functions in the package."""

Patch = pytest.MonkeyPatch
DEFECTS: Final[dict[str, Callable[[Patch], None]]] = {}


def defect(seed: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """Name it by its docstring."""
    assert seed.__doc__ is not None
    DEFECTS[seed.__doc__.rstrip(".")] = seed
    return seed


# --- who may write -----------------------------------------------------------------------------------------------


@defect
def _no_fence(patch: Patch) -> None:
    """A superseded invocation may write."""

    def holds_right(head: Head, _token: cmd.Token) -> bool:
        return head.in_flight is not None and not head.has_ended

    for module in (checkpoint, dispatch):
        patch.setattr(module, "holds_right", holds_right)


@defect
def _applied_twice(patch: Patch) -> None:
    """A checkpoint that is asked for again is applied again."""
    decide = checkpoint.decide_checkpoint

    def holds_right(head: Head, token: cmd.Token) -> bool:
        now = head.in_flight
        return now is not None and now.epoch == token.epoch and not now.is_revoked and not head.has_ended

    def forgetful(state: ExecutionState, command: cmd.Checkpoint, now_ms: int, ids: Ids, terms: Terms) -> cmd.Decision:
        known, state.delivered = state.delivered, None
        try:
            return decide(state, command, now_ms, ids, terms)
        finally:
            state.delivered = known

    patch.setattr(checkpoint, "holds_right", holds_right)
    patch.setattr(checkpoint, "decide_checkpoint", forgetful)


@defect
def _lease_not_looked_at(patch: Patch) -> None:
    """A node takes over what another one runs, without a look at its lease."""
    command_for = Timekeeper._command_for

    def hasty(self: Timekeeper, execution_id: str) -> cmd.Command:
        found = command_for(self, execution_id)
        if not isinstance(found, cmd.Wake):
            return found
        head = self._ledger.read(execution_id, lambda state: state.head)
        now = head.in_flight
        if now is None or head.has_ended or now.owner == self._loop.owner:
            return found
        return cmd.LoseInvocation(epoch=now.epoch, error=ErrorObject("it is somebody else's"))

    patch.setattr(Timekeeper, "_command_for", hasty)


# --- durable before visible --------------------------------------------------------------------------------------


@defect
def _answer_before_commit(patch: Patch) -> None:
    """A checkpoint is answered before it is on disk."""
    carry_out = Ledger.carry_out
    late: dict[int, list[Commit]] = {}

    def early(self: Ledger, entry: Entry, command: cmd.Command) -> tuple[cmd.Decision, ExecutionState]:
        for commit in late.pop(id(self), ()):
            self.store.append([commit])
        if not isinstance(command, cmd.Checkpoint):
            return carry_out(self, entry, command)
        decision, state = self.think(entry, command)
        if decision.events:
            late[id(self)] = [self.commit_of(state, decision)]
            self._kept(state, decision.events)
        return decision, state

    patch.setattr(Ledger, "carry_out", early)


@defect
def _stale_cache(patch: Patch) -> None:
    """What a failed commit was to hold stays in memory."""

    def trusting(self: Ledger, entry: Entry, command: cmd.Command) -> tuple[cmd.Decision, ExecutionState]:
        for _ in range(100):
            decision, state = self.think(entry, command)
            if not decision.events:
                return decision, state
            if self.store.append([self.commit_of(state, decision)])[0]:
                self._kept(state, decision.events)
                return decision, state
            entry.state = None
        raise AssertionError("too fast")

    patch.setattr(Ledger, "carry_out", trusting)


@defect
def _start_with_the_result(patch: Patch) -> None:
    """The START of an at-most-once step travels with its result."""

    async def start(self: Any) -> None:
        update = self.update(OperationAction.START)
        await self.session.driver.commit(self.scope, update, durable=False)

    patch.setattr(step._Attempt, "start", start)


@defect
def _rest_of_a_batch(patch: Patch) -> None:
    """A batch of more than two updates is cut, and its rest is not sent."""
    send = BlockingDriver._send_gathered

    def cutting(self: Any) -> None:
        del self._buffer[2:]
        send(self)

    patch.setattr(BlockingDriver, "_send_gathered", cutting)


# --- waking up ---------------------------------------------------------------------------------------------------


@defect
def _lost_wake_up(patch: Patch) -> None:
    """The answer to a callback wakes nobody up."""
    patch.setattr(FOLD, "SERVICE_CHANGES", FOLD.SERVICE_CHANGES - {ev.CallbackSucceeded})


@defect
def _ready_but_forgotten(patch: Patch) -> None:
    """An execution that finds no free place is not noted as waiting for one."""
    patch.setattr(Loop, "note_ready", lambda _self, _state: None)


@defect
def _timer_early(patch: Patch) -> None:
    """Timers go off with the second in which they are due."""

    def hasty(draft: Draft, limit: int) -> None:
        now_ms = draft.now_ms
        draft.now_ms = -(-now_ms // 1000) * 1000
        try:
            fire_due(draft, limit)
        finally:
            draft.now_ms = now_ms

    for module in (callbacks, checkpoint, dispatch, invokes, lifecycle):
        patch.setattr(module, "fire_due", hasty)


@defect
def _timer_dropped(patch: Patch) -> None:
    """Timers are forgotten when an execution is read from the disk."""
    read = Ledger.fold

    def forgetful(self: Ledger, execution_id: str, rows: Sequence[bytes]) -> ExecutionState:
        state = read(self, execution_id, rows)
        state.timers.clear()
        return state

    patch.setattr(Ledger, "fold", forgetful)


@defect
def _heartbeat_moves_all(patch: Patch) -> None:
    """A heartbeat begins the time of the whole callback anew."""
    advance = FOLD.advance

    def moving(before: Any, event: ev.OperationEvent, number: int) -> Any:
        after = advance(before, event, number)
        if isinstance(event, ev.CallbackHeartbeat) and after.timeout_ms is not None:
            return replace(after, timeout_ms=event.at_ms + after.timeout_ms - after.start_ms)
        return after

    for module in (FOLD, drafts):
        patch.setattr(module, "advance", moving)


# --- chained executions ------------------------------------------------------------------------------------------


@defect
def _parent_not_told(patch: Patch) -> None:
    """A parent is taken for told before it is."""

    def careless(self: Loop, execution_id: str, effect: cmd.TellParent) -> None:
        parent = effect.parent
        ended = cmd.EndChainedInvoke(operation_id=parent.operation_id, outcome=effect.outcome, child_id=execution_id)
        self.do(execution_id, cmd.ConfirmParentTold(), lambda _state, _decision: None)
        with contextlib.suppress(ResourceNotFound):
            self.do_with_place(parent.execution_id, ended)

    patch.setitem(Loop._deeds, cmd.TellParent, careless)


@defect
def _parent_told_twice(patch: Patch) -> None:
    """A parent that is told twice records it twice."""

    def twice(
        state: ExecutionState, command: cmd.EndChainedInvoke, now_ms: int, _ids: Ids, terms: Terms
    ) -> cmd.Decision:
        draft = Draft(state, now_ms)
        fire_due(draft, terms.limits.timers_per_commit)
        invoke = draft.operation(command.operation_id)
        if draft.head.has_ended or not isinstance(invoke, ChainedInvoke):
            return cmd.Decision(draft.events, effects_of(draft), draft=draft)
        draft.emit(invokes._outcome_event(invoke.id, command.outcome, now_ms, terms))
        dispatch.invoke_if_possible(draft, command.invoker)
        return cmd.Decision(draft.events, effects_of(draft), draft=draft)

    patch.setitem(DECIDE._DECIDERS, cmd.EndChainedInvoke, twice)


@defect
def _child_begun_anew(patch: Patch) -> None:
    """A child that is asked for again is begun again."""
    begin = Starter.begin_child

    def anew(self: Starter, effect: cmd.StartChild, parent: Any) -> None:
        ids, clock = self._ledger.ids, self._ledger.clock
        begin(self, replace(effect, execution_id=ids.execution_id(clock.now_ms())), parent)

    patch.setattr(Starter, "begin_child", anew)


# --- beginnings and ends -----------------------------------------------------------------------------------------


@defect
def _name_twice(patch: Patch) -> None:
    """Names are known to the process alone that has given them."""
    append, existing = MemoryStore._append, Starter._existing

    def careless(self: MemoryStore, commit: Commit) -> bool:
        if commit.is_new and commit.row is not None and commit.row.name is not None:
            self._names.pop((commit.row.function, commit.row.name), None)
        return append(self, commit)

    def ours(self: Starter, request: StartRequest) -> Started | None:
        if request.name is not None:
            known = self._ledger.store.find(request.function, request.name)
            if known not in self._ledger.hot._entries:
                return None
        return existing(self, request)

    patch.setattr(MemoryStore, "_append", careless)
    patch.setattr(Starter, "_existing", ours)


@defect
def _pause_does_not_hold(patch: Patch) -> None:
    """A paused execution is invoked when something happens to it."""

    def can_be_invoked(self: Head, now_ms: int) -> bool:
        return (
            self.status in (ExecutionStatus.RUNNING, ExecutionStatus.PAUSED)
            and self.in_flight is None
            and self.has_work
            and (self.retry_at_ms is None or self.retry_at_ms <= now_ms)
        )

    patch.setattr(Head, "can_be_invoked", can_be_invoked)


@defect
def _stop_overwritten(patch: Patch) -> None:
    """A success that comes after the stop overwrites it."""
    end_with = dispatch.end_with

    def overwriting(draft: Draft, command: cmd.EndInvocation, ids: Ids, terms: Terms) -> None:
        end_with(draft, command, ids, terms)
        if draft.head.status is ExecutionStatus.STOPPED and isinstance(command.outcome, cmd.Succeeded):
            draft.emit(ev.ExecutionSucceeded(draft.now_ms, command.outcome.result))

    patch.setattr(dispatch, "end_with", overwriting)


@defect
def _second_answer(patch: Patch) -> None:
    """The last answer to a callback wins."""
    opened = callbacks._open_callback

    def lenient(state: ExecutionState, callback_id: str, now_ms: int, terms: Terms) -> Any:
        draft, callback, refusal = opened(state, callback_id, now_ms, terms)
        is_answered = callback.status in (OperationStatus.SUCCEEDED, OperationStatus.FAILED)
        return draft, callback, None if is_answered and not draft.head.has_ended else refusal

    patch.setattr(callbacks, "_open_callback", lenient)
