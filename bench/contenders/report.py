"""What all contenders share: a workload named on the command line is run, its numbers are printed as JSON."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

Workload = Callable[[Path], dict[str, float]]


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def start_ms(*arguments: str, rounds: int = 7) -> float:
    """What it takes to start Python with these arguments: the median, with compiled modules on disk as usual."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def main(workloads: Sequence[Workload]) -> None:
    """`contender.py WORKLOAD FOLDER`; without arguments, the names of the workloads."""
    known = {workload.__name__: workload for workload in workloads}
    if len(sys.argv) < 3:
        print(json.dumps([name for name in known if not name.endswith("_child")]))
        return
    print(json.dumps(known[sys.argv[1]](Path(sys.argv[2]))))
