"""Between a handler and its service: what is sent is written down; or the service is made by hand."""

from collections.abc import Callable, Sequence
from typing import Any

from perdure.execution import definition_of
from perdure.model.operation import (
    Callback,
    ChainedInvoke,
    Context,
    Operation,
    OperationStatus,
    OperationUpdate,
    Step,
    Wait,
)
from perdure.sdk.client import Answer
from perdure.sdk.identity import operation_id
from perdure.sdk.invocation import InvocationAnswer, InvocationInput, run_invocation
from perdure.service.invocation import Invocation
from perdure.service.service import Service
from perdure.worker.client import InProcessClient


class Recording:
    """Clients that write down what they send."""

    def __init__(self) -> None:
        self.calls: list[Sequence[OperationUpdate]] = []

    def client(self, service: Service, invocation: Invocation) -> InProcessClient:
        calls = self.calls

        class Written(InProcessClient):
            def checkpoint(self, updates: Sequence[OperationUpdate]) -> Answer:
                answer = super().checkpoint(updates)
                calls.append(updates)
                return answer

        return Written(service, invocation)

    def shape(self) -> list[list[str]]:
        """Types and actions of the calls so far."""
        return [[f"{update.type} {update.action}" for update in call] for call in self.calls]


ARN = "arn:aws:lambda:us-east-1:000000000000:function:fn:$LATEST/durable-execution/name-1/id-1"


class Handmade:
    """One invocation of a handler over records made by hand, with answers made by hand.

    `answers` are given to the checkpoints in their order; an exception among them is raised, after the last one every
    checkpoint is answered with nothing.
    """

    def __init__(self, handler: Callable[..., Any], *, answers_waits: bool = True) -> None:
        definition = definition_of(handler)
        assert definition is not None
        self.definition = definition
        self.operations: list[Operation] = []
        self.answers: list[Answer | Exception] = []
        self.calls: list[Sequence[OperationUpdate]] = []
        self.answers_waits = answers_waits
        self.input: str | None = "{}"

    def _described(self, name: str | None, sub_type: str, status: str, parent_id: str | None) -> dict[str, Any]:
        number = sum(operation.parent_id == parent_id for operation in self.operations) + 1
        return {
            "id": operation_id(parent_id or "", number),
            "number": len(self.operations) + 1,
            "status": OperationStatus(status),
            "start_ms": 1,
            "name": name,
            "sub_type": sub_type,
            "parent_id": parent_id,
        }

    def step(self, name: str | None, *, status: str, parent_id: str | None = None, **more: Any) -> Step:
        record = Step(**{**self._described(name, "Step", status, parent_id), **more})
        self.operations.append(record)
        return record

    def wait(self, name: str | None, *, status: str, parent_id: str | None = None, **more: Any) -> Wait:
        record = Wait(**{**self._described(name, "Wait", status, parent_id), **more})
        self.operations.append(record)
        return record

    def context(self, name: str | None, *, status: str, sub_type: str = "RunInChildContext", **more: Any) -> Context:
        record = Context(**{**self._described(name, sub_type, status, None), **more})
        self.operations.append(record)
        return record

    def callback(self, name: str | None, *, status: str, **more: Any) -> Callback:
        record = Callback(**{**self._described(name, "Callback", status, None), "callback_id": "Y2I=", **more})
        self.operations.append(record)
        return record

    def chained(self, name: str | None, *, status: str, **more: Any) -> ChainedInvoke:
        described = self._described(name, "ChainedInvoke", status, None)
        record = ChainedInvoke(**{**described, "function": "fn", **more})
        self.operations.append(record)
        return record

    def checkpoint(self, updates: Sequence[OperationUpdate]) -> Answer:
        self.calls.append(updates)
        answer = self.answers.pop(0) if self.answers else Answer(())
        if isinstance(answer, Exception):
            raise answer
        return answer

    def invoke(self) -> InvocationAnswer:
        given = InvocationInput(ARN, "id-1", "name-1", self.input, self.operations)
        return run_invocation(self.definition, given, self)
