"""CHAINED_INVOKE: wait for another function."""

import time
from typing import Any, Final

from perdure.config import InvokeConfig
from perdure.exceptions import InvokeError
from perdure.model.operation import OperationAction, OperationStatus, OperationType, OperationUpdate
from perdure.sdk.errors import rebuild
from perdure.sdk.journal import suspension
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session
from perdure.serdes import DEFAULT_JSON_SERDES, deserialize, serialize

SUB_TYPE: Final = "ChainedInvoke"


async def invoke(
    session: Session, scope: Scope, function_name: str, payload: Any, name: str | None, config: InvokeConfig
) -> Any:
    """What the other function returned. Raises InvokeError if it failed, timed out, was stopped or can't be found."""
    operation_id, record = session.journal.begin(scope, OperationType.CHAINED_INVOKE, SUB_TYPE, name)
    if record is None:
        update = OperationUpdate(
            operation_id,
            OperationType.CHAINED_INVOKE,
            OperationAction.START,
            name,
            SUB_TYPE,
            scope.parent_id,
            time.time_ns() // 1_000_000,
            serialize(config.serdes_payload or DEFAULT_JSON_SERDES, payload, operation_id, session.arn),
            function_name=function_name,
            tenant_id=config.tenant_id,
        )
        record = await session.driver.park(scope, update)
        if record is None:
            raise suspension(f"function '{function_name}'", None)
    if record.status is OperationStatus.SUCCEEDED:
        serdes = config.serdes_result or DEFAULT_JSON_SERDES
        value = None if record.result is None else deserialize(serdes, record.result, operation_id, session.arn)
        session.journal.passed(scope)
        return value
    if record.is_terminal:
        session.journal.passed(scope)
        raise rebuild(InvokeError, record.error, f"function '{function_name}' was {record.status.lower()}")
    raise suspension(f"function '{function_name}'", None)
