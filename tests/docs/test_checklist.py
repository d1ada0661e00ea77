"""Every line of the SDK specification's checklist has a test that says so, by its number in the docstring."""

import ast
import re
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
LINES = 88


def test_each_of_the_88_lines_has_a_test_that_names_it() -> None:
    tests: dict[int, list[str]] = defaultdict(list)
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                for number in re.findall(r"\[(\d+)\]", ast.get_docstring(node) or ""):
                    tests[int(number)].append(f"{file.name}::{node.name}")
    missing = [number for number in range(1, LINES + 1) if not tests[number]]
    assert not missing, f"lines of the checklist without a test: {missing}"
    beyond = [f"[{number}] {names}" for number, names in tests.items() if number > LINES]
    assert not beyond, f"there are {LINES} lines: {beyond}"
