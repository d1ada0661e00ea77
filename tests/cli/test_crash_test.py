"""`perdure crash-test`: a function comes to the same end wherever its process dies, or exit code 1 and where not."""

import os
from pathlib import Path

import pytest

import perdure
from cli.conftest import Cli

CODE = """
from perdure import DurableContext, StepConfig, StepSemantics, durable_execution
from perdure.retries import RetryPresets

ONCE = StepConfig(RetryPresets.none(), StepSemantics.AT_MOST_ONCE_PER_RETRY)

@durable_execution(name="billing")
def bill(event, context: DurableContext):
    return context.step(lambda _: event["n"] + 1, name="bill")

@durable_execution
def handler(event, context: DurableContext):
    first = context.step(lambda _: print("on stdout") or event["n"], name="first")
    context.wait(3600)
    billed = context.invoke("billing", {"n": first}, name="billed")
    return [first, billed, context.wait_for_callback(lambda _: None, name="approval")]

@durable_execution
def once(event, context: DurableContext):
    return context.step(lambda _: "paid", name="pay", config=ONCE)

@durable_execution
def forgetful(event, context: DurableContext):
    seen = []
    context.step(lambda _: seen.append(1), name="load")
    context.step(lambda _: 3, name="next")
    return len(seen)
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file with functions, which processes of their own find, and the package with them."""
    (tmp_path / "crashing_app.py").write_text(CODE)
    source = Path(perdure.__file__).parent.parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(source), str(tmp_path)]))
    return str(tmp_path / "crashing_app.py")


def test_a_function_that_is_right_passes_with_what_it_invokes_and_with_answers(cli: Cli, app: str) -> None:
    said = cli("crash-test", f"{app}:handler", "-e", '{"n": 1}', "--callback", 'approval="yes"')

    assert (said.json["Passed"], said.json["FirstFailure"]) == (True, None)
    assert said.json["Runs"] == len(said.json["Matrix"]) > 30
    assert "on stdout" in said.err


def test_one_that_is_not_leaves_with_1_and_says_at_which_point_and_how_to_see_it_again(cli: Cli, app: str) -> None:
    said = cli("crash-test", f"{app}:forgetful", "-v", "-o", "table", code=1)

    assert "first failure: lost answer of checkpoint 1 (START 'load', SUCCEED 'load')" in said.out
    assert "the result is 0 instead of 1" in said.out
    assert "before checkpoint 1 (START 'load', SUCCEED 'load')" in said.out
    again = f"perdure crash-test {app}:forgetful -e '{{}}' --seed 0 --point 'lost answer of checkpoint 1'"
    assert again in said.out
    told = cli("crash-test", f"{app}:forgetful", "--seed", "0", "--point", "lost answer of checkpoint 1", code=1)
    assert told.json["Runs"] == 1


def test_points_may_be_drawn_and_come_in_pairs_and_sequences(cli: Cli, app: str) -> None:
    drawn = cli("crash-test", f"{app}:once", "--points", "3", "--seed", "5").json["Matrix"]
    assert drawn == cli("crash-test", f"{app}:once", "--points", "3", "--seed", "5").json["Matrix"]
    assert len(drawn) == 3
    more = cli("crash-test", f"{app}:once", "--points", "3", "--pairs", "--sequences", "2").json["Matrix"]
    assert [len(each["Points"]) for each in more[:6]] == [1, 1, 1, 2, 2, 2]
    assert len(more) == 3 + 3 + 2


def test_real_processes_are_killed_and_others_go_on(cli: Cli, app: str) -> None:
    """Seven of the points, each with two processes."""
    said = cli("crash-test", f"{app}:once", "--process", "--points", "all")

    verdicts = {each["What"].split(" (")[0]: each["Verdict"] for each in said.json["Matrix"]}
    assert verdicts == {
        "before checkpoint 1": "passed",
        "after checkpoint 1": "interrupted",
        "before body 1": "interrupted",
        "after body 1": "interrupted",
        "before checkpoint 2": "interrupted",
        "after checkpoint 2": "passed",
        "at return of invocation 1": "passed",
    }


def test_what_a_killed_process_forgets_is_found(cli: Cli, app: str) -> None:
    said = cli("crash-test", f"{app}:forgetful", "--process", "--point", "after checkpoint 1", code=1)
    assert said.json["FirstFailure"]["Problems"][0] == "the result is 0 instead of 1"


def test_what_makes_no_sense_is_refused(cli: Cli, app: str) -> None:
    assert "is 'all' or a number" in cli("crash-test", app, "--points", "many", code=2).err
    assert "one point at a time" in cli("crash-test", f"{app}:once", "--process", "--pairs", code=2).err
    assert "a point is called like" in cli("crash-test", f"{app}:once", "--point", "there", code=2).err
    cli("crash-test", "nowhere.py", code=2)
