"""Connections to one endpoint: kept open between requests, one request on each at a time."""

import contextlib
import http.client
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import msgspec

from perdure.client.errors import ClientError, NotUnderstood, TooLate, Unreachable, error_of

IDLE_MAX = 8
IDLE_S_MAX = 50.0
"""Shorter than servers keep connections: one that is used was not closed a moment ago."""


class Received(msgspec.Struct, frozen=True):
    """An answer; its header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connections:
    """Safe to use from any thread. `ca_file` holds the certificates to trust, instead of the system's."""

    def __init__(self, endpoint: str, connect_timeout_s: float, ca_file: str | None = None) -> None:
        given = urlsplit(endpoint)
        self._endpoint = endpoint
        self._is_tls = given.scheme == "https"
        self._name = given.hostname or ""
        self._port = given.port
        self._connect_timeout_s = connect_timeout_s
        self._ca_file = ca_file
        self._lock = threading.Lock()
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []
        self._is_closed = False

    def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Received:
        """One request and its answer. Raises Unreachable, or NotUnderstood if what answers speaks no HTTP."""
        connection = self._taken() or self._opened()
        is_done = False
        try:
            assert connection.sock is not None
            connection.sock.settimeout(timeout_s)
            received = _exchanged(connection, method, target, headers, body)
            is_done = True
        except TimeoutError:
            reason = f"it took longer than {timeout_s:g} seconds"
            raise TooLate(self._endpoint, reason, may_have_arrived=True) from None
        except http.client.RemoteDisconnected:
            raise self._lost("the connection was closed") from None
        except http.client.IncompleteRead:
            raise self._lost("the connection broke in the middle of the answer") from None
        except http.client.HTTPException as error:
            raise NotUnderstood(f"what answers at {self._endpoint} does not speak HTTP: {error!r:.200}") from None
        except OSError as error:
            raise self._lost(error.strerror or str(error)) from None
        finally:
            if is_done and connection.sock is not None:
                self._keep(connection)
            else:
                connection.close()
        return received

    def lines(self, method: str, target: str, headers: Mapping[str, str], timeout_s: float) -> Iterator[bytes]:
        """The lines of an answer as they come, for as long as it goes on; ApiError if it is one.

        `timeout_s` is for the beginning of the answer.
        """
        connection = self._opened()
        with contextlib.closing(connection):
            try:
                sock = connection.sock
                assert sock is not None
                sock.settimeout(timeout_s)
                connection.request(method, target, headers=dict(headers))
                answer = connection.getresponse()
                if answer.status >= 400:
                    found = {name.lower(): value for name, value in answer.getheaders()}
                    raise error_of(answer.status, found, answer.read())
                sock.settimeout(None)
                while line := answer.readline():
                    yield line
            except TimeoutError:
                raise TooLate(self._endpoint, f"it took longer than {timeout_s:g} seconds") from None
            except (OSError, http.client.HTTPException):
                raise self._lost("the connection broke in the middle of the answer") from None

    def close(self) -> None:
        """Close what is idle; what is under way is closed at its end."""
        with self._lock:
            idle, self._idle, self._is_closed = self._idle, [], True
        for _, connection in idle:
            connection.close()

    def _lost(self, reason: str) -> Unreachable:
        return Unreachable(self._endpoint, reason, may_have_arrived=True)

    def _taken(self) -> http.client.HTTPConnection | None:
        """An idle connection that the server has not closed meanwhile."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                since_s, connection = self._idle.pop()
            is_young = time.monotonic() - since_s < IDLE_S_MAX
            if is_young and connection.sock is not None and not _has_news(connection.sock):
                return connection
            connection.close()

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._is_closed and len(self._idle) < IDLE_MAX:
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()

    def _opened(self) -> http.client.HTTPConnection:
        connection = self._made()
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise ClientError(
                f"the certificate of {self._endpoint} can't be trusted: {error.verify_message}",
                hint="AWS_CA_BUNDLE names a file with the certificates to trust",
            ) from None
        except TimeoutError:
            connection.close()
            reason = f"no connection within {self._connect_timeout_s:g} seconds"
            raise Unreachable(self._endpoint, reason) from None
        except OSError as error:
            connection.close()
            raise Unreachable(self._endpoint, (error.strerror or str(error)).lower()) from None
        return connection

    def _made(self) -> http.client.HTTPConnection:
        if not self._is_tls:
            return http.client.HTTPConnection(self._name, self._port, timeout=self._connect_timeout_s)
        try:
            trusted = ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:
            raise ClientError(f"the certificates in {self._ca_file} can't be read: {error}") from None
        return http.client.HTTPSConnection(self._name, self._port, timeout=self._connect_timeout_s, context=trusted)


def _exchanged(
    connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> Received:
    # The server may answer, and close, before it has read all of a body that is too large: its answer is what counts.
    broken: OSError | None = None
    try:
        connection.request(method, target, body=body, headers=dict(headers))
    except (BrokenPipeError, ConnectionResetError) as error:
        broken = error
    try:
        answer = connection.getresponse() if broken is None else _answer_before_end(connection)
        with contextlib.closing(answer):  # it holds the socket, too, if it breaks off
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Received(answer.status, found, answer.read())
    except (OSError, http.client.HTTPException):
        if broken is not None:
            raise broken from None
        raise


def _answer_before_end(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    answer = http.client.HTTPResponse(connection.sock, method="POST")
    answer.begin()
    connection.close()
    return answer


def _has_news(sock: socket.socket) -> bool:
    """Whether there is something to read where nothing is expected: the server has closed the connection."""
    with contextlib.closing(selectors.DefaultSelector()) as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))
