"""`perdure function …`: deploying, versions, aliases, and waiting for old versions to have nothing to do."""

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import Cli
from perdure.cli.exits import CliError
from perdure.cli.source import Source, read_source
from perdure.server.node import Node
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Page, Query
from support.scripted_http import Answer, scripted

CODE = """
import os
from perdure import DurableContext, durable_execution
from prices import price


@durable_execution(name="orders")
def handler(event, context: DurableContext):
    found = context.step(lambda _: price(event.get("sku")), name="quote")
    if event.get("ask"):
        context.create_callback("approve").result()
    return {"price": found, "stage": os.environ.get("STAGE")}
"""
PRICES = "def price(sku):\n    return 7\n"
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def node(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    with Node(MemoryStore()) as node:
        monkeypatch.setenv("PERDURE_ENDPOINT", node.url)
        yield node


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder of code, below the one that commands are typed in."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "orders.py").write_text(CODE)
    (folder / "prices.py").write_text(PRICES)
    return folder


# --- deploying ----------------------------------------------------------------------------------------------------


def test_code_is_deployed_and_runs(cli: Cli, node: Node, app: Path) -> None:
    said = cli("function", "deploy", "app/orders.py", "--env", "STAGE=test", "--execution-timeout", "90d")
    assert said.err == "orders is made: version $LATEST\n"
    assert said.out == ""
    assert cli("invoke", "orders", "-e", '{"sku": "tea"}').json == {"price": 7, "stage": "test"}
    found = cli("function", "get", "orders").json["Configuration"]
    assert (found["Runtime"], found["Handler"]) == (RUNTIME, "orders.handler")
    assert found["DurableConfig"] == {"ExecutionTimeout": 90 * 86_400, "RetentionPeriodInDays": 14}
    assert "executions end after 90 d and are kept for 14 days" in cli("function", "get", "orders", "-o", "summary").out


def test_what_has_not_changed_is_not_sent_again_and_what_has_is(cli: Cli, node: Node, app: Path) -> None:
    cli("function", "deploy", "app/orders.py", "--memory", "256")
    first = cli("function", "deploy", "app/orders.py", "-o", "json")
    assert "the code has not changed" in first.err
    assert first.json["MemorySize"] == 256
    again = cli("function", "deploy", "app", "--memory", "512", "--timeout", "30s", "-o", "json").json
    assert (again["MemorySize"], again["Timeout"]) == (512, 30)
    assert again["CodeSha256"] == first.json["CodeSha256"]
    (app / "prices.py").write_text("def price(sku):\n    return 8\n")
    cli("function", "deploy", "app/orders.py")
    assert cli("invoke", "orders").json["price"] == 8


def test_code_that_open_executions_can_not_go_on_with_is_not_deployed(
    cli: Cli, node: Node, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[T62]"""

    def deploy(code: str, expected: int = 0) -> str:
        for module in ("orders", "prices"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        (app / "orders.py").write_text(code)
        return cli("function", "deploy", "app/orders.py", "--check", code=expected).err

    assert "orders is made" in deploy(CODE)
    cli("invoke", "orders", "-e", '{"ask": true}', "-n", "open-one", code=7)
    assert "orders is up to date" in deploy(CODE + "# a remark\n")
    said = deploy(CODE.replace('"quote"', '"offer"'), 8)
    assert "orders was not deployed: 1 of 1 open executions can't go on" in said
    assert "STEP 'quote'" in said
    assert "STEP 'offer'" in said
    stored = cli("function", "get", "orders").json["Configuration"]["CodeSha256"]
    deploy(CODE + "# a remark\n")
    assert cli("function", "get", "orders").json["Configuration"]["CodeSha256"] == stored
    assert (
        "--check runs the code here"
        in cli(
            "function",
            "deploy",
            "app",
            "--handler",
            "x.main",
            "--name",
            "x",
            "--check",
            "--durable",
            "--runtime",
            "nodejs22.x",
            code=2,
        ).err
    )


def test_an_alias_names_the_version_that_was_deployed(cli: Cli, node: Node, app: Path) -> None:
    assert "version 1, which live names" in cli("function", "deploy", "app", "--alias", "live").err
    assert "version 1, which live names" in cli("function", "deploy", "app", "--alias", "live").err
    (app / "prices.py").write_text("def price(sku):\n    return 8\n")
    assert "version 2, which live names" in cli("function", "deploy", "app", "--alias", "live").err
    assert "orders is up to date: version 2\n" in cli("function", "deploy", "app", "--publish").err
    assert cli("invoke", "orders:live").json["price"] == 8
    assert cli("invoke", "orders:1").json["price"] == 7


def test_options_say_what_the_code_does_not(cli: Cli, node: Node, app: Path) -> None:
    (app / "plain.py").write_text("def main(event, context):\n    return event\n")
    assert "what shall app be called" in cli("function", "deploy", "app", "--handler", "x.main", code=2).err
    said = cli("function", "deploy", "app", "--handler", "x.main", "--name", "x", code=2)
    assert "does not say which --runtime it has" in said.err
    arguments = ["app", "--handler", "x.main", "--name", "x", "--runtime", RUNTIME]
    assert "say --durable or --plain" in cli("function", "deploy", *arguments, code=2).err
    cli("function", "deploy", *arguments, "--plain")
    assert "DurableConfig" not in cli("function", "get", "x").json["Configuration"]
    cli("function", "deploy", "app/plain.py:main", "--role", "shop", "--description", "echoes")
    found = cli("function", "get", "plain-main").json["Configuration"]
    assert found["Role"] == "arn:aws:iam::000000000000:role/shop"
    assert "DurableConfig" not in found
    assert cli("invoke", "plain-main", "-e", "[1]").json == [1]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["nowhere"], 3, "there is no code at nowhere"),
        (["app", "--env", "X"], 2, "'X' is not KEY=VALUE"),
        (["app", "--timeout", "0"], 2, "must be at least 1 second"),
        (["app", "--timeout", "soon"], 2, "is no duration"),
        (["app", "--plain", "--retention-days", "3"], 2, "are for durable functions"),
        (["app", "--runtime", "cobol85"], 2, "Runtime must be one of"),
    ],
)
@pytest.mark.usefixtures("node", "app")
def test_what_can_not_be_deployed_is_said(cli: Cli, arguments: list[str], code: int, text: str) -> None:
    assert text in cli("function", "deploy", *arguments, code=code).err


def test_a_durable_function_stays_one(cli: Cli, node: Node, app: Path) -> None:
    cli("function", "deploy", "app")
    assert "orders is durable, and stays so" in cli("function", "deploy", "app", "--plain", code=5).err
    (app / "orders.py").write_text("def handler(event, context):\n    return 1\n")
    said = cli("function", "deploy", "app/orders.py", "--name", "orders", code=5)
    assert "orders is durable, and orders.handler is not" in said.err


# --- what is seen in code -----------------------------------------------------------------------------------------


def test_a_file_a_module_and_a_folder_mean_the_same(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(app)
    expected = Source(code=Path(), handler="orders.handler", name="orders", runtime=RUNTIME, is_durable=True)
    for reference in ("orders.py", "orders", "orders:handler", ".", ".:orders.handler"):
        assert read_source(reference) == expected


def test_a_module_in_a_package_is_packed_with_the_package(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(app.parent)
    assert read_source("app.orders") == Source(
        code=Path(), handler="app.orders.handler", name="orders", runtime=RUNTIME, is_durable=True
    )


def test_a_durable_function_without_a_name_is_called_by_its_file_and_function(app: Path) -> None:
    (app / "two.py").write_text(
        "import perdure\n\n@perdure.durable_execution\nasync def first(event, context): ...\n"
        "@perdure.durable_execution(name='other')\ndef second(event, context): ...\n"
    )
    assert read_source(f"{app}/two.py:first").name == "two-first"
    assert read_source(f"{app}/two.py:second").name == "other"
    with pytest.raises(CliError, match=r"two\.py has first, second"):
        read_source(f"{app}/two.py")
    with pytest.raises(CliError, match=r"several durable functions: orders\.handler, two\.first, two\.second"):
        read_source(str(app))


def test_a_script_is_durable_if_it_says_so(app: Path) -> None:
    (app / "index.mjs").write_text("export const handler = withDurableExecution(async (event, context) => 1)\n")
    (app / "plain.mjs").write_text("export const handler = async (event) => 1\n")
    found = read_source(f"{app}/index.mjs")
    assert (found.handler, found.name, found.runtime) == ("index.handler", "index-handler", "nodejs22.x")
    assert found.is_durable is True
    assert read_source(f"{app}/plain.mjs:handler").is_durable is False
    assert read_source(str(app), "index.handler").is_durable is True


def test_a_zip_file_says_nothing_of_itself(app: Path) -> None:
    package = app / "package.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("orders.py", CODE)
    assert read_source(str(package)) == Source(code=package)
    assert read_source(f"{package}:orders.handler").handler == "orders.handler"


@pytest.mark.parametrize(("text", "message"), [("def f(:\n", "can't be read"), ("x = 1\n", "has no function that")])
def test_code_that_says_nothing_is_named(app: Path, text: str, message: str) -> None:
    (app / "odd.py").write_text(text)
    with pytest.raises(CliError, match=message):
        read_source(f"{app}/odd.py")


# --- versions and aliases -----------------------------------------------------------------------------------------


def test_functions_versions_and_aliases_are_listed(cli: Cli, node: Node, app: Path) -> None:
    assert cli("function", "list", "-o", "table").err == "no functions; `perdure function deploy` makes one\n"
    cli("function", "deploy", "app", "--alias", "live")
    assert cli("function", "list", "-o", "tsv").rows[0][:4] == ["orders", "yes", RUNTIME, "orders.handler"]
    assert [row[1] for row in cli("function", "ls", "--all-versions", "-o", "tsv").rows] == ["$LATEST", "1"]
    assert [row[:2] for row in cli("function", "versions", "orders", "-o", "tsv").rows] == [
        ["$LATEST", ""],
        ["1", "live"],
    ]
    assert cli("function", "alias", "orders", "-o", "tsv").rows == [["live", "1", "", ""]]
    assert cli("function", "get", "orders:live").json["Configuration"]["Version"] == "1"
    assert "nobody" in cli("function", "get", "nobody", code=3).err


def test_an_alias_is_set_with_shares_shown_and_removed(cli: Cli, node: Node, app: Path) -> None:
    cli("function", "deploy", "app", "--publish")
    (app / "prices.py").write_text("def price(sku):\n    return 8\n")
    cli("function", "deploy", "app", "--publish")
    cli("function", "alias", "orders", "live", "1")
    found = cli("function", "alias", "orders", "live", "1", "--weight", "2=0.25", "-o", "summary").out
    assert found == "live: version 1, and 2 (25%)\n"
    cli("function", "alias", "orders", "live", "--description", "what shops call")
    assert cli("function", "alias", "orders", "live").json["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.25}}
    assert cli("function", "alias", "orders", "live", "2", "-o", "summary").out == "live: version 2\n"
    assert "is not VERSION=SHARE" in cli("function", "alias", "orders", "live", "1", "--weight", "2", code=2).err
    cli("function", "alias", "orders", "live", "--delete")
    cli("function", "alias", "orders", "live", code=3)


def test_what_is_there_is_published(cli: Cli, node: Node, app: Path) -> None:
    cli("function", "deploy", "app")
    assert cli("function", "publish", "orders", "--description", "first", "-o", "summary").out == "orders:1\n"
    assert cli("function", "publish", "orders").json["Version"] == "1"


def test_how_events_are_tried_again_is_shown_and_set(cli: Cli, node: Node, app: Path) -> None:
    cli("function", "deploy", "app")
    cli("function", "invoke-config", "orders", code=3)
    found = cli("function", "invoke-config", "orders", "--retries", "1", "--max-age", "1h").json
    assert (found["MaximumRetryAttempts"], found["MaximumEventAgeInSeconds"]) == (1, 3600)
    assert cli("function", "invoke-config", "orders", "-o", "summary").out == "Retries  1\nMax age  3600 s\n"
    cli("function", "invoke-config", "orders", "--delete")
    cli("function", "invoke-config", "orders", code=3)


# --- going away ---------------------------------------------------------------------------------------------------


def test_a_version_is_drained_when_its_last_execution_has_ended(
    cli: Cli, node: Node, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("function", "deploy", "app", "--alias", "live")
    cli("invoke", "orders:1", "-e", '{"ask": true}', "-q", code=7)
    said = cli("function", "drain", "orders:live", "--timeout", "0.1", code=6)
    assert "open executions of orders:live are left: 1" in said.err
    assert "orders:$LATEST has no open execution" in cli("function", "drain", "orders:$LATEST").err
    search = node.service.search

    def answered_after_a_look(query: Query) -> Page:
        found = search(query)
        for callback in node.service.open_callbacks():
            node.service.succeed_callback(callback.callback_id)
            node.service.wait(callback.execution_id, 10)
        return found

    monkeypatch.setattr(node.service, "search", answered_after_a_look)
    said = cli("function", "drain", "orders")
    assert said.err.splitlines() == ["orders: open executions: 1", "orders has no open execution"]


def test_a_function_with_open_executions_goes_when_they_have_ended(cli: Cli, node: Node, app: Path) -> None:
    cli("function", "deploy", "app", "--publish")
    assert "give -y" in cli("function", "delete", "orders:1", code=2).err
    assert cli("function", "delete", "orders:1", "-y").err == "orders:1 is removed\n"
    cli("invoke", "orders", "-e", '{"ask": true}', "-q", code=7)
    assert "as soon as its open executions have ended" in cli("function", "delete", "orders", "-y").err
    cli("function", "delete", "nobody", "-y", code=3)


# --- logs ---------------------------------------------------------------------------------------------------------


def test_what_a_function_printed_is_shown(cli: Cli, node: Node, app: Path) -> None:
    (app / "orders.py").write_text(CODE.replace("    found =", "    print('hello', event.get('sku'))\n    found ="))
    cli("function", "deploy", "app", "--alias", "live")
    for sku in ("tea", "jam"):
        cli("invoke", "orders:live", "-e", f'{{"sku": "{sku}"}}', "-q")
    lines = cli("function", "logs", "orders:live", "-o", "table").out
    assert lines.index("hello tea") < lines.index("hello jam")
    records = cli("function", "logs", "orders").json["Records"]
    assert {record["Version"] for record in records} == {"1"}
    assert records[0]["Timestamp"].endswith("Z")
    (of_last,) = [record for record in records if record["Message"] == "hello jam"]
    assert "hello tea" not in cli("function", "logs", "orders", "--request-id", of_last["RequestId"]).out
    assert "hello jam" in cli("execution", "logs", "@last", "-o", "table").out
    assert "hello tea" not in cli("execution", "logs", "@last", "-o", "table").out
    assert cli("function", "logs", "orders:$LATEST").json == {"Records": []}
    assert cli("function", "logs", "orders", "--level", "error").json == {"Records": []}
    cli("function", "logs", "nobody", code=3)


def test_logs_are_followed_line_by_line(cli: Cli) -> None:
    lines = (
        b'{"Timestamp": 1.5, "Message": "one", "Level": "INFO"}\n{"Timestamp": 2, "Message": "two", "Level": "ERROR"}\n'
    )
    gone = Answer(404, {"Message": "no"}, (("x-amzn-ErrorType", "ResourceNotFoundException"),))
    with scripted(Answer(200, lines), Answer(200, lines), gone) as server:
        said = cli("function", "logs", "f", "-f", "--endpoint", server.url, "--level", "WARN")
        assert [json.loads(line)["Message"] for line in said.out.splitlines()] == ["two"]
        shown = cli("function", "logs", "f", "-f", "--endpoint", server.url, "-o", "table", "--utc").out
        assert shown == "00:00:01.500 one\n00:00:02.000 two\n"
        cli("function", "logs", "f", "-f", "--endpoint", server.url, code=3)
    assert "Follow=true" in server.asked[0].target
