"""The hot cache: states of executions in memory, bounded by what they weigh.

A state is right as long as its next append gets the number it expects. So nothing has to be told to the cache: who
loses an append drops the state and reads it again.
"""

import threading
from collections import OrderedDict
from typing import Final

from perdure.engine.state import ExecutionState

HOT_BYTES: Final = 64 * 1024 * 1024
ENTRY_BYTES: Final = 4_000
"""What a state weighs without its operations (measured: 3.3 KiB for an execution with one wait)."""
OPERATION_BYTES: Final = 600


class Entry:
    """The place of one execution in the cache. Who holds the lock may read and change the state."""

    __slots__ = ("execution_id", "lock", "pins", "state", "weight")

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        self.lock = threading.Lock()
        self.state: ExecutionState | None = None
        self.pins = 0
        self.weight = 0


class HotCache:
    """Entries by execution id, the least recently used dropped first. A pinned entry is in use and stays."""

    def __init__(self, bytes_max: int = HOT_BYTES) -> None:
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._weight = 0

    def pin(self, execution_id: str) -> Entry:
        """The entry of an execution, made if need be; it stays until it is unpinned as often as it was pinned."""
        with self._lock:
            entry = self._entries.get(execution_id)
            if entry is None:
                entry = self._entries[execution_id] = Entry(execution_id)
            else:
                self._entries.move_to_end(execution_id)
            entry.pins += 1
            return entry

    def unpin(self, entry: Entry) -> None:
        """Let go of an entry, weigh it anew, and drop others if the cache has become too heavy."""
        state = entry.state
        weight = 0
        if state is not None:
            head = state.head
            weight = ENTRY_BYTES + OPERATION_BYTES * head.operation_count + min(head.written_bytes, 1 << 40)
        with self._lock:
            entry.pins -= 1
            self._weight += weight - entry.weight
            entry.weight = weight
            if not weight and not entry.pins:
                self._entries.pop(entry.execution_id, None)
            if self._weight > self._bytes_max:
                self._shrink()

    def _shrink(self) -> None:
        entries = self._entries
        spared = 0
        while self._weight > self._bytes_max and spared < len(entries):
            execution_id = next(iter(entries))
            entry = entries[execution_id]
            if entry.pins:
                entries.move_to_end(execution_id)
                spared += 1
            else:
                del entries[execution_id]
                self._weight -= entry.weight
                entry.weight = 0

    @property
    def weight(self) -> int:
        """An estimate of the bytes that the states take."""
        return self._weight

    def __len__(self) -> int:
        return len(self._entries)
