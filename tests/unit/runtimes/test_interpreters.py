"""What runs which runtime, and what its process is told by its environment."""

import sys
from pathlib import Path

import pytest

from perdure.model.function import FunctionVersion
from perdure.model.ids import Home
from perdure.runtimes.environment import Place, variables
from perdure.runtimes.interpreters import Interpreters, InvalidEntrypoint, is_known
from support.functions import node

OWN = f"python3.{sys.version_info.minor}"


def script(place: Path, text: str) -> str:
    place.write_text(text)
    place.chmod(0o755)
    return str(place)


@pytest.mark.parametrize(
    "runtime", ["python3.9", "python3.14", "nodejs18.x", "nodejs24.x", "provided.al2023", "provided"]
)
def test_these_runtimes_are_known(runtime: str) -> None:
    assert is_known(runtime)


@pytest.mark.parametrize("runtime", ["python2.7", "python3.8", "nodejs16.x", "nodejs", "java21", "go1.x", ""])
def test_these_are_not(runtime: str) -> None:
    assert not is_known(runtime)
    with pytest.raises(InvalidEntrypoint, match="is none of"):
        Interpreters().launch(runtime, Path())


def test_the_own_version_of_python_runs_in_the_own_interpreter() -> None:
    launch = Interpreters().launch(OWN, Path())
    assert launch.command[0] == sys.executable
    assert launch.command[1].endswith("python_client.py")
    assert launch.note is None


def test_another_version_of_python_is_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = script(tmp_path / "python3.10", "#!/bin/sh\necho python3.10\n")
    assert Interpreters().launch("python3.10", Path()).command[0] == found


def test_a_python_that_is_not_what_its_name_says_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version managers put such scripts on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    script(tmp_path / "python3.10", "#!/bin/sh\nexit 127\n")
    launch = Interpreters().launch("python3.10", Path())
    assert launch.command[0] == sys.executable
    assert launch.note == f"there is no python3.10 on this machine: {OWN} runs this function"


def test_a_given_interpreter_comes_first(tmp_path: Path) -> None:
    given = script(tmp_path / "py", "")
    interpreters = Interpreters({"python3.12": given, "nodejs20.x": given, "python3.13": "/nowhere"})
    assert interpreters.launch("python3.12", Path()).command[0] == given
    assert interpreters.launch("nodejs20.x", Path()).command[0] == given
    with pytest.raises(InvalidEntrypoint, match="can't be executed: '/nowhere'"):
        interpreters.launch("python3.13", Path())


def test_node_is_that_of_the_wheel_where_there_is_none_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    command = Interpreters().launch("nodejs22.x", Path()).command
    assert command[0] == node()
    assert command[1].endswith("node_client.mjs")


def test_a_bootstrap_must_be_there_and_be_executable(tmp_path: Path) -> None:
    with pytest.raises(InvalidEntrypoint, match="the package has no file 'bootstrap' at its top"):
        Interpreters().launch("provided.al2023", tmp_path)
    (tmp_path / "bootstrap").write_text("")
    with pytest.raises(InvalidEntrypoint, match="chmod 755"):
        Interpreters().launch("provided.al2023", tmp_path)
    found = script(tmp_path / "bootstrap", "")
    assert Interpreters().launch("provided.al2023", tmp_path).command == (found,)


PLACE = Place("box", Path("/root"), Path("/temp"), 4711, 1_764_547_200_000)


def test_the_environment_is_what_lambda_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "x")
    monkeypatch.setenv("PATH", "/bin")
    version = FunctionVersion(
        function="fn", version="3", runtime="python3.12", handler="app.h", memory_mb=256, environment={"A": "1"}
    )
    found = variables(version, PLACE, Home(), {"AWS_ACCESS_KEY_ID": "key"}, "http://here")
    assert found == {
        "A": "1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_LAMBDA": "http://here",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.12",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_NAME": "fn",
        "AWS_LAMBDA_FUNCTION_VERSION": "3",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_FORMAT": "Text",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/fn",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2025/12/01/[3]box",
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:4711",
        "AWS_REGION": "us-east-1",
        "HOME": "/temp",
        "LAMBDA_RUNTIME_DIR": found["LAMBDA_RUNTIME_DIR"],
        "LAMBDA_TASK_ROOT": "/root",
        "LANG": "C.UTF-8",
        "LD_LIBRARY_PATH": "/root:/root/lib",
        "PATH": "/bin",
        "PERDURE_ENDPOINT": "http://here",
        "PERDURE_SANDBOX": "box",
        "TMPDIR": "/temp",
        "TZ": ":UTC",
        "_HANDLER": "app.h",
    }


def test_a_function_may_set_its_time_zone_but_not_what_is_reserved() -> None:
    given = {"TZ": "Europe/Berlin", "PATH": "/mine", "LAMBDA_TASK_ROOT": "/elsewhere", "AWS_REGION": "mars"}
    version = FunctionVersion(function="fn", environment=given)
    found = variables(version, PLACE, Home(), {}, None)
    assert (found["TZ"], found["PATH"]) == ("Europe/Berlin", "/mine")
    assert (found["LAMBDA_TASK_ROOT"], found["AWS_REGION"]) == ("/root", "us-east-1")
    assert "AWS_ENDPOINT_URL_LAMBDA" not in found
    assert "AWS_EXECUTION_ENV" not in found


def test_the_logging_of_the_configuration_reaches_the_function() -> None:
    more = {"LoggingConfig": {"ApplicationLogLevel": "WARN", "LogGroup": "mine"}}
    found = variables(FunctionVersion(function="fn", log_format="JSON", more=more), PLACE, Home(), {}, None)
    assert (found["AWS_LAMBDA_LOG_LEVEL"], found["AWS_LAMBDA_LOG_GROUP_NAME"]) == ("WARN", "mine")
    plain = variables(FunctionVersion(function="fn", log_format="JSON"), PLACE, Home(), {}, None)
    assert plain["AWS_LAMBDA_LOG_LEVEL"] == "INFO"
