"""Clients over HTTP whose connections break: before the request is whole, or before the answer is read."""

import http.client
import json
import random
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from linearizability.checker import Action
from linearizability.recording import Away, Desk, Lost, outcomes_of
from perdure.client.errors import ApiError, error_of
from perdure.wire.api import lambda_api
from perdure.wire.table import Json
from support.served import Served

_REFUSALS: Final = {
    "DurableExecutionAlreadyStartedException": ("refused",),
    "CallbackTimeoutException": "closed",
    "ResourceConflictException": "conflict",
}


class OverHttp:
    """One client of a server that may be away for a while. `cuts` is how often a connection breaks in the middle."""

    def __init__(self, served: Served, desk: Desk, rng: random.Random, cuts: float) -> None:
        self._served = served
        self._desk = desk
        self._rng = rng
        self.cuts = cuts

    def ask(self, thing: str, action: Action) -> Any:
        verb, *given = action
        try:
            return getattr(self, f"_{verb}")(thing, *given)
        except ApiError as error:
            if error.is_passing or error.is_refusal:
                raise Lost from error
            return _REFUSALS[error.code]

    def _start(self, name: str, payload: str) -> Any:
        given = {"FunctionName": "named:$LATEST", "InvocationType": "Event", "Payload": json.dumps(payload).encode()}
        answer = self._call("Invoke", **given, DurableExecutionName=name)
        return ("started", id_of(answer["DurableExecutionArn"]), None)

    def _find(self, name: str) -> str | None:
        answer = self._call("ListDurableExecutionsByFunction", FunctionName="named", DurableExecutionName=name)
        found = [id_of(one["DurableExecutionArn"]) for one in answer["DurableExecutions"]]
        assert len(found) <= 1, f"{len(found)} executions are called {name}"
        return found[0] if found else None

    def _succeed(self, thing: str, number: int, result: str) -> str:
        return self._answer("Success", thing, number, Result=result.encode())

    def _fail(self, thing: str, number: int, message: str) -> str:
        return self._answer("Failure", thing, number, Error={"ErrorMessage": message, "ErrorType": "Refused"})

    def _heartbeat(self, thing: str, number: int) -> str:
        return self._answer("Heartbeat", thing, number)

    def _answer(self, how: str, thing: str, number: int, **given: Any) -> str:
        self._call(f"SendDurableExecutionCallback{how}", CallbackId=self._desk.callbacks[thing][number], **given)
        return "ok"

    def _pause(self, thing: str) -> str:
        self._call("PauseDurableExecution", DurableExecutionArn=self._arn(thing))
        return "ok"

    def _resume(self, thing: str) -> str:
        self._call("ResumeDurableExecution", DurableExecutionArn=self._arn(thing))
        return "ok"

    def _stop(self, thing: str) -> Any:
        return ("ok", self._call("StopDurableExecution", DurableExecutionArn=self._arn(thing))["StopTimestamp"])

    def _read(self, thing: str) -> Any:
        answer = self._call("GetDurableExecution", DurableExecutionArn=self._arn(thing))
        return (answer["Status"], outcomes_of(answer.get("Result")), answer.get("EndTimestamp"))

    def _list(self, thing: str) -> str:
        answer = self._call("ListDurableExecutionsByFunction", FunctionName="asks", DurableExecutionName=thing)
        (found,) = answer["DurableExecutions"]
        return str(found["Status"])

    def _history(self, thing: str) -> int:
        given = {"DurableExecutionArn": self._arn(thing), "MaxItems": 1, "ReverseOrder": True}
        return int(self._call("GetDurableExecutionHistory", **given)["Events"][0]["EventId"])

    def _open(self, thing: str) -> Any:
        events = self._call("GetDurableExecutionHistory", DurableExecutionArn=self._arn(thing))["Events"]
        kinds = {str(event["EventType"]) for event in events}
        if kinds & {"ExecutionSucceeded", "ExecutionFailed", "ExecutionStopped", "ExecutionTimedOut"}:
            return frozenset()
        made = [event["Id"] for event in events if event["EventType"] == "CallbackStarted"]
        closed = {event["Id"] for event in events if event["EventType"] in ("CallbackSucceeded", "CallbackFailed")}
        return frozenset(number for number, operation_id in enumerate(made) if operation_id not in closed)

    def _arn(self, execution_id: str) -> str:
        return self._served.node.settings.home.execution_arn("asks", "$LATEST", execution_id, execution_id)

    def _call(self, operation: str, **members: Any) -> Json:
        """The answer of an operation; raises ApiError, Lost, Away."""
        found = lambda_api().operations[operation]
        message = found.write_request(members)
        parts = urlsplit(self._served.node.url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=20)
        try:
            connection.connect()
        except OSError as error:
            raise Away from error
        target = f"{message.path}?{urlencode(message.query)}" if message.query else message.path
        cut = self._rng.random() / self.cuts if self.cuts else 1.0
        try:
            if cut < 0.3:
                connection.putrequest(found.method, target)
                connection.putheader("Content-Length", str(len(message.body) + 1))
                connection.endheaders(message.body)
                raise Lost
            connection.request(found.method, target, message.body, dict(message.headers))
            if cut < 1.0:
                raise Lost
            received = connection.getresponse()
            body = received.read()
        except (OSError, http.client.HTTPException) as error:
            raise Lost from error
        finally:
            connection.close()
        headers = {name.lower(): value for name, value in received.getheaders()}
        if received.status >= 400:
            raise error_of(received.status, headers, body)
        return found.read_answer(received.status, headers, body)


def id_of(arn: str) -> str:
    return arn.rpartition("/")[2]
