"""A function that a test plays: an endpoint that shows each invocation to the test, which answers it by hand."""

import json
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]

SOON_S = 20.0
"""How long a test waits for what must come at once."""
PENDING: Json = {"Status": "PENDING"}


class Incoming:
    """One invocation, which waits for its answer. `checkpoint` goes on with the token that the answer before gave."""

    def __init__(self, body: bytes, headers: Mapping[str, str], function: "RawFunction") -> None:
        self.body = body
        self.headers = headers
        self._function = function
        self.token: str | None = None
        if self.headers.get("X-Dex-Handler-Invoke"):
            self.token = self.event["CheckpointToken"]
        self._answer: queue.Queue[tuple[bytes, bool] | None] = queue.Queue()

    @property
    def client(self) -> Any:
        """A client of the server that runs now."""
        return self._function.client

    @property
    def event(self) -> Any:
        return json.loads(self.body)

    @property
    def arn(self) -> str:
        return str(self.event["DurableExecutionArn"])

    @property
    def operations(self) -> list[Json]:
        return list(self.event["InitialExecutionState"]["Operations"])

    @property
    def input(self) -> Any:
        return json.loads(self.operations[0]["ExecutionDetails"]["InputPayload"])

    # --- while it is in flight -----------------------------------------------------------------------------------

    def checkpoint(self, *updates: Json, **more: Any) -> Json:
        """The answer of CheckpointDurableExecution."""
        given = {"CheckpointToken": self.token, **more}
        answer: Json = self.client.checkpoint_durable_execution(
            DurableExecutionArn=self.arn, Updates=list(updates), **given
        )
        self.token = answer.get("CheckpointToken")
        return answer

    def changed(self, *updates: Json, **more: Any) -> list[Json]:
        """The operations in the answer of CheckpointDurableExecution."""
        return list(self.checkpoint(*updates, **more)["NewExecutionState"]["Operations"])

    # --- its answer ----------------------------------------------------------------------------------------------

    def answer(self, output: Any) -> None:
        """Answer with bytes as they are, or with a value as JSON."""
        self._answer.put((output if isinstance(output, bytes) else json.dumps(output).encode(), False))

    def succeed(self, result: Any = None) -> None:
        self.answer({"Status": "SUCCEEDED", "Result": json.dumps(result)})

    def fail(self, message: str = "bad", kind: str = "ValueError") -> None:
        self.answer({"Status": "FAILED", "Error": {"ErrorMessage": message, "ErrorType": kind}})

    def suspend(self) -> None:
        self.answer(PENDING)

    def raise_error(self, message: str = "boom", kind: str = "RuntimeError", **more: Any) -> None:
        """End it as a handler does that raises."""
        self._answer.put((json.dumps({"errorMessage": message, "errorType": kind, **more}).encode(), True))

    def break_off(self) -> None:
        """Close the connection without an answer."""
        self._answer.put(None)

    def wait_for_answer(self) -> tuple[bytes, bool] | None:
        return self._answer.get()


Reply = Callable[[Incoming], None]


class RawFunction:
    """What the test sees of one function. With a `reply`, invocations are answered by it, in their own threads."""

    def __init__(self, name: str, client: Any, reply: Reply | None = None) -> None:
        self.name = name
        self.client = client
        self.reply = reply
        self.seen: list[Incoming] = []
        self._waiting: queue.Queue[Incoming] = queue.Queue()
        self.qualified = f"{name}:$LATEST"
        self.url = ""

    def next(self, timeout_s: float = SOON_S) -> Incoming:
        """The next invocation that nobody has taken."""
        try:
            return self._waiting.get(timeout=timeout_s)
        except queue.Empty:
            raise AssertionError(f"{self.name} was not invoked within {timeout_s:g} s") from None

    @property
    def count(self) -> int:
        """How many invocations there have been."""
        return len(self.seen)

    def take(self, incoming: Incoming) -> tuple[bytes, bool] | None:
        self.seen.append(incoming)
        if self.reply is not None:
            self.reply(incoming)
        else:
            self._waiting.put(incoming)
        return incoming.wait_for_answer()


class Endpoint:
    """The HTTP server behind raw functions; each is found by its name in the path of an Invoke."""

    def __init__(self) -> None:
        self.functions: dict[str, RawFunction] = {}
        self.url = ""

    def close(self) -> None:
        """Let every invocation go that still waits."""
        for function in self.functions.values():
            for incoming in function.seen:
                incoming.break_off()


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """Serve raw functions on a free port of this machine."""
    played = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            function = played.functions[self.path.split("/")[3]]
            answer = function.take(Incoming(body, dict(self.headers), function))
            self.close_connection = True
            if answer is None:
                return
            content, is_error = answer
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if is_error:
                self.send_header("X-Amz-Function-Error", "Unhandled")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the method overridden
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        played.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield played
        finally:
            played.close()
            server.shutdown()
            thread.join()


# --- updates, as they travel -------------------------------------------------------------------------------------


def update(operation_id: str, kind: str, action: str, **more: Any) -> Json:
    return {"Id": operation_id, "Type": kind, "Action": action, **more}


def step(operation_id: str, action: str, **more: Any) -> Json:
    return update(operation_id, "STEP", action, **more)


def retry(operation_id: str, delay_s: int = 5, **more: Any) -> Json:
    """A RETRY; it is that of a failed attempt unless a Payload is given."""
    if "Payload" not in more:
        more.setdefault("Error", {"ErrorType": "ValueError", "ErrorMessage": "not yet"})
    return update(operation_id, "STEP", "RETRY", StepOptions={"NextAttemptDelaySeconds": delay_s}, **more)


def context(operation_id: str, action: str, **more: Any) -> Json:
    return update(operation_id, "CONTEXT", action, **more)


def wait(operation_id: str, seconds: int = 60, **more: Any) -> Json:
    return update(operation_id, "WAIT", "START", WaitOptions={"WaitSeconds": seconds}, **more)


def callback(operation_id: str, timeout_s: int = 0, heartbeat_s: int = 0, **more: Any) -> Json:
    options = {"TimeoutSeconds": timeout_s, "HeartbeatTimeoutSeconds": heartbeat_s}
    return update(operation_id, "CALLBACK", "START", CallbackOptions=options, **more)


def invoke(operation_id: str, function: str, **more: Any) -> Json:
    return update(operation_id, "CHAINED_INVOKE", "START", ChainedInvokeOptions={"FunctionName": function}, **more)
