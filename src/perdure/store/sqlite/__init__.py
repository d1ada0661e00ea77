"""The embedded store: one SQLite file, durable on every commit, owned by one process at a time."""

from perdure.store.sqlite.file import Mode
from perdure.store.sqlite.store import SqliteStore

__all__ = ["Mode", "SqliteStore"]
