"""`perdure execution …` and `perdure callback …` on a store file, while its owner runs and while nobody does, and at a
server, where they say the same."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import perdure
from cli.conftest import Cli
from perdure import DurableContext, Duration, durable_execution
from perdure.config import CallbackConfig
from perdure.server.node import Node
from perdure.store.open import open_store


@durable_execution(name="order")
def order(event: Any, context: DurableContext) -> Any:
    context.step(lambda _: "reserved", name="reserve")
    answer = context.create_callback("barista", CallbackConfig(heartbeat_timeout=Duration.from_hours(1))).result()
    context.run_in_child_context(lambda child: child.step(lambda _: 1, name="inner"), name="box")
    return answer


@durable_execution(name="broken")
def broken(event: Any, context: DurableContext) -> Any:
    raise ValueError("no milk")


@durable_execution(name="sleeper")
def sleeper(event: Any, context: DurableContext) -> Any:
    context.wait(Duration.from_days(1), name="night")


FUNCTIONS = [order, broken, sleeper]


@pytest.fixture(params=["file", "server"])
def ids(
    request: pytest.FixtureRequest, in_file: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """Executions in several states: in a file that nobody owns now, and at a server of that file."""
    if request.param == "file":
        yield in_file
        return
    with Node(open_store("sqlite:///perdure.db")) as node:
        monkeypatch.setenv("PERDURE_ENDPOINT", node.url)
        yield in_file


@pytest.fixture
def in_file(cli: Cli) -> dict[str, str]:
    """A store file that nobody owns now, with executions in several states."""
    with perdure.open("sqlite:///perdure.db", FUNCTIONS) as app:
        done = app.start(order, {"n": 1}, name="order-1")
        wait_until_waiting(app, done)
        done.callbacks()[0].succeed("a cortado")
        assert done.result(10) == "a cortado"
        failed = app.start(broken, {"n": 2}, name="broken-2")
        failed.wait(10)
        sleeping = app.start(sleeper, {"n": 3}, name="sleeper-3")
        wait_until_waiting(app, sleeping)
        waiting = app.start(order, {"n": 4}, name="order-4")
        wait_until_waiting(app, waiting)
    return {"done": done.id, "failed": failed.id, "sleeping": sleeping.id, "waiting": waiting.id}


def wait_until_waiting(app: perdure.Perdure, execution: Any) -> None:
    import threading

    from perdure.service.views import waiting_on

    waits = threading.Event()
    execution.watch(lambda state, _events: waits.set() if waiting_on(state) else None)
    if not execution.describe().waiting_on:
        assert waits.wait(10)


def names(said: Any) -> list[str]:
    return [row[1] for row in said.rows]


# --- looking ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["order-4", "sleeper-3", "broken-2", "order-1"]),
        (["--reverse"], ["order-1", "broken-2", "sleeper-3", "order-4"]),
        (["--limit", "2"], ["order-4", "sleeper-3"]),
        (["order"], ["order-4", "order-1"]),
        (["--status", "FAILED", "--status", "succeeded"], ["broken-2", "order-1"]),
        (["--name", "order-*"], ["order-4", "order-1"]),
        (["--name", "*-[23]"], ["sleeper-3", "broken-2"]),
        (["--name", "order-4"], ["order-4"]),
        (["--waiting-on", "timer"], ["sleeper-3"]),
        (["--waiting-on", "callback"], ["order-4"]),
        (["--error", "value"], ["broken-2"]),
        (["--since", "1h"], ["order-4", "sleeper-3", "broken-2", "order-1"]),
        (["--until", "1h"], []),
        (["--all", "nobody"], []),
    ],
)
def test_executions_are_listed_by_what_is_asked_for(
    cli: Cli, ids: dict[str, str], arguments: list[str], expected: list[str]
) -> None:
    assert names(cli("execution", "list", *arguments, "-o", "tsv")) == expected


def test_a_list_is_a_table_or_json_with_the_names_of_the_api(cli: Cli, ids: dict[str, str]) -> None:
    table = cli("ls", "-o", "table").out
    assert "waiting on" in table
    assert "SUCCEEDED" in table
    found = cli("ls").json["DurableExecutions"]
    assert [item["DurableExecutionName"] for item in found] == ["order-4", "sleeper-3", "broken-2", "order-1"]
    assert found[3]["StartTimestamp"].endswith("Z")
    lines = cli("ls", "-o", "jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == found


def test_global_options_stand_anywhere(cli: Cli, ids: dict[str, str]) -> None:
    expected = names(cli("ls", "-o", "tsv"))
    assert names(cli("-o", "tsv", "execution", "list")) == expected
    assert names(cli("execution", "-o", "tsv", "list")) == expected


@pytest.mark.parametrize("form", ["id", "arn", "prefix", "function/name", "name", "@last", "upper"])
def test_an_execution_is_named_in_many_ways(cli: Cli, ids: dict[str, str], form: str) -> None:
    execution_id = ids["waiting"]
    arn = cli("execution", "get", execution_id).json["DurableExecutionArn"]
    word = {
        "id": execution_id,
        "arn": arn,
        "prefix": execution_id[:18],
        "function/name": "order/order-4",
        "name": "order-4",
        "@last": "@last",
        "upper": execution_id.upper(),
    }[form]
    assert cli("execution", "get", word).json["DurableExecutionArn"] == arn


def test_last_failed_is_the_newest_that_failed(cli: Cli, ids: dict[str, str]) -> None:
    assert cli("execution", "get", "@last-failed").json["DurableExecutionName"] == "broken-2"


@pytest.mark.parametrize(
    ("word", "code", "message"),
    [
        ("019ad735-8400-7d07-acd8-be6f9f6209c2", 3, "Durable Execution does not exist"),
        ("arn:aws:lambda:us-east-1:000000000000:function:order:$LATEST/durable-execution/x/y", 3, "does not exist"),
        ("arn:nonsense", 2, "Invalid Durable Execution ARN"),
        ("abc", 2, "'abc' is too short for the beginning of an id"),
        ("ffffffff", 3, "there is no execution 'ffffffff'"),
        ("nobody", 3, "there is no execution 'nobody'"),
        ("order/nobody", 3, "function 'order' has no execution named 'nobody'"),
        ("@first", 2, "'@first' is neither @last nor @last-failed"),
        ("../../etc", 3, "has no execution named"),
    ],
)
def test_an_execution_that_is_not_there_is_one_line_with_the_way_out(
    cli: Cli, ids: dict[str, str], word: str, code: int, message: str
) -> None:
    for verb in ("get", "history", "tree"):
        said = cli("execution", verb, word, code=code)
        assert message in said.err
        assert said.err.count("\n") == 1
        assert " Hint: " in said.err
        assert said.out == ""


def test_a_prefix_of_several_lists_them(cli: Cli, ids: dict[str, str]) -> None:
    said = cli("execution", "get", ids["done"][:6], code=2)
    assert "means more than one execution" in said.err
    assert ids["done"] in said.err


def test_get_says_what_is_to_be_known(cli: Cli, ids: dict[str, str]) -> None:
    summary = cli("execution", "get", "order-4", "-o", "summary").out
    for word in ("Status", "RUNNING", "Waiting on", "callback", "Pending", "barista", '{"n": 4}', "Times out"):
        assert word in summary
    document = cli("execution", "get", "order-1").json
    assert document["Result"] == '"a cortado"'
    assert document["ExecutionDataIncluded"] is True
    without = cli("execution", "get", "order-1", "--no-data").json
    assert "Result" not in without
    assert "InputPayload" not in without


def test_the_history_is_complete_in_both_directions(cli: Cli, ids: dict[str, str]) -> None:
    events = cli("execution", "history", "order-1").json["Events"]
    assert [event["EventId"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["EventType"] == "ExecutionSucceeded"
    assert cli("execution", "history", "order-1", "--reverse").json["Events"] == events[::-1]
    some = cli("execution", "history", "order-1", "--type", "stepsucceeded").json["Events"]
    assert [event["Name"] for event in some] == ["reserve", "inner"]
    table = cli("execution", "history", "order-1", "-o", "table").out
    assert '"reserved"' in table
    assert '"reserved"' not in cli("execution", "history", "order-1", "-o", "table", "--no-data").out
    assert "is no type of event" in cli("execution", "history", "order-1", "--type", "Step", code=2).err


def test_the_tree_shows_children_below_their_parents(cli: Cli, ids: dict[str, str]) -> None:
    lines = cli("execution", "tree", "order-1", "-o", "table").out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["reserve", "barista", "box", "inner"]
    assert lines[4].index("inner") == lines[3].index("box") + 2
    assert "inner" not in cli("execution", "tree", "order-1", "-o", "table", "--depth", "1").out
    assert "━" in cli("execution", "tree", "order-1", "-o", "table", "--timeline").out
    operations = cli("execution", "tree", "order-1").json["Operations"]
    assert operations[3]["ParentId"] == operations[2]["Id"]


# --- acting -------------------------------------------------------------------------------------------------------


def test_stop_asks_and_keeps_the_error(cli: Cli, ids: dict[str, str]) -> None:
    said = cli("execution", "stop", "order-4", code=2)
    assert "give -y to say yes" in said.err
    assert cli("execution", "get", "order-4").json["Status"] == "RUNNING"
    arguments = ["--error-message", "enough", "--error-type", "Closed", "--error-data", "x", "--stack-trace", "f"]
    cli("execution", "stop", "order-4", "-y", *arguments)
    document = cli("execution", "get", "order-4").json
    assert document["Status"] == "STOPPED"
    error = {"ErrorMessage": "enough", "ErrorType": "Closed", "ErrorData": "x", "StackTrace": ["f"]}
    assert document["Error"] == error
    assert "STOPPED before, and stays so" in cli("execution", "stop", "order-4", "-y").err


def test_several_are_stopped_at_once_and_none_if_one_is_not_there(cli: Cli, ids: dict[str, str]) -> None:
    cli("execution", "stop", "order-4", "nobody", "-y", code=3)
    assert cli("execution", "get", "order-4").json["Status"] == "RUNNING"
    documents = cli("execution", "stop", "order-4", "sleeper-3", "-y", "--json").json
    assert [document["Status"] for document in documents] == ["STOPPED", "STOPPED"]


def test_pause_and_resume(cli: Cli, ids: dict[str, str]) -> None:
    cli("execution", "pause", "sleeper-3", "--reason", "a look", "--keep-clock")
    details = cli("execution", "get", "sleeper-3").json["PauseDetails"]
    assert (details["Reason"], details["ExecutionTimeoutPaused"]) == ("a look", False)
    assert "only a RUNNING one can be paused" in cli("execution", "pause", "sleeper-3", code=5).err
    cli("execution", "resume", "sleeper-3", "--reason", "seen")
    assert cli("execution", "get", "sleeper-3").json["Status"] == "RUNNING"
    cli("execution", "resume", "sleeper-3", code=5)


def test_delete_removes_what_has_ended(cli: Cli, ids: dict[str, str]) -> None:
    assert "order-4" in cli("ls").out
    cli("execution", "delete", "order-4", "-y", code=5)
    cli("execution", "delete", "order-1", "-y")
    cli("execution", "get", "order-1", code=3)
    assert names(cli("ls", "-o", "tsv")) == ["order-4", "sleeper-3", "broken-2"]


# --- callbacks ----------------------------------------------------------------------------------------------------


def test_callbacks_are_listed_and_answered(cli: Cli, ids: dict[str, str], tmp_path: Path) -> None:
    (found,) = cli("callback", "list").json["Callbacks"]
    assert (found["DurableExecutionName"], found["Name"]) == ("order-4", "barista")
    assert cli("callback", "list", "--expiring", "30m").json["Callbacks"] == []
    assert (
        len(cli("callback", "list", "--expiring", "2h", "--function", "order", "--since", "1h").json["Callbacks"]) == 1
    )
    assert "order/order-4" in cli("callback", "list", "-o", "table").out
    cli("callback", "heartbeat", found["CallbackId"])
    (tmp_path / "answer.txt").write_text("a flat white")
    cli("callback", "succeed", found["CallbackId"], "-r", "@answer.txt")
    said = cli("callback", "succeed", found["CallbackId"], code=5)
    assert "Callback is already closed" in said.err
    assert cli("callback", "list", "-o", "tsv").rows == []
    (_, answered) = cli("execution", "tree", ids["waiting"]).json["Operations"]
    assert (answered["Status"], answered["CallbackDetails"]["Result"]) == ("SUCCEEDED", "a flat white")


def test_a_callback_is_failed_with_an_error(cli: Cli, ids: dict[str, str]) -> None:
    (found,) = cli("callback", "list").json["Callbacks"]
    cli("callback", "fail", found["CallbackId"], "--error-message", "out of beans", "--error-type", "Beans")
    operations = cli("execution", "tree", "order-4").json["Operations"]
    assert operations[1]["Status"] == "FAILED"
    assert operations[1]["CallbackDetails"]["Error"] == {"ErrorMessage": "out of beans", "ErrorType": "Beans"}


@pytest.mark.parametrize("verb", ["succeed", "fail", "heartbeat"])
def test_what_is_no_callback_is_refused(cli: Cli, ids: dict[str, str], verb: str) -> None:
    assert "Invalid callback id" in cli("callback", verb, "nonsense", code=2).err


@pytest.fixture
def owner(cli: Cli) -> Iterator[perdure.Perdure]:
    """An engine that owns the store while commands come from outside."""
    with perdure.open("sqlite:///perdure.db", FUNCTIONS) as app:
        yield app


def test_an_owner_hears_of_what_operators_do(cli: Cli, owner: perdure.Perdure) -> None:
    waiting = owner.start(order, {"n": 1}, name="order-1")
    wait_until_waiting(owner, waiting)
    (found,) = cli("callback", "list").json["Callbacks"]
    cli("callback", "succeed", found["CallbackId"], "-r", "yes")
    assert waiting.result(10) == "yes"
    sleeping = owner.start(sleeper, {"n": 2}, name="sleeper-2")
    wait_until_waiting(owner, sleeping)
    cli("execution", "stop", "sleeper-2", "-y")
    assert sleeping.wait(10)
    assert sleeping.status == "STOPPED"


# --- the command itself -------------------------------------------------------------------------------------------


def test_without_a_store_there_is_nothing_to_see_and_none_is_made(cli: Cli, tmp_path: Path) -> None:
    for command in (("ls",), ("execution", "get", "@last"), ("callback", "list"), ("execution", "stop", "x", "-y")):
        said = cli(*command, "--store", "perdure.db", code=3)
        assert "there is no store at perdure.db. Hint: `perdure run` makes one" in said.err
    assert list(tmp_path.iterdir()) == []


def test_an_empty_store_has_no_last(cli: Cli) -> None:
    perdure.open("sqlite:///perdure.db").close()
    assert "nothing has been started" in cli("execution", "get", "@last", code=3).err
    assert "no execution has failed" in cli("execution", "get", "@last-failed", code=3).err
    assert cli("ls").json == {"DurableExecutions": []}
    assert cli("ls", "-o", "table").err == "no executions\n"


def test_the_store_is_named_by_option_or_variable(
    cli: Cli, in_file: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "perdure.db").rename(tmp_path / "other.db")
    assert len(cli("ls", "-o", "tsv", "--store", "sqlite:///other.db").rows) == 4
    monkeypatch.setenv("PERDURE_STORE", str(tmp_path / "other.db"))
    assert len(cli("ls", "-o", "tsv").rows) == 4


def test_a_word_that_is_no_command_says_what_is_near(cli: Cli) -> None:
    assert "did you mean 'execution'?" in cli("exection", code=2).err
    assert "did you mean 'history'?" in cli("execution", "histroi", "x", code=2).err
    assert "--sttus" in cli("ls", "--sttus", code=2).err


def test_help_names_every_command(cli: Cli) -> None:
    shown = cli("--help").out
    for word in ("run", "execution", "callback", "completion", "Options of every command"):
        assert word in shown
    assert "--waiting-on" in cli("execution", "list", "-h").out
    assert cli("--version").out.startswith("perdure ")
    cli(code=2)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(cli: Cli, shell: str) -> None:
    assert "_PERDURE_COMPLETE" in cli("completion", shell).out


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("execution get @", "@last-failed"), ("exec", "execution"), ("execution list --st", "--status")],
)
def test_words_and_ids_are_completed(
    cli: Cli, ids: dict[str, str], monkeypatch: pytest.MonkeyPatch, typed: str, expected: str
) -> None:
    assert expected in complete(typed)


def test_the_ids_of_executions_and_callbacks_and_the_names_of_functions_are_completed(
    cli: Cli, ids: dict[str, str]
) -> None:
    assert set(ids.values()) <= set(complete("execution get "))
    (found,) = cli("callback", "list").json["Callbacks"]
    assert complete("callback succeed ") == [found["CallbackId"]]


def test_names_of_functions_are_completed(cli: Cli, in_file: dict[str, str]) -> None:
    assert complete("execution list s") == ["sleeper"]


def test_completion_without_a_store_is_silent(cli: Cli) -> None:
    assert complete("callback succeed ") == []


def complete(typed: str) -> list[str]:
    from click.shell_completion import ShellComplete

    from perdure.cli.main import root

    *before, last = typed.split(" ")
    found = ShellComplete(root, {}, "perdure", "_PERDURE_COMPLETE").get_completions(before, last)
    return [item.value for item in found]


def test_what_operators_did_to_a_file_is_on_record_without_payloads(cli: Cli, in_file: dict[str, str]) -> None:
    ids = in_file
    cli("execution", "pause", ids["waiting"])
    cli("execution", "resume", ids["waiting"])
    callback_id = cli("callback", "list", "-o", "json").json["Callbacks"][0]["CallbackId"]
    cli("callback", "succeed", callback_id, "-r", "a secret")
    cli("execution", "stop", ids["sleeping"], "-y")
    said = cli("audit", "-o", "json")
    assert [(entry["EventName"], entry["Resource"].rpartition("/")[2]) for entry in said.json["Entries"]] == [
        ("StopDurableExecution", ids["sleeping"]),
        ("SendDurableExecutionCallbackSuccess", ids["waiting"]),
        ("ResumeDurableExecution", ids["waiting"]),
        ("PauseDurableExecution", ids["waiting"]),
    ]
    assert "secret" not in said.out
    assert callback_id not in said.out
