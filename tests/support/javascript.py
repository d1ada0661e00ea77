"""What npm has for the tests: the official JavaScript SDK and runtime client, installed once into a cache folder."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path

from support.functions import node

FOLDER = Path(__file__).resolve().parents[1] / "conformance" / "javascript"
SDK = "@aws/durable-execution-sdk-js"
INSTALL_S = 300


def wheel() -> Path:
    """The folder of the Node.js that comes from PyPI, which has npm."""
    return Path(node()).parent.parent


@cache
def node_modules() -> Path:
    """The folder with the packages of `package-lock.json`; AssertionError, with npm's words, if npm can't have them."""
    lock = (FOLDER / "package-lock.json").read_bytes()
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perdure-tests"
    place = caches / f"javascript-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not place.exists():
        caches.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=caches) as temporary:
            made = Path(temporary) / "made"
            shutil.copytree(FOLDER, made)
            _install(made)
            try:
                made.rename(place)
            except OSError:
                assert place.exists()  # another process was quicker
    return place / "node_modules"


def _install(folder: Path) -> None:
    """The scripts of packages are not run: the native part of aws-lambda-ric needs tools that few machines have."""
    npm = wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    environment = {**os.environ, "PATH": f"{wheel() / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
    done = subprocess.run(
        [node(), str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    assert done.returncode == 0, f"npm can't install the official JavaScript packages:\n{done.stdout}\n{done.stderr}"


@cache
def package(bootstrap: str | None = None) -> bytes:
    """A deployment package as `zip -r` makes it of a folder: `index.js`, and the SDK with all that it needs."""
    modules, target = node_modules(), BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(FOLDER / "index.js", "index.js")
        if bootstrap is not None:
            info = zipfile.ZipInfo("bootstrap")
            info.external_attr = 0o100755 << 16
            archive.writestr(info, bootstrap)
        for folder in sorted(_needed(modules)):
            for file in _files(folder):
                archive.write(file, Path("node_modules") / file.relative_to(modules))
    return target.getvalue()


def _needed(modules: Path) -> set[Path]:
    """The folders of the SDK and of what it depends on."""
    found: set[Path] = set()
    left = [(modules, SDK)]
    while left:
        here, name = left.pop()
        folder = here / name if (here / name).exists() else modules / name
        if folder in found:
            continue
        found.add(folder)
        dependencies = json.loads((folder / "package.json").read_text("utf-8")).get("dependencies", {})
        left += [(folder / "node_modules", dependency) for dependency in dependencies]
    return found


def _files(folder: Path) -> Iterator[Path]:
    """What runs; types and sources for debuggers are left out, and what else lies beneath is packages of its own."""
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        is_part = file.is_file() and not {"node_modules", "dist-types", "dist-es"} & set(parts)
        if is_part and not file.name.endswith((".map", ".ts", ".md")):
            yield file
