"""The hash of a worker's code: the same for the same files, on whichever machine and in whichever folder they lie.

It covers the source files of the packages that the handlers' modules belong to, and of all that has been imported from
beside them; not what is installed (site-packages), nor data files.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import msgspec

from perdure.worker.loading import NotLoaded

SUFFIXES: Final = frozenset({".py", ".so", ".pyd"})
FILES_MAX: Final = 5_000
BYTES_MAX: Final = 50 * 1024 * 1024


class Code(msgspec.Struct, frozen=True):
    """The hash of some code, in hex digits, and how much of it there is."""

    sha256: str
    files: int
    size_bytes: int


def code_of(modules: Iterable[ModuleType]) -> Code:
    """The code of these modules. NotLoaded if one has no file, or if it is too much to be anybody's code."""
    roots = _roots(modules)
    found = {
        path.relative_to(root).as_posix(): path
        for root, names in roots.items()
        for name in names
        for path in _files(root / name)
    }
    size_bytes = sum(path.stat().st_size for path in found.values())
    if len(found) > FILES_MAX or size_bytes > BYTES_MAX:
        raise NotLoaded(
            f"the code in {', '.join(map(str, roots))} has {len(found)} files and {size_bytes} bytes",
            f"keep handlers in a package of their own: at most {FILES_MAX} files and {BYTES_MAX} bytes are hashed",
        )
    digest = hashlib.sha256()
    for name, path in sorted(found.items()):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return Code(digest.hexdigest(), len(found), size_bytes)


def _roots(modules: Iterable[ModuleType]) -> dict[Path, set[str]]:
    """The folders that the modules were imported from, each with the packages and files in it that are used."""
    roots: dict[Path, set[str]] = {}
    for module in modules:
        place = _place(module)
        if place is None:
            raise NotLoaded(f"module {module.__name__} has no file whose code could be hashed", "name a file")
        roots.setdefault(place.parent, set()).add(place.name)
    for module in list(sys.modules.values()):
        place = _place(module)
        if place is not None and place.parent in roots and not _is_installed(place):
            roots[place.parent].add(place.name)
    return roots


def _place(module: ModuleType) -> Path | None:
    """The folder of the package that a module belongs to, or its file if it belongs to none."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return None
    path = Path(file).resolve()
    depth = module.__name__.count(".") + (path.stem == "__init__")
    for _ in range(depth):
        path = path.parent
    return path


def _is_installed(path: Path) -> bool:
    return "site-packages" in path.parts or any(path.is_relative_to(prefix) for prefix in _PREFIXES)


_PREFIXES: Final = tuple({Path(prefix, "lib").resolve() for prefix in (sys.prefix, sys.base_prefix)})


def _files(place: Path) -> Iterator[Path]:
    """The files of code at a place, hidden folders and caches aside."""
    if place.is_file():
        yield place
        return
    for path in sorted(place.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.suffix in SUFFIXES:
            yield path
