"""A server is killed under load, again and again: all executions end right, nothing that was recorded runs again."""

import collections
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from perdure.runtimes.pool import default_places

EXECUTIONS = 64
KILLS = 3
LIMIT_S = 100.0

PARENT = """
import os
from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python.config import Duration


def effect(kind, number):
    with open(os.environ["EFFECTS"], "a") as file:
        file.write(f"{kind} {number}\\n")
    return number


@durable_execution
def handler(event, context: DurableContext):
    number = event["number"]
    first = context.step(lambda _: effect("first", number), name="first")
    context.wait(Duration.from_seconds(1), name="rest")
    child = context.invoke("child:$LATEST", {"number": number}, name="child")
    callback = context.create_callback(name="answer")
    plain = context.invoke("plain", {"number": number}, name="plain")
    answer = callback.result()
    last = context.step(lambda _: effect("last", number), name="last")
    return [first, child, plain, answer, last]
"""
CHILD = """
from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python.config import Duration


@durable_execution
def handler(event, context: DurableContext):
    context.wait(Duration.from_seconds(1), name="rest")
    return context.step(lambda _: event["number"] * 2, name="double")
"""
PLAIN = """
def handler(event, context):
    return event["number"] * 3
"""


def package(source: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("app.py", source)
    return made.getvalue()


class Server:
    """`perdure serve` over one store, on one port, as often as it is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = "0"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "perdure", "serve", "--port", self._port, "--store", "sqlite:///server.db"]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--data", "data"], cwd=self._folder, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url, (self._folder / "server.log").read_text()
        self._port = self.url.rpartition(":")[2]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(30) == 0


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def client_of(server: Server) -> Any:
    config = Config(retries={"mode": "standard", "total_max_attempts": 20}, read_timeout=20, max_pool_connections=16)
    return boto3.client(
        "lambda",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
        config=config,
    )


@pytest.mark.processes
@pytest.mark.timeout(180)
def test_a_server_that_is_killed_under_load_loses_nothing_and_repeats_nothing(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """[S67]"""
    seed = int(os.environ.get("PERDURE_SEED", random.randrange(2**32)))
    print(f"PERDURE_SEED={seed}")
    chance = random.Random(seed)
    effects = tmp_path / "effects"
    effects.touch()
    server = Server(tmp_path)
    request.addfinalizer(server.kill)
    client = client_of(server)
    for name, source, more in (
        ("parent", PARENT, {"DurableConfig": {"ExecutionTimeout": 600}}),
        ("child", CHILD, {"DurableConfig": {"ExecutionTimeout": 600}}),
        ("plain", PLAIN, {}),
    ):
        client.create_function(
            FunctionName=name,
            Role="arn:aws:iam::000000000000:role/any",
            Runtime=f"python3.{sys.version_info.minor}",
            Handler="app.handler",
            Code={"ZipFile": package(source)},
            Timeout=60,
            Environment={"Variables": {"EFFECTS": str(effects)}},
            **more,
        )

    def start(number: int) -> str:
        answer = client.invoke(
            FunctionName="parent:$LATEST",
            InvocationType="Event",
            DurableExecutionName=f"order-{number}",
            Payload=json.dumps({"number": number}),
        )
        return str(answer["DurableExecutionArn"])

    with ThreadPoolExecutor(8) as threads:
        arns = list(threads.map(start, range(EXECUTIONS)))
        for _ in range(KILLS):
            time.sleep(chance.uniform(1.0, 4.0))
            server.kill()
            server.start()

        def answer(number: int) -> None:
            """Answer the callback once it is there."""
            asked: list[str] = []

            def is_asked() -> bool:
                started = [event for event in history(client, arns[number]) if event["EventType"] == "CallbackStarted"]
                asked[:] = [event["CallbackStartedDetails"]["CallbackId"] for event in started]
                return bool(asked)

            until(is_asked, f"execution {number} asks")
            client.send_durable_execution_callback_success(CallbackId=asked[0], Result=str(number * 5).encode())

        list(threads.map(answer, range(EXECUTIONS)))
        server.kill()
        server.start()

        def end(number: int) -> Any:
            until(
                lambda: client.get_durable_execution(DurableExecutionArn=arns[number])["Status"] != "RUNNING", "an end"
            )
            return client.get_durable_execution(DurableExecutionArn=arns[number])

        ended = list(threads.map(end, range(EXECUTIONS)))
        histories = list(threads.map(lambda arn: history(client, arn), arns))
    server.stop()

    for number, execution in enumerate(ended):
        assert execution["Status"] == "SUCCEEDED", execution
        assert json.loads(execution["Result"]) == [number, number * 2, number * 3, str(number * 5), number]
    for events in histories:
        assert [event["EventId"] for event in events] == list(range(1, len(events) + 1))
        kinds = collections.Counter((event["EventType"], event.get("Name")) for event in events)
        for once in (("StepSucceeded", "first"), ("StepSucceeded", "last"), ("WaitSucceeded", "rest")):
            assert kinds[once] == 1
        assert kinds["ChainedInvokeSucceeded", "child"] == 1
        assert kinds["CallbackSucceeded", "answer"] == 1
    written = collections.Counter(effects.read_text().splitlines())
    assert set(written) == {f"{kind} {number}" for kind in ("first", "last") for number in range(EXECUTIONS)}
    again = written.total() - len(written)
    assert again <= (KILLS + 1) * default_places(), "only what a kill cut off before it was recorded has run again"


def history(client: Any, arn: str) -> list[Any]:
    pages = client.get_paginator("get_durable_execution_history").paginate(DurableExecutionArn=arn)
    return [event for page in pages for event in page["Events"]]
