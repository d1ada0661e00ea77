"""Functions that are deployed: made, changed, published, found and deleted."""

import base64
import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from perdure.model.error import (
    InvalidParameterValue,
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
    ServiceError,
)
from perdure.model.execution import DurableConfig, ExecutionRow, ExecutionStatus
from perdure.model.function import DRAINING, Alias, FunctionState, FunctionVersion
from perdure.model.ids import LATEST, FunctionReference, Home, new_execution_id
from perdure.model.operation import OperationAction, OperationType, OperationUpdate
from perdure.service.invocation import Invocation
from perdure.service.registry import Registry
from perdure.service.service import Service
from perdure.service.starting import Started, StartRequest
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Change, Commit
from support.ids import SeededIds
from support.local import ManualClock, Queue

HOME = Home()
ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
DURABLE = DurableConfig(execution_timeout_s=600, retention_days=7)


class World:
    """A store with a registry; `other` is that of another process on the same store."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = ManualClock()
        self.draws: Iterator[float] = iter(())
        self.registry = self.another()
        self.other = self.another()

    def another(self) -> Registry:
        return Registry(self.store, HOME, self.clock, lambda: next(self.draws))

    def create(self, name: str = "fn", **more: Any) -> FunctionVersion:
        options = {key: more.pop(key) for key in ("code", "tags", "is_published") if key in more}
        return self.registry.create(FunctionVersion(function=name, **{"durable": DURABLE, **more}), **options)

    def describe(self, text: str, name: str = "fn", revision_id: str | None = None) -> FunctionVersion:
        return self.registry.update_configuration(
            name, lambda version: replace(version, handler=text), revision_id=revision_id
        )

    def begin(self, name: str = "fn", version: str = LATEST, number: int = 0) -> ExecutionRow:
        execution_id = new_execution_id(self.clock.now + number, b"\0" * 10)
        row = ExecutionRow(
            execution_id=execution_id,
            function=name,
            version=version,
            status=ExecutionStatus.RUNNING,
            start_ms=self.clock.now,
        )
        assert self.store.append([Commit(execution_id, 1, b"", row, is_new=True)]) == [True]
        return row

    def end(self, row: ExecutionRow) -> None:
        ended = replace(row, status=ExecutionStatus.SUCCEEDED, end_ms=self.clock.now)
        assert self.store.append([Commit(row.execution_id, 2, b"", ended)]) == [True]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def registry(world: World) -> Registry:
    return world.registry


# --- functions -------------------------------------------------------------------------------------------------------


def test_a_function_is_found_as_it_was_made(world: World) -> None:
    made = world.create(runtime="python3.13", handler="app.handler", environment={"A": "1"}, tags={"team": "x"})
    assert (made.version, made.modified_ms, made.durable) == (LATEST, world.clock.now, DURABLE)
    assert made.revision_id
    for registry in (world.registry, world.other):
        assert registry.get("fn") == registry.get("fn", LATEST) == registry.find("fn", LATEST) == made
        assert registry.function("fn").tags == {"team": "x"}


def test_a_name_is_given_once_and_must_be_one(world: World) -> None:
    world.create()
    for registry in (world.registry, world.other):
        with pytest.raises(ResourceConflict, match="fn"):
            registry.create(FunctionVersion(function="fn"))
    with pytest.raises(InvalidParameterValue, match="function's name"):
        world.create("no/name")


def test_what_is_not_there_is_not_found_under_its_arn(world: World) -> None:
    world.create(is_published=True)
    for name, qualifier, arn in (("no", None, f"{ARN}no"), ("no", "1", f"{ARN}no:1"), ("fn", "7", f"{ARN}fn:7")):
        with pytest.raises(ResourceNotFound) as caught:
            world.registry.get(name, qualifier)
        assert caught.value.message == f"Function not found: {arn}"
    assert world.registry.find("no", LATEST) is None
    assert world.registry.find("fn", "2") is None


def test_a_change_of_the_configuration_makes_a_new_revision_and_may_turn_durability_on(world: World) -> None:
    made = world.create(durable=None)
    world.clock.now += 5
    changed = world.registry.update_configuration("fn", lambda version: replace(version, durable=DURABLE))
    assert (changed.durable, changed.modified_ms) == (DURABLE, made.modified_ms + 5)
    assert changed.revision_id != made.revision_id
    assert world.other.durable("fn", LATEST) == changed
    with pytest.raises(PreconditionFailed, match="RevisionId"):
        world.describe("late", revision_id=made.revision_id)
    assert world.describe("in time", revision_id=changed.revision_id).handler == "in time"


def test_code_is_kept_once_under_its_hash(world: World, registry: Registry) -> None:
    data = b"PK\x05\x06" + bytes(18)
    key = registry.put_code(data)
    assert key == registry.put_code(data) == hashlib.sha256(data).hexdigest()
    made = world.create(code=key)
    assert made.code_sha256 == base64.b64encode(hashlib.sha256(data).digest()).decode()
    assert (made.code_bytes, made.code_key, registry.code(key)) == (len(data), key, data)
    assert registry.code_bytes() == len(data)
    other = registry.put_code(b"other")
    changed = registry.update_code("fn", other, lambda version: replace(version, description="new"))
    assert (changed.code_key, changed.code_bytes, changed.description) == (other, 5, "new")
    with pytest.raises(InvalidParameterValue, match="upload it again"):
        registry.update_code("fn", "ab" * 32)
    with pytest.raises(ResourceNotFound):
        registry.code("ab" * 32)


def test_code_that_nothing_uses_goes_after_an_hour(world: World, registry: Registry) -> None:
    used, unused = registry.put_code(b"used"), registry.put_code(b"unused")
    world.create(code=used)
    registry.sweep()
    assert registry.code(unused) == b"unused"
    world.clock.now += 3_600_000
    registry.sweep()
    assert registry.code(used) == b"used"
    with pytest.raises(ResourceNotFound):
        registry.code(unused)
    registry.update_code("fn", registry.put_code(b"unused"), is_published=True)
    registry.update_code("fn", registry.put_code(b"third"))
    world.clock.now += 3_600_000
    registry.sweep()
    assert registry.code(unused) == b"unused", "a published version uses it"
    with pytest.raises(ResourceNotFound):
        registry.code(used)
    registry.delete("fn")
    registry.sweep()
    assert world.store.records("code") == []


# --- versions --------------------------------------------------------------------------------------------------------


def test_a_published_version_freezes_everything(world: World, registry: Registry) -> None:
    world.create(handler="one", environment={"A": "1"}, code=registry.put_code(b"1"))
    first = registry.publish("fn", description="the first")
    assert (first.version, first.description, first.handler) == ("1", "the first", "one")
    world.describe("two")
    registry.update_code("fn", registry.put_code(b"2"))
    registry.update_configuration("fn", lambda version: replace(version, durable=DurableConfig(), environment={}))
    assert registry.get("fn", "1") == world.other.get("fn", "1") == first
    second = registry.publish("fn")
    assert (second.version, second.handler, second.durable) == ("2", "two", DurableConfig())
    assert [version.version for version in registry.versions("fn")] == [LATEST, "1", "2"]
    assert registry.get("fn", "$LATEST.PUBLISHED") == second


def test_nothing_new_is_published_while_nothing_has_changed(world: World, registry: Registry) -> None:
    world.create()
    first = registry.publish("fn", description="first")
    assert registry.publish("fn", description="again") == first
    world.describe("other")
    assert registry.publish("fn").version == "2"
    world.describe("other")
    assert registry.publish("fn").version == "2"
    registry.delete("fn", "2")
    assert registry.publish("fn").version == "3", "a number is never given twice"


def test_only_what_was_meant_is_published(world: World, registry: Registry) -> None:
    made = world.create(code=registry.put_code(b"code"))
    with pytest.raises(InvalidParameterValue, match="CodeSha256"):
        registry.publish("fn", code_sha256="other")
    changed = world.describe("other")
    with pytest.raises(PreconditionFailed):
        registry.publish("fn", revision_id=made.revision_id)
    assert registry.publish("fn", code_sha256=made.code_sha256, revision_id=changed.revision_id).version == "1"


def test_a_function_may_be_made_and_changed_published_at_once(world: World, registry: Registry) -> None:
    assert world.create(is_published=True, code=registry.put_code(b"1")).version == "1"
    assert registry.update_code("fn", registry.put_code(b"1"), is_published=True).version == "1"
    assert registry.update_code("fn", registry.put_code(b"2"), is_published=True).version == "2"
    assert registry.get("fn").code_bytes == 1
    with pytest.raises(PreconditionFailed):
        registry.update_code("fn", registry.put_code(b"3"), revision_id="old")


def test_versions_are_in_the_order_of_their_numbers(world: World, registry: Registry) -> None:
    world.create()
    for number in range(12):
        world.describe(str(number))
        registry.publish("fn")
    assert [version.version for version in registry.versions("fn")] == [LATEST, *map(str, range(1, 13))]
    assert registry.get("fn", "$LATEST.PUBLISHED").version == "12"


# --- aliases ---------------------------------------------------------------------------------------------------------


def _two_versions(world: World) -> None:
    world.create(is_published=True)
    world.describe("two")
    world.registry.publish("fn")


def test_an_alias_leads_to_its_version_until_it_is_moved(world: World, registry: Registry) -> None:
    _two_versions(world)
    made = registry.create_alias(Alias(function="fn", name="live", version="1"))
    assert registry.get("fn", "live").version == "1"
    assert registry.alias("fn", "live") == made
    moved = registry.update_alias("fn", "live", lambda alias: replace(alias, version="2"), revision_id=made.revision_id)
    assert moved.revision_id != made.revision_id
    assert world.other.get("fn", "live").version == "2"
    with pytest.raises(PreconditionFailed):
        registry.update_alias("fn", "live", lambda alias: alias, revision_id=made.revision_id)
    registry.create_alias(Alias(function="fn", name="beta", version=LATEST))
    assert [alias.name for alias in registry.aliases("fn")] == ["beta", "live"]
    registry.delete_alias("fn", "live")
    for call in (registry.get, registry.alias, registry.delete_alias):
        with pytest.raises(ResourceNotFound):
            call("fn", "live")


def test_an_alias_with_weights_leads_to_each_version_as_often_as_its_share(world: World, registry: Registry) -> None:
    _two_versions(world)
    world.describe("three")
    registry.publish("fn")
    registry.create_alias(Alias(function="fn", name="live", version="1", weights={"2": 0.25, "3": 0.5}))
    reference = FunctionReference.parse("fn:live")
    world.draws = iter([0.0, 0.2499, 0.25, 0.7499, 0.75, 0.9999])
    assert [registry.resolve(reference).version for _ in range(6)] == ["2", "2", "3", "3", "1", "1"]
    assert registry.get("fn", "live").version == "1", "who only looks sees the main version"


@pytest.mark.parametrize(
    ("alias", "error"),
    [
        ({"name": "12"}, "a number is a version"),
        ({"version": "9"}, "Function not found"),
        ({"weights": {"9": 0.1}}, "Function not found"),
        ({"weights": {"1": 0.1}}, "the alias's own"),
        ({"weights": {"2": 1.1}}, r"from 0\.0 to 1\.0"),
        ({"weights": {"2": -0.1}}, r"from 0\.0 to 1\.0"),
        ({"weights": {"2": 0.6, "3": 0.5}}, r"at most 1\.0"),
        ({"weights": {LATEST: 0.5}}, "publish it first"),
        ({"version": LATEST, "weights": {"1": 0.5}}, "publish it first"),
    ],
)
def test_an_alias_that_can_t_be_right_is_refused(
    world: World, registry: Registry, alias: dict[str, Any], error: str
) -> None:
    _two_versions(world)
    world.describe("three")
    registry.publish("fn")
    with pytest.raises(ServiceError, match=error):
        registry.create_alias(Alias(**{"function": "fn", "name": "live", "version": "1", **alias}))
    assert registry.aliases("fn") == []


def test_weights_that_sum_to_one_but_for_rounding_are_taken(world: World, registry: Registry) -> None:
    _two_versions(world)
    world.describe("three")
    registry.publish("fn")
    made = registry.create_alias(Alias(function="fn", name="live", version="1", weights={"2": 0.7, "3": 0.3}))
    assert made.weights == {"2": 0.7, "3": 0.3}
    with pytest.raises(ResourceConflict, match="UpdateAlias"):
        registry.create_alias(made)


# --- pointing at functions -------------------------------------------------------------------------------------------


def test_a_qualifier_may_stand_in_the_name_or_beside_it_and_must_be_one(world: World, registry: Registry) -> None:
    _two_versions(world)
    for text, qualifier, version in (
        ("fn", None, LATEST),
        ("fn", "1", "1"),
        ("fn:1", None, "1"),
        ("fn:1", "1", "1"),
        (f"{ARN}fn:2", None, "2"),
        ("000000000000:function:fn", "2", "2"),
    ):
        assert registry.resolve(FunctionReference.parse(text), qualifier).version == version
    with pytest.raises(InvalidParameterValue, match=r"'1'.*'2'"):
        registry.resolve(FunctionReference.parse("fn:1"), "2")
    for text in ("arn:aws:lambda:eu-west-1:000000000000:function:fn", "111111111111:function:fn"):
        with pytest.raises(ResourceNotFound, match=text.split(":function")[0].rsplit(":", 1)[0][-9:]):
            registry.resolve(FunctionReference.parse(text))


def test_only_a_durable_version_can_be_started(world: World, registry: Registry) -> None:
    world.create(is_published=True)
    world.create("plain", durable=None)
    assert registry.durable("fn", "1").durable == DURABLE
    with pytest.raises(InvalidParameterValue, match="unqualified ARN"):
        registry.durable("fn")
    with pytest.raises(InvalidParameterValue, match=r"'plain:\$LATEST' is not durable"):
        registry.durable("plain", LATEST)
    with pytest.raises(ResourceNotFound):
        registry.durable("fn", "2")
    assert registry.serves("fn")
    assert registry.names is None


def _invoke(function: str) -> OperationUpdate:
    return OperationUpdate(
        id="i", type=OperationType.CHAINED_INVOKE, action=OperationAction.START, function_name=function
    )


def test_a_chained_invoke_leads_to_a_version_or_carries_the_error_that_the_lambda_api_gives(world: World) -> None:
    """Specification 3.3."""
    registry = world.registry
    _two_versions(world)
    world.create("plain", durable=None)
    registry.create_alias(Alias(function="fn", name="live", version="1", weights={"2": 0.5}))
    world.draws = iter([0.1, 0.9])
    for text, name, version, config in (
        ("fn:live", "fn", "2", DURABLE),
        ("fn:live", "fn", "1", DURABLE),
        (f"{ARN}fn:$LATEST", "fn", LATEST, DURABLE),
        ("plain", "plain", LATEST, None),
    ):
        target = registry.chained(_invoke(text))
        assert (target.name, target.version, target.config, target.refusal) == (name, version, config, None)
    for text, kind, message in (
        ("no", "ResourceNotFoundException", f"Function not found: {ARN}no"),
        ("fn:9", "ResourceNotFoundException", f"Function not found: {ARN}fn:9"),
        ("fn", "InvalidParameterValueException", "You cannot invoke a durable function using an unqualified ARN."),
    ):
        refusal = registry.chained(_invoke(text)).refusal
        assert refusal is not None
        assert (refusal.type, refusal.message) == (kind, message)
    for text, where in (
        ("111111111111:function:fn:1", "account"),
        ("arn:aws:lambda:eu-west-1:000000000000:function:fn:1", "region"),
    ):
        with pytest.raises(InvalidParameterValue, match=f"in another {where}"):
            registry.chained(_invoke(text))


# --- deleting --------------------------------------------------------------------------------------------------------


def test_a_deleted_function_is_gone_with_all_that_belongs_to_it(world: World, registry: Registry) -> None:
    _two_versions(world)
    registry.create_alias(Alias(function="fn", name="live", version="1"))
    world.create("fn2")
    assert registry.delete("fn")
    for found in (registry, world.other):
        with pytest.raises(ResourceNotFound):
            found.get("fn")
    assert [record.key for kind in ("version", "alias") for record in world.store.records(kind)] == ["fn2:$LATEST"]
    with pytest.raises(ResourceNotFound):
        registry.delete("fn")
    assert world.create(is_published=True).version == "1"


def test_a_version_is_deleted_alone_unless_something_leads_to_it(world: World, registry: Registry) -> None:
    _two_versions(world)
    registry.create_alias(Alias(function="fn", name="live", version="1", weights={"2": 0.1}))
    for qualifier in ("1", "2"):
        with pytest.raises(ResourceConflict, match="live"):
            registry.delete("fn", qualifier)
    with pytest.raises(InvalidParameterValue, match=r"\$LATEST"):
        registry.delete("fn", LATEST)
    with pytest.raises(InvalidParameterValue, match="DeleteAlias"):
        registry.delete("fn", "live")
    with pytest.raises(ResourceNotFound):
        registry.delete("fn", "9")
    registry.delete_alias("fn", "live")
    assert registry.delete("fn", "1")
    assert [version.version for version in registry.versions("fn")] == [LATEST, "2"]


def test_a_function_with_open_executions_is_deleted_when_they_have_ended(world: World, registry: Registry) -> None:
    _two_versions(world)
    running = world.begin(version="1")
    assert not registry.delete("fn")
    found = registry.get("fn", "1")
    assert (found.state, found.state_reason_code) == (FunctionState.DELETING, DRAINING)
    assert registry.find("fn", "1") == found, "what runs on it goes on"
    assert registry.sweep() == 0
    for refused in (
        lambda: registry.resolve(FunctionReference.parse("fn:2")),
        lambda: registry.durable("fn", "1"),
        lambda: registry.publish("fn"),
        lambda: world.describe("x"),
        lambda: registry.create_alias(Alias(function="fn", name="a", version="1")),
        world.create,
    ):
        with pytest.raises(ResourceConflict):
            refused()
    refusal = registry.chained(_invoke("fn:2")).refusal
    assert refusal is not None
    assert refusal.type == "ResourceConflictException"
    registry.set_state("fn", "1", FunctionState.ACTIVE)
    assert registry.get("fn", "1").state is FunctionState.DELETING
    assert not registry.delete("fn")
    world.end(running)
    assert registry.sweep() == 1
    assert registry.find("fn", "1") is None
    assert registry.sweep() == 0


def test_a_version_with_open_executions_is_deleted_when_they_have_ended(world: World, registry: Registry) -> None:
    _two_versions(world)
    running, other = world.begin(version="1"), world.begin(version="2", number=1)
    assert not registry.delete("fn", "1")
    assert registry.get("fn", "1").state is FunctionState.DELETING
    assert registry.resolve(FunctionReference.parse("fn:2")).version == "2"
    with pytest.raises(ResourceConflict, match="'fn:1' is being deleted"):
        registry.create_alias(Alias(function="fn", name="live", version="1"))
    world.end(running)
    assert world.other.sweep() == 1
    assert registry.find("fn", "1") is None
    assert registry.find("fn", "2") is not None
    world.end(other)


# --- many at once ----------------------------------------------------------------------------------------------------


def test_what_belongs_to_no_version_is_changed_without_touching_one(world: World, registry: Registry) -> None:
    made = world.create()
    registry.update_function("fn", lambda function: replace(function, concurrency=3, tags={"a": "b"}))
    assert world.other.function("fn").concurrency == 3
    assert world.other.get("fn") == made


def test_a_state_says_why_a_version_can_t_be_invoked(world: World, registry: Registry) -> None:
    world.create(is_published=True)
    registry.set_state("fn", "1", FunctionState.FAILED, "the handler is missing", "InvalidRuntime")
    found = registry.get("fn", "1")
    assert (found.state, found.state_reason, found.state_reason_code) == (
        FunctionState.FAILED,
        "the handler is missing",
        "InvalidRuntime",
    )
    assert registry.get("fn").state is FunctionState.ACTIVE
    assert registry.publish("fn").version == "1", "a state is no change of the configuration"


def test_functions_are_listed_by_their_names(world: World, registry: Registry) -> None:
    for name in ("b", "a", "a-1", "c"):
        world.create(name)
    assert [deployed.function.name for deployed in registry.functions()] == ["a", "a-1", "b", "c"]
    assert [deployed.function.name for deployed in registry.functions(after="a-1")] == ["b", "c"]


def test_no_change_is_lost_when_many_change_one_function_at_once(world: World) -> None:
    world.create()
    registries = [world.another() for _ in range(4)]

    def publish(registry: Registry, who: int) -> None:
        for number in range(10):
            registry.update_function(
                "fn", lambda function, tag=f"{who}-{number}": replace(function, tags={**function.tags, tag: ""})
            )
            registry.update_configuration("fn", lambda version, text=f"{who}-{number}": replace(version, handler=text))
            registry.publish("fn")

    threads = [threading.Thread(target=publish, args=pair) for pair in zip(registries, range(4), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = world.registry.versions("fn")[1:]
    assert [version.version for version in versions] == [str(number + 1) for number in range(len(versions))]
    assert len(world.registry.function("fn").tags) == 40
    assert world.registry.function("fn").last_version == len(versions)


def test_a_function_is_read_anew_only_when_functions_have_changed(world: World, registry: Registry) -> None:
    reads: list[str] = []

    class Counting(MemoryStore):
        def records(self, kind: str, **more: Any) -> Any:
            reads.append(kind)
            return super().records(kind, **more)

    store = Counting()
    registry = Registry(store, HOME, world.clock, lambda: 0.0)
    registry.create(FunctionVersion(function="fn"))
    registry.create(FunctionVersion(function="other"))
    registry.get("fn")
    reads.clear()
    registry.get("fn")
    store.change([Change("audit", "1", b"")])
    registry.get("fn")
    registry.update_configuration("other", lambda version: replace(version, handler="x"))
    reads.clear()
    registry.get("fn")
    assert reads == []


def test_a_service_runs_each_execution_on_the_version_that_its_start_was_resolved_to(world: World) -> None:
    _two_versions(world)
    world.registry.create_alias(Alias(function="fn", name="live", version="1"))
    queue = Queue()
    service = Service(world.store, world.registry, queue, clock=world.clock, ids=SeededIds())
    version = world.registry.resolve(FunctionReference.parse("fn:live")).version
    started = service.start([StartRequest(function="fn", version=version, name="order")])[0]
    assert started.arn.startswith(f"{ARN}fn:1/durable-execution/order/")
    world.registry.update_alias("fn", "live", lambda alias: replace(alias, version="2"))
    invocation = queue.work.popleft()
    assert isinstance(invocation, Invocation)
    assert (invocation.function, invocation.version) == ("fn", "1")
    assert service.start([StartRequest(function="fn", version="2", name="order")]) == [
        Started(started.execution_id, started.arn, is_new=False)
    ]
    with pytest.raises(InvalidParameterValue, match="unqualified"):
        service.start([StartRequest(function="fn")])


def test_what_was_deleted_is_gone_and_what_was_never_deployed_is_not(registry: Registry) -> None:
    """An embedded application's store that a server opens has functions that the server does not know: they wait."""
    assert not registry.is_gone("fn", "$LATEST")
    registry.create(FunctionVersion(function="fn"))
    assert not registry.is_gone("fn", "$LATEST")
    assert registry.is_gone("fn", "7")
    registry.delete("fn")
    assert registry.is_gone("fn", "$LATEST")
    registry.create(FunctionVersion(function="fn"))
    assert not registry.is_gone("fn", "$LATEST")
