"""A node that serves, a clock that is moved by hand, and boto3 clients: what the tests of the wire stand on."""

import http.client
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from perdure.engine.state import ExecutionState
from perdure.engine.terms import Terms
from perdure.model import event as ev
from perdure.model.execution import DurableConfig
from perdure.model.function import FunctionVersion, Host
from perdure.model.ids import ExecutionArn
from perdure.runtimes.pool import Settings as PoolSettings
from perdure.server.node import Node, Settings
from perdure.service.clock import Clock
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Store
from perdure.store.sqlite.store import SqliteStore
from support.functions import PYTHON, node
from support.local import ManualClock
from support.raw import SOON_S, Endpoint, Json, RawFunction, Reply, endpoint

ROLE = "arn:aws:iam::000000000000:role/r"
REGION = "us-east-1"
SESSION = boto3.Session("AKIDEXAMPLE", "secret", region_name=REGION)
DURABLE = DurableConfig()
INTERPRETERS = {"nodejs22.x": node(), PYTHON: sys.executable}
NODE = "nodejs22.x"


def client_of(url: str, *, attempts: int = 1) -> Any:
    """A boto3 client that asks once, so that each answer is seen."""
    config = Config(retries={"total_max_attempts": attempts, "mode": "standard"}, read_timeout=60)
    return SESSION.client("lambda", endpoint_url=url, config=config)


class Served:
    """One node and its functions. With a `path` its store is a file, and it can be stopped and started again."""

    def __init__(
        self,
        played: Endpoint,
        *,
        clock: Clock | None = None,
        terms: Terms | None = None,
        path: Path | None = None,
        handlers: Mapping[str, Callable[..., Any]] | None = None,
        sync_wait_s: float = 900.0,
        managed: PoolSettings | None = None,
        around: Callable[[Store], Store] | None = None,
    ) -> None:
        self.played = played
        self.manual = ManualClock()
        self._clock = clock or self.manual
        self._path = path
        self._around = around
        self._handlers = handlers
        self._settings = Settings(
            terms=terms or Terms(), sync_wait_s=sync_wait_s, managed=managed or PoolSettings(interpreters=INTERPRETERS)
        )
        self._names = itertools.count(1)
        self.start()

    def start(self) -> None:
        store: Store = MemoryStore() if self._path is None else SqliteStore(self._path)
        if self._around is not None:
            store = self._around(store)
        self.node = Node(store, self._settings, self._handlers, clock=self._clock)
        self.node.start()
        self.client = client_of(self.node.url)
        for function in self.played.functions.values():
            function.client = self.client

    def stop(self) -> None:
        self.client.close()
        self.node.stop()

    # --- functions -----------------------------------------------------------------------------------------------

    def function(
        self, reply: Reply | None = None, *, durable: DurableConfig | None = DURABLE, name: str | None = None
    ) -> RawFunction:
        """A new function that the test plays."""
        name = name or f"played-{next(self._names)}"
        function = self.play(name, reply=reply)
        self.node.registry.create(
            FunctionVersion(function=name, host=Host.ENDPOINT, endpoint=self.played.url, durable=durable, timeout_s=60)
        )
        return function

    def play(self, name: str, played: Endpoint | None = None, *, reply: Reply | None = None) -> RawFunction:
        """Have the test play a function of this name, at an endpoint of its own if one is given."""
        function = RawFunction(name, self.client, reply)
        (played or self.played).functions[name] = function
        return function

    def start_execution(self, function: RawFunction, payload: Any = None, **more: Any) -> str:
        """Begin an execution and return its ARN."""
        given = {"FunctionName": function.qualified, "Payload": json.dumps(payload), **more}
        return str(self.invoke(InvocationType="Event", **given)["DurableExecutionArn"])

    def invoke(self, **given: Any) -> Json:
        """The answer of Invoke, its Payload as text."""
        answer: Json = dict(self.client.invoke(**given))
        with closing(answer["Payload"]) as payload:
            answer["Payload"] = payload.read().decode()
        return answer

    def deploy(self, name: str, code: bytes, runtime: str, handler: str, **more: Any) -> str:
        """Create a function from a package, durable unless `more` says otherwise, and return its `$LATEST`."""
        given = {"Role": ROLE, "Timeout": 20, "MemorySize": 1024, "DurableConfig": {}, **more}
        if given["DurableConfig"] is None:
            del given["DurableConfig"]
        self.client.create_function(
            FunctionName=name, Code={"ZipFile": code}, Runtime=runtime, Handler=handler, **given
        )
        self.client.get_waiter("function_active_v2").wait(FunctionName=name)
        return f"{name}:$LATEST"

    # --- time ----------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Move the clock; what is due by then happens now."""
        self.manual.now += int(seconds * 1000)
        self.node.clock_has_moved()

    def until_shown(self, arn: str, kind: str, count: int = 1) -> None:
        """Wait until the history of an execution has so many events of a kind."""
        lock = threading.Condition()
        seen = 0

        def watcher(_state: ExecutionState, events: Sequence[ev.Event]) -> None:
            nonlocal seen
            with lock:
                seen += sum(type(event).__name__ == kind for event in events)
                lock.notify_all()

        self.node.service.watch(ExecutionArn.parse(arn).execution_id, watcher, is_from_start=True)
        with lock:
            assert lock.wait_for(lambda: seen >= count, SOON_S), f"{seen} of {count} {kind}: {self.shown(arn)}"

    def until_over(self, arn: str) -> list[str]:
        """Wait until an execution that has ended has no invocation in flight, and return the kinds of its events."""
        until = time.monotonic() + SOON_S
        while (shown := self.shown(arn))[-1] != "InvocationCompleted" and time.monotonic() < until:
            threading.Event().wait(0.01)
        return shown

    def until_ended(self, arn: str, timeout_s: float = SOON_S) -> Json:
        """Wait until an execution has ended, and return it as GetDurableExecution does."""
        ended = self.node.service.wait(ExecutionArn.parse(arn).execution_id, timeout_s)
        assert ended, f"{arn} has not ended: {self.shown(arn)}"
        return self.get(arn)

    # --- looking -------------------------------------------------------------------------------------------------

    def get(self, arn: str, **more: Any) -> Json:
        return dict(self.client.get_durable_execution(DurableExecutionArn=arn, **more))

    def status(self, arn: str) -> str:
        return str(self.get(arn)["Status"])

    def history(self, arn: str, **more: Any) -> list[Json]:
        pages = self.client.get_paginator("get_durable_execution_history").paginate(DurableExecutionArn=arn, **more)
        return [event for page in pages for event in page["Events"]]

    def shown(self, arn: str) -> list[str]:
        """The kinds of the events of an execution, in order."""
        return [str(event["EventType"]) for event in self.history(arn)]

    def events(self, arn: str, kind: str) -> list[Json]:
        return [event for event in self.history(arn) if event["EventType"] == kind]

    def raw(self, method: str, path: str, body: bytes | None = None, **headers: str) -> "Raw":
        """A request as it is written here, and its answer whatever its status."""
        return raw_request(f"{self.node.url}{path}", method, body, headers)


class Raw:
    """An answer as it came."""

    def __init__(self, status: int, headers: Message, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str | None:
        return self.headers["x-amzn-ErrorType"]


def raw_request(url: str, method: str, body: bytes | None, headers: Mapping[str, str]) -> Raw:
    """Send exactly this, on a connection of its own; `_` in a header's name stands for `-`."""
    parts = urlsplit(url)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    connection = http.client.HTTPConnection(parts.netloc, timeout=SOON_S)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return Raw(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


@contextmanager
def serving(**given: Any) -> Iterator[Served]:
    """A node with an endpoint for the functions that a test plays."""
    with endpoint() as played:
        served = Served(played, **given)
        try:
            yield served
        finally:
            played.close()
            served.stop()
