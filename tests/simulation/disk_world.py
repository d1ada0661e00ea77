"""A world on a disk: one node after the other on the real SQLite store, which fails as disks do."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from simulation.disk import Disk
from simulation.faults import Died, RecordingStore
from simulation.nodes import Node
from simulation.plans import Plan
from simulation.world import World

RATES: Final = (0.0, 0.01, 0.05, 0.15)


class RecordingDisk(Disk, RecordingStore):
    """The disk, with the record of who has written what that the oracle needs."""


class DiskWorld(World):
    """Plays a plan on a disk in `folder`. A power cut is the death of all who are there."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._folder = folder
        self._acting: list[Node] = []
        super().__init__(replace(plan, nodes=1, is_shared=False, skew_ms=0))
        self.is_exact = False
        self.exact_until = 0

    def make_store(self, lease_ms: int | None) -> RecordingStore:
        rng = random.Random(self.plan.seed ^ 0xD15C)
        given: dict[str, Any] = {"world": self, "lease_ms": None}
        self.disk = RecordingDisk(self._folder, rng, rate=rng.choice(RATES), when_cut=self._power_is_gone, **given)
        return self.disk

    def _power_is_gone(self) -> None:
        for node in [*self.nodes, self.desk]:
            node.store.is_dead = node.store.is_troubled = True
        raise Died

    def _let(self, node: Node, act: Callable[[], None]) -> None:
        self._acting.append(node)
        try:
            super()._let(node, act)
        finally:
            self._acting.pop()
            for other in [*self.nodes, self.desk]:
                if other.store.is_dead and other not in self._acting:
                    self._replace(other)

    def finish(self) -> None:
        self.disk.rate = 0.0
        super().finish()

    def judge(self) -> None:
        super().judge()
        self.disk.check()
