"""A disk under a world: the real SQLite store on real files, which lose power, get full, and fail in the middle.

Beside the files everything that was acknowledged is kept in memory. After each fault, and at each read, the two must
agree: what was acknowledged is there; what was not is there whole or not at all.

What a power cut leaves: SQLite has synced the WAL up to the last frame of the last acknowledged commit. What has been
written behind it since may be there, in part, or be anything; so may the file's length. Pages that a checkpoint was
moving into the database file may be there in part, and then the WAL still has them. (How far the WAL reaches, and how
much of it has been moved, is read off the WAL-index.)
"""

import contextlib
import os
import random
import resource
import sqlite3
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from perdure.model.error import StoreError
from perdure.model.execution import ExecutionRow
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Change, Commit, Due, Page, Query, Record
from perdure.store.sqlite.store import SqliteStore

R = TypeVar("R")
WAL_HEADER: Final = 32
FRAME_HEADER: Final = 24
SECTOR: Final = 512
INDEX_BYTES: Final = 100
NO_LIMIT: Final = 1 << 30
Settle = Callable[[], None]


class PowerCut(BaseException):
    """Every process of the machine is dead. The disk has been turned on again."""


class Torn(AssertionError):
    """The disk does not hold what it must."""


class Index:
    """What the WAL-index of an open store says. Its file stays open: closing one would drop SQLite's locks."""

    def __init__(self, database: Path) -> None:
        self._descriptor = os.open(beside(database, "-shm"), os.O_RDONLY)
        self._page_bytes = 4096

    def read(self) -> tuple[int, int, int]:
        """The WAL's salt, and how many of its bytes hold commits, and how many have been moved into the database."""
        found = os.pread(self._descriptor, INDEX_BYTES, 0)
        frames, moved = struct.unpack_from("=I", found, 16)[0], struct.unpack_from("=I", found, 96)[0]
        salt: int = struct.unpack_from("=Q", found, 32)[0]
        return salt, self._end(frames), self._end(moved)

    def _end(self, frames: int) -> int:
        return WAL_HEADER + frames * (FRAME_HEADER + self._page_bytes) if frames else 0

    def close(self) -> None:
        os.close(self._descriptor)


def beside(database: Path, suffix: str) -> Path:
    return database.with_name(database.name + suffix)


def image_of(database: Path, synced: int, target: Path, rng: random.Random) -> None:
    """Copy to `target` what a power cut may leave of a database whose WAL is synced up to the byte `synced`."""
    pages = bytearray(database.read_bytes())
    wal_file = beside(database, "-wal")
    wal = wal_file.read_bytes() if wal_file.exists() else b""
    if synced and rng.random() < 0.3:
        _tear_pages(pages, wal[:synced], rng)
    target.write_bytes(pages)
    beside(target, "-wal").write_bytes(wal[:synced] + _tail(wal[synced:], rng))


def _tail(tail: bytes, rng: random.Random) -> bytes:
    """What may be left of bytes that were not synced."""
    how = rng.choice(["whole", "nothing", "cut", "sectors", "garbage"])
    if how == "whole" or not tail:
        return tail
    if how == "nothing":
        return b""
    left = tail[: rng.randrange(len(tail) + 1)] if rng.random() < 0.7 else tail
    if how == "cut":
        return left
    found = bytearray(left)
    kept = rng.random()
    for start in range(0, len(found), SECTOR):
        if how == "garbage" or rng.random() > kept:
            end = min(start + SECTOR, len(found))
            found[start:end] = rng.randbytes(end - start) if rng.random() < 0.5 else bytes(end - start)
    return bytes(found)


def _tear_pages(pages: bytearray, wal: bytes, rng: random.Random) -> None:
    """A checkpoint was moving pages: some are there by half, and some beyond the old end of the file."""
    size = struct.unpack_from(">I", wal, 8)[0]
    for at in range(WAL_HEADER, len(wal) - size - FRAME_HEADER + 1, size + FRAME_HEADER):
        if rng.random() < 0.5:
            continue
        start = (struct.unpack_from(">I", wal, at)[0] - 1) * size
        end = start + rng.randrange(size + 1)
        if start > len(pages):
            continue
        new = wal[at + FRAME_HEADER : at + FRAME_HEADER + size]
        pages[start:end] = new[: end - start]


class FailingConnection:
    """A connection one of whose next statements fails, before it is carried out or after."""

    def __init__(self, real: sqlite3.Connection) -> None:
        self._real = real
        self.fails_in: int | None = None
        self.is_carried_out = False
        self.failed: list[str] = []

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        if self.fails_in is None:
            return self._real.execute(sql, values)
        self.fails_in -= 1
        if self.fails_in >= 0:
            return self._real.execute(sql, values)
        self.fails_in = None
        self.failed.append(sql.split(maxsplit=1)[0])
        if self.is_carried_out:
            self._real.execute(sql, values)
        raise sqlite3.OperationalError("disk I/O error")

    @property
    def in_transaction(self) -> bool:
        return self._real.in_transaction

    def close(self) -> None:
        self._real.close()


class Disk(MemoryStore):
    """A SQLite store with a memory of what it has acknowledged; `rates` says how often which fault strikes a write.

    After a power cut `when_cut` is called, and PowerCut raised. It may be called at any call that writes.
    """

    FAULTS: Final = ("power cut", "statement fails", "disk full", "file too large")

    def __init__(
        self,
        folder: Path,
        rng: random.Random,
        *,
        rate: float = 0.0,
        kinds: Sequence[str] = FAULTS,
        when_cut: Callable[[], None] = lambda: None,
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self._folder = folder
        self._rng = rng
        self._kinds = kinds
        self.rate = rate
        self.when_cut = when_cut
        self.counts: dict[str, int] = {}
        self._number = 0
        self._open(folder / "disk-0")

    # --- on and off ----------------------------------------------------------------------------------------------

    def _open(self, path: Path) -> None:
        self.real = SqliteStore(path)
        self.connection = FailingConnection(self.real._writer)
        self.real._writer = self.connection  # type: ignore[assignment]
        self.connection.execute("PRAGMA wal_autocheckpoint = 50")
        self._index = Index(path)
        self._acknowledged = self._index.read()
        self._secret = self.real.secret

    def _is_acknowledged(self) -> None:
        self._acknowledged = self._index.read()

    def cut_power(self, settle: Settle = lambda: None) -> None:
        """Turn the machine off and on again, and see what is there; `settle` takes in what was being written."""
        self.count("power cut")
        salt, end, _ = self._acknowledged
        now_salt, _, moved = self._index.read()
        synced = max(end, moved) if salt == now_salt else moved
        self._number += 1
        path = self._folder / f"disk-{self._number}"
        image_of(self.real.path, synced, path, self._rng)
        self.close_files()
        self._open(path)
        settle()
        self.check()

    def close_files(self) -> None:
        """Let go of the files that there are, and remove them."""
        self._index.close()
        self.real.close()
        for suffix in ("", "-wal", "-shm", "-owner"):
            with contextlib.suppress(OSError):
                beside(self.real.path, suffix).unlink()

    def close(self) -> None:
        self.close_files()
        super().close()

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # --- what must be true ---------------------------------------------------------------------------------------

    def _settle(self, pending: Sequence[Commit]) -> None:
        """Find out what has become of commits whose fate is unknown: all that could be are there, or none is."""
        there = [
            one.seq > len(self._journals.get(one.execution_id, ()))
            and self.real.read(one.execution_id, one.seq - 1, 1)[:1] == [one.data]
            for one in pending
        ]
        if any(there) and super().append(pending) != there:
            raise Torn(f"of commits written together only these are there: {there}")

    def check(self) -> None:
        """Raise Torn unless the files hold exactly what was acknowledged."""
        verdict = self.real._read("PRAGMA integrity_check", ())[0][0]
        if verdict != "ok":
            raise Torn(f"the database is damaged: {verdict}")
        found = {key for (key,) in self.real._read("SELECT lower(hex(execution_id)) FROM executions", ())}
        if found != {key.replace("-", "") for key in self._rows}:
            raise Torn(f"{len(found)} executions are on disk, {len(self._rows)} were acknowledged")
        for execution_id, rows in self._journals.items():
            if self.real.read(execution_id) != rows:
                raise Torn(f"the journal of {execution_id} is not what was acknowledged")
            if self.real.row(execution_id) != self._rows[execution_id]:
                raise Torn(
                    f"the row of {execution_id} is {self.real.row(execution_id)}, not {self._rows[execution_id]}"
                )
        journals = self.real._read("SELECT count(*) FROM journal", ())[0][0]
        if journals != sum(map(len, self._journals.values())):
            raise Torn("there are rows of journals whose executions are not there")

    # --- faults --------------------------------------------------------------------------------------------------

    def _write(self, act: Callable[[], R], settle: Settle) -> R:
        """Write, with what may go wrong at it; if nobody is told what has become of it, `settle` finds out."""
        rng = self._rng
        fault = rng.choice(self._kinds) if rng.random() < self.rate else None
        if fault == "power cut" and rng.random() < 0.3:
            self._die(settle)
        try:
            with self._suffering(fault) if fault is not None else contextlib.nullcontext():
                answer = act()
        except StoreError:
            settle()
            self._is_acknowledged()  # what is there in spite of the error was seen by others
            raise
        if fault == "power cut":
            self._die(settle)
        self._is_acknowledged()
        return answer

    def _die(self, settle: Settle) -> None:
        self.cut_power(settle)
        self.when_cut()
        raise PowerCut

    @contextlib.contextmanager
    def _suffering(self, fault: str) -> Iterator[None]:
        rng, connection = self._rng, self.connection
        if fault == "statement fails":
            connection.fails_in = rng.randrange(4)
            connection.is_carried_out = rng.random() < 0.5
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            if fault == "disk full":
                pages = self.real._read("PRAGMA page_count", ())[0][0]
                connection.execute(f"PRAGMA max_page_count = {pages}")
            elif fault == "file too large":
                most = self._acknowledged[1] + rng.randrange(3 * 4096)
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
            yield
        except StoreError:
            self.count(fault)
            raise
        finally:
            if fault == "file too large":
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            connection.fails_in = None
            if fault == "disk full":
                connection.execute(f"PRAGMA max_page_count = {NO_LIMIT}")

    # --- writing -------------------------------------------------------------------------------------------------

    def append(self, commits: Sequence[Commit]) -> list[bool]:
        kept = self._write(lambda: self.real.append(commits), lambda: self._settle(commits))
        if super().append(commits) != kept:
            raise Torn(f"the disk answers {kept} to {commits}")
        return kept

    def delete(self, execution_ids: Sequence[str]) -> None:
        self._write(lambda: self.real.delete(execution_ids), lambda: self._forget(execution_ids))
        self._forget(execution_ids)

    def _forget(self, execution_ids: Sequence[str]) -> None:
        super().delete([key for key in execution_ids if self.real.row(key) is None])

    def change(self, changes: Sequence[Change]) -> bool:
        is_made = self._write(lambda: self.real.change(changes), lambda: self._settle_change(changes))
        return self._both(is_made, super().change(changes))

    def _settle_change(self, changes: Sequence[Change]) -> None:
        if any(self.real.records_version(one.kind) > MemoryStore.records_version(self, one.kind) for one in changes):
            super().change(changes)

    # --- reading -------------------------------------------------------------------------------------------------

    def _both(self, real: R, known: R) -> R:
        if real != known:
            raise Torn(f"the disk says {real}, and it is {known}")
        return real

    def read(self, execution_id: str, after_seq: int = 0, limit: int | None = None) -> list[bytes]:
        return self._both(self.real.read(execution_id, after_seq, limit), super().read(execution_id, after_seq, limit))

    def read_many(self, execution_ids: Sequence[str]) -> dict[str, list[bytes]]:
        return self._both(self.real.read_many(execution_ids), super().read_many(execution_ids))

    def row(self, execution_id: str) -> ExecutionRow | None:
        return self._both(self.real.row(execution_id), super().row(execution_id))

    def find(self, function: str, name: str) -> str | None:
        return self._both(self.real.find(function, name), super().find(function, name))

    def search(self, query: Query) -> Page:
        return self._both(self.real.search(query), super().search(query))

    def due(self, until_ms: int, functions: Sequence[str] | None, limit: int) -> list[Due]:
        found, known = self.real.due(until_ms, functions, limit), super().due(until_ms, functions, limit)
        if len(known) < limit:
            self._both(sorted(found, key=_by_moment), sorted(known, key=_by_moment))
        return found

    def open_callbacks(self, now_ms: int, after: str | None, limit: int) -> Page:
        return self._both(self.real.open_callbacks(now_ms, after, limit), super().open_callbacks(now_ms, after, limit))

    def expired(self, now_ms: int, limit: int) -> list[str]:
        found, known = self.real.expired(now_ms, limit), super().expired(now_ms, limit)
        if len(known) < limit:
            self._both(sorted(found), sorted(known))
        return found

    def record(self, kind: str, key: str) -> Record | None:
        return self._both(self.real.record(kind, key), super().record(kind, key))

    def records_version(self, kind: str) -> int:
        return self._both(self.real.records_version(kind), super().records_version(kind))


def _by_moment(due: Due) -> tuple[int, str]:
    return due.wake_at_ms, due.execution_id
