"""Every testable statement of a specification has a test that says so, by its number in the docstring.

[S…] are those of the wire, [T…] those of the test kit and the developer's loop.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
STATEMENTS = {
    "S": (["conformance"], {*range(1, 68)}),
    "T": (["testing", "unit", "cli", "docs"], {*range(1, 21), *range(61, 65)}),
}


@pytest.mark.parametrize("letter", STATEMENTS)
def test_each_statement_has_a_test_that_names_it(letter: str) -> None:
    folders, statements = STATEMENTS[letter]
    tests: dict[int, list[str]] = defaultdict(list)
    for file in sorted(file for folder in folders for file in (TESTS / folder).rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                for number in re.findall(rf"\[{letter}(\d+)\]", ast.get_docstring(node) or ""):
                    tests[int(number)].append(f"{file.name}::{node.name}")
    missing = sorted(number for number in statements if not tests[number])
    assert not missing, f"statements without a test: {missing}"
    beyond = [f"[{letter}{number}] {names}" for number, names in tests.items() if number not in statements]
    assert not beyond, f"there are no such statements: {beyond}"
