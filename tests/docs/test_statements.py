"""Every testable statement of the wire's specification has a test that says so, by its number in the docstring."""

import ast
import re
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
STATEMENTS = 67


def test_each_of_the_67_statements_has_a_test_that_names_it() -> None:
    tests: dict[int, list[str]] = defaultdict(list)
    for file in sorted((TESTS / "conformance").rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                for number in re.findall(r"\[S(\d+)\]", ast.get_docstring(node) or ""):
                    tests[int(number)].append(f"{file.name}::{node.name}")
    missing = [number for number in range(1, STATEMENTS + 1) if not tests[number]]
    assert not missing, f"statements without a test: {missing}"
    beyond = [f"[S{number}] {names}" for number, names in tests.items() if number > STATEMENTS]
    assert not beyond, f"there are {STATEMENTS} statements: {beyond}"
