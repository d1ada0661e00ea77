"""The durable operations of a Perdure server over plain HTTP: what functions use there instead of boto3.

Errors are classified as those of boto3 are.

Source: Lambda API 2025-12-01, CheckpointDurableExecution and GetDurableExecutionState.
"""

import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final, Self
from urllib.parse import quote, urlencode

import msgspec

from perdure.exceptions import CheckpointError, GetExecutionStateError, InvocationError
from perdure.sdk.boto3_client import PAGE_OPERATIONS_MAX, WireClient
from perdure.sdk.connection import Endpoint, Reply
from perdure.sdk.endpoints import ENDPOINT

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


def open_endpoint(url: str, environment: Mapping[str, str]) -> Endpoint:
    """A server, asked with signed requests if there are credentials in the environment. ValueError if `url` is none.

    They are in `AWS_ACCESS_KEY_ID` and so on, or in `PERDURE_ACCESS_KEY_ID` and so on, which go first.
    """
    ca_file = environment.get("AWS_CA_BUNDLE") or None
    for family in ("PERDURE", "AWS"):
        key_id, secret = environment.get(f"{family}_ACCESS_KEY_ID"), environment.get(f"{family}_SECRET_ACCESS_KEY")
        if key_id and secret:
            from perdure.wire.signature import Signer

            region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
            token = environment.get(f"{family}_SESSION_TOKEN")
            return Endpoint(url, Signer(key_id, secret, region=region, token=token), ca_file=ca_file)
    return Endpoint(url, ca_file=ca_file)


class Refused(Exception):
    """An answer that is an error; `response` has the form that boto3's errors have."""

    def __init__(self, operation: str, reply: Reply) -> None:
        code, message = error_in(reply)
        tries = f" (reached max retries: {reply.attempts - 1})" if reply.attempts > 1 else ""
        super().__init__(f"An error occurred ({code}) when calling the {operation} operation{tries}: {message}")
        self.response = {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {
                "RequestId": reply.headers.get("x-amzn-requestid", ""),
                "HTTPStatusCode": reply.status,
                "HTTPHeaders": dict(reply.headers),
                "RetryAttempts": reply.attempts - 1,
            },
        }


def error_in(reply: Reply) -> tuple[str, str]:
    """Code and text of an error, from wherever AWS's services and proxies in front of them put these."""
    try:
        body = _decode(reply.body)
    except msgspec.DecodeError:
        body = {}
    code = reply.headers.get("x-amzn-errortype") or body.get("__type") or body.get("code") or str(reply.status)
    message = body.get("message") or body.get("Message") or body.get("errorMessage") or ""
    return str(code).partition(":")[0].rpartition("#")[2], str(message)


class HttpClient(WireClient):
    """A `DurableServiceClient` of a Perdure server. Raises CheckpointError and GetExecutionStateError."""

    _shared: ClassVar["HttpClient | None"] = None
    _making: ClassVar[Any] = threading.Lock()

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    @classmethod
    def shared(cls, url: str) -> Self:
        """The client of this process for the server at `url`, with the credentials of the environment.

        InvocationError if `url` is none: the execution waits for a function that is set up as it must be.
        """
        with cls._making:
            if cls._shared is None or cls._shared.endpoint.url != url.rstrip("/"):
                try:
                    cls._shared = cls(open_endpoint(url, os.environ))
                except ValueError as error:
                    raise InvocationError(f"{ENDPOINT} can't be used: {error}") from error
            return cls._shared  # type: ignore[return-value]

    def checkpoint_wire(
        self, arn: str, token: str, updates: Sequence[Mapping[str, Any]], client_token: str | None = None
    ) -> Mapping[str, Any]:
        """Sent again with the same ClientToken, a checkpoint whose answer was lost is answered the same."""
        if not token:
            raise CheckpointError("can't checkpoint without a checkpoint token")
        body = {"CheckpointToken": token, "Updates": updates, "ClientToken": client_token or secrets.token_hex(16)}
        try:
            reply = self.endpoint.request("POST", checkpoint_path(arn), _encode(body))
            return _answer("CheckpointDurableExecution", reply)
        except (OSError, Refused, msgspec.DecodeError) as error:
            raise CheckpointError.from_exception(error) from error

    def state_wire(self, arn: str, token: str, marker: str, max_items: int = PAGE_OPERATIONS_MAX) -> Mapping[str, Any]:
        if not token:
            raise GetExecutionStateError("can't get the state of an execution without a checkpoint token")
        query = urlencode({"CheckpointToken": token, "Marker": marker, "MaxItems": max_items}, quote_via=quote)
        try:
            reply = self.endpoint.request("GET", state_path(arn), query=query)
            return _answer("GetDurableExecutionState", reply)
        except (OSError, Refused, msgspec.DecodeError) as error:
            raise GetExecutionStateError.from_exception(error) from error


def _answer(operation: str, reply: Reply) -> dict[str, Any]:
    if reply.status >= 300:
        raise Refused(operation, reply)
    return _decode(reply.body)


@lru_cache(maxsize=256)
def checkpoint_path(arn: str) -> str:
    return f"/2025-12-01/durable-executions/{quote(arn, safe='')}/checkpoint"


def state_path(arn: str) -> str:
    return f"/2025-12-01/durable-executions/{quote(arn, safe='')}/state"
