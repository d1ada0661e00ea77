"""The simulation in as many processes as there are cores, for as long as one is told."""

import gc
import multiprocessing
import os
import random
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from simulation.plans import Plan, from_json, to_json
from simulation.running import SEEDS, FoundViolation, Summary, play, quiet, run_worlds
from simulation.shrinking import Shrinker, kind_of, told


def main() -> int:
    parser = ArgumentParser("python -m simulation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to run (60)")
    parser.add_argument("--seed", type=int, help="the first seed (fresh ones)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once (one a core)")
    parser.add_argument("--first", action="store_true", help="end with the first violation")
    parser.add_argument("--no-shrink", action="store_true", help="report what was found as it was found")
    parser.add_argument("--plan", type=Path, help="play this plan alone")
    given = parser.parse_args()
    if given.plan is not None:
        return _play_one(given.plan)
    first = random.SystemRandom().randrange(SEEDS) if given.seed is None else given.seed
    print(f"seeds from {first} on, {given.jobs} job(s), {given.seconds:g} s", flush=True)
    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    news: Any = context.SimpleQueue()
    stop = context.Event()
    processes = [
        context.Process(
            target=_work, args=(job, given.jobs, first, given.seconds, given.no_shrink, news, stop), daemon=True
        )
        for job in range(given.jobs)
    ]
    for process in processes:
        process.start()
    parts: dict[int, Summary] = {}
    running, kinds = set(range(given.jobs)), dict[str, str]()
    while running:
        job, what, content = news.get()
        if what == "done":
            running.discard(job)
        if what in ("done", "progress"):
            parts[job] = content
            _print_progress(parts, began)
        else:
            kind, text = content
            kinds.setdefault(kind, text)
            print(text if what == "found" else f"FOUND: {text}", flush=True)
            if given.first:
                stop.set()
    whole = Summary(first_seed=first, jobs=given.jobs, wall_s=time.monotonic() - began)
    for part in parts.values():
        whole.add(part)
    whole.found = [*kinds.values()]
    print(whole.told())
    return 1 if kinds else 0


def _print_progress(parts: dict[int, Summary], began: float) -> None:
    whole = Summary()
    for part in parts.values():
        whole.add(part)
    wall_s = time.monotonic() - began
    speed = f"{whole.executions / wall_s:.0f} a second, {whole.per_cpu_s:.0f} a second and core"
    print(f"{wall_s:7.0f} s  {whole.seeds} worlds, {whole.executions} executions, {speed}", flush=True)


def _work(job: int, jobs: int, first: int, seconds: float, no_shrink: bool, news: Any, stop: Any) -> None:
    """One process: the seeds first + job, first + job + jobs, … It ends with the process that made it."""
    parent = os.getppid()

    def is_over() -> bool:
        return bool(stop.is_set()) or os.getppid() != parent

    end = time.monotonic() + seconds
    done = Summary(first_seed=first + job)
    next_seed = first + job
    while (left_s := end - time.monotonic()) > 0 and not is_over():
        summary = Summary()

        def progress(part: Summary) -> None:
            so_far = Summary()
            so_far.add(done)
            so_far.add(part)
            news.put((job, "progress", so_far))

        try:
            run_worlds(left_s, next_seed, stride=jobs, told=progress, summary=summary, is_over=is_over)
        except FoundViolation as found:
            news.put((job, "seen", (kind_of(found.violation), str(found))))
            if not no_shrink:
                news.put((job, "found", _described(found)))
        done.add(summary)
        next_seed += (summary.seeds + 1) * jobs
    news.put((job, "done", done))


def _described(found: FoundViolation) -> tuple[str, str]:
    """What a violation is, and what there is to read: the seed, and a small plan that shows it."""
    kind = kind_of(found.violation)
    lines = [f"FOUND, made smaller: {found}"]
    with quiet():
        plan = Shrinker(_breaks).shrink(found.plan)
    lines += [told(plan), "as a plan, for --plan and for the folder found:", to_json(plan)]
    return kind, "\n".join(lines)


def _breaks(plan: Plan) -> tuple[str, Plan] | None:
    gc.collect(0)
    try:
        play(plan).close()
    except FoundViolation as found:
        return kind_of(found.violation), found.plan
    return None


def _play_one(path: Path) -> int:
    with quiet():
        try:
            world = play(from_json(path.read_bytes()))
        except FoundViolation as found:
            print(found)
            print(told(found.plan))
            return 1
    print(f"nothing wrong: {world.counts}")
    return 0
