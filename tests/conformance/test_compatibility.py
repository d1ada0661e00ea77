"""The AWS CLI as it is installed, the calls of SAM, and a server that is started again."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import botocore
import pytest

from support.raw import callback, context, endpoint, invoke, retry, step, wait
from support.served import Served, client_of, serving

COMMAND_S = 60.0


class Cli:
    """`aws lambda …` in a process of its own, without anything of the machine's configuration.

    Pause, resume and delete are newer than the CLI's own model of Lambda: the one of botocore is added to it, as
    `aws configure add-model` does.
    """

    def __init__(self, url: str, home: Path) -> None:
        models = home / ".aws" / "models" / "lambda" / "2015-03-31"
        models.mkdir(parents=True)
        newer = Path(botocore.__file__).parent / "data" / "lambda" / "2015-03-31" / "service-2.json.gz"
        (models / "service-2.json").write_bytes(gzip.decompress(newer.read_bytes()))
        self._url = url
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "HOME": str(home),
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_PAGER": "",
        }

    def __call__(self, *words: str, by_environment: bool = False) -> Any:
        """The answer of a command, read; it is told where the server is by an option, or by the environment."""
        command = [sys.executable, "-m", "awscli", "lambda", *words, "--output", "json"]
        environment = self._environment
        if by_environment:
            environment = {**environment, "AWS_ENDPOINT_URL_LAMBDA": self._url}
        else:
            command += ["--endpoint-url", self._url]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        assert done.returncode == 0, f"aws lambda {' '.join(words)}\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture
def cli(served: Served, tmp_path: Path) -> Cli:
    return Cli(served.node.url, tmp_path)


def test_the_aws_cli_has_all_durable_operations(served: Served, cli: Cli, tmp_path: Path) -> None:
    """[S65]"""
    function = served.function()
    answer = tmp_path / "answer.json"
    started = cli(
        *("invoke", "--function-name", function.name, "--qualifier", "$LATEST", "--invocation-type", "Event"),
        *("--durable-execution-name", "order-17", "--payload", '{"n": 17}'),
        str(answer),
        by_environment=True,
    )
    arn = started["DurableExecutionArn"]
    this = ("--durable-execution-arn", arn)
    incoming = function.next()
    assert incoming.input == {"n": 17}
    updates = [step("s", "SUCCEED", Payload="1"), *(callback(name) for name in ("yes", "no", "beat"))]
    written = cli(
        *("checkpoint-durable-execution", *this, "--checkpoint-token", str(incoming.token)),
        *("--updates", json.dumps(updates)),
    )
    incoming.token = written["CheckpointToken"]
    opened = {one["Id"]: one for one in written["NewExecutionState"]["Operations"]}
    ids = {name: opened[name]["CallbackDetails"]["CallbackId"] for name in ("yes", "no", "beat")}
    error = json.dumps({"ErrorType": "Declined", "ErrorMessage": "no"})
    commands: dict[str, tuple[str, ...]] = {
        "state": ("get-durable-execution-state", *this, "--checkpoint-token", str(incoming.token)),
        "get": ("get-durable-execution", *this),
        "list": (
            *("list-durable-executions-by-function", "--function-name", function.name, "--statuses", "RUNNING"),
            *("FAILED", "--started-after", "2025-01-01T00:00:00Z", "--max-items", "1"),
        ),
        "yes": (
            *("send-durable-execution-callback-success", "--callback-id", ids["yes"]),
            *("--result", '"so it is"'),
        ),
        "no": ("send-durable-execution-callback-failure", "--callback-id", ids["no"], "--error", error),
        "beat": ("send-durable-execution-callback-heartbeat", "--callback-id", ids["beat"]),
    }
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(commands, pool.map(lambda words: cli(*words), commands.values()), strict=True))
    assert [one["Id"] for one in found["state"]["Operations"]] == [arn.rpartition("/")[2], "s", "yes", "no", "beat"]
    assert (found["get"]["Status"], found["get"]["DurableExecutionName"]) == ("RUNNING", "order-17")
    assert [row["DurableExecutionArn"] for row in found["list"]["DurableExecutions"]] == [arn]
    told = {one["Id"]: one for one in incoming.changed()}
    assert told["yes"]["CallbackDetails"]["Result"] == '"so it is"'
    assert told["no"]["CallbackDetails"]["Error"] == {"ErrorType": "Declined", "ErrorMessage": "no"}
    incoming.suspend()
    served.until_shown(arn, "InvocationCompleted")
    cli("pause-durable-execution", *this, "--reason", "a look", "--execution-timeout-paused")
    assert served.status(arn) == "PAUSED"
    cli("resume-durable-execution", *this)
    assert served.status(arn) == "RUNNING"
    stopped = cli("stop-durable-execution", *this, "--error", error)
    assert stopped["StopTimestamp"]
    history = cli("get-durable-execution-history", *this, "--include-execution-data", "--page-size", "3")
    assert [event["EventType"] for event in history["Events"]][-3:] == [
        *("ExecutionPaused", "ExecutionResumed", "ExecutionStopped")
    ]
    assert [event["EventId"] for event in history["Events"]] == list(range(1, len(history["Events"]) + 1))
    deleted = cli("delete-durable-execution", *this, by_environment=True)
    assert deleted["DeletionRequestTimestamp"]
    listed = served.client.list_durable_executions_by_function(FunctionName=function.name)
    assert listed["DurableExecutions"] == []


# --- SAM ---------------------------------------------------------------------------------------------------------


def started_by_sam(served: Served, event: Any, url: str, name: str | None = None) -> str:
    """What SAM sends for `sam local invoke`; it calls every function `function`, and says where its container is."""
    payload = {
        "AccountId": "123456789012",
        "FunctionName": "function",
        "FunctionQualifier": "$LATEST",
        "ExecutionName": name,
        "ExecutionTimeoutSeconds": 3600,
        "ExecutionRetentionPeriodDays": None,
        "Input": json.dumps(event),
        "LambdaEndpoint": url,
    }
    answer = served.raw(
        "POST", "/start-durable-execution", json.dumps(payload).encode(), Content_Type="application/json"
    )
    assert answer.status == 201, answer.body
    return str(answer.json["ExecutionArn"])


def test_sam_starts_polls_and_completes_callbacks(served: Served) -> None:
    """[S66]"""
    health = served.raw("GET", "/health")
    assert (health.status, health.json) == (200, {"status": "healthy"})
    sam = client_of(served.node.url.replace("127.0.0.1", "localhost"))
    function = served.play("function")
    arn = started_by_sam(served, {"order": 1}, served.played.url, "sam-1")
    incoming = function.next()
    assert incoming.headers["X-Dex-Handler-Invoke"] == "true"
    assert incoming.input == {"order": 1}
    opened = incoming.changed(callback("approve"), callback("check"))
    incoming.suspend()
    assert sam.get_durable_execution(DurableExecutionArn=arn)["Status"] == "RUNNING"
    history = sam.get_durable_execution_history(DurableExecutionArn=arn, IncludeExecutionData=True)["Events"]
    ids = [e["CallbackStartedDetails"]["CallbackId"] for e in history if e["EventType"] == "CallbackStarted"]
    assert ids == [one["CallbackDetails"]["CallbackId"] for one in opened]
    sam.send_durable_execution_callback_heartbeat(CallbackId=ids[0])
    sam.send_durable_execution_callback_success(CallbackId=ids[0], Result=b'"approved"')
    sam.send_durable_execution_callback_failure(CallbackId=ids[1], Error={"ErrorMessage": "late"})
    again = function.next()
    if len(again.event["UpdatedOperationIds"]) == 1:
        again.suspend()
        again = function.next()
    again.succeed({"done": True})
    ended = served.until_ended(arn)
    assert sam.get_durable_execution(DurableExecutionArn=arn)["Status"] != "RUNNING"
    assert (ended["Status"], json.loads(ended["Result"])) == ("SUCCEEDED", {"done": True})
    sam.close()


def test_what_sam_has_started_goes_on_in_the_container_in_which_it_began(served: Served) -> None:
    """[S66]"""
    with endpoint() as other:
        first, second = served.play("function"), served.play("function", other)
        arn = started_by_sam(served, 1, served.played.url)
        incoming = first.next()
        incoming.checkpoint(wait("w", 5))
        elsewhere = started_by_sam(served, 2, other.url)
        assert second.next().input == 2
        incoming.suspend()
        served.until_shown(arn, "InvocationCompleted")
        served.advance(5)
        again = first.next()
        assert again.arn == arn
        again.succeed()
        assert served.until_ended(arn)["Status"] == "SUCCEEDED"
        assert second.count == 1
        served.client.stop_durable_execution(DurableExecutionArn=elsewhere)


# --- a restart ---------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Served]:
    """A node with its store in a file, which is stopped and started again."""
    with serving(path=tmp_path / "kept.db") as served:
        yield served


def test_a_restart_loses_no_execution(kept: Served) -> None:
    """[S67]"""
    function = kept.function()
    waits = kept.start_execution(function, "waits", DurableExecutionName="waits")
    incoming = function.next()
    opened = incoming.changed(
        context("box", "START"),
        step("s", "SUCCEED", ParentId="box", Payload="1"),
        wait("w", 100),
        retry("r", 50),
        callback("c"),
        callback("late", 200),
    )
    ids = {one["Id"]: one["CallbackDetails"]["CallbackId"] for one in opened if one["Type"] == "CALLBACK"}
    incoming.suspend()
    kept.until_shown(waits, "InvocationCompleted")
    ended = kept.start_execution(function, "ended", DurableExecutionName="ended")
    function.next().succeed("before")
    kept.until_ended(ended)
    before = {arn: (kept.get(arn), kept.history(arn)) for arn in (waits, ended)}

    again(kept)
    for arn, (found, history) in before.items():
        now = kept.get(arn)
        assert {**now, "ResponseMetadata": None} == {**found, "ResponseMetadata": None}
        assert kept.history(arn) == history
    kept.client.send_durable_execution_callback_success(CallbackId=ids["c"], Result=b"after")
    resumed = function.next()
    assert resumed.event["UpdatedOperationIds"] == ["c"]
    resumed.suspend()
    kept.until_shown(waits, "InvocationCompleted", 2)
    kept.advance(50)
    resumed = function.next()
    assert resumed.event["UpdatedOperationIds"] == ["r"]
    resumed.suspend()
    kept.until_shown(waits, "InvocationCompleted", 3)

    again(kept)
    kept.advance(50)
    resumed = function.next()
    assert resumed.event["UpdatedOperationIds"] == ["w"]
    assert {one["Id"]: one["Status"] for one in resumed.operations[1:]} == {
        "box": "STARTED",
        "s": "SUCCEEDED",
        "w": "SUCCEEDED",
        "r": "READY",
        "c": "SUCCEEDED",
        "late": "STARTED",
    }
    resumed.suspend()
    kept.until_shown(waits, "InvocationCompleted", 4)
    kept.advance(100)
    last = function.next()
    assert last.event["UpdatedOperationIds"] == ["late"]
    last.succeed("after")
    assert kept.until_ended(waits)["Status"] == "SUCCEEDED"
    history = kept.history(waits)
    assert [event["EventId"] for event in history] == list(range(1, len(history) + 1))
    same = kept.invoke(FunctionName=function.qualified, DurableExecutionName="ended", Payload='"ended"')
    assert (same["DurableExecutionArn"], json.loads(same["Payload"])) == (ended, "before")


def test_a_token_and_a_repeated_checkpoint_outlive_a_restart(kept: Served) -> None:
    """[S67]"""
    function = kept.function()
    arn = kept.start_execution(function)
    incoming = function.next()
    given = {"CheckpointToken": incoming.token, "ClientToken": "once"}
    first = incoming.checkpoint(callback("c"), **given)

    again(kept)
    resumed = function.next()
    assert resumed.arn == arn
    repeated = incoming.checkpoint(callback("c"), **given)
    assert {**repeated, "ResponseMetadata": None} == {**first, "ResponseMetadata": None}
    assert [(one["Id"], one["Status"]) for one in resumed.operations[1:]] == [("c", "STARTED")]
    with pytest.raises(kept.client.exceptions.InvalidParameterValueException, match="Invalid checkpoint token"):
        incoming.checkpoint(step("late", "SUCCEED"), CheckpointToken=first["CheckpointToken"])
    assert resumed.changed(step("s", "SUCCEED"))[0]["Id"] == "s"
    resumed.succeed()
    assert kept.until_ended(arn)["Status"] == "SUCCEEDED"
    lost = [event["InvocationCompletedDetails"] for event in kept.events(arn, "InvocationCompleted")]
    assert ["Error" in one for one in lost] == [True, False]


def test_a_chained_invoke_ends_after_a_restart(kept: Served) -> None:
    """[S67]"""
    function, target = kept.function(), kept.function()
    arn = kept.start_execution(function)
    incoming = function.next()
    incoming.checkpoint(invoke("i", target.qualified, Payload='{"n": 1}'))
    incoming.suspend()
    kept.until_shown(arn, "InvocationCompleted")
    child = target.next()
    child.checkpoint(wait("w", 10))
    child.suspend()
    kept.until_shown(child.arn, "InvocationCompleted")

    again(kept)
    kept.advance(10)
    target.next().succeed({"n": 2})
    resumed = function.next()
    assert resumed.event["UpdatedOperationIds"] == ["i"]
    assert json.loads(resumed.operations[1]["ChainedInvokeDetails"]["Result"]) == {"n": 2}
    resumed.succeed()
    assert kept.until_ended(arn)["Status"] == "SUCCEEDED"


def again(kept: Served) -> None:
    """Stop the server and start it; an invocation that is in flight is lost."""
    kept.stop()
    kept.start()
