"""The wire itself: errors, percent-encoding, times, queries, pages and waiters, as unmodified clients meet them."""

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from perdure.api.access import Access
from perdure.api.app import App
from perdure.api.backing import Backing
from perdure.api.request import Answer, Request
from perdure.identity.audit import AuditLog
from perdure.identity.gate import Gate
from perdure.model.error import ServiceError
from perdure.model.ids import Home
from perdure.server.http import HttpServer
from perdure.wire.api import lambda_api
from support.packages import package
from support.raw import RawFunction, callback, step, wait
from support.served import Served, client_of

UNKNOWN = (
    "arn:aws:lambda:us-east-1:000000000000:function:nobody:$LATEST/durable-execution/n/"
    "019ad7c0-0000-7000-8000-000000000000"
)
PACKAGE = package({"app.py": "def handler(event, context):\n    return event\n"})
CONFIGURATION = {"Role": "arn:aws:iam::000000000000:role/r", "Runtime": "python3.13", "Handler": "app.handler"}


def code_of(raised: "pytest.ExceptionInfo[ClientError]") -> tuple[str, int]:
    answer: Any = raised.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


# --- errors ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raiser(served: Served) -> Iterator[Any]:
    """The application with a handler that raises the error that an execution is named after."""

    def raises(_backing: Backing, request: Request) -> Answer:
        code = request.parameters["DurableExecutionArn"].split("/")[-2]
        form = lambda_api().errors[code]
        raise type(code, (ServiceError,), {"code": code, "http_status": form.status})(f"about {code}")

    store = served.node.store
    audit = AuditLog(store)
    access = Access(Gate(store, Home(), served.manual.now_ms), audit)
    server = HttpServer(App(served.node.backing, access, {"GetDurableExecution": raises}))
    server.start()
    with closing(client_of(server.url)) as client:
        yield client
    server.stop()
    audit.close()


@pytest.mark.parametrize("code", sorted(lambda_api().errors))
def test_each_modelled_error_is_the_exception_that_boto3_has_for_it(raiser: Any, code: str) -> None:
    """[S1]"""
    with pytest.raises(raiser.exceptions.from_code(code)) as raised:
        raiser.get_durable_execution(DurableExecutionArn=UNKNOWN.replace("/n/", f"/{code}/"))
    form = lambda_api().errors[code]
    assert code_of(raised) == (code, form.status)
    answer: Any = raised.value.response
    assert type(raised.value) is not ClientError
    assert answer["Error"]["Message"] == answer[form.message] == f"about {code}"
    assert answer.get("Type", kind := "User" if form.status < 500 else "Service") == kind
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-errortype"] == code
    assert re.fullmatch(r"[0-9a-f-]{36}", answer["ResponseMetadata"]["RequestId"])


def test_what_goes_wrong_is_told_by_name_in_a_header_and_by_its_own_exception(
    served: Served, function: RawFunction
) -> None:
    """[S1]"""
    client = served.client
    plain = served.function(durable=None).name
    client.create_function(FunctionName="throttled", Code={"ZipFile": PACKAGE}, **CONFIGURATION)
    client.put_function_concurrency(FunctionName="throttled", ReservedConcurrentExecutions=0)
    arn = served.start_execution(function, 1, DurableExecutionName="taken")
    incoming = function.next()
    (opened,) = incoming.changed(callback("c"))
    callback_id = opened["CallbackDetails"]["CallbackId"]
    client.send_durable_execution_callback_success(CallbackId=callback_id)
    invoke, get = served.invoke, client.get_durable_execution
    calls: dict[str, list[Any]] = {
        "InvalidParameterValueException": [
            lambda: invoke(FunctionName=function.name),
            lambda: invoke(FunctionName=plain, DurableExecutionName="n"),
            lambda: get(DurableExecutionArn="nonsense"),
            lambda: client.list_durable_executions_by_function(FunctionName=function.name, Statuses=["ASLEEP"]),
            lambda: incoming.checkpoint(step("1", "RETRY")),
            lambda: client.send_durable_execution_callback_success(CallbackId="AAAA"),
        ],
        "ResourceNotFoundException": [
            lambda: invoke(FunctionName="nobody:$LATEST"),
            lambda: invoke(FunctionName=f"{function.name}:7"),
            lambda: get(DurableExecutionArn=UNKNOWN),
            lambda: client.list_durable_executions_by_function(FunctionName="nobody"),
        ],
        "ResourceConflictException": [
            lambda: client.delete_durable_execution(DurableExecutionArn=arn),
            lambda: client.resume_durable_execution(DurableExecutionArn=arn),
            lambda: client.create_function(FunctionName="throttled", Code={"ZipFile": PACKAGE}, **CONFIGURATION),
        ],
        "PreconditionFailedException": [
            lambda: client.publish_version(FunctionName="throttled", RevisionId=str(uuid.uuid4()))
        ],
        "TooManyRequestsException": [lambda: invoke(FunctionName="throttled")],
        "DurableExecutionAlreadyStartedException": [
            lambda: invoke(FunctionName=function.qualified, DurableExecutionName="taken", Payload="2")
        ],
        "CallbackTimeoutException": [
            lambda: client.send_durable_execution_callback_failure(CallbackId=callback_id),
            lambda: client.send_durable_execution_callback_heartbeat(CallbackId=callback_id),
        ],
        "InvalidRequestContentException": [
            lambda: invoke(FunctionName=function.qualified, Payload="{"),
            lambda: invoke(FunctionName=function.qualified, Payload=b'{"\x80": 0}'),
        ],
        "RequestTooLargeException": [
            lambda: invoke(FunctionName=function.qualified, InvocationType="Event", Payload=b" " * (2 * 1024 * 1024))
        ],
    }
    for code, ways in calls.items():
        for way in ways:
            with pytest.raises(client.exceptions.from_code(code)) as raised:
                way()
            answer: Any = raised.value.response
            assert answer["Error"]["Code"] == code
            assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-errortype"] == code
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == lambda_api().errors[code].status
    other = served.raw(
        "POST", f"/2015-03-31/functions/{function.qualified}/invocations", b"<a/>", Content_Type="text/xml"
    )
    assert (other.status, other.error) == (415, "UnsupportedMediaTypeException")
    incoming.succeed()
    served.until_ended(arn)


# --- paths -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["order-17_b", "-", "_-_", "a" * 64, "0"])
def test_an_arn_in_one_escaped_segment_reaches_its_execution(served: Served, function: RawFunction, name: str) -> None:
    """[S2]"""
    arn = served.start_execution(function, name, DurableExecutionName=name)
    seen: list[str] = []
    served.client.meta.events.register("before-send.lambda.*", lambda request, **_: seen.append(request.url))
    found = served.get(arn)
    assert (found["DurableExecutionArn"], found["DurableExecutionName"]) == (arn, name)
    (path,) = [url.split("/durable-executions/")[1] for url in seen[-1:]]
    assert ":" not in path
    assert "/" not in path
    assert "%2Fdurable-execution%2F" in path
    listed = served.client.list_durable_executions_by_function(FunctionName=function.name, DurableExecutionName=name)
    assert [row["DurableExecutionArn"] for row in listed["DurableExecutions"]] == [arn]
    assert function.next().arn == arn
    for written in (arn, arn.replace("/", "%2F"), arn.replace("/", "%2f"), arn.replace(":", "%3A")):
        for more in ("", "/history", "/history?MaxItems=1"):
            assert served.raw("GET", f"/2025-12-01/durable-executions/{written}{more}").status == 200


# --- values ------------------------------------------------------------------------------------------------------


def test_times_in_answers_are_numbers_of_seconds_with_milliseconds(served: Served, function: RawFunction) -> None:
    """[S3]"""
    served.advance(0.123 - served.manual.now % 1000 / 1000)
    arn = served.start_execution(function)
    incoming = function.next()
    incoming.checkpoint(wait("w", 5))
    path = "/2025-12-01/durable-executions/" + arn.replace("/", "%2F")
    at = served.manual.now / 1000
    assert at % 1 != 0
    found = served.raw("GET", path).json
    assert found["StartTimestamp"] == at
    assert isinstance(found["ExpectedExecutionTimeoutTimestamp"], float)
    events = served.raw("GET", path + "/history").json["Events"]
    assert [event["EventTimestamp"] for event in events] == [at, at]
    assert events[1]["WaitStartedDetails"]["ScheduledEndTimestamp"] == at + 5
    (row,) = served.raw("GET", f"/2025-12-01/functions/{function.name}/durable-executions").json["DurableExecutions"]
    assert row["StartTimestamp"] == at
    body = json.dumps({"CheckpointToken": incoming.token}).encode()
    answer = served.raw("POST", path + "/checkpoint", body).json
    assert answer["NewExecutionState"]["Operations"] == []
    stopped = served.raw("POST", path + "/stop", b"{}").json
    assert stopped == {"StopTimestamp": at}
    assert served.raw("GET", path).json["EndTimestamp"] == at
    assert served.raw("DELETE", path).json == {"DeletionRequestTimestamp": at}


def test_a_list_of_statuses_finds_executions_of_any_of_them(served: Served) -> None:
    """[S4]"""
    ends = {"runs": None, "fails": "FAILED", "works": "SUCCEEDED"}
    function = served.function()
    arns = {}
    for name, end in ends.items():
        arns[name] = served.start_execution(function, None, DurableExecutionName=name)
        incoming = function.next()
        if end is not None:
            incoming.answer({"Status": end})
            served.until_ended(arns[name])

    def listed(**query: Any) -> set[str]:
        answer = served.client.list_durable_executions_by_function(FunctionName=function.name, **query)
        return {row["DurableExecutionArn"] for row in answer["DurableExecutions"]}

    assert listed(Statuses=["RUNNING", "FAILED"]) == {arns["runs"], arns["fails"]}
    assert listed(Statuses=["SUCCEEDED"]) == {arns["works"]}
    assert listed(Statuses=["STOPPED", "TIMED_OUT"]) == set()
    assert listed() == set(arns.values())
    began = served.client.get_durable_execution(DurableExecutionArn=arns["runs"])["StartTimestamp"]
    assert arns["runs"] in listed(StartedAfter=began), "the bounds are part of what is asked for"
    assert arns["runs"] in listed(StartedBefore=began)
    assert (
        listed(StartedAfter=began + timedelta(seconds=1)) == listed(StartedBefore=began - timedelta(seconds=1)) == set()
    )
    path = f"/2025-12-01/functions/{function.name}/durable-executions?Statuses=RUNNING&Statuses=FAILED"
    assert len(served.raw("GET", path).json["DurableExecutions"]) == 2


def test_unknown_members_are_ignored_and_unknown_paths_are_named_errors(served: Served, function: RawFunction) -> None:
    """[S5]"""
    arn = served.start_execution(function)
    incoming = function.next()
    path = "/2025-12-01/durable-executions/" + arn.replace("/", "%2F")
    update = {**step("1", "START"), "Mood": {"Is": ["good"]}, "StepOptions": None}
    body = {"CheckpointToken": incoming.token, "Updates": [update], "Weather": "rain"}
    answer = served.raw("POST", path + "/checkpoint?x=y", json.dumps(body).encode(), X_Amz_New_Thing="1")
    assert answer.status == 200
    assert [op["Id"] for op in answer.json["NewExecutionState"]["Operations"]] == ["1"]
    assert served.raw("GET", path + "?Unheard=1&IncludeExecutionData=true").status == 200
    for method, unknown in [
        ("GET", "/"),
        ("GET", "/2025-12-01/durable-executions/a/b/c"),
        ("POST", "/2025-12-01/functions"),
        ("GET", path + "/dreams"),
        ("PATCH", path),
        ("GET", "/2015-03-31/functions//configuration"),
    ]:
        answer = served.raw(method, unknown)
        assert answer.status == 404, unknown
        assert answer.error, unknown
        assert answer.json["message"], unknown


def test_an_unknown_execution_is_not_found(served: Served, function: RawFunction) -> None:
    """[S6]"""
    arn = served.start_execution(function, DurableExecutionName="mine")
    client = served.client
    calls = (
        client.get_durable_execution,
        client.get_durable_execution_history,
        client.stop_durable_execution,
        client.pause_durable_execution,
        client.resume_durable_execution,
        client.delete_durable_execution,
    )
    for unknown in (UNKNOWN, arn.replace("/mine/", "/yours/"), arn.rpartition("/")[0] + "/no-uuid"):
        for call in calls:
            with pytest.raises(client.exceptions.ResourceNotFoundException) as raised:
                call(DurableExecutionArn=unknown)
            assert code_of(raised) == ("ResourceNotFoundException", 404)


@pytest.mark.parametrize(
    "arn",
    [
        "x",
        "arn:aws:lambda:us-east-1:000000000000:function:f",
        "arn:aws:lambda:us-east-1:000000000000:function:f:alias/durable-execution/n/i",
        UNKNOWN.replace("000000000000", "12"),
        UNKNOWN + "/more",
        UNKNOWN.replace("/n/", "/é/"),
        "a" * 1025,
    ],
)
def test_a_malformed_arn_is_an_invalid_parameter(served: Served, arn: str) -> None:
    """[S7]"""
    client = served.client
    token = "AAAA"
    calls: list[tuple[Any, dict[str, Any]]] = [
        (client.get_durable_execution, {}),
        (client.get_durable_execution_history, {}),
        (client.stop_durable_execution, {}),
        (client.get_durable_execution_state, {"CheckpointToken": token}),
        (client.checkpoint_durable_execution, {"CheckpointToken": token}),
    ]
    for call, given in calls:
        with pytest.raises(client.exceptions.InvalidParameterValueException) as raised:
            call(DurableExecutionArn=arn, **given)
        assert code_of(raised) == ("InvalidParameterValueException", 400)


# --- pages and waiters -------------------------------------------------------------------------------------------


def test_paginators_walk_to_the_end_one_by_one(served: Served) -> None:
    """[S8]"""
    function = served.function()
    arns = [served.start_execution(function, n, DurableExecutionName=f"n{n}") for n in range(5)]
    incoming = {one.arn: one for one in (function.next() for _ in arns)}[arns[0]]
    incoming.checkpoint(*(step(f"s{n}", "SUCCEED", Payload=str(n)) for n in range(7)))
    client, one = served.client, {"PageSize": 1}

    def walked(name: str, key: str, **given: Any) -> list[Any]:
        pages = list(client.get_paginator(name).paginate(PaginationConfig=one, **given))
        assert {len(page[key]) for page in pages} <= {0, 1}
        return [row for page in pages for row in page[key]]

    history = walked("get_durable_execution_history", "Events", DurableExecutionArn=arns[0])
    assert [event["EventId"] for event in history] == list(range(1, 9))
    backwards = walked("get_durable_execution_history", "Events", DurableExecutionArn=arns[0], ReverseOrder=True)
    assert backwards == history[::-1]
    given = {"DurableExecutionArn": arns[0], "CheckpointToken": incoming.token}
    state = walked("get_durable_execution_state", "Operations", **given)
    assert [op["Id"] for op in state] == [arns[0].rpartition("/")[2], *(f"s{n}" for n in range(7))]
    listed = walked("list_durable_executions_by_function", "DurableExecutions", FunctionName=function.name)
    assert [row["DurableExecutionArn"] for row in listed] == arns[::-1]
    oldest_first = walked(
        "list_durable_executions_by_function", "DurableExecutions", FunctionName=function.name, ReverseOrder=True
    )
    assert [row["DurableExecutionArn"] for row in oldest_first] == arns


def test_no_number_of_items_means_a_hundred_and_more_than_a_thousand_is_refused(
    served: Served, function: RawFunction
) -> None:
    """[S9]"""
    arns = [served.start_execution(function, n) for n in range(3)]
    for _ in arns[1:]:
        function.next()
    incoming = function.next()
    incoming.checkpoint(*(step(f"s{n}", "SUCCEED") for n in range(110)))
    client, state = served.client, {"CheckpointToken": incoming.token}

    def sizes(**given: Any) -> tuple[int, int]:
        history = client.get_durable_execution_history(DurableExecutionArn=incoming.arn, **given)
        operations = client.get_durable_execution_state(DurableExecutionArn=incoming.arn, **state, **given)
        return len(history["Events"]), len(operations["Operations"])

    assert sizes() == sizes(MaxItems=0) == (100, 100)
    assert sizes(MaxItems=1000) == (111, 111)
    for too_many in (1001, 10**9):
        with pytest.raises(client.exceptions.InvalidParameterValueException):
            client.get_durable_execution_history(DurableExecutionArn=incoming.arn, MaxItems=too_many)
        with pytest.raises(client.exceptions.InvalidParameterValueException):
            client.get_durable_execution_state(DurableExecutionArn=incoming.arn, **state, MaxItems=too_many)
        with pytest.raises(client.exceptions.InvalidParameterValueException):
            client.list_durable_executions_by_function(FunctionName=function.name, MaxItems=too_many)
    listed = client.list_durable_executions_by_function(FunctionName=function.name, MaxItems=0)
    assert len(listed["DurableExecutions"]) == 3
    assert "NextMarker" not in listed


def test_all_waiters_of_the_model_come_to_an_end(served: Served) -> None:
    """[S10]"""
    client = served.client
    soon = {"WaiterConfig": {"Delay": 1, "MaxAttempts": 2}}
    assert len(client.waiter_names) == 6

    def waited(*names: str, **more: Any) -> None:
        for name in names:
            client.get_waiter(name).wait(FunctionName="waited", **more, **soon)

    client.create_function(
        FunctionName="waited", Code={"ZipFile": PACKAGE}, DurableConfig={"ExecutionTimeout": 60}, **CONFIGURATION
    )
    waited("function_exists", "function_active", "function_active_v2")
    client.update_function_configuration(FunctionName="waited", Timeout=9)
    waited("function_updated", "function_updated_v2")
    changed = {"ZipFile": package({"app.py": "def handler(event, context):\n    return 1\n"})}
    client.update_function_code(FunctionName="waited", **changed)
    waited(*sorted(set(client.waiter_names) - {"published_version_active"}))
    version = client.publish_version(FunctionName="waited")["Version"]
    waited(*sorted(client.waiter_names), Qualifier=version)
    client.delete_function(FunctionName="waited")
    with pytest.raises(WaiterError):
        waited("function_active_v2")
