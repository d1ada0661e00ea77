"""The test kit: what a test of a durable function costs. KIT says whose: Perdure's or the official one's.

One source for both, written for the official package, with nothing changed but the import roots.
"""

import importlib
import os
import statistics
import time
from pathlib import Path
from typing import Any

from report import main, percentile, start_ms

KIT = os.environ.get("KIT", "perdure.testing")
SDK = os.environ.get("SDK_ROOT", "perdure")
IS_OURS = SDK == "perdure"

DAY = 86_400


class Names:
    """The names of both packages, loaded when the first is used: an import is measured in a process of its own."""

    def __getattr__(self, name: str) -> Any:
        for module in (SDK, f"{SDK}.config", KIT):
            found = getattr(importlib.import_module(module), name, None)
            if found is not None:
                return found
        raise AttributeError(name)


names = Names()


def step(_event: Any, context: Any) -> int:
    return context.step(lambda _: 1, name="a")


def waits(event: list[int], context: Any) -> int:
    for seconds in event:
        context.wait(names.Duration.from_seconds(seconds))
    return len(event)


def steps(count: int, context: Any) -> int:
    for number in range(count):
        context.step(lambda _, number=number: number)
    return count


def mapped(count: int, context: Any) -> int:
    results = context.map(list(range(count)), lambda inner, item, *_: inner.step(lambda _: item)).get_results()
    return len(results)


def answered(_event: Any, context: Any) -> Any:
    return context.create_callback("approve").result()


def unanswered(_event: Any, context: Any) -> str:
    config = names.CallbackConfig(timeout=names.Duration.from_seconds(3))
    try:
        return context.create_callback("approve", config).result()
    except Exception as error:  # noqa: BLE001 - the two packages have errors of their own
        return type(error).__name__


def parent(_event: Any, context: Any) -> Any:
    return context.invoke("child", [DAY])


def runner_of(handler: Any, **options: Any) -> Any:
    return names.DurableFunctionTestRunner(names.durable_execution(handler), **options)


def run(handler: Any, event: str = "null") -> float:
    """The seconds of one test: a runner is made, runs, and is closed."""
    began = time.perf_counter()
    with runner_of(handler) as runner:
        result = runner.run(input=event)
    took = time.perf_counter() - began
    assert result.status.value == "SUCCEEDED", result.error
    return took


def best(handler: Any, event: str = "null", rounds: int = 5) -> float:
    """The median of some tests, in ms."""
    return statistics.median(run(handler, event) for _ in range(rounds)) * 1000


def kit_import(folder: Path) -> dict[str, float]:
    return {"ms": start_ms("-c", f"from {KIT} import DurableFunctionTestRunner") - start_ms("-c", "pass")}


def kit_trivial(folder: Path) -> dict[str, float]:
    run(step)
    took = [run(step) * 1000 for _ in range(200 if IS_OURS else 50)]
    found = {"p50_ms": percentile(took, 50), "p95_ms": percentile(took, 95), "s_50": sum(took[:50]) / 1000}
    if IS_OURS:
        began = time.perf_counter()
        for _ in range(1_000):
            run(step)
        found["s_1000"] = time.perf_counter() - began
    return found


def kit_waits(folder: Path) -> dict[str, float]:
    run(waits, "[1]")
    return {
        "ms_day": best(waits, f"[{DAY}]"),
        "ms_year": best(waits, f"[{365 * DAY}]"),
        "ms_30": best(waits, str([3600] * 30), 3),
    }


def kit_steps(folder: Path) -> dict[str, float]:
    run(steps, "1")
    return {"ms_10": best(steps, "10"), "ms_100": best(steps, "100"), "s_2900": run(steps, "2900")}


def kit_map(folder: Path) -> dict[str, float]:
    run(mapped, "2")
    return {"ms_100": best(mapped, "100", 3), "s_990": run(mapped, "990")}


def kit_callbacks(folder: Path) -> dict[str, float]:
    def answer() -> float:
        began = time.perf_counter()
        with runner_of(answered) as runner:
            arn = runner.run_async(input="null")
            runner.send_callback_success(runner.wait_for_callback(arn), b"yes")
            runner.wait_for_result(arn)
        return time.perf_counter() - began

    run(step)
    took = statistics.median(answer() for _ in range(3)) * 1000
    return {"ms_answered": took, "ms_timed_out": best(unanswered, rounds=3)}


def kit_together(folder: Path) -> dict[str, float]:
    run(step)
    began = time.perf_counter()
    with runner_of(step) as runner:
        arns = [runner.run_async(input="null", execution_name=f"e-{number}") for number in range(100)]
        for arn in arns:
            runner.wait_for_result(arn)
    return {"s_100": time.perf_counter() - began}


def kit_chained(folder: Path) -> dict[str, float]:
    def chain() -> float:
        began = time.perf_counter()
        with runner_of(parent) as runner:
            runner.register_durable_function("child", names.durable_execution(waits), execution_timeout=2 * DAY)
            assert runner.run(input="null").status.value == "SUCCEEDED"
        return time.perf_counter() - began

    run(step)
    return {"ms": statistics.median(chain() for _ in range(3)) * 1000}


if __name__ == "__main__":
    main(
        [
            kit_import,
            kit_trivial,
            kit_waits,
            kit_steps,
            kit_map,
            kit_callbacks,
            kit_together,
            kit_chained,
        ]
    )
