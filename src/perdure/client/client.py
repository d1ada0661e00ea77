"""The client: operations of the Lambda API and routes of Perdure's own, called over HTTP.

Retries are those of botocore's standard mode, with one exception: an Invoke without a name, which would start a second
execution, is not sent again once it may have arrived.

Source: AWS SDKs and Tools Reference Guide, retry behavior.
"""

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from perdure.__about__ import __version__
from perdure.client.credentials import Credentials
from perdure.client.errors import ApiError, ClientError, NotUnderstood, Unreachable, error_of

if TYPE_CHECKING:
    from types import TracebackType

    from perdure.client.connections import Connections, Received
    from perdure.wire.api import Message, Operation
    from perdure.wire.table import Json

REGION: Final = "us-east-1"
CONNECT_TIMEOUT_S: Final = 5.0
TIMEOUT_S: Final = 60.0
ATTEMPTS: Final = 3
BACKOFF_S: Final = 1.0
BACKOFF_S_MAX: Final = 20.0
_SAFE: Final = "-_.~"
_ENDPOINT: Final = re.compile(r"https?://[^\s?#]+", re.IGNORECASE)


class Client:
    """Speaks to one endpoint; safe to use from any thread. Without `credentials` requests are not signed.

    `timeout_s` is how long an answer may take, `attempts` how often a request is sent at most, `backoff_s` the longest
    pause before it is sent for the second time; each pause may be twice as long as the one before.
    """

    def __init__(
        self,
        endpoint: str,
        credentials: Credentials | None = None,
        *,
        region: str = REGION,
        timeout_s: float = TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        attempts: int = ATTEMPTS,
        backoff_s: float = BACKOFF_S,
        ca_file: str | None = None,
        pause: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.endpoint = check_endpoint(endpoint)
        given = urlsplit(self.endpoint)
        self._host = given.netloc.rpartition("@")[2]
        self._base = given.path
        self._credentials = credentials
        self._region = region
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._attempts = attempts
        self._backoff_s = backoff_s
        self._ca_file = ca_file
        self._pause = pause
        self._chance = chance
        self._connections: Connections | None = None

    # --- calling -------------------------------------------------------------------------------------------------

    def call(self, operation: str, *, timeout_s: float | None = None, **members: Any) -> "Json":
        """Call an operation of the Lambda API; members have their names there, and None stands for absent.

        Blobs are bytes, times of the request are milliseconds since the epoch; the answer's JSON is as it was sent.

        Raises ApiError if the server refuses, Unreachable if there is no answer, NotUnderstood if it is none of ours.
        """
        import uuid

        from perdure.model.error import InvalidParameterValue
        from perdure.wire.api import lambda_api

        found = lambda_api().operations[operation]
        given = {name: value for name, value in members.items() if value is not None}
        for token in found.request.tokens:
            given.setdefault(token, str(uuid.uuid4()))
        try:
            message = found.write_request(given)
        except InvalidParameterValue as error:
            raise ApiError(error.code, error.message, error.http_status, hint=error.hint) from None
        received = self._send(found.method, message, timeout_s, is_repeatable=_is_repeatable(found, given))
        try:
            return found.read_answer(received.status, received.headers, received.body)
        except InvalidParameterValue:
            raise self._no_json(received) from None

    def paginate(self, operation: str, result_key: str, **members: Any) -> "Iterator[Json]":
        """What all pages of an operation have under `result_key`, read page by page while one iterates."""
        marker = members.pop("Marker", None)
        while True:
            answer = self.call(operation, **members, Marker=marker)
            yield from answer.get(result_key) or ()
            marker = answer.get("NextMarker")
            if not marker:
                return

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        json: Any = None,
        timeout_s: float | None = None,
        is_repeatable: bool = True,
    ) -> "Json":
        """Call a route that the Lambda API does not have; `path` is encoded (see `segment`). Raises as `call` does."""
        from perdure.wire.api import Message

        body = b"" if json is None else msgspec.json.encode(json)
        headers = () if json is None else (("Content-Type", "application/json"),)
        message = Message(body, headers, path, tuple(query))
        received = self._send(method, message, timeout_s, is_repeatable=is_repeatable)
        if not received.body.strip():
            return {}
        try:
            found = msgspec.json.decode(received.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self._no_json(received) from None
        if not isinstance(found, dict):
            raise self._no_json(received)
        return found

    def stream(self, path: str, *, query: Sequence[tuple[str, str]] = ()) -> "Iterator[Json]":
        """The JSON objects, one a line, of a route whose answer goes on; they are read while one iterates."""
        from perdure.wire.api import Message

        target, headers = self._addressed("GET", Message(b"", (), path, tuple(query)))
        for line in self._opened().lines("GET", target, headers, self._timeout_s):
            yield msgspec.json.decode(line)

    def close(self) -> None:
        if self._connections is not None:
            self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self.close()

    # --- sending -------------------------------------------------------------------------------------------------

    def _send(self, method: str, message: "Message", timeout_s: float | None, *, is_repeatable: bool) -> "Received":
        attempt = 0
        while True:
            attempt += 1
            least_s = 0.0
            try:
                received = self._send_once(method, message, timeout_s if timeout_s is not None else self._timeout_s)
                if received.status < 400:
                    return received
                error = error_of(received.status, received.headers, received.body)
                if attempt == self._attempts or not (error.is_refusal or (error.is_passing and is_repeatable)):
                    raise error
                least_s = error.retry_after_s
            except Unreachable as lost:
                if attempt == self._attempts or (lost.may_have_arrived and not is_repeatable):
                    raise
            most_s = min(self._backoff_s * 2.0 ** (attempt - 1), BACKOFF_S_MAX)
            self._pause(max(min(least_s, BACKOFF_S_MAX), self._chance() * most_s))

    def _send_once(self, method: str, message: "Message", timeout_s: float) -> "Received":
        target, headers = self._addressed(method, message)
        return self._opened().send(method, target, headers, message.body, timeout_s)

    def _addressed(self, method: str, message: "Message") -> tuple[str, dict[str, str]]:
        """The target of a request, and its headers, signed."""
        path = self._base + message.path
        query = urlencode(message.query, quote_via=quote, safe=_SAFE)
        headers = {name.lower(): value for name, value in message.headers}
        headers |= {"host": self._host, "user-agent": f"perdure/{__version__}", "accept": "application/json"}
        if self._credentials is not None:
            headers |= self._signature(self._credentials, method, path, query, headers, message.body)
        return (f"{path}?{query}" if query else path), headers

    def _signature(
        self, credentials: Credentials, method: str, path: str, query: str, headers: dict[str, str], body: bytes
    ) -> dict[str, str]:
        import hashlib

        from perdure.wire.signature import Sent, Signer

        signer = Signer(credentials.key_id, credentials.secret, region=self._region, token=credentials.token)
        sent = Sent(method, path, query, headers, hashlib.sha256(body).hexdigest())
        return signer.sign(sent, time.time_ns() // 1_000_000)

    def _opened(self) -> "Connections":
        if self._connections is None:
            from perdure.client.connections import Connections

            self._connections = Connections(self.endpoint, self._connect_timeout_s, self._ca_file)
        return self._connections

    def _no_json(self, received: "Received") -> NotUnderstood:
        return NotUnderstood(
            f"the answer of {self.endpoint} is no JSON object: {received.body[:80]!r}",
            hint="something else than a Perdure server may listen there",
        )


def check_endpoint(text: str) -> str:
    """An endpoint without its last slash; ClientError if `text` is none."""
    given = text.rstrip("/")
    if not _ENDPOINT.fullmatch(given) or not _has_port(given):
        raise ClientError(
            f"an endpoint must be http://HOST:PORT or https://HOST:PORT, not {text!r:.200}",
            hint="--endpoint or PERDURE_ENDPOINT names it",
        )
    return given


def _has_port(endpoint: str) -> bool:
    try:
        given = urlsplit(endpoint)
        return bool(given.hostname) and given.port != 0
    except ValueError:
        return False


def segment(text: str) -> str:
    """One segment of a path."""
    return quote(text, safe=_SAFE)


def _is_repeatable(operation: "Operation", members: "Json") -> bool:
    """Whether sending a request twice does no more than sending it once, or than its second answer can tell."""
    is_start = operation.name.startswith("Invoke") and members.get("InvocationType") != "DryRun"
    return not is_start or members.get("DurableExecutionName") is not None
