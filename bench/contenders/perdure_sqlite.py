"""Perdure, embedded on SQLite: each workload prints its numbers as JSON. One workload per process."""

import resource
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from report import main, percentile, start_ms

import perdure
from perdure import Duration, durable_execution


@durable_execution(name="steps")
def steps(event, context):
    for number in range(event):
        context.step(lambda _, number=number: number, name="step")


@durable_execution(name="timed")
def timed(event, context):
    began = time.perf_counter()
    for number in range(event):
        context.step(lambda _, number=number: number, name="step")
    return (time.perf_counter() - began) / event * 1e6


@durable_execution(name="replays")
def replays(event, context):
    began = time.perf_counter()
    for number in range(event):
        context.step(lambda _, number=number: number, name="step")
    took = (time.perf_counter() - began) / event * 1e6
    context.wait(1)
    return took


@durable_execution(name="sleeper")
def sleeper(event, context):
    context.wait(Duration.from_seconds(event))


@durable_execution(name="sleeps_until")
def sleeps_until(event, context):
    context.wait(context.step(lambda _: max(1, round(event - time.time())), name="seconds"))
    return time.time()


ANSWERED: dict[str, float] = {}


@durable_execution(name="asked")
def asked(event, context):
    callback = context.create_callback("answer")
    callback.result()
    ANSWERED[callback.callback_id] = time.perf_counter()


@durable_execution(name="slow")
def slow(event, context):
    for number in range(10):
        context.step(lambda _, number=number: time.sleep(0.01), name="step")


FUNCTIONS = [steps, timed, replays, sleeper, sleeps_until, asked, slow]


def sequential(folder: Path) -> dict[str, float]:
    with perdure.open(str(folder / "a.db"), FUNCTIONS) as app:
        app.run(steps, 50)
        return {"us_per_step": app.run(timed, 2000)}


def parallel(folder: Path) -> dict[str, float]:
    with perdure.open(str(folder / "a.db"), FUNCTIONS) as app:
        for execution in app.start_many(steps, [10] * 64):
            execution.wait()
        began = time.perf_counter()
        rounds = 5
        for _ in range(rounds):
            for execution in app.start_many(steps, [10] * 64):
                execution.wait()
        return {"steps_per_s": rounds * 640 / (time.perf_counter() - began)}


def callback(folder: Path) -> dict[str, float]:
    with perdure.open(str(folder / "a.db"), FUNCTIONS) as app:
        accepted: dict[str, float] = {}
        for _ in range(200):
            execution = app.start(asked)
            opened = threading.Event()
            execution.watch(
                lambda state, _events, opened=opened: (
                    opened.set() if state.head.open_callbacks and state.head.in_flight is None else None
                ),
                from_start=True,
            )
            opened.wait()
            (handle,) = execution.callbacks()
            accepted[handle.id] = time.perf_counter()
            handle.succeed("yes")
            execution.wait()
        late = [(ANSWERED[key] - at) * 1000 for key, at in accepted.items()]
        return {"p50_ms": statistics.median(late), "p99_ms": percentile(late, 99)}


def replay(folder: Path) -> dict[str, float]:
    found = {}
    with perdure.open(str(folder / "a.db"), FUNCTIONS) as app:
        for count in (1_000, 10_000, 50_000):
            found[f"us_per_step_{count}"] = app.run(replays, count)
    return found


def history_length(folder: Path) -> dict[str, float]:
    """What one step costs after 100, 1,000 and 10,000 others."""

    @durable_execution(name="long")
    def long(event, context):
        marks = {}
        began = time.perf_counter()
        for number in range(event + 200):
            context.step(lambda _, number=number: number, name="step")
            if number + 1 in {at + more for at in (100, 1_000, event) for more in (0, 200)}:
                marks[number + 1] = time.perf_counter() - began
        return {str(at): (marks[at + 200] - marks[at]) / 200 * 1e6 for at in (100, 1_000, event)}

    with perdure.open(str(folder / "a.db"), [long, steps]) as app:
        app.run(steps, 1_100)  # the file's WAL has its size then
        return {f"us_per_step_after_{key}": value for key, value in app.run(long, 10_000).items()}


def starts(folder: Path) -> dict[str, float]:
    count = 20_000
    path = folder / "a.db"
    with perdure.open(str(path), FUNCTIONS) as app:
        app.run(steps, 1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        for _ in range(count // 500):
            app.start_many(sleeper, [86_400] * 500)
        while sum(1 for _ in app.list(status="RUNNING", limit=1)) and app.service.agenda.ready_count:
            time.sleep(0.005)
        took = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "starts_per_s": count / took,
        "disk_bytes_each": path.stat().st_size / count,
        "memory_bytes_each": (after - before) * 1024 / count,
    }


def due(folder: Path) -> dict[str, float]:
    count = 10_000
    with perdure.open(str(folder / "a.db"), FUNCTIONS) as app:
        late_lone = []
        for _ in range(5):
            lone = app.start(sleeps_until, time.time() + 1)
            lone.wait()
            late_lone.append(_lateness(lone))
        at = time.time() + 12
        executions = app.start_many(sleeps_until, [at] * count)
        late = [_lateness(execution) for execution in executions if execution.wait()]
    return {
        "p99_s": percentile(late, 99),
        "p50_s": statistics.median(late),
        "lone_ms": statistics.median(late_lone) * 1000,
    }


def _lateness(execution: "perdure.Execution") -> float:
    """How much later than planned the handler went on."""
    (wait,) = [op for op in execution.operations() if op.type == "WAIT"]
    return execution.result() - wait.scheduled_end_ms / 1000


def crash(folder: Path) -> dict[str, float]:
    """200 executions of 10 steps of 10 ms are killed half way; how long after the restart are all done."""
    path = str(folder / "a.db")
    child = subprocess.Popen([sys.executable, __file__, "crash_child", str(folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    began = time.perf_counter()
    with perdure.open(path, FUNCTIONS, threads=200) as app:
        left = [row.execution_id for row in app.list(status="RUNNING")]
        undone = 10 * len(left) - sum(
            sum(op.is_terminal for op in app.execution(execution_id).operations()) for execution_id in left
        )
        for execution_id in left:
            app.execution(execution_id).wait()
        took = time.perf_counter() - began
    return {"s_to_all_done": took, "steps_left": undone}


def crash_child(folder: Path) -> dict[str, float]:
    with perdure.open(str(folder / "a.db"), FUNCTIONS, threads=200) as app:
        app.start_many(slow, [None] * 200)
        print("started", flush=True)
        time.sleep(60)
    return {}


def many_asleep(folder: Path) -> dict[str, float]:
    """Opening and waking one beside ten and beside 100,000 that sleep."""
    found = {}
    for count in (10, 100_000):
        path = str(folder / f"{count}.db")
        with perdure.open(path, FUNCTIONS) as app:
            for _ in range(max(1, count // 1000)):
                app.start_many(sleeper, [86_400] * min(count, 1000))
            asking = app.start(asked)
            while not asking.callbacks() or app.service.agenda.ready_count:
                time.sleep(0.05)
        opened, woken = [], []
        for _ in range(5):
            began = time.perf_counter()
            app = perdure.open(path, FUNCTIONS)
            opened.append((time.perf_counter() - began) * 1000)
            execution = app.start(asked)
            while not execution.callbacks():
                time.sleep(0.001)
            began = time.perf_counter()
            execution.callbacks()[0].succeed("yes")
            execution.wait()
            woken.append((time.perf_counter() - began) * 1000)
            app.close()
        found[f"open_ms_{count}"] = statistics.median(opened)
        found[f"wake_ms_{count}"] = statistics.median(woken)
    return found


@durable_execution(name="mapped")
def mapped(event, context):
    context.map(range(event), lambda branch, item: branch.step(lambda _: item, name="step"), name="map")


@durable_execution(name="mapped_async")
async def mapped_async(event, context):
    async def one(branch, item):
        async def body():
            return item

        return await branch.step(body, name="step")

    await context.map(range(event), one, name="map")


ASKED: dict[str, None] = {}
ALL_ASKED = threading.Event()
WAITERS = 10_000


@durable_execution(name="waits_async")
async def waits_async(event, context):
    callback = await context.create_callback("answer")
    ASKED[callback.callback_id] = None
    if len(ASKED) == WAITERS:
        ALL_ASKED.set()
    return await callback


def fan_out(folder: Path) -> dict[str, float]:
    """A map of one-step items, in threads and on the loop."""
    found = {}
    with perdure.open(str(folder / "map.db"), [mapped, mapped_async]) as app:
        for handler, kind in ((mapped, ""), (mapped_async, "_async")):
            app.run(handler, 10)
            for count in (1_000, 10_000):
                began = time.perf_counter()
                app.run(handler, count)
                found[f"s{kind}_{count}"] = time.perf_counter() - began
    return found


def waiting_async(folder: Path) -> dict[str, float]:
    """10,000 executions of an `async def` handler that wait for callbacks at once, in one process."""
    with perdure.open(str(folder / "waits.db"), [waits_async]) as app:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        executions = app.start_many(waits_async, [None] * WAITERS)
        ALL_ASKED.wait()
        waiting_s = time.perf_counter() - began
        mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        threads = threading.active_count()
        began = time.perf_counter()
        for callback_id in list(ASKED):
            app.callback(callback_id).succeed("yes")
        for execution in executions:
            execution.wait()
        return {
            "s_to_wait": waiting_s,
            "s_to_end": time.perf_counter() - began,
            "mib": mib,
            "threads": threads,
        }


def startup(_folder: Path) -> dict[str, float]:
    bare = start_ms("-c", "pass")
    return {
        "import_ms": start_ms("-c", "import perdure") - bare,
        "names_ms": start_ms("-c", "from perdure import durable_execution, DurableContext") - bare,
        "help_ms": start_ms("-m", "perdure", "--help"),
    }


if __name__ == "__main__":
    main(
        [
            sequential,
            parallel,
            callback,
            replay,
            history_length,
            starts,
            due,
            crash,
            crash_child,
            many_asleep,
            fan_out,
            waiting_async,
            startup,
        ]
    )
