"""`perdure invoke` and `perdure execution follow` at a server whose handlers run in this process."""

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Cli, Said
from perdure import DurableContext, Duration, durable_execution
from perdure.cli.server_desk import ServerDesk
from perdure.client.client import Client
from perdure.config import CallbackConfig
from perdure.model.view import FROM_START
from perdure.server.node import Node
from perdure.store.memory import MemoryStore
from support.scripted_http import CUT, Answer, scripted


@durable_execution(name="double")
def double(event: Any, context: DurableContext) -> Any:
    return context.step(lambda _: {"twice": event.get("n", 0) * 2}, name="twice")


@durable_execution(name="asks")
def asks(event: Any, context: DurableContext) -> Any:
    first = context.create_callback("barista", CallbackConfig(timeout=Duration.from_hours(1))).result()
    return f"{first}!"


@durable_execution(name="fails")
def fails(event: Any, context: DurableContext) -> Any:
    raise ValueError("no milk")


@durable_execution(name="sleeps")
def sleeps(event: Any, context: DurableContext) -> Any:
    context.wait(Duration.from_hours(1), name="night")


@durable_execution(name="steps")
def steps(event: Any, context: DurableContext) -> Any:
    for number in range(1300):
        context.step(lambda _: None, name=f"step-{number}")


def plain(event: Any, _context: Any) -> Any:
    if event.get("wrong"):
        raise KeyError("sku")
    return {"got": event}


@pytest.fixture
def node(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    handlers: dict[str, Any] = {"double": double, "asks": asks, "fails": fails, "sleeps": sleeps, "steps": steps}
    handlers["plain"] = plain
    with Node(MemoryStore(), handlers=handlers) as node:
        monkeypatch.setenv("PERDURE_ENDPOINT", node.url)
        yield node


def hint(said: Said) -> str:
    return said.err.partition("Hint: ")[2]


# --- durable functions --------------------------------------------------------------------------------------------


def test_an_execution_is_shown_and_its_result_printed(cli: Cli, node: Node) -> None:
    said = cli("invoke", "double", "-e", '{"n": 4}')
    assert said.json == {"twice": 8}
    lines = [line.partition(" ")[2] for line in said.err.splitlines()]
    assert lines[0] == "execution started"
    assert "twice: succeeded" in lines
    assert lines[-1] == "execution succeeded"
    assert cli("invoke", "double", "-q").err == ""


@pytest.mark.parametrize("function", ["double:$LATEST", "arn:aws:lambda:us-east-1:000000000000:function:double"])
def test_a_function_is_named_as_in_the_api(cli: Cli, node: Node, function: str) -> None:
    assert cli("invoke", function).json == {"twice": 0}


def test_the_event_is_text_a_file_or_stdin(
    cli: Cli, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    (tmp_path / "event.json").write_text('{"n": 5}')
    assert cli("invoke", "double", "-e", "@event.json").json == {"twice": 10}
    assert cli("invoke", "double", "--event-file", "event.json").json == {"twice": 10}
    for arguments in (["-e", "-"], ["--event-file", "-"]):
        monkeypatch.setattr("sys.stdin", io.StringIO('{"n": 6}'))
        assert cli("invoke", "double", *arguments).json == {"twice": 12}
    assert "is not JSON" in cli("invoke", "double", "-e", "event.json", code=2).err
    assert "can't both be given" in cli("invoke", "double", "-e", "1", "--event-file", "x", code=2).err


def test_with_json_the_execution_is_printed(cli: Cli, node: Node) -> None:
    document = cli("invoke", "double", "-o", "json", "-n", "order-7").json
    assert (document["Status"], document["Result"]) == ("SUCCEEDED", '{"twice": 0}')
    assert document["DurableExecutionName"] == "order-7"


def test_with_a_name_it_is_begun_once(cli: Cli, node: Node) -> None:
    assert cli("invoke", "double", "-e", '{"n": 4}', "--durable-execution-name", "once").json == {"twice": 8}
    assert cli("invoke", "double", "-e", '{"n": 4}', "--name", "once").json == {"twice": 8}
    assert len(cli("ls").json["DurableExecutions"]) == 1
    said = cli("invoke", "double", "-e", '{"n": 5}', "--name", "once", "-o", "json", code=5)
    assert said.error["type"] == "DurableExecutionAlreadyStartedException"


@pytest.mark.parametrize("arguments", [["--async"], ["--invocation-type", "Event"]])
def test_an_execution_can_be_left_to_itself(cli: Cli, node: Node, arguments: list[str]) -> None:
    arn = cli("invoke", "sleeps", *arguments).out.strip()
    assert arn.startswith("arn:aws:lambda:us-east-1:000000000000:function:sleeps:$LATEST/durable-execution/")
    assert cli("invoke", "sleeps", *arguments, "-o", "json").json["StatusCode"] == 202
    assert cli("execution", "get", arn).json["Status"] == "RUNNING"


def test_last_is_what_was_last_started_from_this_folder(
    cli: Cli, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CLI 28"""
    mine = cli("invoke", "sleeps", "--async").out.strip()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    theirs = cli("invoke", "sleeps", "--async").out.strip()
    monkeypatch.chdir(tmp_path)
    for word in ("@last", mine, mine.rpartition("/")[2], mine.rpartition("/")[2][:30]):
        assert cli("execution", "get", word).json["DurableExecutionArn"] == mine
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli("execution", "get", "@last").json["DurableExecutionArn"] == theirs


def test_an_execution_that_fails_is_told_with_exit_code_1(cli: Cli, node: Node) -> None:
    said = cli("invoke", "fails", code=1)
    assert said.err.splitlines()[-1].startswith("error: fails/")
    assert "ended FAILED: ValueError: no milk. Hint: `perdure execution history " in said.err
    assert said.out == ""
    shown = cli("invoke", "fails", "-o", "json", code=1)
    assert shown.json["Error"]["ErrorMessage"] == "no milk"
    assert json.loads(shown.err.splitlines()[-1])["error"]["exit_code"] == 1


def test_at_a_callback_it_is_left_with_exit_code_7_and_how_to_go_on(cli: Cli, node: Node) -> None:
    for arguments in ([], ["--no-wait"]):
        said = cli("invoke", "asks", *arguments, code=7)
        assert "waits for an answer. Hint: answer with: perdure callback succeed " in said.err
    command = hint(said).removeprefix("answer with: perdure ").split(" -r TEXT")[0].split(" ")
    cli(*command, "-r", "a cortado")
    assert cli("execution", "follow", "@last", "-o", "json").json["Result"] == '"a cortado!"'


def test_told_to_wait_it_stays_until_somebody_answers(cli: Cli, node: Node) -> None:
    def answer() -> None:
        open_callbacks = node.service.open_callbacks()
        while not open_callbacks:
            asked.wait(0.01)
            open_callbacks = node.service.open_callbacks()
        node.service.succeed_callback(open_callbacks[0].callback_id, b"a ristretto")

    asked = threading.Event()
    answering = threading.Thread(target=answer)
    answering.start()
    assert cli("invoke", "asks", "--wait").json == "a ristretto!"
    answering.join(10)


def test_after_its_time_it_gives_up_and_the_execution_goes_on(cli: Cli, node: Node) -> None:
    said = cli("invoke", "sleeps", "--timeout", "0.2", code=6)
    assert "has not ended in time. Hint: it goes on; see it with: perdure execution follow " in said.err
    assert cli("execution", "get", "@last").json["Status"] == "RUNNING"


def test_a_dry_run_starts_nothing(cli: Cli, node: Node) -> None:
    assert "double could be invoked so" in cli("invoke", "double", "--invocation-type", "DryRun").err
    assert cli("ls").json == {"DurableExecutions": []}


def test_events_are_lines_of_json_when_it_is_followed(cli: Cli, node: Node) -> None:
    said = cli("invoke", "double", "-e", '{"n": 4}', "--follow")
    events = [json.loads(line) for line in said.out.splitlines()]
    assert [event["EventId"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["ExecutionSucceededDetails"]["Result"]["Payload"] == '{"twice": 8}'
    assert events == cli("execution", "history", "@last").json["Events"]
    assert cli("invoke", "fails", "--follow", code=1).out.count("\n") == 3


def test_an_event_over_a_mebibyte_is_sent_by_a_caller_who_waits(cli: Cli, node: Node, tmp_path: Path) -> None:
    (tmp_path / "large.json").write_text(json.dumps({"n": 1, "padding": "x" * 1_100_000}))
    assert cli("invoke", "double", "-e", "@large.json").json == {"twice": 2}
    assert "must be smaller" in cli("invoke", "double", "-e", "@large.json", "--async", code=2).err


def test_a_store_file_is_no_place_to_invoke_at(cli: Cli, node: Node) -> None:
    assert "this command works at a server" in cli("invoke", "double", "--store", "perdure.db", code=2).err


def test_functions_of_the_server_are_completed(cli: Cli, node: Node) -> None:
    from click.shell_completion import ShellComplete

    from perdure.cli.main import root

    found = ShellComplete(root, {}, "perdure", "_PERDURE_COMPLETE").get_completions(["invoke"], "d")
    assert [item.value for item in found] == ["double"]


def test_a_function_that_is_not_there_is_not_found(cli: Cli, node: Node) -> None:
    assert "Function not found" in cli("invoke", "nobody", code=3).err


# --- functions that are not durable -------------------------------------------------------------------------------


def test_a_plain_function_s_answer_is_printed(cli: Cli, node: Node) -> None:
    assert cli("invoke", "plain", "-e", '{"a": 1}').json == {"got": {"a": 1}}
    document = cli("invoke", "plain", "-o", "json").json
    assert (document["StatusCode"], document["Payload"]) == (200, {"got": {}})
    assert "accepted: plain" in cli("invoke", "plain", "--async").err


def test_a_plain_function_s_error_is_told_with_exit_code_1(cli: Cli, node: Node) -> None:
    said = cli("invoke", "plain", "-e", '{"wrong": true}', code=1)
    assert "plain failed: KeyError: 'sku'" in said.err
    assert said.out == ""


def test_a_client_context_is_a_json_object(cli: Cli, node: Node) -> None:
    assert cli("invoke", "plain", "--client-context", '{"custom": {}}').json == {"got": {}}
    assert "must be a JSON object" in cli("invoke", "plain", "--client-context", "[1]", code=2).err


CONFIGURATION = Answer(200, {"FunctionName": "f"})


def test_the_end_of_the_log_is_shown_on_stderr(cli: Cli) -> None:
    tail = base64.b64encode(b"START\nhello").decode()
    with scripted(CONFIGURATION, Answer(200, b"1", (("X-Amz-Log-Result", tail),))) as server:
        said = cli("invoke", "f", "--log", "tail", "--endpoint", server.url)
    assert (said.out, said.err) == ("1\n", "START\nhello\n")
    assert server.asked[1].headers["x-amz-log-type"] == "Tail"


def test_an_answer_that_does_not_come_is_given_up(cli: Cli) -> None:
    with scripted(CONFIGURATION, None) as server:
        said = cli("invoke", "f", "--timeout", "0.1", "--endpoint", server.url, code=6)
    assert "f has not answered: it took longer than 0.1 seconds" in said.err


def test_who_may_not_look_at_a_function_may_invoke_it(cli: Cli) -> None:
    no = Answer(403, {"message": "no"}, (("x-amzn-ErrorType", "AccessDeniedException"),))
    with scripted(no, Answer(200, b'"done"')) as server:
        assert cli("invoke", "f", "--endpoint", server.url).json == "done"


# --- following ----------------------------------------------------------------------------------------------------


def test_what_has_ended_is_followed_to_its_end(cli: Cli, node: Node) -> None:
    cli("invoke", "double", "-q")
    lines = cli("execution", "tail", "@last").out.splitlines()
    assert json.loads(lines[-1])["EventType"] == "ExecutionSucceeded"
    assert "execution succeeded" in cli("execution", "follow", "@last", "-o", "summary").err
    cli("invoke", "fails", "-q", code=1)
    assert "ended FAILED" in cli("execution", "follow", "@last", "-q", code=1).err


def test_a_long_history_is_shown_whole_over_all_its_pages(cli: Cli, node: Node) -> None:
    """CLI 23"""
    cli("invoke", "steps", "-q")
    events = cli("execution", "history", "@last").json["Events"]
    assert [event["EventId"] for event in events] == list(range(1, len(events) + 1))
    assert len(events) > 2_500
    assert cli("execution", "history", "@last", "--reverse").json["Events"] == events[::-1]
    assert [json.loads(line) for line in cli("execution", "follow", "@last").out.splitlines()] == events
    assert len(cli("execution", "tree", "@last").json["Operations"]) == 1_300


def test_following_is_given_up_after_its_time(cli: Cli, node: Node) -> None:
    cli("invoke", "sleeps", "--async")
    assert "has not ended in time" in cli("execution", "follow", "@last", "--timeout", "0.2", code=6).err


def test_who_follows_outlasts_a_server_that_is_begun_anew(capsys: pytest.CaptureFixture[str]) -> None:
    arn = "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST/durable-execution/n/0190"
    view = {"DurableExecutionArn": arn, "DurableExecutionName": "n", "Status": "RUNNING", "StartTimestamp": 1}

    def news(position: str) -> Answer:
        return Answer(200, {"Position": position, "Execution": view, "Operations": [], "Events": []})

    with scripted(news("1.1"), CUT, CUT, news("2.2")) as server, Client(server.url, attempts=1) as client:
        source = ServerDesk(client).source(arn)
        positions = [source.changes(after, 0.01).position for after in (FROM_START, "1.1", "1.1", "1.1")]
    assert positions == ["1.1", "1.1", "1.1", "2.2"]
    assert capsys.readouterr().err == "the connection is lost; trying again\n"
