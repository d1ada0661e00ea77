"""An HTTP server that answers as a script says, to see what a client does with it."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec


class Answer(msgspec.Struct, frozen=True):
    """One answer. `raw` is sent as it is; with `is_cut` the connection is closed instead of, or after, it."""

    status: int = 200
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    raw: bytes | None = None
    is_cut: bool = False

    def written(self) -> bytes:
        if self.raw is not None:
            return self.raw
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body or {}).encode()
        head = [f"HTTP/1.1 {self.status} Said", f"content-length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*head, "", ""]).encode() + body


CUT = Answer(raw=b"", is_cut=True)


class Asked(msgspec.Struct, frozen=True):
    """A request as it came; header names are in lower case. `connection` counts from 1."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


class Server:
    """Gives the answers of `script` in order; `asked` is what came. Holds still where an answer is None."""

    def __init__(self, script: Sequence[Answer | None]) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._script = list(script)
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self.asked: list[Asked] = []
        self.has_cut = threading.Event()
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection, len(self._open)), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as reader:
            while line := reader.readline():
                method, target, _ = line.decode().split()
                headers: dict[str, str] = {}
                while (line := reader.readline()).strip():
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = reader.read(int(headers.get("content-length", "0")))
                with self._lock:
                    self.asked.append(Asked(method, target, headers, body, number))
                    answer = self._script.pop(0)
                if answer is None:
                    continue
                connection.sendall(answer.written())
                if answer.is_cut:
                    connection.shutdown(socket.SHUT_RDWR)
                    self.has_cut.set()
                    return

    def close(self) -> None:
        for each in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextlib.contextmanager
def scripted(*script: Answer | None) -> Iterator[Server]:
    server = Server(script)
    try:
        yield server
    finally:
        server.close()
