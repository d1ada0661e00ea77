"""`perdure replay` and `perdure execution export`: a gate before a deployment, on files, stores and servers."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import perdure
from cli.conftest import Cli
from perdure import DurableContext, Duration, durable_execution
from perdure.server.node import Node
from perdure.service.views import waiting_on
from perdure.store.open import open_store
from perdure.testing.histories import load_history
from support.scripted_http import Answer, scripted

CODE = """
from perdure import durable_execution


def never(*_):
    raise AssertionError("a body has run in a replay")


@durable_execution(name="order")
def order(event, context):
    print("the handler says something")
    context.step(never, name="reserve")
    context.wait(86_400, name="cool-down")
    return "done"


@durable_execution(name="sleeper")
def sleeper(event, context):
    context.wait(86_400, name="night")
"""
CHANGED = CODE.replace('name="cool-down"', 'name="rest"')


@durable_execution(name="order")
def order(event: Any, context: DurableContext) -> Any:
    context.step(lambda _: "reserved", name="reserve")
    if event["n"] < 3:
        context.wait(Duration.from_days(1), name="cool-down")
    return "done"


@durable_execution(name="sleeper")
def sleeper(event: Any, context: DurableContext) -> None:
    context.wait(Duration.from_days(1), name="night")


@pytest.fixture
def in_file(cli: Cli) -> list[str]:
    """A store file with open and ended executions, and the code beside it."""
    Path("orders.py").write_text(CODE)
    Path("changed.py").write_text(CHANGED)
    with perdure.open("sqlite:///perdure.db", [order, sleeper]) as app:
        begun = [app.start(order, {"n": n}, name=f"order-{n}") for n in range(5)]
        begun.append(app.start(sleeper, {}, name="night"))
        for execution in begun[3:5]:
            assert execution.result(10) == "done"
        for execution in (*begun[:3], begun[5]):
            wait_until_waiting(execution)
    return [execution.id for execution in begun]


def wait_until_waiting(execution: Any) -> None:
    waits = threading.Event()
    execution.watch(lambda state, _events: waits.set() if waiting_on(state) else None)
    if not execution.describe().waiting_on:
        assert waits.wait(10)


@pytest.fixture(params=["file", "server"])
def place(request: pytest.FixtureRequest, in_file: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    if request.param == "file":
        yield in_file
        return
    with Node(open_store("sqlite:///perdure.db")) as node:
        monkeypatch.setenv("PERDURE_ENDPOINT", node.url)
        yield in_file


def test_code_that_goes_on_with_everything_passes(cli: Cli, place: list[str]) -> None:
    said = cli("replay", "orders.py", "--status", "RUNNING", "-o", "json")
    assert said.json["Compatible"] is True
    assert said.json["Counts"]["COMPATIBLE"] == 4
    assert "the handler says something" in said.err
    names = {result["DurableExecutionName"] for result in said.json["Results"]}
    assert names == {"order-0", "order-1", "order-2", "night"}


def test_code_that_does_not_go_on_ends_with_exit_code_8(cli: Cli, place: list[str]) -> None:
    """[T62]"""
    said = cli("replay", "changed.py:order", "--status", "RUNNING", "-o", "json", code=8)
    (first, *_) = said.json["Results"]
    divergence = first["Divergence"]
    assert (first["Verdict"], divergence["Difference"]) == ("INCOMPATIBLE", "renamed")
    assert (divergence["Expected"], divergence["Actual"]) == ("WAIT 'cool-down'", "WAIT 'rest'")
    assert Path(divergence["File"]).name == "changed.py"
    assert 'name="rest"' in CHANGED.splitlines()[divergence["Line"] - 1]


def test_of_ended_executions_one_for_each_sequence_is_replayed(cli: Cli, place: list[str]) -> None:
    ended = ["replay", "orders.py:order", "--status", "SUCCEEDED", "-o", "json"]
    assert [(len(said["Results"]), said["Skipped"]) for said in [cli(*ended).json]] == [(1, 1)]
    assert [len(cli(*ended, *more).json["Results"]) for more in (["--all"], ["--all", "--limit", "1"])] == [2, 1]
    (warning,) = cli(*ended).json["Results"][0]["Warnings"]
    assert "the code would go on with WAIT 'cool-down'" in warning


def test_people_get_a_table_the_diff_and_a_count(cli: Cli, place: list[str]) -> None:
    said = cli("replay", "changed.py:order", "--status", "RUNNING", "-o", "table", code=8)
    for told in ("order/order-0", "- 2. WAIT 'cool-down'", "+ 2. WAIT 'rest'", "3 replayed: 3 incompatible"):
        assert told in said.out
    assert "context.patched" in said.out


def test_reports_are_written_for_programs(cli: Cli, in_file: list[str]) -> None:
    cli(
        "replay", "changed.py", "--status", "RUNNING",
        "--json-report", "out/replay.json", "--junit", "out/replay.xml", code=8,
    )  # fmt: skip
    report = json.loads(Path("out/replay.json").read_text())
    assert report["Counts"] == {
        "COMPATIBLE": 1, "COMPATIBLE_WITH_WARNINGS": 0, "NEEDS_NEW_OPERATION": 0, "INCOMPATIBLE": 3,
    }  # fmt: skip
    suite = ET.parse("out/replay.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("4", "3")
    failed = [case for case in suite if case.find("failure") is not None]
    assert {case.get("classname") for case in failed} == {"order"}
    failure = failed[0].find("failure")
    assert failure is not None
    assert "WAIT 'rest'" in (failure.text or "")


def test_an_exported_execution_is_replayed_from_its_file(cli: Cli, place: list[str]) -> None:
    for number in range(3):
        cli("execution", "export", f"order/order-{number}", f"stored/{number}.history.json")
    cli("execution", "export", "sleeper/night", "stored/deep/night.history.json", "--redact")
    assert cli("replay", "orders.py", "--histories", "stored", "-o", "json").json["Counts"]["COMPATIBLE"] == 4
    assert cli("replay", "orders.py:sleeper", "--histories", "stored", "-o", "json").json["Counts"]["COMPATIBLE"] == 1
    cli("replay", "changed.py", "--histories", "stored/0.history.json", code=8)
    assert "no history is of no-such; there are histories of order" in (
        cli("replay", "orders.py:order", "--histories", "stored/0.history.json", "--function", "no-such", code=3).err
    )
    Path("empty").mkdir()
    assert "there is no history in empty" in cli("replay", "orders.py", "--histories", "empty", code=3).err


def test_an_export_goes_to_stdout_and_may_be_redacted(cli: Cli, place: list[str]) -> None:
    plain = cli("execution", "export", "order/order-3")
    assert '"reserved\\"' in plain.out
    cli("execution", "export", "order/order-3", "one.history.json", "--redact")
    history = load_history("one.history.json")
    assert (history.label, history.is_redacted) == ("order/order-3", True)
    assert "reserved" not in Path("one.history.json").read_text()


def test_nothing_is_written_where_executions_are(cli: Cli, in_file: list[str]) -> None:
    before = Path("perdure.db").read_bytes()
    cli("replay", "changed.py", code=8)
    assert Path("perdure.db").read_bytes() == before


def test_a_server_is_asked_although_a_store_is_here(
    cli: Cli, in_file: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted() as nobody:
        url = nobody.url
    assert url in cli("replay", "orders.py", "--from-endpoint", "--endpoint", url, code=4).err
    assert "--histories" in cli("replay", "orders.py", "--from-endpoint", "--histories", ".", code=2).err


def test_a_server_that_has_only_the_operations_of_aws_will_do(cli: Cli, in_file: list[str]) -> None:
    cli("execution", "export", "order/order-0", "0.history.json")
    document = json.loads(Path("0.history.json").read_text())
    listed = {"DurableExecutions": [{key: document["Execution"][key] for key in ("DurableExecutionArn", "Status")}]}
    script = [
        Answer(403, {"message": "Unable to determine service/operation name to be authorized"}),
        Answer(200, listed),
        Answer(200, document["Execution"]),
        Answer(200, {"Events": document["Events"]}),
    ]
    with scripted(*script) as aws:
        said = cli("replay", "orders.py:order", "--endpoint", aws.url, "--status", "RUNNING", "-o", "json")
    assert said.json["Counts"]["COMPATIBLE"] == 1
    assert [asked.target.partition("?")[0].split("/")[1] for asked in aws.asked[1:]] == [
        "2025-12-01", "2025-12-01", "2025-12-01",
    ]  # fmt: skip


def test_what_can_not_be_replayed_is_said_in_a_line(cli: Cli, in_file: list[str]) -> None:
    assert "there is no file nowhere.py" in cli("replay", "nowhere.py", code=2).err
    Path("broken.history.json").write_text("{}")
    assert (
        "broken.history.json is no history"
        in cli("replay", "orders.py", "--histories", "broken.history.json", code=2).err
    )
    nothing = cli("replay", "orders.py", "--function", "nobody-has-it", "-o", "table")
    assert nothing.out == "nothing to replay\n"
    assert "no stored execution of nobody-has-it was found: nothing has been tried" in nothing.err


def test_an_execution_becomes_a_test(cli: Cli, place: list[str]) -> None:
    assert "order is changed.py:order and orders.py:order" in cli("execution", "to-test", "order/order-3", code=2).err
    Path("changed.py").unlink()
    written = cli("execution", "to-test", "order/order-3").out
    assert "from orders import order" in written
    assert "runner.mock_operation('reserve', returns='reserved')" in written
    cli("execution", "to-test", "order/order-3", "tests/test_order.py", "--handler", "orders.py:order")
    assert Path("tests/test_order.py").read_text() == written
    cli("execution", "export", "order/order-3", "3.history.json")
    assert cli("execution", "to-test", "3.history.json").out == written
    assert "is RUNNING" in cli("execution", "to-test", "order/order-0", code=5).err
    assert "there is no file no.py" in cli("execution", "to-test", "order/order-3", "--handler", "no.py", code=2).err
