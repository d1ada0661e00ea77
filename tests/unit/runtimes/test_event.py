"""The event of an invocation, and what the answers to it mean."""

import json
from typing import Any

import pytest

from perdure.engine import commands as cmd, tokens
from perdure.model.error import ErrorObject
from perdure.model.ids import execution_key
from perdure.model.operation import Operation, OperationStatus, Step
from perdure.runtimes.event import error_body, error_of, event_of, outcome_of
from perdure.service.invocation import Invocation

EXECUTION_ID = "019ae000-0000-7000-8000-000000000001"
ARN = f"arn:aws:lambda:us-east-1:000000000000:function:order:3/durable-execution/order-17/{EXECUTION_ID}"
SECRET = b"s" * 32


def invocation(input_: str | None = '{"a": 1}', *operations: Operation, **more: Any) -> Invocation:
    return Invocation(
        execution_id=EXECUTION_ID,
        arn=ARN,
        name="order-17",
        function="order",
        version="3",
        epoch=2,
        request_id="request",
        token=cmd.Token(2, 5),
        input=input_,
        start_ms=2_000,
        execution_start_ms=1_764_547_200_123,
        operations=operations,
        **more,
    )


def step(number: int, result: str = '"ok"') -> Step:
    return Step(
        id=f"step-{number}",
        number=number,
        status=OperationStatus.SUCCEEDED,
        start_ms=1_764_547_200_200,
        end_ms=1_764_547_200_300,
        name="charge",
        sub_type="Step",
        attempt=1,
        result=result,
    )


def test_the_first_event_has_the_execution_alone() -> None:
    event = json.loads(event_of(invocation(), SECRET))
    assert event["DurableExecutionArn"] == ARN
    assert tokens.read(SECRET, execution_key(EXECUTION_ID), event["CheckpointToken"]) == cmd.Token(2, 5)
    assert event["InitialExecutionState"] == {
        "Operations": [
            {
                "Id": EXECUTION_ID,
                "Type": "EXECUTION",
                "Name": "order-17",
                "StartTimestamp": 1_764_547_200_123,
                "Status": "STARTED",
                "ExecutionDetails": {"InputPayload": '{"a": 1}'},
            }
        ],
        "NextMarker": "",
    }
    assert event["UpdatedOperationIds"] == []


def test_the_execution_comes_first_and_its_id_is_the_last_part_of_the_arn() -> None:
    event = json.loads(event_of(invocation("1", step(1), updated_ids=("step-1",)), SECRET))
    first, second = event["InitialExecutionState"]["Operations"]
    assert first["Id"] == event["DurableExecutionArn"].rpartition("/")[2]
    assert second == {
        "Id": "step-1",
        "Type": "STEP",
        "SubType": "Step",
        "Name": "charge",
        "Status": "SUCCEEDED",
        "StartTimestamp": 1_764_547_200_200,
        "EndTimestamp": 1_764_547_200_300,
        "StepDetails": {"Attempt": 1, "Result": '"ok"'},
    }
    assert event["UpdatedOperationIds"] == ["step-1"]


@pytest.mark.parametrize("given", [None, ""])
def test_an_execution_without_input_has_null_for_one(given: str | None) -> None:
    (execution,) = json.loads(event_of(invocation(given), SECRET))["InitialExecutionState"]["Operations"]
    assert execution["ExecutionDetails"] == {"InputPayload": "null"}


def test_what_does_not_fit_is_behind_a_marker_that_counts_what_was_given() -> None:
    steps = [step(number, "x" * 1000) for number in range(1, 11)]
    state = json.loads(event_of(invocation("1", *steps), SECRET, page_bytes=4_500))["InitialExecutionState"]
    assert [one["Id"] for one in state["Operations"]] == [EXECUTION_ID, "step-1", "step-2", "step-3"]
    assert state["NextMarker"] == "4"


def test_the_execution_is_given_however_large_its_input_is() -> None:
    state = json.loads(event_of(invocation("9" * 10_000, step(1)), SECRET, page_bytes=5_000))["InitialExecutionState"]
    assert [one["Id"] for one in state["Operations"]] == [EXECUTION_ID]
    assert state["NextMarker"] == "1"


INVALID = "InvalidParameterValueException"


@pytest.mark.parametrize(
    ("output", "outcome"),
    [
        ('{"Status":"SUCCEEDED","Result":"5"}', cmd.Succeeded("5")),
        ('{"Status":"SUCCEEDED"}', cmd.Succeeded(None)),
        ('{"Status":"SUCCEEDED","Result":null,"Error":null}', cmd.Succeeded(None)),
        ('{"Status":"SUCCEEDED","Result":""}', cmd.Succeeded("")),
        ('{"Status":"PENDING"}', cmd.Pending()),
        ('{"Status":"FAILED"}', cmd.Failed(None)),
        ('{"Status":"FAILED","Error":{}}', cmd.Failed(ErrorObject())),
        (
            '{"Status":"FAILED","Error":{"ErrorType":"ValueError","ErrorMessage":"bad","StackTrace":["a","b"],'
            '"ErrorData":"d"}}',
            cmd.Failed(ErrorObject("bad", "ValueError", "d", ("a", "b"))),
        ),
        (
            '{"Status":"SUCCEEDED","Error":{}}',
            cmd.Failed(ErrorObject("Cannot provide an Error for SUCCEEDED status.", INVALID)),
        ),
        (
            '{"Status":"FAILED","Error":{},"Result":"1"}',
            cmd.Failed(ErrorObject("Cannot provide a Result for FAILED status.", INVALID)),
        ),
    ],
)
def test_an_answer_means_what_the_contract_says(output: str, outcome: cmd.Outcome) -> None:
    assert outcome_of(output.encode()) == outcome


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"{",
        b"\xff",
        b"null",
        b"[]",
        b'"SUCCEEDED"',
        b"{}",
        b'{"Status":"DONE"}',
        b'{"Status":null}',
        b'{"status":"SUCCEEDED"}',
        b'{"Status":"SUCCEEDED","Result":5}',
        b'{"Status":"FAILED","Error":"bad"}',
        b'{"Status":"FAILED","Error":{"ErrorMessage":5}}',
    ],
)
def test_an_answer_that_can_not_be_fails_the_execution(output: bytes) -> None:
    outcome = outcome_of(output)
    assert isinstance(outcome, cmd.Failed)
    assert outcome.error is not None
    assert outcome.error.type == INVALID
    assert (outcome.error.message or "").startswith("Invalid invocation output")


def test_the_errors_of_both_clients_are_understood() -> None:
    python = (
        b'{"errorMessage":"bad","errorType":"ValueError","requestId":"r","stackTrace":["  File 1\\n","  File 2\\n"]}'
    )
    assert error_of(python, "Other") == ErrorObject("bad", "ValueError", None, ("  File 1", "  File 2"))
    node = b'{"errorMessage":"bad","errorType":"TypeError","trace":["TypeError: bad","    at f (a.js:1:1)"]}'
    assert error_of(node) == ErrorObject("bad", "TypeError", None, ("TypeError: bad", "    at f (a.js:1:1)"))


def test_the_type_of_an_error_is_in_its_body_or_else_in_the_header() -> None:
    assert error_of(b'{"errorMessage":"bad"}', "Runtime.Bad") == ErrorObject("bad", "Runtime.Bad")
    assert error_of(b"{}") == ErrorObject(None, "Error")
    assert error_of(b"it broke", "Runtime.Bad") == ErrorObject("it broke", "Runtime.Bad")
    assert error_of(b"") == ErrorObject(None, "Runtime.Unknown")
    assert error_of(b'{"errorMessage":5,"errorType":"E","stackTrace":"x"}') == ErrorObject("5", "E")


def test_an_error_that_is_too_long_for_a_history_is_cut() -> None:
    error = error_of(json.dumps({"errorMessage": "m" * 100_000, "stackTrace": ["f" * 1000] * 1000}).encode())
    assert len(error.message or "") == 32 * 1024
    assert len(error.stack_trace or ()) == 65


def test_the_caller_of_a_plain_function_is_shown_an_error_in_one_form() -> None:
    assert json.loads(error_body(ErrorObject("bad", "E", None, ("f",)), "r")) == {
        "errorType": "E",
        "errorMessage": "bad",
        "requestId": "r",
        "stackTrace": ["f"],
    }
    assert json.loads(error_body(ErrorObject())) == {"errorType": "Error", "errorMessage": ""}
