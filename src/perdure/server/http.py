"""The HTTP server of a node: uvicorn on a socket of ours, in a thread of its own."""

import asyncio
import contextlib
import ipaddress
import itertools
import logging
import socket
import ssl
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from perdure.api.errors import error_answer
from perdure.model.error import InvalidParameterValue, InvalidRequestContent

THREADS: Final = 64
"""Handlers wait for the disk in these; a commit gathers what they bring."""
LETTING_GO_TURNS: Final = 100
TICK_S: Final = 0.1
KEEP_ALIVE_S: Final = 75
"""Longer than clients keep their connections, so that it is the client that closes them."""


class Tls(msgspec.Struct, frozen=True):
    """Certificate and key files in PEM; the key may stand in the certificate's file."""

    certificate: Path
    key: Path | None = None


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class HttpServer:
    """Serves an ASGI application. `port` 0 takes a free one; `port` is then the one that was taken.

    `stopping` is called on the loop when it is to stop.
    """

    def __init__(
        self,
        app: Any,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: Tls | None = None,
        *,
        stopping: Callable[[], None] = lambda: None,
    ) -> None:
        self._stopping = stopping
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket = _listen(host, port)
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        self.is_tls = tls is not None
        config = uvicorn.Config(
            app,
            http=_Protocol,
            loop="none",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=2048,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=5,
            ssl_certfile=tls.certificate if tls is not None else None,
            ssl_keyfile=tls.key if tls is not None else None,
        )
        if tls is not None:
            _check_tls(tls)
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it tells of clients that went away
        self._started = threading.Event()
        self._server = _Server(config, self._started)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="perdure-http", daemon=True)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        host = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - it is compared, not bound
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}"

    def start(self) -> None:
        """Serve; returns when requests are taken."""
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            raise self._error

    def stop(self, timeout_s: float = 10.0) -> None:
        """Take no requests any more, and let those that are under way come to their ends."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._stopping)
                self._loop.call_soon_threadsafe(self._server.has_to_exit.set)
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._socket.close()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="perdure-api")
        asyncio.get_running_loop().set_default_executor(pool)
        try:
            await self._server.serve(sockets=[self._socket])
        except BaseException as error:  # noqa: BLE001 - it is raised where the server is started
            self._error = error
        finally:
            self._started.set()
            await self._let_go()
            pool.shutdown(wait=False, cancel_futures=True)

    async def _let_go(self) -> None:
        """End the connections that are left: under TLS they would wait for their clients to say goodbye."""
        connections = self._server.server_state.connections
        for connection in list(connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        for _ in range(LETTING_GO_TURNS):
            if not connections:
                break
            await asyncio.sleep(0)


class _Protocol(HttpToolsProtocol):
    """Answers what is no HTTP in the form that all other errors have."""

    def send_400_response(self, msg: str) -> None:
        answer = error_answer(InvalidRequestContent(msg))
        headers = [
            *answer.headers,
            ("x-amzn-RequestId", str(uuid.uuid4())),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(answer.body))),
            ("Connection", "close"),
        ]
        lines = ["HTTP/1.1 400 Bad Request", *(f"{name}: {value}" for name, value in headers)]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
        self.transport.close()


class _Server(uvicorn.Server):
    """Says when it takes requests, and ends as soon as it is told to."""

    def __init__(self, config: uvicorn.Config, started: threading.Event) -> None:
        super().__init__(config)
        self._has_started = started
        self.has_to_exit = asyncio.Event()
        """Set on the loop."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._has_started.set()

    async def main_loop(self) -> None:
        """Ten times a second there is housekeeping, as uvicorn has it."""
        for count in itertools.count():
            if await self.on_tick(count):
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.has_to_exit.wait(), TICK_S)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise InvalidParameterValue(
            f"can't listen on {host}:{port}: {error.strerror or error}",
            hint="another server may be running there; choose another with --port, 0 takes a free one",
        ) from None
    return listening


def _check_tls(tls: Tls) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidParameterValue(
            f"the certificate {tls.certificate} can't be used: {error}",
            hint="give PEM files of a certificate and its key",
        ) from None
