"""The SDK's client as a worker sees it, and the one in the process of the service: function calls, without a wire."""

from collections.abc import Sequence
from typing import Protocol

from perdure.engine import commands as cmd
from perdure.exceptions import CheckpointError, DurableApiErrorCategory
from perdure.model.error import ErrorObject, InvalidParameterValue, ServiceError, StaleToken
from perdure.model.operation import OperationUpdate
from perdure.sdk.client import Answer, Client
from perdure.service.invocation import Invocation
from perdure.service.service import Service


class InvocationClient(Client, Protocol):
    """The client of one invocation in a worker. Whoever sets `is_closing` has it end at its next checkpoint."""

    is_closing: bool

    def end(self, outcome: cmd.Outcome, updates: Sequence[OperationUpdate]) -> None:
        """Have the outcome recorded, after `updates`, which have not been sent; raises ServiceError if it can't be."""
        ...


class InProcessClient:
    """Keeps the token of one invocation and passes its updates to the service."""

    def __init__(self, service: Service, invocation: Invocation) -> None:
        self._service = service
        self._invocation = invocation
        self.token = invocation.token
        self.is_closing = False

    @property
    def answers_waits(self) -> bool:
        """No: what an invocation can only wait for is recorded together with its end, in one commit."""
        return False

    def checkpoint(self, updates: Sequence[OperationUpdate]) -> Answer:
        try:
            answer = self._service.checkpoint(self._invocation.execution_id, self.token, updates)
        except ServiceError as error:
            raise as_checkpoint_error(error) from error
        if answer.token is None:
            return Answer(answer.operations, may_go_on=False)
        self.token = answer.token
        return Answer(answer.operations, may_go_on=not self.is_closing)

    def end(self, outcome: cmd.Outcome, updates: Sequence[OperationUpdate]) -> None:
        """What the service refuses can't be stored, and fails the execution instead."""
        try:
            self._service.end_invocation(self._invocation, self.token, outcome, updates)
        except InvalidParameterValue as error:
            refused = ErrorObject(error.message, error.code)
            self._service.end_invocation(self._invocation, self.token, cmd.Failed(refused))


def as_checkpoint_error(error: ServiceError) -> CheckpointError:
    """A refused checkpoint as the SDK sees it: what can't be is permanent, everything else may pass."""
    is_permanent = isinstance(error, InvalidParameterValue) and not isinstance(error, StaleToken)
    category = DurableApiErrorCategory.EXECUTION if is_permanent else DurableApiErrorCategory.INVOCATION
    return CheckpointError(error.message, category, {"Code": error.code, "Message": error.message})
