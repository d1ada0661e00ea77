"""Records of one kind as they were last read, and read anew when any process has changed one of them."""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from perdure.store.protocol import Record, Records

T = TypeVar("T")

_KEPT_MAX: Final = 4096


class Remembered(Generic[T]):
    """What `read` makes of records. From any thread; a record that is not there is remembered, too."""

    def __init__(self, store: Records, kind: str, read: Callable[[Record], T]) -> None:
        self._store = store
        self._kind = kind
        self._read = read
        self._kept: tuple[int, dict[str, T | None]] = (-1, {})
        self._emptiness: tuple[int, bool] = (-1, True)

    def get(self, key: str) -> T | None:
        kept = self._current()
        if key in kept:
            return kept[key]
        record = self._store.record(self._kind, key)
        found = None if record is None else self._read(record)
        if len(kept) >= _KEPT_MAX:
            kept.clear()
        kept[key] = found
        return found

    def is_empty(self) -> bool:
        """Whether there is no record of the kind."""
        version = self._store.records_version(self._kind)
        if self._emptiness[0] != version:
            self._emptiness = version, not self._store.records(self._kind, limit=1)
        return self._emptiness[1]

    def _current(self) -> dict[str, T | None]:
        """What was read since the last change. Who reads while one is made puts what it found where nobody looks."""
        version = self._store.records_version(self._kind)
        if self._kept[0] != version:
            self._kept = version, {}
        return self._kept[1]
