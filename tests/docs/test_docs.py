"""The documentation is true: its programs run, its commands answer as it says, its links lead somewhere."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from perdure.engine.terms import Limits
from support.plugin import install

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LIMIT_S = 60
QUIETLY = ("-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:anyio", "-W", "error")
PROGRAMS = {"perdure": ("perdure",), "pytest": ("pytest", "-p", "no:cacheprovider")}


class Block(msgspec.Struct, frozen=True):
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        yield Block(found[1], found[2])


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


RUNNABLE = [page for page in PAGES if any(block.language in ("python", "console") for block in blocks(page))]


@pytest.mark.parametrize("page", RUNNABLE, ids=relative)
def test_what_a_page_shows_happens(page: Path, tmp_path: Path) -> None:
    """Programs that begin with their file's name are written to it, others are run, tests by pytest; commands are typed
    in order.
    """
    with contextlib.ExitStack() as left:
        surroundings = around(tmp_path)
        install(tmp_path)
        for block in blocks(page):
            if block.language == "python":
                named = re.match(r"# (\w+\.py)\n", block.text)
                if named:
                    (tmp_path / named[1]).write_text(block.text)
                    if named[1].startswith("test_"):
                        run([sys.executable, "-m", "pytest", *QUIETLY, named[1]], tmp_path, surroundings)
                else:
                    (tmp_path / "block.py").write_text(block.text)
                    run([sys.executable, "block.py"], tmp_path, surroundings)
            elif block.language == "console":
                for command, expected in dialogue(block.text):
                    if command == "perdure serve &":
                        surroundings["PERDURE_ENDPOINT"] = left.enter_context(serving(tmp_path, surroundings))
                    else:
                        check(command, expected, tmp_path, surroundings)


def around(folder: Path) -> dict[str, str]:
    """The environment of a page: this repository, whichever one is installed, and nothing of who runs the test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PERDURE_", "AWS_"))}
    path = os.pathsep.join((str(ROOT / "src"), str(folder)))
    homes = {"XDG_CONFIG_HOME": str(folder / ".config"), "XDG_STATE_HOME": str(folder / ".state")}
    none = {"AWS_SHARED_CREDENTIALS_FILE": str(folder / ".aws-credentials")}
    return {**kept, **homes, **none, "PYTHONUTF8": "1", "PYTHONPATH": path}


@contextlib.contextmanager
def serving(folder: Path, surroundings: dict[str, str]) -> Iterator[str]:
    """A server in the background, on a port that is free; yields its URL."""
    command = [sys.executable, "-m", "perdure", "serve", "--port", "0", "-q", "--log-level", "ERROR"]
    with subprocess.Popen(command, cwd=folder, env=surroundings, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


def run(command: list[str], folder: Path, surroundings: dict[str, str], exit_code: int = 0) -> str:
    done = subprocess.run(
        command, cwd=folder, env=surroundings, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == exit_code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def dialogue(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command with the lines that it is to answer with."""
    command, expected = "", list[str]()
    for line in text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = line[2:], []
        else:
            expected.append(line)
    yield command, expected


def check(command: str, expected: list[str], folder: Path, surroundings: dict[str, str]) -> None:
    """`…` stands for anything; a line `? 7` says which exit code is right."""
    words = shlex.split(command)
    assert words[0] in PROGRAMS, f"pages type `perdure` and `pytest` only, not {command!r}"
    exit_code = 0
    if expected and expected[0].startswith("? "):
        exit_code = int(expected.pop(0)[2:])
    answer = run([sys.executable, "-m", *PROGRAMS[words[0]], *words[1:]], folder, surroundings, exit_code)
    lines = answer.splitlines()
    for line in expected:
        pattern = ".*".join(re.escape(part) for part in line.split("…"))
        assert any(re.fullmatch(pattern, found) for found in lines), f"{command!r} did not say {line!r} but\n{answer}"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{relative(page)} links to {target}"


def test_every_page_is_reached_from_the_index() -> None:
    indexes = [ROOT / "docs" / folder / "README.md" for folder in (".", "decisions", "reference/api")]
    index = "".join(page.read_text("utf-8") for page in indexes)
    for page in (ROOT / "docs").rglob("*.md"):
        assert page.name in index, relative(page)


def test_the_table_of_limits_is_that_of_the_code() -> None:
    text = (ROOT / "docs" / "reference" / "limits.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    default, aws = msgspec.to_builtins(Limits()), msgspec.to_builtins(Limits.aws())
    assert {name: (int(ours), int(theirs)) for name, ours, theirs in rows} == {
        name: (default[name], aws[name]) for name in default
    }


def test_the_page_of_commands_names_every_command_and_exit_code() -> None:
    from perdure.cli.exits import Exit
    from perdure.cli.main import root

    text = (ROOT / "docs" / "reference" / "command-line.md").read_text("utf-8")
    context = root.make_context("perdure", [], resilient_parsing=True)
    for group in root.list_commands(context):
        assert f"perdure {group}" in text
    not_yet = {Exit.FINDINGS}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == {
        int(code) for code in Exit if code not in not_yet
    }


def test_the_page_of_the_test_kit_names_every_option_of_the_plugin() -> None:
    text = (ROOT / "docs" / "reference" / "test-runners.md").read_text("utf-8")
    source = (ROOT / "src" / "perdure" / "testing" / "pytest_plugin.py").read_text("utf-8")
    assert set(re.findall(r"^\| `(--perdure-[a-z-]+)", text, re.MULTILINE)) == set(
        re.findall(r'"(--perdure-[a-z-]+)"', source)
    )
