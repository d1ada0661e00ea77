"""The programs of `examples/` do what they say, as commands and inside an application, also when they are killed."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.engine.state import ExecutionState
from perdure.model.operation import OperationType
from perdure.service.views import waiting_on
from perdure.worker.loading import load_handler
from support.local import Local

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 20.0


def example(name: str) -> Any:
    """The handler of an example; its folder can be imported from afterwards."""
    return load_handler(f"{ROOT / 'examples' / name}:handler").handler


def environment(path: Path | None = None) -> dict[str, str]:
    """That of a process which imports this repository's package, and what is in the folder `path`."""
    folders = [str(ROOT / "src"), *([str(path)] if path is not None else [])]
    return {**os.environ, "PYTHONUTF8": "1", "PYTHONPATH": os.pathsep.join(folders)}


def command(*words: str, folder: Path, code: int = 0, path: Path | None = None) -> str:
    """Run `perdure` in a process of its own and return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "perdure", *words],
        cwd=folder,
        env=environment(path),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def wait_until_asked(execution: perdure.Execution) -> None:
    """Until the execution waits for nothing but an answer."""
    asks = threading.Event()
    execution.watch(lambda state, _: asks.set() if waiting_on(state) == ("callback",) else None, from_start=True)
    assert asks.wait(WAIT_S), execution.describe().waiting_on


# --- order_saga ---------------------------------------------------------------------------------------------------


def words(file: Path) -> list[str]:
    """What the world of the saga has seen: the first word of each line."""
    return [line.split()[0] for line in file.read_text().splitlines()]


def test_a_trip_is_booked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOKINGS", str(tmp_path / "seen.log"))
    handler = example("order_saga/order_saga.py")
    with perdure.open(f"sqlite:///{tmp_path / 'trips.db'}", [handler]) as app:
        booked = app.run(handler, {"trip": "lisbon", "cents": 100}, timeout=WAIT_S)
    assert booked == {
        "trip": "lisbon",
        "state": "booked",
        "parts": ["hotel-lisbon", "flight-lisbon", "payment-lisbon"],
    }
    assert words(tmp_path / "seen.log") == ["book-hotel", "book-flight", "pay"]


def test_a_trip_that_is_not_paid_is_undone_in_the_reverse_order(tmp_path: Path) -> None:
    event = json.dumps({"trip": "oslo", "cents": 100, "declined": True})
    file = str(ROOT / "examples" / "order_saga" / "order_saga.py")
    said = json.loads(command("run", f"{file}:handler", "-e", event, folder=tmp_path))
    assert (said["state"], said["why"]) == ("undone", "100 cents are too much")
    undone = ["void-payment", "cancel-flight", "cancel-hotel"]
    assert words(tmp_path / "bookings.log") == ["book-hotel", "book-flight", "pay", *undone]


KILLED = """
import os, signal
from pathlib import Path
import order_saga
from order_saga import handler

def world(word, trip, key, see=order_saga.world):
    see(word, trip, key)
    if word in ("pay", "cancel-flight") and not Path(word).exists():
        Path(word).touch()
        os.kill(os.getpid(), signal.SIGKILL)

order_saga.world = world
"""


def test_a_saga_that_is_killed_while_it_pays_and_while_it_undoes_is_undone_all_the_same(tmp_path: Path) -> None:
    """The killed payment is not tried again; the killed undo is, with the key that it had."""
    file = tmp_path / "killed.py"
    file.write_text(KILLED)
    run = ["run", "killed.py:handler", "-e", '{"trip": "rome", "cents": 100}']
    path = ROOT / "examples" / "order_saga"
    for _ in range(2):
        command(*run, folder=tmp_path, code=-signal.SIGKILL, path=path)
    assert json.loads(command(*run, folder=tmp_path, path=path))["state"] == "undone"
    lines = [line.split() for line in (tmp_path / "bookings.log").read_text().splitlines()]
    seen = Counter(word for word, _, _ in lines)
    assert [word for word, count in seen.items() if count != 1] == ["cancel-flight"]
    assert seen["cancel-flight"] == 2
    assert len({key for word, _, key in lines if word == "cancel-flight"}) == 1
    assert lines[-1][0] == "cancel-hotel"


# --- approval -----------------------------------------------------------------------------------------------------


def test_who_answers_only_the_reminder_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is closed and opened again between question and answer."""
    monkeypatch.setenv("MAILS", str(tmp_path / "mails.log"))
    handler = example("approval/approval.py")
    url = f"sqlite:///{tmp_path / 'approvals.db'}"
    with perdure.open(url, [handler]) as app:
        execution = app.start(handler, {"what": "cups", "patience_s": 1})
        reminded = threading.Event()

        def look(state: ExecutionState, _: object) -> None:
            """The second wait is begun once the reminder is recorded as sent."""
            if sum(operation.type is OperationType.WAIT for operation in state.operations.values()) == 2:
                reminded.set()

        execution.watch(look, from_start=True)
        assert reminded.wait(WAIT_S)
    with perdure.open(url, [handler]) as app:
        execution = app.execution(execution.id)
        execution.callbacks()[0].succeed({"approved": True, "by": "Ada"})
        assert execution.result(WAIT_S) == {"what": "cups", "mails": 2, "approved": True, "by": "Ada"}
    assert [line.partition(":")[0] for line in (tmp_path / "mails.log").read_text().splitlines()] == ["team lead"] * 2


def test_a_request_that_nobody_answers_is_escalated_and_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the real service with a clock that jumps: three weeks pass."""
    monkeypatch.setenv("MAILS", str(tmp_path / "mails.log"))
    outcome = Local(example("approval/approval.py")).run({"what": "cups", "patience_s": 7 * 86400})
    assert outcome.result == {"what": "cups", "mails": 3, "approved": False, "by": "nobody"}
    mails = (tmp_path / "mails.log").read_text().splitlines()
    assert [mail.partition(":")[0] for mail in mails] == ["team lead", "team lead", "head of department"]
    assert len({mail.rpartition(" ")[2] for mail in mails}) == 1, "all of them ask for the same answer"


def test_an_approval_is_given_from_another_terminal(tmp_path: Path) -> None:
    """The command waits, for an answer or for the hour of patience, while other commands look and answer."""
    run = ["run", f"{ROOT / 'examples' / 'approval' / 'approval.py'}:handler", "-e", '{"what": "cups"}']
    waiting = subprocess.Popen(
        [sys.executable, "-m", "perdure", *run],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with waiting:
        assert waiting.stderr is not None
        for line in waiting.stderr:
            if "patience (Wait)" in line:
                break
        (callback,) = json.loads(command("callback", "list", "-o", "json", folder=tmp_path))["Callbacks"]
        answer = '{"approved": false, "by": "Bo"}'
        command("callback", "succeed", callback["CallbackId"], "-r", answer, folder=tmp_path)
        said, _ = waiting.communicate(timeout=WAIT_S)
    assert json.loads(said) == {"what": "cups", "mails": 1, "approved": False, "by": "Bo"}


# --- files --------------------------------------------------------------------------------------------------------


INVOICES = ROOT / "examples" / "files" / "invoices"


def test_the_files_of_a_folder_are_added_up_and_a_bad_one_is_reported(tmp_path: Path) -> None:
    file = str(ROOT / "examples" / "files" / "files.py")
    event = json.dumps({"folder": str(INVOICES)})
    assert json.loads(command("run", f"{file}:handler", "-e", event, folder=tmp_path)) == {
        "why": "ALL_COMPLETED",
        "read": 3,
        "rows": 5,
        "cents": 48519,
        "bad": {"march.csv": "invalid literal for int() with base 10: 'a lot'"},
    }


def test_too_many_bad_files_end_the_map_and_the_branches_have_the_names_of_the_files() -> None:
    handler = example("files/files.py")
    with perdure.open("memory://", [handler]) as app:
        execution = app.start(handler, {"folder": str(INVOICES), "bad_percent": 0})
        found = execution.result(WAIT_S)
        names = {operation.name for operation in execution.operations()}
    assert found["why"] == "FAILURE_TOLERANCE_EXCEEDED"
    assert list(found["bad"]) == ["march.csv"]
    assert {"files", "april.csv", "march.csv"} <= names


# --- polling ------------------------------------------------------------------------------------------------------


def test_a_job_is_submitted_once_and_looked_at_until_it_is_done(tmp_path: Path) -> None:
    """The service refuses the first request; its second look is the last."""
    handler = example("polling/polling.py")
    with import_module("fake_api").running() as service, perdure.open("memory://", [handler]) as app:
        found = app.run(handler, {"api": service.url, "film": "crema"}, timeout=WAIT_S)
    assert found == {"film": "crema", "state": "done", "url": f"{service.url}/films/job-1.webm"}
    assert service.requests == ["POST /jobs 503", "POST /jobs 200", "GET /jobs/job-1 200", "GET /jobs/job-1 200"]


def test_a_job_that_takes_too_long_is_given_up() -> None:
    handler = example("polling/polling.py")
    with import_module("fake_api").running(percent_per_look=1) as service:
        outcome = Local(handler).run({"api": service.url, "film": "crema", "looks": 5})
    assert outcome.result["why"] == "the condition was not met in 5 polls"
    assert len([request for request in service.requests if request.startswith("GET")]) == 5


def test_a_service_that_is_gone_for_a_while_is_asked_again() -> None:
    """Nothing listens at the address any more when the job is looked at; the look is a state, not a failure."""
    handler = example("polling/polling.py")
    with import_module("fake_api").running(percent_per_look=1) as service:
        local = Local(handler)
        execution_id = local.start({"api": service.url, "film": "crema", "looks": 4})
        local.go_on(execution_id, until_s=2)
    outcome = local.go_on(execution_id)
    assert outcome.result["state"] == "given up"


# --- agent --------------------------------------------------------------------------------------------------------


QUESTION = "The grinder of order A-17 arrived broken."


def test_an_agent_waits_for_a_person_across_a_restart_and_pays_for_each_answer_once(tmp_path: Path) -> None:
    """Two tools run beside each other; the refund waits for an answer while the store is closed."""
    handler = example("agent/agent.py")
    url = f"sqlite:///{tmp_path / 'agents.db'}"
    with import_module("fake_model").running() as model:
        with perdure.open(url, [handler]) as app:
            execution = app.start(handler, {"model": model.url, "question": QUESTION})
            wait_until_asked(execution)
        assert model.turns == [0, 2], "two tool results are in the second question"
        with perdure.open(url, [handler]) as app:
            execution = app.execution(execution.id)
            (callback,) = execution.callbacks()
            callback.succeed("yes")
            said = execution.result(WAIT_S)
            names = [operation.name for operation in execution.operations()]
    assert said == {"answer": "The broken grinder of order A-17 has been dealt with.", "turns": 3}
    assert model.turns == [0, 2, 3], "no answer was paid for twice"
    assert model.refused == 1, "an overloaded model is asked again"
    assert "pay-back" in names


def test_a_refund_that_is_refused_is_not_paid() -> None:
    handler = example("agent/agent.py")
    with import_module("fake_model").running() as model, perdure.open("memory://", [handler]) as app:
        execution = app.start(handler, {"model": model.url, "question": QUESTION})
        wait_until_asked(execution)
        execution.callbacks()[0].succeed("no")
        assert execution.result(WAIT_S)["turns"] == 3
        assert "pay-back" not in [operation.name for operation in execution.operations()]


def test_every_example_says_how_to_try_it() -> None:
    """Each folder's program names the command that runs it, and the file that the command names exists."""
    for folder in (ROOT / "examples").iterdir():
        template = folder / "template.yaml"
        if template.exists():
            assert f"perdure dev {template.relative_to(ROOT).as_posix()}" in template.read_text("utf-8")
            continue
        programs = [file for file in folder.glob("*.py") if "durable_execution(" in file.read_text("utf-8")]
        assert programs, folder.name
        for program in programs:
            shown = program.relative_to(ROOT).as_posix()
            assert f"perdure run {shown}" in program.read_text("utf-8"), shown
