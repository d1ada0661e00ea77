"""`perdure.open`: durable functions inside an application, on a real file, with real threads and real time."""

import asyncio
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure import (
    AsyncDurableContext,
    DurableContext,
    ExecutionFailed,
    ExecutionStopped,
    ExecutionTimedOut,
    ValidationError,
    durable_execution,
)
from perdure.model.error import ExecutionAlreadyStarted, ResourceConflict, ResourceNotFound, StoreHeld
from perdure.model.execution import ExecutionStatus
from perdure.service.views import waiting_on

WAIT_S = 20.0


@durable_execution(name="double")
def double(event: Any, context: DurableContext) -> Any:
    return context.step(lambda _: event * 2, name="twice")


@durable_execution(name="asks")
def asks(event: Any, context: DurableContext) -> Any:
    return context.create_callback("answer").result()


@durable_execution(name="naps")
def naps(event: Any, context: DurableContext) -> Any:
    context.wait(1, name="nap")
    return "rested"


@durable_execution(name="fails")
def fails(event: Any, context: DurableContext) -> Any:
    raise ValueError("no milk")


@durable_execution(name="calls")
def calls(event: Any, context: DurableContext) -> Any:
    return [context.invoke("double", event, name="durable"), context.invoke("shout", "hey", name="plain")]


def shout(event: Any, context: Any) -> str:
    return str(event).upper()


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "double": double,
    "asks": asks,
    "naps": naps,
    "fails": fails,
    "calls": calls,
    "shout": shout,
}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'app.db'}"


def wait_until_waiting(execution: perdure.Execution) -> None:
    waits = threading.Event()
    execution.watch(lambda state, _events: waits.set() if waiting_on(state) or state.head.has_ended else None)
    if not execution.describe().waiting_on:
        assert waits.wait(WAIT_S)


# --- results ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_function_is_run_and_its_result_comes_back(url: str, kind: str) -> None:
    with perdure.open(url if kind == "file" else "memory://", [double]) as app:
        execution = app.start(double, 21)
        assert execution.result(WAIT_S) == 42
        assert execution.status is ExecutionStatus.SUCCEEDED
        assert app.run("double", [1], timeout=WAIT_S) == [1, 1]
        assert [event.type for event in execution.history()][-1] == "ExecutionSucceeded"
        assert next(execution.history(reverse=True)).type == "ExecutionSucceeded"
        assert [operation.name for operation in execution.operations()] == ["twice"]


def test_an_execution_without_a_result_says_why(url: str) -> None:
    with perdure.open(url, FUNCTIONS) as app:
        with pytest.raises(ExecutionFailed, match="no milk") as failed:
            app.run(fails, timeout=WAIT_S)
        assert failed.value.error_type == "ValueError"
        assert failed.value.status == "FAILED"
        stopped = app.start(asks)
        stopped.stop("enough", "Closed")
        with pytest.raises(ExecutionStopped, match="enough"):
            stopped.result(WAIT_S)
        with pytest.raises(ExecutionTimedOut):
            app.start(asks, execution_timeout=1).result(WAIT_S)
        waiting = app.start(asks, name="waiting-1")
        wait_until_waiting(waiting)
        with pytest.raises(TimeoutError, match=r"'waiting-1' has not ended within 0.01 s: it is RUNNING, waiting for"):
            waiting.result(0.01)


def test_a_name_starts_one_execution(url: str) -> None:
    with perdure.open(url, [double]) as app:
        first = app.start(double, 1, name="order-1")
        again = app.start(double, 1, name="order-1")
        assert (first.is_new, again.is_new) == (True, False)
        assert again.id == first.id
        assert again.result(WAIT_S) == 2
        with pytest.raises(ExecutionAlreadyStarted, match="'order-1' is taken"):
            app.start(double, 2, name="order-1")
        assert len(list(app.list())) == 1


def test_invoked_functions_may_be_durable_or_not(url: str) -> None:
    with perdure.open(url, FUNCTIONS) as app:
        assert app.run(calls, 4, timeout=WAIT_S) == [8, "HEY"]


def test_many_are_started_with_one_call(url: str) -> None:
    with perdure.open(url, [double]) as app:
        started = app.start_many(double, range(200), names=[f"n-{n}" for n in range(200)])
        assert [execution.result(WAIT_S) for execution in started] == [n * 2 for n in range(200)]
        with pytest.raises(ValidationError, match="2 events and 1 names"):
            app.start_many(double, [1, 2], names=["a"])


def test_executions_are_listed_newest_first_and_by_condition(url: str) -> None:
    with perdure.open(url, FUNCTIONS) as app:
        for execution in app.start_many(double, range(250)):
            execution.wait(WAIT_S)
        app.start(fails).wait(WAIT_S)
        assert len(list(app.list())) == 251
        assert [row.function for row in app.list(limit=2)] == ["fails", "double"]
        assert [row.function for row in app.list(status="FAILED")] == ["fails"]
        assert len(list(app.list(double, limit=120, oldest_first=True))) == 120
        with pytest.raises(ValidationError, match="status must be one of"):
            list(app.list(status="GONE"))


# --- callbacks and operators ------------------------------------------------------------------------------------


def test_callbacks_are_found_and_answered(url: str) -> None:
    with perdure.open(url, FUNCTIONS) as app:
        executions = [app.start(asks, name=f"ask-{n}") for n in range(3)]
        for execution in executions:
            wait_until_waiting(execution)
        opened = app.callbacks()
        assert [handle.opened.execution_name for handle in opened if handle.opened] == ["ask-0", "ask-1", "ask-2"]
        opened[0].heartbeat()
        opened[0].succeed("a text stays as it is")
        app.callback(opened[1].id).succeed({"as": "JSON"})
        opened[2].fail("gone", "Gone")
        assert executions[0].result(WAIT_S) == "a text stays as it is"
        assert executions[1].result(WAIT_S) == '{"as": "JSON"}'
        with pytest.raises(ExecutionFailed, match="gone"):
            executions[2].result(WAIT_S)
        assert app.callbacks() == []


def test_an_execution_is_held_freed_and_removed(url: str) -> None:
    with perdure.open(url, FUNCTIONS) as app:
        execution = app.start(asks)
        wait_until_waiting(execution)
        execution.pause("a look")
        execution.callbacks()[0].succeed("yes")
        assert not execution.wait(0.05), "the answer is recorded, nothing is run"
        with pytest.raises(ResourceConflict):
            execution.delete()
        execution.resume()
        assert execution.result(WAIT_S) == "yes"
        assert app.execution(execution.arn).id == execution.id
        execution.delete()
        with pytest.raises(ResourceNotFound):
            app.execution(execution.id)


# --- closing and opening ------------------------------------------------------------------------------------------


def test_what_waits_when_the_store_is_closed_goes_on_when_it_is_opened(url: str) -> None:
    with perdure.open(url, FUNCTIONS) as app:
        napping, asking = app.start(naps), app.start(asks)
        wait_until_waiting(napping)
        wait_until_waiting(asking)
    with perdure.open(url, FUNCTIONS) as app:
        app.execution(asking.id).callbacks()[0].succeed("yes")
        assert app.execution(asking.id).result(WAIT_S) == "yes"
        assert app.execution(napping.id).result(WAIT_S) == "rested"


def test_what_runs_when_the_store_is_closed_is_handed_back_at_its_next_checkpoint(url: str) -> None:
    ran: Counter[str] = Counter()
    is_in_step, may_go_on = threading.Event(), threading.Event()

    @durable_execution(name="works")
    def works(event: Any, context: DurableContext) -> Any:
        def first(_: Any) -> str:
            ran["first"] += 1
            is_in_step.set()
            assert may_go_on.wait(WAIT_S)
            return "first"

        one = context.step(first, name="first")
        two = context.step(lambda _: ran.update(["second"]) or "second", name="second")
        return [one, two]

    app = perdure.open(url, [works])
    execution = app.start(works)
    assert is_in_step.wait(WAIT_S)
    closing = threading.Thread(target=app.close)
    closing.start()
    while not app.service._loop.is_closing:  # noqa: SLF001, RUF100 - nothing outside tells when closing has begun
        threading.Event().wait(0.001)
    may_go_on.set()
    closing.join(WAIT_S)
    assert ran == {"first": 1}
    with perdure.open(url, [works]) as app:
        again = app.execution(execution.id)
        assert again.result(WAIT_S) == ["first", "second"]
        assert ran == {"first": 1, "second": 1}
        assert "RELEASED" not in str(again.describe().last_failure)


def test_two_engines_do_not_run_one_file(url: str) -> None:
    with perdure.open(url, FUNCTIONS), pytest.raises(StoreHeld, match="in use by process"):
        perdure.open(url, FUNCTIONS)
    perdure.open(url, FUNCTIONS).close()


def test_close_may_be_called_twice_and_leaves_no_thread(url: str) -> None:
    before = {thread.ident for thread in threading.enumerate()}
    app = perdure.open(url, FUNCTIONS)
    app.run(double, 1, timeout=WAIT_S)
    app.close()
    app.close()
    left = [thread for thread in threading.enumerate() if thread.ident not in before]
    for thread in left:
        thread.join(WAIT_S)
    assert not [thread.name for thread in left if thread.is_alive()]


SCRIPT = """
import sys, perdure
from perdure import durable_execution

@durable_execution(name="asks")
def asks(event, context):
    return context.create_callback("answer").result()

app = perdure.open(sys.argv[1], [asks])
print(app.start(asks, name="once").id)
"""


def test_a_script_that_forgets_to_close_ends_and_gives_the_store_back(url: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), url]
    ids = {subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout for _ in range(2)}
    assert len(ids) == 1
    with perdure.open(url, FUNCTIONS) as app:
        execution = app.execution(ids.pop().strip())
        wait_until_waiting(execution)
        assert len(execution.callbacks()) == 1


# --- many threads -------------------------------------------------------------------------------------------------


def test_many_threads_start_and_wait_at_once(url: str) -> None:
    with perdure.open(url, [double], threads=8) as app, ThreadPoolExecutor(32) as pool:
        results = list(pool.map(lambda n: app.run(double, n, timeout=WAIT_S), range(300)))
    assert results == [n * 2 for n in range(300)]


def test_more_executions_sleep_than_there_are_threads(url: str) -> None:
    with perdure.open(url, [naps], threads=2) as app:
        executions = app.start_many(naps, [None] * 300)
        assert {execution.result(WAIT_S) for execution in executions} == {"rested"}


def test_a_web_application_runs_functions_from_its_request_threads(url: str) -> None:
    with perdure.open(url, FUNCTIONS) as app:

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                number = int(self.path.removeprefix("/"))
                body = str(app.run(double, number, name=f"request-{number}", timeout=WAIT_S)).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:

            def get(number: int) -> int:
                url = f"http://127.0.0.1:{server.server_port}/{number}"
                with urllib.request.urlopen(url, timeout=WAIT_S) as answer:
                    return int(answer.read())

            with ThreadPoolExecutor(16) as pool:
                assert list(pool.map(get, [*range(50), *range(50)])) == [n * 2 for n in [*range(50), *range(50)]]
        finally:
            server.shutdown()
            server.server_close()
            serving.join()
        assert len(list(app.list(double))) == 50


# --- what can not be ----------------------------------------------------------------------------------------------


def test_what_can_not_be_is_refused_with_the_way_out(url: str) -> None:
    with pytest.raises(ValidationError, match="threads must be at least 1, not 0"):
        perdure.open(url, threads=0)
    with pytest.raises(ValidationError, match="limits must be 'aws'"):
        perdure.open(url, limits="azure")
    with pytest.raises(ValidationError, match=r"functions=\[handler\]"):
        perdure.open(url, double)  # type: ignore[arg-type]
    other = durable_execution(name="double")(lambda event, context: event)
    with pytest.raises(ValidationError, match="two handlers are called 'double'"):
        perdure.open(url, [double, other])
    with pytest.raises(ValidationError, match="is no function"):
        perdure.open(url, ["double"])  # type: ignore[list-item]
    with perdure.open(url, {"double": double, "shout": shout}) as app:
        with pytest.raises(ValidationError, match="'asks' is not among the functions of this store"):
            app.start(asks)
        with pytest.raises(ResourceNotFound, match="Function not found: nobody"):
            app.start("nobody")
        with pytest.raises(Exception, match="not durable"):
            app.start(shout)
        with pytest.raises(ValidationError, match="the event can't be written as JSON"):
            app.start(double, object())
        with pytest.raises(Exception, match="6291456"):
            app.start(double, "x" * 7_000_000)
        assert list(app.list()) == []


def test_a_handler_on_the_loop_is_handed_back_when_the_store_is_closed_and_goes_on_later(url: str) -> None:
    """It awaits something of its own, which never comes: closing does not wait for it, and it has not failed."""
    runs: list[str] = []
    came = threading.Event()

    @durable_execution(name="patient")
    async def patient(event: Any, context: AsyncDurableContext) -> Any:
        value = await context.step(lambda _: "kept", name="step")
        runs.append(value)
        came.set()
        if len(runs) == 1:
            await asyncio.sleep(3600)
        return value

    with perdure.open(url, [patient]) as app:
        execution = app.start(patient)
        assert came.wait(WAIT_S)
        app.close(timeout=0.05)
    with perdure.open(url, [patient]) as app:
        again = app.execution(execution.id)
        assert again.result(WAIT_S) == "kept"
        assert "CancelledError" not in str([event.type for event in again.history()])
    assert runs == ["kept", "kept"]
