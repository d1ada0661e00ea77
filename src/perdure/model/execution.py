"""Executions as lists and searches see them, and the configuration they start with."""

from typing import Final

import msgspec

from perdure.model.ids import LATEST
from perdure.model.word import Word

EXECUTION_TIMEOUT_S_MAX: Final = 31_622_400
"""366 days: also the hard end of an execution whose clock was paused (Lambda API, DurableConfig)."""


class ExecutionStatus(Word):
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    STOPPED = "STOPPED"
    DELETING = "DELETING"
    PAUSING = "PAUSING"
    PAUSED = "PAUSED"


ENDED: Final = frozenset(
    {
        ExecutionStatus.SUCCEEDED,
        ExecutionStatus.FAILED,
        ExecutionStatus.TIMED_OUT,
        ExecutionStatus.STOPPED,
        ExecutionStatus.DELETING,
    }
)
"""The statuses in which nothing of an execution changes any more, save its removal."""

OPEN: Final = tuple(status for status in ExecutionStatus if status not in ENDED)
"""The statuses of an execution that may still need its code."""


class WaitingOn(Word):
    """What a suspended execution waits for; several at once are possible."""

    TIMER = "timer"
    RETRY = "retry"
    CALLBACK = "callback"
    INVOKE = "invoke"


class DurableConfig(msgspec.Struct, frozen=True):
    """How long an execution may take, waits included, and how long it is kept after its end."""

    execution_timeout_s: int = EXECUTION_TIMEOUT_S_MAX
    retention_days: int = 14


class ParentLink(msgspec.Struct, frozen=True, array_like=True):
    """The CHAINED_INVOKE operation that started an execution."""

    execution_id: str
    operation_id: str


class ExecutionRow(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One row of the `executions` table: what lists, searches and the scan for due work need, derived from the journal.

    `name` is None where the caller gave none; the execution then goes by its id. `wake_at_ms` is the earliest moment at
    which somebody must look at the execution, None if never. The counts are as of the row's last rewriting.
    """

    execution_id: str
    function: str
    status: ExecutionStatus
    start_ms: int
    version: str = LATEST
    name: str | None = None
    end_ms: int | None = None
    wake_at_ms: int | None = None
    lease_owner: str | None = None
    lease_epoch: int = 0
    expires_at_ms: int | None = None
    operations: int = 0
    invocations: int = 0
    open_callbacks: int = 0
    waiting_on: tuple[WaitingOn, ...] = ()
    error_type: str | None = None
    parent: ParentLink | None = None

    @property
    def shown_name(self) -> str:
        return self.name if self.name is not None else self.execution_id
