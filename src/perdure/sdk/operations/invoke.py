"""CHAINED_INVOKE: wait for another function."""

import json
import time
from functools import partial
from typing import Any, Final

from perdure.config import InvokeConfig
from perdure.exceptions import InvokeError
from perdure.model.operation import OperationAction, OperationStatus, OperationType, OperationUpdate
from perdure.sdk.errors import rebuild
from perdure.sdk.journal import Begun, has_ended
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session
from perdure.serdes import DEFAULT_JSON_SERDES, JsonSerDes, SerDesContext, deserialize, serialize

SUB_TYPE: Final = "ChainedInvoke"


class _Payload(JsonSerDes):
    """Plain JSON; what it has no form for (dates, dataclasses, models) as a handler's result has it."""

    def serialize(self, value: Any, serdes_context: SerDesContext) -> str:
        try:
            return json.dumps(value)
        except TypeError:
            from perdure.sdk.plain import to_json

            return to_json(value)


_PAYLOAD: Final = _Payload()


def invoke(
    session: Session, scope: Scope, function_name: str, payload: Any, name: str | None, config: InvokeConfig
) -> Begun[Any]:
    """What the other function returned. Raises InvokeError if it failed, timed out, was stopped or can't be found."""
    operation_id, _ = session.journal.begin(scope, OperationType.CHAINED_INVOKE, SUB_TYPE, name)
    return partial(_invoke, session, scope, operation_id, function_name, payload, name, config)


async def _invoke(
    session: Session,
    scope: Scope,
    operation_id: str,
    function_name: str,
    payload: Any,
    name: str | None,
    config: InvokeConfig,
) -> Any:
    record = session.journal.records.get(operation_id)
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
            serialize(config.serdes_payload or _PAYLOAD, payload, operation_id, session.arn),
            function_name=function_name,
            tenant_id=config.tenant_id,
        )
        await session.driver.park(scope, update)
    if record is None or not record.is_terminal:
        record = await session.driver.until(operation_id, has_ended, what, None)
    session.journal.passed(scope, operation_id)
    if record.status is OperationStatus.SUCCEEDED:
        serdes = config.serdes_result or DEFAULT_JSON_SERDES
        return None if record.result is None else deserialize(serdes, record.result, operation_id, session.arn)
    raise rebuild(InvokeError, record.error, f"{what} was {record.status.lower()}")
