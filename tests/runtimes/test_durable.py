"""Durable functions in managed processes: the official SDK's handlers, from zip files, against the real service."""

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.engine.terms import RetryPolicy, Terms
from perdure.model.error import ErrorObject
from perdure.model.event import InvocationCompleted
from perdure.model.execution import ExecutionStatus
from perdure.runtimes.event import PAGE_BYTES
from support.functions import WAIT_S
from support.managed_service import ManagedService, managed_service

HEAD = """
import os, sys, time
from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python.config import Duration
MARK = os.environ.get("MARK", "")

def first_time():
    try:
        os.close(os.open(MARK, os.O_CREAT | os.O_EXCL))
        return True
    except FileExistsError:
        return False
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[ManagedService]:
    with managed_service(tmp_path) as made:
        yield made


def put(here: ManagedService, body: str, tmp_path: Path, **more: object) -> None:
    here.put("order", {"app.py": HEAD + body}, environment={"MARK": str(tmp_path / "mark")}, **more)


def ends(here: ManagedService, execution_id: str) -> list[ErrorObject | None]:
    """The errors with which invocations have ended."""
    events = [one.event for one in here.history(execution_id)]
    return [event.error for event in events if isinstance(event, InvocationCompleted)]


def errors(here: ManagedService, execution_id: str) -> list[str | None]:
    """The types of these errors."""
    return [error.type if error else None for error in ends(here, execution_id)]


def test_a_handler_of_the_official_sdk_runs_unchanged(here: ManagedService, tmp_path: Path) -> None:
    """Steps, and a wait that ends the invocation; the input is what the execution was started with."""
    put(
        here,
        """
@durable_execution
def handler(event, context: DurableContext):
    first = context.step(lambda _: event["n"] + 1, name="add")
    context.wait(Duration.from_seconds(1), name="rest")
    return {"first": first, "second": context.step(lambda _: os.getpid() > 0, name="again")}
""",
        tmp_path,
    )
    view = here.run("order", '{"n":16}')
    assert view.status is ExecutionStatus.SUCCEEDED
    assert json.loads(view.result or "") == {"first": 17, "second": True}
    assert errors(here, view.execution_id) == [None, None]
    lines = here.managed.lines("order")
    assert len([line for line in lines if line.startswith("REPORT RequestId: ")]) == 2


def test_a_process_that_dies_in_a_step_is_an_invocation_that_is_tried_again(
    here: ManagedService, tmp_path: Path
) -> None:
    put(
        here,
        """
@durable_execution
def handler(event, context):
    def risky(_):
        if first_time():
            os._exit(9)
        return "survived"
    return context.step(risky, name="risky")
""",
        tmp_path,
    )
    view = here.run("order")
    assert json.loads(view.result or "") == "survived"
    assert errors(here, view.execution_id) == ["Runtime.ExitError", None]
    (step,) = [one for one in here.service.operations(view.execution_id) if one.name == "risky"]
    assert step.status == "SUCCEEDED"


def test_a_handler_that_raises_is_tried_again_with_a_new_token(here: ManagedService, tmp_path: Path) -> None:
    here.put(
        "order",
        {
            "app.py": HEAD
            + """
import json
def handler(event, context):
    print("token", event["CheckpointToken"], flush=True)
    if first_time():
        raise RuntimeError("not yet")
    execution = event["InitialExecutionState"]["Operations"][0]
    return {"Status": "SUCCEEDED", "Result": json.dumps(execution["Id"])}
"""
        },
        environment={"MARK": str(tmp_path / "mark")},
    )
    view = here.run("order")
    assert json.loads(view.result or "") == view.execution_id
    assert errors(here, view.execution_id) == ["RuntimeError", None]
    spoken = {line for line in here.managed.lines("order") if line.startswith("token ")}
    assert len(spoken) == 2
    first, _ = ends(here, view.execution_id)
    assert first is not None
    assert first.stack_trace is not None
    assert "raise RuntimeError" in first.stack_trace[-1]


def test_a_time_out_in_a_step_leaves_it_started_and_is_tried_again(here: ManagedService, tmp_path: Path) -> None:
    put(
        here,
        """
@durable_execution
def handler(event, context):
    def slow(_):
        if first_time():
            time.sleep(600)
        return "in time"
    return context.step(slow, name="slow")
""",
        tmp_path,
        timeout_s=1,
    )
    view = here.run("order")
    assert json.loads(view.result or "") == "in time"
    assert errors(here, view.execution_id) == ["Sandbox.Timedout", None]
    first, _ = ends(here, view.execution_id)
    assert first is not None
    assert (first.message or "").endswith(" Task timed out after 1.00 seconds")


def test_a_function_that_can_not_be_loaded_is_tried_again(tmp_path: Path) -> None:
    terms = Terms(retries=RetryPolicy(first_delay_ms=10, delay_max_ms=10, give_up_after=3))
    with managed_service(tmp_path, terms=terms) as here:
        here.put("order", {"app.py": "import nothing_of_this_name"})
        view = here.run("order")
        assert view.status is ExecutionStatus.FAILED
        assert view.error is not None
        assert view.error.type == "Runtime.ImportModuleError"
        assert errors(here, view.execution_id) == ["Runtime.ImportModuleError"] * 3


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        ('{"Status": "FAILED", "Error": {"ErrorType": "Bad", "ErrorMessage": "m"}}', "FAILED", "Bad"),
        ('{"Status": "DONE"}', "FAILED", "InvalidParameterValueException"),
        ('"a text"', "FAILED", "InvalidParameterValueException"),
        ('{"Status": "SUCCEEDED", "Result": "5"}', "SUCCEEDED", None),
    ],
)
def test_the_answer_of_a_handler_ends_the_execution(
    answer: str, status: str, error: str | None, here: ManagedService
) -> None:
    here.put("order", {"app.py": f"import json\ndef handler(event, context): return json.loads({answer!r})"})
    view = here.run("order")
    assert view.status == status
    assert (view.error.type if view.error else None) == error


def test_a_function_that_is_gone_fails_its_execution(here: ManagedService) -> None:
    """It is there when a place is asked for, and not any more when it is to be run."""
    here.put("order", {"app.py": "def handler(event, context): pass"})
    here.managed.registry.answers_left = 1
    view = here.run("order")
    assert view.status is ExecutionStatus.FAILED
    assert view.error is not None
    assert view.error.type == "ResourceNotFoundException"


def test_a_function_that_has_no_input_gets_null(here: ManagedService, tmp_path: Path) -> None:
    put(here, "@durable_execution\ndef handler(event, context): return {'got': event}", tmp_path)
    assert json.loads(here.run("order", None).result or "") == {"got": None}


def test_a_state_that_is_larger_than_an_event_is_fetched_page_by_page(tmp_path: Path) -> None:
    with managed_service(tmp_path, page=3) as here:
        put(
            here,
            """
@durable_execution
def handler(event, context):
    texts = [context.step(lambda _, n=n: str(n) * 700_000, name=f"s{n}") for n in range(10)]
    context.wait(Duration.from_seconds(1), name="rest")
    return [text[0] for text in texts]
""",
            tmp_path,
        )
        view = here.run("order")
        assert json.loads(view.result or "") == list("0123456789")
        assert 7 * 701_000 < PAGE_BYTES < 8 * 700_000
        assert [body for kind, body in here.wire.calls if kind == "state"] == [{"Marker": "8"}, {"Marker": "11"}]


def test_a_plain_function_is_called_by_a_chained_invoke(here: ManagedService, tmp_path: Path) -> None:
    here.managed.put("double", {"app.py": "def handler(event, context): return event['n'] * 2"})
    put(
        here,
        """
@durable_execution
def handler(event, context):
    return context.invoke("double", {"n": event}, name="call")
""",
        tmp_path,
    )
    assert json.loads(here.run("order", "21").result or "") == 42


def test_many_executions_share_the_processes(here: ManagedService, tmp_path: Path) -> None:
    put(
        here,
        """
@durable_execution
def handler(event, context):
    return context.step(lambda _: os.getpid(), name="who")
""",
        tmp_path,
    )
    started = [here.start("order", str(n)) for n in range(40)]
    assert all(here.service.wait(one, WAIT_S) for one in started)
    pids = {here.service.get(one).result for one in started}
    assert 1 <= len(pids) <= here.managed.pool._settings.places


def test_the_lambda_runtime_client_for_python_runs_a_durable_handler(here: ManagedService, tmp_path: Path) -> None:
    """awslambdaric, unmodified, through a bootstrap."""
    app = (
        HEAD
        + """
@durable_execution
def handler(event, context):
    value = context.step(lambda _: event["n"], name="one")
    context.wait(Duration.from_seconds(1), name="rest")
    return value
"""
    )
    bootstrap = f"#!/bin/sh\nexec {sys.executable} -m awslambdaric $_HANDLER\n"
    here.put(
        "order",
        {"app.py": app, "bootstrap": bootstrap},
        runtime="provided.al2023",
        executable=("bootstrap",),
    )
    view = here.run("order", '{"n":5}')
    assert json.loads(view.result or "") == 5
    assert errors(here, view.execution_id) == [None, None]


def test_a_server_that_stops_loses_no_execution(tmp_path: Path) -> None:
    """What it has to kill is recorded as lost, which is not the function's failure."""
    with managed_service(tmp_path) as here:
        put(
            here,
            """
@durable_execution
def handler(event, context):
    print("in", flush=True)
    time.sleep(600)
""",
            tmp_path,
            timeout_s=600,
        )
        seen = threading.Event()
        here.managed.logs.follow("order", lambda records: seen.set() if records[-1].text == "in" else None)
        execution_id = here.start("order")
        assert seen.wait(WAIT_S)
        here.service.close()
        here.managed.pool.close(0)
        view = here.service.get(execution_id)
        assert view.status is ExecutionStatus.RUNNING
        (error,) = errors(here, execution_id)
        assert error == "Runtime.ExitError"
