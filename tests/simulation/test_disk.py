"""The store on a disk that loses power, gets full and fails: what was acknowledged is there, and nothing half."""

import contextlib
import itertools
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from perdure.model.error import StoreError
from perdure.model.execution import ExecutionRow, ExecutionStatus
from perdure.model.ids import new_execution_id
from perdure.store.protocol import Commit
from perdure.store.sqlite.store import SqliteStore
from simulation.disk import Disk, PowerCut, Torn
from simulation.disk_world import DiskWorld
from simulation.plans import make_plan
from simulation.running import SEEDS, quiet

FRESH = random.SystemRandom().randrange(2**32)
WORLDS, SECONDS = 40, 10.0


def row(execution_id: str, name: str | None, wake_at_ms: int = 1) -> ExecutionRow:
    return ExecutionRow(
        execution_id=execution_id,
        function="fn",
        status=ExecutionStatus.RUNNING,
        start_ms=1,
        wake_at_ms=wake_at_ms,
        name=name,
    )


class Writer:
    """Writes random journals to a disk, and goes on whatever becomes of it."""

    def __init__(self, disk: Disk, rng: random.Random) -> None:
        self.disk = disk
        self.rng = rng
        self.numbers = itertools.count(1)

    def commits(self) -> Iterator[Commit]:
        """Some commits for one transaction: new executions, names that may be taken, rows, and losers."""
        rng = self.rng
        known = list(self.disk._journals)
        for _ in range(rng.choice([1, 1, 2, 5, 40])):
            data = rng.randbytes(rng.choice([10, 100, 3_000, 20_000]))
            number = next(self.numbers)
            if not known or rng.random() < 0.3:
                execution_id = new_execution_id(number, rng.randbytes(10))
                name = f"n-{rng.randrange(50)}" if rng.random() < 0.3 else None
                yield Commit(execution_id, 1, data, row(execution_id, name), is_new=True)
                continue
            execution_id = known.pop(rng.randrange(len(known)))
            seq = len(self.disk._journals[execution_id]) + (1 if rng.random() < 0.9 else rng.choice([0, 2]))
            before = self.disk._rows[execution_id]
            changed = row(execution_id, before.name, number) if rng.random() < 0.4 else None
            yield Commit(execution_id, seq, data, changed)

    def write(self) -> None:
        rng = self.rng
        if rng.random() < 0.05 and self.disk._journals:
            self.disk.delete([rng.choice(list(self.disk._journals))])
        else:
            self.disk.append(list(self.commits()))


@pytest.mark.parametrize("kind", [*Disk.FAULTS, "all of them"])
def test_a_disk_that_fails_holds_what_it_has_acknowledged_and_nothing_half(
    kind: str, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    rng = random.Random(FRESH)
    kinds = Disk.FAULTS if kind == "all of them" else (kind,)
    disk = Disk(tmp_path, rng, rate=0.2, kinds=kinds)
    writer = Writer(disk, rng)
    for _ in range(300):
        try:
            writer.write()
        except (StoreError, PowerCut):
            continue
    disk.rate = 0.0
    disk.check()
    for _ in range(20):
        writer.write()
    disk.check()
    tell(f"{kind}: {disk.counts} in 300 writes, seed {FRESH}")
    disk.close()
    assert sum(disk.counts.values()) > 10


def test_every_promise_holds_on_a_disk_that_fails(tmp_path: Path, tell: Callable[[str], None]) -> None:
    """Programs go on after every fault of the disk as if nothing had been: the same oracle judges them."""
    only = os.environ.get("PERDURE_SEED")
    seeds = [int(only)] if only else range(FRESH, FRESH + WORLDS)
    counts: Counter[str] = Counter()
    played = 0
    with quiet():
        began = time.monotonic()
        for seed in seeds:
            if time.monotonic() - began > SECONDS and not only:
                break
            played += 1
            (folder := tmp_path / str(seed)).mkdir()
            world = DiskWorld(make_plan(seed % SEEDS), folder)
            try:
                world.run()
            except BaseException as error:
                pytest.fail(f"PERDURE_SEED={seed} on a disk: {type(error).__name__}: {error}")
            finally:
                world.disk.close()
            counts.update(world.counts)
            counts.update(world.disk.counts)
    faults = ", ".join(f"{counts[kind]} {kind}" for kind in Disk.FAULTS)
    tell(f"{played} worlds on a disk, {counts['executions']} executions: {faults}; seeds from {seeds[0]}")
    if not only:
        assert sum(counts[kind] for kind in Disk.FAULTS), "the faults did not happen"


def test_what_was_being_written_is_sometimes_there_and_sometimes_not(tmp_path: Path) -> None:
    """Else the power cuts would prove nothing."""
    rng = random.Random(FRESH)
    disk = Disk(tmp_path, rng, rate=1.0, kinds=("power cut",))
    there = 0
    for number in range(40):
        execution_id = new_execution_id(number, rng.randbytes(10))
        with pytest.raises(PowerCut):
            disk.append([Commit(execution_id, 1, rng.randbytes(9_000), row(execution_id, None), is_new=True)])
        there += disk.row(execution_id) is not None
    disk.close()
    assert 0 < there < 40


def test_a_commit_that_is_made_in_two_halves_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness itself: a store that puts a batch on disk in two transactions."""
    write = SqliteStore._write

    def in_halves(self: SqliteStore, commits: Sequence[Commit]) -> list[bool]:
        half = len(commits) // 2
        return write(self, commits[:half]) + write(self, commits[half:])

    monkeypatch.setattr(SqliteStore, "_write", in_halves)
    rng = random.Random(FRESH)
    disk = Disk(tmp_path, rng, rate=0.5, kinds=("power cut", "statement fails"))
    writer = Writer(disk, rng)
    with pytest.raises(Torn):
        for _ in range(2_000):
            with contextlib.suppress(StoreError, PowerCut):
                writer.write()
    disk.close()


def test_an_acknowledged_commit_is_synced() -> None:
    """The disk's model of a power cut rests on it: with these settings SQLite syncs the WAL at every commit."""
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "s")
        settings = [store._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
        store.close()
    assert settings == ["wal", 2]
