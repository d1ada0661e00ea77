"""Bodies that are too large, too slow or cut off: refused by name, and nobody else notices."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from perdure import DurableContext, durable_execution
from perdure.api import app
from perdure.server.node import Node
from perdure.store.memory import MemoryStore


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node(MemoryStore()) as serving:
        yield serving


def connected(node: Node) -> socket.socket:
    host, port = node.url.removeprefix("http://").split(":")
    link = socket.create_connection((host, int(port)), timeout=10)
    link.settimeout(10)
    return link


def answer(link: socket.socket) -> str:
    received = b""
    while True:
        try:
            more = link.recv(65536)
        except ConnectionResetError:
            break
        if not more:
            break
        received += more
        head, end, body = received.partition(b"\r\n\r\n")
        if end and b"content-length: " in head.lower():
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(body) >= size:
                break
    return received.decode()


INVOKE = "/2015-03-31/functions/fn/invocations"


def test_a_body_over_its_limit_is_refused_before_it_is_sent(node: Node) -> None:
    with connected(node) as link:
        link.sendall(f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6291457\r\n\r\n".encode())
        said = answer(link)
    assert said.startswith("HTTP/1.1 413")
    assert "RequestTooLargeException" in said
    assert "connection: close" in said.lower()


def test_a_body_of_unknown_length_is_refused_as_soon_as_it_is_over_its_limit(node: Node) -> None:
    head = f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connected(node) as link:
        link.sendall(head.encode())
        try:
            for _ in range(100):
                link.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        said = answer(link)
    assert said == "" or said.startswith("HTTP/1.1 413")


def test_a_body_that_does_not_arrive_is_given_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BODY_READ_S", 0.05)
    with connected(node) as link:
        link.sendall(f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf".encode())
        said = answer(link)
    assert said.startswith("HTTP/1.1 400")
    assert "did not arrive within 0.05 seconds" in said


def test_a_client_that_leaves_in_the_middle_harms_nobody(node: Node) -> None:
    for _ in range(20):
        with connected(node) as link:
            link.sendall(f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf".encode())
    with connected(node) as link:
        link.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer(link).startswith("HTTP/1.1 200")


def test_a_server_that_stops_lets_those_go_who_wait() -> None:
    """Found by counting: whoever waited for the end of an execution held a stopping server for five seconds."""

    @durable_execution(name="patient")
    def patient(event: Any, context: DurableContext) -> Any:
        return context.create_callback(name="answer").result()

    serving = Node(MemoryStore(), handlers={"patient": patient})
    serving.start()
    with connected(serving) as link:
        path = "/2015-03-31/functions/patient%3A%24LATEST/invocations"
        link.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        while not serving.service.open_callbacks():
            threading.Event().wait(0.01)
        waiting = serving.service.open_callbacks()
        serving.stop()
        said = answer(link)
    assert waiting
    assert said.startswith("HTTP/1.1 200")
    assert "x-amz-function-error: unhandled" in said.lower()
    assert "and goes on: arn:aws:lambda" in said
