"""What is known of an execution wherever it ran: what every back-end hands over, and a Result is made from."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from perdure.model.error import ErrorObject
from perdure.model.event import HistoryEvent
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import Operation


class InvocationRecord(msgspec.Struct, frozen=True):
    """One invocation of the handler.

    `number` counts from 1. `status` is what it came to: SUCCEEDED, FAILED, PENDING (it was suspended), CRASHED (its
    process died, or its time ran out) or RUNNING. `replayed_operations` were read from the journal, `new_operations`
    were begun by this invocation.
    """

    number: int
    request_id: str
    start_ms: int
    end_ms: int | None
    status: str
    replayed_operations: int
    new_operations: int
    error: ErrorObject | None


class Facts(msgspec.Struct, frozen=True):
    """All that a Result is made from.

    `operations` are in the order in which they started, without the EXECUTION. `values` has, by operation id, the
    SerDes with which the operation's result was written, where that is not the default. `wall_s` is what the test
    waited, in real seconds; all other times are modelled.
    """

    arn: str
    name: str
    function: str
    version: str
    status: ExecutionStatus
    input: str | None
    result: str | None
    error: ErrorObject | None
    start_ms: int
    end_ms: int | None
    operations: Sequence[Operation]
    events: Sequence[HistoryEvent]
    invocations: Sequence[InvocationRecord] = ()
    logs: Sequence[logging.LogRecord] = ()
    values: Mapping[str, Any] = msgspec.field(default_factory=dict)
    wall_s: float = 0.0
