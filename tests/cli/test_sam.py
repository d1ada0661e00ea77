"""SAM's commands for durable functions, with `perdure` in the place of `sam`."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Cli
from perdure import DurableContext, Duration, StepConfig, durable_execution
from perdure.config import CallbackConfig
from perdure.retries import RetryDecision
from perdure.server.node import Node
from perdure.store.memory import MemoryStore
from support.scripted_http import Answer, scripted


@durable_execution(name="Order")
def order(event: Any, context: DurableContext) -> Any:
    def flaky(step: Any) -> int:
        if step.attempt < 2:
            raise RuntimeError("no luck")
        return int(step.attempt)

    again = StepConfig(retry_strategy=lambda _error, _attempt: RetryDecision.retry(Duration.from_seconds(1)))
    context.step(flaky, name="flaky", config=again)
    context.wait(Duration.from_seconds(1), name="cool-down")
    return {"order": event.get("order"), "note": "x" * 200}


@durable_execution(name="Approval")
def approval(event: Any, context: DurableContext) -> Any:
    limits = CallbackConfig(timeout=Duration.from_hours(1), heartbeat_timeout=Duration.from_minutes(5))
    return context.create_callback("approve", limits).result()


@durable_execution(name="Echo")
def echo(event: Any, context: DurableContext) -> Any:
    return event


@durable_execution(name="Broken")
def broken(event: Any, context: DurableContext) -> Any:
    raise ValueError("no milk")


def plain(event: Any, _context: Any) -> Any:
    return {"got": event}


HANDLERS: dict[str, Any] = {"Order": order, "Approval": approval, "Echo": echo, "Broken": broken, "Plain": plain}


@pytest.fixture
def node(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """Found as SAM finds an external emulator."""
    with Node(MemoryStore(), handlers=HANDLERS) as node:
        monkeypatch.setenv("DURABLE_EXECUTIONS_EXTERNAL_EMULATOR_PORT", node.url.rpartition(":")[2])
        yield node


@pytest.fixture
def tree(request: pytest.FixtureRequest, node: Node, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PERDURE_ENDPOINT", node.url)
    return str(request.param)


BOTH = pytest.mark.parametrize("tree", ["local", "remote"], indirect=True)


def begun(cli: Cli, function: str) -> str:
    said = cli("remote", "invoke", function, "--parameter", "InvocationType=Event", "-o", "json")
    return str(said.json["DurableExecutionArn"])


# --- invoke -------------------------------------------------------------------------------------------------------


def test_local_invoke_takes_an_event_from_a_file_or_stdin_and_ends_with_sams_summary(
    cli: Cli, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "event.json").write_text('{"order": 7}')
    said = cli("local", "invoke", "Echo", "-e", "event.json", "--durable-execution-name", "order-7")
    assert said.json == {"order": 7}
    for line in ("Execution Summary:", "Name:     order-7", 'Input:    {"order": 7}', 'Result:   {"order": 7}'):
        assert line in said.err
    assert "Status:   SUCCEEDED" in said.err
    assert "[*] View execution history: perdure local execution history arn:aws:lambda:" in said.err
    monkeypatch.setattr("sys.stdin", io.StringIO("[1]"))
    assert cli("local", "invoke", "Echo", "--event", "-").json == [1]
    assert cli("local", "invoke", "Echo").json == {}


def test_options_for_containers_are_taken_and_said_to_be_ignored(cli: Cli, node: Node, tmp_path: Path) -> None:
    arguments = ["-t", "template.yaml", "-n", "env.json", "--skip-pull-image", "--docker-network", "lan", "-v", "/x"]
    arguments += ["-d", "5890", "-l", "x.log", "--parameter-overrides", "A=B", "--config-env", "dev", "--debug"]
    said = cli("local", "invoke", "Echo", *arguments)
    assert said.json == {}
    for option in ("-t", "--env-vars", "--docker-network", "--docker-volume-basedir", "--config-env", "--debug"):
        assert f"{option} has no meaning here and is ignored" in said.err
    assert "--skip-pull-image has no meaning here" in said.err
    assert "has no meaning" not in cli("local", "invoke", "Echo", "-t", "x", "-q").err


def test_a_function_that_fails_has_an_exit_code(cli: Cli, node: Node) -> None:
    said = cli("local", "invoke", "Broken", code=1)
    assert "Error:    ValueError: no milk" in said.err
    assert said.out == ""


def test_without_a_function_the_only_one_is_meant(cli: Cli, node: Node) -> None:
    assert "which function? There are Approval, Broken, Echo, Order, Plain" in cli("local", "invoke", code=2).err
    with scripted(
        Answer(200, {"Functions": [{"FunctionName": "f"}]}), Answer(200, {"FunctionName": "f"}), Answer(200, b"5")
    ) as server:
        assert cli("local", "invoke", "--endpoint", server.url).json == 5


@pytest.mark.usefixtures("node")
def test_a_callback_needs_somebody_to_answer_it(cli: Cli) -> None:
    assert "waits for an answer" in cli("local", "invoke", "Approval", code=7).err


@BOTH
def test_a_function_that_is_not_durable_is_called(cli: Cli, tree: str) -> None:
    assert cli(tree, "invoke", "Plain").json == {"got": {}}


def test_remote_invoke_prints_the_result_or_the_answer_of_the_api(
    cli: Cli, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERDURE_ENDPOINT", node.url)
    (tmp_path / "event.json").write_text('{"order": 7}')
    assert cli("remote", "invoke", "Echo", "--stack-name", "shop", "-e", '{"a": 1}').json == {"a": 1}
    assert cli("remote", "invoke", "Echo", "--event-file", "event.json", "--output", "text").json == {"order": 7}
    answer = cli(
        *("remote", "invoke", "Echo", "--event", "[1]", "--output", "json", "--tenant-id", "t"),
        *("--parameter", "Qualifier=$LATEST", "--parameter", "LogType=None", "--region", "us-east-1"),
    ).json
    assert (answer["StatusCode"], answer["ExecutedVersion"], answer["Payload"]) == (200, "$LATEST", "[1]")
    failed = cli("remote", "invoke", "Broken", "--output", "json", code=1).json
    assert (failed["FunctionError"], failed["Payload"]) == ("Unhandled", "ValueError: no milk")
    accepted = cli("remote", "invoke", "Echo", "--parameter", "InvocationType=Event")
    assert "Durable execution started: arn:" in accepted.out
    assert "could be invoked" in cli("remote", "invoke", "Echo", "--parameter", "InvocationType=DryRun").err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["Echo", "--test-event-name", "x"], "events that are kept in AWS"),
        ([], "give a RESOURCE or a --stack-name"),
        (["Echo", "-e", "1", "--event-file", "x"], "can't both be given"),
        (["Echo", "--parameter", "Qualifier"], "is not KEY=VALUE"),
        (["Echo", "--parameter", "Nonsense=1"], "Invoke has no parameter 'Nonsense'"),
    ],
)
@pytest.mark.usefixtures("node")
def test_what_can_not_be_is_refused(cli: Cli, arguments: list[str], text: str) -> None:
    assert text in cli("remote", "invoke", *arguments, code=2).err


# --- execution ----------------------------------------------------------------------------------------------------


@BOTH
def test_an_execution_is_shown_as_a_summary_or_json(cli: Cli, tree: str) -> None:
    cli("local", "invoke", "Echo", "--durable-execution-name", "one", "-q")
    arn = cli("execution", "get", "@last").json["DurableExecutionArn"]
    lines = cli(tree, "execution", "get", arn).out.splitlines()
    assert lines[1:3] == ["Execution Summary:", "========================="]
    assert lines[3] == f"ARN:      {arn}"
    assert lines[5].startswith("Duration: 0.")
    document = cli(tree, "execution", "get", arn, "--format", "json").json
    assert (document["Status"], document["Result"]) == ("SUCCEEDED", "{}")
    assert cli(tree, "execution", "get", "@last", "--query", "Status").json == "SUCCEEDED"


@BOTH
def test_the_history_is_sams_table(cli: Cli, tree: str) -> None:
    """CLI 24"""
    cli("local", "invoke", "Order", "-q")
    arn = cli("execution", "get", "@last").json["DurableExecutionArn"]
    table = cli(tree, "execution", "history", arn, "--format", "table").out
    lines = table.splitlines()
    titles = [cell.strip() for cell in lines[1].strip("│").split("│")]
    expected = ["Event Id", "Event Type", "SubType", "Name", "Timestamp", "Details", "Payload", "Error"]
    assert titles == expected
    assert "RuntimeError: no luck" in table
    assert "Retries Attempted: 1" in table
    assert "Duration: 1s" in table
    assert "Invocation Id: " in table
    assert f'{{"order":null,"note":"{"x" * 35}...' in table
    assert f"Use 'perdure {tree} execution history {arn} --format json' to view full output." in lines[-1]
    assert len({len(line) for line in lines[:-2]}) == 1
    events = cli(tree, "execution", "history", arn, "--format", "json").json["Events"]
    assert [event["EventId"] for event in events] == list(range(1, len(events) + 1))


@pytest.mark.usefixtures("node")
def test_the_column_of_errors_is_there_only_if_there_is_one(cli: Cli) -> None:
    """CLI 24"""
    cli("local", "invoke", "Echo", "-q")
    assert "Error" not in cli("local", "execution", "history", "@last").out.splitlines()[1]


@BOTH
def test_an_execution_is_stopped_with_an_error(cli: Cli, tree: str) -> None:
    arn = begun(cli, "Approval")
    error = ["--error-message", "enough", "--error-type", "Closed", "--error-data", "d"]
    said = cli(tree, "execution", "stop", arn, *error, "--stack-trace", "a", "--stack-trace", "b")
    assert f"Execution stopped: {arn}\nError Type: Closed\nError Message: enough\nError Data: d\n" in said.out
    document = cli(tree, "execution", "get", arn, "--format", "json").json
    assert (document["Status"], document["Error"]["StackTrace"]) == ("STOPPED", ["a", "b"])
    assert "Error:    Closed: enough" in cli(tree, "execution", "get", arn).out


# --- callback -----------------------------------------------------------------------------------------------------


def callback_of(cli: Cli, node: Node) -> tuple[str, str]:
    cli("local", "invoke", "Approval", "-q", code=7)
    arn = cli("execution", "get", "@last").json["DurableExecutionArn"]
    (found,) = node.service.open_callbacks(arn.rpartition("/")[2])
    return found.callback_id, arn


@BOTH
def test_callbacks_are_kept_alive_and_answered(cli: Cli, tree: str, node: Node) -> None:
    callback_id, arn = callback_of(cli, node)
    assert f"Callback heartbeat sent for ID: {callback_id}" in cli(tree, "callback", "heartbeat", callback_id).out
    said = cli(tree, "callback", "succeed", callback_id, "-r", "yes")
    assert f"Callback success sent for ID: {callback_id}\nResult: yes\n" in said.out
    node.service.wait(arn.rpartition("/")[2], 10)
    assert cli(tree, "execution", "get", arn, "--format", "json").json["Result"] == '"yes"'


@BOTH
def test_callbacks_are_answered_with_a_failure(cli: Cli, tree: str, node: Node) -> None:
    callback_id, _ = callback_of(cli, node)
    error = ["--error-message", "no", "--error-type", "Refused", "--error-data", "d", "--stack-trace", "a"]
    document = json.loads(cli(tree, "callback", "fail", callback_id, *error, "-o", "json").out)
    assert document == {"CallbackId": callback_id}
    assert "already closed" in cli(tree, "callback", "fail", callback_id, *error, code=5).err
