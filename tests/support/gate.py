"""A gate between a test and handlers in other processes: they say where they are, and go on when they are let."""

import socket
from types import TracebackType
from typing import Self

WAIT_S = 60.0


class Visitor:
    """Somebody who has come to the gate: what was said, by which process."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        connected.settimeout(WAIT_S)
        with connected.makefile() as lines:
            words = lines.readline().split()
        self.pid, self.text = int(words[0]), " ".join(words[1:])

    def let_go(self) -> None:
        """Let the visitor go on, if it is there still."""
        try:
            self._socket.sendall(b"go\n")
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        self._socket.close()


class Gate:
    """Listens on a free port of this machine."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(WAIT_S)
        self.port: int = self._listening.getsockname()[1]
        self._visitors: list[Visitor] = []

    def next(self) -> Visitor:
        """The next one who comes."""
        connected, _ = self._listening.accept()
        self._visitors.append(Visitor(connected))
        return self._visitors[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()
        for visitor in self._visitors:
            visitor.close()


VISIT = '''
import os
import socket


def visit(port, text):
    """Say where one is, and wait to be let go."""
    with socket.create_connection(("127.0.0.1", port)) as gate:
        gate.sendall(f"{os.getpid()} {text}\\n".encode())
        gate.recv(10)
'''
"""The handlers' side of it."""
