"""Tests written for the official packages pass with Perdure after their import lines are changed, and nothing else.

The files in `official/` use the official names. They run as they are, in a process of their own, which shows that they
say what the official packages do; and here with their imports changed.
"""

import ast
import inspect
import re
import subprocess
import sys
import types
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from perdure.testing.modes import Choice, Mode, choose

FOLDER = Path(__file__).parent / "official"
FILES = sorted(FOLDER.glob("*.py"))
RENAMED = (
    ("aws_durable_execution_sdk_python_testing", "perdure.testing"),
    ("aws_durable_execution_sdk_python", "perdure"),
)


def names_in(path: Path) -> list[str]:
    """The tests of a file."""
    tree = ast.parse(path.read_text("utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def with_our_imports(source: str) -> str:
    """The source with its import lines changed."""
    lines = source.splitlines(keepends=True)
    for at, line in enumerate(lines):
        if re.match(r"(from|import) ", line):
            for theirs, ours in RENAMED:
                lines[at] = re.sub(rf"\b{theirs}\b", ours, lines[at])
    return "".join(lines)


@cache
def module(path: Path) -> types.ModuleType:
    made = types.ModuleType(f"with_our_imports_{path.stem}")
    made.__file__ = str(path)
    exec(compile(with_our_imports(path.read_text("utf-8")), str(path), "exec"), made.__dict__)
    return made


each_test = pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param(path, name, id=f"{path.stem}-{name.removeprefix('test_')}")
        for path in FILES
        for name in names_in(path)
    ],
)


@each_test
def test_a_test_for_the_official_packages_passes_with_its_import_lines_changed(
    path: Path, name: str, tmp_path: Path
) -> None:
    """[T1]"""
    run(getattr(module(path), name), tmp_path)


def run(test: Callable[..., None], folder: Path) -> None:
    """Call a test as pytest does."""
    wants_folder = "tmp_path" in inspect.signature(test).parameters
    test(**({"tmp_path": folder} if wants_folder else {}))


@each_test
def test_it_passes_at_a_server_too(path: Path, name: str, tmp_path: Path) -> None:
    """[T1] As with `--perdure-mode server`."""
    before = choose(Choice(mode=Mode.SERVER))
    try:
        run(getattr(module(path), name), tmp_path)
    finally:
        choose(before)


def test_the_files_say_what_the_official_packages_do() -> None:
    """[T1]"""
    options = ["-q", "-p", "no:cacheprovider", "-o", "python_files=*.py", "-o", "addopts=", "-o", "filterwarnings="]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(FOLDER), *map(str, FILES)],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    count = sum(len(names_in(path)) for path in FILES)
    assert f"{count} passed" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]


def test_only_import_lines_are_changed() -> None:
    for path in FILES:
        source = path.read_text("utf-8")
        changed = with_our_imports(source)
        assert "aws_durable" not in changed
        pairs = zip(source.splitlines(), changed.splitlines(), strict=True)
        assert all(before == after or before.startswith(("from ", "import ")) for before, after in pairs)
