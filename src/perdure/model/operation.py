"""Operations: the recorded units of an execution, and the updates that ask for their change.

Source: Lambda API 2025-12-01, shapes Operation and OperationUpdate.
"""

from typing import ClassVar, Final

import msgspec

from perdure.model.error import ErrorObject
from perdure.model.word import Word


class OperationType(Word):
    EXECUTION = "EXECUTION"
    CONTEXT = "CONTEXT"
    STEP = "STEP"
    WAIT = "WAIT"
    CALLBACK = "CALLBACK"
    CHAINED_INVOKE = "CHAINED_INVOKE"


class OperationAction(Word):
    START = "START"
    SUCCEED = "SUCCEED"
    FAIL = "FAIL"
    RETRY = "RETRY"
    CANCEL = "CANCEL"


class OperationStatus(Word):
    STARTED = "STARTED"
    PENDING = "PENDING"
    READY = "READY"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"
    STOPPED = "STOPPED"


class OperationSubType(Word):
    """What the SDKs call the uses of a type. The service treats a subtype as opaque text."""

    STEP = "Step"
    WAIT = "Wait"
    CALLBACK = "Callback"
    RUN_IN_CHILD_CONTEXT = "RunInChildContext"
    MAP = "Map"
    MAP_ITERATION = "MapIteration"
    PARALLEL = "Parallel"
    PARALLEL_BRANCH = "ParallelBranch"
    WAIT_FOR_CALLBACK = "WaitForCallback"
    WAIT_FOR_CONDITION = "WaitForCondition"
    CHAINED_INVOKE = "ChainedInvoke"


TERMINAL: Final = frozenset(
    {
        OperationStatus.SUCCEEDED,
        OperationStatus.FAILED,
        OperationStatus.CANCELLED,
        OperationStatus.TIMED_OUT,
        OperationStatus.STOPPED,
    }
)


class Operation(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What every operation has. A record is never changed: a transition makes a new one.

    `number` counts the operations of an execution in the order in which they started, from 1. Payloads (`result`) are
    text; an absent one is not an empty one. Times are milliseconds since the epoch.
    """

    type: ClassVar[OperationType]

    id: str
    number: int
    status: OperationStatus
    start_ms: int
    end_ms: int | None = None
    name: str | None = None
    sub_type: str | None = None
    parent_id: str | None = None
    result: str | None = None
    error: ErrorObject | None = None

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    @property
    def due_ms(self) -> int | None:
        """When the service must look at this operation by itself; None if only others can move it."""
        return None


class ExecutionOperation(Operation, frozen=True, gc=False, kw_only=True):
    type = OperationType.EXECUTION

    input: str | None = None


class Context(Operation, frozen=True, gc=False, kw_only=True):
    type = OperationType.CONTEXT

    replay_children: bool = False


class Step(Operation, frozen=True, gc=False, kw_only=True):
    """`attempt` counts the attempts that have ended: it is 0 while the first runs."""

    type = OperationType.STEP

    attempt: int = 0
    next_attempt_ms: int | None = None

    @property
    def due_ms(self) -> int | None:
        return self.next_attempt_ms


class Wait(Operation, frozen=True, gc=False, kw_only=True):
    type = OperationType.WAIT

    scheduled_end_ms: int | None = None

    @property
    def due_ms(self) -> int | None:
        return self.scheduled_end_ms if self.status is OperationStatus.STARTED else None


class Callback(Operation, frozen=True, gc=False, kw_only=True):
    """`callback_id` is a bearer identifier: who has it may complete the callback. Time-outs of 0 are none."""

    type = OperationType.CALLBACK

    callback_id: str
    timeout_s: int = 0
    heartbeat_timeout_s: int = 0
    timeout_ms: int | None = None
    heartbeat_ms: int | None = None

    @property
    def due_ms(self) -> int | None:
        if self.status is not OperationStatus.STARTED:
            return None
        return min((due for due in (self.timeout_ms, self.heartbeat_ms) if due is not None), default=None)


class ChainedInvoke(Operation, frozen=True, gc=False, kw_only=True):
    """`target` is the function that was found, None if there was none; `execution_id` that of a durable target's run.

    It is confirmed once the child execution is on disk; until then, or until the outcome of a target that is not
    durable, the service owes the invocation, and keeps what it needs for it (`input`, `tenant_id`, `trace_header`).
    """

    type = OperationType.CHAINED_INVOKE

    function: str
    target: str | None = None
    version: str | None = None
    execution_id: str | None = None
    is_confirmed: bool = False
    input: str | None = None
    tenant_id: str | None = None
    trace_header: str | None = None

    @property
    def is_owed(self) -> bool:
        return self.status is OperationStatus.STARTED and self.target is not None and not self.is_confirmed


class OperationUpdate(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a checkpoint asks for. Options are flat; None means that the option was not given.

    `at_ms` is when it happened, where the asker shares the service's clock (in process); else None.
    """

    id: str
    type: OperationType
    action: OperationAction
    name: str | None = None
    sub_type: str | None = None
    parent_id: str | None = None
    at_ms: int | None = None
    payload: str | None = None
    error: ErrorObject | None = None
    replay_children: bool | None = None
    next_attempt_delay_s: int | None = None
    wait_s: int | None = None
    timeout_s: int | None = None
    heartbeat_timeout_s: int | None = None
    function_name: str | None = None
    tenant_id: str | None = None
    trace_header: str | None = None


def payload_bytes(text: str | None) -> int:
    """The UTF-8 length of a payload; 0 if there is none."""
    if text is None:
        return 0
    return len(text) if text.isascii() else len(text.encode())
