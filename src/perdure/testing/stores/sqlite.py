"""The official home of the store in an SQLite file."""

from pathlib import Path
from typing import Final

from perdure.store.open import open_store
from perdure.store.protocol import Store

__all__ = ["SQLiteExecutionStore"]

DATABASE: Final = "durable-executions.db"


class SQLiteExecutionStore:
    """Makes stores in a file. What it makes is Perdure's own: its files are not those of the official package."""

    @classmethod
    def create_and_initialize(cls, db_path: "Path | str | None" = None) -> Store:
        """The store in this file, which is made if it does not exist; without a path, in the current folder."""
        path = Path(db_path) if db_path else Path(DATABASE)
        path.parent.mkdir(exist_ok=True)
        return open_store(str(path))
