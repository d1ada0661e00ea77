"""How records are changed in a SQLite file: all of a change, or nothing of it."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from perdure.store.protocol import Change


class _Unexpected(Exception):
    """A record does not have the revision that it must have."""


def change_records(
    writer: sqlite3.Connection,
    sql: Mapping[str, str],
    transaction: Callable[[], AbstractContextManager[None]],
    changes: Sequence[Change],
) -> bool:
    """Make all `changes` in one transaction of `writer`; False, with nothing changed, if an expectation fails."""
    try:
        with transaction():
            version: int = writer.execute(sql["next_record_version"]).fetchone()[0]
            for change in changes:
                _change_one(writer, sql, change, version)
            for kind in {change.kind for change in changes}:
                writer.execute(sql["put_records_version"], (kind, version))
    except _Unexpected:
        return False
    return True


def _change_one(writer: sqlite3.Connection, sql: Mapping[str, str], change: Change, version: int) -> None:
    if change.expected is not None:
        found = writer.execute(sql["record_revision"], (change.kind, change.key)).fetchone()
        if (found[0] if found else 0) != change.expected:
            raise _Unexpected
    if change.data is None:
        writer.execute(sql["delete_record"], (change.kind, change.key))
    else:
        writer.execute(sql["put_record"], (change.kind, change.key, version, change.data))
