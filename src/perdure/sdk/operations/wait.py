"""WAIT: nothing runs until the time has come."""

import time
from functools import partial

from perdure.exceptions import DurableOperationError
from perdure.model.operation import OperationAction, OperationStatus, OperationType, OperationUpdate, Wait
from perdure.sdk.errors import rebuild
from perdure.sdk.journal import Begun, has_ended
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session

SUB_TYPE = "Wait"


def wait(session: Session, scope: Scope, seconds: int, name: str | None) -> Begun[None]:
    """Return once the time is over; until then, suspend."""
    operation_id, _ = session.journal.begin(scope, OperationType.WAIT, SUB_TYPE, name)
    return partial(_wait, session, scope, operation_id, seconds, name)


async def _wait(session: Session, scope: Scope, operation_id: str, seconds: int, name: str | None) -> None:
    record = session.journal.records.get(operation_id)
    due_ms = record.scheduled_end_ms if isinstance(record, Wait) else None
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
        await session.driver.park(scope, update)
        due_ms = now_ms + seconds * 1000
    if record is None or not record.is_terminal:
        record = await session.driver.until(operation_id, has_ended, _called(name), due_ms)
    session.journal.passed(scope, operation_id)
    if record.status is not OperationStatus.SUCCEEDED:
        raise rebuild(DurableOperationError, record.error, f"{_called(name)} was {record.status.lower()}")


def _called(name: str | None) -> str:
    return f"wait '{name}'" if name else "a wait"
