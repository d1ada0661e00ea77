"""Workers as real processes: killed, stopped, beside newer ones, and with a server that is killed under them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from perdure.sdk.connection import Endpoint
from support.gate import VISIT, Gate

LIMIT_S = 100.0

ORDERS = (
    VISIT
    + """
from perdure import durable_execution

CODE = "new"


def note(event, text):
    log = os.open(event["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(log, (text + "\\n").encode())
    os.fsync(log)
    os.close(log)
    return text


@durable_execution(name="gated")
def gated(event, context):
    def body(name):
        visit(event["gate"], name)
        return f"{name} by {CODE}"

    return [context.step(lambda _, name=name: body(name), name=name) for name in ("first", "second")]


@durable_execution(name="order")
def order(event, context):
    seen = []
    for name in ("reserve", "charge"):
        seen.append(context.step(lambda _, name=name: note(event, f"{name}-{event['number']}"), name=name))
    context.wait(1, name="cool-down")
    double = context.invoke("double:$LATEST", event["number"], name="double")
    seen.append(context.step(lambda _: note(event, f"ship-{event['number']}"), name="ship"))
    return [*seen, double]


@durable_execution(name="double")
async def double(event, context):
    async def body(_step):
        return event * 2

    return await context.step(body, name="double")
"""
)


class Process:
    """A command of `perdure`, with its log in a file."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "perdure", *arguments],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self.pid = self.process.pid

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def stop(self) -> int:
        """Tell it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(LIMIT_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


class World:
    """A server and its workers, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Process] = []
        self.port = "0"
        self.server = self.serve()
        self.endpoint = Endpoint(self.url, read_s=LIMIT_S)
        self.threads = ThreadPoolExecutor(32)
        self.is_closed = False

    def serve(self) -> Process:
        store = ("--store", "sqlite:///server.db", "--data", "data", "--log-level", "WARNING")
        server = self._begin("server", "serve", "--port", self.port, *store)
        assert server.process.stdout is not None
        self.url = server.process.stdout.readline().strip()
        assert self.url, server.log.read_text()
        self.port = self.url.rpartition(":")[2]
        return server

    def work(self, name: str, code: str = "new", *more: str) -> Process:
        """A worker with some code; returns once it has joined."""
        folder = self.folder / code
        folder.mkdir(exist_ok=True)
        (folder / "orders.py").write_text(ORDERS.replace('CODE = "new"', f'CODE = "{code}"'))
        worker = self._begin(name, "worker", f"{code}/orders.py", "--endpoint", self.url, "--name", name, *more)
        self.until_joined(name)
        return worker

    def until_joined(self, name: str) -> None:
        """The server knows this worker."""
        reached = False
        while not reached:
            reached = any(worker["Name"] == name for worker in self.workers())
            time.sleep(0.01)
            assert all(process.process.poll() is None for process in self.processes[-1:])

    def workers(self) -> Any:
        """The workers that the server knows."""
        return self.get("/perdure/v1/workers")["Workers"]

    def get(self, path: str, query: str = "") -> Any:
        reply = self.endpoint.request("GET", path, query=query)
        assert reply.status == 200, reply.body
        return json.loads(reply.body)

    def _begin(self, name: str, *arguments: str) -> Process:
        self.processes.append(Process(self.folder, name, *arguments))
        return self.processes[-1]

    def run(self, function: str, event: Any, name: str, qualifier: str = "$LATEST") -> "Future[Any]":
        """Begin an execution, once, and wait for its result in a thread; whatever becomes of the server meanwhile."""
        path = f"/2015-03-31/functions/{function}/invocations"
        return self.threads.submit(self._run, f"{path}?Qualifier={quote(qualifier)}", json.dumps(event).encode(), name)

    def _run(self, path: str, payload: bytes, name: str) -> Any:
        while not self.is_closed:
            try:
                reply = self.endpoint.request("POST", path, payload, headers={"X-Amz-Durable-Execution-Name": name})
            except OSError:
                continue
            assert reply.status == 200, reply.body
            assert "x-amz-function-error" not in reply.headers, reply.body
            return json.loads(reply.body)
        return None

    def execution(self, name: str, more: str = "") -> Any:
        (row,) = self.get("/perdure/v1/durable-executions", f"DurableExecutionName={name}")["DurableExecutions"]
        return self.get(f"/2025-12-01/durable-executions/{quote(row['DurableExecutionArn'], safe='')}{more}")

    def errors(self, name: str) -> list[str | None]:
        """The types of the errors of an execution's invocations."""
        events = self.execution(name, "/history")["Events"]
        ended = [event["InvocationCompletedDetails"] for event in events if event["EventType"] == "InvocationCompleted"]
        return [((one.get("Error") or {}).get("Payload") or {}).get("ErrorType") for one in ended]

    def close(self) -> None:
        self.is_closed = True
        for process in self.processes:
            process.kill()
        self.threads.shutdown(cancel_futures=True)
        self.endpoint.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_a_killed_worker_s_invocation_is_taken_over_by_another(world: World) -> None:
    """What it had recorded stays; the step it was in runs again, elsewhere."""
    workers = {worker.pid: worker for worker in (world.work("one"), world.work("two"))}
    with Gate() as gate:
        result = world.run("gated", {"gate": gate.port}, "killed")
        gate.next().let_go()
        second = gate.next()
        workers.pop(second.pid).kill()
        again = gate.next()
        assert (again.text, again.pid) == ("second", next(iter(workers)))
        again.let_go()
        assert result.result(LIMIT_S) == ["first by new", "second by new"]
    assert world.errors("killed") == ["Runtime.ExitError", None]


def test_executions_stay_with_their_code_when_a_newer_version_comes(world: World) -> None:
    """And wait, saying for what, while no worker has it."""
    old = world.work("old", "old")
    with Gate() as gate:
        before = world.run("gated", {"gate": gate.port}, "before")
        visitor = gate.next()
        new = world.work("new")
        after = world.run("gated", {"gate": gate.port}, "after")
        for name in ("first", "second"):
            newer = gate.next()
            assert (newer.text, newer.pid) == (name, new.pid)
            newer.let_go()
        assert after.result(LIMIT_S) == ["first by new", "second by new"]

        old.kill()
        visitor.let_go()
        waiting = world.execution("before")
        while waiting["Perdure"].get("WaitingReason") is None:  # the server has yet to notice
            waiting = world.execution("before")
        assert waiting["Perdure"]["WaitingReason"] == "no worker has the code of gated:1"

        back = world.work("back", "old")
        for _ in range(2):
            older = gate.next()
            assert older.pid == back.pid
            older.let_go()
        assert before.result(LIMIT_S) == ["first by old", "second by old"]


def test_a_stopped_worker_finishes_the_step_it_is_in_and_leaves_the_rest_to_others(world: World) -> None:
    stopping = world.work("stopping")
    with Gate() as gate:
        result = world.run("gated", {"gate": gate.port}, "drained")
        first = gate.next()
        other = world.work("other")
        stopping.process.send_signal(signal.SIGTERM)
        draining = False
        while not draining:
            draining = any(worker.get("IsDraining") for worker in world.workers())
        first.let_go()
        second = gate.next()
        assert (second.text, second.pid) == ("second", other.pid)
        second.let_go()
        assert result.result(LIMIT_S) == ["first by new", "second by new"]
    assert stopping.wait() == 0
    assert world.errors("drained") == [None, None]


def test_a_server_that_is_killed_under_its_workers_goes_on_with_them(world: World, tmp_path: Path) -> None:
    """Steps whose results were recorded don't run again; those that were running may, at most once for each kill."""
    workers = [world.work("one"), world.work("two")]
    kills, orders = 3, 40
    log = tmp_path / "effects"
    log.touch()
    results = [world.run("order", {"log": str(log), "number": n}, f"order-{n}") for n in range(orders)]
    for kill in range(1, kills + 1):
        while len(log.read_text().splitlines()) < kill * orders // 2:
            time.sleep(0.01)
        world.server.kill()
        world.server = world.serve()
    for number, result in enumerate(results):
        expected = [f"{name}-{number}" for name in ("reserve", "charge", "ship")]
        assert result.result(LIMIT_S) == [*expected, number * 2]
    effects = log.read_text().splitlines()
    most = max(effects.count(effect) for effect in set(effects))
    assert (len(set(effects)), most <= kills + 1) == (3 * orders, True)
    assert [worker.stop() for worker in workers] == [0, 0]
    assert "Traceback" not in "".join(worker.log.read_text() for worker in workers)
