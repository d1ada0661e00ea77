"""Which sandbox runs which task: the warm ones first, new ones when there are too few, none when nothing is to be done.

All of it happens on the loop of the pool. A fleet is the sandboxes of one version of a function; tasks wait in it, and
whichever of its sandboxes is ready first takes the next one. So a burst is worked off by the processes that come up
first, while the others still load.
"""

import asyncio
import contextlib
import os
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from perdure.model.error import ErrorObject, ServiceError
from perdure.model.function import FunctionState, FunctionVersion
from perdure.runtimes.event import error_body
from perdure.runtimes.interpreters import Launch
from perdure.runtimes.runtime_api import Task
from perdure.runtimes.sandbox import EXIT_ERROR, Ending, Ground, Sandbox, Stage, named

STARTS_MAX: Final = max(4, 2 * (os.cpu_count() or 1))
"""So many processes of one version load at once; more would only slow each other down."""
FAILURES_TOLERATED: Final = 2
"""After so many failed starts in a row the next one waits, and what waits with it fails as they did."""
BACK_OFF_S: Final = 0.25
BACK_OFF_MAX_S: Final = 10.0

Prepare = Callable[[FunctionVersion], Awaitable[tuple[Launch, Path]]]
"""Have a version's package unpacked and find out how to run it; raises ServiceError."""


Tell = Callable[[FunctionVersion, ErrorObject | None], None]
"""Hears of a version that can't be loaded, and why; with None, that it can after all."""

Key = tuple[str, str | None]
"""A target, and the tenant if its tenants are kept apart."""


class Work(msgspec.Struct, frozen=True):
    """A task and who is told of its end; that is called once, on the loop."""

    task: Task
    end: Callable[[Ending], None]


class Fleet:
    """The sandboxes of one version; if its tenants are kept apart, those of one tenant."""

    def __init__(self, key: "Key", version: FunctionVersion) -> None:
        self.key = key
        self.version = version
        self.waiting: deque[Work] = deque()
        self.working: dict[str, Work] = {}
        self.idle: list[tuple[Sandbox, asyncio.TimerHandle]] = []
        self.starting: set[Sandbox] = set()
        self.sandboxes: set[Sandbox] = set()
        self.failures = 0
        self.is_known_bad = version.state is FunctionState.FAILED
        self.next_start: asyncio.TimerHandle | None = None

    @property
    def is_unused(self) -> bool:
        return not (self.waiting or self.sandboxes or self.next_start)


class Fleets:
    """All sandboxes of a pool. There are at most `processes_max`, idle ones included."""

    def __init__(
        self, ground: Ground, prepare: Prepare, tell: Tell, *, processes_max: int, idle_s: float, life_s: float
    ) -> None:
        self._tell = tell
        self._ground = ground
        self._prepare = prepare
        self._processes_max = processes_max
        self._idle_s = idle_s
        self._life_s = life_s
        self._loop = asyncio.get_running_loop()
        self._fleets: dict[Key, Fleet] = {}
        self._processes = 0
        self._leaving: set[Sandbox] = set()
        self._is_closing = False
        self._begun: set[asyncio.Task[None]] = set()
        self._owners: dict[Sandbox, Fleet] = {}
        self._gone = asyncio.Event()

    # --- what the pool asks --------------------------------------------------------------------------------------

    def submit(self, version: FunctionVersion, work: Work) -> None:
        """Have `work` done by a sandbox of this version; sandboxes of an older one of the same name are retired."""
        if self._is_closing:
            work.end(stopped())
            return
        fleet = self._fleet_of(version, work.task)
        fleet.waiting.append(work)
        self._serve(fleet)

    def retire(self, target: str) -> None:
        """Let go of the sandboxes of a target: its code has changed, or it is gone. What runs may end."""
        for fleet in [one for key, one in self._fleets.items() if key[0] == target]:
            self._retire(fleet)

    async def close(self, timeout_s: float) -> bool:
        """Start nothing more; what runs has `timeout_s` to end, and is killed then. False if something was."""
        self._is_closing = True
        for fleet in list(self._fleets.values()):
            while fleet.waiting:
                fleet.waiting.popleft().end(stopped())
            self._retire(fleet)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_gone(), timeout_s)
        is_quiet = not any(fleet.working for fleet in self._owners.values())
        for sandbox in list(self._owners):
            sandbox.close()
        await self._all_gone()
        return is_quiet

    async def _all_gone(self) -> None:
        while self._owners:
            self._gone.clear()
            await self._gone.wait()

    # --- giving work ---------------------------------------------------------------------------------------------

    def _fleet_of(self, version: FunctionVersion, task: Task) -> Fleet:
        key = (version.target, task.tenant_id if version.is_tenant_isolated else None)
        fleet = self._fleets.get(key)
        if fleet is None or not fleet.version.runs_like(version):
            waiting: deque[Work] = deque()
            if fleet is not None:
                waiting, fleet.waiting = fleet.waiting, waiting
                self._retire(fleet)
            fleet = self._fleets[key] = Fleet(key, version)
            fleet.waiting = waiting
        return fleet

    def _retire(self, fleet: Fleet) -> None:
        if fleet.next_start is not None:
            fleet.next_start.cancel()
            fleet.next_start = None
        for sandbox, timer in fleet.idle:
            timer.cancel()
            sandbox.retire()
        fleet.idle.clear()
        for sandbox in fleet.sandboxes:
            sandbox.retire()
        if self._fleets.get(fleet.key) is fleet and not fleet.waiting:
            del self._fleets[fleet.key]

    def _serve(self, fleet: Fleet) -> None:
        """Give waiting work to idle sandboxes, the one used last first; start more if it still waits."""
        while fleet.waiting and fleet.idle:
            sandbox, timer = fleet.idle.pop()
            timer.cancel()
            if sandbox.stage is not Stage.IDLE:
                continue
            work = fleet.waiting.popleft()
            fleet.working[sandbox.id] = work
            sandbox.give(work.task)
        while fleet.next_start is None and len(fleet.starting) < min(len(fleet.waiting), STARTS_MAX):
            if self._processes >= self._processes_max:
                self._make_room()
                return
            self._start(fleet)

    def _serve_all(self) -> None:
        for fleet in [one for one in self._fleets.values() if one.waiting]:
            self._serve(fleet)

    def _make_room(self) -> None:
        """End the sandbox that has been idle for longest, of whatever function, unless enough are leaving already."""
        if len(self._leaving) >= sum(len(fleet.waiting) for fleet in self._fleets.values()):
            return
        oldest = min(
            ((timer.when(), fleet) for fleet in self._fleets.values() for _, timer in fleet.idle[:1]),
            key=lambda found: found[0],
            default=None,
        )
        if oldest is not None:
            sandbox, timer = oldest[1].idle.pop(0)
            timer.cancel()
            self._leaving.add(sandbox)
            sandbox.close()

    def _start(self, fleet: Fleet) -> None:
        sandbox = Sandbox(uuid.uuid4().hex, fleet.version, self._ground, self)
        self._processes += 1
        fleet.sandboxes.add(sandbox)
        fleet.starting.add(sandbox)
        self._owners[sandbox] = fleet
        begun = self._loop.create_task(self._begin(sandbox))
        self._begun.add(begun)
        begun.add_done_callback(self._begun.discard)

    async def _begin(self, sandbox: Sandbox) -> None:
        try:
            launch, root = await self._prepare(sandbox.version)
        except ServiceError as error:
            sandbox.fail(ErrorObject(error.message, error.code))
            return
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
            sandbox.fail(ErrorObject(f"the function's code can't be had: {error!r}", "Runtime.Unknown"))
            return
        await sandbox.begin(launch, root)

    # --- what sandboxes tell -------------------------------------------------------------------------------------

    def is_ready(self, sandbox: Sandbox) -> None:
        fleet = self._owners[sandbox]
        fleet.starting.discard(sandbox)
        if fleet.is_known_bad:
            fleet.is_known_bad = False
            self._tell(fleet.version, None)
        if sandbox.age_s > self._life_s and sandbox.has_worked:
            sandbox.close()
            return
        timer = self._loop.call_later(self._idle_s, self._reap, fleet, sandbox)
        fleet.idle.append((sandbox, timer))
        self._serve(fleet)
        if fleet.idle and self._processes >= self._processes_max:
            self._serve_all()

    def _reap(self, fleet: Fleet, sandbox: Sandbox) -> None:
        fleet.idle = [one for one in fleet.idle if one[0] is not sandbox]
        sandbox.close()

    def has_ended_task(self, sandbox: Sandbox, task: Task, ending: Ending) -> None:
        fleet = self._owners[sandbox]
        fleet.failures = 0
        fleet.working.pop(sandbox.id).end(ending)

    def has_not_delivered(self, sandbox: Sandbox, task: Task) -> None:
        """The process has ended without having seen its task: another one takes it."""
        old = self._owners[sandbox]
        work = old.working.pop(sandbox.id)
        if self._is_closing:
            work.end(stopped())
            return
        fleet = self._fleets.get(old.key) or self._fleet_of(old.version, task)
        fleet.failures += 1
        fleet.waiting.appendleft(work)
        if fleet.failures > FAILURES_TOLERATED:
            self._fail(fleet, 1, ErrorObject("the function's process asks for events and ends", EXIT_ERROR), b"")

    def has_failed_to_begin(self, sandbox: Sandbox, error: ErrorObject, tail: bytes) -> None:
        """The work that it was started for fails as it did; if that goes on, all that waits does."""
        fleet = self._owners[sandbox]
        fleet.starting.discard(sandbox)
        if sandbox.is_retiring:
            return
        fleet.failures += 1
        is_hopeless = fleet.failures > FAILURES_TOLERATED
        if not fleet.is_known_bad:
            fleet.is_known_bad = True
            self._tell(fleet.version, error)
        if is_hopeless and fleet.next_start is None:
            delay_s = min(BACK_OFF_S * 2.0 ** min(fleet.failures - FAILURES_TOLERATED, 10), BACK_OFF_MAX_S)
            fleet.next_start = self._loop.call_later(delay_s, self._start_again, fleet)
        self._fail(fleet, len(fleet.waiting) if is_hopeless else 1, error, tail)

    def _fail(self, fleet: Fleet, count: int, error: ErrorObject, tail: bytes) -> None:
        for _ in range(min(count, len(fleet.waiting))):
            work = fleet.waiting.popleft()
            cause = ErrorObject(named(error, work.task), error.type, None, error.stack_trace)
            work.end(Ending(error_body(cause, work.task.request_id), cause, is_broken=True, tail=tail))

    def _start_again(self, fleet: Fleet) -> None:
        fleet.next_start = None
        self._serve(fleet)
        self._forget_if_unused(fleet)

    def has_ended(self, sandbox: Sandbox) -> None:
        fleet = self._owners.pop(sandbox)
        self._leaving.discard(sandbox)
        fleet.sandboxes.discard(sandbox)
        fleet.starting.discard(sandbox)
        for one, timer in fleet.idle:
            if one is sandbox:
                timer.cancel()
        fleet.idle = [one for one in fleet.idle if one[0] is not sandbox]
        self._processes -= 1
        if not self._owners:
            self._gone.set()
        self._serve_all()
        self._forget_if_unused(fleet)

    def _forget_if_unused(self, fleet: Fleet) -> None:
        if fleet.is_unused and self._fleets.get(fleet.key) is fleet:
            del self._fleets[fleet.key]


def stopped() -> Ending:
    """The end of what has not been begun before the end of the server."""
    error = ErrorObject("the server was stopped before the function ran", EXIT_ERROR)
    return Ending(b"", error, is_broken=True, is_lost=True)
