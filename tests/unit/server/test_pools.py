"""Places of a node: given by the pool of a version's host, bounded for each function, given back to who gave them."""

import random
from typing import Any

import pytest
from msgspec.structs import replace

from perdure.model.execution import DurableConfig
from perdure.model.function import FunctionVersion, Host
from perdure.model.ids import Home
from perdure.server.pools import Pools
from perdure.service.invocation import Call, Invocation
from perdure.service.registry import Registry
from perdure.store.memory import MemoryStore
from support.local import ManualClock


class Places:
    """A pool that counts."""

    has_backlog = False

    def __init__(self) -> None:
        self.taken = 0

    def reserve(self, target: str) -> bool:
        self.taken += 1
        return True

    def release(self, target: str) -> None:
        self.taken -= 1

    def run(self, invocation: Invocation) -> None: ...

    def call(self, call: Call) -> None: ...


class World:
    def __init__(self) -> None:
        self.registry = Registry(MemoryStore(), Home(), ManualClock(), random.random)
        self.workers, self.endpoints = Places(), Places()
        self.pools = Pools(self.registry, {Host.WORKER: self.workers, Host.ENDPOINT: self.endpoints})

    def deploy(self, name: str, **more: Any) -> None:
        self.registry.create(FunctionVersion(function=name, durable=DurableConfig(), **more))


@pytest.fixture
def world() -> World:
    return World()


def test_a_place_is_of_the_pool_of_its_version_s_host(world: World) -> None:
    world.deploy("polled", host=Host.WORKER)
    world.deploy("called", host=Host.ENDPOINT, endpoint="http://127.0.0.1:1")
    assert world.pools.reserve("polled:$LATEST")
    assert (world.workers.taken, world.endpoints.taken) == (1, 0)
    assert world.pools.reserve("called:$LATEST")
    assert (world.workers.taken, world.endpoints.taken) == (1, 1)


def test_what_was_never_deployed_has_no_place_and_what_was_deleted_has_one_to_end_in(world: World) -> None:
    assert not world.pools.reserve("stranger:$LATEST")
    world.deploy("short", host=Host.WORKER)
    world.registry.delete("short")
    assert world.pools.reserve("short:$LATEST")
    assert world.workers.taken == 0


def test_reserved_concurrency_bounds_a_function_wherever_it_runs(world: World) -> None:
    world.deploy("narrow", host=Host.WORKER)
    world.deploy("wide", host=Host.WORKER)
    world.registry.update_function("narrow", lambda function: replace(function, concurrency=2))
    assert [world.pools.reserve("narrow:$LATEST") for _ in range(3)] == [True, True, False]
    assert world.pools.reserve("wide:$LATEST")
    world.pools.release("narrow:$LATEST")
    assert world.pools.reserve("narrow:$LATEST")
    world.registry.update_function("narrow", lambda function: replace(function, concurrency=0))
    world.pools.release("narrow:$LATEST")
    assert not world.pools.reserve("narrow:$LATEST")


def test_a_place_goes_back_to_who_gave_it_though_the_function_is_gone_or_elsewhere(world: World) -> None:
    """Found in review: a version that was deleted meanwhile kept a worker's place for ever."""
    world.deploy("moving", host=Host.WORKER)
    assert world.pools.reserve("moving:$LATEST")
    world.registry.delete("moving")
    world.deploy("moving", host=Host.ENDPOINT, endpoint="http://127.0.0.1:1")
    world.pools.release("moving:$LATEST")
    assert (world.workers.taken, world.endpoints.taken) == (0, 0)
