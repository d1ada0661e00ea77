"""The store on a disk that loses power, gets full and fails: what was acknowledged is there, and nothing half."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.model.error import StoreError
from perdure.model.execution import ExecutionRow, ExecutionStatus
from perdure.model.ids import new_execution_id
from perdure.store.protocol import Commit
from simulation.disk import Disk, PowerCut

FRESH = random.SystemRandom().randrange(2**32)


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
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
    with capsys.disabled():
        print(f"\n{kind}: {disk.counts} in 300 writes, seed {FRESH}")
    disk.close()
    assert sum(disk.counts.values()) > 10
