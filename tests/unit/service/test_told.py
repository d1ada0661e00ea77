"""Checkpoints that nobody waits for in a thread: told once they are on disk, and never before."""

from collections.abc import Callable, Sequence

import pytest

from perdure.engine.commands import Token
from perdure.model.error import StaleToken, StoreError, StoreFull
from perdure.model.execution import DurableConfig
from perdure.model.ids import Home
from perdure.model.operation import OperationAction, OperationType, OperationUpdate
from perdure.service.functions import LoadedFunctions
from perdure.service.invocation import Checkpointed, Invocation
from perdure.service.service import Service
from perdure.service.starting import StartRequest
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Commit
from support.ids import SeededIds
from support.local import ManualClock, Queue

Answer = list[bool] | StoreError


class Slow(MemoryStore):
    """A store that writes what it is given soon when it is told to, and fails as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Callable[[], None]] = []
        self.error: Exception | None = None

    def append(self, commits: Sequence[Commit]) -> list[bool]:
        if self.error is not None:
            raise self.error
        return super().append(commits)

    def append_soon(self, commits: Sequence[Commit], told: Callable[[Answer], None]) -> None:
        def write() -> None:
            answer: Answer
            try:
                answer = self.append(commits)
            except StoreError as error:
                answer = error
            told(answer)

        self.held.append(write)


class World:
    def __init__(self) -> None:
        self.store, queue = Slow(), Queue()
        functions = LoadedFunctions({"fn": DurableConfig()}, Home())
        self.service = Service(self.store, functions, queue, clock=ManualClock(), ids=SeededIds(), owner="me")
        self.service.start([StartRequest(function="fn")])
        invocation = queue.work[0]
        assert isinstance(invocation, Invocation)
        self.execution_id, self.token = invocation.execution_id, invocation.token
        self.said: list[Checkpointed | Exception | None] = []

    def ask(self, name: str, token: Token, *, waits: bool = False) -> bool:
        return self.service.checkpoint_told(self.execution_id, token, [step(name)], None, self.said.append, waits=waits)

    def seen(self) -> list[str]:
        """The steps that are on disk."""
        fresh = Service(self.store, self.service.functions, Queue(), clock=ManualClock(), owner="other")
        return [event.operation_id or "" for event in fresh.all_events(self.execution_id) if event.operation_id]


def step(name: str) -> OperationUpdate:
    return OperationUpdate(name, OperationType.STEP, OperationAction.SUCCEED, payload="1")


@pytest.fixture
def world() -> World:
    return World()


def test_nobody_is_told_before_it_is_on_disk(world: World) -> None:
    assert world.ask("a", world.token)
    assert world.said == []
    assert world.seen() == []
    world.store.held.pop()()
    (answer,) = world.said
    assert isinstance(answer, Checkpointed)
    assert [operation.id for operation in answer.operations] == ["a"]
    assert world.seen() == ["a"]
    assert answer.token is not None
    assert world.ask("b", answer.token, waits=True)
    assert world.seen() == ["a", "b"]


def test_while_one_is_on_its_way_the_next_is_left_to_a_thread(world: World) -> None:
    assert world.ask("a", world.token)
    assert not world.ask("b", world.token)
    world.store.held.pop()()
    with pytest.raises(StaleToken):
        world.ask("b", world.token)


@pytest.mark.parametrize("waits", [True, False])
def test_what_could_not_be_written_has_not_happened_and_the_token_is_still_good(world: World, waits: bool) -> None:
    world.store.error = StoreFull("the disk is full")
    assert world.ask("a", world.token, waits=waits)
    for write in world.store.held:
        write()
    assert [str(answer) for answer in world.said] == ["the disk is full"]
    world.store.error = None
    assert world.seen() == []
    answer = world.service.checkpoint(world.execution_id, world.token, [step("a")])
    assert answer.token is not None
    assert world.seen() == ["a"]


def test_an_error_that_no_store_should_raise_holds_nothing_for_ever(world: World) -> None:
    """Found in review: the execution stayed locked."""
    world.store.error = RuntimeError("odd")
    assert world.ask("a", world.token, waits=True)
    (answer,) = world.said
    assert isinstance(answer, StoreError)
    world.store.error = None
    assert world.service.checkpoint(world.execution_id, world.token, [step("a")]).token is not None


def test_where_another_process_was_faster_it_is_left_to_a_thread(world: World) -> None:
    other = Service(world.store, world.service.functions, Queue(), clock=ManualClock(), owner="other")
    assert world.ask("a", world.token)
    other.pause(world.execution_id)
    world.store.held.pop()()
    assert world.said == [None]
    assert world.seen() == []
