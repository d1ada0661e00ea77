"""Identifiers of a test: the same for the same seed. What is left to chance elsewhere is not: pauses are exact."""

import random
import threading

from perdure.engine import tokens
from perdure.model.ids import execution_key, new_execution_id
from perdure.service import ids as service

_FIRST_MS = 1_764_547_200_000
"""The moment that the ids of executions say: not that of their start, which may differ from run to run."""


class RandomIds(service.RandomIds):
    """Ids of executions that outlive their runner: nobody else has them."""

    def jitter(self) -> float:
        return 0.0


class SeededIds:
    """The ids of one runner. `context.random()` and `context.uuid4()` follow from them, and so repeat too."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._count = 0

    def execution_id(self, now_ms: int) -> str:
        with self._lock:
            self._count += 1
            return new_execution_id(_FIRST_MS + self._count, self._random.randbytes(10))

    def callback_id(self, execution_id: str) -> str:
        with self._lock:
            return tokens.callback_id(execution_key(execution_id), self._random.randbytes(16))

    def jitter(self) -> float:
        return 0.0
