"""AWS's own SDK with its local runner. EMULATOR_STORE is "memory", or "sqlite" (WAL, synchronous=NORMAL: its own
settings, which a power cut may cost the last commits)."""

import os
import statistics
import sys
import time
from pathlib import Path

from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python.config import Duration
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner
from report import main, percentile, start_ms


@durable_execution
def steps(event, context: DurableContext):
    began = time.perf_counter()
    for number in range(int(event)):
        context.step(lambda _, number=number: number, name="step")
    return (time.perf_counter() - began) / int(event) * 1e6


@durable_execution
def replays(event, context: DurableContext):
    began = time.perf_counter()
    for number in range(int(event)):
        context.step(lambda _, number=number: number, name="step")
    took = (time.perf_counter() - began) / int(event) * 1e6
    context.wait(Duration.from_seconds(1))
    return took


ANSWERED: list[float] = []


@durable_execution
def asked(event, context: DurableContext):
    callback = context.create_callback("answer")
    callback.result()
    ANSWERED.append(time.perf_counter())


@durable_execution
def sleeper(event, context: DurableContext):
    context.wait(Duration.from_seconds(3600))


def runner(handler, folder: Path, **more):
    store = None
    if os.environ.get("EMULATOR_STORE") == "sqlite":
        from aws_durable_execution_sdk_python_testing.stores.sqlite import SQLiteExecutionStore

        store = SQLiteExecutionStore.create_and_initialize(folder / "emulator.db")
    return DurableFunctionTestRunner(handler=handler, store=store, **more)


def sequential(folder: Path) -> dict[str, float]:
    with runner(steps, folder) as run:
        return {"us_per_step": float(run.run(input="150", timeout=300).result)}


def parallel(folder: Path) -> dict[str, float]:
    with runner(steps, folder) as run:
        began = time.perf_counter()
        arns = [run.run_async(input="10", execution_name=f"n-{number}") for number in range(64)]
        for arn in arns:
            run.wait_for_result(arn, timeout=300)
        return {"steps_per_s": 640 / (time.perf_counter() - began)}


def callback(folder: Path) -> dict[str, float]:
    late = []
    with runner(asked, folder, poll_interval=0.01) as run:
        for number in range(10):
            arn = run.run_async(input="1", execution_name=f"n-{number}")
            callback_id = run.wait_for_callback(arn, timeout=60)
            sent = time.perf_counter()
            run.send_callback_success(callback_id, b'"yes"')
            run.wait_for_result(arn, timeout=60)
            late.append((ANSWERED[-1] - sent) * 1000)
    return {"p50_ms": statistics.median(late), "p99_ms": percentile(late, 99)}


def replay(folder: Path) -> dict[str, float]:
    with runner(replays, folder) as run:
        return {"us_per_step_1000": float(run.run(input="1000", timeout=300).result)}


def starts(folder: Path) -> dict[str, float]:
    count = 200
    with runner(sleeper, folder, skip_time=False) as run:
        began = time.perf_counter()
        for number in range(count):
            run.run_async(input="1", execution_name=f"n-{number}")
        took = time.perf_counter() - began
        print(flush=True, file=sys.stderr)
        sys.stdout.write(f'{{"starts_per_s": {count / took}}}\n')
        sys.stdout.flush()
        os._exit(0)


def startup(_folder: Path) -> dict[str, float]:
    return {"import_ms": start_ms("-c", "import aws_durable_execution_sdk_python") - start_ms("-c", "pass")}


if __name__ == "__main__":
    main([sequential, parallel, callback, replay, starts, startup])
    sys.stdout.flush()
    os._exit(0)
