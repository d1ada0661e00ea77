"""CheckpointDurableExecution, GetDurableExecutionState and Invoke over HTTP, for a real boto3 to call.

Source of paths, members and errors: Lambda API 2015-03-31 and 2025-12-01.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from perdure.model.error import ServiceError
from support.remote import Json, WireService

Refusal = tuple[int, str, str]
"""An HTTP status, an error's code and its message."""


class LambdaApi:
    """What the server serves: the service of executions, or functions to invoke; `refusals` are answered first.

    A refusal of None breaks the connection. Of what is done afterwards, `answers_lost` answers never arrive.
    """

    def __init__(
        self, wire: WireService | None = None, functions: Mapping[str, Callable[[Any, Any], Any]] | None = None
    ) -> None:
        self.wire = wire
        self.functions = dict(functions or {})
        self.refusals: list[Refusal | None] = []
        self.answers_lost = 0
        self.bodies: list[bytes] = []
        self.agents: set[str] = set()
        self.url = ""

    def answer(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> tuple[int, Json, str | None]:
        """An HTTP status, a body, and the code of an error."""
        match method, path.strip("/").split("/"):
            case "POST", ["2015-03-31", "functions", name, "invocations"]:
                return 200, self.functions[name](json.loads(body), None), None
            case "POST", ["2025-12-01", "durable-executions", *arn, "checkpoint"]:
                assert self.wire is not None
                return 200, self.wire.checkpoint("/".join(arn), json.loads(body)), None
            case "GET", ["2025-12-01", "durable-executions", *arn, "state"]:
                assert self.wire is not None
                token, marker = query["CheckpointToken"], query["Marker"]
                return 200, self.wire.state("/".join(arn), token, marker, int(query["MaxItems"])), None
        return 404, {"Message": f"{method} {path}"}, "UnknownOperation"


@contextmanager
def serving(api: LambdaApi) -> Iterator[str]:
    """Serve on a free port of this machine; the value is the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self._do()

        def do_GET(self) -> None:
            self._do()

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            api.bodies.append(body)
            api.agents.add(self.headers.get("User-Agent", ""))
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if api.refusals:
                refusal = api.refusals.pop(0)
                if refusal is None:
                    self.close_connection = True
                    return
                status, code, message = refusal
                self._send(status, {"Message": message, "Type": "User"}, code)
                return
            try:
                answer = api.answer(self.command, unquote(parts.path), query, body)
                if api.answers_lost:
                    api.answers_lost -= 1
                    self.close_connection = True
                    return
                self._send(*answer)
            except ServiceError as error:
                self._send(error.http_status, {"Message": error.message, "Type": "User"}, error.code)

        def _send(self, status: int, answer: Any, code: str | None) -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if code is not None:
                self.send_header("X-Amzn-ErrorType", code)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the method overridden
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        api.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield api.url
        finally:
            server.shutdown()
            thread.join()
