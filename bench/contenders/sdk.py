"""The SDK alone, over a client in memory: what it costs itself. SDK_ROOT says whose: Perdure's or the official one's.

One source for both, with nothing changed but the import root. A call of the client takes no time of its own.
"""

import datetime
import importlib
import os
import resource
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

from report import main, start_ms

ROOT = os.environ.get("SDK_ROOT", "perdure")
sdk = importlib.import_module(ROOT)
config = importlib.import_module(f"{ROOT}.config")

ARN = "arn:aws:lambda:us-east-1:000000000000:function:bench:1/durable-execution/bench/bench-1"
NOW = datetime.datetime.now(datetime.UTC)
STATUS = {"START": "STARTED", "SUCCEED": "SUCCEEDED", "FAIL": "FAILED", "RETRY": "PENDING"}
DETAILS = {"STEP": "StepDetails", "CONTEXT": "ContextDetails"}


class Memory:
    """In the place of boto3's client: applies updates to records as the service does, as far as is needed here."""

    def __init__(self, event: str) -> None:
        self.records: dict[str, dict[str, Any]] = {
            "bench-1": {
                "Id": "bench-1",
                "Type": "EXECUTION",
                "Status": "STARTED",
                "StartTimestamp": 1,
                "ExecutionDetails": {"InputPayload": event},
            }
        }
        self.calls = 0

    def checkpoint_durable_execution(self, *, Updates, **_: Any) -> dict[str, Any]:  # noqa: N803
        self.calls += 1
        changed = []
        for given in Updates:
            record = self.records.get(given["Id"])
            if record is None:
                record = {name: given[name] for name in ("Id", "Type", "SubType", "Name", "ParentId") if name in given}
                record["StartTimestamp"] = NOW
                self.records[given["Id"]] = record
            record["Status"] = STATUS[given["Action"]]
            details = DETAILS.get(given["Type"])
            if details and given["Action"] != "START":
                found = record.setdefault(details, {})
                if "Payload" in given:
                    found["Result"] = given["Payload"]
                if "ContextOptions" in given:
                    found["ReplayChildren"] = given["ContextOptions"].get("ReplayChildren", False)
            if given["Type"] == "CALLBACK":
                record["CallbackDetails"] = {"CallbackId": given["Id"]}
            changed.append(record)
        return {"CheckpointToken": "token", "NewExecutionState": {"Operations": changed, "NextMarker": None}}

    def invoke(self, make) -> Any:
        """One invocation over what is recorded; the event as Lambda sends it."""
        operations = [{**record, "StartTimestamp": 1_700_000_000_000} for record in self.records.values()]
        event = {
            "DurableExecutionArn": ARN,
            "CheckpointToken": "token",
            "InitialExecutionState": {"Operations": operations, "NextMarker": ""},
        }
        return make(self)(event, None)


def handler_of(function, **more):
    """What makes the entry point over a client."""
    return lambda client: sdk.durable_execution(boto3_client=client, **more)(function)


def _nothing(event, context):
    return None


def _steps(event, context):
    for number in range(int(event)):
        context.step(lambda _, number=number: number, name="step")


def _mapped(event, context):
    context.map(list(range(int(event))), _one, name="map")


def _waiting(event, context):
    context.map(list(range(int(event))), _wait, name="map")


def _decided(event, context):
    def should_complete(status):
        return sdk.complete_batch() if status.completed_count == status.total_count else sdk.continue_batch()

    how = config.MapConfig(completion_config=config.CompletionConfig(should_complete=should_complete))
    context.map(list(range(int(event))), _one, name="map", config=how)


nothing, steps, mapped, waiting, decided = map(handler_of, (_nothing, _steps, _mapped, _waiting, _decided))


def _one(context, item, index, items):
    return context.step(lambda _: item, name="step")


def _wait(context, item, index, items):
    return context.create_callback(name="callback").result()


def _timed(handler, memory: Memory) -> float:
    began = time.perf_counter()
    answer = memory.invoke(handler)
    took = time.perf_counter() - began
    assert answer["Status"] in ("SUCCEEDED", "PENDING"), answer
    return took


class Threads:
    """The most threads there were meanwhile."""

    def __enter__(self) -> "Threads":
        self.most = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._is_over.wait(0.002):
            self.most = max(self.most, threading.active_count() - 1)

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()


def sdk_import(folder: Path) -> dict[str, float]:
    return {"ms": start_ms("-c", f"from {ROOT} import DurableContext, durable_execution, durable_step")}


def sdk_empty(folder: Path) -> dict[str, float]:
    memory = Memory("1")
    memory.invoke(nothing)
    return {"ms": statistics.median(_timed(nothing, memory) * 1000 for _ in range(20))}


def sdk_step(folder: Path) -> dict[str, float]:
    count = 1_000
    memory = Memory(str(count))
    return {"us": _timed(steps, memory) / count * 1e6, "calls": memory.calls / count}


def sdk_replay(folder: Path) -> dict[str, float]:
    found = {}
    for count in (1_000, 5_000, 20_000, 50_000):
        if ROOT != "perdure" and count > 20_000:
            continue
        memory = Memory(str(count))
        for number in range(1, count + 1):
            step_id = _operation_id(number)
            memory.records[step_id] = {
                "Id": step_id,
                "Type": "STEP",
                "SubType": "Step",
                "Name": "step",
                "Status": "SUCCEEDED",
                "StartTimestamp": 1,
                "StepDetails": {"Attempt": 1, "Result": str(number - 1)},
            }
        found[f"ms_{count}"] = _timed(steps, memory) * 1000
        assert not memory.calls
    return found


def _operation_id(number: int) -> str:
    from hashlib import blake2b

    return blake2b(str(number).encode()).hexdigest()[:64]


def sdk_map(folder: Path) -> dict[str, float]:
    found = {}
    for count in (1_000, 10_000):
        if ROOT != "perdure" and count > 1_000:
            continue
        memory = Memory(str(count))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with Threads() as threads:
            found[f"s_{count}"] = _timed(mapped, memory)
        found[f"threads_{count}"] = threads.most
        found[f"mib_{count}"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return found


def sdk_map_waiting(folder: Path) -> dict[str, float]:
    memory = Memory("1000")
    _timed(waiting, memory)
    with Threads() as threads:
        took = [_timed(waiting, memory) * 1000 for _ in range(5)]
    return {"ms": statistics.median(took), "threads": threads.most}


def sdk_plugin(folder: Path) -> dict[str, float]:
    """The cost of a step beside a plugin that does nothing, short and long."""
    plugin = importlib.import_module(f"{ROOT}.plugin")

    class Nothing(plugin.DurableInstrumentationPlugin):
        pass

    class Factory:
        def create_plugin(self, info):
            return Nothing()

    watched = handler_of(_steps, plugins=[Factory()])
    found = {}
    for count in (500, 2_000):
        found[f"us_{count}"] = _timed(watched, Memory(str(count))) / count * 1e6
    return found


def sdk_predicate(folder: Path) -> dict[str, float]:
    return {f"s_{count}": _timed(decided, Memory(str(count))) for count in (250, 1_000)}


def _warm_up() -> None:
    """Load what is loaded with the first use."""
    for handler in (steps, mapped):
        Memory("2").invoke(handler)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] != "sdk_import":
        _warm_up()
    sys.setswitchinterval(0.005)
    main(
        [
            sdk_import,
            sdk_empty,
            sdk_step,
            sdk_replay,
            sdk_map,
            sdk_map_waiting,
            sdk_plugin,
            sdk_predicate,
        ]
    )
