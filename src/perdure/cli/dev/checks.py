"""Is code that was just saved worth running? Its syntax is checked before it takes the place of what runs.

The interpreter that will run it is asked; if that is the one of this process, no other has to be started.
"""

import subprocess
import sys
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from perdure.model.error import ServiceError
from perdure.runtimes.interpreters import Interpreters

FILES_MAX: Final = 50
"""So many changed files are looked at; more were not written by hand."""
ASK_S: Final = 10.0
NODE_SUFFIXES: Final = (".js", ".mjs", ".cjs")

_ASK_PYTHON: Final = """
import sys
for path in sys.argv[1:]:
    try:
        with open(path, "rb") as file:
            compile(file.read(), path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        print(path, getattr(error, "lineno", None) or "", getattr(error, "msg", None) or error, sep="\\n")
        break
"""


def handler_file(runtime: str, handler: str, folder: Path) -> str | None:
    """The file that a handler is in, relative to the folder; None if there is none."""
    stem = handler.rpartition(".")[0]
    suffixes = (".py",) if runtime.startswith("python") else NODE_SUFFIXES
    names = [stem.replace(".", "/") + suffix for suffix in suffixes] + [stem + suffix for suffix in suffixes]
    return next((name for name in names if (folder / name).is_file()), None)


def missing_handler(runtime: str, handler: str, folder: Path) -> str | None:
    """What is wrong if the handler of a folder's code is in no file; None if all is well."""
    if runtime.startswith("provided"):
        return None if (folder / "bootstrap").is_file() else f"there is no file bootstrap in {folder}"
    if handler_file(runtime, handler, folder) is not None:
        return None
    stem = handler.rpartition(".")[0] or handler
    suffix = ".py" if runtime.startswith("python") else ".js, .mjs or .cjs"
    is_package = (folder / stem.replace(".", "/")).is_dir()
    return None if is_package else f"the handler is {handler}, and there is no file {stem}{suffix} in {folder}"


def first_error(interpreters: Interpreters, runtime: str, folder: Path, names: Collection[str]) -> str | None:
    """The first syntax error in files of a folder, with its line; None if there is none, or nobody here can tell."""
    is_python = runtime.startswith("python")
    suffixes = (".py",) if is_python else NODE_SUFFIXES
    chosen = [name for name in sorted(names) if name.endswith(suffixes) and (folder / name).is_file()]
    if not chosen or len(chosen) > FILES_MAX or not runtime.startswith(("python", "nodejs")):
        return None
    try:
        program = interpreters.launch(runtime, folder).command[0]
    except ServiceError:
        return None  # the function's log will say so
    if not is_python:
        return next((error for name in chosen if (error := _node_error(program, folder, name)) is not None), None)
    if program == sys.executable:
        return next((error for name in chosen if (error := _own_error(folder, name)) is not None), None)
    return _python_error(program, folder, chosen)


def _own_error(folder: Path, name: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile((folder / name).read_bytes(), name, "exec", dont_inherit=True)
    except OSError:
        return None
    except (SyntaxError, ValueError) as error:
        return _said(name, str(getattr(error, "lineno", None) or ""), str(getattr(error, "msg", None) or error))
    return None


def _python_error(program: str, folder: Path, names: Sequence[str]) -> str | None:
    lines = _ask([program, "-S", "-W", "ignore", "-c", _ASK_PYTHON, *names], folder).splitlines()
    return _said(lines[0], lines[1], lines[2]) if len(lines) == 3 else None


def _node_error(program: str, folder: Path, name: str) -> str | None:
    lines = _ask([program, "--check", name], folder).splitlines()
    error = next((line for line in lines if line.startswith("SyntaxError")), None)
    if error is None:
        return None
    line = lines[0].rpartition(":")[2]
    return _said(name, line if line.isdecimal() else "", error)


def _ask(command: Sequence[str], folder: Path) -> str:
    """What an interpreter says; nothing if it can't be asked."""
    try:
        asked = subprocess.run(
            command, cwd=folder, capture_output=True, timeout=ASK_S, check=False, text=True, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout + asked.stderr


def _said(name: str, line: str, words: str) -> str:
    return f"{name}, line {line}: {words}" if line else f"{name}: {words}"
