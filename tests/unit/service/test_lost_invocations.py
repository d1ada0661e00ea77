"""Invocations that a dispatcher takes back: they end without a place, or never answer at all."""

from collections.abc import Sequence
from typing import Any

import pytest

from perdure import DurableContext, durable_execution
from perdure.engine import commands as cmd
from perdure.model.error import ErrorObject, InvalidParameterValue, ResourceNotFound, StaleToken, StoreError
from perdure.model.event import InvocationCompleted
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import OperationAction, OperationType, OperationUpdate
from perdure.service.invocation import Invocation
from perdure.service.starting import StartRequest
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Commit, Query
from support.local import Local
from support.one import step, wait

GONE = ErrorObject("worker w1 is gone", "Runtime.ExitError")


class Lone(Local):
    """A service with so many places, whose dispatcher takes places back itself."""

    def __init__(self, places: int) -> None:
        super().__init__(durable_execution(name="fn")(lambda event, context: None), places=places)

    def begin(self) -> str:
        return self.service.start([StartRequest(function="fn")])[0].execution_id

    def take(self) -> Invocation:
        work = self.queue.work.popleft()
        assert isinstance(work, Invocation)
        return work

    def give_back(self) -> None:
        self.queue.taken -= 1


def test_a_lost_invocation_is_tried_again_at_once_where_there_is_a_place() -> None:
    local = Lone(places=2)
    execution_id = local.begin()
    lost = local.take()
    local.give_back()
    local.service.lose_invocation(lost, GONE)
    again = local.take()
    assert (again.execution_id, again.epoch, local.queue.taken) == (execution_id, 2, 1)
    with pytest.raises(StaleToken):
        local.service.checkpoint(execution_id, lost.token, [step("a", "START")])
    completed = [e.event for e in local.service.all_events(execution_id) if isinstance(e.event, InvocationCompleted)]
    assert [event.error for event in completed] == [GONE]


def test_a_lost_invocation_waits_for_a_place_where_there_is_none() -> None:
    local = Lone(places=1)
    execution_id = local.begin()
    lost = local.take()
    local.service.lose_invocation(lost, GONE)
    assert not local.queue.work
    local.give_back()
    local.service.fill_places()
    assert local.take().execution_id == execution_id


def test_losing_what_has_ended_changes_nothing() -> None:
    local = Lone(places=2)
    execution_id = local.begin()
    ended = local.take()
    local.service.end_invocation(ended, ended.token, cmd.Succeeded("1"))
    events = list(local.service.all_events(execution_id))
    local.service.lose_invocation(ended, GONE)
    assert list(local.service.all_events(execution_id)) == events
    local.service.delete(execution_id)
    local.service.lose_invocation(ended, GONE)
    with pytest.raises(ResourceNotFound):
        local.service.get(execution_id)


def test_an_end_without_a_place_takes_one_only_if_it_goes_on() -> None:
    local = Lone(places=1)
    execution_id = local.begin()
    first = local.take()
    local.give_back()
    local.service.end_invocation(first, first.token, cmd.Pending(), [wait("w", 5)], has_place=False)
    assert (local.queue.taken, local.service.get(execution_id).status) == (0, ExecutionStatus.RUNNING)
    local.clock.now += 5_000
    local.service.tick()
    second = local.take()
    local.give_back()
    local.service.end_invocation(second, second.token, cmd.Released(), has_place=False)
    third = local.take()
    assert (local.queue.taken, third.epoch) == (1, 3)
    local.give_back()
    local.service.end_invocation(third, third.token, cmd.Succeeded("1"), has_place=False)
    assert (local.queue.taken, local.service.get(execution_id).status) == (0, ExecutionStatus.SUCCEEDED)


def test_an_end_without_a_place_whose_updates_can_t_be_has_not_ended() -> None:
    local = Lone(places=1)
    execution_id = local.begin()
    first = local.take()
    local.give_back()
    wrong = OperationUpdate("w", OperationType.WAIT, OperationAction.START)
    with pytest.raises(InvalidParameterValue):
        local.service.end_invocation(first, first.token, cmd.Pending(), [wrong], has_place=False)
    assert local.queue.taken == 0
    assert local.service.get(execution_id).is_running


def test_why_an_execution_has_no_place_is_shown_where_somebody_knows() -> None:
    local = Lone(places=0)
    local.service.why_waiting = lambda target: f"no worker has the code of {target}"
    execution_id = local.begin()
    assert local.service.get(execution_id).waiting_reason == "no worker has the code of fn:$LATEST"
    local.queue.places = 1
    local.service.fill_places()
    assert local.service.get(execution_id).waiting_reason is None


# --- invocations that begin on disk and nowhere else --------------------------------------------------------------


class Silent(MemoryStore):
    """A store that, when it is told to, keeps what it is given and can't say so."""

    is_silent = False

    def append(self, commits: Sequence[Commit]) -> list[bool]:
        kept = super().append(commits)
        if self.is_silent:
            raise StoreError("the reply was lost")
        return kept


@durable_execution(name="asker")
def asker(event: Any, context: DurableContext) -> Any:
    context.wait(1, name="second")
    return context.create_callback(name="answer").result()


def begin(local: Local, store: Silent) -> None:
    store.is_silent = True
    with pytest.raises(StoreError):
        local.start(name="it")
    store.is_silent = False


def complete(local: Local, store: Silent) -> None:
    (callback,) = local.service.open_callbacks()
    store.is_silent = True
    with pytest.raises(StoreError):
        local.service.succeed_callback(callback.callback_id, "answered")
    store.is_silent = False


def wake(local: Local, store: Silent) -> None:
    store.is_silent = True
    local.clock.now += 1_000
    local.service.tick()
    store.is_silent = False


def end(local: Local, store: Silent) -> None:
    invocation = local.queue.work.popleft()
    assert isinstance(invocation, Invocation)
    store.is_silent = True
    local.service.end_invocation(invocation, invocation.token, cmd.Released())
    store.is_silent = False


@pytest.mark.parametrize("moment", ["begin", "wake", "wake two", "end", "complete"])
def test_an_invocation_whose_beginning_is_on_disk_and_that_nobody_was_told_of_is_begun_again(moment: str) -> None:
    """Found by the checker of linearizability: it stood there as running until the process was started anew."""
    store = Silent()
    local = Local(asker, store=store)
    if moment == "begin":
        begin(local, store)
    elif moment == "end":
        local.start(name="it")
        end(local, store)
    execution_id = local.start(name="it")
    if moment == "wake two":
        local.start(name="other")
    local.pump()
    if moment.startswith("wake"):
        wake(local, store)
    local.advance(5)
    if moment == "complete":
        complete(local, store)
        local.advance(5)
    else:
        for callback in local.service.open_callbacks():
            local.service.succeed_callback(callback.callback_id, "answered")
        local.pump()
    assert local.service.get(execution_id).result == '"answered"'
    assert local.queue.taken == 0


def test_an_orphan_is_found_however_often_the_store_fails_at_losing_it() -> None:
    store = Silent()
    local = Local(asker, store=store)
    begin(local, store)
    (execution_id,) = [row.execution_id for row in local.service.search(Query(now_ms=local.clock.now)).rows]

    def refuse(commits: Sequence[Commit]) -> list[bool]:
        raise StoreError("the store is away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "append", refuse)
        local.advance(3)
    local.advance(3)
    (callback,) = local.service.open_callbacks()
    local.service.succeed_callback(callback.callback_id, "answered")
    local.pump()
    assert local.service.get(execution_id).result == '"answered"'


def test_a_beginning_that_is_not_on_disk_leaves_nothing_behind() -> None:
    store = Silent()
    local = Local(asker, store=store)

    def refuse(commits: Sequence[Commit]) -> list[bool]:
        raise StoreError("the store is away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "append", refuse)
        with pytest.raises(StoreError):
            local.start(name="it")
    local.advance(5)
    execution_id = local.start(name="it")
    local.advance(5)
    assert local.service.get(execution_id).waiting_on == ("callback",)
    assert local.service.get(execution_id).failures == 0
