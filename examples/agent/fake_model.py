"""A language model that says what is in its script: a stand-in for the API of a real one, on this machine.

    POST /chat   {"messages": […]} → {"text": …} or {"tools": [{"id", "name", "arguments"}, …]}

How far the conversation is, it sees from the number of tool results in it. Its first request it refuses with 503.

    python examples/agent/fake_model.py 8124
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

SCRIPT: dict[int, dict[str, Any]] = {
    0: {
        "tools": [
            {"id": "call-1", "name": "find_order", "arguments": {"order": "A-17"}},
            {"id": "call-2", "name": "find_customer", "arguments": {"customer": "ada"}},
        ]
    },
    2: {"tools": [{"id": "call-3", "name": "refund", "arguments": {"order": "A-17", "cents": 1890}}]},
    3: {"text": "The broken grinder of order A-17 has been dealt with."},
}


class FakeModel(ThreadingHTTPServer):
    """`turns` has the number of tool results of each conversation that was answered."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Answer)
        self.turns: list[int] = []
        self.refused = 0
        self.lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/chat"

    def say(self, messages: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        with self.lock:
            if not self.refused:
                self.refused += 1
                return 503, {"message": "overloaded"}
            results = sum(message["role"] == "tool" for message in messages)
            self.turns.append(results)
            return 200, SCRIPT[results]


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert isinstance(self.server, FakeModel)
        status, said = self.server.say(body["messages"])
        text = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@contextmanager
def running() -> Iterator[FakeModel]:
    """The model on a free port of this machine, in threads of this process."""
    with FakeModel() as model:
        Thread(target=model.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield model
        finally:
            model.shutdown()


if __name__ == "__main__":
    FakeModel(int(sys.argv[1])).serve_forever()
