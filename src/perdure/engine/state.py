"""What a journal folds to: the state of one execution.

It has two parts. The `Head` has constant size, whatever the execution has been through; decisions work on a copy of it.
The rest grows with the operations, is only ever read by decisions, and changes when the events are applied.
"""

from typing import TypeAlias

import msgspec

from perdure.model.error import ErrorObject
from perdure.model.execution import ENDED, DurableConfig, ExecutionStatus, ParentLink
from perdure.model.function import target_of
from perdure.model.operation import Callback, ChainedInvoke, Operation, OperationStatus, Step, Wait


class InFlight(msgspec.Struct, frozen=True, gc=False):
    """The invocation that has the right to write. `count` is how many checkpoints it has made.

    A revoked one may run on but not write: the execution was paused under it.
    """

    epoch: int
    owner: str
    start_ms: int
    count: int = 0
    is_revoked: bool = False


class Paused(msgspec.Struct, frozen=True, gc=False):
    """A pause, requested or begun (`since_ms`)."""

    requested_ms: int
    reason: str | None
    is_timeout_paused: bool
    is_quarantine: bool = False
    since_ms: int | None = None


class Failures(msgspec.Struct, frozen=True, gc=False):
    """Failed invocations: in a row, in a row without any progress, and the last error."""

    in_a_row: int = 0
    same_point: int = 0
    progress: int = 0
    last: ErrorObject | None = None


class Request(msgspec.Struct, frozen=True, gc=False):
    """An operator's request, remembered so that a repetition has no second effect."""

    client_token: str
    at_ms: int


class Head(msgspec.Struct, gc=False):
    """All of an execution that has constant size. Counts are of operations unless they say otherwise."""

    execution_id: str
    function: str
    version: str
    name: str | None
    input: str | None
    start_ms: int
    config: DurableConfig
    deadline_ms: int
    parent: ParentLink | None = None
    tenant_id: str | None = None
    trace_header: str | None = None

    status: ExecutionStatus = ExecutionStatus.RUNNING
    end_ms: int | None = None
    result: str | None = None
    error: ErrorObject | None = None
    is_deleted: bool = False

    event_count: int = 0
    """Shown events so far: the last event id."""
    operation_count: int = 0
    """Operations started so far: the last operation number."""
    progress: int = 0
    """Events that came from the handler: if it stands still between two failures, so does the execution."""
    metered_operations: int = 0
    written_bytes: int = 0

    waits: int = 0
    retries: int = 0
    open_callbacks: int = 0
    invokes: int = 0
    """These four are pending: something outside the handler has to happen to them."""
    unseen: int = 0
    """Operations that the service has changed and the handler does not know of."""
    turned_ready: int = 0
    """Steps that have become READY since the invocation in flight began."""
    owed: int = 0
    """Effects that are not confirmed yet."""

    epoch: int = 0
    in_flight: InFlight | None = None
    invocation_count: int = 0
    must_invoke: bool = False
    """There is a reason to invoke other than an unseen change."""
    retry_at_ms: int | None = None
    failures: Failures = Failures()
    invalid_pendings: int = 0

    pause: Paused | None = None
    pause_request: Request | None = None
    resume_request: Request | None = None

    @property
    def target(self) -> str:
        """What a place for an invocation of it is for: `function:version`."""
        return target_of(self.function, self.version)

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def is_paused(self) -> bool:
        return self.status is ExecutionStatus.PAUSED

    @property
    def pending(self) -> int:
        return self.waits + self.retries + self.open_callbacks + self.invokes

    @property
    def has_work(self) -> bool:
        """The handler would get somewhere, if it were invoked."""
        return self.must_invoke or self.unseen > 0

    def can_be_invoked(self, now_ms: int) -> bool:
        return (
            self.status is ExecutionStatus.RUNNING
            and self.in_flight is None
            and self.has_work
            and (self.retry_at_ms is None or self.retry_at_ms <= now_ms)
        )


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """The last accepted checkpoint: what it was asked with, and the operations that it was answered with."""

    epoch: int
    count: int
    client_token: str | None
    at_ms: int
    operations: tuple[Operation, ...]
    digest: bytes | None = None


TimerEntry: TypeAlias = tuple[int, int, str]
"""When, the operation's number (which orders what is due at one moment), its id."""


class ExecutionState(msgspec.Struct, gc=False):
    """A `Head`, the operations in the order in which they started, and the indexes over them.

    `timers` is a heap that may hold entries which are no longer true; an entry is true if its operation is due then.
    `unseen` and `touched` are the operations that the service, respectively the handler, changed since the handler last
    was told. `updated_ids` is what was unseen when the current invocation began. `seq` counts the commits.

    The garbage collector does not see states, which hold no cycles: many are kept, and it would look at each of them
    again and again (a quarter of the time of starting 10,000 executions).
    """

    head: Head
    operations: dict[str, Operation] = {}
    timers: list[TimerEntry] = []
    callback_ids: dict[str, str] = {}
    unseen: dict[str, None] = {}
    touched: dict[str, None] = {}
    updated_ids: tuple[str, ...] = ()
    owed: dict[str, None] = {}
    delivered: Delivered | None = None
    seq: int = 0


PARENT: str = ""
"""The key under which `owed` holds that the parent must be told; all other keys are operation ids."""


class Pendings(msgspec.Struct, frozen=True, gc=False):
    """What one operation adds to the counts of pending and owed operations in `Head`."""

    waits: int = 0
    retries: int = 0
    callbacks: int = 0
    invokes: int = 0
    owed: int = 0


_NOTHING = Pendings()
_OWED_INVOKE = Pendings(invokes=1, owed=1)
_PENDING: dict[tuple[type[Operation], OperationStatus], Pendings] = {
    (Wait, OperationStatus.STARTED): Pendings(waits=1),
    (Step, OperationStatus.PENDING): Pendings(retries=1),
    (Callback, OperationStatus.STARTED): Pendings(callbacks=1),
    (ChainedInvoke, OperationStatus.STARTED): Pendings(invokes=1),
}


def pendings_of(operation: Operation | None) -> Pendings:
    """A STEP that waits for its retry is pending, and an open WAIT, CALLBACK or CHAINED_INVOKE; nothing else is."""
    if operation is None:
        return _NOTHING
    if type(operation) is ChainedInvoke and operation.is_owed:
        return _OWED_INVOKE
    return _PENDING.get((type(operation), operation.status), _NOTHING)
