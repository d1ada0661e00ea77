"""What can go wrong, and where: at every call to the store, at every request of a worker, inside every body.

A world counts these points; at some of them a fault strikes. Which fault, and all that it does, follows from the point
and one number: so a world's faults can be written down, and left out one by one.
"""

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from perdure.engine import commands as cmd
from perdure.model import event as ev
from perdure.model.error import ErrorObject, InvalidParameterValue, ServiceError, StaleToken, StoreError
from perdure.model.execution import ExecutionRow
from perdure.model.operation import OperationUpdate
from perdure.sdk.client import Answer
from perdure.service.hot import Entry, HotCache
from perdure.service.invocation import Invocation
from perdure.store.memory import MemoryStore
from perdure.store.packing import unpack
from perdure.store.protocol import Change, Commit, Due, Lease, Page, Query, Record
from perdure.worker.client import as_checkpoint_error
from simulation.journals import Logged, Violation

if TYPE_CHECKING:
    from simulation.nodes import Node
    from simulation.world import World

READING: Final = ("meanwhile", "refused", "died before", "died after", "away", "frozen")
WRITING: Final = (*READING, "reply lost", "reply lost", "full disk", "torn", "later")
REQUEST: Final = (
    "meanwhile",
    "request lost",
    "reply lost, asked again",
    "request doubled",
    "request comes again late",
    "given up, not arrived",
    "given up, arrived",
    "given up, arrives late",
    "worker vanished",
    "declared lost",
    "order",
)
ENDING: Final = ("meanwhile", "worker vanished", "declared lost", "order")
BODY: Final = ("meanwhile", "meanwhile", "died in a body", "exit", "slow", "declared lost", "worker vanished", "order")
KINDS: Final = tuple(dict.fromkeys((*WRITING, *REQUEST, *BODY)))
NEVER: Final = 1 << 62

_GO_ON: Final = frozenset({"meanwhile", "frozen"})
_ARRIVES: Final = frozenset({"died after", "reply lost", "later"})


class Died(BaseException):
    """The node is dead from here on."""


class Vanished(BaseException):
    """The worker of an invocation is gone; its node lives."""


class Faults:
    """When which fault strikes: by chance, or as it is written in `given` (point, kind, number)."""

    def __init__(
        self,
        seed: int,
        rate: float,
        kinds: Sequence[str],
        given: Sequence[Sequence[Any]] | None,
        begins: Callable[[], None] = lambda: None,
        *,
        most: int | None = None,
    ) -> None:
        self._most = NEVER if most is None else most
        self._rng = random.Random(seed ^ 0xFA017)
        self._rate = rate
        self._kinds = frozenset(kinds)
        self._begins = begins
        """Called when the first one strikes."""
        self._given = None if given is None else [(int(point), str(kind), int(number)) for point, kind, number in given]
        self._at = 0
        self.point = 0
        self.next = NEVER
        self.struck: list[tuple[int, str, int]] = []
        self._more()

    def _more(self) -> None:
        if self._given is not None:
            self.next = self._given[self._at][0] if self._at < len(self._given) else NEVER
        elif self._rate and len(self.struck) < self._most:
            self.next = self.point + 1 + int(self._rng.expovariate(self._rate))
        else:
            self.next = NEVER

    def strike(self, kinds: Sequence[str]) -> tuple[str, random.Random] | None:
        """The fault that strikes here, if one of `kinds` does, and the chance that is its own."""
        if self._given is not None:
            _, kind, number = self._given[self._at]
            if kind not in kinds:
                return None  # it waits for its place
            self._at += 1
        else:
            kind, number = self._rng.choice(kinds), self._rng.getrandbits(32)
            if kind not in self._kinds:
                self._more()
                return None
        if not self.struck:
            self._begins()
        self.struck.append((self.point, kind, number))
        self._more()
        return kind, random.Random(number)

    def stop(self) -> None:
        self.next = NEVER
        self._rate = 0.0
        self._given = None


class RecordingStore(MemoryStore):
    """The disk of a world. It knows in which order everything was written, when, and by whom."""

    def __init__(self, world: "World", lease_ms: int | None) -> None:
        super().__init__(lease_ms=lease_ms, secret=b"s" * 32)
        self._world = world
        self.actor = ""
        self.logs: dict[str, list[Logged]] = {}
        self.leases: dict[str, list[tuple[int, int, int]]] = {}
        """When a lease was given or renewed, until when, and to which invocation."""
        self.gone: dict[str, tuple[list[bytes], list[Logged], ExecutionRow]] = {}

    def _append(self, commit: Commit) -> bool:
        if not super()._append(commit):
            return False
        world = self._world
        world.commits += 1
        logged = Logged(world.commits, world.now, self.actor)
        log = self.logs.get(commit.execution_id)
        if log is None:
            self.logs[commit.execution_id] = [logged]
        else:
            log.append(logged)
        return True

    def _put(self, row: ExecutionRow) -> None:
        super()._put(row)
        if row.lease_owner is not None and self.lease_ms is not None and row.wake_at_ms is not None:
            self.leases.setdefault(row.execution_id, []).append((self._world.now, row.wake_at_ms, row.lease_epoch))

    def delete(self, execution_ids: Sequence[str]) -> None:
        for execution_id in execution_ids:
            row = self._rows.get(execution_id)
            if row is not None:
                self.gone[execution_id] = (self._journals[execution_id], self.logs.pop(execution_id), row)
        super().delete(execution_ids)

    def length(self, execution_id: str) -> int:
        return len(self._journals.get(execution_id, ()))

    @property
    def first_wake(self) -> tuple[int, str] | None:
        return self._wakes[0] if self._wakes else None


class FaultyStore:
    """One node's way to the shared store: slow, forgetful, mortal. `busy` is how deep it is in calls."""

    def __init__(self, world: "World", name: str) -> None:
        self._world = world
        self._real = world.store
        self._name = name
        self.is_dead = False
        self.is_troubled = False
        self.busy = 0
        self._away = 0
        self._full = 0
        self._pending: list[tuple[Sequence[Commit], Callable[[list[bool] | StoreError], None]]] = []

    @property
    def lease_ms(self) -> int | None:
        return self._real.lease_ms

    @property
    def secret(self) -> bytes:
        return self._real.secret

    # --- trouble -----------------------------------------------------------------------------------------------

    def _trouble(self, call: Callable[[], Any], commits: Sequence[Commit] | None) -> Any:
        """A call at a point where something may be wrong. `commits` are what it writes, None if it reads."""
        if self.is_dead:
            raise Died
        if self._pending:
            self.flush()
        world = self._world
        if self._away or (self._full and commits is not None):
            self._away = max(0, self._away - 1)
            self._full = max(0, self._full - 1)
            self.is_troubled = bool(self._away or self._full)
            raise StoreError("the store can't be reached" if self._away else "the disk is full")
        faults = world.faults
        struck = faults.strike(WRITING if commits is not None else READING) if faults.point >= faults.next else None
        if struck is None:
            return self._do(call)
        kind, rng = struck
        world.count(kind)
        if kind in _GO_ON:
            self._let_others(kind, rng)
            return self._do(call)
        if kind == "died before":
            self.die()
        if kind in _ARRIVES:
            self._do(call)
        if kind == "torn":
            kept = [commit for commit in commits or () if rng.random() < 0.5]
            self._do(lambda: self._real.append(kept))
        if kind == "died after" or (kind == "torn" and rng.random() < 0.5):
            self.die()
        if kind == "away":
            self._away, self.is_troubled = rng.randint(1, 30), True
        elif kind == "full disk":
            self._full, self.is_troubled = rng.randint(1, 60), True
        raise StoreError(f"{kind}: the store gave no answer")

    def _do(self, call: Callable[[], Any]) -> Any:
        self._real.actor = self._name
        return call()

    def _let_others(self, kind: str, rng: random.Random) -> None:
        """Others do something while this call is under way."""
        self.busy += 1
        try:
            if kind == "frozen":
                self._world.freeze(rng)
            else:
                self._world.meanwhile(rng)
        finally:
            self.busy -= 1
        if self.is_dead:
            raise Died

    def die(self) -> NoReturn:
        self.is_dead = self.is_troubled = True
        raise Died

    def heal(self) -> None:
        self._away = self._full = 0
        self.is_troubled = self.is_dead or bool(self._pending)

    def flush(self) -> None:
        """What was put off is written now, and whoever asked for it is told."""
        while self._pending:
            commits, told = self._pending.pop(0)
            self.is_troubled = self.is_dead or bool(self._pending or self._away or self._full)
            self._real.actor = self._name
            told(self._answer(commits))

    def _answer(self, commits: Sequence[Commit]) -> list[bool] | StoreError:
        try:
            return self._real.append(commits)
        except StoreError as error:
            return error

    # --- the store ---------------------------------------------------------------------------------------------

    def append(self, commits: Sequence[Commit]) -> list[bool]:
        faults = self._world.faults
        faults.point += 1
        if faults.point < faults.next and not self.is_troubled:
            self._real.actor = self._name
            return self._real.append(commits)
        answer: list[bool] = self._trouble(lambda: self._real.append(commits), commits)
        return answer

    def append_soon(self, commits: Sequence[Commit], told: Callable[[list[bool] | StoreError], None]) -> None:
        faults = self._world.faults
        faults.point += 1
        answer: list[bool] | StoreError
        if faults.point < faults.next and not self.is_troubled:
            self._real.actor = self._name
            answer = self._answer(commits)
        elif not self.is_troubled and faults.point >= faults.next and (struck := faults.strike(("later",))):
            self._world.count(struck[0])
            self._pending.append((commits, told))
            self.is_troubled = True
            return
        else:
            try:
                answer = self._trouble(lambda: self._real.append(commits), commits)
            except StoreError as error:
                answer = error
        told(answer)

    def read(self, execution_id: str, after_seq: int = 0, limit: int | None = None) -> list[bytes]:
        faults = self._world.faults
        faults.point += 1
        if faults.point < faults.next and not self.is_troubled:
            return self._real.read(execution_id, after_seq, limit)
        answer: list[bytes] = self._trouble(lambda: self._real.read(execution_id, after_seq, limit), None)
        return answer

    def _read(self, call: Callable[[], Any]) -> Any:
        faults = self._world.faults
        faults.point += 1
        if faults.point < faults.next and not self.is_troubled:
            return call()
        return self._trouble(call, None)

    def _write(self, call: Callable[[], Any]) -> Any:
        faults = self._world.faults
        faults.point += 1
        if faults.point < faults.next and not self.is_troubled:
            return self._do(call)
        return self._trouble(call, ())

    def read_many(self, execution_ids: Sequence[str]) -> dict[str, list[bytes]]:
        answer: dict[str, list[bytes]] = self._read(lambda: self._real.read_many(execution_ids))
        return answer

    def change(self, changes: Sequence[Change]) -> bool:
        answer: bool = self._write(lambda: self._real.change(changes))
        return answer

    def record(self, kind: str, key: str) -> Record | None:
        answer: Record | None = self._read(lambda: self._real.record(kind, key))
        return answer

    def records(
        self, kind: str, *, prefix: str = "", after: str | None = None, limit: int = 100, is_reversed: bool = False
    ) -> list[Record]:
        read = self._real.records
        answer: list[Record] = self._read(
            lambda: read(kind, prefix=prefix, after=after, limit=limit, is_reversed=is_reversed)
        )
        return answer

    def records_version(self, kind: str) -> int:
        answer: int = self._read(lambda: self._real.records_version(kind))
        return answer

    def row(self, execution_id: str) -> ExecutionRow | None:
        answer: ExecutionRow | None = self._read(lambda: self._real.row(execution_id))
        return answer

    def find(self, function: str, name: str) -> str | None:
        answer: str | None = self._read(lambda: self._real.find(function, name))
        return answer

    def search(self, query: Query) -> Page:
        answer: Page = self._read(lambda: self._real.search(query))
        return answer

    def due(self, until_ms: int, functions: Sequence[str] | None, limit: int) -> list[Due]:
        answer: list[Due] = self._read(lambda: self._real.due(until_ms, functions, limit))
        return answer

    def renew(self, leases: Sequence[Lease]) -> list[bool]:
        answer: list[bool] = self._write(lambda: self._real.renew(leases))
        return answer

    def open_callbacks(self, now_ms: int, after: str | None, limit: int) -> Page:
        answer: Page = self._read(lambda: self._real.open_callbacks(now_ms, after, limit))
        return answer

    def expired(self, now_ms: int, limit: int) -> list[str]:
        answer: list[str] = self._read(lambda: self._real.expired(now_ms, limit))
        return answer

    def delete(self, execution_ids: Sequence[str]) -> None:
        self._write(lambda: self._real.delete(execution_ids))

    def listen(self, changed: Callable[[str], None]) -> None:
        """Nobody tells anybody anything: what is not needed must not be missed."""

    def close(self) -> None:
        """The shared store stays open."""


# --- memory of a node ----------------------------------------------------------------------------------------------


class _Lock:
    """The lock of an execution where one thread does everything: whoever had to wait would wait for ever."""

    __slots__ = ("_is_held", "_store")

    def __init__(self, store: FaultyStore) -> None:
        self._store = store
        self._is_held = False

    def acquire(self, blocking: bool = True) -> bool:
        if self._is_held:
            self._store.flush()  # what another thread would do meanwhile
        if self._is_held:
            if blocking:
                raise Violation("a thread waits for a lock that it holds itself")
            return False
        self._is_held = True
        return True

    def release(self) -> None:
        assert self._is_held
        self._is_held = False

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self._is_held = False


class OneThreadCache(HotCache):
    """A hot cache whose locks find a thread that would wait for itself."""

    def __init__(self, store: FaultyStore) -> None:
        super().__init__()
        self._store = store

    def pin(self, execution_id: str) -> Entry:
        entry = super().pin(execution_id)
        if type(entry.lock) is not _Lock:
            entry.lock = _Lock(self._store)  # type: ignore[assignment]
        return entry


# --- a worker's client ---------------------------------------------------------------------------------------------


class FaultyClient:
    """The client of one invocation. A remote one numbers its requests and asks again until it has an answer."""

    def __init__(self, world: "World", node: "Node", invocation: Invocation) -> None:
        self._world = world
        self._node = node
        self._invocation = invocation
        self._requests = 0
        self.token = invocation.token
        self.epoch = invocation.epoch
        self.execution_id = invocation.execution_id
        self.is_closing = False
        self.is_gone = False
        """The worker has vanished, or its node: nothing of it arrives any more."""
        self.is_lost = False
        """The service was told that it is."""

    @property
    def answers_waits(self) -> bool:
        return self._world.is_remote

    def checkpoint(self, updates: Sequence[OperationUpdate]) -> Answer:
        faults = self._world.faults
        faults.point += 1
        if self.is_gone:
            raise Vanished
        self._requests += 1
        number = self._requests
        if faults.point >= faults.next and (struck := faults.strike(REQUEST if self._world.is_remote else ENDING)):
            return self._troubled(*struck, updates, number)
        return self._ask(self.token, updates, number)

    def _troubled(self, kind: str, rng: random.Random, updates: Sequence[OperationUpdate], number: int) -> Answer:
        world = self._world
        world.count(kind)
        token = self.token
        match kind:
            case "meanwhile":
                world.meanwhile(rng)
                self.check_alive()
            case "request lost":
                pass
            case "reply lost, asked again":
                self._deliver(token, updates, number)
                if rng.random() < 0.5:
                    world.meanwhile(rng)
                    self.check_alive()
            case "request doubled":
                answer = self._ask(token, updates, number)
                self._deliver(token, updates, number)
                return answer
            case "request comes again late":
                self._later(rng, token, updates, number)
            case "given up, not arrived":
                raise as_checkpoint_error(StoreError("no answer"))
            case "given up, arrived":
                self._deliver(token, updates, number)
                raise as_checkpoint_error(StoreError("no answer"))
            case "given up, arrives late":
                self._later(rng, token, updates, number)
                raise as_checkpoint_error(StoreError("no answer"))
            case "worker vanished":
                if rng.random() < 0.5:
                    self._deliver(token, updates, number)
                world.vanish(self, rng)
            case "order":
                world.order_now(self, rng)
            case _:
                world.declare_lost(self)
        return self._ask(token, updates, number)

    def check_alive(self) -> None:
        """After others have done something: go on only if this process has survived it."""
        if self._node.store.is_dead:
            raise Died

    def _later(self, rng: random.Random, token: cmd.Token, updates: Sequence[OperationUpdate], number: int) -> None:
        updates = list(updates)
        delay_ms = rng.choice([0, 1, 1_000, 40_000])
        self._world.later(delay_ms, lambda: self._deliver(token, updates, number, is_alone=True))

    def _ask(self, token: cmd.Token, updates: Sequence[OperationUpdate], number: int) -> Answer:
        """Ask until there is an answer."""
        for _ in range(4):
            try:
                answer = self._send(token, updates, number)
                break
            except StoreError as error:
                if not self._world.is_remote:
                    raise as_checkpoint_error(error) from error
                last = error
            except ServiceError as error:
                raise as_checkpoint_error(error) from error
        else:
            raise as_checkpoint_error(last)
        if answer.token is None:
            return Answer(answer.operations, may_go_on=False)
        self.token = answer.token
        return Answer(answer.operations, may_go_on=not self.is_closing)

    def _send(self, token: cmd.Token, updates: Sequence[OperationUpdate], number: int) -> Any:
        """One request. What it writes is noted: only the invocation in flight may."""
        world = self._world
        store, execution_id = world.store, self.execution_id
        commits, length = world.commits, store.length(execution_id)
        name = f"{self.epoch}-{number}" if world.is_remote else None
        answer = self._node.service.checkpoint(execution_id, token, updates, name)
        if answer.token is not None:
            self._note_write(commits, length)
        return answer

    def _note_write(self, commits: int, length: int) -> None:
        """Remember that this invocation has written, if its node has appended to the journal since it had `length`.

        That it has begun another invocation meanwhile is nothing that this one has written.
        """
        log = self._world.store.logs.get(self.execution_id, ())
        facts = self._world.oracle.executions.get(self.execution_id)
        rows = self._world.store._journals.get(self.execution_id, ())
        mine = (
            row for logged, row in zip(log[length:], rows[length:], strict=False) if logged.actor == self._node.name
        )
        if facts is not None and any(not self._begins_another(row) for row in mine):
            facts.writes.append((commits, self.epoch))

    def _begins_another(self, row: bytes) -> bool:
        events = unpack(row, execution_id=self.execution_id, seq=1)
        return all(type(event) is ev.InvocationStarted for event in events)

    def _deliver(
        self, token: cmd.Token, updates: Sequence[OperationUpdate], number: int, *, is_alone: bool = False
    ) -> None:
        """A request whose answer nobody gets."""
        if is_alone:
            if not (self._node.store.is_dead or self._node.store.busy):
                self._world.act(self._node, lambda: self._deliver(token, updates, number))
            return
        try:
            self._send(token, updates, number)
        except (StaleToken, StoreError):
            pass
        except InvalidParameterValue as error:
            raise Violation(f"a request that comes again is refused: {error}") from error
        except ServiceError:
            pass

    def end(self, outcome: cmd.Outcome, updates: Sequence[OperationUpdate]) -> None:
        world, service = self._world, self._node.service
        faults = world.faults
        faults.point += 1
        if faults.point >= faults.next and not self.is_gone and (struck := faults.strike(ENDING)):
            world.count(struck[0])
            match struck[0]:
                case "meanwhile":
                    world.meanwhile(struck[1])
                    self.check_alive()
                case "worker vanished":
                    world.vanish(self, struck[1])
                case "order":
                    world.order_now(self, struck[1])
                case _:
                    world.declare_lost(self)
        if self.is_gone or self.is_lost:
            return
        store, execution_id = world.store, self.execution_id
        commits, length = world.commits, store.length(execution_id)
        try:
            service.end_invocation(self._invocation, self.token, outcome, updates)
        except InvalidParameterValue as error:
            service.end_invocation(self._invocation, self.token, cmd.Failed(ErrorObject(error.message, error.code)))
        if updates:
            self._note_write(commits, length)

    @property
    def invocation(self) -> Invocation:
        return self._invocation

    @property
    def node(self) -> "Node":
        return self._node
