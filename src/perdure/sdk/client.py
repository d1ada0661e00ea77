"""The seam between the SDK and whoever keeps the journal: in process, a server, or AWS."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from perdure.model.operation import Operation, OperationUpdate


class Answer(msgspec.Struct, frozen=True):
    """What a checkpoint is answered: the operations that have changed.

    Without the right to go on (`may_go_on` False), the invocation must end: the execution has ended, is being paused,
    or has been taken over.
    """

    operations: Sequence[Operation]
    may_go_on: bool = True


class Client(Protocol):
    """Keeps the token of one invocation. Calls are made one after the other, from any thread."""

    @property
    def answers_waits(self) -> bool:
        """Whether the answer to the START of a wait may say that it is over already.

        If not, an update after which the invocation can only wait travels with the invocation's own answer.
        """
        ...

    def checkpoint(self, updates: Sequence[OperationUpdate]) -> Answer:
        """Make `updates` durable, all or none. Raises CheckpointError if the service refuses or can't be reached."""
        ...
