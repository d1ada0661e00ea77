"""Which workers there are, what they have taken, and who gets the next invocation. No clock, no lock, no service.

A worker counts as there as long as it is heard of: its open poll says so. A place is one of its threads, or one on its
loop; it is taken from the moment it is reserved until the worker has said that what it ran has ended, even if that was
given up long ago.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

import msgspec

from perdure.model.function import FunctionVersion
from perdure.service.invocation import Call, Invocation
from perdure.wire.workers import Join

GONE_S: Final = 2.0
"""So long may a worker take to come back whose poll has broken."""
SILENT_S: Final = 10.0
"""So long may nothing be heard of a worker: its machine has lost its power, or the network."""
ANSWER_BYTES: Final = 8 * 1024 * 1024
"""What a poll is answered with at most, one piece of work in any case."""

DEADLINES_MIN: Final = 1_000

CodeKey = tuple[str, str]
"""A function's name and the hash of its code, in base64."""


def key_of(version: FunctionVersion) -> CodeKey:
    return version.function, version.code_sha256


class Signal(Protocol):
    """What a poll waits for."""

    def set(self) -> None: ...


class Parcel:
    """Work for a worker. `data` is how it travels."""

    __slots__ = ("data", "deadline_s", "is_async", "key", "member", "timeout_s", "work", "work_id")

    def __init__(
        self, work_id: str, work: Invocation | Call, key: CodeKey, data: bytes, timeout_s: int, member: "Member"
    ) -> None:
        self.work_id = work_id
        self.work = work
        self.key = key
        self.data = data
        self.timeout_s = timeout_s
        self.member = member
        self.is_async = member.lanes[key[0]]
        self.deadline_s: float | None = None


class Member:
    """A worker that has joined. `lanes` are its functions, True for those that run on its loop."""

    def __init__(self, join: Join, code_sha256: str, versions: dict[str, str], now_s: float) -> None:
        self.join = join
        self.id = join.worker_id
        self.code_sha256 = code_sha256
        self.versions = versions
        self.lanes = {offer.name: offer.is_async for offer in join.functions}
        self.free = {False: join.threads, True: join.tasks}
        self.joined_s = self.seen_s = now_s
        self.gone_s: float | None = None
        self.is_draining = False
        self.outbox: deque[Parcel] = deque()
        self.sent: list[Parcel] = []
        self.number = 0
        self.parcels: dict[str, Parcel] = {}
        self.given_up: dict[str, bool] = {}
        self.poll: Signal | None = None

    @property
    def name(self) -> str:
        return self.join.name or self.id

    @property
    def keys(self) -> list[CodeKey]:
        return [(function, self.code_sha256) for function in self.lanes]

    @property
    def taken(self) -> int:
        return self.join.threads + self.join.tasks - sum(self.free.values())

    @property
    def is_able(self) -> bool:
        """Whether it can be given something."""
        return not self.is_draining and self.gone_s is None

    def expires_s(self) -> float:
        """When it will be gone if nothing is heard of it."""
        silent_s = self.seen_s + SILENT_S
        return silent_s if self.gone_s is None else min(silent_s, self.gone_s + GONE_S)


class Roster:
    """The workers by their ids, and what they have been given."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self._of_code: dict[CodeKey, list[Member]] = {}
        self._reserved: dict[str, list[Member]] = {}
        self._deadlines: list[tuple[float, str, Member]] = []
        self._deadlines_max = DEADLINES_MIN

    # --- coming and going ----------------------------------------------------------------------------------------

    def enter(self, member: Member) -> None:
        self.members[member.id] = member
        for key in member.keys:
            self._of_code.setdefault(key, []).append(member)

    def leave(self, member: Member) -> list[Parcel]:
        """The worker is gone; return what it had been given and has not ended."""
        if self.members.get(member.id) is not member:
            return []
        del self.members[member.id]
        for key in member.keys:
            self._of_code[key].remove(member)
            if not self._of_code[key]:
                del self._of_code[key]
        parcels = list(member.parcels.values())
        member.parcels.clear()
        return parcels

    def is_there(self, member: Member) -> bool:
        return self.members.get(member.id) is member

    def has_worker(self, key: CodeKey) -> bool:
        """Whether some worker has this code, with or without a free place."""
        return any(member.is_able for member in self._of_code.get(key, ()))

    # --- places --------------------------------------------------------------------------------------------------

    def roomiest(self, key: CodeKey) -> Member | None:
        """The worker with this code that has most places free; the place is taken. None if there is none."""
        function = key[0]
        best, most = None, 0
        for member in self._of_code.get(key, ()):
            free = member.free[member.lanes[function]]
            if free > most and member.is_able:
                best, most = member, free
        if best is not None:
            best.free[best.lanes[function]] -= 1
        return best

    def reserve(self, target: str, key: CodeKey) -> bool:
        member = self.roomiest(key)
        if member is None:
            return False
        self._reserved.setdefault(target, []).append(member)
        return True

    def reserved(self, target: str) -> Member | None:
        """One of the workers in which there is a place for this target; it is not kept any more."""
        members = self._reserved.get(target)
        if not members:
            return None
        member = members.pop()
        if not members:
            del self._reserved[target]
        return member

    def give_back(self, member: Member, *, is_async: bool) -> None:
        member.free[is_async] += 1

    # --- parcels -------------------------------------------------------------------------------------------------

    def send(self, parcel: Parcel) -> None:
        """Put work into the worker's next answer."""
        member = parcel.member
        member.parcels[parcel.work_id] = parcel
        member.outbox.append(parcel)
        if member.poll is not None:
            member.poll.set()

    def pack(self, member: Member, received: int, now_s: float) -> list[bytes] | None:
        """What the next answer holds; None if there is nothing to say.

        What was in the last one is in this one again, unless the worker has `received` it.
        """
        if received == member.number:
            for parcel in member.sent:
                parcel.data = b""  # which may be megabytes
            member.sent = []
        elif member.sent:
            return [parcel.data for parcel in member.sent if parcel.work_id in member.parcels]
        size = 0
        while member.outbox and not member.is_draining:
            parcel = member.outbox[0]
            size += len(parcel.data)
            if member.sent and size > ANSWER_BYTES:
                break
            member.outbox.popleft()
            if parcel.work_id not in member.parcels:
                continue
            member.sent.append(parcel)
            parcel.deadline_s = now_s + parcel.timeout_s
            self._expect(parcel.deadline_s, parcel)
        if not member.sent:
            return None
        member.number += 1
        return [parcel.data for parcel in member.sent]

    def _expect(self, deadline_s: float, parcel: Parcel) -> None:
        """Look at this work when its time is over. What has ended goes from the heap when there is too much of it."""
        heapq.heappush(self._deadlines, (deadline_s, parcel.work_id, parcel.member))
        if len(self._deadlines) > self._deadlines_max:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in entry[2].parcels]
            heapq.heapify(self._deadlines)
            self._deadlines_max = DEADLINES_MIN + 2 * len(self._deadlines)

    def end(self, member: Member, work_id: str) -> Parcel | None:
        """The work has ended; its place is free. None if it was not this worker's any more."""
        parcel = member.parcels.pop(work_id, None)
        if parcel is not None:
            member.free[parcel.is_async] += 1
            return parcel
        is_async = member.given_up.pop(work_id, None)
        if is_async is not None:
            member.free[is_async] += 1
        return None

    def take_again(self, parcel: Parcel) -> bool:
        """The work has not ended after all; False if its worker is gone by now."""
        parcel.member.parcels[parcel.work_id] = parcel
        parcel.member.free[parcel.is_async] -= 1
        return self.is_there(parcel.member)

    def undelivered(self, member: Member) -> list[Parcel]:
        """What the worker has not been sent yet; it is not its any more, and the places are free."""
        parcels = [parcel for parcel in member.outbox if parcel.work_id in member.parcels]
        member.outbox.clear()
        for parcel in parcels:
            self.end(member, parcel.work_id)
        return parcels

    # --- time ----------------------------------------------------------------------------------------------------

    def next_s(self) -> float | None:
        """When somebody must look: a worker may be gone, or work may have taken too long."""
        moments = [member.expires_s() for member in self.members.values()]
        if self._deadlines:
            moments.append(self._deadlines[0][0])
        return min(moments, default=None)

    def expired(self, now_s: float) -> list[Member]:
        return [member for member in self.members.values() if member.expires_s() <= now_s]

    def overdue(self, now_s: float) -> list[Parcel]:
        """What has taken too long: it is given up. The worker's place stays taken until it says that it has ended."""
        found: list[Parcel] = []
        while self._deadlines and self._deadlines[0][0] <= now_s:
            _, work_id, member = heapq.heappop(self._deadlines)
            parcel = member.parcels.get(work_id)
            if parcel is not None and parcel.deadline_s is not None and parcel.deadline_s <= now_s:
                del member.parcels[work_id]
                member.given_up[work_id] = parcel.is_async
                found.append(parcel)
        return found


def was_sent(parcel: Parcel) -> bool:
    """Whether the worker may have begun with it."""
    return parcel.deadline_s is not None


class Line(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """A worker as it is listed."""

    worker_id: str
    name: str
    host: str
    pid: int
    release: str
    code_sha256: str
    functions: dict[str, str]
    threads: int
    tasks: int
    running: int
    seconds_since_sign: float
    is_draining: bool = False


def lines(members: Iterable[Member], now_s: float) -> list[Line]:
    return [
        Line(
            worker_id=member.id,
            name=member.name,
            host=member.join.host,
            pid=member.join.pid,
            release=member.join.release,
            code_sha256=member.code_sha256,
            functions=member.versions,
            threads=member.join.threads,
            tasks=member.join.tasks,
            running=len(member.parcels),
            seconds_since_sign=round(now_s - member.seen_s, 1),
            is_draining=member.is_draining,
        )
        for member in sorted(members, key=lambda member: member.joined_s)
    ]
