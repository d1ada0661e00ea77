"""Tests written for the official packages pass with Perdure after their import lines are changed, and nothing else.

The files in `official/` use the official names. Each of their tests runs twice: as it is, which shows that it says what
the official packages do, and with its imports changed.
"""

import ast
import re
import types
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parent / "official").glob("*.py"))
RENAMED = (
    ("aws_durable_execution_sdk_python_testing", "perdure.testing"),
    ("aws_durable_execution_sdk_python", "perdure"),
)


def tests_in(path: Path) -> list[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def with_our_imports(source: str) -> str:
    """The source with its import lines changed."""
    lines = source.splitlines(keepends=True)
    for at, line in enumerate(lines):
        if re.match(r"(from|import) ", line):
            for theirs, ours in RENAMED:
                line = re.sub(rf"\b{theirs}\b", ours, line)
            lines[at] = line
    return "".join(lines)


@cache
def module(path: Path, whose: str) -> types.ModuleType:
    source = path.read_text("utf-8")
    made = types.ModuleType(f"{whose}_{path.stem}")
    made.__file__ = str(path)
    code = compile(source if whose == "official" else with_our_imports(source), str(path), "exec")
    exec(code, made.__dict__)
    return made


CASES = [
    pytest.param(whose, path, name, id=f"{whose}-{path.stem}-{name.removeprefix('test_')}")
    for whose in ("official", "perdure")
    for path in FILES
    for name in tests_in(path)
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("whose", "path", "name"), CASES)
def test_the_same_file_passes_with_the_official_packages_and_with_ours(whose: str, path: Path, name: str) -> None:
    """[T1]"""
    test: Callable[[], None] = getattr(module(path, whose), name)
    test()


def test_only_import_lines_are_changed() -> None:
    for path in FILES:
        source = path.read_text("utf-8")
        changed = with_our_imports(source)
        assert "aws_durable" not in changed
        pairs = zip(source.splitlines(), changed.splitlines(), strict=True)
        assert all(before == after or before.startswith(("from ", "import ")) for before, after in pairs)
