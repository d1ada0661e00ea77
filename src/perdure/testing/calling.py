"""What the test kit asks of a server over HTTP: a Perdure server, or AWS Lambda."""

import os
import uuid
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from perdure.client.client import Client, segment
from perdure.client.credentials import find_credentials
from perdure.client.errors import ApiError, NotUnderstood
from perdure.model import error as errors
from perdure.model.error import (
    ErrorObject,
    ExecutionAlreadyStarted,
    InvalidParameterValue,
    ResourceNotFound,
    ServiceError,
)
from perdure.model.execution import ExecutionStatus
from perdure.model.ids import LATEST, FunctionReference
from perdure.model.view import ExecutionView
from perdure.testing.facts import Facts
from perdure.testing.histories import History, facts_of, read_history
from perdure.wire.executions import read_execution
from perdure.wire.forms import API
from perdure.wire.operations import ERROR

REGION: Final = "us-east-1"
EVENTS_PAGE: Final = 200
"""An event may hold 6 MiB."""
CHANGES: Final = "/perdure/v1/durable-executions/{}/changes"
START: Final = "/start-durable-execution"
_NEEDS_SERVER: Final = (
    "the function's DurableConfig has its execution time-out; only a Perdure server takes another one"
)


class Calling:
    """Asks one server; what it refuses is raised as the service raises it in process.

    `is_ours` is whether a Perdure server answers there, as far as that has been found out.
    """

    def __init__(self, client: Client, *, qualifier: str | None = None) -> None:
        self.client = client
        self._qualifier = qualifier
        self._is_ours: bool | None = None

    def close(self) -> None:
        self.client.close()

    # --- executions ----------------------------------------------------------------------------------------------

    def start(
        self,
        function: str,
        payload: str | None,
        *,
        name: str | None = None,
        tenant_id: str | None = None,
        execution_timeout_s: int | None = None,
    ) -> str:
        """Begin an execution, and return its ARN. A name makes sure that it is begun once, so there is always one."""
        name = name or f"test-{uuid.uuid4()}"
        if execution_timeout_s is not None:
            return self._start_for(function, payload, name, tenant_id, execution_timeout_s)
        answer = self._call(
            "Invoke",
            FunctionName=function,
            Qualifier=self._qualifier_of(function),
            InvocationType="Event",
            Payload=payload.encode() if payload is not None else None,
            DurableExecutionName=name,
            TenantId=tenant_id,
        )
        arn = answer.get("DurableExecutionArn")
        if not isinstance(arn, str):
            raise NotUnderstood(
                f"{self.client.endpoint} started {function} and named no durable execution",
                hint="is the function durable there? It needs a DurableConfig",
            )
        return arn

    def _qualifier_of(self, function: str) -> str | None:
        return None if FunctionReference.parse(function).qualifier else self._qualifier or LATEST

    def _start_for(self, function: str, payload: str | None, name: str, tenant_id: str | None, timeout_s: int) -> str:
        """The same with a time-out of its own, as the official local server takes it."""
        reference = FunctionReference.parse(function)
        given: dict[str, Any] = {
            "FunctionName": reference.name,
            "FunctionQualifier": reference.qualifier or self._qualifier or LATEST,
            "ExecutionName": name,
            "Input": payload,
            "TenantId": tenant_id,
            "ExecutionTimeoutSeconds": timeout_s,
        }
        try:
            answer = self.client.request("POST", START, json=given)
        except ApiError as error:
            if not _is_answer(error):
                raise InvalidParameterValue(f"execution_timeout can't be given here: {_NEEDS_SERVER}") from None
            raise service_error(error) from None
        return str(answer["ExecutionArn"])

    def view(self, arn: str) -> ExecutionView:
        return read_execution(self._call("GetDurableExecution", DurableExecutionArn=arn), API)

    def status(self, arn: str) -> ExecutionStatus:
        return self.view(arn).status

    def history(self, arn: str) -> History:
        """An execution and its events, with their data."""
        execution = self._call("GetDurableExecution", DurableExecutionArn=arn)
        return read_history({"Execution": execution, "Events": self.events(arn)}, arn)

    def events(self, arn: str, *, is_with_data: bool = True) -> list[dict[str, Any]]:
        """The events of an execution, as GetDurableExecutionHistory has them."""
        try:
            return list(
                self.client.paginate(
                    "GetDurableExecutionHistory",
                    "Events",
                    DurableExecutionArn=arn,
                    IncludeExecutionData=is_with_data,
                    MaxItems=EVENTS_PAGE,
                )
            )
        except ApiError as error:
            raise service_error(error) from None

    def facts(self, arn: str) -> Facts:
        """All that the server knows of an execution."""
        return facts_of(self.history(arn))

    def stop(self, arn: str, error: ErrorObject | None = None) -> None:
        self._call("StopDurableExecution", DurableExecutionArn=arn, Error=_written(error))

    def pause(self, arn: str) -> None:
        self._call("PauseDurableExecution", DurableExecutionArn=arn)

    def resume(self, arn: str) -> None:
        self._call("ResumeDurableExecution", DurableExecutionArn=arn)

    def wait_for_news(self, arn: str, position: str | None, wait_s: int) -> str | None:
        """Wait until something has happened to an execution after a position, and return that of now.

        Returns None at once if the server does not tell of that: it is to be looked at again and again.
        """
        if self._is_ours is False:
            return None
        query = [] if position is None else [("After", position), ("WaitSeconds", str(wait_s))]
        try:
            answer = self.client.request("GET", CHANGES.format(segment(arn)), query=query, timeout_s=wait_s + 30.0)
        except (ApiError, NotUnderstood) as error:
            if isinstance(error, ApiError) and _is_answer(error):
                raise service_error(error) from None
            self._is_ours = False
            return None
        self._is_ours = True
        return str(answer.get("Position"))

    # --- callbacks -----------------------------------------------------------------------------------------------

    def succeed(self, callback_id: str, result: str | bytes | None = None) -> None:
        payload = result.encode() if isinstance(result, str) else result
        self._call("SendDurableExecutionCallbackSuccess", CallbackId=callback_id, Result=payload)

    def fail(self, callback_id: str, error: ErrorObject | None = None) -> None:
        self._call("SendDurableExecutionCallbackFailure", CallbackId=callback_id, Error=_written(error))

    def heartbeat(self, callback_id: str) -> None:
        self._call("SendDurableExecutionCallbackHeartbeat", CallbackId=callback_id)

    def _call(self, operation: str, **members: Any) -> dict[str, Any]:
        try:
            return self.client.call(operation, **members)
        except ApiError as error:
            raise service_error(error) from None


# --- errors -------------------------------------------------------------------------------------------------------

_CODES: Final = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ServiceError) and "code" in vars(kind)
}


def service_error(error: ApiError) -> Exception:
    """A refusal as the service raises it in process, of the same class; as it came if there is no such class."""
    kind = _CODES.get(error.code)
    if kind is None:
        return error
    if issubclass(kind, ExecutionAlreadyStarted):
        return kind(error.message, arn="", hint=error.hint)
    return kind(error.message, hint=error.hint)


def _is_answer(error: ApiError) -> bool:
    """Whether the server knows the route, and refuses what was asked of it. AWS answers 403 at paths it has not."""
    return error.status not in (403, 404) or error.code == ResourceNotFound.code


def _written(error: ErrorObject | None) -> dict[str, Any] | None:
    return ERROR.write(error, API) if error is not None else None


# --- where a server is --------------------------------------------------------------------------------------------


class Place(msgspec.Struct, frozen=True):
    """A server, and the region that requests to it are signed for."""

    endpoint: str
    region: str


def place_of(endpoint: str | None, region: str | None, environ: Mapping[str, str]) -> Place:
    """Where to ask: the endpoint, or that of the environment, or else AWS Lambda in the region."""
    names = ("PERDURE_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")
    region = region or next((found for name in names if (found := environ.get(name))), REGION)
    names = ("PERDURE_ENDPOINT", "AWS_ENDPOINT_URL_LAMBDA", "AWS_ENDPOINT_URL")
    given = endpoint or next((found for name in names if (found := environ.get(name))), None)
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return Place(given or f"https://lambda.{region}.{suffix}", region)


def client_at(place: Place) -> Client:
    """A client whose requests are signed with the environment's credentials, if it has any."""
    environ = os.environ
    ca_file = environ.get("AWS_CA_BUNDLE") or None
    return Client(place.endpoint, find_credentials(environ), region=place.region, ca_file=ca_file, backoff_s=0.2)
