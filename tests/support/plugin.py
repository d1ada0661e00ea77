"""Runs pytest with the plugin, as it is loaded where Perdure is installed, in a folder of its own."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec

SRC = Path(__file__).resolve().parents[2] / "src"
LIMIT_S = 60


class Ran(msgspec.Struct, frozen=True):
    code: int
    output: str


def install(folder: Path) -> None:
    """Have pytest find the plugin in a folder that is on its path, as if Perdure were installed there."""
    entry = folder / "entry-0.dist-info"
    entry.mkdir(exist_ok=True)
    (entry / "METADATA").write_text("Metadata-Version: 2.1\nName: entry\nVersion: 0\n")
    (entry / "entry_points.txt").write_text("[pytest11]\nperdure = perdure.testing.pytest_plugin\n")


def run_pytest(folder: Path, *arguments: str, **environment: str) -> Ran:
    """Run pytest on the folder's tests; `environment` is more than what there is."""
    install(folder)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PERDURE_", "PYTEST_"))}
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(folder), *arguments, str(folder)],
        cwd=folder,
        env={**clean, "PYTHONPATH": os.pathsep.join((str(SRC), str(folder))), "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return Ran(found.returncode, found.stdout + found.stderr)
