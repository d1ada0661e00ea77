"""WAIT: nothing runs until the time has come."""

import time

from perdure.exceptions import DurableOperationError
from perdure.model.operation import Operation, OperationAction, OperationStatus, OperationType, OperationUpdate, Wait
from perdure.sdk.errors import rebuild
from perdure.sdk.journal import suspension
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session

SUB_TYPE = "Wait"


async def wait(session: Session, scope: Scope, seconds: int, name: str | None) -> None:
    """Return once the time is over; until then, suspend."""
    operation_id, record = session.journal.begin(scope, OperationType.WAIT, SUB_TYPE, name)
    if record is None:
        now_ms = time.time_ns() // 1_000_000
        update = OperationUpdate(
            operation_id,
            OperationType.WAIT,
            OperationAction.START,
            name,
            SUB_TYPE,
            scope.parent_id,
            now_ms,
            wait_s=seconds,
        )
        record = await session.driver.park(scope, update)
        if record is None:
            raise suspension(_called(name), now_ms + seconds * 1000)
    _return_if_over(record, name)
    session.journal.passed(scope)


def _return_if_over(record: Operation, name: str | None) -> None:
    if record.status is OperationStatus.SUCCEEDED:
        return
    if record.is_terminal:
        raise rebuild(DurableOperationError, record.error, f"{_called(name)} was {record.status.lower()}")
    raise suspension(_called(name), record.scheduled_end_ms if isinstance(record, Wait) else None)


def _called(name: str | None) -> str:
    return f"wait '{name}'" if name else "a wait"
