"""Measure Perdure beside what a user would pick instead: same machine, same minute, interleaved, medians of rounds.

    python bench/run.py [--rounds 3] [--only sequential,parallel] [--keep FOLDER]

The peers live in an environment of the benchmark's own (bench/.venv), which is made when it is missing. Every workload
runs in a process of its own. The table goes to stdout, everything measured to bench/results/*.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PYTHON = HERE / ".venv" / "bin" / "python"
LIMIT_S = 600

CONTENDERS: dict[str, tuple[str, dict[str, str]]] = {
    "Perdure": ("perdure_sqlite.py", {}),
    "DBOS": ("dbos_sqlite.py", {}),
    "AWS memory": ("aws_emulator.py", {"EMULATOR_STORE": "memory"}),
    "AWS SQLite": ("aws_emulator.py", {"EMULATOR_STORE": "sqlite"}),
    "ground": ("ground.py", {}),
}

ROWS: list[tuple[str, str, str, bool, str]] = [
    ("sequential", "us_per_step", "one step after the other, µs each", False, "≤ 1.6 × ground"),
    ("parallel", "steps_per_s", "64 executions × 10 steps, steps/s", True, "≥ 60 × DBOS"),
    ("callback", "p50_ms", "callback → next step, p50 ms", False, "≤ 1 ms"),
    ("callback", "p99_ms", "callback → next step, p99 ms", False, ""),
    ("replay", "us_per_step_1000", "replay of 1,000 steps, µs per step", False, "≤ 6 µs"),
    ("replay", "us_per_step_10000", "replay of 10,000 steps, µs per step", False, "≤ 6 µs"),
    ("replay", "us_per_step_50000", "replay of 50,000 steps, µs per step", False, "≤ 6 µs"),
    ("history_length", "us_per_step_after_100", "a step after 100 others, µs", False, "all alike"),
    ("history_length", "us_per_step_after_1000", "a step after 1,000 others, µs", False, "all alike"),
    ("history_length", "us_per_step_after_10000", "a step after 10,000 others, µs", False, "all alike"),
    ("starts", "starts_per_s", "starts of sleepers, per s", True, "≥ 5,000"),
    ("starts", "disk_bytes_each", "disk per sleeper, bytes", False, "≤ 600"),
    ("starts", "memory_bytes_each", "memory per sleeper (20,000), bytes", False, "bounded by the cache"),
    ("due", "p99_s", "10,000 due at once, p99 late, s", False, "≤ 1.5 s"),
    ("due", "lone_ms", "a lone timer, late, ms", False, "≤ 10 ms"),
    ("many_asleep", "open_ms_10", "opening beside 10 asleep, ms", False, ""),
    ("many_asleep", "open_ms_100000", "opening beside 100,000 asleep, ms", False, "as with 10"),
    ("many_asleep", "wake_ms_10", "waking one beside 10, ms", False, ""),
    ("many_asleep", "wake_ms_100000", "waking one beside 100,000, ms", False, "as with 10"),
    ("crash", "s_to_all_done", "200 in flight, SIGKILL → all done, s", False, "≤ 1 s"),
    ("fan_out", "s_1000", "map of 1,000 one-step items, s", False, "≤ 0.25 s"),
    ("fan_out", "s_10000", "map of 10,000 one-step items, s", False, "≤ 2.5 s"),
    ("fan_out", "s_async_1000", "the same on the loop, 1,000 items, s", False, "≤ 0.25 s"),
    ("fan_out", "s_async_10000", "the same on the loop, 10,000 items, s", False, "≤ 2.5 s"),
    ("waiting_async", "s_to_wait", "10,000 async executions: all wait for callbacks, s", False, ""),
    ("waiting_async", "s_to_end", "… all answered and ended, s", False, ""),
    ("waiting_async", "mib", "… memory meanwhile, MiB", False, ""),
    ("waiting_async", "threads", "… threads meanwhile", False, ""),
    ("startup", "import_ms", "import, ms", False, "≤ 40 ms"),
    ("startup", "names_ms", "import with the names a handler needs, ms", False, ""),
    ("startup", "help_ms", "perdure --help, ms", False, "≤ 150 ms"),
]
"""Workload, its number, what it is, whether more is better, the target of the design."""


SDKS: dict[str, tuple[str, dict[str, str]]] = {
    "Perdure": ("sdk.py", {"SDK_ROOT": "perdure"}),
    "AWS SDK": ("sdk.py", {"SDK_ROOT": "aws_durable_execution_sdk_python"}),
}

SDK_ROWS: list[tuple[str, str, str, bool, str]] = [
    ("sdk_import", "ms", "import with a handler's names, fresh process, ms", False, "≤ 40 ms"),
    ("sdk_empty", "ms", "an invocation that does nothing, ms", False, "≤ 2 ms"),
    ("sdk_step", "us", "a step, µs", False, "≤ 150 µs"),
    ("sdk_step", "calls", "calls for a step", False, "1"),
    ("sdk_replay", "ms_1000", "replay of 1,000 steps, ms", False, "≤ 8 µs each"),
    ("sdk_replay", "ms_5000", "replay of 5,000 steps, ms", False, ""),
    ("sdk_replay", "ms_20000", "replay of 20,000 steps, ms", False, ""),
    ("sdk_replay", "ms_50000", "replay of 50,000 steps, ms", False, ""),
    ("sdk_map", "s_1000", "map of 1,000 one-step items, s", False, "≤ 0.15 s"),
    ("sdk_map", "threads_1000", "… threads", False, "≤ 64 + 2"),
    ("sdk_map", "mib_1000", "… memory, MiB", False, ""),
    ("sdk_map", "s_10000", "map of 10,000 one-step items, s", False, ""),
    ("sdk_map", "threads_10000", "… threads", False, "≤ 64 + 2"),
    ("sdk_map", "mib_10000", "… memory, MiB", False, ""),
    ("sdk_map_waiting", "ms", "map of 1,000 waiting for callbacks, invoked again, ms", False, "≤ 30 ms"),
    ("sdk_map_waiting", "threads", "… threads", False, "< 70"),
    ("sdk_plugin", "us_500", "a step beside a plugin, 500 of them, µs", False, ""),
    ("sdk_plugin", "us_2000", "a step beside a plugin, 2,000 of them, µs", False, "as with 500"),
    ("sdk_predicate", "s_250", "map of 250 with a predicate, s", False, ""),
    ("sdk_predicate", "s_1000", "map of 1,000 with a predicate, s", False, "4 × that of 250"),
]
"""The SDKs alone, over a client in memory."""


SERVERS: dict[str, tuple[str, dict[str, str]]] = {
    "Perdure": ("server.py", {"SERVER": "perdure"}),
    "Perdure memory": ("server.py", {"SERVER": "perdure", "STORE": "memory"}),
    "AWS memory": ("server.py", {"SERVER": "emulator", "STORE": "memory"}),
    "AWS SQLite": ("server.py", {"SERVER": "emulator", "STORE": "sqlite"}),
}

SERVER_ROWS: list[tuple[str, str, str, bool, str]] = [
    ("checkpoints", "per_s_1", "checkpoints of a step, 1 connection, per s", True, "≥ 10 × AWS memory"),
    ("checkpoints", "p50_ms_1", "… p50, ms", False, ""),
    ("checkpoints", "p99_ms_1", "… p99, ms", False, ""),
    ("checkpoints", "per_s_16", "… 16 connections, per s", True, ""),
    ("checkpoints", "p50_ms_16", "… p50, ms", False, ""),
    ("checkpoints", "p99_ms_16", "… p99, ms", False, ""),
    ("checkpoints", "per_s_64", "… 64 connections, per s", True, ""),
    ("checkpoints", "p50_ms_64", "… p50, ms", False, ""),
    ("checkpoints", "p99_ms_64", "… p99, ms", False, ""),
    ("http_starts", "per_s", "starts over HTTP, per s", True, ""),
    ("server_ready", "ms", "process start → first answer, ms", False, "≤ 500 ms"),
    ("managed", "us_per_step", "1,000 steps in a managed function, µs each", False, ""),
    ("managed", "us_per_official_step", "… of the official SDK, µs each", False, ""),
    ("workers", "us_per_step", "… in a worker, µs each", False, ""),
    ("managed", "callback_p50_ms", "callback → handler goes on, p50 ms", False, "≤ 4 ms"),
    ("managed", "callback_p99_ms", "… p99 ms", False, ""),
    ("managed", "cold_ms", "cold invocation, ms", False, ""),
    ("managed", "warm_p50_ms", "warm invocation, p50 ms", False, ""),
    ("managed", "warm_p99_ms", "… p99 ms", False, ""),
    ("suspended", "mib_10", "memory of a server beside 10 suspended, MiB", False, ""),
    ("suspended", "mib_100000", "… beside 100,000, MiB", False, "as with 10"),
]
"""Servers, spoken to over HTTP."""


KITS: dict[str, tuple[str, dict[str, str]]] = {
    "Perdure": ("testkit.py", {"KIT": "perdure.testing", "SDK_ROOT": "perdure"}),
    "AWS testing": (
        "testkit.py",
        {"KIT": "aws_durable_execution_sdk_python_testing", "SDK_ROOT": "aws_durable_execution_sdk_python"},
    ),
}

KIT_ROWS: list[tuple[str, str, str, bool, str]] = [
    ("kit_import", "ms", "import of the runner, ms", False, "≤ 150 ms"),
    ("kit_trivial", "p50_ms", "a test of one step, p50 ms", False, "≤ 3 ms"),
    ("kit_trivial", "p95_ms", "… p95 ms", False, "≤ 8 ms"),
    ("kit_trivial", "s_50", "50 of them in a row, s", False, "≤ 0.25 s"),
    ("kit_trivial", "s_1000", "1,000 of them in a row, s", False, "≤ 5 s"),
    ("kit_waits", "ms_day", "a wait of a day, ms", False, "≤ 10 ms"),
    ("kit_waits", "ms_year", "a wait of a year, ms", False, "≤ 10 ms"),
    ("kit_waits", "ms_30", "30 waits of an hour, ms", False, "≤ 60 ms"),
    ("kit_steps", "ms_10", "10 steps, ms", False, ""),
    ("kit_steps", "ms_100", "100 steps, ms", False, "≤ 50 ms"),
    ("kit_steps", "s_2900", "2,900 steps, s", False, "≤ 1.5 s"),
    ("kit_map", "ms_100", "map of 100 one-step items, ms", False, ""),
    ("kit_map", "s_990", "map of 990, s", False, "≤ 0.7 s"),
    ("kit_callbacks", "ms_answered", "a callback that is answered, ms", False, "≤ 10 ms"),
    ("kit_callbacks", "ms_timed_out", "a callback that times out after 3 s, ms", False, "≤ 50 ms"),
    ("kit_together", "s_100", "100 executions together, s", False, "≤ 0.3 s"),
    ("kit_chained", "ms", "a chained child that waits a day, ms", False, "≤ 20 ms"),
]
"""The test kits: the same tests, written for the official one."""


def prepare() -> None:
    """Make the environment of the peers, with Perdure as it is in this checkout."""
    ready = HERE / ".venv" / ".ready"
    wanted = (HERE / "requirements.txt").read_text()
    if ready.exists() and ready.read_text() == wanted:
        return
    print("preparing an environment in bench/.venv ...", file=sys.stderr, flush=True)
    venv.create(HERE / ".venv", with_pip=True, clear=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(HERE / "requirements.txt")], check=True)
    subprocess.run([*pip, "--editable", str(HERE.parent)], check=True)
    ready.write_text(wanted)


def workloads_of(script: str, environment: dict[str, str]) -> list[str]:
    command = [str(PYTHON), str(HERE / "contenders" / script)]
    given = {**os.environ, **environment}
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=given)
    names: list[str] = json.loads(found.stdout)
    return names


def measure(script: str, environment: dict[str, str], workload: str, folder: Path) -> dict[str, float] | str:
    """The numbers of one run; a text says why there are none."""
    command = [str(PYTHON), str(HERE / "contenders" / script), workload, str(folder)]
    try:
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not done within {LIMIT_S} s"
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:200]
    numbers: dict[str, float] = json.loads(lines[-1])
    return numbers


Contenders = dict[str, tuple[str, dict[str, str]]]
Rows = list[tuple[str, str, str, bool, str]]


def run(rounds: int, only: set[str], contenders: Contenders) -> list[dict[str, Any]]:
    """Every contender after the other in each round, so that the machine's moods meet all alike."""
    plan = {name: workloads_of(script, given) for name, (script, given) in contenders.items()}
    workloads = [name for name in plan["Perdure"] if not only or name in only]
    measured: list[dict[str, Any]] = []
    for workload in workloads:
        for number in range(1, rounds + 1):
            for name, (script, environment) in contenders.items():
                if workload not in plan[name]:
                    continue
                began = time.monotonic()
                with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
                    found = measure(script, environment, workload, Path(folder))
                print(
                    f"{workload} {number}/{rounds} {name}: {found if isinstance(found, str) else _short(found)}"
                    f"  ({time.monotonic() - began:.0f} s)",
                    file=sys.stderr,
                    flush=True,
                )
                measured.append({"workload": workload, "contender": name, "round": number, "found": found})
    return measured


def _short(found: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3g}" for name, value in found.items())


def medians(measured: list[dict[str, Any]]) -> dict[tuple[str, str, str], float]:
    """By workload, number and contender."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for item in measured:
        if isinstance(item["found"], dict):
            for number, value in item["found"].items():
                values.setdefault((item["workload"], number, item["contender"]), []).append(value)
    return {key: statistics.median(found) for key, found in values.items()}


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(found: dict[tuple[str, str, str], float], contenders: Contenders, rows: Rows) -> list[str]:
    """A Markdown table: each peer with how many times better Perdure is; the ground with how near it comes."""
    peers = list(contenders)[1:]
    lines = [
        f"| workload | target | Perdure | {' | '.join(peers)} |",
        "|---|---|--:|" + "--:|" * len(peers),
    ]
    for workload, number, label, is_more_better, target in rows:
        ours = found.get((workload, number, "Perdure"))
        if ours is None:
            continue
        cells = []
        for peer in peers:
            theirs = found.get((workload, number, peer))
            if theirs is None:
                cells.append("")
                continue
            ratio = ours / theirs if is_more_better or peer == "ground" else theirs / ours
            cells.append(f"{_number(theirs)} ({ratio:.2f}×)" if ratio < 10 else f"{_number(theirs)} ({ratio:,.0f}×)")
        lines.append(f"| {label} | {target} | **{_number(ours)}** | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is run (3)")
    parser.add_argument("--only", default="", help="workloads, separated by commas")
    options = parser.parse_args()
    prepare()
    only = {word for word in options.only.split(",") if word}
    measured = run(options.rounds, only, CONTENDERS)
    of_sdks = run(options.rounds, only, SDKS)
    of_servers = run(options.rounds, only, SERVERS)
    of_kits = run(options.rounds, only, KITS)
    found, found_of_sdks, found_of_servers = medians(measured), medians(of_sdks), medians(of_servers)
    found_of_kits = medians(of_kits)
    lines = [*table(found, CONTENDERS, ROWS), "", *table(found_of_sdks, SDKS, SDK_ROWS), ""]
    lines += [*table(found_of_servers, SERVERS, SERVER_ROWS), "", *table(found_of_kits, KITS, KIT_ROWS)]
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    document = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "peers": (HERE / "requirements.txt").read_text().split("\n")[1:-1],
        "rounds": options.rounds,
        "medians": {" ".join(key): value for key, value in found.items()},
        "medians_of_sdks": {" ".join(key): value for key, value in found_of_sdks.items()},
        "medians_of_servers": {" ".join(key): value for key, value in found_of_servers.items()},
        "medians_of_kits": {" ".join(key): value for key, value in found_of_kits.items()},
        "measured": [*measured, *of_sdks, *of_servers, *of_kits],
    }
    path = results / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False))
    print("\n".join(lines))
    print(
        "\nIn brackets: how many times better Perdure is (at the ground: our cost over its cost). DBOS commits with\n"
        "the rollback journal and synchronous=FULL; the AWS runner's SQLite store with synchronous=NORMAL: less."
    )
    print(f"kept in {path.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
