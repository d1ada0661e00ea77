"""Handlers of Perdure's under the official testing package: its objects are made ours, and ours its."""

from collections.abc import Callable
from typing import Any

from aws_durable_execution_sdk_python import lambda_service as official

from perdure.execution import DurableExecutionInvocationInput, DurableExecutionInvocationInputWithClient
from perdure.lambda_service import (
    CheckpointOutput,
    CheckpointUpdatedExecutionState,
    Operation,
    OperationUpdate,
    StateOutput,
)


class OfficialClient:
    """A client of the official package, as one of ours."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def checkpoint(
        self,
        durable_execution_arn: str,
        checkpoint_token: str,
        updates: list[OperationUpdate],
        client_token: str | None,
    ) -> CheckpointOutput:
        theirs = [official.OperationUpdate.from_dict(update.to_dict()) for update in updates]
        answer = self.client.checkpoint(durable_execution_arn, checkpoint_token, theirs, client_token)
        state = answer.new_execution_state
        ours = CheckpointUpdatedExecutionState(_ours(state.operations), state.next_marker)
        return CheckpointOutput(answer.checkpoint_token, ours)

    def get_execution_state(
        self, durable_execution_arn: str, checkpoint_token: str, next_marker: str, max_items: int = 1000
    ) -> StateOutput:
        answer = self.client.get_execution_state(durable_execution_arn, checkpoint_token, next_marker, max_items)
        return StateOutput(_ours(answer.operations), answer.next_marker)


def _ours(operations: list[Any]) -> list[Operation]:
    return [Operation.from_dict(operation.to_dict()) for operation in operations]


def under_official_runner(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A handler that takes the events of the official runner."""

    def called(event: Any, lambda_context: Any) -> Any:
        given = DurableExecutionInvocationInput.from_dict(event.to_dict())
        ours = DurableExecutionInvocationInputWithClient.from_durable_execution_invocation_input(
            given, OfficialClient(event.service_client)
        )
        return handler(ours, lambda_context)

    return called
