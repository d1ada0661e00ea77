"""The SDK's client within the process of the service: a function call, without a wire."""

from collections.abc import Sequence

from perdure.exceptions import CheckpointError, DurableApiErrorCategory
from perdure.model.error import InvalidParameterValue, ServiceError, StaleToken
from perdure.model.operation import OperationUpdate
from perdure.sdk.client import Answer
from perdure.service.invocation import Invocation
from perdure.service.service import Service


class InProcessClient:
    """Keeps the token of one invocation and passes its updates to the service."""

    def __init__(self, service: Service, invocation: Invocation) -> None:
        self._service = service
        self._execution_id = invocation.execution_id
        self.token = invocation.token
        self.is_closing = False

    @property
    def answers_waits(self) -> bool:
        """No: what an invocation can only wait for is recorded together with its end, in one commit."""
        return False

    def checkpoint(self, updates: Sequence[OperationUpdate]) -> Answer:
        try:
            answer = self._service.checkpoint(self._execution_id, self.token, updates)
        except ServiceError as error:
            raise as_checkpoint_error(error) from error
        if answer.token is None:
            return Answer(answer.operations, may_go_on=False)
        self.token = answer.token
        return Answer(answer.operations, may_go_on=not self.is_closing)


def as_checkpoint_error(error: ServiceError) -> CheckpointError:
    """A refused checkpoint as the SDK sees it: what can't be is permanent, everything else may pass."""
    is_permanent = isinstance(error, InvalidParameterValue) and not isinstance(error, StaleToken)
    category = DurableApiErrorCategory.EXECUTION if is_permanent else DurableApiErrorCategory.INVOCATION
    return CheckpointError(error.message, category, {"Code": error.code, "Message": error.message})
