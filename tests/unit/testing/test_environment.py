"""Environment variables that look like Perdure's and are none."""

import re
import warnings
from pathlib import Path

import pytest

import perdure
from perdure.testing.environment import KNOWN, UnknownVariableWarning, warn_of_unknown

_READ = re.compile(r"\bPERDURE_[A-Z_]+[A-Z]\b")
SRC = Path(perdure.__file__).parent


def test_every_variable_that_the_source_names_is_known() -> None:
    """[T17]"""
    files = [path for path in SRC.rglob("*.py") if path.name != "environment.py" or path.parent.name != "testing"]
    read = {name for path in files for name in _READ.findall(path.read_text("utf-8"))}
    assert read <= KNOWN


def test_a_misspelt_variable_is_warned_of_once() -> None:
    with pytest.warns(UnknownVariableWarning, match="PERDURE_ENPOINT is not read; did you mean PERDURE_ENDPOINT?"):
        warn_of_unknown({"PERDURE_ENPOINT": "http://here", "PERDURE_ENDPOINT": "http://there"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_unknown({"PERDURE_ENPOINT": "http://here", "HOME": "/"})


def test_a_variable_of_the_official_tools_that_means_nothing_here_is_warned_of() -> None:
    with pytest.warns(UnknownVariableWarning, match="DURABLE_EXECUTION_TIME_SCALE is not read; time is skipped"):
        warn_of_unknown({"DURABLE_EXECUTION_TIME_SCALE": "0.1"})
    with pytest.warns(UnknownVariableWarning, match="PERDURE_QQQQ is not read; there are PERDURE_ACCESS_KEY_ID, "):
        warn_of_unknown({"PERDURE_QQQQ": "1"})
