"""What is particular to the store in one SQLite file: opening, ownership, a full disk, damage."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.model.error import (
    InvalidParameterValue,
    NotAStore,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreHeld,
    StoreReadOnly,
    StoreTooNew,
)
from perdure.model.event import ExecutionSucceeded, StepStarted
from perdure.model.execution import OPEN, ExecutionRow, ExecutionStatus
from perdure.model.ids import new_execution_id
from perdure.store.memory import MemoryStore
from perdure.store.open import open_store, sqlite_path
from perdure.store.packing import pack, unpack
from perdure.store.protocol import Change, Commit, Query
from perdure.store.sqlite import Mode, SqliteStore
from perdure.store.sqlite.file import APPLICATION_ID
from perdure.store.sqlite.store import migrations

T0 = 1_764_547_200_000


def _id(number: int = 0) -> str:
    return new_execution_id(T0 + number, b"\0" * 10)


def _new(number: int = 0, data: bytes = b"1", **more: Any) -> Commit:
    values = {"function": "fn", "status": ExecutionStatus.RUNNING, "start_ms": T0, **more}
    return Commit(_id(number), 1, data, ExecutionRow(execution_id=_id(number), **values), is_new=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(path)
    yield made
    made.close()


# --- opening -----------------------------------------------------------------------------------------------------


def test_a_store_is_one_private_file_that_says_whose_it_is(store: SqliteStore, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes()[68:72] == APPLICATION_ID.to_bytes(4, "big") == b"PRDU"


def test_what_was_written_is_there_after_reopening(path: Path) -> None:
    first = SqliteStore(path)
    first.append([_new(0, b"a", name="n", wake_at_ms=5)])
    secret = first.secret
    first.close()
    second = SqliteStore(path)
    assert (second.read(_id()), second.find("fn", "n"), second.secret) == ([b"a"], _id(), secret)
    assert [due.function for due in second.due(9, ["fn"], 9)] == ["fn"]
    second.close()


@pytest.mark.parametrize("content", [b"hello, I am a text file of some length\n" * 9, b"x", b"\0" * 5000])
@pytest.mark.parametrize("mode", list(Mode))
def test_a_file_that_is_no_store_is_refused_and_left_alone(path: Path, content: bytes, mode: Mode) -> None:
    path.write_bytes(content)
    with pytest.raises(NotAStore, match=r"orders\.db is not a store of Perdure's") as raised:
        SqliteStore(path, mode)
    assert raised.value.hint == "choose another file for the store"
    assert path.read_bytes() == content
    assert [item.name for item in path.parent.iterdir()] == ["orders.db"]


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
def test_somebody_else_s_database_is_refused_and_left_alone(path: Path, journal_mode: str) -> None:
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA journal_mode = {journal_mode}")
        other.execute("CREATE TABLE journal (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(NotAStore, match="is a SQLite database, but not one of Perdure's"):
        SqliteStore(path)
    assert path.read_bytes() == before
    assert sorted(item.name for item in path.parent.iterdir()) == ["orders.db"]


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(StoreTooNew, match="has format 99; this version of perdure reads up to 3"):
        SqliteStore(path)


def test_a_folder_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAStore, match="is a folder"):
        SqliteStore(tmp_path)
    with pytest.raises(StoreReadOnly, match=r"the folder .*/nowhere does not exist"):
        SqliteStore(tmp_path / "nowhere" / "orders.db")


def test_looking_at_a_store_that_is_not_there_makes_none(path: Path) -> None:
    for mode in (Mode.READ, Mode.OPERATE):
        with pytest.raises(NotAStore, match="there is no store at"):
            SqliteStore(path, mode)
    assert not path.exists()


def test_a_damaged_file_is_refused(path: Path) -> None:
    first = SqliteStore(path)
    first.append([_new(number, os.urandom(500)) for number in range(200)])
    first.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * 6000)
    with pytest.raises(StoreCorrupt, match=r"orders\.db is damaged"):
        SqliteStore(path)


def test_a_migrated_file_and_a_fresh_one_are_the_same(path: Path, tmp_path: Path) -> None:
    """Each is applied to the file that the ones before made."""
    SqliteStore(path).close()
    old = tmp_path / "old.db"
    with sqlite3.connect(old, isolation_level=None) as raw:
        raw.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for number, script in enumerate(migrations(), 1):
            raw.executescript(script)
            raw.execute(f"PRAGMA user_version = {number}")
    raw.close()

    def schema(file: Path) -> Any:
        connection = sqlite3.connect(file)
        rows = connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()
        version = connection.execute("PRAGMA user_version").fetchone()
        connection.close()
        return rows, version

    assert schema(path) == schema(old)


def test_a_url_names_a_file_or_the_memory() -> None:
    assert sqlite_path("sqlite:///orders.db") == Path("orders.db")
    assert sqlite_path("sqlite:////var/orders.db") == Path("/var/orders.db")
    assert sqlite_path("some/orders.db") == Path("some/orders.db")
    assert isinstance(open_store("memory://"), MemoryStore)
    with pytest.raises(InvalidParameterValue, match="there is no store of the kind 'mysql'"):
        open_store("mysql://host/db")
    with pytest.raises(InvalidParameterValue, match="names no file"):
        open_store("sqlite://")


# --- ownership ---------------------------------------------------------------------------------------------------


def test_a_second_owner_is_told_who_the_first_is(store: SqliteStore, path: Path) -> None:
    with pytest.raises(StoreHeld, match=rf"orders\.db is in use by process {os.getpid()} \(.*\) since 20") as raised:
        SqliteStore(path)
    assert raised.value.holder["pid"] == os.getpid()
    assert "one process at a time runs functions" in (raised.value.hint or "")
    store.append([_new()])
    assert store.read(_id()) == [b"1"], "the first one goes on undisturbed"


_OWN_AND_WAIT = """
import sys
from perdure.store.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
print("mine", flush=True)
sys.stdin.read()
"""


def test_another_process_is_named_and_its_death_frees_the_store(path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", _OWN_AND_WAIT, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "mine\n"
    with pytest.raises(StoreHeld, match=f"process {other.pid}"):
        SqliteStore(path)
    other.kill()
    other.wait()
    other.stdout.close()
    assert other.stdin is not None
    other.stdin.close()
    SqliteStore(path).close()


def test_operators_read_and_append_beside_the_owner_and_ring_its_bell(store: SqliteStore, path: Path) -> None:
    heard: list[str] = []
    rung = threading.Event()

    def changed(execution_id: str) -> None:
        heard.append(execution_id)
        rung.set()

    store.listen(changed)
    store.append([_new()])
    operator = SqliteStore(path, Mode.OPERATE)
    assert operator.read(_id()) == [b"1"]
    assert operator.append([Commit(_id(), 2, b"2")]) == [True]
    assert rung.wait(10)
    assert heard == [_id()]
    assert store.read(_id()) == [b"1", b"2"]
    assert store.append([Commit(_id(), 2, b"late")]) == [False]
    operator.close()


def test_records_that_another_process_changes_are_seen_at_once(store: SqliteStore, path: Path) -> None:
    store.change([Change("k", "a", b"1")])
    operator = SqliteStore(path, Mode.OPERATE)
    before = store.records_version("k")
    assert operator.change([Change("k", "a", b"2"), Change("k", "b", b"2")])
    assert store.records_version("k") > before
    assert [record.data for record in store.records("k")] == [b"2", b"2"]
    operator.close()
    with pytest.raises(StoreReadOnly, match="was opened for reading"):
        SqliteStore(path, Mode.READ).change([Change("k", "a", b"3")])


def test_a_file_of_the_first_format_gets_its_records(path: Path) -> None:
    with sqlite3.connect(path, isolation_level=None) as raw:
        raw.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        raw.executescript(migrations()[0])
        raw.execute("INSERT INTO meta VALUES ('secret', zeroblob(32))")
        raw.execute("PRAGMA user_version = 1")
    raw.close()
    store = SqliteStore(path)
    assert store.change([Change("k", "a", b"1")])
    assert store.secret == bytes(32)
    store.close()


def test_a_ring_from_nobody_we_know_does_no_harm(store: SqliteStore, path: Path) -> None:
    import socket

    heard: list[str] = []
    rung = threading.Event()
    store.listen(lambda execution_id: (heard.append(execution_id), rung.set()))  # type: ignore[arg-type]
    port = json.loads(path.with_name("orders.db-owner").read_text())["port"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for noise in (b"", b"perdure-ring\x01", b"perdure-ring\x01short", os.urandom(64)):
            stranger.sendto(noise, ("127.0.0.1", port))
    store.append([_new()])
    operator = SqliteStore(path, Mode.OPERATE)
    operator.append([Commit(_id(), 2, b"2")])
    operator.close()
    assert rung.wait(10)
    assert heard == [_id()]


def test_a_reader_can_not_write(store: SqliteStore, path: Path) -> None:
    store.append([_new()])
    reader = SqliteStore(path, Mode.READ)
    assert reader.read(_id()) == [b"1"]
    with pytest.raises(StoreReadOnly, match="was opened for reading"):
        reader.append([Commit(_id(), 2, b"2")])
    reader.close()


# --- trouble -----------------------------------------------------------------------------------------------------


def test_a_full_disk_keeps_nothing_of_the_commit_and_passes(store: SqliteStore) -> None:
    """SQLite's own quota stands for the disk's: the error is the same one."""
    store.append([_new()])
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreFull, match=r"no space left for .*orders\.db"):
        store.append([Commit(_id(), 2, b"x" * 100_000), _new(1)])
    assert store.read(_id()) == [b"1"]
    assert store.row(_id(1)) is None
    store._writer.execute("PRAGMA max_page_count = 1000000")
    assert store.append([Commit(_id(), 2, b"x" * 100_000)]) == [True]


def test_a_file_that_becomes_read_only_says_so(store: SqliteStore) -> None:
    store.append([_new()])
    store._writer.execute("PRAGMA query_only = 1")
    with pytest.raises(StoreReadOnly, match="can't be written"):
        store.append([Commit(_id(), 2, b"2")])
    store._writer.execute("PRAGMA query_only = 0")
    assert store.append([Commit(_id(), 2, b"2")]) == [True]


def test_a_gap_in_a_journal_is_found(store: SqliteStore) -> None:
    store.append([_new(), *(Commit(_id(), seq, b"x") for seq in (2, 3))])
    store._writer.execute("DELETE FROM journal WHERE seq = 2")
    with pytest.raises(StoreCorrupt, match="has a gap after row 0"):
        store.read(_id())


def test_a_flipped_bit_in_a_row_is_found() -> None:
    events = [StepStarted(1, "op", "name"), ExecutionSucceeded(2, '"' + "long result " * 1000 + '"')]
    data = pack(events)
    assert len(data) < 1000, "large rows are deflated"
    assert unpack(data, execution_id="x", seq=7) == events
    for index in range(len(data)):
        broken = bytearray(data)
        broken[index] ^= 4
        with pytest.raises(StoreError, match="row 7 of the journal of execution x"):
            unpack(bytes(broken), execution_id="x", seq=7)


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\0\0"])
def test_a_row_that_is_cut_short_is_found(data: bytes) -> None:
    with pytest.raises(StoreCorrupt):
        unpack(data, execution_id="x", seq=1)


def test_the_write_ahead_log_is_reserved_once_it_is_worth_it(store: SqliteStore, path: Path) -> None:
    wal = path.with_name("orders.db-wal")
    store.append([_new()])
    for seq in range(2, 31):
        store.append([Commit(_id(), seq, b"x")])
    assert wal.stat().st_size < 1024 * 1024
    for seq in range(31, 40):
        store.append([Commit(_id(), seq, b"x")])
    assert wal.stat().st_size == 4 * 1024 * 1024
    fresh = SqliteStore(path, Mode.READ)
    assert len(fresh.read(_id())) == 39, "another connection reads over the reserved part"
    fresh.close()


_CRASH = """
import os, sys
from perdure.store.sqlite import SqliteStore
from perdure.store.protocol import Change, Commit
from perdure.model.execution import ExecutionRow, ExecutionStatus
from perdure.model.ids import new_execution_id
store = SqliteStore(sys.argv[1])
key = new_execution_id(1764547200000, bytes(10))
row = ExecutionRow(execution_id=key, function="fn", status=ExecutionStatus.RUNNING, start_ms=0)
store.append([Commit(key, 1, b"1", row, is_new=True)])
for seq in range(2, 102):
    store.append([Commit(key, seq, b"x")])
os.kill(os.getpid(), 9)
"""


def test_what_was_appended_before_a_kill_is_there(path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", _CRASH, str(path)], check=False)
    assert killed.returncode == -9
    store = SqliteStore(path)
    assert len(store.read(_id())) == 101
    assert [row.execution_id for row in store.search(Query(now_ms=T0)).rows] == [_id()]
    store.close()


def test_an_append_is_one_statement_for_all_that_wait(store: SqliteStore) -> None:
    """A count of statements in place of a wall time: forty commits take as many as one."""
    store.append([_new(number) for number in range(40)])
    statements: list[str] = []
    writer: Any = store._writer

    class Counting:
        in_transaction = False

        def execute(self, sql: str, values: Any = ()) -> Any:
            statements.append(sql)
            return writer.execute(sql, values)

    store._writer = Counting()  # type: ignore[assignment]
    assert store.append([Commit(_id(number), 2, b"x") for number in range(40)]) == [True] * 40
    store._writer = writer
    assert len(statements) == 1


def test_no_query_reads_what_it_is_not_asked_for(store: SqliteStore) -> None:
    """Query plans in place of a wall time: everything goes by an index, in its order."""
    store.append([_new(0, name="n", wake_at_ms=1, open_callbacks=1)])
    statements: list[str] = []
    reader = store._connect()
    reader.set_trace_callback(statements.append)
    store._readers.append(reader)
    store.read(_id())
    store.read_many([_id(), _id(1)])
    store.row(_id())
    store.find("fn", "n")
    store.due(9, ["fn"], 9)
    store.due(9, None, 9)
    store.expired(9, 9)
    store.open_callbacks(9, None, 9)
    store.record("k", "a")
    store.records("k", prefix="a", after="b")
    store.records("k", prefix="a", is_reversed=True)
    store.records_version("k")
    for query in (
        Query(now_ms=1),
        Query(now_ms=1, function="fn", after=_id()),
        Query(now_ms=1, function="fn", name="n"),
        Query(now_ms=1, statuses=(ExecutionStatus.FAILED,), is_oldest_first=True),
        Query(now_ms=1, id_prefix=_id()[:8]),
        Query(now_ms=1, function="fn", statuses=OPEN),
    ):
        store.search(query)
    reader.set_trace_callback(None)
    assert len(statements) == 18
    assert "executions_open" in statements[-1], "what is open is not looked for among all that has ended"
    for sql in statements:
        plan = " ".join(row[3] for row in store._writer.execute(f"EXPLAIN QUERY PLAN {sql}"))
        assert "TEMP B-TREE" not in plan, (sql, plan)
        is_whole_list = plan == "SCAN executions" and "WHERE (expires_at_ms" in sql and "LIMIT" in sql
        assert "SEARCH" in plan or "executions_by_callback" in plan or is_whole_list, (sql, plan)


_WHO_LOCKS = """
import fcntl, os, struct, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0x40000002, 510, 0)
found = struct.unpack("hhqqi", fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
print(found[4] if found[0] != fcntl.F_UNLCK else 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the layout of struct flock is that of Linux")
def test_a_second_store_on_the_file_does_not_drop_the_first_one_s_locks(store: SqliteStore, path: Path) -> None:
    """Closing any descriptor of a file drops a process's POSIX locks on it, SQLite's among them."""
    store.append([_new()])

    def holder() -> int:
        found = subprocess.run(
            [sys.executable, "-c", _WHO_LOCKS, str(path)], capture_output=True, text=True, check=True
        )
        return int(found.stdout)

    assert holder() == os.getpid()
    SqliteStore(path, Mode.OPERATE).close()
    SqliteStore(path, Mode.READ).close()
    with pytest.raises(StoreHeld):
        SqliteStore(path)
    assert holder() == os.getpid()


def test_what_comes_after_a_rollback_that_failed_is_on_disk(store: SqliteStore, path: Path) -> None:
    """Found by a disk that fails: all that followed was acknowledged inside a transaction that never ended."""
    writer = store._writer
    store._writer = Refusing(writer)  # type: ignore[assignment]
    with pytest.raises(StoreError):
        store.append([_new(1, name="taken"), _new(2, name="taken")])
    store._writer = writer
    assert store.append([_new(3)]) == [True]
    assert store.change([Change("kind", "key", b"data")])
    beside = SqliteStore(path, Mode.READ)
    assert (beside.read(_id(1)), beside.read(_id(3))) == ([], [b"1"])
    assert beside.record("kind", "key") is not None
    beside.close()


class Refusing:
    """A connection that can't end a transaction."""

    def __init__(self, real: sqlite3.Connection) -> None:
        self._real = real

    @property
    def in_transaction(self) -> bool:
        return self._real.in_transaction

    def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
        if sql in ("COMMIT", "ROLLBACK"):
            raise sqlite3.OperationalError("disk I/O error")
        return self._real.execute(sql, values)
