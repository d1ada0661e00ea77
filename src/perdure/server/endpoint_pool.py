"""Functions behind an HTTP endpoint that takes Invoke: SAM's `start-lambda`, a runtime interface emulator.

Source: Lambda API 2015-03-31, Invoke; the header is the official local server's, which endpoints look for.
"""

import http.client
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import quote, urlsplit

import msgspec

from perdure.engine import commands as cmd
from perdure.model.error import ErrorObject, InvalidParameterValue, ServiceError
from perdure.model.function import FunctionVersion, target_of
from perdure.runtimes.event import PAGE_BYTES, error_of, event_of, outcome_of
from perdure.service.invocation import Call, Invocation
from perdure.service.service import Service

log: Final = logging.getLogger("perdure.server")

PLACES: Final = 64
ANSWER_BYTES_MAX: Final = 6 * 1024 * 1024 + 64 * 1024
CONNECT_S: Final = 5.0
GRACE_S: Final = 1.0
"""An endpoint that keeps the timeout itself may say so."""
MARK: Final = ("X-Dex-Handler-Invoke", "true")
"""Says that this is one invocation of a handler, not the start of an execution."""


class EndpointPool:
    """At most `places` invocations at once, each in a thread that waits for its answer."""

    def __init__(
        self,
        find: Callable[[str, str], FunctionVersion | None],
        places: int = PLACES,
        *,
        page_bytes: int = PAGE_BYTES,
    ) -> None:
        self._find = find
        self._page_bytes = page_bytes
        self._places = places
        self._taken = 0
        self._is_closed = False
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(places, thread_name_prefix="perdure-endpoint")
        self._service: Service | None = None

    def bind(self, service: Service) -> None:
        self._service = service

    def reserve(self, target: str) -> bool:
        with self._lock:
            if self._taken >= self._places:
                return False
            self._taken += 1
            return True

    has_backlog = False

    def release(self, target: str) -> None:
        with self._lock:
            self._taken -= 1

    def run(self, invocation: Invocation) -> None:
        self._threads.submit(self._invoke, invocation)

    def call(self, call: Call) -> None:
        self._threads.submit(self._call, call)

    def close(self) -> None:
        """Wait for nobody: what comes back from now on is not recorded, and whoever takes over finds it lost."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _invoke(self, invocation: Invocation) -> None:
        service = self._service
        assert service is not None
        found = self._find(invocation.function, invocation.version)
        event = event_of(invocation, service.store.secret, self._page_bytes)
        outcome: cmd.Outcome
        try:
            body, is_error = _post(found, target_of(invocation.function, invocation.version), event, [MARK])
            outcome = cmd.Crashed(error_of(body)) if is_error or _is_error(body) else outcome_of(body)
        except ServiceError as error:
            outcome = cmd.Crashed(ErrorObject(error.message, error.code))
        if self._is_closed:
            return
        try:
            service.end_invocation(invocation, invocation.token, outcome)
        except ServiceError:
            log.exception("the end of an invocation was refused", extra={"execution": invocation.execution_id})

    def _call(self, call: Call) -> None:
        found = self._find(call.function, call.version)
        try:
            body, is_error = _post(found, call.function, (call.input or "").encode())
            if is_error:
                call.answer(None, error_of(body))
            else:
                call.answer(body.decode(), None)
        except ServiceError as error:
            call.answer(None, ErrorObject(error.message, error.code))
        except UnicodeDecodeError:
            text = "CHAINED_INVOKE response could not be decoded as UTF-8."
            call.answer(None, ErrorObject(text, "InvalidParameterValueException"))


class TimedOut(ServiceError):
    """The function took longer than its timeout."""

    code = "Sandbox.Timedout"


def _is_error(body: bytes) -> bool:
    """Whether an answer is a function's error that no header says to be one, as runtime interface emulators send it."""
    if b'"errorType"' not in body and b'"errorMessage"' not in body:
        return False
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(found, dict) and "Status" not in found and bool({"errorType", "errorMessage"} & found.keys())


def _post(
    version: FunctionVersion | None, name: str, body: bytes, headers: Iterable[tuple[str, str]] = ()
) -> tuple[bytes, bool]:
    """The answer of the endpoint to an Invoke, and whether it is a function's error."""
    if version is None or version.endpoint is None:
        raise InvalidParameterValue(f"function {name} has no endpoint")
    parts = urlsplit(version.endpoint)
    assert parts.hostname is not None
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname, parts.port, timeout=CONNECT_S)
    try:
        connection.connect()
        connection.sock.settimeout(version.timeout_s + GRACE_S)
        path = f"{parts.path.rstrip('/')}/2015-03-31/functions/{quote(version.function, safe='')}/invocations"
        connection.request("POST", path, body, {"Content-Type": "application/json", **dict(headers)})
        response = connection.getresponse()
        answer = response.read(ANSWER_BYTES_MAX + 1)
    except TimeoutError:
        raise TimedOut(f"Task timed out after {version.timeout_s:.2f} seconds") from None
    except (OSError, http.client.HTTPException) as error:
        text = f"the endpoint {version.endpoint} of function {name} gave no answer: {error or type(error).__name__}"
        raise ServiceError(text, hint="is it running, and does it know the function?") from None
    finally:
        connection.close()
    if len(answer) > ANSWER_BYTES_MAX:
        raise ServiceError(f"the endpoint {version.endpoint} answered with more than {ANSWER_BYTES_MAX} bytes")
    if response.status >= 300:
        raise ServiceError(f"the endpoint {version.endpoint} answered {response.status}: {answer[:500]!r}")
    return answer, response.getheader("X-Amz-Function-Error") is not None
