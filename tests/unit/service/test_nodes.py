"""Several services on one store: leases, what one node does while another remembers, and what a watcher is shown."""

from typing import Any

import pytest

from perdure.engine import commands as cmd
from perdure.model.error import ResourceNotFound, StaleToken
from perdure.model.execution import DurableConfig, ExecutionStatus
from perdure.model.ids import Home
from perdure.service.functions import LoadedFunctions
from perdure.service.service import Service
from perdure.service.starting import StartRequest
from perdure.store.memory import MemoryStore
from support.ids import SeededIds
from support.local import ManualClock, Queue
from support.one import step, wait


def _service(queue: Queue, clock: ManualClock, store: MemoryStore | None = None, **more: Any) -> Service:
    functions = LoadedFunctions({"fn": DurableConfig()}, Home())
    return Service(store or MemoryStore(), functions, queue, clock=clock, ids=SeededIds(), **{"owner": "me", **more})


class Node:
    """One of several services on a store that they share."""

    def __init__(self, store: MemoryStore, clock: ManualClock, name: str) -> None:
        self.queue = Queue()
        self.service = _service(self.queue, clock, store, owner=name)
        self.service.tick()

    def take(self) -> Any:
        return self.queue.work.popleft()


def test_a_dead_node_s_invocation_is_taken_over_when_its_lease_has_run_out() -> None:
    store, clock = MemoryStore(lease_ms=30_000), ManualClock()
    one, two = Node(store, clock, "one"), Node(store, clock, "two")
    execution_id = one.service.start([StartRequest(function="fn")])[0].execution_id
    lost = one.take()
    clock.now += 29_999
    two.service.tick()
    assert not two.queue.work
    clock.now += 30_001
    two.service.tick()
    taken = two.take()
    assert (taken.execution_id, taken.epoch) == (execution_id, 2)
    with pytest.raises(StaleToken):
        one.service.checkpoint(execution_id, lost.token, [step("a", "SUCCEED")])
    one.service.end_invocation(lost, lost.token, cmd.Succeeded("1"))
    two.service.end_invocation(taken, taken.token, cmd.Succeeded("2"))
    assert one.service.get(execution_id).result == "2"


def test_a_living_node_keeps_its_lease() -> None:
    store, clock = MemoryStore(lease_ms=30_000), ManualClock()
    one, two = Node(store, clock, "one"), Node(store, clock, "two")
    execution_id = one.service.start([StartRequest(function="fn")])[0].execution_id
    invocation = one.take()
    for _ in range(30):
        clock.now += 10_000
        one.service.tick()
        two.service.tick()
    assert not two.queue.work
    one.service.end_invocation(invocation, invocation.token, cmd.Succeeded("1"))
    assert two.service.get(execution_id).status is ExecutionStatus.SUCCEEDED


def test_of_two_nodes_that_see_one_timer_exactly_one_runs_it() -> None:
    store, clock = MemoryStore(lease_ms=30_000), ManualClock()
    one, two = Node(store, clock, "one"), Node(store, clock, "two")
    one.service.start([StartRequest(function="fn")])
    invocation = one.take()
    one.service.end_invocation(invocation, invocation.token, cmd.Pending(), [wait("w", 5)])
    clock.now += 5_000
    two.service.tick()
    one.service.tick()
    assert len(one.queue.work) + len(two.queue.work) == 1


def test_an_answer_given_to_another_node_reaches_the_handler() -> None:
    store, clock = MemoryStore(lease_ms=30_000), ManualClock()
    one, two = Node(store, clock, "one"), Node(store, clock, "two")
    execution_id = one.service.start([StartRequest(function="fn")])[0].execution_id
    invocation = one.take()
    answer = one.service.checkpoint(execution_id, invocation.token, [cmd_update("c", "CALLBACK")])
    assert answer.token is not None
    (callback,) = two.service.open_callbacks(execution_id)
    two.service.succeed_callback(callback.callback_id, "yes")
    seen = one.service.checkpoint(execution_id, answer.token, [])
    assert [operation.result for operation in seen.operations] == ["yes"]


def cmd_update(operation_id: str, kind: str) -> Any:
    from support.one import update

    return update(operation_id, kind, "START")


def test_an_owner_that_is_told_of_a_change_looks_at_it() -> None:
    store, clock = MemoryStore(), ManualClock()
    owner = Node(store, clock, "owner")
    execution_id = owner.service.start([StartRequest(function="fn")])[0].execution_id
    invocation = owner.take()
    answer = owner.service.checkpoint(execution_id, invocation.token, [cmd_update("c", "CALLBACK")])
    assert answer.token is not None
    owner.service.end_invocation(invocation, answer.token, cmd.Pending())
    operator = _service(Queue(places=0), clock, store, owner="operator")
    (callback,) = operator.open_callbacks(execution_id)
    operator.succeed_callback(callback.callback_id, "yes")
    store.changed_elsewhere(execution_id)
    owner.service.tick()
    assert [owner.take().execution_id] == [execution_id]
    assert not owner.queue.work


def test_an_owner_that_missed_the_ring_finds_the_change_at_its_next_scan() -> None:
    store, clock = MemoryStore(), ManualClock()
    owner = Node(store, clock, "owner")
    execution_id = owner.service.start([StartRequest(function="fn")])[0].execution_id
    invocation = owner.take()
    answer = owner.service.checkpoint(execution_id, invocation.token, [cmd_update("c", "CALLBACK")])
    assert answer.token is not None
    owner.service.end_invocation(invocation, answer.token, cmd.Pending())
    operator = _service(Queue(places=0), clock, store, owner="operator")
    (callback,) = operator.open_callbacks(execution_id)
    operator.succeed_callback(callback.callback_id, "yes")
    clock.now += 60_000
    owner.service.tick()
    assert [owner.take().execution_id] == [execution_id]
    assert not owner.queue.work


def test_the_invocations_of_a_dead_owner_are_taken_up_at_once_by_the_next_one() -> None:
    store, clock = MemoryStore(), ManualClock()
    first = Node(store, clock, "first")
    ids = {first.service.start([StartRequest(function="fn")])[0].execution_id for _ in range(5)}
    assert len(first.queue.work) == 5
    second = Node(store, clock, "second")
    taken = [second.take() for _ in range(5)]
    assert {work.execution_id for work in taken} == ids
    assert {work.epoch for work in taken} == {2}
    history = second.service.history(next(iter(ids))).events
    error = history[1].event.error  # type: ignore[attr-defined]
    assert (error.type, error.message) == ("Runtime.ExitError", "the process first ended without an answer")


def test_a_node_with_an_old_memory_of_an_execution_does_not_drop_what_it_is_told() -> None:
    """Found by the simulation: a child told its parent through a node whose cached state had no such invoke yet; the
    decision that nothing happens was made on the old state, appended nothing, and so was never found out."""
    store, clock = MemoryStore(lease_ms=30_000), ManualClock()
    one, two = Node(store, clock, "one"), Node(store, clock, "two")
    execution_id = one.service.start([StartRequest(function="fn")])[0].execution_id
    two.service.get(execution_id)
    invocation = one.take()
    answer = one.service.checkpoint(execution_id, invocation.token, [cmd_update("c", "CALLBACK")])
    (callback,) = one.service.open_callbacks(execution_id)
    two.service.succeed_callback(callback.callback_id, "yes")
    assert answer.token is not None
    seen = one.service.checkpoint(execution_id, answer.token, [])
    assert [operation.result for operation in seen.operations] == ["yes"]


def test_a_watcher_sees_every_event_in_order_also_what_another_node_wrote() -> None:
    store, clock = MemoryStore(lease_ms=30_000), ManualClock()
    one, two = Node(store, clock, "one"), Node(store, clock, "two")
    execution_id = one.service.start([StartRequest(function="fn")])[0].execution_id
    seen: list[str] = []
    late: list[str] = []
    ignored: list[str] = []

    def into(names: list[str]) -> Any:
        return lambda _state, events: names.extend(type(event).__name__ for event in events if event.is_shown)

    one.service.watch(execution_id, into(seen), is_from_start=True)
    one.service.watch(execution_id, into(ignored))
    invocation = one.take()
    answer = one.service.checkpoint(execution_id, invocation.token, [cmd_update("c", "CALLBACK")])
    assert answer.token is not None
    (callback,) = one.service.open_callbacks(execution_id)
    two.service.succeed_callback(callback.callback_id, "yes")
    two.service.pause(execution_id)
    assert seen == ["ExecutionStarted", "CallbackStarted"], "this node has not heard of it"
    one.service.checkpoint(execution_id, answer.token, [])
    one.service.watch(execution_id, into(late), is_from_start=True)
    one.service.stop(execution_id)
    expected = ["ExecutionStarted", "CallbackStarted", "CallbackSucceeded", "ExecutionStopped"]
    assert [name for name in seen if name in expected] == expected
    assert late == seen
    assert ignored == seen[1:]
    assert one.service.ledger.watching.is_idle


def test_a_watcher_that_raises_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    store, clock = MemoryStore(lease_ms=30_000), ManualClock()
    one = Node(store, clock, "one")
    execution_id = one.service.start([StartRequest(function="fn")])[0].execution_id
    seen: list[str] = []

    def raises(_state: Any, _events: Any) -> None:
        raise RuntimeError("not now")

    one.service.watch(execution_id, raises)
    one.service.watch(execution_id, lambda _state, events: seen.extend(type(event).__name__ for event in events))
    one.service.stop(execution_id)
    assert seen == ["ExecutionStopped"]
    assert "a watcher failed" in caplog.text


def test_news_from_another_process_make_no_timer_late() -> None:
    """Found by reading: who looked in between forgot when to look next."""
    store, clock = MemoryStore(), ManualClock()
    owner = Node(store, clock, "owner")
    execution_id = owner.service.start([StartRequest(function="fn")])[0].execution_id
    invocation = owner.take()
    owner.service.end_invocation(invocation, invocation.token, cmd.Pending(), [wait("w", 10)])
    owner.service.tick()
    clock.now += 1_000
    store.changed_elsewhere(execution_id)
    owner.service.tick()
    assert owner.service.next_tick_ms() == clock.now + 9_000
    clock.now += 9_000
    owner.service.tick()
    assert owner.take().execution_id == execution_id


def test_who_waits_is_told_of_an_end_that_another_process_has_made_and_not_told_of() -> None:
    store, clock = MemoryStore(), ManualClock()
    owner = Node(store, clock, "owner")
    operator = _service(Queue(places=0), clock, store, owner="operator")
    ids = [started.execution_id for started in owner.service.start([StartRequest(function="fn")] * 3)]
    told: list[str] = []
    for execution_id in ids:
        owner.service.when_ended(execution_id, lambda execution_id=execution_id: told.append(execution_id))
    operator.stop(ids[0])
    operator.stop(ids[1])
    operator.delete(ids[1])
    assert not told
    clock.now += 60_000
    owner.service.tick()
    assert sorted(told) == sorted(ids[:2])


def test_an_execution_that_another_process_has_deleted_is_there_no_more() -> None:
    """Found by a test of who waits: what the cache knew was right until the next event, and there is none."""
    store, clock = MemoryStore(), ManualClock()
    owner = Node(store, clock, "owner")
    operator = _service(Queue(places=0), clock, store, owner="operator")
    execution_id = owner.service.start([StartRequest(function="fn")])[0].execution_id
    operator.stop(execution_id)
    operator.delete(execution_id)
    with pytest.raises(ResourceNotFound):
        owner.service.get(execution_id)
    with pytest.raises(ResourceNotFound):
        owner.service.stop(execution_id)
