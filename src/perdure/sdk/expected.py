"""What an operation will be once an update has been recorded.

A branch may run again in the invocation that has parked it, before what it sent has come back from the service. It must
then find what it has done.
"""

from collections.abc import Callable
from typing import Any, Final

from perdure.model.operation import (
    ChainedInvoke,
    Context,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    Step,
    Wait,
)


def expected(update: OperationUpdate, before: Operation | None, number: int) -> Operation | None:
    """The record that will be; None for a kind of operation that nobody may expect anything of."""
    make = _MAKERS.get(update.type)
    if make is None:
        return None
    return make(
        before,
        update,
        id=update.id,
        number=before.number if before is not None else number,
        status=_STATUS[update.action],
        start_ms=before.start_ms if before is not None else update.at_ms or 0,
        name=update.name,
        sub_type=update.sub_type,
        parent_id=update.parent_id,
        result=update.payload,
        error=update.error,
    )


_STATUS: Final = {
    OperationAction.START: OperationStatus.STARTED,
    OperationAction.RETRY: OperationStatus.PENDING,
    OperationAction.SUCCEED: OperationStatus.SUCCEEDED,
    OperationAction.FAIL: OperationStatus.FAILED,
    OperationAction.CANCEL: OperationStatus.CANCELLED,
}


def _step(before: Operation | None, update: OperationUpdate, **fields: Any) -> Step:
    attempt = before.attempt if isinstance(before, Step) else 0
    if update.action is OperationAction.START:
        fields["result"] = before.result if before is not None else None  # the state of a condition
        return Step(attempt=attempt, **fields)
    due_ms = None
    if update.action is OperationAction.RETRY:
        due_ms = (update.at_ms or 0) + (update.next_attempt_delay_s or 0) * 1000
    return Step(attempt=attempt + 1, next_attempt_ms=due_ms, **fields)


def _wait(before: Operation | None, update: OperationUpdate, **fields: Any) -> Wait:
    return Wait(scheduled_end_ms=(update.at_ms or 0) + (update.wait_s or 0) * 1000, **fields)


def _context(before: Operation | None, update: OperationUpdate, **fields: Any) -> Context:
    return Context(replay_children=bool(update.replay_children), **fields)


def _chained(before: Operation | None, update: OperationUpdate, **fields: Any) -> ChainedInvoke:
    fields["result"] = None
    return ChainedInvoke(function=update.function_name or "", **fields)


_MAKERS: Final[dict[OperationType, Callable[..., Operation]]] = {
    OperationType.STEP: _step,
    OperationType.WAIT: _wait,
    OperationType.CONTEXT: _context,
    OperationType.CHAINED_INVOKE: _chained,
}
