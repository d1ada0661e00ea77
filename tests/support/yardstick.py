"""The official SDK as a yardstick: the same handler, written against either import root, run to its end by each."""

import importlib
import json
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from aws_durable_execution_sdk_python_testing.runner import DurableFunctionTestRunner

from support.local import Local

OFFICIAL = "aws_durable_execution_sdk_python"

MakeHandler = Callable[[Any], Callable[..., Any]]
"""Makes a handler of an SDK: a namespace with `durable_execution` and the modules of its root."""


def sdk_of(root: str) -> SimpleNamespace:
    modules = {
        name: importlib.import_module(f"{root}.{name}")
        for name in ("config", "exceptions", "plugin", "retries", "waits")
    }
    return SimpleNamespace(durable_execution=importlib.import_module(root).durable_execution, **modules)


class Ran(SimpleNamespace):
    """How an execution ended: `status`, `result`, `error` (its type), and `operations` as (type, subtype, name,
    status, depth) in the order in which they began; `payloads` are the results of contexts and steps by name.
    """

    status: str
    result: Any
    error: str | None
    operations: list[tuple[str, str | None, str | None, str, int]]
    payloads: dict[str, str | None]


def run_official(make: MakeHandler, event: Any = None) -> Ran:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with DurableFunctionTestRunner(handler=make(sdk_of(OFFICIAL))) as runner:
            result = runner.run(input=json.dumps(event if event is not None else {}), execution_timeout=10)
        loop = runner._scheduler._loop
        loop.close()
    operations: list[Any] = []
    payloads: dict[str, Any] = {}

    def walk(found: list[Any], depth: int) -> None:
        for each in found:
            kind = each.operation_type.value
            if kind != "EXECUTION":
                payloads[each.name] = getattr(each, "result", None)
                operations.append((kind, each.sub_type, each.name, each.status.value, depth))
            walk(getattr(each, "child_operations", []), depth + 1)

    walk(result.operations, 0)
    return Ran(
        status=result.status.value,
        result=json.loads(result.result) if result.result else None,
        error=result.error.type if result.error is not None else None,
        operations=operations,
        payloads=payloads,
    )


def run_ours(make: MakeHandler, event: Any = None) -> Ran:
    outcome = Local(make(sdk_of("perdure"))).run(event if event is not None else {})
    found = outcome.operations
    operations: list[Any] = []

    def walk(parent_id: str | None, depth: int) -> None:
        for each in found:
            if each.parent_id == parent_id and str(each.type) != "EXECUTION":
                operations.append((str(each.type), each.sub_type, each.name, str(each.status), depth))
                walk(each.id, depth + 1)

    walk(None, 0)
    view = outcome.view
    return Ran(
        status=str(view.status),
        result=json.loads(view.result) if view.result else None,
        error=view.error.type if view.error is not None else None,
        operations=operations,
        payloads={each.name: each.result for each in found if each.name},
    )
