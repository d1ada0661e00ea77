"""Invoke: what starts an execution, on which version, under which name, and what its caller is told."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from perdure.model.execution import DurableConfig
from support.raw import Incoming, RawFunction, step, wait
from support.served import Served

UNQUALIFIED = "You cannot invoke a durable function using an unqualified ARN."
ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
MIB = 1024 * 1024


@pytest.fixture
def later() -> Iterator[ThreadPoolExecutor]:
    """Threads for callers who wait for the end of an execution."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


def names(served: Served, function: RawFunction) -> list[str]:
    """The names of all executions of a function, oldest first."""
    found = served.client.list_durable_executions_by_function(FunctionName=function.name, ReverseOrder=True)
    return [row["DurableExecutionName"] for row in found["DurableExecutions"]]


@pytest.mark.parametrize("kind", ["RequestResponse", "Event", "DryRun"])
def test_a_durable_function_is_invoked_with_a_qualifier_only(served: Served, function: RawFunction, kind: str) -> None:
    """[S11]"""
    client = served.client
    for name in (function.name, ARN + function.name, "000000000000:function:" + function.name):
        with pytest.raises(client.exceptions.InvalidParameterValueException) as raised:
            served.invoke(FunctionName=name, InvocationType=kind)
        assert raised.value.response["Error"]["Message"] == UNQUALIFIED
    assert names(served, function) == []


def test_a_version_is_named_in_the_function_s_name_or_beside_it(served: Served) -> None:
    """[S12]"""
    function = served.function(Incoming.succeed)
    client = served.client
    client.publish_version(FunctionName=function.name)
    client.create_alias(FunctionName=function.name, Name="live", FunctionVersion="1")
    for qualifier, version in (("$LATEST", "$LATEST"), ("1", "1"), ("live", "1")):
        for given in (
            {"FunctionName": f"{function.name}:{qualifier}"},
            {"FunctionName": function.name, "Qualifier": qualifier},
            {"FunctionName": f"{ARN}{function.name}:{qualifier}"},
            {"FunctionName": ARN + function.name, "Qualifier": qualifier},
            {"FunctionName": f"000000000000:function:{function.name}:{qualifier}"},
            {"FunctionName": f"{function.name}:{qualifier}", "Qualifier": qualifier},
        ):
            answer = served.invoke(**given)
            assert answer["StatusCode"] == 200
            assert answer["ExecutedVersion"] == version
            assert f":function:{function.name}:{version}/durable-execution/" in answer["DurableExecutionArn"]
            assert json.loads(answer["Payload"]) is None
    with pytest.raises(client.exceptions.InvalidParameterValueException):
        served.invoke(FunctionName=f"{function.name}:1", Qualifier="live")
    for unknown in ("2", "dead"):
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            served.invoke(FunctionName=function.name, Qualifier=unknown)


def test_an_event_is_answered_at_once_with_the_arn_of_an_execution_that_can_be_read(
    served: Served, function: RawFunction
) -> None:
    """[S13]"""
    answer = served.raw(
        "POST",
        f"/2015-03-31/functions/{function.name}/invocations?Qualifier=%24LATEST",
        b'{"a": 1}',
        X_Amz_Invocation_Type="Event",
        X_Amz_Durable_Execution_Name="e-1",
        X_Amzn_Trace_Id="Root=1-5759e988-bd862e3fe1be46a994272793",
    )
    assert (answer.status, answer.body) == (202, b"")
    arn = answer.headers["X-Amz-Durable-Execution-Arn"]
    found = served.get(arn)
    assert (found["Status"], found["DurableExecutionName"], found["Version"]) == ("RUNNING", "e-1", "$LATEST")
    assert found["FunctionArn"] == f"{ARN}{function.name}:$LATEST"
    assert json.loads(found["InputPayload"]) == {"a": 1}
    assert found["TraceHeader"] == {"XAmznTraceId": "Root=1-5759e988-bd862e3fe1be46a994272793"}
    function.next().succeed()
    assert served.until_ended(arn)["Status"] == "SUCCEEDED"


def test_a_caller_who_waits_is_given_the_result_when_all_waits_are_over(
    served: Served, function: RawFunction, later: ThreadPoolExecutor
) -> None:
    """[S14]"""
    call = later.submit(served.invoke, FunctionName=function.qualified, Payload='{"n": 2}')
    incoming = function.next()
    incoming.checkpoint(step("s", "SUCCEED", Payload="1"), wait("w", 3600))
    incoming.suspend()
    served.until_shown(incoming.arn, "InvocationCompleted")
    assert not call.done()
    served.advance(3600)
    again = function.next()
    assert again.input == {"n": 2}
    result = '{"b":  "é", "a": [1, 2]}'
    again.answer({"Status": "SUCCEEDED", "Result": result})
    answer = call.result(20)
    assert (answer["StatusCode"], answer["DurableExecutionArn"]) == (200, incoming.arn)
    assert answer["Payload"] == result
    assert "FunctionError" not in answer


def test_a_caller_who_waits_for_a_failure_is_given_its_error(
    served: Served, function: RawFunction, later: ThreadPoolExecutor
) -> None:
    """[S15]"""
    client = served.client
    error = {"ErrorType": "OutOfStock", "ErrorMessage": "none left", "StackTrace": ["a.py:1", "b.py:2"]}
    call = later.submit(served.invoke, FunctionName=function.qualified)
    function.next().answer({"Status": "FAILED", "Error": error})
    answer = call.result(20)
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert json.loads(answer["Payload"]) == {
        "errorType": "OutOfStock",
        "errorMessage": "none left",
        "stackTrace": ["a.py:1", "b.py:2"],
    }
    call = later.submit(served.invoke, FunctionName=function.qualified)
    incoming = function.next()
    client.stop_durable_execution(DurableExecutionArn=incoming.arn, Error={"ErrorMessage": "enough"})
    answer = call.result(20)
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert json.loads(answer["Payload"])["errorMessage"] == "enough"
    short = served.function(durable=DurableConfig(execution_timeout_s=5))
    call = later.submit(served.invoke, FunctionName=short.qualified)
    short.next()
    served.advance(5)
    answer = call.result(20)
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert "timed out after 5" in json.loads(answer["Payload"])["errorMessage"]


def test_a_dry_run_starts_nothing(served: Served, function: RawFunction) -> None:
    """[S16]"""
    answer = served.invoke(FunctionName=function.qualified, InvocationType="DryRun", Payload="1")
    assert answer["StatusCode"] == 204
    assert "DurableExecutionArn" not in answer
    assert answer["Payload"] == ""
    assert names(served, function) == []
    with pytest.raises(served.client.exceptions.ResourceNotFoundException):
        served.invoke(FunctionName="nobody", InvocationType="DryRun")


def test_the_same_name_and_payload_is_the_same_execution(
    served: Served, function: RawFunction, later: ThreadPoolExecutor
) -> None:
    """[S17]"""
    given = {"FunctionName": function.qualified, "DurableExecutionName": "once", "Payload": '{"n": 1}'}
    first = served.invoke(InvocationType="Event", **given)["DurableExecutionArn"]
    incoming = function.next()
    assert served.invoke(InvocationType="Event", **given)["DurableExecutionArn"] == first
    attached = later.submit(served.invoke, **given)
    incoming.checkpoint(wait("w", 5))
    incoming.suspend()
    served.until_shown(first, "InvocationCompleted")
    assert served.invoke(InvocationType="Event", **given)["DurableExecutionArn"] == first
    served.advance(5)
    function.next().succeed("done")
    answer = attached.result(20)
    assert (answer["DurableExecutionArn"], json.loads(answer["Payload"])) == (first, "done")
    assert names(served, function) == ["once"]
    assert function.count == 2
    ended = served.invoke(**given)
    assert (ended["DurableExecutionArn"], json.loads(ended["Payload"])) == (first, "done")
    assert function.count == 2


def test_the_same_name_with_another_payload_is_refused(served: Served, function: RawFunction) -> None:
    """[S18]"""
    client = served.client
    given = {"FunctionName": function.qualified, "DurableExecutionName": "once"}
    arn = served.invoke(InvocationType="Event", Payload="1", **given)["DurableExecutionArn"]
    incoming = function.next()
    for _running_then_ended in range(2):
        for kind in ("Event", "RequestResponse"):
            with pytest.raises(client.exceptions.DurableExecutionAlreadyStartedException) as raised:
                served.invoke(InvocationType=kind, Payload="2", **given)
            assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409
        incoming.succeed()
        served.until_ended(arn)
    assert names(served, function) == ["once"]


def test_invokes_without_a_name_make_an_execution_each(served: Served) -> None:
    """[S19]"""
    function = served.function(Incoming.succeed)
    arns = [served.invoke(FunctionName=function.qualified, Payload="1")["DurableExecutionArn"] for _ in range(2)]
    assert len(set(arns)) == 2
    assert len(set(names(served, function))) == 2
    assert function.count == 2


def test_an_alias_is_resolved_once_at_the_start(served: Served) -> None:
    """[S20]"""
    function = served.function()
    client = served.client
    client.publish_version(FunctionName=function.name)
    client.create_alias(FunctionName=function.name, Name="live", FunctionVersion="1")
    alias = {"FunctionName": function.name, "Qualifier": "live", "InvocationType": "Event"}
    arn = served.invoke(**alias)["DurableExecutionArn"]
    assert f":function:{function.name}:1/durable-execution/" in arn
    incoming = function.next()
    incoming.checkpoint(wait("w", 5))
    client.update_function_configuration(FunctionName=function.name, Timeout=30)
    assert client.publish_version(FunctionName=function.name)["Version"] == "2"
    client.update_alias(FunctionName=function.name, Name="live", FunctionVersion="2")
    incoming.suspend()
    served.until_shown(arn, "InvocationCompleted")
    served.advance(5)
    again = function.next()
    assert again.arn == arn
    again.succeed()
    ended = served.until_ended(arn)
    assert (ended["Version"], ended["Status"]) == ("1", "SUCCEEDED")
    assert ended["FunctionArn"] == f"{ARN}{function.name}:1"
    assert f":function:{function.name}:2/" in served.invoke(**alias)["DurableExecutionArn"]


def test_inputs_have_their_limits(served: Served) -> None:
    """[S21]"""
    function = served.function(Incoming.succeed)
    client = served.client
    large = '"' + "x" * (MIB - 2) + '"'
    arn = served.invoke(FunctionName=function.qualified, InvocationType="Event", Payload=large)["DurableExecutionArn"]
    assert served.until_ended(arn)["InputPayload"] == large
    with pytest.raises(client.exceptions.RequestTooLargeException) as raised:
        served.invoke(FunctionName=function.qualified, InvocationType="Event", Payload=large + " ")
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    larger = '"' + "x" * (6 * MIB - 2) + '"'
    answer = served.invoke(FunctionName=function.qualified, Payload=larger)
    assert (answer["StatusCode"], answer.get("FunctionError")) == (200, None)
    assert served.get(answer["DurableExecutionArn"])["InputPayload"] == larger
    with pytest.raises(client.exceptions.RequestTooLargeException):
        served.invoke(FunctionName=function.qualified, Payload=larger + " ")
    assert len(names(served, function)) == 2
