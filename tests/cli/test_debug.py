"""`perdure debug`: the code as it stood at any event of an execution."""

import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import perdure
from cli.conftest import Cli
from perdure.server.node import Node
from perdure.store.open import open_store
from perdure.worker.loading import load_functions

CODE = """\
from perdure import MapConfig, durable_execution


def reserve(_):
    return {"stock": 7}


@durable_execution(name="order")
def order(event, context):
    stock = context.step(reserve, name="reserve")
    context.wait(1, name="cool-down")
    if stock["stock"] > 5:
        paid = context.step(lambda _: "paid", name="charge")
    else:
        paid = context.step(lambda _: "nothing", name="refund")
    return paid


@durable_execution(name="many")
def many(event, context):
    def one(child, item, index):
        doubled = child.step(lambda _: item * 2, name="double")
        child.wait(1, name="rest")
        return doubled

    results = context.map([1, 2, 3], one, name="all", config=MapConfig(max_concurrency=1)).get_results()
    return sum(results)


@durable_execution(name="async-order")
async def async_order(event, context):
    stock = await context.step(reserve, name="reserve")
    batch = await context.map([1, 2], double, name="all")
    return await context.step(lambda _: "paid", name="charge")


async def double(context, item, index):
    twice = await context.step(lambda _: item * 2, name="double")
    return twice
"""
NEVER = CODE.replace('return {"stock": 7}', 'raise AssertionError("a body has run")').replace(
    "lambda _: item * 2", "reserve"
)


@pytest.fixture(scope="module")
def store_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store file in which executions have ended."""
    folder = tmp_path_factory.mktemp("stored")
    (folder / "before.py").write_text(CODE)
    functions = load_functions(str(folder / "before.py")).functions
    with perdure.open(f"sqlite:///{folder}/perdure.db", functions) as app:
        begun = {name: app.start(name, {"n": 2}, name="one") for name in functions}
        for name, execution in begun.items():
            assert execution.result(20) == (12 if name == "many" else "paid")
    return folder / "perdure.db"


@pytest.fixture
def stored(cli: Cli, store_file: Path) -> None:
    """That store file, and code whose bodies must not run."""
    shutil.copy(store_file, "perdure.db")
    Path("orders.py").write_text(NEVER)


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(NEVER.splitlines(), 1) if text in line)


def events_of(cli: Cli, execution: str) -> dict[tuple[str, str | None], int]:
    found = cli("execution", "history", execution, "-o", "json").json["Events"]
    return {(event["EventType"], event.get("Name")): event["EventId"] for event in found}


def test_it_stops_in_the_users_frame_with_the_stored_results_and_writes_nothing(cli: Cli, stored: None) -> None:
    """[T63]"""
    before = Path("perdure.db").read_bytes()
    at = events_of(cli, "order/one")["StepSucceeded", "reserve"]
    said = cli("debug", "order/one", "--at", str(at), "-o", "json").json
    assert (Path(said["File"]).name, said["Line"], said["Function"]) == ("orders.py", line_of("context.wait"), "order")
    assert said["Variables"]["stock"] == "{'stock': 7}"
    assert said["Variables"]["event"] == "{'n': 2}"
    assert [operation["Name"] for operation in said["Operations"]] == ["reserve"]
    assert Path("perdure.db").read_bytes() == before


def test_it_is_the_same_at_a_server_and_nothing_is_written_there(cli: Cli, stored: None) -> None:
    """[T63]"""
    with Node(open_store("sqlite:///perdure.db")) as node:
        before = cli("execution", "history", "order/one", "--endpoint", node.url, "-o", "json").json
        said = cli("debug", "order/one", "--at", "3", "-o", "json", "--endpoint", node.url).json
        assert said["Variables"]["stock"] == "{'stock': 7}"
        assert cli("execution", "history", "order/one", "--endpoint", node.url, "-o", "json").json == before


def test_at_an_operation_that_has_not_ended_the_code_stands_at_its_call(cli: Cli, stored: None) -> None:
    at = events_of(cli, "order/one")["WaitStarted", "cool-down"]
    said = cli("debug", "order/one", "--at", str(at), "-o", "json").json
    assert (said["Line"], said["Operation"]["Status"]) == (line_of("context.wait"), "STARTED")
    first = cli("debug", "order/one", "--at", "1", "-o", "json").json
    assert (first["Line"], first["Operations"], first["Variables"].keys()) == (
        line_of('reserve, name="reserve"'), [], {"event", "context"},
    )  # fmt: skip


def test_people_see_the_lines_the_variables_and_the_operations(cli: Cli, stored: None) -> None:
    said = cli("debug", "order/one", "-o", "summary").out
    for told in ("order/one at event", "->   16      return paid", "paid     'paid'", "reserve", "cool-down", "charge"):
        assert told in said


def test_handlers_on_a_loop_and_their_branches_are_stopped_too(cli: Cli, stored: None) -> None:
    events = events_of(cli, "async-order/one")
    said = cli("debug", "async-order/one", "--at", str(events["StepSucceeded", "reserve"]), "-o", "json").json
    assert (said["Line"], said["Variables"]["stock"]) == (line_of("await context.map"), "{'stock': 7}")
    inner = cli("debug", "async-order/one", "--at", str(events["StepSucceeded", "double"]), "-o", "json").json
    assert (inner["Line"], inner["Function"]) == (line_of("return twice"), "double")
    assert inner["Variables"]["twice"] in ("2", "4")
    last = cli("debug", "async-order/one", "-o", "json").json
    assert last["Line"] == line_of("return await context.step")


def test_another_result_shows_another_way(cli: Cli, stored: None) -> None:
    said = cli("debug", "order/one", "--at", "3", "--set", 'reserve={"stock": 1}', "-o", "json").json
    assert said["Variables"]["stock"] == "{'stock': 1}"
    lost = cli("debug", "order/one", "--set", 'reserve={"stock": 1}', "-o", "json", code=8)
    assert "does not come to event" in lost.err
    assert "refund" in lost.err
    assert "did you mean 'reserve'" in cli("debug", "order/one", "--set", "reserv=1", code=2).err
    assert "not JSON" in cli("debug", "order/one", "--set", "reserve=x", code=2).err


def test_a_file_will_do_in_the_place_of_an_execution(cli: Cli, stored: None) -> None:
    cli("execution", "export", "order/one", "one.history.json")
    said = cli("debug", "one.history.json", "--at", "3", "--handler", "orders.py:order", "-o", "json").json
    assert said["Variables"]["stock"] == "{'stock': 7}"


def test_what_is_wrong_is_said_in_a_line(cli: Cli, stored: None) -> None:
    assert "has events 1 to" in cli("debug", "order/one", "--at", "99", code=2).err
    Path("orders.py").write_text("# nothing")
    assert "no file in this folder has a durable function 'order'" in cli("debug", "order/one", code=3).err


Prompted = Callable[..., str]


@pytest.fixture
def prompted(cli: Cli, stored: None, monkeypatch: pytest.MonkeyPatch) -> Prompted:
    """What is said when these lines are typed at the prompt."""

    def prompt(*lines: str, arguments: tuple[str, ...] = (), of: str = "order/one") -> str:
        monkeypatch.delitem(sys.modules, "orders", raising=False)
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
        return cli("debug", of, "--pdb", *arguments).out

    return prompt


def test_the_prompt_is_in_the_users_frame(prompted: Prompted) -> None:
    """[T63]"""
    said = prompted("p stock", "w", "ops", "q", arguments=("--at", "3"))
    assert "order/one at event 3" in said
    assert "{'stock': 7}" in said
    assert '-> context.wait(1, name="cool-down")' in said
    assert "reserve" in said


def test_the_prompt_goes_forward_and_backward_by_operation(prompted: Prompted) -> None:
    """[T63]"""
    said = prompted(
        "forward", "forward", "p paid", "bw 2", "p 'paid' in dir()", "goto 99", "fw x", "q", arguments=("--at", "3")
    )
    assert re.findall(r"order/one at event \d+ of \d+: (.*)", said) == [
        "StepSucceeded of reserve", "WaitSucceeded of cool-down", "StepSucceeded of charge", "StepSucceeded of reserve",
    ]  # fmt: skip
    assert "(perdure) 'paid'" in said
    assert "(perdure) False" in said
    assert "none is 99" in said
    assert "'x' is no number" in said


def test_the_prompt_steps_through_the_code_and_goes_on_with_what_is_recorded(prompted: Prompted) -> None:
    said = prompted("n", "n", "n", "p paid", "c", arguments=("--at", "3"))
    assert "(perdure) 'paid'" in said
    assert 'it ends SUCCEEDED: "paid"' in said


def test_the_prompt_is_in_a_branch_and_goes_on_to_the_end(prompted: Prompted, cli: Cli) -> None:
    at = events_of(cli, "many/one")["StepStarted", "double"]
    said = prompted(
        "p item in (1, 2, 3)", "n", "p doubled == item * 2", "c", arguments=("--at", str(at)), of="many/one"
    )
    assert said.count("(perdure) True") == 2
    assert "it ends SUCCEEDED: 12" in said


def test_the_prompt_asks_what_if(prompted: Prompted) -> None:
    said = prompted('whatif reserve {"stock": 0}', "p stock", "c", arguments=("--at", "3"))
    assert "(perdure) {'stock': 0}" in said
    assert "it goes on differently" in said
    assert json.dumps("refund").strip('"') in said


def test_a_body_runs_if_it_is_named_and_nothing_is_written(cli: Cli, prompted: Prompted) -> None:
    before = Path("perdure.db").read_bytes()
    Path("orders.py").write_text(
        NEVER.replace('"nothing"', '"given back"').replace("return paid", "return [paid, stock]")
    )
    what_if = ("--at", "3", "--set", 'reserve={"stock": 0}')
    assert "it goes on differently" in prompted("c", arguments=what_if)
    Path("orders.py").write_text(Path("orders.py").read_text().replace('name="charge"', 'name="charge", id="charge"'))
    Path("orders.py").write_text(Path("orders.py").read_text().replace('name="refund"', 'name="refund", id="refund"'))
    assert "it would go on with STEP 'refund'" in prompted("c", arguments=what_if)
    said = prompted("c", arguments=(*what_if, "--run", "refund"))
    assert 'it ends SUCCEEDED: ["given back", {"stock": 0}]' in said
    assert Path("perdure.db").read_bytes() == before


def test_the_end_of_the_input_leaves(prompted: Prompted) -> None:
    assert "order/one at event" in prompted("")
