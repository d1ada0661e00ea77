"""What is read off an execution's state: its view, its row, what it waits for."""

from perdure.engine.state import ExecutionState
from perdure.engine.timers import deadline_ms
from perdure.model.execution import ExecutionRow, WaitingOn
from perdure.model.view import ExecutionView, PauseView


def view_of(state: ExecutionState, arn: str) -> ExecutionView:
    head = state.head
    pause = head.pause
    return ExecutionView(
        execution_id=head.execution_id,
        arn=arn,
        name=head.name or head.execution_id,
        function=head.function,
        version=head.version,
        status=head.status,
        start_ms=head.start_ms,
        end_ms=head.end_ms,
        input=head.input,
        result=head.result,
        error=head.error,
        config=head.config,
        deadline_ms=None if head.has_ended else deadline_ms(head),
        pause=None
        if pause is None
        else PauseView(pause.requested_ms, pause.reason, pause.is_timeout_paused, pause.is_quarantine),
        parent=head.parent,
        operations=head.metered_operations,
        written_bytes=head.written_bytes,
        invocations=head.invocation_count + (head.in_flight is not None),
        is_running=head.in_flight is not None and not head.has_ended,
        waiting_on=waiting_on(state),
        failures=head.failures.in_a_row,
        last_failure=head.failures.last,
        tenant_id=head.tenant_id,
        trace_header=head.trace_header,
    )


def waiting_on(state: ExecutionState) -> tuple[WaitingOn, ...]:
    """What has to happen before a suspended execution can go on; nothing while it runs or after its end."""
    head = state.head
    if head.has_ended or head.in_flight is not None:
        return ()
    counts = (
        (WaitingOn.TIMER, head.waits),
        (WaitingOn.RETRY, head.retries or head.retry_at_ms is not None),
        (WaitingOn.CALLBACK, head.open_callbacks),
        (WaitingOn.INVOKE, head.invokes),
    )
    return tuple(wait for wait, count in counts if count)


DAY_MS = 86_400_000


def expires_at_ms(state: ExecutionState) -> int | None:
    """When an ended execution and its history may go; a deleted one may go at once."""
    head = state.head
    if head.end_ms is None:
        return None
    return head.end_ms if head.is_deleted else head.end_ms + head.config.retention_days * DAY_MS


def row_of(state: ExecutionState, wake_at_ms: int | None) -> ExecutionRow:
    """The row that lists and wake-ups see."""
    head = state.head
    in_flight = None if head.has_ended else head.in_flight
    return ExecutionRow(
        execution_id=head.execution_id,
        function=head.function,
        status=head.status,
        start_ms=head.start_ms,
        version=head.version,
        name=head.name,
        end_ms=head.end_ms,
        wake_at_ms=wake_at_ms,
        lease_owner=in_flight.owner if in_flight is not None else None,
        lease_epoch=head.epoch,
        expires_at_ms=expires_at_ms(state),
        operations=head.metered_operations,
        invocations=head.invocation_count + (head.in_flight is not None),
        open_callbacks=0 if head.has_ended else head.open_callbacks,
        waiting_on=waiting_on(state),
        error_type=head.error.type if head.error is not None else None,
        parent=head.parent,
    )
