"""Chained invokes: what becomes of the caller's operation when its target ends, however it ends."""

import json
from typing import Any

import pytest

from perdure.model.execution import DurableConfig
from support.raw import Incoming, Json, RawFunction, invoke
from support.served import Served

MIB = 1024 * 1024


@pytest.fixture
def caller(served: Served, function: RawFunction) -> Incoming:
    """An invocation in flight that can invoke others."""
    served.start_execution(function)
    return function.next()


def outcome(served: Served, caller: Incoming, kind: str) -> Json:
    """The one operation of the caller, once an event says how it ended."""
    served.until_shown(caller.arn, kind)
    (operation,) = caller.changed()
    assert "EndTimestamp" in operation
    (event,) = served.events(caller.arn, kind)
    details: Json = event[f"{kind}Details"]
    return {**operation, "Event": details}


def test_the_result_of_a_plain_function_is_that_of_the_invoke(served: Served, caller: Incoming) -> None:
    target = served.function(durable=None)
    caller.checkpoint(invoke("i", target.name, Payload='{"n": 1}'))
    called = target.next()
    assert called.event == {"n": 1}
    called.answer({"n": 2})
    found = outcome(served, caller, "ChainedInvokeSucceeded")
    assert found["Status"] == "SUCCEEDED"
    assert json.loads(found["ChainedInvokeDetails"]["Result"]) == {"n": 2}
    assert json.loads(found["Event"]["Result"]["Payload"]) == {"n": 2}
    (started,) = served.events(caller.arn, "ChainedInvokeStarted")
    assert started["ChainedInvokeStartedDetails"]["FunctionName"] == target.name
    assert started["ChainedInvokeStartedDetails"]["Input"]["Payload"] == '{"n": 1}'


def test_an_error_of_a_plain_function_is_that_of_the_invoke(served: Served, caller: Incoming) -> None:
    target = served.function(durable=None)
    caller.checkpoint(invoke("i", target.name))
    target.next().raise_error("no", "OutOfStock", stackTrace=["a.py", "b.py"])
    found = outcome(served, caller, "ChainedInvokeFailed")
    error = {"ErrorType": "OutOfStock", "ErrorMessage": "no", "StackTrace": ["a.py", "b.py"]}
    assert (found["Status"], found["ChainedInvokeDetails"]) == ("FAILED", {"Error": error})
    assert found["Event"]["Error"]["Payload"] == error


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (b'"' + b"x" * MIB + b'"', "output payload size must be less than or equal to 1048576 bytes."),
        (b'"\xff\xfe"', "could not be decoded as UTF-8."),
    ],
)
def test_an_output_that_can_t_be_kept_fails_the_invoke(
    served: Served, caller: Incoming, output: bytes, message: str
) -> None:
    target = served.function(durable=None)
    caller.checkpoint(invoke("i", target.name))
    target.next().answer(output)
    found = outcome(served, caller, "ChainedInvokeFailed")
    assert found["Status"] == "FAILED"
    assert found["ChainedInvokeDetails"]["Error"]["ErrorMessage"].endswith(message)


def test_an_input_over_a_mebibyte_is_refused(served: Served, caller: Incoming) -> None:
    target = served.function()
    with pytest.raises(served.client.exceptions.InvalidParameterValueException, match="less than or equal to 1048576"):
        caller.checkpoint(invoke("i", target.qualified, Payload='"' + "x" * MIB + '"'))


def test_a_durable_target_is_an_execution_of_its_own(served: Served, caller: Incoming) -> None:
    target = served.function()
    (operation,) = caller.changed(invoke("i", target.qualified, Payload='{"n": 1}'))
    assert operation["Status"] == "STARTED"
    child = target.next()
    assert child.input == {"n": 1}
    (started,) = served.events(caller.arn, "ChainedInvokeStarted")
    details = started["ChainedInvokeStartedDetails"]
    assert (details["DurableExecutionArn"], details["ExecutedVersion"]) == (child.arn, "$LATEST")
    child.succeed({"n": 2})
    found = outcome(served, caller, "ChainedInvokeSucceeded")
    assert json.loads(found["ChainedInvokeDetails"]["Result"]) == {"n": 2}
    assert served.shown(child.arn) == ["ExecutionStarted", "InvocationCompleted", "ExecutionSucceeded"]


@pytest.mark.parametrize(
    ("end", "kind", "status", "error"),
    [
        ("fails", "ChainedInvokeFailed", "FAILED", {"ErrorType": "ValueError", "ErrorMessage": "bad"}),
        ("is stopped", "ChainedInvokeStopped", "STOPPED", {"ErrorType": "Operator", "ErrorMessage": "enough"}),
        ("times out", "ChainedInvokeTimedOut", "TIMED_OUT", {"ErrorType": "ChainedInvoke.Timeout"}),
        ("is too large", "ChainedInvokeFailed", "FAILED", {"ErrorType": "InvalidParameterValueException"}),
    ],
)
def test_the_end_of_a_durable_target_is_that_of_the_invoke(
    served: Served, caller: Incoming, end: str, kind: str, status: str, error: Json
) -> None:
    target = served.function(durable=DurableConfig(execution_timeout_s=60))
    caller.checkpoint(invoke("i", target.qualified))
    child = target.next()
    match end:
        case "fails":
            child.fail("bad", "ValueError")
        case "is stopped":
            served.client.stop_durable_execution(DurableExecutionArn=child.arn, Error=error)
        case "times out":
            served.advance(60)
        case _:
            child.succeed("x" * MIB)
    found = outcome(served, caller, kind)
    assert found["Status"] == status
    told: Any = found["ChainedInvokeDetails"]["Error"]
    assert {name: told[name] for name in error} == error
    assert found["Event"]["Error"]["Payload"] == told


def test_a_child_goes_on_without_its_parent(served: Served, caller: Incoming) -> None:
    target = served.function()
    caller.checkpoint(invoke("i", target.qualified))
    child = target.next()
    served.client.stop_durable_execution(DurableExecutionArn=caller.arn)
    assert served.status(child.arn) == "RUNNING"
    child.succeed()
    assert served.until_ended(child.arn)["Status"] == "SUCCEEDED"
    assert served.shown(caller.arn)[-1] == "ExecutionStopped"


def test_an_alias_of_a_target_is_resolved_when_it_is_invoked(served: Served, caller: Incoming) -> None:
    target = served.function()
    served.client.publish_version(FunctionName=target.name)
    served.client.create_alias(FunctionName=target.name, Name="live", FunctionVersion="1")
    caller.checkpoint(invoke("i", f"{target.name}:live"))
    assert f":{target.name}:1/durable-execution/" in target.next().arn
    (started,) = served.events(caller.arn, "ChainedInvokeStarted")
    details = started["ChainedInvokeStartedDetails"]
    assert (details["FunctionName"], details["ExecutedVersion"]) == (f"{target.name}:live", "1")
