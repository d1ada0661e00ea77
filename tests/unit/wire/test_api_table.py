"""The table of the Lambda API: it is botocore's model, and requests and answers pass through it unharmed."""

import importlib.util
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import botocore.session
import pytest
from botocore.awsrequest import HeadersDict
from botocore.parsers import create_parser

from perdure.model.error import InvalidParameterValue
from perdure.wire.api import lambda_api
from perdure.wire.table import Json

ROOT = Path(__file__).resolve().parents[3]
ARN = "arn:aws:lambda:us-east-1:000000000000:function:fn:$LATEST/durable-execution/name-1/0193-5"


def _tool() -> Any:
    spec = importlib.util.spec_from_file_location("write_wire_model", ROOT / "tools" / "write_wire_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_what_the_model_of_botocore_says() -> None:
    tool = _tool()
    assert tool.FILE.read_text("utf-8") == tool.text(), "run: python tools/write_wire_model.py --write"


def _pass(operation: str, members: Json) -> Json:
    """Written by a client, read by a server."""
    known = lambda_api().operations[operation]
    sent = known.write_request(members)
    template, parts = known.parts, sent.path.strip("/").split("/")
    assert len(template) == len(parts), "every member of a path is one segment of it"
    path = {name[1:-1]: unquote(part) for name, part in zip(template, parts, strict=True) if name.startswith("{")}
    headers = {name.lower(): value for name, value in sent.headers}
    return known.read_request(path, sent.query, headers, sent.body)


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ("GetDurableExecution", {"DurableExecutionArn": ARN, "IncludeExecutionData": False}),
        (
            "ListDurableExecutionsByFunction",
            {
                "FunctionName": "fn:prod",
                "Statuses": ["RUNNING", "FAILED"],
                "StartedAfter": 1764547200123,
                "MaxItems": 7,
            },
        ),
        ("StopDurableExecution", {"DurableExecutionArn": ARN, "Error": {"ErrorMessage": "m", "StackTrace": ["a"]}}),
        ("SendDurableExecutionCallbackSuccess", {"CallbackId": "ab+/cd==", "Result": b"\xff\x00"}),
        ("Invoke", {"FunctionName": "fn", "Qualifier": "3", "InvocationType": "Event", "Payload": b"[]"}),
        (
            "CreateFunction",
            {"FunctionName": "fn", "Role": "arn:aws:iam::000000000000:role/r", "Code": {"ZipFile": b"PK"}},
        ),
        ("PauseDurableExecution", {"DurableExecutionArn": ARN, "ExecutionTimeoutPaused": False, "ClientToken": "t"}),
        ("UntagResource", {"Resource": "arn:aws:lambda:us-east-1:000000000000:function:fn", "TagKeys": ["a", "b c"]}),
    ],
)
def test_what_a_client_writes_a_server_reads(operation: str, members: Json) -> None:
    assert _pass(operation, members) == members


@pytest.mark.parametrize(
    ("operation", "members", "named"),
    [
        ("GetDurableExecution", {"DurableExecutionArn": "uuid"}, "DurableExecutionArn"),
        ("GetDurableExecutionHistory", {"DurableExecutionArn": ARN, "MaxItems": 1001}, "MaxItems"),
        ("ListDurableExecutionsByFunction", {"FunctionName": "fn", "Statuses": ["DONE"]}, "Statuses"),
        ("ListDurableExecutionsByFunction", {"FunctionName": "fn", "Statuses": ["FAILED"] * 11}, "Statuses"),
        ("Invoke", {"FunctionName": "fn", "DurableExecutionName": "a b"}, "DurableExecutionName"),
        ("CreateFunction", {"FunctionName": "fn", "Role": "r", "Code": {}}, "Role"),
        ("CreateFunction", {"FunctionName": "fn"}, "Role is missing"),
        ("PauseDurableExecution", {"DurableExecutionArn": ARN, "Reason": "x" * 1025}, "Reason"),
        ("CreateAlias", {"FunctionName": "fn", "Name": "1", "FunctionVersion": "1"}, "Name"),
    ],
)
def test_what_the_model_forbids_is_refused_by_name(operation: str, members: Json, named: str) -> None:
    with pytest.raises(InvalidParameterValue, match=named):
        _pass(operation, members)


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"1", b"\xff", b'{"Updates": "x", "CheckpointToken": 1}', b'{"CheckpointToken": null}']
)
def test_a_body_that_can_not_be_is_refused(body: bytes) -> None:
    operation = lambda_api().operations["CheckpointDurableExecution"]
    with pytest.raises(InvalidParameterValue):
        operation.read_request({"DurableExecutionArn": ARN}, (), {}, body)


def test_an_answer_is_what_botocore_reads() -> None:
    """Headers, status and payload are where the model has them, times are seconds."""
    given = {"StatusCode": 202, "ExecutedVersion": "3", "DurableExecutionArn": ARN, "Payload": b""}
    answer = lambda_api().operations["Invoke"].write_answer(given)
    assert _botocore("Invoke", answer)["DurableExecutionArn"] == ARN
    assert answer.status == 202
    stopped = lambda_api().operations["StopDurableExecution"].write_answer({"StopTimestamp": 1764547200123})
    assert stopped.body == b'{"StopTimestamp":1764547200.123}'
    assert _botocore("StopDurableExecution", stopped)["StopTimestamp"].timestamp() == 1764547200.123


def _botocore(operation: str, answer: Any) -> Any:
    model: Any = botocore.session.get_session().get_service_model("lambda").operation_model(operation)
    given = {"headers": HeadersDict(dict(answer.headers)), "status_code": answer.status, "body": answer.body}
    return create_parser("rest-json").parse(given, model.output_shape)


def test_every_pattern_of_the_model_is_understood() -> None:
    table = lambda_api()
    for name in table.shapes:
        table.reader(name)
        table.text_reader(name)
        table.writer(name)
