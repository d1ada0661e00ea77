"""What a durable function is invoked with, as objects: what test runners make, and what they hand over in JSON."""

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from perdure.lambda_service import DurableServiceClient, Operation
from perdure.sdk.shape import WireShape


@dataclass(frozen=True)
class InitialExecutionState(WireShape):
    """The operations that are recorded, or the first page of them; an empty `next_marker` means that these are all."""

    operations: list[Operation] = field(default_factory=list)
    next_marker: str = ""


@dataclass(frozen=True)
class DurableExecutionInvocationInput(WireShape):
    """The event of an invocation. `updated_operation_ids` have changed since the last one."""

    durable_execution_arn: str
    checkpoint_token: str
    initial_execution_state: InitialExecutionState
    _: KW_ONLY
    updated_operation_ids: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DurableExecutionInvocationInputWithClient(DurableExecutionInvocationInput):
    """The same with the client that the invocation is to use."""

    service_client: Any = field(kw_only=False)

    @staticmethod
    def from_durable_execution_invocation_input(
        invocation_input: DurableExecutionInvocationInput, service_client: DurableServiceClient
    ) -> "DurableExecutionInvocationInputWithClient":
        return DurableExecutionInvocationInputWithClient(
            invocation_input.durable_execution_arn,
            invocation_input.checkpoint_token,
            invocation_input.initial_execution_state,
            service_client,
            updated_operation_ids=invocation_input.updated_operation_ids,
        )
