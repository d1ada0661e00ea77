"""Code that workers have: one version for each content, and executions stay on theirs."""

import base64
import hashlib
from typing import Any

import pytest
from msgspec.structs import replace

from perdure.model.error import ResourceConflict
from perdure.model.execution import DurableConfig
from perdure.model.function import FunctionVersion, Host
from perdure.model.ids import LATEST, FunctionReference, Home
from perdure.model.operation import OperationAction, OperationType, OperationUpdate
from perdure.service.registry import Registry
from perdure.store.memory import MemoryStore
from support.local import T0, ManualClock

SECOND = 1_000


@pytest.fixture
def registry() -> Registry:
    return Registry(MemoryStore(), Home(), ManualClock(), lambda: 0.5)


def code(text: str, **more: Any) -> FunctionVersion:
    """The function `fn` as a worker has it whose code is `text`."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    facts = {"durable": DurableConfig(), "timeout_s": 60, "code_sha256": digest, "code_bytes": len(text), **more}
    return FunctionVersion(function="fn", host=Host.WORKER, **facts)


def latest_code(registry: Registry) -> str:
    return registry.get("fn").code_sha256


def test_a_worker_s_function_is_made_and_has_a_version_for_its_code(registry: Registry) -> None:
    made = registry.register(code("a"), T0)
    assert (made.version, made.host, made.durable, made.timeout_s) == ("1", Host.WORKER, DurableConfig(), 60)
    assert registry.get("fn").code_sha256 == made.code_sha256


def test_the_same_code_is_the_same_version_again(registry: Registry) -> None:
    """Also when there has been other code since, and without writing anything."""
    first = registry.register(code("a"), T0)
    second = registry.register(code("b"), T0 + SECOND)
    revision_id = registry.get("fn").revision_id
    assert (first.version, second.version) == ("1", "2")
    assert registry.register(code("a"), T0).version == "1"
    assert registry.register(code("b"), T0 + SECOND + 3).version == "2"
    assert registry.get("fn").revision_id == revision_id


@pytest.mark.parametrize("other", [{"timeout_s": 61}, {"durable": DurableConfig(retention_days=3)}, {"durable": None}])
def test_the_same_code_with_another_configuration_is_another_version(registry: Registry, other: dict[str, Any]) -> None:
    registry.register(code("a"), T0)
    assert registry.register(code("a", **other), T0 + SECOND).version == "2"


def test_latest_is_the_code_of_the_worker_that_began_last(registry: Registry) -> None:
    """Workers come back in any order after a restart of the server."""
    new, old = code("new"), code("old")
    registry.register(old, T0)
    registry.register(new, T0 + 60 * SECOND)
    registry.register(old, T0)
    assert latest_code(registry) == new.code_sha256
    registry.register(old, T0 + 120 * SECOND)
    assert latest_code(registry) == old.code_sha256
    registry.register(new, T0 + 60 * SECOND)
    assert latest_code(registry) == old.code_sha256


def test_a_worker_with_the_same_code_that_begins_later_counts(registry: Registry) -> None:
    registry.register(code("a"), T0)
    registry.register(code("a"), T0 + 60 * SECOND)
    registry.register(code("b"), T0 + 30 * SECOND)
    assert latest_code(registry) == code("a").code_sha256


def test_what_an_operator_has_set_stays(registry: Registry) -> None:
    registry.register(code("a"), T0)
    registry.update_configuration("fn", lambda version: replace(version, description="orders"))
    assert registry.register(code("b"), T0 + SECOND).description == "orders"


def test_a_function_that_runs_elsewhere_is_not_taken_over(registry: Registry) -> None:
    registry.create(FunctionVersion(function="fn", host=Host.MANAGED))
    with pytest.raises(ResourceConflict, match=r"'fn' which runs in a managed, not in workers"):
        registry.register(code("a"), T0)


def test_what_begins_on_latest_stays_on_its_number(registry: Registry) -> None:
    """By Invoke, by a start, and by a chained invoke."""
    registry.register(code("a"), T0)
    registry.register(code("b"), T0 + SECOND)
    assert registry.resolve(FunctionReference.parse(f"fn:{LATEST}")).version == "2"
    assert registry.resolve(FunctionReference.parse("fn:1")).version == "1"
    assert registry.durable("fn", LATEST).version == "2"
    invoke = OperationUpdate("1", OperationType.CHAINED_INVOKE, OperationAction.START, function_name=f"fn:{LATEST}")
    assert registry.chained(invoke).version == "2"
    assert registry.get("fn", LATEST).version == LATEST


def test_latest_that_nobody_has_published_runs_as_itself(registry: Registry) -> None:
    """Somebody has changed its configuration; workers that have the code run it."""
    registry.register(code("a"), T0)
    registry.update_configuration("fn", lambda version: replace(version, timeout_s=5))
    assert registry.resolve(FunctionReference.parse(f"fn:{LATEST}")).version == LATEST


def test_a_version_that_is_being_deleted_is_not_taken_again(registry: Registry) -> None:
    registry.register(code("a"), T0)
    registry.register(code("b"), T0 + SECOND)
    registry.delete("fn", "1")
    assert registry.register(code("a"), T0).version == "3"
