"""The Runtime API, as the official clients of Python and Node.js use it, unmodified and in real processes."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.engine.terms import RetryPolicy, Terms
from perdure.service.clock import SystemClock
from support import javascript
from support.functions import PYTHON, node
from support.packages import package
from support.raw import Json
from support.served import Served, serving

WAIT_S = 60.0
PROVIDED = "provided.al2023"
REFERENCE = Path(__file__).with_name("reference.py")
PLAIN = {"DurableConfig": None}

IN_PYTHON = """
import os, time

def handler(event, context):
    if event.get("fail"):
        raise LookupError("no " + event["fail"])
    if event.get("sleep"):
        time.sleep(event["sleep"])
    return {"pid": os.getpid(), "event": event, "request": context.aws_request_id,
            "arn": context.invoked_function_arn, "left": context.get_remaining_time_in_millis()}
"""
IN_JAVASCRIPT = """
exports.handler = async (event, context) => {
  if (event.fail) throw new RangeError("no " + event.fail);
  if (event.sleep) await new Promise((resolve) => setTimeout(resolve, event.sleep * 1000));
  return { pid: process.pid, event, request: context.awsRequestId, arn: context.invokedFunctionArn,
           left: context.getRemainingTimeInMillis() };
};
"""


def bootstrap(command: str) -> str:
    return f'#!/bin/sh\nexec {command} "$_HANDLER"\n'


def in_python(files: dict[str, str | bytes]) -> bytes:
    """A package that brings `awslambdaric` as its runtime."""
    return package({**files, "bootstrap": bootstrap(f"{sys.executable} -m awslambdaric")}, executable=("bootstrap",))


def in_javascript(files: dict[str, str | bytes]) -> bytes:
    """A package that brings `aws-lambda-ric` as its runtime; its native part is a stand-in."""
    return package({**files, "bootstrap": javascript_bootstrap()}, executable=("bootstrap",))


def javascript_bootstrap() -> str:
    client = javascript.node_modules() / "aws-lambda-ric" / "bin" / "index.mjs"
    return bootstrap(f"{node()} --require {javascript.FOLDER / 'rapid_client.cjs'} {client}")


class Client:
    """One of the two official clients, with functions written for it."""

    def __init__(
        self, name: str, pack: Callable[[dict[str, str | bytes]], bytes], file: str, body: str, load_error: str
    ) -> None:
        self.name = name
        self.pack = pack
        self.file = file
        self.body = body
        self.load_error = load_error
        self.handler = file.partition(".")[0] + ".handler"


CLIENTS = [
    Client("awslambdaric", in_python, "app.py", IN_PYTHON, "raise RuntimeError('at load')"),
    Client("aws-lambda-ric", in_javascript, "index.js", IN_JAVASCRIPT, "throw new Error('at load')"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A node in real time, which tries failed invocations again soon."""
    terms = Terms(retries=RetryPolicy(first_delay_ms=50, delay_max_ms=200))
    with serving(clock=SystemClock(), path=tmp_path_factory.mktemp("runtimes") / "runtimes.db", terms=terms) as served:
        yield served


@pytest.fixture(params=CLIENTS, ids=[client.name for client in CLIENTS])
def client(request: pytest.FixtureRequest) -> Client:
    found: Client = request.param
    return found


def deployed(served: Served, client: Client, name: str, body: str | None = None, **more: Any) -> str:
    code = client.pack({client.file: client.body if body is None else body})
    return served.deploy(f"{client.name}-{name}", code, PROVIDED, client.handler, **{**PLAIN, **more})


def called(served: Served, function: str, **event: Any) -> tuple[Any, bool]:
    """What the function answers, and whether it is its error."""
    answer = served.invoke(FunctionName=function, Payload=json.dumps(event))
    assert answer["StatusCode"] == 200
    return json.loads(answer["Payload"]), answer.get("FunctionError") == "Unhandled"


def test_an_official_client_runs_a_function_in_a_process_that_is_used_again(served: Served, client: Client) -> None:
    """[S64]"""
    function = deployed(served, client, "works")
    answers = [called(served, function, text="é", n=n) for n in range(3)]
    assert [is_error for _, is_error in answers] == [False, False, False]
    found = [answer for answer, _ in answers]
    assert [one["event"] for one in found] == [{"text": "é", "n": n} for n in range(3)]
    assert len({one["pid"] for one in found}) == 1
    assert len({one["request"] for one in found}) == 3
    assert all(one["arn"].endswith(function) for one in found)
    assert all(0 < one["left"] <= 20_000 for one in found)


def test_an_official_client_reports_an_error_of_the_handler_with_its_stack(served: Served, client: Client) -> None:
    """[S64]"""
    function = deployed(served, client, "fails")
    before, _ = called(served, function)
    error, is_error = called(served, function, fail="luck")
    assert is_error
    assert (error["errorType"], error["errorMessage"]) == (
        {"awslambdaric": "LookupError", "aws-lambda-ric": "RangeError"}[client.name],
        "no luck",
    )
    stack = error.get("stackTrace") or error.get("trace")
    assert any(client.file in frame for frame in stack)
    after, _ = called(served, function)
    assert after["pid"] == before["pid"]


def test_an_official_client_reports_that_a_function_can_t_be_loaded(served: Served, client: Client) -> None:
    """[S64]"""
    function = deployed(served, client, "breaks", client.load_error)
    error, is_error = called(served, function)
    assert is_error
    assert "at load" in error["errorMessage"]
    assert error["errorType"]


def test_an_official_client_that_takes_too_long_is_killed(served: Served, client: Client) -> None:
    """[S64]"""
    function = deployed(served, client, "sleeps", Timeout=1)
    before, _ = called(served, function)
    error, is_error = called(served, function, sleep=60)
    assert is_error
    assert error["errorType"] == "Sandbox.Timedout"
    assert error["errorMessage"].endswith("Task timed out after 1.00 seconds")
    after, is_error = called(served, function)
    assert not is_error
    assert after["pid"] != before["pid"]


def test_the_official_sdks_run_on_the_official_clients(served: Served) -> None:
    """[S64]"""
    twins = {
        "python": (in_python({"app.py": REFERENCE.read_text("utf-8")}), "app.handler"),
        "javascript": (javascript.package(javascript_bootstrap()), "index.handler"),
    }
    for name, (code, handler) in twins.items():
        function = served.deploy(f"durable-{name}", code, PROVIDED, handler)
        payload = json.dumps({"scenario": "step-and-wait"})
        answer = served.invoke(FunctionName=function, Payload=payload)
        assert (answer.get("FunctionError"), answer["Payload"]) in [(None, "null"), (None, "")]
        assert served.shown(answer["DurableExecutionArn"]) == [
            *("ExecutionStarted", "StepStarted", "StepSucceeded", "WaitStarted", "InvocationCompleted"),
            *("WaitSucceeded", "InvocationCompleted", "ExecutionSucceeded"),
        ]
        stack = served.invoke(FunctionName=function, Payload=json.dumps({"scenario": "handler-throws"}))
        assert stack["FunctionError"] == "Unhandled"


BY_HAND = """#!{python}
import http.client, json, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = api.getresponse()
    answer.read()
    headers = {{name.lower(): value for name, value in answer.getheaders()}}
    body = json.dumps({{"status": answer.status, "headers": headers}})
    request = headers["lambda-runtime-aws-request-id"]
    api.request("POST", "/2018-06-01/runtime/invocation/" + request + "/response", body)
    posted = api.getresponse()
    posted.read()
    assert posted.status == 202
"""


def test_every_event_has_its_headers(served: Served) -> None:
    """[S64]"""
    code = package({"bootstrap": BY_HAND.format(python=sys.executable)}, executable=("bootstrap",))
    function = served.deploy("by-hand", code, PROVIDED, "none", **PLAIN)
    requests = set()
    for context in (None, "eyJhIjogMX0="):
        more = {} if context is None else {"ClientContext": context}
        found = json.loads(served.invoke(FunctionName=function, Payload="1", **more)["Payload"])
        headers = found["headers"]
        assert found["status"] == 200
        assert headers["content-type"] == "application/json"
        assert int(headers["lambda-runtime-deadline-ms"]) > 1_700_000_000_000
        assert headers["lambda-runtime-invoked-function-arn"].endswith(":function:by-hand:$LATEST")
        requests.add(headers["lambda-runtime-aws-request-id"])
        assert ("lambda-runtime-client-context" in headers) is (context is not None)
    assert len(requests) == 2


INIT_ERROR = """#!{python}
import http.client, json, os, sys
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
body = json.dumps({{"errorMessage": "no config", "errorType": "Function.NoConfig", "stackTrace": ["a", "b"]}})
headers = {{"Lambda-Runtime-Function-Error-Type": "Function.NoConfig"}}
api.request("POST", "/2018-06-01/runtime/init/error", body, headers)
open(os.environ["MARK"], "w").write(str(api.getresponse().status))
sys.exit(1)
"""


def test_an_error_before_the_first_event_is_accepted_with_202(served: Served, tmp_path: Path) -> None:
    """[S64]"""
    code = package({"bootstrap": INIT_ERROR.format(python=sys.executable)}, executable=("bootstrap",))
    mark = tmp_path / "mark"
    variables = {"Environment": {"Variables": {"MARK": str(mark)}}}
    function = served.deploy("init-error", code, PROVIDED, "none", **PLAIN, **variables)
    error, is_error = called(served, function)
    assert is_error
    assert (error["errorType"], error["errorMessage"]) == ("Function.NoConfig", "no config")
    assert mark.read_text() == "202"


# --- durable functions whose processes die -----------------------------------------------------------------------

DYING = """
import json, os, time
import boto3

def handler(event, context):
    state = event["InitialExecutionState"]["Operations"]
    payload = json.loads(state[0]["ExecutionDetails"]["InputPayload"])
    if len(state) == 1:
        boto3.client("lambda").checkpoint_durable_execution(
            DurableExecutionArn=event["DurableExecutionArn"], CheckpointToken=event["CheckpointToken"],
            Updates=[{"Id": "s", "Type": "STEP", "Action": "START", "Name": "deadly"}])
        if payload == "dies":
            os._exit(3)
        time.sleep(60)
    return {"Status": "SUCCEEDED", "Result": json.dumps([one["Status"] for one in state[1:]])}
"""


def test_a_step_in_which_a_process_dies_or_hangs_stays_started(served: Served) -> None:
    """[S29]"""
    function = served.deploy("dying", package({"app.py": DYING}), PYTHON, "app.handler", Timeout=2)
    arns = {
        how: served.invoke(FunctionName=function, InvocationType="Event", Payload=json.dumps(how))
        for how in ("dies", "hangs")
    }
    expected = {"dies": "Runtime.ExitError", "hangs": "Sandbox.Timedout"}
    for how, started in arns.items():
        arn = started["DurableExecutionArn"]
        ended: Json = served.until_ended(arn, WAIT_S)
        assert (ended["Status"], json.loads(ended["Result"])) == ("SUCCEEDED", ["STARTED"])
        assert served.shown(arn) == [
            *("ExecutionStarted", "StepStarted", "InvocationCompleted", "InvocationCompleted", "ExecutionSucceeded")
        ]
        failed, done = (event["InvocationCompletedDetails"] for event in served.events(arn, "InvocationCompleted"))
        error = failed["Error"]["Payload"]
        assert error["ErrorType"] == expected[how]
        assert how != "hangs" or error["ErrorMessage"].endswith("Task timed out after 2.00 seconds")
        assert "Error" not in done
        assert failed["RequestId"] != done["RequestId"]
