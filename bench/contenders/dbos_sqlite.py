"""DBOS Transact on SQLite (rollback journal, synchronous=FULL: its own settings)."""

import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from dbos import DBOS, SetWorkflowID
from report import main, percentile, start_ms


@DBOS.step()
def one(number):
    return number


@DBOS.step()
def slow_one(number):
    time.sleep(0.01)


@DBOS.workflow()
def steps(count):
    began = time.perf_counter()
    for number in range(count):
        one(number)
    return (time.perf_counter() - began) / count * 1e6


@DBOS.workflow()
def slow():
    for number in range(10):
        slow_one(number)


@DBOS.workflow()
def asked(count):
    seen = []
    for _ in range(count):
        DBOS.recv("answer", timeout_seconds=60)
        seen.append(time.perf_counter())
    return seen


@DBOS.workflow()
def sleeper(seconds):
    DBOS.sleep(seconds)


REPLAYED: list[float] = []


@DBOS.workflow()
def replays(count):
    began = time.perf_counter()
    for number in range(count):
        one(number)
    REPLAYED.append((time.perf_counter() - began) / count * 1e6)
    if len(REPLAYED) == 1:
        raise KeyboardInterrupt


def launch(folder: Path) -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{folder / 'dbos.db'}",
            "log_level": "CRITICAL",
            "run_admin_server": False,
        }
    )
    DBOS.launch()


def sequential(folder: Path) -> dict[str, float]:
    launch(folder)
    DBOS.start_workflow(steps, 20).get_result()
    return {"us_per_step": DBOS.start_workflow(steps, 300).get_result()}


def parallel(folder: Path) -> dict[str, float]:
    launch(folder)
    began = time.perf_counter()
    for handle in [DBOS.start_workflow(steps, 10) for _ in range(64)]:
        handle.get_result()
    return {"steps_per_s": 640 / (time.perf_counter() - began)}


def callback(folder: Path) -> dict[str, float]:
    launch(folder)
    count = 10
    handle = DBOS.start_workflow(asked, count)
    sent = []
    for number in range(count):
        time.sleep(1.2 + number * 0.037)
        sent.append(time.perf_counter())
        DBOS.send(handle.workflow_id, "yes", "answer")
    late = [(b - a) * 1000 for a, b in zip(sent, handle.get_result(), strict=True)]
    return {"p50_ms": statistics.median(late), "p99_ms": percentile(late, 99)}


def replay(folder: Path) -> dict[str, float]:
    launch(folder)
    count = 1_000
    handle = DBOS.start_workflow(steps, count)
    handle.get_result()
    began = time.perf_counter()
    forked = DBOS.fork_workflow(handle.workflow_id, count)
    forked.get_result(polling_interval_sec=0.01)
    return {f"us_per_step_{count}": (time.perf_counter() - began) / count * 1e6}


def starts(folder: Path) -> dict[str, float]:
    launch(folder)
    count = 300
    began = time.perf_counter()
    for _ in range(count):
        DBOS.start_workflow(sleeper, 3600)
    took = time.perf_counter() - began
    return {"starts_per_s": count / took, "disk_bytes_each": (folder / "dbos.db").stat().st_size / count}


def crash(folder: Path) -> dict[str, float]:
    child = subprocess.Popen([sys.executable, __file__, "crash_child", str(folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.2)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    began = time.perf_counter()
    launch(folder)
    for number in range(200):
        DBOS.retrieve_workflow(f"w-{number}").get_result()
    return {"s_to_all_done": time.perf_counter() - began}


def crash_child(folder: Path) -> dict[str, float]:
    launch(folder)
    for number in range(200):
        with SetWorkflowID(f"w-{number}"):
            DBOS.start_workflow(slow)
    print("started", flush=True)
    time.sleep(60)
    return {}


def startup(_folder: Path) -> dict[str, float]:
    return {"import_ms": start_ms("-c", "import dbos") - start_ms("-c", "pass")}


if __name__ == "__main__":
    main([sequential, parallel, callback, replay, starts, crash, crash_child, startup])
    sys.stdout.flush()
    import os

    os._exit(0)
