"""With access keys, a server knows who calls: signed requests, policies, roles of functions, TLS, and the record."""

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
import pytest
import urllib3
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from perdure.identity import audit, keys, roles
from perdure.model.error import AccessDenied
from perdure.server.http import Tls
from perdure.server.node import Node, Settings
from perdure.store.memory import MemoryStore
from support.packages import package

HERE = Path(__file__).parent
REGION = "us-east-1"
ROLE = "arn:aws:iam::000000000000:role/"
ONLY_ORDERS = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": "lambda:*",
            "Resource": [
                "arn:aws:lambda:us-east-1:000000000000:function:orders",
                "arn:aws:lambda:us-east-1:000000000000:function:orders:*",
            ],
        },
        {"Effect": "Deny", "Action": "lambda:StopDurableExecution", "Resource": "*"},
    ],
}
WAITING = """
import os
from aws_durable_execution_sdk_python import DurableContext, durable_execution


@durable_execution
def handler(event, context: DurableContext):
    context.step(lambda _: 1, name="one")
    return context.create_callback(name="answer").result()
"""
MEDDLING = """
import boto3, os


def handler(event, context):
    client = boto3.client("lambda")
    said = {}
    for what in ("get_durable_execution", "get_durable_execution_history", "stop_durable_execution"):
        try:
            getattr(client, what)(DurableExecutionArn=event["arn"])
            said[what] = "done"
        except Exception as error:
            said[what] = error.response["Error"]["Code"]
    try:
        client.get_durable_execution_state(DurableExecutionArn=event["arn"], CheckpointToken="AAAA")
        said["state"] = "done"
    except Exception as error:
        said["state"] = error.response["Error"]["Code"]
    try:
        client.invoke(FunctionName="other", Payload=b"{}")
        said["invoke"] = "done"
    except Exception as error:
        said["invoke"] = error.response["Error"]["Code"]
    return said
"""


class Guarded:
    """A node whose store has keys."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        now_ms = int(time.time() * 1000)
        self.admin = keys.create_key(self.store, "root", ("admin",), now_ms)
        self.reader = keys.create_key(self.store, "reader", ("read-only",), now_ms)
        self.clerk = keys.create_key(self.store, "clerk", (ONLY_ORDERS,), now_ms)
        self.node = Node(self.store, Settings())
        self.node.start()

    def client(self, key: tuple[keys.Key, str], secret: str | None = None) -> Any:
        return boto3.Session(key[0].key_id, secret or key[1], region_name=REGION).client(
            "lambda", endpoint_url=self.node.url, config=Config(retries={"total_max_attempts": 1})
        )

    def deploy(self, name: str, source: str, **more: Any) -> None:
        self.client(self.admin).create_function(
            FunctionName=name,
            Role=f"{ROLE}{name}",
            Runtime=f"python3.{sys.version_info.minor}",
            Handler="app.handler",
            Code={"ZipFile": package({"app.py": source})},
            Timeout=30,
            MemorySize=512,
            **more,
        )


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    made = Guarded()
    yield made
    made.node.stop()


def code_of(call: Any, **members: Any) -> str:
    """The error that a call ends with."""
    with pytest.raises(ClientError) as raised:
        call(**members)
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    return str(raised.value.response["Error"]["Code"])


def test_who_signs_right_is_served_and_nobody_else(guarded: Guarded) -> None:
    assert "Functions" in guarded.client(guarded.admin).list_functions()
    assert code_of(guarded.client(guarded.admin, "wrong" * 8).list_functions) == "InvalidSignatureException"
    stranger = (keys.Key(key_id="AKIAABCDEFGHIJKLMNOP", user="x", policies=("admin",), created_ms=0), "s" * 40)
    assert code_of(guarded.client(stranger).list_functions) == "UnrecognizedClientException"
    unsigned = urllib3.request("GET", f"{guarded.node.url}/2015-03-31/functions")
    assert (unsigned.status, unsigned.headers["x-amzn-errortype"]) == (403, "MissingAuthenticationTokenException")
    assert urllib3.request("GET", f"{guarded.node.url}/health").status == 200


def test_a_large_request_that_is_not_signed_is_refused_before_it_is_read(guarded: Guarded) -> None:
    url = f"{guarded.node.url}/2015-03-31/functions"
    answer = urllib3.request("POST", url, body=b"x" * 1_000_000, retries=False)
    assert answer.status == 403
    assert answer.headers["connection"] == "close"


def test_a_presigned_url_is_good_until_it_expires(guarded: Guarded) -> None:
    key, secret = guarded.reader
    request = AWSRequest("GET", f"{guarded.node.url}/2015-03-31/functions?{urlencode({'MaxItems': 1})}")
    SigV4QueryAuth(Credentials(key.key_id, secret), "lambda", REGION, expires=60).add_auth(request)
    assert urllib3.request("GET", str(request.url)).status == 200
    changed = str(request.url).replace("MaxItems=1", "MaxItems=2")
    assert urllib3.request("GET", changed).status == 403


def test_a_request_of_yesterday_is_refused(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    client = guarded.client(guarded.admin)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda **_: yesterday.replace(tzinfo=None))
    assert code_of(client.list_functions) == "InvalidSignatureException"


def test_policies_say_who_may_do_what(guarded: Guarded) -> None:
    guarded.deploy("orders", WAITING, DurableConfig={"ExecutionTimeout": 600})
    guarded.deploy("secrets", WAITING, DurableConfig={"ExecutionTimeout": 600})
    clerk, reader = guarded.client(guarded.clerk), guarded.client(guarded.reader)
    arn = clerk.invoke(FunctionName="orders:$LATEST", InvocationType="Event")["DurableExecutionArn"]
    assert clerk.get_durable_execution(DurableExecutionArn=arn)["Status"] == "RUNNING"
    assert code_of(clerk.invoke, FunctionName="secrets:$LATEST", InvocationType="Event") == "AccessDeniedException"
    assert code_of(clerk.stop_durable_execution, DurableExecutionArn=arn) == "AccessDeniedException"
    assert reader.get_durable_execution(DurableExecutionArn=arn)["Status"] == "RUNNING"
    assert code_of(reader.invoke, FunctionName="orders:$LATEST") == "AccessDeniedException"
    other = arn.replace("function:orders:", "function:secrets:")
    assert code_of(clerk.get_durable_execution, DurableExecutionArn=other) == "AccessDeniedException"
    with pytest.raises(ClientError, match="ResourceNotFound"):
        guarded.client(guarded.admin).get_durable_execution(DurableExecutionArn=other)
    guarded.client(guarded.admin).stop_durable_execution(DurableExecutionArn=arn)


def test_a_function_reaches_its_own_executions_and_no_others(guarded: Guarded) -> None:
    """The role's temporary credentials move its executions on, as its step and callback show; they reach nobody's."""
    guarded.deploy("mine", WAITING, DurableConfig={"ExecutionTimeout": 600})
    guarded.deploy("meddler", MEDDLING)
    admin = guarded.client(guarded.admin)
    arn = admin.invoke(FunctionName="mine:$LATEST", InvocationType="Event")["DurableExecutionArn"]
    deadline = time.monotonic() + 20
    while "CallbackStarted" not in (kinds := _kinds(admin, arn)):
        assert time.monotonic() < deadline, kinds
        time.sleep(0.05)
    assert "StepSucceeded" in kinds
    said = json.loads(admin.invoke(FunctionName="meddler", Payload=json.dumps({"arn": arn}))["Payload"].read())
    assert set(said.values()) == {"AccessDeniedException", "ResourceNotFoundException"}
    assert said["invoke"] == "ResourceNotFoundException", "functions may invoke what there is"
    roles.put_role(guarded.store, "meddler", ("read-only",))
    said = json.loads(admin.invoke(FunctionName="meddler", Payload=json.dumps({"arn": arn}))["Payload"].read())
    assert said["get_durable_execution"] == "done"
    assert said["stop_durable_execution"] == said["invoke"] == "AccessDeniedException"
    admin.stop_durable_execution(DurableExecutionArn=arn)


def _kinds(client: Any, arn: str) -> list[str]:
    return [event["EventType"] for event in client.get_durable_execution_history(DurableExecutionArn=arn)["Events"]]


def test_what_operators_do_goes_on_record(guarded: Guarded) -> None:
    guarded.deploy("recorded", WAITING, DurableConfig={"ExecutionTimeout": 600})
    admin = guarded.client(guarded.admin)
    arn = admin.invoke(FunctionName="recorded:$LATEST", InvocationType="Event")["DurableExecutionArn"]
    code_of(guarded.client(guarded.clerk).stop_durable_execution, DurableExecutionArn=arn)
    admin.stop_durable_execution(DurableExecutionArn=arn, Error={"ErrorMessage": "secret words"})
    wanted = audit.Wanted(resource="recorded")
    deadline = time.monotonic() + 10
    while len(found := list(audit.entries(guarded.store, wanted))) < 3:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    said = {(entry.operation, entry.outcome, entry.caller.rpartition("/")[2]) for entry in found}
    assert ("CreateFunction", "OK", "root") in said
    assert ("Invoke", "OK", "root") in said
    deadline = time.monotonic() + 10
    while ("StopDurableExecution", "AccessDeniedException", "clerk") not in said or (
        "StopDurableExecution",
        "OK",
        "root",
    ) not in said:
        assert time.monotonic() < deadline, said
        time.sleep(0.05)
        found = list(audit.entries(guarded.store, wanted))
        said = {(entry.operation, entry.outcome, entry.caller.rpartition("/")[2]) for entry in found}
    assert "secret words" not in str(found)


def test_tls_by_certificate_files() -> None:
    tls = Tls(HERE / "tls" / "certificate.pem", HERE / "tls" / "key.pem")
    with Node(MemoryStore(), Settings(tls=tls)) as node:
        assert node.url.startswith("https://")
        client = boto3.Session("x", "y", region_name=REGION).client(
            "lambda", endpoint_url=node.url, verify=str(HERE / "tls" / "certificate.pem")
        )
        assert client.list_functions()["Functions"] == []


def test_beyond_loopback_nothing_is_served_without_keys() -> None:
    store = MemoryStore()
    with pytest.raises(AccessDenied, match="without access keys"):
        Node(store, Settings(host="0.0.0.0"))
    keys.create_key(store, "root", ("admin",), int(time.time() * 1000))
    with Node(store, Settings(host="0.0.0.0")) as node:
        assert urllib3.request("GET", f"{node.url}/2015-03-31/functions").status == 403
