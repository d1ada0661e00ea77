"""The command `perdure run` as people use it: on a terminal, interrupted, killed, and typed again."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.terminal import LIMIT_S, Process, on_terminal

PERDURE = [sys.executable, "-m", "perdure"]

HANDLER = """
from pathlib import Path
from perdure import DurableContext, Duration, durable_execution

@durable_execution
def handler(event, context: DurableContext):
    def note(word):
        with Path("ran.txt").open("a") as file:
            print(word, file=file)
        return word
    context.step(lambda _: note("first"), name="first")
    context.wait(Duration.from_seconds(event["seconds"]), name="cool-down")
    context.step(lambda _: note("second"), name="second")
    return "served"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(HANDLER)
    return tmp_path


def test_on_a_terminal_the_tree_lives_and_ctrl_c_leaves_what_can_be_gone_on_with(folder: Path) -> None:
    command = [*PERDURE, "run", "app.py", "-e", '{"seconds": 2}']
    left = on_terminal(command, folder, ("0:01", Process.interrupt))
    assert left.code == 130
    assert "✓ first" in left.text
    assert "◷ cool-down (Wait)  0:02" in left.text, "the wait is counted down"
    assert "go on with: perdure run app.py -e '{\"seconds\": 2}'" in left.text
    again = on_terminal(command, folder)
    assert again.code == 0
    assert re.search(r"✓ first +\d+ ms +replayed", again.text)
    assert "✓ second" in again.text
    assert '"served"' in again.text
    assert (folder / "ran.txt").read_text().split() == ["first", "second"]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_killed_in_a_wait_the_same_command_goes_on(folder: Path, sent: signal.Signals) -> None:
    command = [*PERDURE, "run", "app.py", "-e", '{"seconds": 1}', "--name", "order-1"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "cool-down (Wait): waits" in line:
            break
    process.send_signal(sent)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == (-signal.SIGKILL if sent == signal.SIGKILL else 130)
    again = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == "served"
    assert "order-1 goes on after" in again.stderr
    assert (folder / "ran.txt").read_text().split() == ["first", "second"]
    events = subprocess.run(
        [*PERDURE, "execution", "history", "order-1"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert [event["EventId"] for event in json.loads(events.stdout)["Events"]] == list(
        range(1, len(json.loads(events.stdout)["Events"]) + 1)
    )


def test_what_nobody_reads_any_more_ends_the_command_without_a_word(folder: Path) -> None:
    subprocess.run([*PERDURE, "run", "app.py", "-e", '{"seconds": 1}'], cwd=folder, capture_output=True, check=True)
    line = f"{sys.executable} -m perdure execution history @last | head -c 10"
    done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    assert done.stderr == ""
