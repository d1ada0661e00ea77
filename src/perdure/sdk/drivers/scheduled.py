"""A blocking driver whose branches take turns as a seed says: the same seed, the same order of everything.

One branch at a time has the turn, whatever the number of threads. It may pass to another one where, in production, a
thread may be overtaken: before and after a body, before and after a call of the service. How often it does is drawn
anew for each invocation: some run nearly branch after branch, in others every step is torn from the next.
"""

import random
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from perdure.exceptions import BackgroundThreadError, OrphanedChildException, SuspendExecution
from perdure.model.operation import OperationUpdate
from perdure.sdk.client import Client
from perdure.sdk.drivers.blocking import BlockingDriver
from perdure.sdk.drivers.crew import Crew, Ended, Group, Unit
from perdure.sdk.drivers.hands import HANDS
from perdure.sdk.drivers.linger import Linger
from perdure.sdk.invocation import DriverOf
from perdure.sdk.journal import Journal
from perdure.sdk.scope import Scope

T = TypeVar("T")

RESTLESSNESS: Final = (0.05, 0.3, 1.0)
"""How likely the turn is offered to others where it may pass."""

HERE_SHARE: Final = 0.5
"""How often a branch runs in the thread of whoever waits for it, which is cheaper than a thread of its own."""

EARLY_SHARE: Final = 0.1
"""How often a START is sent before its body runs, as `Linger` has it sent in production while a body takes long."""

STACKS_MAX: Final = 16
"""So many branches are begun at once, unless all of them wait."""

_ENDS: Final = (SuspendExecution, OrphanedChildException, BackgroundThreadError)
"""What ends a branch, or the invocation, by the rules. Anything else that is no Exception is the process dying."""


def scheduled(rng: random.Random, now_ms: Callable[[], int] | None = None) -> DriverOf:
    """What makes the drivers of invocations that are scheduled by `rng`, and by nothing else.

    With a clock, branches that wait for a moment which has come meanwhile go on in the same invocation.
    """

    def driver_of(client: Client, journal: Journal, _linger: Linger | None) -> BlockingDriver:
        return ScheduledDriver(client, journal, rng, now_ms)

    return driver_of


class ScheduledDriver(BlockingDriver):
    """Bodies that wait for each other, by anything else than durable operations, wait for ever."""

    def __init__(
        self, client: Client, journal: Journal, rng: random.Random, now_ms: Callable[[], int] | None = None
    ) -> None:
        super().__init__(client, journal)
        self._rng = rng
        self._now_ms = now_ms
        self._turns: Turns | None = None

    def _new_crew(self) -> Crew:
        self._turns = Turns(self._journal.records.get, self.refresh, self._rng, self._now_ms)
        return self._turns

    async def call(self, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        if self._buffer and self._rng.random() < EARLY_SHARE:
            self._send(self._added)
        turns = self._turns
        if turns is None:
            return await super().call(body, function)
        try:
            result = await super().call(body, function)
        except BaseException as error:
            turns.noted(error)
            turns.about_to_block()
            raise
        turns.about_to_block()
        return result

    def _send_gathered(self) -> None:
        try:
            super()._send_gathered()
        except BaseException as error:
            if self._turns is not None:
                self._turns.noted(error)
            raise

    def _take(self, number: int, *, durable: bool) -> None:
        super()._take(number, durable=durable)
        if self._turns is not None:
            self._turns.about_to_block()

    def collect(self, scope: Scope) -> None:
        if self._turns is not None:
            self._turns.about_to_block()
        super().collect(scope)

    def finish(self) -> list[OperationUpdate]:
        if self._turns is not None:
            self._turns.end()
        return super().finish()


class Stack:
    """A thread in the middle of a branch, or of the handler; it waits for `turn`."""

    __slots__ = ("turn",)

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.turn.acquire()


class Turns(Crew):
    """Who is running, who could, and who waits. Made by the handler's thread, which has the first turn.

    Whoever has the turn is alone: its state needs no lock.
    """

    def __init__(
        self,
        look: Callable[[str], Any],
        refresh: Callable[[], None],
        rng: random.Random,
        now_ms: Callable[[], int] | None,
    ) -> None:
        super().__init__(look, refresh)
        self.rng = rng
        self._restlessness = rng.choice(RESTLESSNESS)
        self._now_ms = now_ms
        self._main = self._running_stack = Stack()
        self._ready: list[Stack] = []
        self._begun: list[Stack] = []
        self._groups: list[TurnGroup] = []
        self._asked_ms = -1
        self.fatal: BaseException | None = None
        """Why nothing may go on any more: the process has died, or the handler has ended."""

    # --- what a crew does ----------------------------------------------------------------------------------------

    def group(self) -> Group:
        group = TurnGroup(self)
        self._groups.append(group)
        return group

    def forget(self, group: Group) -> None:
        super().forget(group)
        self._groups = [each for each in self._groups if each is not group]

    def put(self, unit: Unit) -> None:
        unit.group.queue.append(unit)
        self.queued += 1

    def about_to_block(self) -> None:
        """The turn may pass to somebody else, and come back."""
        if self.fatal is not None:
            raise self.fatal
        if not (self._ready or self.queued) or self.rng.random() >= self._restlessness:
            return
        self._look_at_the_clock()
        me = self._running_stack
        others = self._others()
        chosen = int(self.rng.random() * (len(others) + 1))
        if chosen < len(others):
            self._ready.append(me)
            self._hand_over(others[chosen])
            self.wait_for_turn(me)

    def run(self, unit: Unit) -> None:
        super().run(unit)
        group = unit.group
        assert isinstance(group, TurnGroup)
        if group.ended:
            self.noted(group.ended[-1].error)
        if group.waiter is not None:
            self._ready.append(group.waiter)
            group.waiter = None

    def noted(self, error: BaseException | None) -> None:
        """Somebody has raised an error: if the process dies of it, the others do nothing more either."""
        if error is not None and not isinstance(error, (Exception, *_ENDS)):
            self.fatal = self.fatal or error

    # --- turns ---------------------------------------------------------------------------------------------------

    def wait_for(self, group: "TurnGroup") -> None:
        """Let others go on until something has become of a group."""
        self._look_at_the_clock()
        if group.queue and not group.running:
            return  # a moment has come
        me = group.waiter = self._running_stack
        others = self._others() or self._queues()
        self._hand_over(others[int(self.rng.random() * len(others))])
        self.wait_for_turn(me)

    def runs_here(self, group: "TurnGroup") -> bool:
        """Whether one of the group's queued units runs in the thread of its waiter."""
        if len(group.queue) == 1 and not group.running:
            return True
        return len(self._begun) >= STACKS_MAX or self.rng.random() < HERE_SHARE

    def wait_for_turn(self, stack: Stack) -> None:
        stack.turn.acquire()
        if self.fatal is not None:
            raise self.fatal

    def take_any(self, group: Group) -> Unit:
        """One of the queued units of a group, to be run by the caller."""
        number = int(self.rng.random() * len(group.queue))
        unit = group.queue[number]
        del group.queue[number]
        self.queued -= 1
        self.begin(unit)
        return unit

    def _others(self) -> "list[Stack | Group]":
        """Who could go on instead, in an order that depends on nothing but turns."""
        return [*self._ready, *(self._queues() if len(self._begun) < STACKS_MAX else ())]

    def _queues(self) -> "list[Stack | Group]":
        return [group for group in self._groups if group.queue] if self.queued else []

    def _hand_over(self, to: "Stack | Group") -> None:
        if isinstance(to, Group):
            unit = self.take_any(to)
            stack = Stack()
            self._begun.append(stack)
            self._running_stack = stack
            HANDS.run(lambda: self._go_through(unit, stack))
        else:
            if to in self._ready:
                self._ready.remove(to)
            self._running_stack = to
            to.turn.release()

    def _go_through(self, unit: Unit, stack: Stack) -> None:
        """Run a unit in a thread of its own, and others after it for as long as the turn goes to them."""
        while True:
            self.run(unit)
            if self.fatal is not None:
                next_one: Stack | Group = self._main
            else:
                others = self._others() or self._queues()
                next_one = others[int(self.rng.random() * len(others))]
            if isinstance(next_one, Stack):
                self._begun.remove(stack)
                self._hand_over(next_one)
                return
            unit = self.take_any(next_one)

    def _look_at_the_clock(self) -> None:
        """If the moment of a parked branch has come, ask the service whether it may go on."""
        if self._now_ms is None:
            return
        now_ms = self._now_ms()
        if now_ms == self._asked_ms:
            return
        if any((due_ms := group.due_ms()) is not None and due_ms <= now_ms for group in self._groups):
            self._asked_ms = now_ms
            self.refresh()

    def end(self) -> None:
        """The handler has ended: what is in the middle of something gets to where nothing may be done any more."""
        self.fatal = self.fatal or OrphanedChildException("the invocation has ended", "")
        for group in list(self._groups):
            self.forget(group)
        while self._begun:
            self._hand_over(self._begun[0])
            self._main.turn.acquire()


class TurnGroup(Group):
    """Units of one waiter, which lets them have their turns."""

    __slots__ = ("_turns", "waiter")

    def __init__(self, turns: Turns) -> None:
        super().__init__(turns)
        self._turns = turns
        self.waiter: Stack | None = None

    def next(self) -> Ended:
        turns = self._turns
        while True:
            if turns.fatal is not None:
                raise turns.fatal
            if self.ended:
                return self.ended.popleft()
            if not self.running and not self.queue:
                raise self.suspension()
            if self.queue and turns.runs_here(self):
                turns.run(turns.take_any(self))
            else:
                turns.wait_for(self)
