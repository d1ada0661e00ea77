"""Which worker gets what, and what happens when one is not heard of: without sockets, on a clock that stands still."""

import asyncio
import hashlib
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from perdure.engine import tokens
from perdure.model.error import ErrorObject, InvalidParameterValue, ResourceConflict, ResourceNotFound, TooManyRequests
from perdure.model.event import InvocationCompleted
from perdure.model.execution import DurableConfig, ExecutionStatus
from perdure.model.function import FunctionVersion, Host
from perdure.model.ids import LATEST, Home, execution_key
from perdure.model.operation import OperationAction, OperationType, OperationUpdate
from perdure.server.roster import ANSWER_BYTES, GONE_S, SILENT_S
from perdure.server.worker_pool import PAGE_BYTES, WorkerPool
from perdure.service.invocation import Call
from perdure.service.registry import Registry
from perdure.service.service import Service
from perdure.service.starting import StartRequest
from perdure.store.memory import MemoryStore
from perdure.wire import workers as wire
from support.ids import SeededIds
from support.local import ManualClock
from support.one import step, wait

OLD, NEW = (hashlib.sha256(text).hexdigest() for text in (b"old", b"new"))
DURABLE = DurableConfig()


class Ground:
    """A service whose functions run in workers. `now_s` is the clock of the pool; it looks when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.clock = ManualClock()
        self.store = MemoryStore(secret=b"s" * 32)
        self.registry = Registry(self.store, Home(), self.clock, lambda: 0.5)
        self.pool = Patient(self.registry, lambda: self.now_s)
        self.service = Service(self.store, self.registry, self.pool, clock=self.clock, ids=SeededIds(0), owner="me")
        self.pool.bind(self.service)
        self.service.why_waiting = self.pool.why_waiting
        self.service.tick()
        self._ids = itertools.count(1)

    def join(self, code: str = NEW, *, threads: int = 1, **more: Any) -> "Worker":
        offers = more.pop("functions", [wire.Offer(name="fn", durable=DURABLE, timeout_s=60)])
        worker_id = more.pop("worker_id", f"worker-{next(self._ids)}")
        message = wire.Join(worker_id=worker_id, code_sha256=code, functions=offers, threads=threads, **more)
        return Worker(self, worker_id, self.pool.join(message).versions)

    def begin(self, version: str = LATEST, function: str = "fn") -> str:
        return self.service.start([StartRequest(function=function, version=version, input="7")])[0].execution_id

    def status(self, execution_id: str) -> ExecutionStatus:
        return self.service.get(execution_id).status

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.clock.now += int(seconds * 1000)
        self.pool.look()
        self.pool.settle()
        self.service.tick()

    def errors(self, execution_id: str) -> list[ErrorObject | None]:
        """Those of the invocations of an execution."""
        events = [shown.event for shown in self.service.all_events(execution_id)]
        return [event.error for event in events if isinstance(event, InvocationCompleted)]


class Hands(ThreadPoolExecutor):
    """Threads that one can wait for."""

    def __init__(self) -> None:
        super().__init__(4)
        self.begun: deque[Future[Any]] = deque()

    def submit(self, *args: Any, **more: Any) -> "Future[Any]":
        self.begun.append(super().submit(*args, **more))
        return self.begun[-1]


class Patient(WorkerPool):
    """A pool that looks only when it is told to."""

    def __init__(self, registry: Registry, now_s: Callable[[], float]) -> None:
        super().__init__(registry, now_s)
        self._hands.shutdown()
        self._hands = self.hands = Hands()

    def _watch(self) -> None:
        pass

    def settle(self) -> None:
        """Wait for what its own threads do."""
        while self.hands.begun:
            self.hands.begun.popleft().result(10)


async def never() -> None:
    await asyncio.Event().wait()


class Worker:
    """A worker that does what a test says. `received` is what it acknowledges with its next poll."""

    def __init__(self, ground: Ground, worker_id: str, versions: dict[str, str]) -> None:
        self.ground = ground
        self.id = worker_id
        self.versions = versions
        self.received = 0

    async def _poll(self, poll: wire.Poll, is_gone: Callable[[], Awaitable[None]]) -> wire.Polled:
        return wire.read(wire.Polled, await self.ground.pool.poll(self.id, poll, is_gone))

    def poll(self, *, is_draining: bool = False) -> list[Any]:
        """What the answer brings; the poll is given up if there is nothing at once."""

        async def once() -> wire.Polled | None:
            asking = asyncio.ensure_future(
                self._poll(wire.Poll(received=self.received, is_draining=is_draining), never)
            )
            done, _ = await asyncio.wait({asking}, timeout=0.02)
            if not done:
                asking.cancel()
                return None
            return asking.result()

        polled = asyncio.run(once())
        if polled is None:
            return []
        self.received = polled.number
        return [wire.read_work(one) for one in polled.work]

    def take(self) -> wire.Invoked:
        (work,) = self.poll()
        assert isinstance(work, wire.Invoked)
        return work

    def end(self, work: wire.Invoked, end: wire.End = wire.End.SUCCEEDED, **more: Any) -> None:
        more = {"result": '"done"', **more} if end is wire.End.SUCCEEDED else more
        self.ground.pool.end(self.id, work.request_id, wire.Ended(token=work.token, end=end, **more))


@pytest.fixture
def ground() -> Iterator[Ground]:
    ground = Ground()
    yield ground
    ground.pool.close()
    ground.pool.hand_back()


# --- work goes out and comes back --------------------------------------------------------------------------------


def test_an_invocation_travels_to_the_worker_and_its_end_comes_back(ground: Ground) -> None:
    worker = ground.join()
    execution_id = ground.begin()
    work = worker.take()
    assert (work.execution_id, work.function, work.version, work.input) == (execution_id, "fn", "1", "7")
    assert (work.operations, work.marker, work.timeout_s) == ([], "", 60)
    worker.end(work)
    view = ground.service.get(execution_id)
    assert (view.status, view.result, view.version) == (ExecutionStatus.SUCCEEDED, '"done"', "1")


def test_a_replay_brings_its_operations_and_what_has_changed(ground: Ground) -> None:
    worker = ground.join()
    execution_id = ground.begin()
    worker.end(worker.take(), wire.End.PENDING, updates=[step("a", "SUCCEED", payload="1"), wait("w", 5)])
    ground.pass_time(5)
    work = worker.take()
    operations = wire.read_operations(work.operations)
    assert [(one.id, str(one.status), one.result) for one in operations] == [
        ("a", "SUCCEEDED", "1"),
        ("w", "SUCCEEDED", None),
    ]
    assert operations == ground.service.operations(execution_id)
    assert work.updated_ids == ("w",)


def test_what_does_not_fit_into_an_invocation_is_behind_its_marker(ground: Ground) -> None:
    worker = ground.join()
    ground.begin()
    large = ["x" * 1_000_000 for _ in range(6)]
    updates = [step(f"s{at}", "SUCCEED", payload=text) for at, text in enumerate(large)]
    worker.end(worker.take(), wire.End.PENDING, updates=[*updates, wait("w", 5)])
    ground.pass_time(5)
    work = worker.take()
    assert PAGE_BYTES < 6_000_000
    assert (len(work.operations), work.marker) == (5, "6")
    key = execution_key(work.execution_id)
    token = tokens.read(ground.store.secret, key, work.token)
    rest, following = ground.service.state_page(work.execution_id, token, int(work.marker))
    assert ([one.id for one in rest], following) == (["s5", "w"], None)


def test_an_answer_that_did_not_arrive_is_sent_again(ground: Ground) -> None:
    worker = ground.join(threads=3)
    first, second = ground.begin(), ground.begin()
    lost = {work.execution_id for work in worker.poll()}
    worker.received = 0
    ground.begin()
    again = worker.poll()
    assert {work.execution_id for work in again} == lost == {first, second}
    assert len(worker.poll()) == 1


def test_an_answer_has_a_size(ground: Ground) -> None:
    worker = ground.join(threads=4)
    text = '"' + "x" * 3_000_000 + '"'
    ground.service.start([StartRequest(function="fn", version="1", input=text) for _ in range(4)])
    assert ANSWER_BYTES < 9_000_000
    assert [len(worker.poll()) for _ in range(2)] == [2, 2]


def test_a_poll_that_waits_is_woken_by_work(ground: Ground) -> None:
    worker = ground.join()

    async def wait_for_work() -> wire.Polled:
        asking = asyncio.ensure_future(worker._poll(wire.Poll(), never))
        await asyncio.sleep(0)
        await asyncio.to_thread(ground.begin)
        return await asyncio.wait_for(asking, 10)

    assert len(asyncio.run(wait_for_work()).work) == 1


def test_of_two_polls_of_a_worker_the_later_one_is_answered_with_work(ground: Ground) -> None:
    """The older one is of a connection that may be dead; its answer acknowledges nothing."""
    worker = ground.join()

    async def twice() -> tuple[wire.Polled, wire.Polled]:
        older = asyncio.ensure_future(worker._poll(wire.Poll(), never))
        await asyncio.sleep(0)
        later = asyncio.ensure_future(worker._poll(wire.Poll(), never))
        await asyncio.sleep(0)
        await asyncio.to_thread(ground.begin)
        return await older, await asyncio.wait_for(later, 10)

    older, later = asyncio.run(twice())
    assert (older.number, older.work, later.number, len(later.work)) == (0, [], 1, 1)


# --- who gets it -------------------------------------------------------------------------------------------------


def test_the_worker_with_most_places_free_gets_the_next(ground: Ground) -> None:
    small, large = ground.join(threads=2), ground.join(threads=4)
    for _ in range(5):
        ground.begin()
    assert (len(large.poll()), len(small.poll())) == (3, 2)


def test_more_executions_than_places_wait_and_say_so(ground: Ground) -> None:
    worker = ground.join(threads=1)
    first, second = ground.begin(), ground.begin()
    work = worker.take()
    assert ground.service.get(first).waiting_reason is None
    text = "all places of the workers that have the code of fn:1 are taken"
    assert ground.service.get(second).waiting_reason == text
    worker.end(work)
    assert worker.take().execution_id == second


def test_handlers_on_the_loop_have_places_of_their_own(ground: Ground) -> None:
    offers = [wire.Offer(name="fn", durable=DURABLE), wire.Offer(name="loop", durable=DURABLE, is_async=True)]
    worker = ground.join(threads=1, tasks=2, functions=offers)
    for function in ("fn", "fn", "loop", "loop", "loop"):
        ground.begin(function=function)
    assert sorted(work.function for work in worker.poll()) == ["fn", "loop", "loop"]


def test_executions_stay_with_the_code_they_began_on(ground: Ground) -> None:
    old = ground.join(OLD, threads=2, age_s=10)
    before = ground.begin()
    old.end(old.take(), wire.End.PENDING, updates=[wait("w", 5)])
    new = ground.join(NEW, threads=2)
    after = ground.begin()
    ground.pass_time(5)
    assert (new.take().execution_id, old.take().execution_id) == (after, before)
    assert (old.versions, new.versions) == ({"fn": "1"}, {"fn": "2"})


def test_an_execution_whose_code_no_worker_has_waits_and_says_why(ground: Ground) -> None:
    ground.join(OLD, age_s=10)
    ground.join(NEW)
    ground.pool.leave("worker-1")
    execution_id = ground.begin("1")
    assert ground.service.get(execution_id).waiting_reason == "no worker has the code of fn:1"
    back = ground.join(OLD, age_s=5)
    assert back.take().execution_id == execution_id


def test_a_version_that_was_published_by_hand_runs_where_its_code_is(ground: Ground) -> None:
    worker = ground.join()
    ground.registry.update_configuration("fn", lambda version: msgspec.structs.replace(version, timeout_s=5))
    version = ground.registry.publish("fn").version
    execution_id = ground.begin(version)
    work = worker.take()
    assert (work.execution_id, work.version, work.timeout_s) == (execution_id, "2", 5)


# --- workers that are gone ---------------------------------------------------------------------------------------


def break_poll(ground: Ground, worker: Worker) -> None:
    """The connection of an open poll breaks."""

    async def at_once() -> None:
        return

    asyncio.run(worker._poll(wire.Poll(received=worker.received), at_once))


def test_a_worker_whose_connection_breaks_is_gone_soon(ground: Ground) -> None:
    """What it ran goes to another; what it still says is refused."""
    dead = ground.join()
    execution_id = ground.begin()
    lost = dead.take()
    alive = ground.join()
    break_poll(ground, dead)
    ground.pass_time(GONE_S - 0.1)
    assert alive.poll() == []
    ground.pass_time(0.2)
    work = alive.take()
    assert (work.execution_id, work.epoch) == (execution_id, 2)
    with pytest.raises(ResourceConflict, match="is not run by worker 'worker-1', or not any more"):
        dead.end(lost)
    with pytest.raises(ResourceNotFound, match="there is no worker 'worker-1'"):
        dead.poll()
    alive.end(work)
    (error, none) = ground.errors(execution_id)
    assert error is not None
    assert (error.type, error.message, none) == (
        "Runtime.ExitError",
        "worker worker-1 is gone: nothing was heard of it for 2.1 s",
        None,
    )


def test_a_worker_that_comes_back_in_time_keeps_what_it_runs(ground: Ground) -> None:
    worker = ground.join()
    execution_id = ground.begin()
    work = worker.take()
    break_poll(ground, worker)
    ground.pass_time(GONE_S - 0.1)
    assert worker.poll() == []
    ground.pass_time(GONE_S)
    worker.end(work)
    assert ground.status(execution_id) is ExecutionStatus.SUCCEEDED


def test_a_worker_that_is_silent_is_gone(ground: Ground) -> None:
    silent = ground.join()
    execution_id = ground.begin()
    silent.take()
    ground.pass_time(SILENT_S - 1)
    alive = ground.join()
    ground.pass_time(1.5)
    assert alive.take().execution_id == execution_id


def test_nothing_is_given_to_a_worker_whose_connection_is_broken(ground: Ground) -> None:
    worker = ground.join()
    break_poll(ground, worker)
    execution_id = ground.begin()
    assert ground.service.get(execution_id).waiting_reason is not None
    assert worker.poll() == []
    ground.service.fill_places()
    assert worker.take().execution_id == execution_id


def test_what_a_dead_worker_was_never_sent_counts_as_no_failure(ground: Ground) -> None:
    dead = ground.join()
    execution_id = ground.begin()
    ground.pass_time(SILENT_S + 1)
    alive = ground.join()
    work = alive.take()
    assert work.execution_id == execution_id
    assert (ground.errors(execution_id), ground.service.get(execution_id).failures) == ([None], 0)
    assert dead.id not in {line.worker_id for line in ground.pool.listed()}


def test_a_worker_that_joins_again_has_lost_what_it_ran(ground: Ground) -> None:
    worker = ground.join(worker_id="the-worker")
    execution_id = ground.begin()
    worker.take()
    again = ground.join(worker_id="the-worker")
    ground.pool.settle()
    assert again.take().execution_id == execution_id


def test_a_worker_that_leaves_hands_back_what_it_has(ground: Ground) -> None:
    worker = ground.join()
    execution_id = ground.begin()
    worker.take()
    ground.pool.leave(worker.id)
    ground.pool.settle()
    assert ground.join().take().execution_id == execution_id
    (error,) = ground.errors(execution_id)
    assert error is not None
    assert error.message == "worker worker-1 left while it was running"


def test_a_draining_worker_is_given_nothing_and_may_end_what_it_has(ground: Ground) -> None:
    draining = ground.join(threads=3)
    running = ground.begin()
    work = draining.take()
    unsent = ground.begin()
    assert draining.poll(is_draining=True) == []
    ground.pool.settle()
    other = ground.join()
    assert other.take().execution_id == unsent
    assert ground.errors(unsent) == [None]
    draining.end(work, wire.End.RELEASED)
    assert ground.status(running) is ExecutionStatus.RUNNING
    assert draining.poll(is_draining=True) == []


# --- time-outs ---------------------------------------------------------------------------------------------------


def test_an_invocation_over_its_time_out_is_given_up(ground: Ground) -> None:
    """It is tried again, and the place stays taken until the worker has really ended it."""
    worker = ground.join(threads=1)
    execution_id = ground.begin()
    work = worker.take()
    for _ in range(7):
        ground.pass_time(8.5)
        assert worker.poll() == []
    ground.pass_time(1)
    (error,) = ground.errors(execution_id)
    assert error is not None
    assert error.type == "Sandbox.Timedout"
    assert error.message == f"{work.request_id} Task timed out after 60.00 seconds"
    assert worker.poll() == []
    with pytest.raises(ResourceConflict):
        worker.end(work)
    assert worker.take().epoch == 2


def test_time_before_an_invocation_is_sent_does_not_count(ground: Ground) -> None:
    worker = ground.join(functions=[wire.Offer(name="fn", durable=DURABLE, timeout_s=9)])
    execution_id = ground.begin()
    ground.pass_time(8)
    work = worker.take()
    ground.pass_time(8)
    worker.end(work)
    assert ground.status(execution_id) is ExecutionStatus.SUCCEEDED


def test_what_has_ended_does_not_fill_the_memory_until_its_time_out(ground: Ground) -> None:
    worker = ground.join(threads=10)
    for _ in range(250):
        for _ in range(10):
            ground.begin()
        for work in worker.poll():
            worker.end(work)
    assert len(ground.pool._roster._deadlines) <= 1_010


# --- what can't be -----------------------------------------------------------------------------------------------


def test_an_end_with_updates_that_can_t_be_is_refused_and_may_be_said_otherwise(ground: Ground) -> None:
    worker = ground.join(threads=1)
    execution_id = ground.begin()
    work = worker.take()
    wrong = OperationUpdate("w", OperationType.WAIT, OperationAction.START)
    with pytest.raises(InvalidParameterValue):
        worker.end(work, wire.End.PENDING, updates=[wrong])
    waiting = ground.begin()
    assert worker.poll() == []
    worker.end(work, wire.End.FAILED, error=ErrorObject("no"))
    assert ground.status(execution_id) is ExecutionStatus.FAILED
    assert worker.take().execution_id == waiting


def test_a_refused_end_of_a_worker_that_is_gone_meanwhile_is_lost(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = ground.join(threads=1)
    execution_id = ground.begin()
    work = worker.take()

    def refused(*_args: Any, **_more: Any) -> None:
        ground.pool.leave(worker.id)
        raise InvalidParameterValue("no")

    with monkeypatch.context() as patch:
        patch.setattr(ground.service, "end_invocation", refused)
        with pytest.raises(InvalidParameterValue):
            worker.end(work)
    ground.pool.settle()
    assert ground.join().take().execution_id == execution_id


def test_an_end_needs_a_token_of_its_invocation(ground: Ground) -> None:
    worker = ground.join(threads=2)
    ground.begin()
    ground.begin()
    one, other = worker.poll()
    with pytest.raises(InvalidParameterValue, match="Invalid checkpoint token"):
        ground.pool.end(worker.id, one.request_id, wire.Ended(token=other.token, end=wire.End.SUCCEEDED))
    with pytest.raises(InvalidParameterValue, match="Invalid checkpoint token"):
        ground.pool.end(worker.id, one.request_id, wire.Ended(token="forged", end=wire.End.SUCCEEDED))
    worker.end(one)


def test_a_worker_can_not_end_what_another_runs(ground: Ground) -> None:
    worker = ground.join()
    ground.begin()
    work = worker.take()
    thief = ground.join()
    with pytest.raises(ResourceConflict):
        thief.end(work)
    worker.end(work)


def test_the_times_that_a_worker_says_count_for_nothing(ground: Ground) -> None:
    worker = ground.join()
    execution_id = ground.begin()
    late = OperationUpdate("s", OperationType.STEP, OperationAction.SUCCEED, at_ms=ground.clock.now - 1)
    ground.clock.now += 10
    worker.end(worker.take(), wire.End.PENDING, updates=[late, wait("w", 5)])
    assert ground.service.operations(execution_id)[0].end_ms == ground.clock.now


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"worker_id": "a b"}, "a worker's id must be 8 to 64"),
        ({"code": "abc"}, "hash of a worker's code must be 64"),
        ({"name": "n\n"}, "a worker's name must be at most 100"),
        ({"functions": []}, "from 1 to 1000 functions, each once"),
        ({"functions": [wire.Offer(name="a"), wire.Offer(name="a")]}, "each once"),
        ({"functions": [wire.Offer(name="a", timeout_s=0)]}, "the time-out of 'a' must be from 1 to 86400 seconds"),
        ({"functions": [wire.Offer(name="a b")]}, "a function's name must be"),
        ({"threads": 0}, "from 1 to 100000 threads"),
        ({"age_s": -1.0}, "age of a worker must be"),
    ],
)
def test_a_worker_that_says_what_can_t_be_is_refused(ground: Ground, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterValue, match=message):
        ground.join(**wrong)
    assert ground.pool.listed() == []


def test_a_worker_of_a_function_that_runs_elsewhere_is_refused(ground: Ground) -> None:
    ground.registry.create(FunctionVersion(function="fn", host=Host.MANAGED))
    with pytest.raises(ResourceConflict, match="'fn' which runs in a managed"):
        ground.join()


# --- plain functions ---------------------------------------------------------------------------------------------


def plain(ground: Ground, **more: Any) -> Worker:
    return ground.join(functions=[wire.Offer(name="fn", **{"timeout_s": 60, **more})])


def call(ground: Ground) -> list[tuple[str | None, ErrorObject | None]]:
    answers: list[tuple[str | None, ErrorObject | None]] = []
    ground.pool.call(Call("fn", "1", "7", lambda result, error: answers.append((result, error))))
    return answers


def test_a_call_of_a_plain_function_is_answered(ground: Ground) -> None:
    worker = plain(ground)
    answers = call(ground)
    (work,) = worker.poll()
    assert isinstance(work, wire.Called)
    assert (work.function, work.version, work.input, work.timeout_s) == ("fn", "1", "7", 60)
    ground.pool.end_call(worker.id, work.call_id, wire.CallEnded(result="8"))
    assert answers == [("8", None)]
    with pytest.raises(ResourceConflict):
        ground.pool.end_call(worker.id, work.call_id, wire.CallEnded(result="9"))


def test_calls_wait_for_a_place(ground: Ground) -> None:
    worker = plain(ground)
    call(ground)
    later = call(ground)
    (work,) = worker.poll()
    ground.pool.end_call(worker.id, work.call_id, wire.CallEnded())
    (work,) = worker.poll()
    ground.pool.end_call(worker.id, work.call_id, wire.CallEnded(error=ErrorObject("no")))
    assert later == [(None, ErrorObject("no"))]


def test_a_call_that_finds_no_worker_in_time_fails(ground: Ground) -> None:
    worker = plain(ground, timeout_s=20)
    ground.pool.leave(worker.id)
    answers = call(ground)
    ground.pass_time(19)
    assert answers == []
    ground.pass_time(2)
    assert answers == [(None, ErrorObject("no worker had a place for fn:1 in time", "Sandbox.Timedout"))]


def test_a_call_of_a_worker_that_dies_fails_and_one_it_was_never_sent_does_not(ground: Ground) -> None:
    """Who called may call again; a durable function's retries do."""
    dead = plain(ground)
    begun, waiting = call(ground), call(ground)
    dead.poll()
    ground.pass_time(SILENT_S + 1)
    ((_, error),) = begun
    assert error is not None
    assert (error.type, waiting) == ("Runtime.ExitError", [])
    alive = plain(ground)
    unsent = call(ground)
    (work,) = alive.poll()
    ground.pool.end_call(alive.id, work.call_id, wire.CallEnded(result="1"))
    assert (waiting, unsent) == ([("1", None)], [])


def test_a_call_that_takes_too_long_fails(ground: Ground) -> None:
    worker = plain(ground, timeout_s=5)
    answers = call(ground)
    (work,) = worker.poll()
    ground.pass_time(5.5)
    text = f"{work.call_id} Task timed out after 5.00 seconds"
    assert answers == [(None, ErrorObject(text, "Sandbox.Timedout"))]


# --- the end -----------------------------------------------------------------------------------------------------


def test_a_server_that_closes_answers_the_polls_and_hands_back_what_runs(ground: Ground) -> None:
    worker = ground.join(threads=2)
    running = ground.begin()
    worker.take()

    async def wait_until_closed() -> wire.Polled:
        asking = asyncio.ensure_future(worker._poll(wire.Poll(received=worker.received), never))
        await asyncio.sleep(0)
        ground.pool.close()
        return await asyncio.wait_for(asking, 10)

    assert asyncio.run(wait_until_closed()).is_closing
    with pytest.raises(TooManyRequests, match="the server is closing"):
        ground.join()
    ground.service.close()
    ground.pool.hand_back()
    view = ground.service.get(running)
    assert (view.is_running, view.failures, ground.errors(running)) == (False, 0, [None])


def test_workers_are_listed(ground: Ground) -> None:
    worker = ground.join(threads=2, name="blue", host="here", pid=7, release="1.0")
    ground.begin()
    worker.take()
    ground.now_s += 1.5
    (line,) = ground.pool.listed()
    assert (line.worker_id, line.name, line.host, line.pid, line.release) == (worker.id, "blue", "here", 7, "1.0")
    assert (line.functions, line.threads, line.tasks, line.running) == ({"fn": "1"}, 2, 0, 1)
    assert (line.seconds_since_sign, line.is_draining) == (1.5, False)
