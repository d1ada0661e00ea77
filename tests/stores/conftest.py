"""The stores that the suite runs on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.store.memory import MemoryStore
from perdure.store.protocol import Store
from perdure.store.sqlite import SqliteStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "store.db")
    yield made
    made.close()
