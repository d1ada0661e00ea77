"""One SQLite file as a store.

Settings, and why: WAL, because readers then never wait for the writer and a commit is one append to one file;
`synchronous=FULL`, because a commit that is not on disk when it returns is no commit; a busy time-out, because commands
of operators write to the file of a running owner; no foreign keys, because the only one is made where it is used.
"""

import contextlib
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

from perdure.model.error import StoreCorrupt, StoreError, StoreReadOnly, StoreTooNew
from perdure.model.execution import ENDED, ExecutionRow, ExecutionStatus, ParentLink, WaitingOn
from perdure.model.ids import LATEST, execution_key, execution_text
from perdure.store import queries
from perdure.store.group import GroupCommit
from perdure.store.protocol import (
    PAGE_DEFAULT,
    SECRET_BYTES,
    Change,
    Commit,
    Due,
    Lease,
    Page,
    Query,
    Record,
    check_changes,
    key_range,
)
from perdure.store.sqlite.changing import change_records
from perdure.store.sqlite.file import (
    APPLICATION_ID,
    BUSY_TIMEOUT_MS,
    Mode,
    Translated,
    as_store_error,
    check_file,
    opened,
    statements,
)
from perdure.store.sqlite.ownership import Doorbell, Ownership

CACHE_KIB: Final = 16 * 1024
CHECKPOINT_PAGES: Final = 4_000
"""16 MiB of WAL between two checkpoints: moving pages into the file costs two fsyncs, whatever it moves."""
WAL_RESERVES: Final = {32: 4 * 1024 * 1024, 1024: 16 * 1024 * 1024}
"""After so many commits, so many bytes of the WAL are written with zeros.

An fsync of a file that grows costs twice as much as one of a file that is overwritten (245 µs against 125 µs a commit
on ext4), because its size has to be made durable too. SQLite takes what follows its last frame for nothing.
"""
QUICK_CHECK_BYTES_MAX: Final = 8 * 1024 * 1024
"""Larger files are not read whole at opening; every journal row has a checksum that is verified when it is read."""
DELETE_ROWS_MAX: Final = 1_000
ROWS_MAX: Final = 1_024
"""So many rows in one statement: their values are fewer than the 32,766 variables that every SQLite allows."""
_NO_JOURNAL_ROW: Final[list[Any]] = [None] * 3
_NO_COMMIT: Final[list[Any]] = [None] * 20

_STATUSES: Final = tuple(ExecutionStatus)
_WAITS: Final = tuple(WaitingOn)
_COLUMNS: Final = (
    "execution_id, function_id, status, start_ms, wake_at_ms, version, name, end_ms, lease_owner, lease_epoch, "
    "expires_at_ms, operations, invocations, open_callbacks, waiting_on, error_type, parent"
)


class SqliteStore:
    """A store in one file. Appends of many threads share one transaction; reads do not wait for them."""

    def __init__(self, path: str | os.PathLike[str], mode: Mode = Mode.OWN) -> None:
        """Open the file, creating it in mode OWN.

        Raises NotAStore, StoreTooNew, StoreCorrupt, StoreReadOnly, and StoreHeld if another process owns it.
        """
        self.path = Path(path)
        self._mode = mode
        self._sql = queries.load("perdure.store.sqlite")
        self._sql = {name: sql.replace("{columns}", _COLUMNS) for name, sql in self._sql.items()}
        self._identity = check_file(self.path, mode)
        self._ownership = Ownership.take(self.path) if mode is Mode.OWN else None
        self._doorbell = Doorbell(self.path) if mode is Mode.OPERATE else None
        self._lock = threading.Lock()
        self._readers: deque[sqlite3.Connection] = deque()
        self._is_open = True
        self._flushes = 0
        self._statements: dict[tuple[str, int], str] = {}
        self._append_alone = self._sql["append_alone"]
        self._errors = Translated(self.path)
        self._function_ids: dict[str, int] = {}
        self._function_names: dict[int, str] = {}
        opened[self._identity] += 1
        try:
            with self._errors:
                self._writer = self._connect()
                self._prepare()
                self._writer.execute(self._sql["commits_view"])
                self._writer.execute(self._sql["commits_trigger"])
                self._secret: bytes = self._writer.execute(self._sql["get_meta"], ("secret",)).fetchone()[0]
                self._learn_functions()
        except BaseException:
            self._release()
            raise
        self._group = GroupCommit(self._write)

    # --- opening and closing ---------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={'ro' if self._mode is Mode.READ else 'rw'}"
        if self._mode is Mode.READ and not os.access(self.path.parent, os.W_OK):
            uri += "&immutable=1"
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000
        )
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA temp_store = MEMORY")
        if self._mode is not Mode.READ:
            if self.path.stat().st_size == 0:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        return connection

    def _prepare(self) -> None:
        """Check that the file is ours and whole, and bring it up to this version."""
        execute = self._writer.execute
        known = migrations()
        version = execute("PRAGMA user_version").fetchone()[0]
        if version > len(known):
            raise StoreTooNew(
                f"{self.path} has format {version}; this version of perdure reads up to {len(known)}",
                hint="upgrade perdure, or open the file with the version that wrote it",
            )
        if version < len(known):
            if self._mode is not Mode.OWN:
                raise StoreError(
                    f"{self.path} has format {version} and must be brought to {len(known)} first",
                    hint="run functions on it once: opening it as their owner does that",
                )
            self._migrate(known, version)
        if self.path.stat().st_size <= QUICK_CHECK_BYTES_MAX:
            verdict = execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise StoreCorrupt(f"{self.path} is damaged: {verdict}", hint="restore it from a backup")

    def _migrate(self, known: list[str], version: int) -> None:
        """Apply the migrations that the file has not seen, each in a transaction of its own."""
        for number, script in enumerate(known[version:], version + 1):
            with self._transaction():
                for statement in statements(script):
                    self._writer.execute(statement)
                if number == 1:
                    self._writer.execute(self._sql["set_meta"], ("secret", os.urandom(SECRET_BYTES)))
                self._writer.execute(f"PRAGMA user_version = {number}")

    def close(self) -> None:
        if self._is_open:
            self._group.close()
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            self._release()

    def _release(self) -> None:
        self._is_open = False
        opened[self._identity] -= 1
        while self._readers:
            self._readers.pop().close()
        if hasattr(self, "_writer"):
            self._writer.close()
        if self._doorbell is not None:
            self._doorbell.close()
        if self._ownership is not None:
            self._ownership.give_back()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._leave_transaction()
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        except BaseException:
            self._leave_transaction()
            raise

    def _leave_transaction(self) -> None:
        """Take back a transaction whose end has failed: what was written into it would never be on disk."""
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    # --- what the store is -----------------------------------------------------------------------------------

    @property
    def lease_ms(self) -> int | None:
        return None

    @property
    def secret(self) -> bytes:
        return self._secret

    def listen(self, changed: Callable[[str], None]) -> None:
        if self._ownership is not None:
            self._ownership.listen(changed)

    # --- writing ---------------------------------------------------------------------------------------------

    def append(self, commits: Sequence[Commit]) -> list[bool]:
        return self._group.commit(commits)

    def append_soon(self, commits: Sequence[Commit], told: Callable[[list[bool] | StoreError], None]) -> None:
        self._group.submit(commits, lambda answer: told(as_store_error(answer)))

    def _write(self, commits: Sequence[Commit]) -> list[bool]:
        """One transaction for all; called by one thread at a time."""
        if not commits:
            return []
        self._check_writable()
        with self._lock, self._errors:
            self._check_open()
            self._flushes += 1
            if self._flushes in WAL_RESERVES:
                self._reserve_wal(WAL_RESERVES[self._flushes])
            self._leave_transaction()
            for commit in commits:
                if commit.is_new and commit.row is not None and commit.row.function not in self._function_ids:
                    self._add_function(commit.row.function)
            outcomes = self._append_together(commits)
        if self._doorbell is not None:
            for commit, is_kept in zip(commits, outcomes, strict=True):
                if is_kept:
                    self._doorbell.ring(execution_key(commit.execution_id))
        return outcomes

    def _reserve_wal(self, size: int) -> None:
        """Make the WAL as large as it will get, under the write lock of the database. Failing at it does no harm."""
        wal = self.path.with_name(self.path.name + "-wal")
        with contextlib.suppress(OSError, sqlite3.Error), self._transaction(), wal.open("r+b") as file:
            missing = size - file.seek(0, os.SEEK_END)
            if missing > 0:
                file.write(bytes(missing))
                file.flush()
                os.fsync(file.fileno())

    def _append_together(self, commits: Sequence[Commit]) -> list[bool]:
        """All with one statement in the hope that nobody loses; if somebody does, one by one."""
        try:
            if len(commits) <= ROWS_MAX:
                self._append(commits)
            else:
                with self._transaction():
                    for start in range(0, len(commits), ROWS_MAX):
                        self._append(commits[start : start + ROWS_MAX])
        except sqlite3.IntegrityError:
            with self._transaction():
                return [self._append_one(commit) for commit in commits]
        return [True] * len(commits)

    def _append_one(self, commit: Commit) -> bool:
        """One commit within a larger transaction: undone alone if it loses."""
        try:
            self._append([commit])
        except sqlite3.IntegrityError:
            return False
        return True

    def _append(self, commits: Sequence[Commit]) -> None:
        """Commits in one statement, which is its own transaction if there is none around it.

        The statement has as many rows as the next power of two, the missing ones empty: few texts have to be prepared.
        One call matters: SQLite works without the interpreter's lock, and every return has to wait for it.
        `executemany` hands it back and forth for every row, which cost 50 µs a row among 64 threads.
        """
        if len(commits) == 1 and commits[0].row is None:
            commit = commits[0]
            row = (execution_key(commit.execution_id), commit.seq, commit.data)
            if self._writer.execute(self._append_alone, row).rowcount != 1:
                raise sqlite3.IntegrityError("lost")
            return
        if all(commit.row is None for commit in commits):
            name, empty = "append_journal", _NO_JOURNAL_ROW
            rows = [(execution_key(commit.execution_id), commit.seq, commit.data) for commit in commits]
        else:
            name, empty = "append_commits", _NO_COMMIT
            rows = [self._commit_values(commit) for commit in commits]
        size = 1 << (len(rows) - 1).bit_length()
        values = [value for row in rows for value in row]
        values += empty * (size - len(rows))
        self._writer.execute(self._statement(name, len(empty), size), values)

    def _statement(self, name: str, columns: int, rows: int) -> str:
        """The text of a named statement for so many rows."""
        key = (name, rows)
        text = self._statements.get(key)
        if text is None:
            row = f"({', '.join('?' * columns)})"
            text = self._statements[key] = self._sql[name].replace("{rows}", ", ".join([row] * rows))
        return text

    def renew(self, leases: Sequence[Lease]) -> list[bool]:
        with self._lock, self._errors, self._transaction():
            return [
                self._writer.execute(
                    self._sql["renew"], (lease.wake_at_ms, execution_key(lease.execution_id), lease.epoch)
                ).rowcount
                == 1
                for lease in leases
            ]

    def delete(self, execution_ids: Sequence[str]) -> None:
        for execution_id in execution_ids:
            key = execution_key(execution_id)
            last = self._read(self._sql["last_seq"], (key,))[0][0] or 0
            for seq in range(max(last - 1, 0) // DELETE_ROWS_MAX * DELETE_ROWS_MAX, -1, -DELETE_ROWS_MAX):
                with self._lock, self._errors, self._transaction():
                    self._writer.execute(self._sql["delete_journal"], (key, seq))
                    if seq == 0:
                        self._writer.execute(self._sql["delete_execution"], (key,))

    def change(self, changes: Sequence[Change]) -> bool:
        self._check_writable()
        check_changes(changes)
        with self._lock, self._errors:
            self._check_open()
            return change_records(self._writer, self._sql, self._transaction, changes)

    # --- reading ---------------------------------------------------------------------------------------------

    def _read(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """All rows of a query, on a connection of its own."""
        self._check_open()
        with self._errors:
            try:
                reader = self._readers.pop()
            except IndexError:
                reader = self._connect()
            try:
                return reader.execute(sql, values).fetchall()
            finally:
                if self._is_open:
                    self._readers.append(reader)
                else:
                    reader.close()

    def read(self, execution_id: str, after_seq: int = 0, limit: int | None = None) -> list[bytes]:
        values = (execution_key(execution_id), after_seq, -1 if limit is None else limit)
        return _without_gaps(execution_id, self._read(self._sql["read_journal"], values), after_seq)

    def read_many(self, execution_ids: Sequence[str]) -> dict[str, list[bytes]]:
        journals: dict[str, list[bytes]] = {}
        for start in range(0, len(execution_ids), 500):
            keys = [execution_key(execution_id) for execution_id in execution_ids[start : start + 500]]
            marks = ",".join("?" * len(keys))
            sql = f"SELECT execution_id, seq, data FROM journal WHERE execution_id IN ({marks}) ORDER BY 1, 2"  # noqa: S608
            rows: dict[bytes, list[tuple[int, bytes]]] = {}
            for key, seq, data in self._read(sql, keys):
                rows.setdefault(key, []).append((seq, data))
            for key, numbered in rows.items():
                execution_id = execution_text(key)
                journals[execution_id] = _without_gaps(execution_id, numbered, 0)
        return journals

    def row(self, execution_id: str) -> ExecutionRow | None:
        rows = self._read(self._sql["row"], (execution_key(execution_id),))
        return self._row(rows[0]) if rows else None

    def find(self, function: str, name: str) -> str | None:
        function_id = self._known_function_id(function)
        if function_id is None:
            return None
        rows = self._read(self._sql["find"], (function_id, name))
        return execution_text(rows[0][0]) if rows else None

    def search(self, query: Query) -> Page:
        table = "executions"
        where: list[str] = ["(expires_at_ms IS NULL OR expires_at_ms > ?)"]
        values: list[Any] = [query.now_ms]

        def add(condition: str, *more: Any) -> None:
            where.append(condition)
            values.extend(more)

        if query.function is not None:
            function_id = self._known_function_id(query.function)
            if function_id is None:
                return Page(())
            add("function_id = ?", function_id)
        if query.version is not None:
            add("version IS ?", None if query.version == LATEST else query.version)
        if query.name is not None:
            add("(name = ? OR (name IS NULL AND execution_id = ?))", query.name, _key_or_none(query.name))
        if query.name_prefix is not None:
            add("name >= ? AND name < ?", query.name_prefix, query.name_prefix + "\x7f")
        if query.id_prefix is not None:
            add("execution_id BETWEEN ? AND ?", *_key_range(query.id_prefix))
        if query.statuses:
            marks = ",".join("?" * len(query.statuses))
            add(f"status IN ({marks})", *(_STATUSES.index(status) for status in query.statuses))
            if query.function is not None and ENDED.isdisjoint(query.statuses):
                table = "executions INDEXED BY executions_open"
                add("end_ms IS NULL")
        if query.waiting_on is not None:
            add("(waiting_on & ?) <> 0", 1 << _WAITS.index(query.waiting_on))
        if query.started_from_ms is not None:
            add("start_ms >= ?", query.started_from_ms)
        if query.started_until_ms is not None:
            add("start_ms <= ?", query.started_until_ms)
        if query.after is not None:
            add(f"execution_id {'>' if query.is_oldest_first else '<'} ?", execution_key(query.after))
        order = "ASC" if query.is_oldest_first else "DESC"
        sql = f"SELECT {_COLUMNS} FROM {table} WHERE {' AND '.join(where)} ORDER BY execution_id {order} LIMIT ?"  # noqa: S608
        return self._page(self._read(sql, [*values, query.limit + 1]), query.limit)

    def open_callbacks(self, now_ms: int, after: str | None, limit: int) -> Page:
        key = execution_key(after) if after is not None else b""
        return self._page(self._read(self._sql["open_callbacks"], (key, now_ms, limit + 1)), limit)

    def _page(self, found: list[Any], limit: int) -> Page:
        rows = tuple(self._row(values) for values in found[:limit])
        return Page(rows, rows[-1].execution_id if len(found) > limit else None)

    def due(self, until_ms: int, functions: Sequence[str] | None, limit: int) -> list[Due]:
        values: list[Any] = [until_ms]
        condition = ""
        if functions is not None:
            ids = [found for name in functions if (found := self._known_function_id(name)) is not None]
            if not ids:
                return []
            condition = f"AND function_id IN ({','.join('?' * len(ids))})"
            values.extend(ids)
        sql = self._sql["due"].replace("{functions}", condition)
        return [
            Due(execution_text(key), wake_at_ms, self._function_name(function_id), owner, epoch, version or LATEST)
            for key, wake_at_ms, function_id, owner, epoch, version in self._read(sql, [*values, limit])
        ]

    def expired(self, now_ms: int, limit: int) -> list[str]:
        return [execution_text(key) for (key,) in self._read(self._sql["expired"], (now_ms, limit))]

    def record(self, kind: str, key: str) -> Record | None:
        rows = self._read(self._sql["record"], (kind, key))
        return Record(kind, *rows[0]) if rows else None

    def records(
        self,
        kind: str,
        *,
        prefix: str = "",
        after: str | None = None,
        limit: int = PAGE_DEFAULT,
        is_reversed: bool = False,
    ) -> list[Record]:
        values = (kind, *key_range(prefix, after, is_reversed=is_reversed), limit)
        return [
            Record(kind, *row)
            for row in self._read(self._sql["records_reversed" if is_reversed else "records"], values)
        ]

    def records_version(self, kind: str) -> int:
        rows = self._read(self._sql["records_version"], (kind,))
        return rows[0][0] if rows else 0

    def _check_writable(self) -> None:
        if self._mode is Mode.READ:
            raise StoreReadOnly(f"{self.path} was opened for reading")

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreError(f"the store {self.path} is closed")

    # --- rows and values -------------------------------------------------------------------------------------

    def _commit_values(self, commit: Commit) -> tuple[Any, ...]:
        """The columns of the view `commits`."""
        key, row = execution_key(commit.execution_id), commit.row
        if row is None:
            return (key, commit.seq, commit.data, 0, *_NO_COMMIT[4:])
        return (
            key,
            commit.seq,
            commit.data,
            1 if commit.is_new else 2,
            self._function_ids.get(row.function),
            _STATUSES.index(row.status),
            row.start_ms,
            row.wake_at_ms,
            None if row.version == LATEST else row.version,
            row.name,
            row.end_ms,
            row.lease_owner,
            row.lease_epoch,
            row.expires_at_ms,
            row.operations,
            row.invocations,
            row.open_callbacks,
            _bits(row.waiting_on),
            row.error_type,
            f"{row.parent.execution_id}/{row.parent.operation_id}" if row.parent else None,
        )

    def _row(self, values: Sequence[Any]) -> ExecutionRow:
        bits, parent = values[14], values[16]
        return ExecutionRow(
            execution_id=execution_text(values[0]),
            function=self._function_name(values[1]),
            status=_STATUSES[values[2]],
            start_ms=values[3],
            wake_at_ms=values[4],
            version=values[5] or LATEST,
            name=values[6],
            end_ms=values[7],
            lease_owner=values[8],
            lease_epoch=values[9],
            expires_at_ms=values[10],
            operations=values[11],
            invocations=values[12],
            open_callbacks=values[13],
            waiting_on=tuple(wait for index, wait in enumerate(_WAITS) if bits >> index & 1),
            error_type=values[15],
            parent=ParentLink(*parent.split("/")) if parent else None,
        )

    def _learn_functions(self) -> None:
        for name, function_id in self._writer.execute(self._sql["functions"]):
            self._function_ids[name] = function_id
            self._function_names[function_id] = name

    def _known_function_id(self, name: str) -> int | None:
        """The id of a function, if the file has executions of it; another process may have added it since."""
        if name not in self._function_ids:
            for known, function_id in self._read(self._sql["functions"], ()):
                self._function_ids[known] = function_id
                self._function_names[function_id] = known
        return self._function_ids.get(name)

    def _function_name(self, function_id: int) -> str:
        if function_id not in self._function_names:
            self._known_function_id("")
        return self._function_names[function_id]

    def _add_function(self, name: str) -> None:
        """Give a function its id, in a transaction of its own."""
        self._writer.execute(self._sql["insert_function"], (name,))
        self._learn_functions()


def migrations() -> list[str]:
    """The scripts that make the tables, in the order of their numbers."""
    folder = resources.files("perdure.store.sqlite").joinpath("migrations")
    return [
        item.read_text("utf-8")
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".sql")
    ]


def _without_gaps(execution_id: str, rows: Sequence[tuple[int, bytes]], after_seq: int) -> list[bytes]:
    if rows and rows[-1][0] != after_seq + len(rows):
        raise StoreCorrupt(
            f"the journal of execution {execution_id} has a gap after row {after_seq}",
            hint="restore the store from a backup, or delete this execution; the others are not affected",
        )
    return [data for _seq, data in rows]


def _bits(waits: Sequence[WaitingOn]) -> int:
    bits = 0
    for wait in waits:
        bits |= 1 << _WAITS.index(wait)
    return bits


def _key_or_none(text: str) -> bytes | None:
    try:
        return execution_key(text)
    except Exception:  # noqa: BLE001 - any text may be a name
        return None


def _key_range(prefix: str) -> tuple[bytes, bytes]:
    """The first and the last key whose text begins with `prefix`; an empty range if none can."""
    digits = prefix.replace("-", "").lower()
    if not all(digit in "0123456789abcdef" for digit in digits) or len(digits) > 32:
        return b"\xff", b""
    return bytes.fromhex(digits.ljust(32, "0")), bytes.fromhex(digits.ljust(32, "f"))
