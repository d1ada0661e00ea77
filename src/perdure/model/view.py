"""What people and programs outside are told of an execution and of a callback."""

from typing import Final

import msgspec

from perdure.model.error import ErrorObject
from perdure.model.event import HistoryEvent
from perdure.model.execution import DurableConfig, ExecutionStatus, ParentLink, WaitingOn
from perdure.model.operation import Operation


class PauseView(msgspec.Struct, frozen=True):
    requested_ms: int
    reason: str | None
    is_timeout_paused: bool
    is_quarantine: bool


class ExecutionView(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an execution. Payloads are JSON text; times are milliseconds since the epoch.

    `deadline_ms` is when it times out as things stand, None once it has ended. `failures` counts the invocations that
    failed in a row, `last_failure` is the error of the last. `waiting_reason` says why nobody runs an execution which
    could go on, where that is known.
    """

    execution_id: str
    arn: str
    name: str
    function: str
    version: str
    status: ExecutionStatus
    start_ms: int
    end_ms: int | None
    input: str | None
    result: str | None
    error: ErrorObject | None
    config: DurableConfig
    deadline_ms: int | None
    pause: PauseView | None
    parent: ParentLink | None
    operations: int
    written_bytes: int
    invocations: int
    is_running: bool
    waiting_on: tuple[WaitingOn, ...]
    failures: int
    last_failure: ErrorObject | None
    tenant_id: str | None
    trace_header: str | None
    waiting_reason: str | None = None


class OpenCallback(msgspec.Struct, frozen=True):
    """A callback that somebody has to complete."""

    callback_id: str
    name: str | None
    operation_id: str
    execution_id: str
    execution_name: str
    function: str
    start_ms: int
    timeout_ms: int | None
    heartbeat_ms: int | None


FROM_START: Final = "0.1"
"""The position in an execution's changes that is before all of them."""


class Changes(msgspec.Struct, frozen=True):
    """The execution as it is now; the operations that changed, as they are now; the shown events, in order.

    With `has_more`, more has happened than this holds: ask again, from `position` on.
    """

    position: str
    view: ExecutionView
    operations: tuple[Operation, ...]
    events: tuple[HistoryEvent, ...] = ()
    has_more: bool = False
