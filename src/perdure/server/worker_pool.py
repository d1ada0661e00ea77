"""The dispatcher of functions whose code workers have: what is to be run goes into the answers to their polls.

A worker that is not heard of any more loses what it ran, and others take that over; what it still says is refused. A
poll waits on the server's loop and takes no thread. The service, whose answers wait for the disk, is asked in the API's
threads, or in a few of the pool's own.
"""

import asyncio
import base64
import contextlib
import logging
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec

from perdure.engine import commands as cmd, tokens
from perdure.model.error import (
    ErrorObject,
    InvalidParameterValue,
    ResourceConflict,
    ResourceNotFound,
    ServiceError,
    StaleToken,
    TooManyRequests,
)
from perdure.model.function import FunctionVersion, Host, target_of
from perdure.model.ids import check, execution_key
from perdure.server.roster import CodeKey, Line, Member, Parcel, Roster, key_of, lines, was_sent
from perdure.service.invocation import Call, Invocation
from perdure.service.registry import Registry
from perdure.service.service import Service
from perdure.wire.workers import (
    Called,
    CallEnded,
    End,
    Ended,
    Invoked,
    Join,
    Joined,
    Offer,
    Poll,
    Polled,
    encode,
    write_operations,
)

log: Final = logging.getLogger("perdure.server")

POLL_S: Final = 5.0
PAGE_BYTES: Final = 5 * 1024 * 1024
"""How many bytes of operations travel with an invocation; the worker fetches the others."""
HANDS: Final = 8
FUNCTIONS_MAX: Final = 1_000
PLACES_MAX: Final = 100_000
TIMEOUT_S_MAX: Final = 86_400

_ID: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_SHOWN: Final = re.compile(r"[\x20-\x7E]{0,100}")
_GONE: Final = "Runtime.ExitError"
_TIMED_OUT: Final = "Sandbox.Timedout"


class WorkerPool:
    """Runs invocations in workers. Safe to use from any thread; `poll` on the server's loop. To be closed."""

    def __init__(self, registry: Registry, now_s: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._now_s = now_s
        self._lock = threading.Condition()
        self._roster = Roster()
        self._calls: dict[str, deque[tuple[float, Call]]] = {}
        self._missed: set[str] = set()
        self._is_closing = False
        self._service: Service | None = None
        self._hands = ThreadPoolExecutor(HANDS, "perdure-workers")
        self._thread = threading.Thread(target=self._watch, name="perdure-worker-watch", daemon=True)

    def bind(self, service: Service) -> None:
        """Give the pool the service whose invocations it runs."""
        self._service = service
        self._thread.start()

    @property
    def service(self) -> Service:
        assert self._service is not None, "bind the pool to its service first"
        return self._service

    # --- the dispatcher ------------------------------------------------------------------------------------------

    def reserve(self, target: str) -> bool:
        version = self._version(target)
        if version is None:
            return False
        with self._lock:
            if self._is_closing:
                return False
            key = key_of(version)
            is_reserved = self._roster.reserve(target, key)
            is_missed = not is_reserved and target not in self._missed and not self._roster.has_worker(key)
            if is_missed:
                self._missed.add(target)
        if is_missed:
            log.warning("executions wait: no worker has the code", extra={"target": target})
        return is_reserved

    has_backlog = False

    def release(self, target: str) -> None:
        with self._lock:
            member = self._roster.reserved(target)
            if member is not None:
                self._roster.give_back(member, is_async=member.lanes[target.rpartition(":")[0]])
        self._start_calls()

    def run(self, invocation: Invocation) -> None:
        """Send an invocation to the worker in which a place was reserved, or to another; else hand it back."""
        target = target_of(invocation.function, invocation.version)
        version = self._version(target)
        if version is None:
            self._hand_back(invocation)
            return
        key = key_of(version)
        data = self._written(invocation, version)
        with self._lock:
            member = self._taken(target, key)
            if member is not None:
                self._roster.send(Parcel(invocation.request_id, invocation, key, data, version.timeout_s, member))
                self._lock.notify()
        if member is None:
            self._hand_back(invocation)

    def call(self, call: Call) -> None:
        """Have a plain function called. It waits for a place as long as it may take."""
        target = target_of(call.function, call.version)
        version = self._version(target)
        if version is None:
            call.answer(None, ErrorObject(f"Function not found: {target}", ResourceNotFound.code))
            return
        with self._lock:
            self._calls.setdefault(target, deque()).append((self._now_s() + version.timeout_s, call))
            self._lock.notify()
        self._start_calls()

    def why_waiting(self, target: str) -> str | None:
        """Why an execution of a target has no place; None if that is not this pool's affair."""
        version = self._version(target)
        if version is None or version.host is not Host.WORKER:
            return None
        with self._lock:
            if self._roster.has_worker(key_of(version)):
                return f"all places of the workers that have the code of {target} are taken"
        return f"no worker has the code of {target}"

    def _version(self, target: str) -> FunctionVersion | None:
        function, _, version = target.rpartition(":")
        return self._registry.find(function, version)

    def _taken(self, target: str, key: CodeKey) -> Member | None:
        """The worker in which a place was reserved, or another if that is gone; under the lock."""
        member = self._roster.reserved(target)
        if member is None or (self._roster.is_there(member) and member.is_able):
            return member
        self._roster.give_back(member, is_async=member.lanes[key[0]])
        return self._roster.roomiest(key)

    def _written(self, invocation: Invocation, version: FunctionVersion) -> bytes:
        operations = write_operations(invocation.operations, PAGE_BYTES)
        is_whole = len(operations) == len(invocation.operations)
        key = execution_key(invocation.execution_id)
        return encode(
            Invoked(
                request_id=invocation.request_id,
                arn=invocation.arn,
                execution_id=invocation.execution_id,
                name=invocation.name,
                function=invocation.function,
                version=invocation.version,
                token=tokens.mint(self.service.store.secret, key, invocation.token),
                epoch=invocation.epoch,
                input=invocation.input,
                start_ms=invocation.start_ms,
                execution_start_ms=invocation.execution_start_ms,
                operations=operations,
                marker="" if is_whole else str(len(operations) + 1),  # the EXECUTION operation is before them
                updated_ids=invocation.updated_ids,
                tenant_id=invocation.tenant_id,
                trace_header=invocation.trace_header,
                timeout_s=version.timeout_s,
            )
        )

    def _start_calls(self) -> None:
        """Send calls that wait to workers that have places for them. Calls come before executions."""
        for target in list(self._calls):
            version = self._version(target)
            if version is None:
                continue
            with self._lock:
                waiting = self._calls.get(target)
                while waiting and (member := self._roster.roomiest(key_of(version))) is not None:
                    _, call = waiting.popleft()
                    self._send_call(call, version, member)
                if waiting is not None and not waiting:
                    del self._calls[target]

    def _send_call(self, call: Call, version: FunctionVersion, member: Member) -> None:
        call_id = secrets.token_hex(16)
        message = Called(
            call_id=call_id,
            function=call.function,
            version=call.version,
            input=call.input,
            timeout_s=version.timeout_s,
        )
        self._roster.send(Parcel(call_id, call, key_of(version), encode(message), version.timeout_s, member))
        self._lock.notify()

    # --- what workers say ----------------------------------------------------------------------------------------

    def join(self, join: Join) -> Joined:
        """A worker is there: its functions are made if need be, with versions for its code.

        Raises InvalidParameterValue if something in it can't be, and ResourceConflict if one of its functions runs
        elsewhere.
        """
        _check(join)
        code_sha256 = base64.b64encode(bytes.fromhex(join.code_sha256)).decode()
        began_ms = self.service.clock.now_ms() - int(join.age_s * 1000)
        versions = {offer.name: self._register(join, offer, code_sha256, began_ms) for offer in join.functions}
        member = Member(join, code_sha256, versions, self._now_s())
        with self._lock:
            if self._is_closing:
                raise _closing()
            before = self._roster.members.get(join.worker_id)
            parcels = self._roster.leave(before) if before is not None else []
            self._roster.enter(member)
            self._missed.clear()
            self._lock.notify()
        if before is not None:
            self._lose(before, parcels, f"worker {before.name} has begun anew")
        log.info("a worker has joined", extra={"worker": member.name, "id": member.id, "versions": versions})
        self._start_calls()
        self.service.fill_places()
        return Joined(versions=versions, poll_s=POLL_S)

    def _register(self, join: Join, offer: Offer, code_sha256: str, began_ms: int) -> str:
        version = FunctionVersion(
            function=offer.name,
            host=Host.WORKER,
            durable=offer.durable,
            timeout_s=offer.timeout_s,
            code_sha256=code_sha256,
            code_bytes=join.code_bytes,
        )
        return self._registry.register(version, began_ms).version

    async def poll(self, worker_id: str, poll: Poll, is_gone: Callable[[], Awaitable[None]] | None) -> bytes:
        """The answer to a poll, as it travels: work as soon as there is some, after a while nothing.

        Raises ResourceNotFound if there is no such worker: it is to join.
        """
        with self._lock:
            member = self._heard(worker_id)
            if poll.is_draining and not member.is_draining:
                self._drain(member)
                return _nothing(poll)
            packed = self._packed(member, poll.received)
            if packed is not None:
                return packed
            come = member.poll = _Come()
        is_there = await come.wait(POLL_S, is_gone)
        with self._lock:
            if member.poll is not come or not self._roster.is_there(member):
                return _nothing(poll)  # there is a later poll, or the worker is believed to be gone
            member.poll = None
            member.seen_s = self._now_s()
            if not is_there:
                member.gone_s = member.seen_s
                self._lock.notify()
                return _nothing(poll)
            return self._packed(member, poll.received) or _nothing(poll)

    def _heard(self, worker_id: str) -> Member:
        """A worker has said something; under the lock. An older poll of it is answered."""
        member = self._roster.members.get(worker_id)
        if member is None:
            raise ResourceNotFound(f"there is no worker {worker_id[:80]!r}", hint="it is to join")
        member.seen_s, member.gone_s = self._now_s(), None
        if member.poll is not None:
            member.poll.set()
            member.poll = None
        return member

    def _packed(self, member: Member, received: int) -> bytes | None:
        """The answer, if there is something to say; under the lock."""
        if self._is_closing:
            return encode(Polled(number=received, is_closing=True))
        work = self._roster.pack(member, received, self._now_s())
        if work is None:
            return None
        self._lock.notify()
        return encode(Polled(number=member.number, work=[msgspec.Raw(one) for one in work]))

    def _drain(self, member: Member) -> None:
        """Give a worker nothing any more; under the lock. What it has not been sent goes to others."""
        member.is_draining = True
        for parcel in self._roster.undelivered(member):
            self._hands.submit(self._again, parcel)

    def end(self, worker_id: str, request_id: str, ended: Ended) -> None:
        """Record how an invocation has ended.

        Raises ResourceConflict if it is not this worker's, or not any more: others may be running it. Raises
        InvalidParameterValue if the updates that came along can't be; then it has not ended.
        """
        parcel = self._ending(worker_id, request_id)
        invocation = parcel.work
        assert isinstance(invocation, Invocation)
        try:
            token = self._token(invocation, ended.token)
            updates = [msgspec.structs.replace(update, at_ms=None) for update in ended.updates]
            self.service.end_invocation(invocation, token, _outcome_of(ended), updates, has_place=False)
        except BaseException:
            with self._lock:
                is_there = self._roster.take_again(parcel)
            if not is_there:
                self._hands.submit(self._lost, parcel, ErrorObject(f"worker {parcel.member.name} is gone", _GONE))
            raise

    def _token(self, invocation: Invocation, text: str) -> cmd.Token:
        token = tokens.read(self.service.store.secret, execution_key(invocation.execution_id), text)
        if token.epoch != invocation.epoch:
            raise StaleToken
        return token

    def end_call(self, worker_id: str, call_id: str, ended: CallEnded) -> None:
        """Tell who called how it has ended; ResourceConflict if nobody waits for it any more."""
        parcel = self._ending(worker_id, call_id)
        assert isinstance(parcel.work, Call)
        self.service.fill_places()
        parcel.work.answer(ended.result, ended.error)

    def _ending(self, worker_id: str, work_id: str) -> Parcel:
        """What a worker says has ended; ResourceConflict if it is not the worker's any more."""
        with self._lock:
            member = self._roster.members.get(worker_id)
            if member is not None:
                member.seen_s = self._now_s()
            parcel = self._roster.end(member, work_id) if member is not None else None
        self._start_calls()
        if parcel is None:
            self.service.fill_places()
            raise ResourceConflict(
                f"{work_id[:80]!r} is not run by worker {worker_id[:80]!r}, or not any more",
                hint="it took too long, or the worker was believed to be gone; another invocation goes on with it",
            )
        return parcel

    def leave(self, worker_id: str) -> None:
        """A worker goes. What it has not ended is lost to it."""
        with self._lock:
            member = self._roster.members.get(worker_id)
            if member is None:
                return
            parcels = self._roster.leave(member)
            if member.poll is not None:
                member.poll.set()
        log.info("a worker has left", extra={"worker": member.name, "id": member.id, "running": len(parcels)})
        self._lose(member, parcels, f"worker {member.name} left while it was running")

    def listed(self) -> list[Line]:
        """The workers, those that joined first first."""
        with self._lock:
            return lines(self._roster.members.values(), self._now_s())

    # --- what workers don't say ----------------------------------------------------------------------------------

    def _watch(self) -> None:
        while True:
            with self._lock:
                if self._is_closing:
                    return
                next_s = self._next_s()
                if next_s is None or next_s > self._now_s():
                    self._lock.wait(None if next_s is None else next_s - self._now_s())
            try:
                self.look()
            except Exception:
                log.exception("the watch over workers met an error of its own")

    def _next_s(self) -> float | None:
        """Under the lock."""
        moments = [waiting[0][0] for waiting in self._calls.values() if waiting]
        roster_s = self._roster.next_s()
        return min(moments if roster_s is None else [*moments, roster_s], default=None)

    def look(self) -> None:
        """Give up what has taken too long, and workers that are not heard of."""
        now_s = self._now_s()
        with self._lock:
            gone = [(member, self._roster.leave(member)) for member in self._roster.expired(now_s)]
            overdue = self._roster.overdue(now_s)
            calls = [call for waiting in self._calls.values() for call in _pop_due(waiting, now_s)]
        for member, parcels in gone:
            silent_s = now_s - member.seen_s
            log.warning(
                "a worker is gone",
                extra={"worker": member.name, "id": member.id, "running": len(parcels), "silent_s": round(silent_s, 1)},
            )
            self._lose(member, parcels, f"worker {member.name} is gone: nothing was heard of it for {silent_s:.1f} s")
        for parcel in overdue:
            text = f"{parcel.work_id} Task timed out after {parcel.timeout_s:.2f} seconds"
            self._hands.submit(self._lost, parcel, ErrorObject(text, _TIMED_OUT))
        for call in calls:
            text = f"no worker had a place for {target_of(call.function, call.version)} in time"
            self._hands.submit(call.answer, None, ErrorObject(text, _TIMED_OUT))

    def _lose(self, member: Member, parcels: list[Parcel], text: str) -> None:
        """A worker is gone: what it has run is tried again, and what it was never sent goes to others."""
        error = ErrorObject(text, _GONE)
        for parcel in parcels:
            if was_sent(parcel):
                self._hands.submit(self._lost, parcel, error)
            else:
                self._hands.submit(self._again, parcel)

    def _lost(self, parcel: Parcel, error: ErrorObject) -> None:
        work = parcel.work
        with _reported(parcel):
            if isinstance(work, Call):
                work.answer(None, error)
            else:
                self.service.lose_invocation(work, error)

    def _again(self, parcel: Parcel) -> None:
        """Have somebody else run what no worker has begun with."""
        work = parcel.work
        with _reported(parcel):
            if isinstance(work, Call):
                self.call(work)
            else:
                self._hand_back(work)

    def _hand_back(self, invocation: Invocation) -> None:
        """Nobody has begun with it: it waits for a place."""
        self.service.end_invocation(invocation, invocation.token, cmd.Released(), has_place=False)

    # --- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Answer the polls that wait; nobody is given anything any more. What runs may still end."""
        with self._lock:
            self._is_closing = True
            for member in self._roster.members.values():
                if member.poll is not None:
                    member.poll.set()
            self._lock.notify_all()

    def hand_back(self) -> None:
        """The server has stopped: what still runs in workers goes on from its last checkpoint once it is back."""
        with self._lock:
            members = list(self._roster.members.values())
            parcels = [parcel for member in members for parcel in self._roster.leave(member)]
        for parcel in parcels:
            if isinstance(parcel.work, Invocation):
                with _reported(parcel):
                    self._hand_back(parcel.work)
        if self._thread.is_alive():
            self._thread.join(5)
        self._hands.shutdown(wait=True)


class _Come:
    """Something has come for a poll that waits on a loop; set from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped
            self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, timeout_s: float, is_gone: Callable[[], Awaitable[None]] | None) -> bool:
        """Wait for it, for a while; False if who polls has gone away."""
        waits: set[asyncio.Future[Any]] = {self._future}
        gone = asyncio.ensure_future(is_gone()) if is_gone is not None else None
        if gone is not None:
            waits.add(gone)
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            return gone is None or not gone.done()
        finally:
            for wait in waits:
                wait.cancel()


@contextlib.contextmanager
def _reported(parcel: Parcel) -> Any:
    """What can't be recorded must not keep others from being."""
    try:
        yield
    except ServiceError:
        log.exception("the end of work was refused", extra={"work": parcel.work_id})


def _nothing(poll: Poll) -> bytes:
    """The answer that brings nothing, and so says of nothing that it has been brought."""
    return encode(Polled(number=poll.received))


def _outcome_of(ended: Ended) -> cmd.Outcome:
    match ended.end:
        case End.SUCCEEDED:
            return cmd.Succeeded(ended.result)
        case End.FAILED:
            return cmd.Failed(ended.error)
        case End.PENDING:
            return cmd.Pending()
        case End.CRASHED:
            return cmd.Crashed(ended.error or ErrorObject(type=_GONE))
        case End.RELEASED:
            return cmd.Released()


def _pop_due(waiting: deque[tuple[float, Call]], now_s: float) -> list[Call]:
    found: list[Call] = []
    while waiting and waiting[0][0] <= now_s:
        found.append(waiting.popleft()[1])
    return found


def _closing() -> TooManyRequests:
    return TooManyRequests("the server is closing", reason="CallerRateLimitExceeded")


def _check(join: Join) -> None:
    """InvalidParameterValue if what a worker says of itself can't be."""
    check(_ID, join.worker_id, "a worker's id", "8 to 64 of a-z, A-Z, 0-9, '-' and '_'")
    check(_HASH, join.code_sha256, "the hash of a worker's code", "64 hexadecimal digits in lower case")
    for what, text in (("name", join.name), ("host", join.host), ("release", join.release)):
        check(_SHOWN, text, f"a worker's {what}", "at most 100 printable characters of ASCII")
    names = [offer.name for offer in join.functions]
    if not 1 <= len(names) <= FUNCTIONS_MAX or len(set(names)) != len(names):
        raise InvalidParameterValue(f"a worker must have from 1 to {FUNCTIONS_MAX} functions, each once")
    if not 1 <= join.threads <= PLACES_MAX or not 0 <= join.tasks <= PLACES_MAX:
        raise InvalidParameterValue(f"a worker must have from 1 to {PLACES_MAX} threads, and tasks from 0")
    if not 0 <= join.age_s < 1e10:
        raise InvalidParameterValue(f"the age of a worker must be seconds from 0, not {join.age_s!r}")
    for offer in join.functions:
        if not 1 <= offer.timeout_s <= TIMEOUT_S_MAX:
            raise InvalidParameterValue(
                f"the time-out of {offer.name!r} must be from 1 to {TIMEOUT_S_MAX} seconds, not {offer.timeout_s}"
            )
