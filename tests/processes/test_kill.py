"""A real process, killed with SIGKILL at random moments, started again, and again."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import perdure
from perdure.model.execution import ExecutionStatus

HERE = Path(__file__).parent
KILLS = 20
ORDERS = 50
TURNS = 4
NAMES = [
    f"{name}-{turn}"
    for turn in range(TURNS)
    for name in ("validate", "reserve", "charge", "pack", "wrap", "label", "ship")
]
ONCE = {name for name in NAMES if name.startswith(("charge", "label"))}


def test_fifty_executions_survive_twenty_kills(tmp_path: Path, tell: Callable[[str], None]) -> None:
    """Right results, no completed body run again, at-most-once bodies once per attempt, histories without gaps."""
    seed = random.SystemRandom().randrange(2**32)
    rng = random.Random(seed)
    store, log = tmp_path / "orders.db", tmp_path / "log"
    command = [sys.executable, str(HERE / "orders.py"), str(store), str(log)]
    moments = []
    for _ in range(KILLS):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        moments.append(rng.uniform(0.0, 0.5))
        assert process.stdout is not None
        if rng.random() < 0.8:
            assert process.stdout.readline() == "started\n"
        time.sleep(moments[-1])
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    last = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    tell(f"seed {seed}: {KILLS} kills after {min(moments):.2f} to {max(moments):.2f} s")
    assert last.returncode == 0, last.stderr
    check_bodies(log)
    check_executions(store)


def check_bodies(log: Path) -> None:
    """What the bodies wrote down, in the order in which it reached the disk."""
    seen: set[tuple[str, str]] = set()
    starts: Counter[tuple[str, str, str]] = Counter()
    for line in log.read_text().splitlines():
        what, order, name, attempt = line.split()
        if what == "start":
            assert (order, name) not in seen, f"{name} of order {order} ran again after its result had been seen"
            starts[order, name, attempt] += 1
        elif what == "seen":
            seen.add((order, name))
    assert seen == {(str(number), name) for number in range(ORDERS) for name in NAMES}
    twice = {key: count for key, count in starts.items() if key[1] in ONCE and count > 1}
    assert not twice, f"at-most-once bodies started more than once in one attempt: {twice}"
    assert sum(starts.values()) > ORDERS * len(NAMES), "no kill hit a running body"


def check_executions(store: Path) -> None:
    """What the store has in the end."""
    with perdure.open(str(store)) as durable:
        rows = list(durable.list())
        assert len(rows) == ORDERS
        for row in rows:
            execution = durable.execution(row.execution_id)
            assert row.status is ExecutionStatus.SUCCEEDED
            number = row.shown_name.removeprefix("order-")
            assert execution.result() == [f"{name}-{number}" for name in NAMES]
            ids = [event.event_id for event in execution.history()]
            assert ids == list(range(1, len(ids) + 1))
