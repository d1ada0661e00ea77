"""`perdure run`: one execution here, its result on stdout, and what was cut off goes on."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import perdure
from cli.conftest import Cli


def ran(folder: Path) -> list[str]:
    return (folder / "ran.txt").read_text().split() if (folder / "ran.txt").exists() else []


def test_the_result_is_all_that_goes_to_stdout(cli: Cli, orders: Path) -> None:
    said = cli("run", f"{orders}:handler", "-e", '{"order": 7}')
    assert said.json == {"order": 7, "answer": "nobody"}
    assert "a word on stdout" in said.err
    assert "reserve: succeeded" in said.err
    assert "execution succeeded" in said.err


def test_a_module_is_found_in_the_current_folder(cli: Cli, orders: Path) -> None:
    assert cli("run", f"{orders.stem}:handler").json == {"order": None, "answer": "nobody"}


def test_without_a_name_the_handler_called_handler_is_meant(cli: Cli, orders: Path) -> None:
    assert cli("run", orders.name).json["answer"] == "nobody"


def test_the_event_comes_from_a_file_or_from_stdin(
    cli: Cli, orders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "event.json").write_text('{"order": 8}')
    assert cli("run", orders.name, "-e", "@event.json").json["order"] == 8
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"order": 9}'))
    assert cli("run", orders.name, "-e", "-").json["order"] == 9


def test_a_run_at_a_callback_leaves_with_7_and_goes_on_with_the_same_command(
    cli: Cli, orders: Path, tmp_path: Path
) -> None:
    command = ("run", orders.name, "-e", '{"ask": true}')
    said = cli(*command, code=7)
    assert said.out == ""
    callback_id = (tmp_path / "id.txt").read_text()
    assert f"perdure callback succeed {callback_id}" in said.err
    cli(*command, code=7)
    cli("callback", "succeed", callback_id, "-r", "a cortado")
    said = cli(*command)
    assert said.json["answer"] == "a cortado"
    assert "goes on after" in said.err
    assert ran(tmp_path) == ["reserve", "serve"]
    assert len(cli("ls", "-o", "tsv").rows) == 1
    cli("run", orders.name, "-e", '{"ask": true}', code=7)
    assert len(cli("ls", "-o", "tsv").rows) == 2, "the next run begins anew once the last has ended"


def test_new_begins_beside_an_unfinished_run(cli: Cli, orders: Path) -> None:
    command = ("run", orders.name, "-e", '{"ask": true}')
    cli(*command, code=7)
    cli(*command, "--new", code=7)
    assert len(cli("ls", "-o", "tsv").rows) == 2


def test_a_name_is_run_once(cli: Cli, orders: Path, tmp_path: Path) -> None:
    first = cli("run", orders.name, "-e", '{"order": 1}', "--name", "order-1")
    again = cli("run", orders.name, "-e", '{"order": 1}', "--name", "order-1")
    assert again.out == first.out
    assert "has ended SUCCEEDED" in again.err
    assert ran(tmp_path) == ["reserve", "serve"]


def test_a_name_with_another_event_is_refused(cli: Cli, orders: Path, tmp_path: Path) -> None:
    cli("run", orders.name, "-e", '{"order": 1}', "--name", "order-1")
    said = cli("run", orders.name, "-e", '{"order": 2}', "--name", "order-1", code=5)
    assert said.err.count("\n") == 1
    assert "'order-1' is taken" in said.err
    assert "Hint: use another name" in said.err
    assert ran(tmp_path) == ["reserve", "serve"]


def test_a_run_that_is_given_no_time_can_be_gone_on_with(cli: Cli, orders: Path, tmp_path: Path) -> None:
    said = cli("run", f"{orders.name}:sleeps", "--timeout", "0.2", code=6)
    assert "has not ended in time. Hint: go on with: perdure" in said.err
    assert ran(tmp_path) == ["before"]


def test_an_execution_that_fails_is_one_line_and_1(cli: Cli, orders: Path) -> None:
    said = cli("run", f"{orders.name}:fails", "-q", code=1)
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert "ended FAILED: ValueError: no milk left. Hint: `perdure execution history" in said.err


def test_the_whole_execution_is_a_document_if_asked_for(cli: Cli, orders: Path) -> None:
    document = cli("run", orders.name, "-e", '{"order": 7}', "-o", "json").json
    assert document["Status"] == "SUCCEEDED"
    assert json.loads(document["Result"])["order"] == 7
    document = json.loads(cli("run", f"{orders.name}:fails", "--json", code=1).out)
    assert document["Status"] == "FAILED"
    assert document["Error"]["ErrorType"] == "ValueError"


def test_the_history_is_shown_if_asked_for(cli: Cli, orders: Path) -> None:
    said = cli("run", f"{orders.name}:retried", "--show-history")
    assert said.json == [2, "deep"]
    for word in ("ExecutionStarted", "StepFailed", "no luck", "ContextSucceeded", "ExecutionSucceeded"):
        assert word in said.err


def test_a_run_that_ends_before_it_is_looked_at_is_not_begun_again(
    cli: Cli, orders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is gone on with as soon as the store is open, and may have ended a moment later."""
    cli("run", orders.name, "-e", '{"ask": true}', code=7)
    cli("callback", "succeed", (tmp_path / "id.txt").read_text(), "-r", "ana")

    def opened_and_ended(url: str, functions: Any) -> Any:
        app = perdure.open(url, functions)
        for row in app.list():
            assert app.execution(row.execution_id).wait(10)
        return app

    monkeypatch.setattr("perdure.cli.run.open_perdure", opened_and_ended)
    assert cli("run", orders.name, "-e", '{"ask": true}', "-q").json["answer"] == "ana"
    assert len(cli("ls").json["DurableExecutions"]) == 1


def test_a_change_of_code_that_breaks_replay_is_8_and_says_what_differs(cli: Cli, orders: Path, tmp_path: Path) -> None:
    cli("run", orders.name, "-e", '{"ask": true}', code=7)
    changed = orders.read_text().replace('context.step(lambda _: note("reserve"), name="reserve")', "context.wait(1)")
    sys.modules.pop(orders.stem)
    orders.write_text(changed)
    cli("callback", "succeed", (tmp_path / "id.txt").read_text())
    said = cli("run", orders.name, "-e", '{"ask": true}', "-q", code=8)
    assert "diverged at operation 1: the journal has STEP 'reserve', the code asked for WAIT" in said.err
    assert ran(tmp_path) == ["reserve"]


PLAIN = "def plain(event, context): return 1\nLIST = [1]\n"


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        (PLAIN, ["x.py:plain"], "x.py:plain is not durable. Hint: mark it with @durable_execution"),
        (PLAIN, ["x.py:LIST"], "x.py:LIST is a list"),
        (PLAIN, ["x.py:other"], "x.py has no 'other'"),
        (PLAIN, ["x.py"], "x.py does not say which handler is meant; its durable functions: none"),
        (PLAIN, ["y.py:plain"], "there is no file y.py"),
        (PLAIN, ["no_such_module_here:plain"], "there is no module 'no_such_module_here'"),
        ("import no_such_module_here", ["x.py:plain"], "x.py can't be imported: ModuleNotFoundError"),
        ("\n\ndef (", ["x.py:plain"], "SyntaxError: invalid syntax (x.py, line 3)"),
        ("raise SystemExit(3)", ["x.py:plain"], "x.py can't be imported: SystemExit: 3 (x.py, line 1)"),
    ],
)
def test_a_handler_that_can_not_be_loaded_is_2_and_nothing_is_written(
    cli: Cli, tmp_path: Path, source: str, arguments: list[str], message: str
) -> None:
    (tmp_path / "x.py").write_text(source)
    said = cli("run", *arguments, code=2)
    sys.modules.pop("x", None)
    assert message in said.err
    assert said.err.count("\n") == 1
    assert " Hint: " in said.err
    assert not list(tmp_path.glob("*.db*"))


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ("{a", "the event in --event is not JSON"),
        ("NaN", "NaN is not JSON"),
        ("@missing.json", "the event file missing.json can't be read: No such file"),
        ("@latin.json", "the event file latin.json is no UTF-8 text"),
        ("@big.json", "the event has 6291458 bytes; at most 6291456 are possible"),
    ],
)
def test_an_event_that_can_not_be_is_2_and_nothing_is_written(
    cli: Cli, orders: Path, tmp_path: Path, event: str, message: str
) -> None:
    (tmp_path / "latin.json").write_bytes(b'"\xe9"')
    (tmp_path / "big.json").write_text(f'"{"x" * 6_291_456}"')
    said = cli("run", orders.name, "-e", event, code=2)
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not list(tmp_path.glob("*.db*"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("context.wait(0)", "ValidationError: seconds must be from 1 to 31622400, not 0"),
        ("return object()", "a value of type builtins.object can't be written as JSON"),
        ("return 'x' * 17_000_000", "16777216"),
        ("context.step(lambda _: object(), name='odd')", "object"),
    ],
)
def test_what_the_handler_can_not_do_ends_it_and_is_not_recorded(
    cli: Cli, tmp_path: Path, body: str, message: str
) -> None:
    name = f"odd_{abs(hash(body))}"
    (tmp_path / f"{name}.py").write_text(
        f"from perdure import durable_execution\n\n@durable_execution\ndef handler(event, context):\n    {body}\n"
    )
    said = cli("run", f"{name}.py", "-q", code=1)
    assert message in said.err
    assert said.err.count("\n") == 1
    history = cli("execution", "history", "@last", "--json").json["Events"]
    assert history[-1]["EventType"] == "ExecutionFailed"
    assert not any(event["EventType"] in ("WaitStarted", "StepSucceeded") for event in history)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello, I am a letter to grandmother and no database at all", "is not a store of Perdure's"),
        (b"SQLite format 3\x00" + bytes(84), "is a SQLite database, but not one of Perdure's"),
    ],
)
def test_a_file_that_is_no_store_stays_as_it_is(
    cli: Cli, orders: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "letter.db").write_bytes(content)
    for command in (("run", orders.name), ("ls",), ("execution", "stop", "@last", "-y")):
        said = cli(*command, "--store", "letter.db", code=2)
        assert message in said.err
        assert said.err.count("\n") == 1
    assert (tmp_path / "letter.db").read_bytes() == content


def test_errors_are_json_if_json_is_asked_for(cli: Cli, orders: Path) -> None:
    said = cli("run", "nowhere.py", "--json", code=2)
    error: dict[str, Any] = json.loads(said.err)["error"]
    assert error["type"] == "HandlerNotLoaded"
    assert error["exit_code"] == 2
    assert error["message"] == "there is no file nowhere.py"
    assert error["hint"]


def test_a_store_that_another_engine_holds_is_5_and_says_who(cli: Cli, orders: Path) -> None:
    import perdure

    with perdure.open("sqlite:///perdure.db"):
        said = cli("run", orders.name, code=5)
    assert "perdure.db is in use by process" in said.err
