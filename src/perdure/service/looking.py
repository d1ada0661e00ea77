"""Look at many executions at once: one read for all that are not in memory, one commit for all that change.

Whoever holds the locks of several executions never waits for one: what somebody else is busy with is looked at alone,
afterwards.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from perdure.engine import commands as cmd, decide
from perdure.engine.state import ExecutionState
from perdure.model import event as ev
from perdure.model.error import ResourceNotFound, ServiceError, StoreError
from perdure.service.hot import Entry
from perdure.service.invocation import Invocation
from perdure.service.ledger import Ledger
from perdure.service.loop import RETRY_MS, Loop, starts_invocation
from perdure.store.protocol import Commit

log: Final = logging.getLogger("perdure.service")

_ONLY_RUNNABLE: Final = frozenset({ev.WaitSucceeded, ev.StepReady})
"""Events that make an execution runnable and are no news to anybody before it runs."""


class Places:
    """Places that were reserved and are not used yet; more are reserved as they are asked for."""

    def __init__(self, loop: Loop, reserved: Mapping[str, int]) -> None:
        self._loop = loop
        self._reserved = Counter(reserved)

    def take(self, target: str) -> bool:
        if self._reserved[target]:
            self._reserved[target] -= 1
            return True
        return self._loop.reserve(target)

    def give_back(self, target: str) -> None:
        self._reserved[target] += 1

    def release(self) -> None:
        for target in self._reserved.elements():
            self._loop.release(target)
        self._reserved.clear()


class _Look(msgspec.Struct):
    """An execution that is looked at, and what is decided about it. Its lock is held."""

    entry: Entry
    target: str
    state: ExecutionState | None = None
    decision: cmd.Decision | None = None
    commit: Commit | None = None
    invocation: Invocation | None = None
    uses_place: bool = False
    is_kept: bool = False


class Looker:
    """`alone` looks at one execution, waiting for its lock; True if it used the place that it was given."""

    def __init__(self, ledger: Ledger, loop: Loop, alone: Callable[..., bool]) -> None:
        self._ledger = ledger
        self._loop = loop
        self._alone = alone

    def look(self, items: Sequence[tuple[str, str]], reserved: Mapping[str, int] | None = None) -> None:
        """Let happen what is due, and have run what can run as far as there are places.

        `items` are executions with their targets; `reserved` says how many places of each have been taken for them.
        """
        if len(items) == 1:
            self._look_alone(items, Places(self._loop, reserved or {}))
            return
        places = Places(self._loop, reserved or {})
        held: list[_Look] = []
        left: list[tuple[str, str]] = []
        hot = self._ledger.hot
        for execution_id, target in items:
            entry = hot.pin(execution_id)
            if entry.lock.acquire(blocking=False):
                held.append(_Look(entry, target))
            else:
                hot.unpin(entry)
                left.append((execution_id, target))
        try:
            self._decide(held, places, left)
            self._keep([look for look in held if look.commit is not None], places, left)
        except StoreError as error:
            self._later(held, error)
            for look in held:
                if look.state is not None and look.decision is not None:
                    self._loop.unsure(look.state, look.decision.events)
        finally:
            for look in held:
                self._drop_unkept(look, places)
                look.entry.lock.release()
                hot.unpin(look.entry)
        for look in held:
            if look.is_kept and look.decision is not None and look.decision.effects:
                self._loop.act(look.entry.execution_id, look.target, look.decision.effects, look.invocation)
        self._look_alone(left, places)

    def _look_alone(self, items: Sequence[tuple[str, str]], places: Places) -> None:
        for execution_id, target in items:
            has_place = places.take(target)
            if not self._alone(execution_id, target, has_place=has_place) and has_place:
                places.give_back(target)
        places.release()

    def _decide(self, held: Sequence[_Look], places: Places, left: list[tuple[str, str]]) -> None:
        """Think about each; those that need more than a look are left."""
        ledger, loop = self._ledger, self._loop
        cold = [look.entry.execution_id for look in held if look.entry.state is None]
        journals = ledger.store.read_many(cold) if cold else {}
        now_ms = ledger.clock.now_ms()
        for look in held:
            entry = look.entry
            if entry.state is None:
                rows = journals.get(entry.execution_id)
                if rows is None:
                    continue
                try:
                    entry.state = ledger.fold(entry.execution_id, rows)
                except ResourceNotFound:
                    continue
                except StoreError:
                    left.append((entry.execution_id, look.target))  # damaged: looked at alone, it harms no other
                    continue
            state = entry.state
            now = state.head.in_flight
            if now is not None and not state.head.has_ended and not loop.runs(state.head):
                left.append((entry.execution_id, look.target))
                continue
            has_place = places.take(look.target)
            command = cmd.Wake(invoker=loop.owner if has_place else None)
            try:
                decision = decide(state, command, now_ms, ledger.ids, ledger.terms)
            except ServiceError:
                decision = cmd.Decision()
            look.uses_place = has_place and starts_invocation(decision)
            if has_place and not look.uses_place:
                places.give_back(look.target)
            if not decision.events and not has_place and state.head.can_be_invoked(now_ms):
                loop.note_ready(state)
            elif not decision.events:
                left.append((entry.execution_id, look.target))
            elif not has_place and now is None and _ONLY_RUNNABLE.issuperset(map(type, decision.events)):
                loop.agenda.add_ready(entry.execution_id, look.target, now_ms)
            else:
                look.state, look.decision = state, decision
                look.commit = ledger.commit_of(state, decision)

    def _keep(self, looks: Sequence[_Look], places: Places, left: list[tuple[str, str]]) -> None:
        """Put all that was decided on disk."""
        if not looks:
            return
        loop = self._loop
        answers = self._ledger.store.append([look.commit for look in looks if look.commit is not None])
        for look, is_kept in zip(looks, answers, strict=True):
            assert look.state is not None
            assert look.decision is not None
            look.is_kept = is_kept
            if is_kept:
                loop.kept(look.state, look.decision.events)
                look.invocation = loop.invocation_of(look.state, look.decision)
                if look.invocation is None:
                    loop.note_ready(look.state)
            else:
                left.append((look.entry.execution_id, look.target))

    def _drop_unkept(self, look: _Look, places: Places) -> None:
        """What was decided and is not on disk, for whatever reason, must not stay in memory either."""
        if look.decision is not None and not look.is_kept:
            look.entry.state = None
            if look.uses_place:
                places.give_back(look.target)

    def _later(self, held: Sequence[_Look], error: StoreError) -> None:
        """The store can't be read or written now: somebody looks again in a second."""
        log.warning("executions could not be looked at", extra={"executions": len(held), "error": str(error)})
        again_ms = self._ledger.clock.now_ms() + RETRY_MS
        for look in held:
            self._loop.agenda.schedule(look.entry.execution_id, look.target, again_ms)
