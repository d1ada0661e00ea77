"""CHAINED_INVOKE: wait for another function."""

import time
from collections.abc import Coroutine
from typing import Any, Final

from perdure.config import InvokeConfig
from perdure.exceptions import InvokeError
from perdure.model.operation import OperationAction, OperationStatus, OperationType, OperationUpdate
from perdure.sdk.errors import rebuild
from perdure.sdk.journal import Place, has_ended
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session
from perdure.serdes import DEFAULT_JSON_SERDES, deserialize, serialize

SUB_TYPE: Final = "ChainedInvoke"


def invoke(
    session: Session, scope: Scope, function_name: str, payload: Any, name: str | None, config: InvokeConfig
) -> Coroutine[Any, Any, Any]:
    """What the other function returned. Raises InvokeError if it failed, timed out, was stopped or can't be found."""
    place = session.journal.begin(scope, OperationType.CHAINED_INVOKE, SUB_TYPE, name)
    return _invoke(session, scope, place, function_name, payload, name, config)


async def _invoke(
    session: Session,
    scope: Scope,
    place: Place,
    function_name: str,
    payload: Any,
    name: str | None,
    config: InvokeConfig,
) -> Any:
    operation_id, record = place
    what = f"function '{function_name}'"
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
        await session.driver.park(scope, update)
    if record is None or not record.is_terminal:
        record = await session.driver.until(operation_id, has_ended, what, None)
    session.journal.passed(scope)
    if record.status is OperationStatus.SUCCEEDED:
        serdes = config.serdes_result or DEFAULT_JSON_SERDES
        return None if record.result is None else deserialize(serdes, record.result, operation_id, session.arn)
    raise rebuild(InvokeError, record.error, f"{what} was {record.status.lower()}")
