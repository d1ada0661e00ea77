"""Servers of the durable API over HTTP: ours and AWS's local one. SERVER is "perdure" or "emulator".

The function is an endpoint of this process: it holds its invocation open while clients checkpoint for it.
"""

import io
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from report import main, percentile

IS_OURS = os.environ.get("SERVER", "perdure") == "perdure"
STORE = os.environ.get("STORE", "sqlite")
SECONDS = 3.0
EVENTS: "queue.Queue[dict]" = queue.Queue()
HOLD = threading.Event()
ANSWER = b'{"Status":"FAILED"}'


class Endpoint(BaseHTTPRequestHandler):
    """Takes Invoke, hands the event over, and answers when all is measured."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        EVENTS.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        HOLD.wait()
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_arguments):
        pass


class Endpoints(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(folder: Path, endpoint: str | None = None, store: str | None = None):
    """A server in a process of its own; the value is its URL and its process."""
    port = free_port()
    if IS_OURS:
        url = store or ("memory://" if STORE == "memory" else "sqlite:///server.db")
        command = [sys.executable, "-m", "perdure", "serve", "--port", str(port), "--store", url]
        command += ["--data", "data", "--log-level", "WARNING"]
        command += ["--lambda-endpoint", endpoint] if endpoint else []
    else:
        runner = str(Path(sys.executable).parent / "dex-local-runner")
        command = [runner, "start-server", "--host", "127.0.0.1", "--port", str(port), "--log-level", "ERROR"]
        command += [
            "--lambda-endpoint",
            str(endpoint),
            "--store-type",
            STORE,
            "--store-path",
            str(folder / "emulator.db"),
        ]
    environment = {
        **os.environ,
        "AWS_DEFAULT_REGION": "us-west-2",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
    }
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).read()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit((folder / "log").read_text()[-2000:]) from None
                time.sleep(0.005)
        yield url, process
    finally:
        HOLD.set()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Link:
    """One connection, kept as long as the server keeps it, with as little work of its own as can be."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._address = (host, int(port))
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        link = socket.create_connection(self._address)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link

    def post(self, path: str, body: bytes) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._read() or self._gone()
        head_bytes, rest = received.split(b"\r\n\r\n", 1)
        lines = head_bytes.lower().split(b"\r\n")
        sizes = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")]
        while len(rest) < sizes[0] if sizes else True:
            more = self._read()
            if not more:
                break
            rest += more
        if b" 20" not in lines[0]:
            raise ConnectionError(f"{head_bytes!r} {rest[:500]!r}")
        if lines[0].startswith(b"http/1.0") or b"connection: close" in lines:
            self._socket.close()
            self._socket = self._connect()
        return rest

    def _read(self) -> bytes:
        return self._socket.recv(65536)

    def _gone(self) -> bytes:
        raise ConnectionError("the server has closed the connection")


def start_body(number: int, endpoint: str) -> bytes:
    return json.dumps(
        {
            "AccountId": "000000000000" if IS_OURS else "123456789012",
            "FunctionName": "f",
            "FunctionQualifier": "$LATEST",
            "ExecutionName": f"e{number}",
            "ExecutionTimeoutSeconds": 3600,
            "ExecutionRetentionPeriodDays": 7,
            "InvocationId": f"00000000-0000-4000-8000-{number:012d}",
            "LambdaEndpoint": endpoint,
            "Input": "1",
        }
    ).encode()


@contextmanager
def endpoints():
    with Endpoints(("127.0.0.1", 0), Endpoint) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"


def checkpoints(folder: Path) -> dict[str, float]:
    """Checkpoints of one finished step each, one after the other on each connection."""
    found: dict[str, float] = {}
    for connections in (1, 16, 64):
        place = folder / str(connections)
        place.mkdir()
        HOLD.clear()
        with endpoints() as endpoint, server(place, endpoint) as (url, _process):
            link = Link(url)
            for number in range(connections):
                link.post("/start-durable-execution", start_body(number, endpoint))
            try:
                events = [EVENTS.get(timeout=15) for _ in range(connections)]
            except queue.Empty:  # AWS's local server runs a few invocations at once, and no more
                break
            taken: list[float] = []

            def run(event: dict, url: str = url, taken: list[float] = taken) -> None:
                mine = Link(url)
                path = f"/2025-12-01/durable-executions/{quote(event['DurableExecutionArn'], safe='')}/checkpoint"
                token, number = event["CheckpointToken"], 0
                until = time.perf_counter() + SECONDS
                while time.perf_counter() < until:
                    step = {"Id": f"s{number}", "Type": "STEP", "SubType": "Step", "Name": "n"}
                    updates = [{**step, "Action": "START"}, {**step, "Action": "SUCCEED", "Payload": "1"}]
                    body = json.dumps({"CheckpointToken": token, "Updates": updates}).encode()
                    began = time.perf_counter()
                    answer = mine.post(path, body)
                    taken.append(time.perf_counter() - began)
                    token = json.loads(answer)["CheckpointToken"]
                    number += 1

            with ThreadPoolExecutor(connections) as threads:
                began = time.perf_counter()
                list(threads.map(run, events))
                elapsed = time.perf_counter() - began
        found[f"per_s_{connections}"] = len(taken) / elapsed
        found[f"p50_ms_{connections}"] = percentile(taken, 50) * 1000
        found[f"p99_ms_{connections}"] = percentile(taken, 99) * 1000
    return found


def http_starts(folder: Path) -> dict[str, float]:
    """Executions accepted: on disk, or in the emulator's memory."""
    count = 1000 if IS_OURS else 200
    with endpoints() as endpoint, server(folder, endpoint) as (url, _process):
        numbers = iter(range(count))
        lock = threading.Lock()

        def run() -> None:
            link = Link(url)
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                link.post("/start-durable-execution", start_body(number, endpoint))

        with ThreadPoolExecutor(8) as threads:
            began = time.perf_counter()
            list(threads.map(lambda _: run(), range(8)))
        return {"per_s": count / (time.perf_counter() - began)}


def server_ready(folder: Path) -> dict[str, float]:
    times = []
    for number in range(5):
        place = folder / str(number)
        place.mkdir()
        began = time.perf_counter()
        with server(place, "http://127.0.0.1:9"):
            times.append((time.perf_counter() - began) * 1000)
    return {"ms": percentile(times, 50)}


# --- what the official local server does not have ----------------------------------------------------------------

STEPS = """
    import time
    from {root} import DurableContext, durable_execution

    @durable_execution
    def handler(event, context: DurableContext):
        began = time.perf_counter()
        for number in range(event):
            context.step(lambda _, number=number: number, name="step")
        return (time.perf_counter() - began) / event * 1e6
"""
ASKING = """
    import time
    from perdure import DurableContext, durable_execution

    @durable_execution
    def handler(event, context: DurableContext):
        context.create_callback(name="answer").result()
        return time.time()
"""
PLAIN = """
    def handler(event, context):
        return event
"""


def package(source: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("app.py", textwrap.dedent(source))
    return made.getvalue()


def lambda_client(url: str):
    import boto3

    return boto3.client(
        "lambda", endpoint_url=url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y"
    )


def deploy(client, name: str, source: str, **more) -> None:
    client.create_function(
        FunctionName=name,
        Role="arn:aws:iam::000000000000:role/any",
        Runtime=f"python3.{sys.version_info.minor}",
        Handler="app.handler",
        Code={"ZipFile": package(source)},
        Timeout=300,
        MemorySize=1024,
        **more,
    )


def managed(folder: Path) -> dict[str, float]:
    """Functions from zip files: steps of both SDKs, and what a warm invocation costs its caller."""
    found: dict[str, float] = {}
    with server(folder) as (url, _process):
        client = lambda_client(url)
        for key, root in (("us_per_step", "perdure"), ("us_per_official_step", "aws_durable_execution_sdk_python")):
            deploy(client, key, STEPS.format(root=root), DurableConfig={"ExecutionTimeout": 3600})
            for _ in range(2):  # the second process is warm
                answer = client.invoke(FunctionName=f"{key}:$LATEST", Payload=b"1000")
                found[key] = float(answer["Payload"].read())
        deploy(client, "asking", ASKING, DurableConfig={"ExecutionTimeout": 3600})
        found["callback_p50_ms"], found["callback_p99_ms"] = callbacks(client)
        deploy(client, "plain", PLAIN)
        path = "/2015-03-31/functions/plain/invocations"
        link = Link(url)
        began = time.perf_counter()
        link.post(path, b"1")
        found["cold_ms"] = (time.perf_counter() - began) * 1000
        taken = []
        for _ in range(500):
            began = time.perf_counter()
            link.post(path, b"1")
            taken.append((time.perf_counter() - began) * 1000)
        found["warm_p50_ms"] = percentile(taken, 50)
        found["warm_p99_ms"] = percentile(taken, 99)
    return found


def callbacks(client) -> tuple[float, float]:
    """From the moment before a callback is answered to the moment at which its handler goes on, in a warm process."""
    taken = []
    for number in range(60):
        arn = client.invoke(FunctionName="asking:$LATEST", InvocationType="Event", Payload=b"1")["DurableExecutionArn"]
        asked: list[str] = []
        kinds: list[str] = []
        while not asked or len(kinds) < 3:  # started, asked, suspended
            events = client.get_durable_execution_history(DurableExecutionArn=arn)["Events"]
            kinds = [event["EventType"] for event in events]
            asked = [one["CallbackStartedDetails"]["CallbackId"] for one in events if "CallbackStartedDetails" in one]
        began = time.time()
        client.send_durable_execution_callback_success(CallbackId=asked[0])
        while (execution := client.get_durable_execution(DurableExecutionArn=arn))["Status"] == "RUNNING":
            time.sleep(0.002)
        if number >= 10:
            taken.append((float(execution["Result"]) - began) * 1000)
    return percentile(taken, 50), percentile(taken, 99)


def workers(folder: Path) -> dict[str, float]:
    """1,000 steps in a worker."""
    (folder / "steps.py").write_text(textwrap.dedent(STEPS.format(root="perdure")))
    with server(folder) as (url, _process):
        command = [sys.executable, "-m", "perdure", "worker", "steps.py:handler", "--endpoint", url, "-q"]
        with (folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            client = lambda_client(url)
            while not client.list_functions()["Functions"]:
                time.sleep(0.05)
            name = client.list_functions()["Functions"][0]["FunctionName"]
            for _ in range(2):
                answer = client.invoke(FunctionName=f"{name}:$LATEST", Payload=b"1000")
            return {"us_per_step": float(answer["Payload"].read())}
        finally:
            process.terminate()
            process.wait(20)


def suspended(folder: Path) -> dict[str, float]:
    """Memory of a server over a store with suspended executions."""
    import perdure
    from perdure import DurableContext, Duration, durable_execution

    @durable_execution
    def sleeper(event, context: DurableContext):
        context.wait(Duration.from_days(300))

    found: dict[str, float] = {}
    for count in (10, 100_000):
        path = folder / f"{count}.db"
        with perdure.open(str(path), functions=[sleeper]) as app:
            for _ in range(0, count, 1000):
                app.start_many(sleeper, range(min(count, 1000)))
            while sum(1 for row in app.list(status="RUNNING") if not row.waiting_on):
                time.sleep(0.2)
        place = folder / f"of-{count}"
        place.mkdir()
        with server(place, store=str(path)) as (_url, process):
            time.sleep(2)
            status = Path(f"/proc/{process.pid}/status").read_text()
            rss = next(line for line in status.splitlines() if line.startswith("VmRSS"))
            found[f"mib_{count}"] = int(rss.split()[1]) / 1024
    return found


if __name__ == "__main__":
    ours = [managed, workers, suspended] if IS_OURS and STORE == "sqlite" else []
    main([checkpoints, http_starts, server_ready, *ours])
