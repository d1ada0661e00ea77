"""Which place a command works at, what it says of servers that are not there or refuse, and how it signs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Cli
from perdure import DurableContext, Duration, durable_execution
from perdure.identity import keys
from perdure.server.node import Node
from perdure.service.starting import StartRequest
from perdure.store.memory import MemoryStore
from perdure.store.open import open_store
from support.scripted_http import Answer, scripted


@durable_execution(name="sleeper")
def sleeper(event: Any, context: DurableContext) -> None:
    context.wait(Duration.from_hours(1), name="night")


@pytest.fixture
def server(cli: Cli) -> Iterator[str]:
    """The URL of a server without executions."""
    with Node(MemoryStore()) as node:
        yield node.url


@pytest.fixture
def nobody() -> str:
    """The URL of a server that has stopped."""
    with scripted() as server:
        return server.url


def empty_file(name: str = "perdure.db") -> None:
    open_store(name).close()


# --- where --------------------------------------------------------------------------------------------------------


def test_a_file_in_the_folder_is_worked_on_unless_an_endpoint_is_named(
    cli: Cli, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_file()
    assert cli("ls").json == {"DurableExecutions": []}
    assert nobody in cli("ls", "--endpoint", nobody, code=4).err
    monkeypatch.setenv("PERDURE_ENDPOINT", nobody)
    assert nobody in cli("ls", code=4).err
    assert cli("ls", "--store", "perdure.db").json == {"DurableExecutions": []}


def test_without_a_file_the_server_is_asked(cli: Cli, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_ENDPOINT", server)
    assert cli("ls").json == {"DurableExecutions": []}
    assert cli("callback", "list").json == {"Callbacks": []}
    assert f"nothing has been started at {server}" in cli("execution", "get", "@last", code=3).err
    assert list(Path().glob("*.db")) == []


def test_of_the_variables_that_of_the_endpoint_counts_and_an_option_counts_more(
    cli: Cli, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_file("elsewhere.db")
    monkeypatch.setenv("PERDURE_STORE", "elsewhere.db")
    assert cli("ls").json == {"DurableExecutions": []}
    monkeypatch.setenv("PERDURE_ENDPOINT", nobody)
    cli("ls", code=4)
    cli("ls", "--store", "elsewhere.db")


def test_both_at_once_are_refused(cli: Cli) -> None:
    said = cli("ls", "--store", "perdure.db", "--endpoint", "http://127.0.0.1:1", code=2)
    assert "--store and --endpoint can't both be given" in said.err


def test_an_endpoint_that_is_none_is_refused(cli: Cli) -> None:
    assert "an endpoint must be http://HOST:PORT" in cli("ls", "--endpoint", "localhost:9014", code=2).err


def test_the_project_names_an_endpoint(cli: Cli, nobody: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty_file()
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.perdure]\nendpoint = "{nobody}"\n[tool.perdure.file]\nregion = "x"'
    )
    (tmp_path / "inner").mkdir()
    assert nobody in cli("ls", code=4).err
    monkeypatch.chdir(tmp_path / "inner")
    assert nobody in cli("ls", code=4).err
    empty_file("../other.db")
    cli("ls", "--store", "../other.db")


def test_a_profile_of_the_user_names_an_endpoint(cli: Cli, server: str, tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "perdure"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f'[prod]\nendpoint = "{server}"\n')
    empty_file()
    assert f"at {server}" in cli("execution", "get", "@last", "--profile", "prod", code=3).err
    assert "in perdure.db" in cli("execution", "get", "@last", code=3).err
    assert "there is no profile 'staging'" in cli("ls", "--endpoint", server, "--profile", "staging", code=2).err


def test_a_configuration_that_can_not_be_read_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.perdure]\nendpoint = ")
    said = cli("ls", code=2)
    assert "pyproject.toml can't be read" in said.err


# --- servers that are not there, or refuse ------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_one_line_with_the_way_out(cli: Cli, nobody: str) -> None:
    """CLI 27"""
    said = cli("execution", "get", "@last", "--endpoint", nobody, code=4)
    assert said.err.startswith(f"error: no answer from {nobody}: connection refused. Hint: `perdure serve` starts")
    assert said.err.count("\n") == 1
    assert said.out == ""
    document = cli("ls", "--endpoint", nobody, "-o", "json", code=4).error
    assert (document["type"], document["exit_code"]) == ("Unreachable", 4)


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (Answer(404, b"<html>"), 4, "the server does not know what was asked of it"),
        (Answer(404, {"message": "no"}, (("x-amzn-ErrorType", "UnknownOperationException"),)), 4, "may be older"),
        (Answer(200, b"hello"), 4, "is no JSON object"),
        (Answer(403, {"message": "no"}, (("x-amzn-ErrorType", "AccessDeniedException"),)), 10, "error: no."),
        (Answer(409, {"message": "taken"}, (("x-amzn-ErrorType", "ResourceConflictException"),)), 5, "taken"),
        (Answer(418, {"message": "tea"}, (("x-amzn-ErrorType", "Teapot"),)), 2, "tea"),
        (Answer(200, {"DurableExecutions": [{"DurableExecutionArn": "x"}]}), 4, "can't be read: Invalid Durable"),
    ],
)
def test_what_a_server_says_is_an_exit_code(cli: Cli, answer: Answer, code: int, text: str) -> None:
    with scripted(answer) as server:
        assert text in cli("ls", "--endpoint", server.url, code=code).err


def test_a_fault_of_the_server_s_own_is_told_with_where_to_look(cli: Cli) -> None:
    fault = Answer(500, {"Message": "ouch"}, (("x-amzn-ErrorType", "ServiceException"), ("x-amzn-RequestId", "r-7")))
    with scripted(fault, fault, fault) as server:
        assert "error: ouch. Hint: the server's log has r-7." in cli("ls", "--endpoint", server.url, code=70).err


# --- keys ---------------------------------------------------------------------------------------------------------


def test_requests_are_signed_with_the_key_that_is_found(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    key, secret = keys.create_key(store, "ana", ("read-only",), 0, None)
    with Node(store, handlers={"sleeper": sleeper}) as node:
        monkeypatch.setenv("PERDURE_ENDPOINT", node.url)
        said = cli("ls", code=10)
        assert "Missing Authentication Token. Hint: set PERDURE_ACCESS_KEY_ID and PERDURE_SECRET_ACCESS_KEY" in said.err

        (tmp_path / ".aws-credentials").write_text(
            f"[perdure]\naws_access_key_id = {key.key_id}\naws_secret_access_key = {secret}\n"
        )
        cli("ls", "--profile", "perdure")

        monkeypatch.setenv("PERDURE_ACCESS_KEY_ID", key.key_id)
        monkeypatch.setenv("PERDURE_SECRET_ACCESS_KEY", secret)
        cli("ls")
        node.service.start([StartRequest(function="sleeper", version="$LATEST")])
        said = cli("execution", "stop", "@last", "-y", code=10)
        assert "not authorized to perform: lambda:StopDurableExecution" in said.err

        monkeypatch.setenv("PERDURE_SECRET_ACCESS_KEY", "another")
        assert "signature" in cli("ls", code=10).err

        monkeypatch.delenv("PERDURE_SECRET_ACCESS_KEY")
        assert "PERDURE_ACCESS_KEY_ID is set and PERDURE_SECRET_ACCESS_KEY is not" in cli("ls", code=2).err


def test_a_key_in_the_configuration_is_one_of_its_profile(cli: Cli, tmp_path: Path) -> None:
    store = MemoryStore()
    key, secret = keys.create_key(store, "ana", ("read-only",), 0, None)
    folder = tmp_path / ".config" / "perdure"
    folder.mkdir(parents=True)
    with Node(store) as node:
        lines = [f'endpoint = "{node.url}"', f'access_key_id = "{key.key_id}"', f'secret_access_key = "{secret}"']
        (folder / "config.toml").write_text("\n".join(["[prod]", *lines]))
        assert cli("ls", "--profile", "prod").json == {"DurableExecutions": []}


# --- what is written ----------------------------------------------------------------------------------------------


def test_a_part_of_the_data_is_asked_for_with_jmespath(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with Node(MemoryStore(), handlers={"sleeper": sleeper}) as node:
        monkeypatch.setenv("PERDURE_ENDPOINT", node.url)
        for name in ("one", "two"):
            node.service.start([StartRequest(function="sleeper", version="$LATEST", name=name)])
        names = "DurableExecutions[].DurableExecutionName"
        assert cli("ls", "--query", names).json == ["two", "one"]
        assert cli("ls", "--query", names, "-o", "tsv").out == "two\none\n"
        assert cli("ls", "--query", names, "-o", "jsonl").out == '"two"\n"one"\n'
        assert cli("ls", "--query", names, "-o", "yaml").out == "- two\n- one\n"
        wanted = "DurableExecutions[].[DurableExecutionName, Status]"
        assert cli("ls", "--query", wanted, "-o", "tsv").out == "two\tRUNNING\none\tRUNNING\n"
        assert cli("execution", "get", "sleeper/two", "--query", "Status", "-o", "tsv").out == "RUNNING\n"
        assert cli("execution", "stop", "sleeper/two", "-y", "--query", "Status").json == "STOPPED"
        assert "can't be" in cli("ls", "--query", "[", code=2).err


def test_data_can_be_yaml(cli: Cli, server: str) -> None:
    assert cli("ls", "--endpoint", server, "-o", "yaml").out == "DurableExecutions: []\n"
