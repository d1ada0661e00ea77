"""The file itself: whether it is a store of ours, who in this process has it open, and SQLite's errors as ours."""

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from perdure.model.error import NotAStore, StoreCorrupt, StoreError, StoreFull, StoreReadOnly
from perdure.model.word import Word

APPLICATION_ID: Final = 0x50524455
"""`PRDU` in the file's header: `file` and SQLite itself can tell whose database it is."""

BUSY_TIMEOUT_MS: Final = 10_000
_HINT_FILE: Final = "choose another file for the store"


class Mode(Word):
    """What a process does with the file: run functions (OWN), look and act as operators do (OPERATE), or READ."""

    OWN = "own"
    OPERATE = "operate"
    READ = "read"


opened: Final[Counter[tuple[int, int]]] = Counter()
"""The files that this process has open as stores, by device and inode.

Closing any descriptor of a file drops the locks that SQLite has on it in this process (POSIX): such a file must not be
opened beside SQLite, not even to look at its header.
"""


def check_file(path: Path, mode: Mode) -> tuple[int, int]:
    """Refuse what can't be a store before anything is written; make the file if it is to be made.

    Returns which file it is.
    """
    if path.is_dir():
        raise NotAStore(f"{path} is a folder", hint="name a file in it")
    if not path.exists():
        if mode is not Mode.OWN:
            raise NotAStore(f"there is no store at {path}", hint="`perdure run` makes one; --store names another")
        if not path.parent.is_dir():
            raise StoreReadOnly(f"the folder {path.parent} does not exist", hint="make it first")
    try:
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        found = path.stat()
        identity = (found.st_dev, found.st_ino)
        if opened[identity] > 0:
            return identity
        with path.open("rb+" if mode is Mode.OWN else "rb") as file:
            head = file.read(72)
    except OSError as error:
        raise StoreReadOnly(f"{path} can't be opened: {error.strerror}", hint="check its permissions") from error
    if not head and mode is Mode.OWN:
        return identity
    if not head.startswith(b"SQLite format 3\x00"):
        raise NotAStore(f"{path} is not a store of Perdure's", hint=_HINT_FILE)
    if head[68:72] != APPLICATION_ID.to_bytes(4, "big"):
        raise NotAStore(f"{path} is a SQLite database, but not one of Perdure's", hint=_HINT_FILE)
    return identity


def as_store_error(answer: list[bool] | Exception) -> list[bool] | StoreError:
    """An error that nobody has a name for is one of the store all the same."""
    if isinstance(answer, Exception) and not isinstance(answer, StoreError):
        return StoreError(f"the commit failed: {answer}")
    return answer


class Translated:
    """SQLite's errors as ours, with the way out."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise _translate(self._path, error) from error


def _translate(path: Path, error: sqlite3.Error) -> StoreError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_FULL"):
        return StoreFull(f"no space left for {path}", hint="make room on its disk; executions go on by themselves then")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return StoreReadOnly(
            f"{path} can't be written: {error}", hint="check the permissions of the file and its folder"
        )
    if name.startswith("SQLITE_NOTADB"):
        return NotAStore(f"{path} is not a store of Perdure's", hint=_HINT_FILE)
    if name.startswith("SQLITE_CORRUPT"):
        return StoreCorrupt(f"{path} is damaged: {error}", hint="restore it from a backup")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(f"another process has kept {path} locked for {BUSY_TIMEOUT_MS // 1000} s", hint="try again")
    return StoreError(f"{path}: {error}")


def statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would commit between them."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
