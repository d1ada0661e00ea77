"""Identifiers and chance from a seed."""

import random

from perdure.engine import tokens
from perdure.model.ids import execution_key, new_execution_id


class SeededIds:
    """The `Ids` of the engine, the same for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def execution_id(self, now_ms: int) -> str:
        return new_execution_id(now_ms, self._random.randbytes(10))

    def callback_id(self, execution_id: str) -> str:
        return tokens.callback_id(execution_key(execution_id), self._random.randbytes(16))

    def jitter(self) -> float:
        return self._random.random()
