"""What the service promises beyond the engine: names, pages, places, failing stores, other nodes, retention."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from perdure import DurableContext, durable_execution
from perdure.engine import commands as cmd
from perdure.engine.terms import Limits, RetryPolicy, Terms
from perdure.model.error import (
    ErrorObject,
    ExecutionAlreadyStarted,
    InvalidParameterValue,
    ResourceConflict,
    ResourceNotFound,
    StaleToken,
)
from perdure.model.execution import DurableConfig, ExecutionStatus, WaitingOn
from perdure.model.ids import Home
from perdure.model.operation import ExecutionOperation
from perdure.service.agenda import Agenda
from perdure.service.functions import LoadedFunctions
from perdure.service.hot import HotCache
from perdure.service.invocation import Invocation
from perdure.service.service import Service
from perdure.service.starting import StartRequest
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Commit, Query
from support.ids import SeededIds
from support.local import Local, ManualClock, Queue
from support.one import step, wait


@durable_execution(name="waiter")
def waiter(event: Any, context: DurableContext) -> Any:
    context.step(lambda _: 1, name="before")
    context.wait(60, name="minute")
    return context.step(lambda _: event, name="after")


@durable_execution(name="asker")
def asker(event: Any, context: DurableContext) -> Any:
    return context.create_callback("answer").result()


@durable_execution(name="many")
def many(event: Any, context: DurableContext) -> Any:
    for number in range(event):
        context.step(lambda _, number=number: number, name=f"step-{number}")


# --- names -------------------------------------------------------------------------------------------------------


def test_the_same_name_and_input_give_the_same_execution() -> None:
    local = Local(waiter)
    first = local.start({"a": 1}, name="order-1")
    assert local.start({"a": 1}, name="order-1") == first
    local.pump()
    assert local.start({"a": 1}, name="order-1") == first
    local.go_on(first)
    assert local.start({"a": 1}, name="order-1") == first, "also after its end"
    assert len(local.store.search(Query(now_ms=local.clock.now)).rows) == 1


def test_the_same_name_with_another_input_is_refused_and_begins_nothing() -> None:
    local = Local(waiter)
    local.start({"a": 1}, name="order-1")
    requests = [
        StartRequest(function="waiter", input="1"),
        StartRequest(function="waiter", input='{"a": 2}', name="order-1"),
    ]
    with pytest.raises(
        ExecutionAlreadyStarted, match="the name 'order-1' is taken by an execution of 'waiter' with"
    ) as e:
        local.service.start(requests)
    assert "use another name" in (e.value.hint or "")
    assert e.value.arn.endswith(local.store.find("waiter", "order-1") or "?")
    assert len(local.store.search(Query(now_ms=local.clock.now)).rows) == 1


def test_a_name_is_free_again_after_the_retention() -> None:
    local = Local(waiter, config=DurableConfig(retention_days=1))
    first = local.start(1, name="order-1")
    local.go_on(first)
    local.clock.now += 86_400_000
    with pytest.raises(ResourceNotFound):
        local.service.get(first)
    second = local.start(2, name="order-1")
    assert second != first
    assert local.go_on(second).result == 2


def test_an_unknown_function_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ResourceNotFound, match="Function not found: nobody") as raised:
        Local(waiter).start(function="nobody")
    assert raised.value.hint == "functions of this process: waiter"
    plain = Local(waiter, functions={"plain": lambda event, context: None})
    with pytest.raises(InvalidParameterValue, match="function 'plain' is not durable"):
        plain.start(function="plain")


def test_many_are_started_with_one_commit() -> None:
    appends: list[int] = []

    class Counting(MemoryStore):
        def append(self, commits: Sequence[Commit]) -> list[bool]:
            appends.append(len(commits))
            return super().append(commits)

    local = Local(waiter, store=Counting())
    started = local.service.start([StartRequest(function="waiter", input=str(n)) for n in range(20)])
    assert appends == [20]
    assert len({one.execution_id for one in started}) == 20
    local.advance(61)
    assert {local.service.get(one.execution_id).status for one in started} == {ExecutionStatus.SUCCEEDED}


# --- pages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_history_is_read_page_by_page_without_loss_or_repetition(limit: int, *, is_reversed: bool) -> None:
    local = Local(many)
    outcome = local.run(11)
    found: list[int] = []
    marker: str | None = None
    while True:
        page = local.service.history(outcome.id, marker=marker, limit=limit, is_reversed=is_reversed)
        assert len(page.events) <= limit
        found += [event.event_id for event in page.events]
        marker = page.marker
        if marker is None:
            break
    whole = list(range(1, 1 + 1 + 22 + 1 + 1))
    assert found == (whole[::-1] if is_reversed else whole)


def test_a_marker_stays_good_while_the_history_grows() -> None:
    local = Local(waiter)
    execution_id = local.start(1)
    local.pump()
    first = local.service.history(execution_id, limit=2)
    local.go_on(execution_id)
    rest = local.service.history(execution_id, marker=first.marker, limit=100)
    assert [event.event_id for event in (*first.events, *rest.events)] == list(range(1, 11))


@pytest.mark.parametrize("marker", ["", "x", "1.2", "1.2.3.4", "a.b.c"])
def test_a_marker_that_is_none_is_refused(marker: str) -> None:
    local = Local(many)
    with pytest.raises(InvalidParameterValue, match="Invalid marker"):
        local.service.history(local.run(1).id, marker=marker)


def test_the_state_is_paged_with_the_execution_first_and_does_not_spend_the_token() -> None:
    local = Local(waiter)
    execution_id = local.start(1)
    (invocation,) = local.queue.work
    answer = local.service.checkpoint(execution_id, invocation.token, [step(f"s{n}", "SUCCEED") for n in range(5)])  # type: ignore[union-attr]
    token = answer.token
    assert token is not None
    found: list[str] = []
    marker: int | None = 0
    while marker is not None:
        page, marker = local.service.state_page(execution_id, token, marker, 2)
        found += [operation.id for operation in page]
    assert found == [execution_id, "s0", "s1", "s2", "s3", "s4"]
    (first, *_), _ = local.service.state_page(execution_id, token)
    assert isinstance(first, ExecutionOperation)
    assert first.input == "1"
    with pytest.raises(StaleToken):
        local.service.state_page(execution_id, invocation.token)  # type: ignore[union-attr]
    local.service.checkpoint(execution_id, token, [])


# --- lists and views ---------------------------------------------------------------------------------------------


def test_a_view_and_a_row_say_what_an_execution_waits_for() -> None:
    local = Local(asker, waiter)
    asks = local.start(function="asker")
    waits = local.start(function="waiter")
    local.pump()
    assert local.service.get(asks).waiting_on == (WaitingOn.CALLBACK,)
    assert local.service.get(waits).waiting_on == (WaitingOn.TIMER,)
    rows = local.service.search(Query(now_ms=local.clock.now, waiting_on=WaitingOn.CALLBACK)).rows
    assert [row.execution_id for row in rows] == [asks]
    assert [row.open_callbacks for row in rows] == [1]
    row = local.store.row(waits)
    assert row is not None
    assert (row.operations, row.invocations) == (3, 1)


def test_the_open_callbacks_of_all_executions_are_listed_oldest_first() -> None:
    local = Local(asker)
    ids = []
    for _ in range(3):
        local.clock.now += 10
        ids.append(local.start())
        local.pump()
    found = local.service.open_callbacks()
    assert [callback.execution_id for callback in found] == ids
    local.service.succeed_callback(found[1].callback_id, "x")
    local.pump()
    assert [callback.execution_id for callback in local.service.open_callbacks()] == [ids[0], ids[2]]
    assert local.service.open_callbacks(ids[1]) == []
    assert len(local.service.open_callbacks(limit=1)) == 1


# --- callbacks ---------------------------------------------------------------------------------------------------


def test_a_callback_result_must_be_text() -> None:
    outcome = Local(asker).run()
    service = outcome.local.service
    with pytest.raises(InvalidParameterValue, match="must be UTF-8 text"):
        service.succeed_callback(outcome.callback_id(), b"\xff")
    service.succeed_callback(outcome.callback_id(), "é".encode())
    assert outcome.local.go_on(outcome.id).result == "é"


@pytest.mark.parametrize("callback_id", ["", "nope", "AAAA", "é"])
def test_what_is_no_callback_id_is_refused(callback_id: str) -> None:
    with pytest.raises(InvalidParameterValue, match="Invalid callback id"):
        Local(asker).service.succeed_callback(callback_id)


def test_a_callback_of_an_execution_that_is_gone_is_not_found() -> None:
    outcome = Local(asker).run()
    local, callback_id = outcome.local, outcome.callback_id()
    local.service.stop(outcome.id)
    local.service.delete(outcome.id)
    with pytest.raises(ResourceNotFound):
        local.service.succeed_callback(callback_id, "late")


# --- operators ---------------------------------------------------------------------------------------------------


def test_a_deleted_execution_is_gone_from_everywhere() -> None:
    local = Local(waiter)
    outcome = local.run(1, name="n")
    local.service.delete(outcome.id)
    with pytest.raises(ResourceNotFound, match="Durable Execution does not exist"):
        local.service.get(outcome.id)
    with pytest.raises(ResourceNotFound):
        local.service.history(outcome.id)
    assert local.store.read(outcome.id) == []
    assert local.service.search(Query(now_ms=local.clock.now)).rows == ()
    assert local.start(2, name="n") != outcome.id


def test_a_running_execution_can_not_be_deleted() -> None:
    local = Local(waiter)
    with pytest.raises(ResourceConflict, match="the execution is RUNNING; only one that has ended can be deleted") as e:
        local.service.delete(local.start())
    assert e.value.hint == "stop it first"


def test_a_paused_execution_goes_on_when_it_is_resumed() -> None:
    local = Local(waiter)
    execution_id = local.start(5)
    local.pump()
    local.service.pause(execution_id, "look")
    local.advance(120)
    view = local.service.get(execution_id)
    assert (view.status, view.pause and view.pause.reason) == (ExecutionStatus.PAUSED, "look")
    local.service.resume(execution_id)
    assert local.go_on(execution_id).result == 5


def test_a_stop_with_an_error_shows_it() -> None:
    local = Local(waiter)
    execution_id = local.start()
    local.pump()
    local.service.stop(execution_id, ErrorObject("wrong customer", "Operator"))
    view = local.service.get(execution_id)
    assert (view.status, view.error) == (ExecutionStatus.STOPPED, ErrorObject("wrong customer", "Operator"))
    local.advance(600)
    assert local.queue.taken == 0


def test_what_is_past_its_retention_is_swept_in_small_batches() -> None:
    local = Local(many, config=DurableConfig(retention_days=1))
    ids = [local.start(1) for _ in range(250)]
    local.pump()
    local.clock.now += 86_400_000
    assert local.service.sweep() == 250
    assert all(local.store.row(execution_id) is None for execution_id in ids)


def test_the_sweep_comes_by_itself() -> None:
    local = Local(many, config=DurableConfig(retention_days=1))
    execution_id = local.run(1).id
    local.advance(86_400 + 61)
    assert local.store.row(execution_id) is None


# --- places ------------------------------------------------------------------------------------------------------


def test_more_executions_than_places_all_get_their_turn_in_the_order_of_their_start() -> None:
    local = Local(many, places=3)
    ids = [local.start(1) for _ in range(50)]
    assert local.queue.taken == 3
    order = []
    while local.queue.work:
        order.append(local.queue.work[0].execution_id)  # type: ignore[union-attr]
        local.pump_one()
    assert order == ids
    assert local.queue.taken == 0
    assert local.service.agenda.ready_count == 0


class Absent(Queue):
    """A dispatcher that has nobody to run some targets."""

    def __init__(self, *absent: str) -> None:
        super().__init__()
        self.absent = set(absent)

    def reserve(self, target: str) -> bool:
        return target not in self.absent and super().reserve(target)


def test_executions_that_nobody_can_run_keep_no_others_waiting() -> None:
    queue = Absent("gone:$LATEST")
    functions = LoadedFunctions({name: DurableConfig() for name in ("gone", "fn")}, Home())
    service = Service(MemoryStore(), functions, queue, clock=ManualClock(), ids=SeededIds(), owner="me")
    service.start([StartRequest(function="gone") for _ in range(3)])
    queue.absent.add("fn:$LATEST")
    started = service.start([StartRequest(function="fn")])
    queue.absent.discard("fn:$LATEST")
    service.tick()
    assert [work.execution_id for work in queue.work if isinstance(work, Invocation)] == [started[0].execution_id]
    queue.absent.clear()
    service.tick()
    assert len(queue.work) == 4


class Fickle(Queue):
    """A dispatcher without a free place at the moment when it is asked, and with one right afterwards."""

    def __init__(self) -> None:
        super().__init__(places=1)
        self.refusals = 1

    def reserve(self, target: str) -> bool:
        if self.refusals:
            self.refusals -= 1
            return False
        return super().reserve(target)


def _service(queue: Queue, clock: ManualClock, store: MemoryStore | None = None, **more: Any) -> Service:
    functions = LoadedFunctions({"fn": DurableConfig()}, Home())
    return Service(store or MemoryStore(), functions, queue, clock=clock, ids=SeededIds(), **{"owner": "me", **more})


def test_a_place_that_becomes_free_while_an_execution_is_started_is_not_missed() -> None:
    """Found by a benchmark that hung: the last place was freed between the refusal and the entry into the queue."""
    queue = Fickle()
    service = _service(queue, ManualClock())
    service.start([StartRequest(function="fn")])
    assert len(queue.work) == 1


def test_a_place_that_a_look_did_not_need_goes_to_who_is_ready() -> None:
    queue, clock = Queue(places=1), ManualClock()
    service = _service(queue, clock)
    service.tick()
    first, second = (service.start([StartRequest(function="fn")])[0] for _ in range(2))
    (invocation,) = queue.work
    service.end_invocation(invocation, invocation.token, cmd.Pending(), [wait("w", 60)])  # type: ignore[union-attr,arg-type]
    assert [work.execution_id for work in queue.work][1:] == [second.execution_id]  # type: ignore[union-attr]
    assert first.execution_id != second.execution_id


# --- memory ------------------------------------------------------------------------------------------------------


def test_the_hot_cache_is_bounded_by_weight_and_a_dropped_state_is_read_again() -> None:
    local = Local(waiter)
    local.service.ledger.hot = HotCache(bytes_max=50_000)
    ids = [local.start(number) for number in range(200)]
    local.pump()
    hot = local.service.ledger.hot
    assert hot.weight <= 50_000
    assert len(hot) < 20
    local.advance(61)
    assert [local.service.get(execution_id).result for execution_id in ids] == [str(number) for number in range(200)]
    assert hot.weight <= 50_000


def test_the_agenda_holds_the_near_future_only() -> None:
    queue, clock = Queue(), ManualClock()
    store = MemoryStore()
    service = _service(queue, clock, store)
    service.tick()

    def sleeper(seconds: int) -> None:
        service.start([StartRequest(function="fn")])
        invocation: Any = queue.work.popleft()
        service.end_invocation(invocation, invocation.token, cmd.Pending(), [wait("w", seconds)])

    for _ in range(20):
        sleeper(86_400)
    assert len(service.agenda) == 0
    sleeper(20)
    assert len(service.agenda) == 1


@pytest.mark.parametrize("apart_s", [0, 1])
def test_an_agenda_that_is_full_sees_less_far_and_misses_nothing(apart_s: int) -> None:
    queue, clock, store = Queue(), ManualClock(), MemoryStore()
    service = _service(queue, clock, store)
    service.tick()
    for number in range(50):
        service.start([StartRequest(function="fn")])
        invocation: Any = queue.work.popleft()
        service.end_invocation(invocation, invocation.token, cmd.Pending(), [wait("w", 100 + number * apart_s)])
    again = Queue()
    small = _service(again, clock, store, owner="next", agenda=Agenda(size_max=5))
    small.tick()
    end_ms, ticks = clock.now + 200_000, 0
    while clock.now < end_ms:
        clock.now = max(clock.now + 1, min(small.next_tick_ms(), end_ms))
        small.tick()
        ticks += 1
        assert len(small.agenda) <= 10
    assert len(again.work) == 50
    assert ticks < 250, "it looks again and again although nothing has changed"


def test_a_failing_handler_is_quarantined_and_its_view_says_why() -> None:
    @durable_execution(name="poison")
    def poison(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: 1, name="fine")
        raise SystemExit(3)

    local = Local(poison, terms=Terms(retries=RetryPolicy(quarantine_after=3)))
    outcome = local.run()
    view = outcome.view
    assert view.status is ExecutionStatus.PAUSED
    assert view.pause is not None
    assert view.pause.is_quarantine
    assert view.pause.reason == (
        "quarantined: 3 invocations in a row ended after STEP 'fine' without any progress; "
        "the last error was Runtime.ExitError: the handler left with exit code 3"
    )
    assert view.failures == 3


def test_an_update_that_can_not_be_fails_the_execution_also_when_it_comes_with_the_end() -> None:
    @durable_execution(name="long")
    def long(event: Any, context: DurableContext) -> Any:
        context.wait(5, name="n" * 300)

    outcome = Local(long).run()
    assert outcome.status is ExecutionStatus.FAILED
    assert outcome.error.type == "InvalidParameterValueException"
    assert outcome.error.message.startswith("Name must be 1 to 256 printable ASCII characters")


def test_a_payload_over_the_limit_fails_the_execution_with_the_limit() -> None:
    @durable_execution(name="big")
    def big(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: "x" * 2_000_000, name="big")

    outcome = Local(big).run()
    assert outcome.status is ExecutionStatus.FAILED
    assert outcome.error.message == "STEP output payload size must be less than or equal to 1048576 bytes."


def test_an_execution_over_its_quota_fails() -> None:
    outcome = Local(many, terms=Terms(limits=Limits.aws())).run(3_100)
    assert outcome.status is ExecutionStatus.FAILED
    assert outcome.error.type == "ServiceQuotaExceededException"


def test_waiting_for_an_end_is_told_of_it() -> None:
    import threading

    local = Local(asker)
    execution_id = local.start()
    local.pump()
    assert local.service.wait(execution_id, 0) is False
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(local.service.wait(execution_id, 30)))
    waiting.start()
    local.service.stop(execution_id)
    waiting.join(30)
    assert answers == [True]
    assert local.service.wait(execution_id, 0) is True


def test_a_watcher_sees_every_commit_in_order() -> None:
    local = Local(waiter)
    execution_id = local.start(1)
    seen: list[str] = []
    watcher: Callable[..., None] = lambda _state, events: seen.extend(type(event).__name__ for event in events)  # noqa: E731
    local.service.watch(execution_id, watcher)
    outcome = local.go_on(execution_id)
    assert [name for name in seen if name in outcome.shown] == outcome.shown[1:]


def test_a_cache_that_is_empty_yet_is_used() -> None:
    cache = HotCache()
    service = Service(MemoryStore(), LoadedFunctions({}, Home()), Queue(), clock=ManualClock(), hot=cache)
    assert service.ledger.hot is cache
