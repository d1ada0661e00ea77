"""The real service behind the wire: events, checkpoints and answers as JSON, as AWS Lambda has them."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest.mock import patch

from perdure import durable_execution
from perdure.engine import commands as cmd
from perdure.model.error import ErrorObject, InvalidParameterValue, StaleToken
from perdure.model.ids import ExecutionArn
from perdure.model.operation import ExecutionOperation, Operation, OperationStatus
from perdure.sdk import entry
from perdure.sdk.errors import error_object
from perdure.service.invocation import Call, Invocation
from perdure.service.service import Service
from perdure.wire.forms import API, FUNCTION, Form
from perdure.wire.operations import ERROR, UPDATE, write_operation
from support.local import Local

Json = dict[str, Any]


def over_json(value: Json) -> Json:
    return dict(json.loads(json.dumps(value)))


def token_text(token: cmd.Token) -> str:
    return base64.b64encode(f"{token.epoch}.{token.count}".encode()).decode()


def token_of(text: str) -> cmd.Token:
    try:
        epoch, count = base64.b64decode(text).decode().split(".")
        return cmd.Token(int(epoch), int(count))
    except ValueError:
        raise StaleToken from None


class WireService:
    """CheckpointDurableExecution and GetDurableExecutionState over the service; JSON goes in and comes out.

    At most `page` operations are in an event or an answer; the others are had by their marker, which is their place.
    """

    def __init__(self, service: Service, page: int = 1000) -> None:
        self.service = service
        self.page = page
        self.calls: list[tuple[str, Json]] = []
        self.tokens: dict[str, cmd.Token] = {}
        self._answers: list[Sequence[Operation]] = []

    def event_of(self, invocation: Invocation) -> Json:
        execution = ExecutionOperation(
            id=invocation.execution_id,
            number=0,
            status=OperationStatus.STARTED,
            start_ms=invocation.execution_start_ms,
            input=invocation.input,
        )
        self.tokens[invocation.execution_id] = invocation.token
        return {
            "DurableExecutionArn": invocation.arn,
            "CheckpointToken": token_text(invocation.token),
            "InitialExecutionState": self._page("state", [execution, *invocation.operations], 0, self.page, FUNCTION),
            "UpdatedOperationIds": list(invocation.updated_ids),
        }

    def checkpoint(self, arn: str, body: Json) -> Json:
        """Raises ServiceError, as the service does."""
        self.calls.append(("checkpoint", body))
        execution_id = ExecutionArn.parse(arn).execution_id
        updates = [UPDATE.read(one, API, f"Updates[{at}]") for at, one in enumerate(body.get("Updates") or [])]
        token, client_token = token_of(body["CheckpointToken"]), body.get("ClientToken")
        answer = self.service.checkpoint(execution_id, token, updates, client_token)
        self._answers.append(answer.operations)
        page = self._page(f"answer{len(self._answers) - 1}", answer.operations, 0, self.page, API)
        written: Json = {"NewExecutionState": page}
        if answer.token is not None:
            self.tokens[execution_id] = answer.token
            written["CheckpointToken"] = token_text(answer.token)
        return over_json(written)

    def state(self, arn: str, token: str, marker: str, max_items: int) -> Json:
        """Raises ServiceError, as the service does."""
        self.calls.append(("state", {"CheckpointToken": token, "Marker": marker, "MaxItems": max_items}))
        execution_id = ExecutionArn.parse(arn).execution_id
        what, _, begin = marker.partition(":")
        operations, _ = self.service.state_page(execution_id, token_of(token))
        if what != "state":
            operations = list(self._answers[int(what.removeprefix("answer"))])
        return over_json(self._page(what, operations, int(begin), min(max_items, self.page), API))

    def _page(self, what: str, operations: Sequence[Operation], begin: int, limit: int, form: Form) -> Json:
        end = begin + limit
        page: Json = {"Operations": [write_operation(one, form) for one in operations[begin:end]]}
        return {**page, "NextMarker": f"{what}:{end}"} if end < len(operations) else page

    @property
    def sent(self) -> list[list[str]]:
        """Types and actions of the checkpoints so far."""
        bodies = [body for kind, body in self.calls if kind == "checkpoint"]
        return [[f"{one['Type']} {one['Action']}" for one in body.get("Updates") or []] for body in bodies]


class Remote(Local):
    """As Local, with the whole way of an invocation on Lambda between the service and the handler."""

    def __init__(self, *handlers: Callable[..., Any], page: int = 1000, **more: Any) -> None:
        super().__init__(*handlers, **more)
        self.wire = WireService(self.service, page)
        self.answers: list[Json] = []

    def pump_one(self) -> None:
        """Without a thread that sends what lingers: how slow this machine is must not show in what is sent."""
        work = self.queue.work[0]
        if isinstance(work, Call):
            super().pump_one()
            return
        self.queue.work.popleft()
        self.invocations += 1
        event = over_json(self.wire.event_of(work))
        outcome: cmd.Outcome
        try:
            with patch.object(entry, "_linger", lambda: None):
                answer = over_json(self.handlers[work.function](event, None))
            self.answers.append(answer)
            outcome = outcome_of(answer)
        except Exception as error:
            outcome = cmd.Crashed(error_object(error))
        token = self.wire.tokens[work.execution_id]
        try:
            self.service.end_invocation(work, token, outcome)
        except InvalidParameterValue as error:
            self.service.end_invocation(work, token, cmd.Failed(ErrorObject(error.message, error.code)))


def outcome_of(answer: Mapping[str, Any]) -> cmd.Outcome:
    """What an invocation's answer means to the service."""
    match answer["Status"]:
        case "SUCCEEDED":
            return cmd.Succeeded(answer.get("Result"))
        case "FAILED":
            return cmd.Failed(ERROR.read(answer["Error"], FUNCTION) if "Error" in answer else None)
        case "PENDING":
            return cmd.Pending()
    raise AssertionError(f"no such status: {answer}")


class Boto3OverWire:
    """The two methods of boto3's Lambda client over a service that is set once there is one."""

    wire: WireService

    def checkpoint_durable_execution(self, **parameters: Any) -> Json:
        return self.wire.checkpoint(parameters.pop("DurableExecutionArn"), over_json(parameters))

    def get_durable_execution_state(self, **parameters: Any) -> Json:
        return self.wire.state(
            parameters["DurableExecutionArn"],
            parameters["CheckpointToken"],
            parameters["Marker"],
            parameters["MaxItems"],
        )


def remote(handler: Callable[[Any, Any], Any], *, page: int = 1000, **options: Any) -> Remote:
    """One handler, made durable with these options, on the whole way of Lambda."""
    boto3 = Boto3OverWire()
    service = Remote(durable_execution(name="fn", boto3_client=boto3, **options)(handler), page=page)
    boto3.wire = service.wire
    return service
