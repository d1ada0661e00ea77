"""Identifiers and chance of a running system."""

import os
import random
import threading

from perdure.engine import tokens
from perdure.model.ids import execution_key, new_execution_id


class RandomIds:
    """Ids that nobody can guess; execution ids of one process sort in the order in which they were made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_ms = 0
        self._counter = 0

    def execution_id(self, now_ms: int) -> str:
        """A UUIDv7 whose twelve bits after the time count within the millisecond, from a random start."""
        with self._lock:
            if now_ms > self._last_ms:
                self._last_ms = now_ms
                self._counter = int.from_bytes(os.urandom(1), "big")
            else:
                self._counter += 1
                if self._counter > 0x0FFF:
                    self._last_ms += 1
                    self._counter = 0
            moment_ms, counter = self._last_ms, self._counter
        return new_execution_id(moment_ms, counter.to_bytes(2, "big") + os.urandom(8))

    def callback_id(self, execution_id: str) -> str:
        return tokens.callback_id(execution_key(execution_id), os.urandom(16))

    def jitter(self) -> float:
        return random.random()
