"""`perdure logs` shows what functions have printed, and what they print."""

import json
import subprocess
import sys
from collections.abc import Iterator

import boto3
import pytest

from perdure.server.node import Node
from perdure.store.memory import MemoryStore
from support.packages import package

SOURCE = """
def handler(event, context):
    print("hello", event["name"])
    print("and goodbye")
"""


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node(MemoryStore()) as serving:
        invoke(serving, "Ada", is_new=True)
        yield serving


def invoke(node: Node, name: str, *, is_new: bool = False) -> None:
    client = boto3.Session("x", "y", region_name="us-east-1").client("lambda", endpoint_url=node.url)
    if is_new:
        client.create_function(
            FunctionName="greet",
            Role="arn:aws:iam::000000000000:role/any",
            Runtime=f"python3.{sys.version_info.minor}",
            Handler="app.handler",
            Code={"ZipFile": package({"app.py": SOURCE})},
        )
    client.invoke(FunctionName="greet", Payload=json.dumps({"name": name}))


def logs(node: Node, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "perdure", "logs", "greet", "--endpoint", node.url, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_what_a_function_has_printed_is_shown_in_order(node: Node) -> None:
    done = logs(node, "--utc", "-o", "summary")
    assert done.returncode == 0, done.stderr
    start, hello, goodbye, *_ = done.stdout.splitlines()
    assert "START RequestId" in start
    assert hello.endswith(" hello Ada")
    assert goodbye.endswith(" and goodbye")


def test_json_has_all_that_is_known_of_a_line(node: Node) -> None:
    lines = [json.loads(line) for line in logs(node, "-o", "jsonl").stdout.splitlines()]
    assert {"Timestamp", "Message", "Version", "Sandbox", "RequestId"} <= set(lines[0])


def test_what_is_printed_is_followed(node: Node) -> None:
    command = [
        sys.executable,
        "-m",
        "perdure",
        "logs",
        "greet",
        "--endpoint",
        node.url,
        "-f",
        "--limit",
        "1",
        "-o",
        "summary",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "REPORT" in process.stdout.readline()
        invoke(node, "Grace")
        seen = [process.stdout.readline() for _ in range(3)]
        process.kill()
    assert seen[1].rstrip().endswith("hello Grace")


def test_an_unknown_function_is_an_error(node: Node) -> None:
    command = [sys.executable, "-m", "perdure", "logs", "nobody", "--endpoint", node.url]
    for more in ([], ["--follow"]):
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 3
        assert "unction not found" in done.stderr
