"""A worker in this process and a server in this process, with nothing but HTTP between them."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from perdure import AsyncDurableContext, DurableContext, Duration, RetryDecision, StepConfig, durable_execution
from perdure.client.client import Client
from perdure.client.credentials import Credentials
from perdure.client.errors import ApiError
from perdure.exceptions import CallbackError, InvokeError
from perdure.identity import keys
from perdure.model.event import InvocationCompleted
from perdure.model.execution import ExecutionStatus
from perdure.sdk.connection import Endpoint, Reply
from perdure.server import roster, worker_pool
from perdure.server.node import Node, Settings
from perdure.store.memory import MemoryStore
from perdure.store.sqlite.store import SqliteStore
from perdure.wire.signature import Signer
from perdure.worker.code import Code
from perdure.worker.remote import RemoteWorker
from perdure.worker.requests import Refusal

WAIT_S = 30.0
Handlers = Mapping[str, Callable[..., Any]]


class Ground:
    """A node, and workers that are stopped at the end."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.workers: list[RemoteWorker] = []
        node.start()
        self.client = Client(node.url, timeout_s=WAIT_S)
        self.threads = ThreadPoolExecutor(16)

    def work(
        self, handlers: Handlers, code: str = "0" * 64, *, endpoint: Endpoint | None = None, **more: Any
    ) -> RemoteWorker:
        worker = RemoteWorker(endpoint or Endpoint(self.node.url), handlers, Code(code, 1, 1), **more)
        self.workers.append(worker)
        worker.start()
        return worker

    def invoke(self, function: str, event: Any = None, **more: Any) -> Any:
        """What a caller who waits is answered; its `functionError` is raised."""
        given: dict[str, Any] = {
            "FunctionName": f"{function}:$LATEST",
            "Payload": json.dumps(event).encode(),
            **more,
        }
        answer = self.client.call("Invoke", timeout_s=WAIT_S, **given)
        if answer.get("FunctionError"):
            raise RuntimeError(answer["Payload"].decode())
        return json.loads(answer["Payload"] or b"null")

    def begin(self, function: str, event: Any = None, name: str | None = None) -> str:
        """Start an execution; return its id."""
        given: dict[str, Any] = {"FunctionName": f"{function}:$LATEST", "Payload": json.dumps(event).encode()}
        answer = self.client.call("Invoke", InvocationType="Event", DurableExecutionName=name, **given)
        return str(answer["DurableExecutionArn"]).rpartition("/")[2]

    def result(self, execution_id: str) -> Any:
        assert self.node.service.wait(execution_id, WAIT_S)
        view = self.node.service.get(execution_id)
        assert view.status is ExecutionStatus.SUCCEEDED, view.error
        return json.loads(view.result or "null")

    def errors(self, execution_id: str) -> list[str | None]:
        """The types of the errors of an execution's invocations."""
        events = [shown.event for shown in self.node.service.all_events(execution_id)]
        completed = [event for event in events if isinstance(event, InvocationCompleted)]
        return [event.error.type if event.error is not None else None for event in completed]

    def close(self) -> None:
        for worker in self.workers:
            worker.stop(5)
        self.threads.shutdown()
        self.client.close()
        self.node.stop()


@pytest.fixture
def ground() -> Iterator[Ground]:
    ground = Ground(Node(MemoryStore()))
    yield ground
    ground.close()


# --- all that handlers do ----------------------------------------------------------------------------------------


def again_soon(_error: Exception, attempt: int) -> RetryDecision:
    return RetryDecision.retry(Duration.from_seconds(1)) if attempt < 2 else RetryDecision.no_retry()


@durable_execution(name="journey")
def journey(event: Any, context: DurableContext) -> Any:
    order = context.step(lambda _: {"order": event}, name="order")
    context.wait(Duration.from_seconds(1), name="cool-down")

    def flaky(step: Any) -> int:
        if step.attempt < 2:
            raise ConnectionError("the bank is closed")
        return int(step.attempt)

    attempts = context.step(flaky, name="charge", config=StepConfig(retry_strategy=again_soon))
    squares = context.map([1, 2, 3], lambda child, item, _at, _all: child.step(lambda _: item * item, name="square"))
    double = context.invoke("double:$LATEST", 21, name="double")
    plain = context.invoke("plain", {"n": 1}, name="plain")
    return [order, attempts, squares.results_or_raise(), double, plain]


@durable_execution(name="double")
async def double(event: Any, context: AsyncDurableContext) -> int:
    async def body(_step: Any) -> int:
        await asyncio.sleep(0)
        return int(event) * 2

    await context.wait(1)
    return int(await context.step(body, name="double"))


def plain(event: Any, _context: Any) -> Any:
    if event["n"] < 0:
        raise ValueError("n must not be negative")
    return {"n": event["n"] + 1}


ALL: Handlers = {"journey": journey, "double": double, "plain": plain}


def test_handlers_of_all_kinds_run_in_a_worker(ground: Ground) -> None:
    """Blocking, on the loop and plain, with waits, retries, branches, and invokes of each other."""
    ground.work(ALL)
    assert ground.invoke("journey", 7) == [{"order": 7}, 2, [1, 4, 9], 42, {"n": 2}]
    assert ground.invoke("plain", {"n": 1}) == {"n": 2}
    with pytest.raises(RuntimeError, match="n must not be negative"):
        ground.invoke("plain", {"n": -1})


class Counted(Endpoint):
    """Remembers what was asked for."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.paths: list[str] = []

    def request(self, method: str, path: str, *args: Any, **more: Any) -> Reply:
        self.paths.append(path)
        return super().request(method, path, *args, **more)


def test_what_is_only_waited_for_is_recorded_with_the_end_of_its_invocation(ground: Ground) -> None:
    """Of a step and a wait only the step takes a checkpoint, and what comes after the wait none of its own."""

    @durable_execution(name="fn")
    def handler(event: Any, context: DurableContext) -> Any:
        value = context.step(lambda _: 1, name="a")
        context.wait(1)
        return value

    endpoint = Counted(ground.node.url)
    ground.work({"fn": handler}, endpoint=endpoint)
    assert ground.invoke("fn") == 1
    kinds = [path.rpartition("/")[2] for path in endpoint.paths]
    assert kinds.count("checkpoint") == 1
    assert sum("/invocations/" in path for path in endpoint.paths) == 2


def test_a_callback_and_its_failure_reach_a_worker(ground: Ground) -> None:
    @durable_execution(name="ask")
    def ask(event: Any, context: DurableContext) -> str:
        opened = context.create_callback(name="approval")
        context.step(lambda _: asked.set(), name="ask")
        try:
            return str(opened.result())
        except CallbackError as error:
            return f"refused: {error.message}"

    asked = threading.Event()
    ground.work({"ask": ask})
    execution_id = ground.begin("ask")
    assert asked.wait(WAIT_S)
    (opened,) = ground.node.service.open_callbacks(execution_id)
    ground.client.call(
        "SendDurableExecutionCallbackFailure", CallbackId=opened.callback_id, Error={"ErrorMessage": "too dear"}
    )
    assert ground.result(execution_id) == "refused: too dear"


def test_failures_of_invoked_functions_reach_a_worker(ground: Ground) -> None:
    @durable_execution(name="fn")
    def handler(event: Any, context: DurableContext) -> str:
        try:
            context.invoke("plain", {"n": -1}, name="plain")
        except InvokeError as error:
            return f"{error.error_type}: {error.message}"
        return "no"

    ground.work({"fn": handler, "plain": plain})
    assert ground.invoke("fn") == "ValueError: n must not be negative"


def test_a_journal_that_does_not_fit_into_an_invocation_is_fetched(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "PAGE_BYTES", 1_000)

    @durable_execution(name="fn")
    def handler(event: Any, context: DurableContext) -> Any:
        before = [context.step(lambda _, at=at: bodies.append(at) or at, name=f"s{at}") for at in range(50)]
        context.wait(1)
        return sum(before) + context.step(lambda _: 1, name="last")

    bodies: list[int] = []
    ground.work({"fn": handler})
    assert ground.invoke("fn") == sum(range(50)) + 1
    assert bodies == list(range(50))


def test_a_handler_s_failures_end_what_they_must(ground: Ground) -> None:
    """An error ends the execution; one that leaves the process, or can't be stored, the invocation or the execution."""
    attempts: list[int] = []

    @durable_execution(name="leaves")
    def leaves(event: Any, context: DurableContext) -> int:
        attempts.append(1)
        if len(attempts) == 1:
            raise SystemExit(3)
        return 1

    @durable_execution(name="large")
    def large(event: Any, context: DurableContext) -> Any:
        return context.step(lambda _: "x" * 2_000_000, name="large")

    @durable_execution(name="fails")
    def fails(event: Any, context: DurableContext) -> None:
        raise LookupError("no such order")

    ground.work({"leaves": leaves, "large": large, "fails": fails})
    execution_id = ground.begin("leaves")
    assert ground.result(execution_id) == 1
    assert ground.errors(execution_id) == ["Runtime.ExitError", None]
    with pytest.raises(RuntimeError, match="no such order"):
        ground.invoke("fails")
    with pytest.raises(RuntimeError, match="payload size must be less than or equal to"):
        ground.invoke("large")


def test_the_context_tells_what_is_left_of_the_function_s_time_out(ground: Ground) -> None:
    @durable_execution(name="fn")
    def handler(event: Any, context: DurableContext) -> bool:
        left = context.lambda_context.get_remaining_time_in_millis()
        return bool(50_000 < left <= 60_000) and context.lambda_context.function_version == "1"

    ground.work({"fn": handler}, timeout_s=60)
    assert ground.invoke("fn") is True


def test_a_worker_s_function_is_shown_as_others_are(ground: Ground) -> None:
    ground.work(ALL)
    found = ground.client.call("GetFunction", FunctionName="journey")
    assert found["Configuration"]["DurableConfig"] == {"ExecutionTimeout": 31_622_400, "RetentionPeriodInDays": 14}
    assert found["Configuration"]["Timeout"] == 900
    versions = ground.client.call("ListVersionsByFunction", FunctionName="journey")["Versions"]
    assert [version["Version"] for version in versions] == ["$LATEST", "1"]
    with pytest.raises(ApiError, match="does not come from a package"):
        ground.client.call("UpdateFunctionCode", FunctionName="journey", ZipFile=b"PK")


class Flaky(Endpoint):
    """Fails to tell the first ends."""

    def __init__(self, url: str, failures: int) -> None:
        super().__init__(url)
        self.failures = failures

    def request(self, method: str, path: str, *args: Any, **more: Any) -> Reply:
        if "/invocations/" in path and self.failures:
            self.failures -= 1
            if self.failures % 2:
                raise ConnectionResetError
            return Reply(503, {}, b"")
        return super().request(method, path, *args, **more)


def test_an_end_is_told_until_it_is_heard(ground: Ground) -> None:
    endpoint = Flaky(ground.node.url, 4)
    ground.work({"double": double}, endpoint=endpoint)
    assert ground.invoke("double", 4) == 8
    assert endpoint.failures == 0


def test_more_executions_than_threads_take_turns(ground: Ground) -> None:
    @durable_execution(name="fn")
    def handler(event: Any, context: DurableContext) -> int:
        with lock:
            running.append(1)
            most.append(len(running))
        value = int(context.step(lambda _: event, name="a"))
        with lock:
            running.pop()
        return value

    lock, running, most = threading.Lock(), list[int](), list[int]()
    ground.work({"fn": handler}, threads=2)
    ids = [ground.begin("fn", at) for at in range(40)]
    assert [ground.result(execution_id) for execution_id in ids] == list(range(40))
    assert max(most) <= 2


# --- fencing -----------------------------------------------------------------------------------------------------


class Gated:
    """A handler whose first step waits, in its first run, until it is let go; who ran it is written down."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.inside = threading.Event()
        self.go = threading.Event()

    def handlers(self, who: str) -> Handlers:
        def body(_step: Any) -> str:
            self.runs.append(who)
            if len(self.runs) == 1:
                self.inside.set()
                assert self.go.wait(WAIT_S)
            return who

        @durable_execution(name="fn")
        def handler(event: Any, context: DurableContext) -> list[str]:
            return [context.step(body, name="first"), context.step(body, name="second")]

        return {"fn": handler}


def test_an_invocation_over_its_time_out_is_run_again_and_its_late_answer_is_refused(ground: Ground) -> None:
    gated = Gated()
    ground.work(gated.handlers("slow"), timeout_s=1, threads=2)
    execution_id = ground.begin("fn")
    assert gated.inside.wait(WAIT_S)
    assert ground.result(execution_id) == ["slow", "slow"]
    gated.go.set()
    assert ground.errors(execution_id) == ["Sandbox.Timedout", None]
    assert len(gated.runs) == 3


def test_a_worker_that_is_stopped_hands_back_what_it_runs_at_its_next_checkpoint(ground: Ground) -> None:
    """What it has recorded stays, another goes on behind it; and it counts as no failure."""
    gated = Gated()
    stopping = ground.work(gated.handlers("one"))
    execution_id = ground.begin("fn")
    assert gated.inside.wait(WAIT_S)
    ground.work(gated.handlers("two"))
    stopped = ground.threads.submit(stopping.stop, WAIT_S)
    while not stopping._worker._is_closing:
        pass
    gated.go.set()
    assert stopped.result(WAIT_S) is True
    assert ground.result(execution_id) == ["one", "two"]
    assert ground.errors(execution_id) == [None, None]
    assert [line.name for line in ground.node.backing.workers.listed()] == [ground.workers[1].name]  # type: ignore[attr-defined]


def test_a_handler_that_comes_to_no_checkpoint_in_time_is_taken_over(ground: Ground) -> None:
    gated = Gated()
    stopping = ground.work(gated.handlers("one"))
    execution_id = ground.begin("fn")
    assert gated.inside.wait(WAIT_S)
    ground.work(gated.handlers("two"))
    assert stopping.stop(0) is False
    assert ground.result(execution_id) == ["two", "two"]
    gated.go.set()
    assert ground.errors(execution_id) == ["Runtime.ExitError", None]


def test_a_worker_that_is_believed_to_be_gone_joins_again_and_drops_what_it_ran(ground: Ground) -> None:
    gated = Gated()
    worker = ground.work(gated.handlers("one"), threads=2)
    execution_id = ground.begin("fn")
    assert gated.inside.wait(WAIT_S)
    ground.node.backing.workers.leave(worker.id)
    assert ground.result(execution_id) == ["one", "one"]
    gated.go.set()
    assert ground.errors(execution_id)[0] == "Runtime.ExitError"
    assert ground.invoke("fn") == ["one", "one"]


def test_executions_stay_with_their_code_while_old_and_new_workers_are_there(ground: Ground) -> None:
    old, new = "a" * 64, "b" * 64
    gated = Gated()
    ground.work(gated.handlers("old"), old)
    before = ground.begin("fn")
    assert gated.inside.wait(WAIT_S)
    ground.work(gated.handlers("new"), new)
    after = ground.begin("fn")
    assert ground.result(after) == ["new", "new"]
    gated.go.set()
    assert ground.result(before) == ["old", "old"]
    versions = [ground.node.service.get(execution_id).version for execution_id in (before, after)]
    assert versions == ["1", "2"]


# --- a server that goes and comes --------------------------------------------------------------------------------


def test_a_worker_finds_its_server_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it ran meanwhile is dropped, and gone on with from its last checkpoint."""
    monkeypatch.setattr(roster, "GONE_S", 0.2)
    path = tmp_path / "server.db"
    ground = Ground(Node(SqliteStore(path)))
    port = int(ground.node.url.rpartition(":")[2])
    gated = Gated()
    ground.work(gated.handlers("one"), threads=2)
    execution_id = ground.begin("fn")
    assert gated.inside.wait(WAIT_S)
    ground.client.close()
    ground.node.stop()
    ground.node = Node(SqliteStore(path), Settings(port=port))
    ground.node.start()
    try:
        assert ground.result(execution_id) == ["one", "one"]
        assert ground.errors(execution_id) == [None, None]
    finally:
        gated.go.set()
        ground.close()


def test_a_worker_waits_for_a_server_that_is_not_there_yet() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    worker = RemoteWorker(Endpoint(f"http://127.0.0.1:{port}"), ALL, Code("0" * 64, 1, 1))
    with ThreadPoolExecutor(1) as threads:
        starting = threads.submit(worker.start)
        ground = Ground(Node(MemoryStore(), Settings(port=port)))
        starting.result(WAIT_S)
        ground.workers.append(worker)
        assert ground.invoke("plain", {"n": 1}) == {"n": 2}
        ground.close()


def test_a_worker_that_is_given_up_while_it_waits_comes_to_its_end() -> None:
    worker = RemoteWorker(Endpoint("http://127.0.0.1:1"), ALL, Code("0" * 64, 1, 1))
    asked: list[int] = []
    worker.start(lambda: bool(asked) or asked.append(1) is not None)
    assert worker.stop(1) is True


# --- access ------------------------------------------------------------------------------------------------------


def test_a_worker_needs_a_key_that_may_be_one() -> None:
    store = MemoryStore()
    made = {policy: keys.create_key(store, policy, (policy,), now_ms=0) for policy in ("worker", "read-only", "admin")}
    ground = Ground(Node(store))
    ground.client.close()
    key, secret = made["admin"]
    ground.client = Client(ground.node.url, Credentials(key.key_id, secret), timeout_s=WAIT_S)

    def signed(policy: str) -> Endpoint:
        key, secret = made[policy]
        return Endpoint(ground.node.url, Signer(key.key_id, secret, region="us-east-1"))

    for endpoint, status in ((Endpoint(ground.node.url), 403), (signed("read-only"), 403)):
        with pytest.raises(Refusal) as refused:
            RemoteWorker(endpoint, ALL, Code("0" * 64, 1, 1)).start()
        assert refused.value.status == status
        endpoint.close()
    worker = RemoteWorker(signed("worker"), ALL, Code("0" * 64, 1, 1))
    worker.start()
    ground.workers.append(worker)
    assert ground.invoke("journey", 7)[0] == {"order": 7}
    ground.close()
