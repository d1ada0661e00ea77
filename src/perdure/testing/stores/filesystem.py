"""The official home of the store in a folder."""

from pathlib import Path
from typing import Final

from perdure.store.protocol import Store
from perdure.testing.stores.sqlite import DATABASE, SQLiteExecutionStore

__all__ = ["FileSystemExecutionStore"]

FOLDER: Final = ".durable_executions"


class FileSystemExecutionStore:
    """Makes stores in a folder: a database in it, where the official package has a file for each execution."""

    @classmethod
    def create(cls, storage_dir: "str | Path | None" = None) -> Store:
        """The store in this folder, which is made if it does not exist; by default `.durable_executions`."""
        folder = Path(storage_dir) if storage_dir else Path(FOLDER)
        folder.mkdir(exist_ok=True)
        return SQLiteExecutionStore.create_and_initialize(folder / DATABASE)
