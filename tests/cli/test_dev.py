"""What `perdure dev` serves, what it shows, and which code it takes for broken."""

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.cli.dev import checks
from perdure.cli.dev.live import MUTED, Live, LogLines, Spoken, speaking
from perdure.cli.dev.source import find_source
from perdure.cli.exits import CliError
from perdure.model.ids import Home
from perdure.runtimes.interpreters import Interpreters
from perdure.runtimes.logs import Record
from support.functions import PYTHON, node

INTERPRETERS = Interpreters({"nodejs22.x": node(), "python3.99": sys.executable + "-none"})


@pytest.fixture
def shown() -> Iterator[tuple[Live, io.StringIO]]:
    out = io.StringIO()
    live = Live(out)
    yield live, out
    live.close()


def lines(shown: tuple[Live, io.StringIO]) -> list[str]:
    """What was shown, without the times."""
    live, out = shown
    live.close()
    return [line.partition(" ")[2] for line in out.getvalue().splitlines()]


# --- what is served ------------------------------------------------------------------------------------------------


def test_without_an_argument_a_template_comes_before_the_app_of_pyproject(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context): ...")
    (tmp_path / "pyproject.toml").write_text(f"[tool.perdure]\napp = '{tmp_path}/app.py'")
    assert find_source(None, tmp_path, {}, Home()).title == f"{tmp_path}/app.py"
    (tmp_path / "template.yml").write_text("Resources: {T: {Type: AWS::SQS::Queue}}")
    assert find_source(None, tmp_path, {}, Home()).title == f"{tmp_path}/template.yml"
    assert find_source(str(tmp_path), Path(), {}, Home()).title == f"{tmp_path}/template.yml"
    with pytest.raises(CliError, match=r"there is no template.yaml in"):
        find_source(None, Path(__file__).parent, {}, Home())


# --- lines ---------------------------------------------------------------------------------------------------------


def test_what_a_function_prints_is_lines_of_its_own_and_all_else_goes_on(shown: tuple[Live, io.StringIO]) -> None:
    beyond = io.StringIO()
    spoken = Spoken(shown[0], beyond)
    print("before", file=spoken)
    token = speaking.set("order")
    spoken.write("one\ntw")
    spoken.write("o\nrest")
    spoken.end_line()
    spoken.end_line()
    speaking.reset(token)
    token = speaking.set(MUTED)
    spoken.write("said before\n")
    speaking.reset(token)
    assert lines(shown) == ["[order] one", "[order] two", "[order] rest"]
    assert beyond.getvalue() == "before\n"


def test_log_records_have_their_function_and_those_of_perdure_their_facts(shown: tuple[Live, io.StringIO]) -> None:
    handler = LogLines(shown[0])
    arn = "arn:aws:lambda:us-east-1:000000000000:function:order:1/durable-execution/n/i"
    for name, level, text, extra in (
        ("root", logging.INFO, "charging", {"executionArn": arn}),
        ("root", logging.ERROR, "no luck", {"executionArn": "none"}),
        ("perdure.server", logging.WARNING, "slow", {"seconds": 3}),
    ):
        handler.emit(
            logging.makeLogRecord(
                {"name": name, "levelno": level, "levelname": logging.getLevelName(level), "msg": text, **extra}
            )
        )
    assert lines(shown) == ["[order] charging", "ERROR no luck", "WARNING slow seconds=3"]


def test_of_the_platform_its_notes_are_shown_once(shown: tuple[Live, io.StringIO]) -> None:
    follow = shown[0].follower("order")
    texts = [("START RequestId: x", True), ("NOTE no python", True), ("NOTE no python", True), ("hello", False)]
    follow([Record(at_ms=0, text=text, version="1", sandbox="s", is_platform=is_it) for text, is_it in texts])
    assert lines(shown) == ["[order] NOTE no python", "[order] hello"]


# --- broken code ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runtime", "name", "good", "broken", "said"),
    [
        (PYTHON, "app.py", "x = 1", "x = = 1", "app.py, line 1: invalid syntax"),
        (PYTHON, "app.py", "x = '\\d'", "x = 1\n  y", "app.py, line 2: unexpected indent"),
        (PYTHON, "app.py", "", "a\0", "app.py: source code string cannot contain null bytes"),
        (
            "nodejs22.x",
            "app.mjs",
            "export const a = 1",
            "const a = ;",
            "app.mjs, line 1: SyntaxError: Unexpected token ';'",
        ),
        ("nodejs22.x", "app.js", "exports.a = 1", "\nlet a = (", "app.js, line"),
        ("provided.al2023", "bootstrap", "x", "x", ""),
    ],
)
def test_syntax_errors_are_found_before_code_runs(
    tmp_path: Path, runtime: str, name: str, good: str, broken: str, said: str
) -> None:
    (tmp_path / name).write_text(good)
    assert checks.first_error(INTERPRETERS, runtime, tmp_path, [name, "gone.py"]) is None
    (tmp_path / name).write_text(broken)
    error = checks.first_error(INTERPRETERS, runtime, tmp_path, ["other.txt", name])
    assert said in (error or "")
    assert bool(error) is bool(said)


def test_another_python_is_asked_for_its_own_grammar(tmp_path: Path) -> None:
    """The interpreter stands in for one of another version."""
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    other = Interpreters({"python3.9": str(link)})
    (tmp_path / "app.py").write_text("x = = 1")
    assert checks.first_error(other, "python3.9", tmp_path, ["app.py"]) == "app.py, line 1: invalid syntax"
    assert checks.first_error(INTERPRETERS, "python3.99", tmp_path, ["app.py"]) is None, "nobody can tell"
    (tmp_path / "app.py").write_text("x = 1")
    assert checks.first_error(other, "python3.9", tmp_path, ["app.py"]) is None


def test_a_handler_is_looked_for_where_its_runtime_would(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").touch()
    (tmp_path / "index.mjs").touch()
    (tmp_path / "package").mkdir()
    for runtime, handler in (
        ("python3.13", "src/app.handler"),
        ("python3.13", "src.app.handler"),
        ("python3.13", "package.handler"),
        ("nodejs22.x", "index.handler"),
    ):
        assert checks.missing_handler(runtime, handler, tmp_path) is None
    missing = checks.missing_handler("python3.13", "app.handler", tmp_path)
    assert missing == f"the handler is app.handler, and there is no file app.py in {tmp_path}"
    assert "app.js, .mjs or .cjs" in str(checks.missing_handler("nodejs22.x", "app.handler", tmp_path))
    assert "no file bootstrap" in str(checks.missing_handler("provided.al2023", "x", tmp_path))
