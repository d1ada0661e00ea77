"""Carry a command out and then act: run invocations where there is a place, begin children, tell parents.

What an effect owes to another execution stands in the journal until it is confirmed there; if acting on it fails now,
it is asked for again.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from perdure.engine import commands as cmd
from perdure.engine.history import visible_operations
from perdure.engine.state import ExecutionState, Head
from perdure.engine.timers import next_due_ms, wake_at_ms
from perdure.model import event as ev
from perdure.model.error import ErrorObject, ResourceNotFound, ServiceError, StoreError
from perdure.model.execution import ParentLink
from perdure.model.ids import Home, request_id
from perdure.model.operation import OperationStatus
from perdure.service.agenda import Agenda
from perdure.service.functions import Functions
from perdure.service.hot import Entry
from perdure.service.invocation import Call, Dispatcher, Invocation
from perdure.service.ledger import Ledger
from perdure.store.protocol import Commit

R = TypeVar("R")
BeginChild = Callable[[cmd.StartChild, ParentLink], None]
Look = Callable[..., None]
FILL_MAX: Final = 256
RETRY_MS: Final = 1_000
_UNTOLD: Final = frozenset({cmd.ExecutionEnded})

log: Final = logging.getLogger("perdure.service")


class Loop:
    """The one place where decisions become deeds. `ours` are the epochs of this process's invocations, by execution."""

    def __init__(self, dispatcher: Dispatcher, agenda: Agenda, functions: Functions, home: Home, owner: str) -> None:
        self.agenda = agenda
        self.owner = owner
        self.ours: dict[str, int] = {}
        self.is_closing = False
        self.unended: list[Callable[[], None]] = []
        self._dispatcher = dispatcher
        self._functions = functions
        self._home = home
        self._calls: set[tuple[str, str]] = set()
        self._waiters: dict[str, list[Callable[[], None]]] = {}
        self._lock = threading.Lock()
        self._filling = threading.local()
        self.filler: Callable[[], None] | None = None

    def bind(self, ledger: Ledger, begin_child: BeginChild, look: Look) -> None:
        """Give the loop what is made after it: the ledger, and the ways to begin a child and to look at what is due."""
        self._ledger = ledger
        self._begin_child = begin_child
        self.look = look

    # --- carrying out --------------------------------------------------------------------------------------------

    def do(self, execution_id: str, command: cmd.Command, answer: Callable[[ExecutionState, cmd.Decision], R]) -> R:
        """Carry `command` out and return what `answer` makes of it, after all of it is on disk.

        A place that the command's invoker holds is used by the invocation that it starts, or stays with the caller.
        """
        hot = self._ledger.hot
        entry = hot.pin(execution_id)
        try:
            with entry.lock:
                decision, state = self._ledger.carry_out(entry, command)
                if not decision.events:
                    self._correct(state)
                answered = answer(state, decision)
                invocation = self.invocation_of(state, decision)
                target = state.head.target
        finally:
            hot.unpin(entry)
        if decision.effects:
            self.act(execution_id, target, decision.effects, invocation)
        if decision.refusal is not None:
            raise decision.refusal
        return answered

    def do_soon(self, execution_id: str, command: cmd.Command) -> bool:
        """Carry out the end of an invocation without waiting for the disk; True if another invocation follows at once.

        Until it is on disk the execution is locked: nobody sees it. What can't be kept is tried again. An end with
        effects on others is carried out as usual: who is told of it must not meet locks.
        """
        hot = self._ledger.hot
        entry = hot.pin(execution_id)
        entry.lock.acquire()
        is_handed_over = False
        try:
            decision, state = self._ledger.think(entry, command)
            is_plain = decision.refusal is None and _UNTOLD.issuperset(map(type, decision.effects))
            if decision.events and is_plain:
                try:
                    commit = self._ledger.commit_of(state, decision)
                except BaseException:
                    entry.state = None
                    raise
                is_handed_over = True
                self._ledger.store.append_soon(
                    [commit], lambda answer: self._kept_soon(entry, state, decision, command, answer)
                )
                return False
        finally:
            if not is_handed_over:
                entry.lock.release()
                hot.unpin(entry)
        return self.do(execution_id, command, lambda _state, made: starts_invocation(made))

    def do_told(
        self,
        execution_id: str,
        command: cmd.Command,
        answer: Callable[[ExecutionState, cmd.Decision], R],
        told: Callable[[R | Exception | None], None],
        *,
        waits: bool = False,
    ) -> bool:
        """Carry `command` out without waiting for the disk: `told` is called with what `do` would return or raise.

        It may be called in another thread; here and now, if this `waits`. None says that another process was faster:
        then the command is to be carried out by `do`. So it is if this returns False, and nothing has happened:
        somebody else is busy with the execution, it is not in memory, or the command has effects on others. Raises at
        once what the engine refuses.
        """
        entry = self._ledger.hot.pin(execution_id)
        if entry.state is None or not entry.lock.acquire(blocking=False):
            self._ledger.hot.unpin(entry)
            return False
        is_handed_over = False
        try:
            if entry.state is None:
                return False
            decision, state = self._ledger.think(entry, command)
            if not decision.events or decision.effects or decision.refusal is not None:
                return False
            try:
                commit = self._ledger.commit_of(state, decision)
                answered = answer(state, decision)
            except BaseException:
                entry.state = None
                raise

            def on_disk(kept: list[bool] | StoreError) -> None:
                try:
                    is_kept = self._let_go(entry, state, decision, kept)
                except Exception as error:
                    told(error)
                    raise
                told(answered if is_kept else kept if isinstance(kept, StoreError) else None)

            is_handed_over = True
            if waits:
                on_disk(self._append_now(commit))
            else:
                self._ledger.store.append_soon([commit], on_disk)
            return True
        finally:
            if not is_handed_over:
                entry.lock.release()
                self._ledger.hot.unpin(entry)

    def _append_now(self, commit: Commit) -> list[bool] | StoreError:
        try:
            return self._ledger.store.append([commit])
        except StoreError as error:
            return error
        except Exception as error:
            log.exception("the store met an error of its own")
            return StoreError(f"the store met an error of its own: {error!r}")

    def _let_go(
        self, entry: Entry, state: ExecutionState, decision: cmd.Decision, answer: list[bool] | StoreError
    ) -> bool:
        """The disk has answered: show what is kept, and let go of the execution. Whether it is kept."""
        is_kept = isinstance(answer, list) and answer[0]
        try:
            if is_kept:
                self.kept(state, decision.events)
            else:
                entry.state = None
        finally:
            entry.lock.release()
            self._ledger.hot.unpin(entry)
        return is_kept

    def _kept_soon(
        self,
        entry: Entry,
        state: ExecutionState,
        decision: cmd.Decision,
        command: cmd.Command,
        answer: list[bool] | StoreError,
    ) -> None:
        """The disk has answered."""
        if not self._let_go(entry, state, decision, answer):
            self._again(lambda: self.do_with_place(entry.execution_id, command), answer)
        elif decision.effects:
            self.tell_waiters(entry.execution_id)

    def do_with_place(self, execution_id: str, command: cmd.Command) -> None:
        """Carry out a command that may make the execution runnable, and have it run if there is a place."""
        target = self._ledger.target_of(execution_id)
        has_place = target is not None and self.reserve(target)
        is_used = False
        try:
            is_used = self.do_in_place(execution_id, command, has_place=has_place)
        finally:
            if target is not None and has_place and not is_used:
                self.release(target)
            self.fill_places()

    def do_in_place(self, execution_id: str, command: cmd.Command, *, has_place: bool) -> bool:
        """The same with the place that the caller has, or has not; True if an invocation uses it.

        If there is none and the execution could go on, it waits for one.
        """

        def look(state: ExecutionState, decision: cmd.Decision) -> bool:
            is_used = starts_invocation(decision)
            if not is_used:
                self.note_ready(state)
            return is_used

        return self.do(execution_id, msgspec.structs.replace(command, invoker=self.owner if has_place else None), look)

    def kept(self, state: ExecutionState, events: Sequence[ev.Event]) -> None:
        """Events are on disk: know when to look again, and show them to who watches."""
        head = state.head
        now = head.in_flight
        if now is None:
            self.ours.pop(head.execution_id, None)
        elif now.owner == self.owner and any(type(event) is ev.InvocationStarted for event in events):
            self.ours[head.execution_id] = now.epoch
        due_ms = self._due_ms(state)
        if due_ms is None or due_ms <= self.agenda.covered_until_ms:
            self.agenda.schedule(head.execution_id, head.target, due_ms)
        self._ledger.watching.show(state, events)

    def _due_ms(self, state: ExecutionState) -> int | None:
        """When this process has to look at an execution."""
        now, ledger = state.head.in_flight, self._ledger
        if now is None or now.owner != self.owner:
            return wake_at_ms(state, ledger.clock.now_ms(), ledger.store.lease_ms)
        return next_due_ms(state) if self.runs(state.head) else ledger.clock.now_ms() + RETRY_MS

    def _correct(self, state: ExecutionState) -> None:
        """There was nothing to do: somebody else has done it, or an append of which the store could not say that it
        was kept. What this process believes of the execution may be wrong; what is due later is to be looked at then.
        """
        head = state.head
        if not self.runs(head):
            self.ours.pop(head.execution_id, None)
        due_ms = self._due_ms(state)
        if due_ms is not None and due_ms > self._ledger.clock.now_ms():
            self.agenda.look_by(head.execution_id, head.target, due_ms)

    def expect(self, state: ExecutionState) -> None:
        """An execution is about to be begun, perhaps with an invocation: whoever finds it on disk before this process
        has heard of that must not take it for lost."""
        now = state.head.in_flight
        if now is not None:
            self.ours[state.head.execution_id] = now.epoch

    def unsure(self, state: ExecutionState, events: Sequence[ev.Event]) -> None:
        """Nobody knows whether events are on disk. If they begin an invocation, somebody has to look soon."""
        if any(type(event) is ev.InvocationStarted for event in events):
            head = state.head
            self.agenda.look_by(head.execution_id, head.target, self._ledger.clock.now_ms() + RETRY_MS)

    def runs(self, head: Head) -> bool:
        """Whether the invocation in flight runs in this process. The execution's lock is held.

        One that bears our name and is not known here was written by an append of which the store could not say that it
        was kept: nobody runs it.
        """
        now = head.in_flight
        return now is not None and now.owner == self.owner and self.ours.get(head.execution_id) == now.epoch

    # --- places --------------------------------------------------------------------------------------------------

    def reserve(self, target: str) -> bool:
        """Take a place for an invocation, if there is one. Who gives one back calls `fill_places` afterwards."""
        return not self.is_closing and self._dispatcher.reserve(target)

    def release(self, target: str) -> None:
        self._dispatcher.release(target)

    def note_ready(self, state: ExecutionState) -> None:
        """If the execution could go on, it waits for a place. Who noted one calls `fill_places` without its lock."""
        now_ms = self._ledger.clock.now_ms()
        head = state.head
        if head.can_be_invoked(now_ms) and self._functions.serves(head.function):
            self.agenda.add_ready(head.execution_id, head.target, now_ms)

    def fill_places(self) -> None:
        """Give free places to the executions that have been ready for longest, or have it done by the `filler`.

        Whoever makes an execution ready, or a place free, looks afterwards whether the other is there: none is missed.
        """
        if not self.agenda.ready_count:
            return
        if self.filler is not None:
            self.filler()
        else:
            self.fill_now()

    def fill_now(self) -> None:
        """The same, here: as many at once as there are places."""
        if getattr(self._filling, "now", False):
            return
        self._filling.now = True
        try:
            while ready := self.agenda.pop_ready(self.reserve, self.release, FILL_MAX):
                self.look(ready, Counter(target for _id, target in ready))
        finally:
            self._filling.now = False

    @property
    def has_backlog(self) -> bool:
        """Whether there is work that waits for the thread that asks."""
        return self.agenda.ready_count > 0 or self._dispatcher.has_backlog

    # --- acting --------------------------------------------------------------------------------------------------

    def invocation_of(self, state: ExecutionState, decision: cmd.Decision) -> Invocation | None:
        """Under the entry's lock: the invocation that the decision starts, if it starts one."""
        if not decision.effects or not starts_invocation(decision):
            return None
        head = state.head
        now = head.in_flight
        assert now is not None
        self.ours[head.execution_id] = now.epoch
        return Invocation(
            execution_id=head.execution_id,
            arn=self.arn_of(state),
            name=head.name or head.execution_id,
            function=head.function,
            version=head.version,
            epoch=now.epoch,
            request_id=request_id(head.execution_id, now.epoch),
            token=cmd.Token(now.epoch, now.count),
            input=head.input,
            start_ms=now.start_ms,
            execution_start_ms=head.start_ms,
            operations=visible_operations(state.operations),
            updated_ids=state.updated_ids,
            tenant_id=head.tenant_id,
            trace_header=head.trace_header,
        )

    def act(self, execution_id: str, target: str, effects: Sequence[cmd.Effect], invocation: Invocation | None) -> None:
        """Do what a decision wished for. What can't be done now and is owed is done later."""
        for effect in effects:
            if isinstance(effect, cmd.StartInvocation):
                assert invocation is not None
                self._dispatcher.run(invocation)
                continue
            try:
                self._deeds[type(effect)](self, execution_id, effect)
            except StoreError as error:
                log.warning("an effect failed", extra={"execution": execution_id, "error": str(error)})
                self.agenda.schedule(execution_id, target, self._ledger.clock.now_ms() + RETRY_MS)

    def _end(self, execution_id: str, _effect: cmd.ExecutionEnded) -> None:
        self.tell_waiters(execution_id)

    def _start_child(self, execution_id: str, effect: cmd.StartChild) -> None:
        try:
            self._begin_child(effect, ParentLink(execution_id, effect.operation_id))
        except StoreError:
            raise
        except ServiceError as error:
            outcome = cmd.ChildOutcome(OperationStatus.FAILED, error=ErrorObject(error.message, error.code))
            ended = cmd.EndChainedInvoke(
                operation_id=effect.operation_id, outcome=outcome, child_id=effect.execution_id
            )
            self.do_with_place(execution_id, ended)
        else:
            self.do(execution_id, cmd.ConfirmChild(operation_id=effect.operation_id), _nothing)

    def _call(self, execution_id: str, effect: cmd.CallFunction) -> None:
        key = (execution_id, effect.operation_id)
        with self._lock:
            if key in self._calls:
                return
            self._calls.add(key)

        def answer(result: str | None, error: ErrorObject | None) -> None:
            status = OperationStatus.SUCCEEDED if error is None else OperationStatus.FAILED
            outcome = cmd.ChildOutcome(status, result, error)
            ended = cmd.EndChainedInvoke(operation_id=effect.operation_id, outcome=outcome)
            try:
                self.insist(lambda: self.do_with_place(execution_id, ended))
            finally:
                with self._lock:
                    self._calls.discard(key)

        self._dispatcher.call(Call(effect.function, effect.version, effect.input, answer))

    def _tell_parent(self, execution_id: str, effect: cmd.TellParent) -> None:
        parent = effect.parent
        ended = cmd.EndChainedInvoke(operation_id=parent.operation_id, outcome=effect.outcome, child_id=execution_id)
        try:
            self.do_with_place(parent.execution_id, ended)
        except ResourceNotFound:
            log.info("the invoking execution is gone", extra={"execution": execution_id, "parent": parent.execution_id})
        self.do(execution_id, cmd.ConfirmParentTold(), _nothing)

    _deeds: Final[dict[type[Any], Callable[["Loop", str, Any], None]]] = {
        cmd.ExecutionEnded: _end,
        cmd.StartChild: _start_child,
        cmd.CallFunction: _call,
        cmd.TellParent: _tell_parent,
    }

    def insist(self, act: Callable[[], None]) -> None:
        """Record what must be recorded; while the store can't take it, it is tried again every second."""
        try:
            act()
        except StoreError as error:
            self._again(act, error)
        except ResourceNotFound:
            pass

    def _again(self, act: Callable[[], None], error: object) -> None:
        log.warning("the store can't record an end now", extra={"error": str(error)})
        self.unended.append(act)
        with self.agenda.earlier:
            self.agenda.earlier.notify_all()

    # --- waiting -------------------------------------------------------------------------------------------------

    def wait(self, execution_id: str, timeout_s: float | None) -> bool:
        """Wait until an execution has ended; False if it has not within `timeout_s`."""
        ended = threading.Event()
        forget = self.when_ended(execution_id, ended.set)
        try:
            return ended.wait(timeout_s)
        finally:
            forget()

    def when_ended(self, execution_id: str, told: Callable[[], None]) -> Callable[[], None]:
        """Call `told` once the execution has ended, perhaps at once, in any thread; what is returned calls it off.

        Raises ResourceNotFound if there is no such execution.
        """
        with self._lock:
            self._waiters.setdefault(execution_id, []).append(told)

        def forget() -> None:
            with self._lock:
                waiters = self._waiters.get(execution_id, [])
                if told in waiters:
                    waiters.remove(told)
                    if not waiters:
                        del self._waiters[execution_id]

        try:
            if self._ledger.read(execution_id, _has_ended):
                forget()
                told()
        except BaseException:
            forget()
            raise
        return forget

    def look_for_waiters(self) -> None:
        """Tell those whose executions another process has ended, and nobody has said so."""
        with self._lock:
            waited_for = list(self._waiters)
        for execution_id in waited_for:
            try:
                has_ended = self._ledger.read(execution_id, _has_ended)
            except ResourceNotFound:
                has_ended = True
            except StoreError as error:
                log.warning("an end can't be looked for", extra={"execution": execution_id, "error": str(error)})
                continue
            if has_ended:
                self.tell_waiters(execution_id)

    def tell_waiters(self, execution_id: str) -> None:
        """The execution has ended: whoever waits may go on."""
        with self._lock:
            waiters = self._waiters.pop(execution_id, ())
        for told in waiters:
            told()

    def arn_of(self, state: ExecutionState) -> str:
        head = state.head
        name = head.name or head.execution_id
        return self._home.execution_arn(head.function, head.version, name, head.execution_id)


def starts_invocation(decision: cmd.Decision) -> bool:
    return any(isinstance(effect, cmd.StartInvocation) for effect in decision.effects)


def _nothing(_state: ExecutionState, _decision: cmd.Decision) -> None:
    return None


def _has_ended(state: ExecutionState) -> bool:
    return state.head.has_ended
