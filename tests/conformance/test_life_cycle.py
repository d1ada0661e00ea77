"""The life of an execution, from its start to its removal, and callbacks: what third parties may do to them."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perdure.model.execution import DurableConfig
from support.raw import Incoming, Json, RawFunction, callback, retry, step, wait
from support.served import Served, serving

STALE = "Invalid checkpoint token"
DAY_S = 86_400


@pytest.fixture
def alone() -> Iterator[Served]:
    """A node for one test, which moves the clock far."""
    with serving() as served:
        yield served


def stale(incoming: Incoming) -> bool:
    """Whether the invocation may not write any more."""
    try:
        incoming.checkpoint(step("late", "SUCCEED"))
    except incoming.client.exceptions.InvalidParameterValueException as error:
        return str(error.response["Error"]["Message"]) == STALE
    return False


# --- time-out, stop ----------------------------------------------------------------------------------------------


def test_an_execution_times_out_also_in_the_middle_of_a_wait(alone: Served) -> None:
    """[S54]"""
    function = alone.function(durable=DurableConfig(execution_timeout_s=60))
    waits, works = alone.start_execution(function, "waits"), alone.start_execution(function, "works")
    by_input = {incoming.input: incoming for incoming in (function.next(), function.next())}
    incoming = by_input["waits"]
    incoming.checkpoint(wait("w", 3600), retry("r", 3600), callback("c"))
    incoming.suspend()
    alone.until_shown(waits, "InvocationCompleted")
    start = alone.get(waits)["StartTimestamp"]
    assert alone.get(waits)["ExpectedExecutionTimeoutTimestamp"].timestamp() == start.timestamp() + 60
    alone.advance(59.999)
    assert alone.status(waits) == "RUNNING"
    alone.advance(0.001)
    for arn in (waits, works):
        ended = alone.until_ended(arn)
        assert ended["Status"] == "TIMED_OUT"
        assert ended["EndTimestamp"].timestamp() == start.timestamp() + 60
        assert "timed out after 60 seconds" in ended["Error"]["ErrorMessage"]
        assert "ExpectedExecutionTimeoutTimestamp" not in ended
        assert alone.shown(arn)[-1] == "ExecutionTimedOut"
    assert stale(by_input["works"])
    by_input["works"].succeed("too late")
    assert alone.until_over(works)[-2:] == ["ExecutionTimedOut", "InvocationCompleted"]
    assert alone.status(works) == "TIMED_OUT"
    alone.advance(7200)
    assert function.count == 2
    assert alone.shown(waits)[-1] == "ExecutionTimedOut"


def test_a_stop_ends_an_execution_at_once_and_fences_its_invocation(served: Served, function: RawFunction) -> None:
    """[S55]"""
    arn = served.start_execution(function)
    incoming = function.next()
    incoming.checkpoint(wait("w", 5), step("s", "START"))
    stopped = served.client.stop_durable_execution(DurableExecutionArn=arn)
    found = served.get(arn)
    assert found["Status"] == "STOPPED"
    assert found["EndTimestamp"] == stopped["StopTimestamp"]
    assert served.shown(arn)[-1] == "ExecutionStopped"
    assert stale(incoming)
    incoming.succeed("ignored")
    assert served.until_over(arn)[-2:] == ["ExecutionStopped", "InvocationCompleted"]
    assert served.get(arn)["Status"] == "STOPPED"
    assert "Result" not in served.get(arn)
    served.advance(5)
    again = served.client.stop_durable_execution(DurableExecutionArn=arn, Error={"ErrorMessage": "twice"})
    assert again["StopTimestamp"] == stopped["StopTimestamp"]
    assert served.get(arn).get("Error") == found.get("Error")
    assert served.shown(arn)[-2:] == ["ExecutionStopped", "InvocationCompleted"]
    assert function.count == 1


def test_a_stop_keeps_the_error_it_was_given(served: Served, function: RawFunction) -> None:
    """[S56]"""
    error = {"ErrorType": "Operator", "ErrorMessage": "enough", "ErrorData": "ticket 7", "StackTrace": ["a", "b"]}
    arn = served.start_execution(function)
    function.next()
    served.client.stop_durable_execution(DurableExecutionArn=arn, Error=error)
    assert served.get(arn)["Error"] == error
    (event,) = served.events(arn, "ExecutionStopped")
    assert event["ExecutionStoppedDetails"]["Error"] == {"Payload": error, "Truncated": False}
    bare = served.start_execution(function)
    function.next()
    served.client.stop_durable_execution(DurableExecutionArn=bare)
    (event,) = served.events(bare, "ExecutionStopped")
    assert "Error" in event["ExecutionStoppedDetails"]


# --- pause, resume -----------------------------------------------------------------------------------------------


def test_a_paused_execution_is_not_invoked_while_its_timers_run(served: Served, function: RawFunction) -> None:
    """[S57]"""
    client = served.client
    arn = served.start_execution(function)
    incoming = function.next()
    (opened, *_) = incoming.changed(callback("c"), wait("w", 5), retry("r", 6))
    incoming.suspend()
    served.until_shown(arn, "InvocationCompleted")
    answer = client.pause_durable_execution(DurableExecutionArn=arn, Reason="a look", ClientToken="p1")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    found = served.get(arn)
    assert found["Status"] == "PAUSED"
    assert (found["PauseDetails"]["Reason"], found["PauseDetails"]["ExecutionTimeoutPaused"]) == ("a look", True)
    client.pause_durable_execution(DurableExecutionArn=arn, Reason="a look", ClientToken="p1")
    client.send_durable_execution_callback_success(CallbackId=opened["CallbackDetails"]["CallbackId"], Result=b"1")
    served.advance(6)
    served.until_shown(arn, "WaitSucceeded")
    shown = served.shown(arn)
    assert shown.count("ExecutionPaused") == 1
    assert shown[-2:] == ["CallbackSucceeded", "WaitSucceeded"]
    assert function.count == 1
    answer = client.resume_durable_execution(DurableExecutionArn=arn, Reason="go", ClientToken="r1")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    again = function.next()
    assert {one["Id"]: one["Status"] for one in again.operations[1:]} == {
        "c": "SUCCEEDED",
        "w": "SUCCEEDED",
        "r": "READY",
    }
    assert served.status(arn) == "RUNNING"
    client.resume_durable_execution(DurableExecutionArn=arn, ClientToken="r1")
    with pytest.raises(client.exceptions.ResourceConflictException):
        client.resume_durable_execution(DurableExecutionArn=arn, ClientToken="r2")
    again.succeed()
    served.until_ended(arn)
    assert function.count == 2
    (paused,) = served.events(arn, "ExecutionPaused")
    assert paused["ExecutionPausedDetails"]["Reason"]["Payload"] == "a look"
    (resumed,) = served.events(arn, "ExecutionResumed")
    assert resumed["ExecutionResumedDetails"]["Reason"]["Payload"] == "go"
    with pytest.raises(client.exceptions.ResourceConflictException):
        client.pause_durable_execution(DurableExecutionArn=arn)


def test_a_pause_lets_the_invocation_in_flight_come_to_its_next_checkpoint(
    served: Served, function: RawFunction
) -> None:
    """[S57]"""
    client = served.client
    arn = served.start_execution(function)
    incoming = function.next()
    incoming.checkpoint(step("1", "START"))
    client.pause_durable_execution(DurableExecutionArn=arn)
    assert served.status(arn) == "PAUSING"
    answer = incoming.checkpoint(step("1", "SUCCEED", Payload="1"))
    assert answer["NewExecutionState"]["Operations"] == []
    assert "CheckpointToken" not in answer
    assert served.status(arn) == "PAUSED"
    incoming.suspend()
    served.until_shown(arn, "InvocationCompleted")
    assert served.events(arn, "InvocationCompleted")[0]["InvocationCompletedDetails"].get("Error") is None
    assert function.count == 1
    client.resume_durable_execution(DurableExecutionArn=arn)
    again = function.next()
    assert [(one["Id"], one["Status"]) for one in again.operations[1:]] == [("1", "SUCCEEDED")]
    client.pause_durable_execution(DurableExecutionArn=arn)
    assert served.status(arn) == "PAUSING"
    client.resume_durable_execution(DurableExecutionArn=arn)
    assert served.status(arn) == "RUNNING"
    again.succeed()
    assert served.until_ended(arn)["Status"] == "SUCCEEDED"


def test_a_pause_may_stop_the_clock_of_the_execution(alone: Served) -> None:
    """[S57]"""
    function = alone.function(durable=DurableConfig(execution_timeout_s=60))
    given = {"stopped": True, "running": False}
    arns = {name: alone.start_execution(function, name, DurableExecutionName=name) for name in given}
    for _ in given:
        incoming = function.next()
        incoming.checkpoint(callback("c"))
        incoming.suspend()
    for name, is_stopped in given.items():
        alone.until_shown(arns[name], "InvocationCompleted")
        alone.client.pause_durable_execution(DurableExecutionArn=arns[name], ExecutionTimeoutPaused=is_stopped)
    alone.advance(61)
    assert alone.until_ended(arns["running"])["Status"] == "TIMED_OUT"
    assert alone.status(arns["stopped"]) == "PAUSED"
    alone.client.resume_durable_execution(DurableExecutionArn=arns["stopped"])
    alone.advance(59)
    assert alone.status(arns["stopped"]) == "RUNNING"
    alone.advance(1)
    assert alone.until_ended(arns["stopped"])["Status"] == "TIMED_OUT"


# --- removal -----------------------------------------------------------------------------------------------------


def test_only_what_has_ended_can_be_deleted_and_its_name_is_free_then(served: Served, function: RawFunction) -> None:
    """[S58]"""
    client = served.client
    arn = served.start_execution(function, 1, DurableExecutionName="mine")
    incoming = function.next()
    for _running_then_paused in range(2):
        with pytest.raises(client.exceptions.ResourceConflictException) as raised:
            client.delete_durable_execution(DurableExecutionArn=arn)
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409
        client.pause_durable_execution(DurableExecutionArn=arn, ClientToken="once")
    client.resume_durable_execution(DurableExecutionArn=arn)
    incoming.succeed()
    served.until_ended(arn)
    deleted = client.delete_durable_execution(DurableExecutionArn=arn)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert deleted["DeletionRequestTimestamp"].timestamp() == served.manual.now / 1000
    for call in (
        client.get_durable_execution,
        client.get_durable_execution_history,
        client.delete_durable_execution,
        client.stop_durable_execution,
    ):
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            call(DurableExecutionArn=arn)
    assert client.list_durable_executions_by_function(FunctionName=function.name)["DurableExecutions"] == []
    anew = served.start_execution(function, 2, DurableExecutionName="mine")
    assert anew != arn
    assert function.next().input == 2


def test_after_its_retention_an_execution_is_gone(alone: Served) -> None:
    """[S59]"""
    client = alone.client
    function = alone.function(durable=DurableConfig(retention_days=2))
    arn = alone.start_execution(function, 1, DurableExecutionName="mine")
    incoming = function.next()
    (opened,) = incoming.changed(callback("c"))
    alone.advance(3 * DAY_S)
    incoming.succeed()
    alone.until_ended(arn)
    alone.advance(2 * DAY_S - 1)
    assert alone.status(arn) == "SUCCEEDED"
    with pytest.raises(client.exceptions.CallbackTimeoutException):
        client.send_durable_execution_callback_success(CallbackId=opened["CallbackDetails"]["CallbackId"])
    alone.advance(1)
    for call in (client.get_durable_execution, client.get_durable_execution_history, client.stop_durable_execution):
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            call(DurableExecutionArn=arn)
    assert client.list_durable_executions_by_function(FunctionName=function.name)["DurableExecutions"] == []
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.send_durable_execution_callback_success(CallbackId=opened["CallbackDetails"]["CallbackId"])
    assert alone.start_execution(function, 2, DurableExecutionName="mine") != arn


# --- callbacks ---------------------------------------------------------------------------------------------------


def opened(incoming: Incoming, *asked: Json) -> list[str]:
    """The ids of callbacks that this invocation begins."""
    return [str(one["CallbackDetails"]["CallbackId"]) for one in incoming.changed(*asked)]


def test_a_callback_ends_as_it_is_answered_or_as_its_time_runs_out(served: Served, function: RawFunction) -> None:
    """[S60]"""
    client = served.client
    arn = served.start_execution(function)
    incoming = function.next()
    names = ["text", "json", "empty", "fails", "fails-bare", "times-out", "goes-quiet"]
    limits = {"times-out": (30, 0), "goes-quiet": (0, 20)}
    ids = dict(zip(names, opened(incoming, *(callback(name, *limits.get(name, ())) for name in names)), strict=True))
    client.send_durable_execution_callback_success(CallbackId=ids["text"], Result="été".encode())
    client.send_durable_execution_callback_success(CallbackId=ids["json"], Result=b'{"a": "b"}')
    client.send_durable_execution_callback_success(CallbackId=ids["empty"])
    error = {"ErrorType": "Declined", "ErrorMessage": "no", "ErrorData": "d", "StackTrace": ["s"]}
    client.send_durable_execution_callback_failure(CallbackId=ids["fails"], Error=error)
    client.send_durable_execution_callback_failure(CallbackId=ids["fails-bare"])
    served.advance(20)
    served.until_shown(arn, "CallbackTimedOut")
    served.advance(10)
    served.until_shown(arn, "CallbackTimedOut", 2)
    found = {one["Id"]: (one["Status"], one["CallbackDetails"]) for one in incoming.changed()}
    for details in found.values():
        assert details[1].pop("CallbackId") in ids.values()
    assert found["text"] == ("SUCCEEDED", {"Result": "été"})
    assert found["json"] == ("SUCCEEDED", {"Result": '{"a": "b"}'})
    assert found["empty"] == ("SUCCEEDED", {})
    assert found["fails"] == ("FAILED", {"Error": error})
    assert found["fails-bare"] == ("FAILED", {"Error": {}})
    assert found["times-out"][0] == found["goes-quiet"][0] == "TIMED_OUT"
    assert found["times-out"][1]["Error"]["ErrorType"] == "Callback.Timeout"
    assert found["goes-quiet"][1]["Error"]["ErrorType"] == "Callback.Heartbeat"
    kinds = {event["Id"]: event["EventType"] for event in served.history(arn) if "Id" in event}
    assert [kinds[name] for name in names] == [
        *["CallbackSucceeded"] * 3,
        *["CallbackFailed"] * 2,
        *["CallbackTimedOut"] * 2,
    ]
    started = {event["Id"]: event["CallbackStartedDetails"] for event in served.events(arn, "CallbackStarted")}
    assert (started["times-out"]["Timeout"], started["goes-quiet"]["HeartbeatTimeout"]) == (30, 20)
    assert started["text"]["CallbackId"] == ids["text"]


def test_a_closed_callback_can_t_be_completed(served: Served, function: RawFunction) -> None:
    """[S61]"""
    client = served.client
    arn = served.start_execution(function)
    incoming = function.next()
    ids = opened(incoming, callback("done"), callback("failed"), callback("late", 5), callback("open"))
    client.send_durable_execution_callback_success(CallbackId=ids[0], Result=b"1")
    client.send_durable_execution_callback_failure(CallbackId=ids[1])
    served.advance(5)

    def is_closed(callback_id: str) -> None:
        calls: list[tuple[Callable[..., Any], Json]] = [
            (client.send_durable_execution_callback_success, {"Result": b"1"}),
            (client.send_durable_execution_callback_failure, {}),
            (client.send_durable_execution_callback_heartbeat, {}),
        ]
        for call, more in calls:
            with pytest.raises(client.exceptions.CallbackTimeoutException) as raised:
                call(CallbackId=callback_id, **more)
            assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400

    for callback_id in ids[:3]:
        is_closed(callback_id)
    found = {one["Id"]: one["Status"] for one in incoming.changed()}
    assert found == {"done": "SUCCEEDED", "failed": "FAILED", "late": "TIMED_OUT"}
    client.stop_durable_execution(DurableExecutionArn=arn)
    is_closed(ids[3])
    unknown = ids[3][:-8] + "AAAAAAA" + ids[3][-1]
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.send_durable_execution_callback_success(CallbackId=unknown)
    for malformed in ("AAAA", "no base64!", "é"):
        with pytest.raises(client.exceptions.InvalidParameterValueException):
            client.send_durable_execution_callback_success(CallbackId=malformed)


def test_what_a_callback_is_given_is_text_of_at_most_a_mebibyte(served: Served, function: RawFunction) -> None:
    """[S61]"""
    client = served.client
    served.start_execution(function)
    incoming = function.next()
    (callback_id,) = opened(incoming, callback("c"))
    refused = (client.exceptions.InvalidParameterValueException, client.exceptions.RequestTooLargeException)
    for bad in (b"x" * (1024 * 1024 + 1), b"\xff\xfe"):
        with pytest.raises(refused):
            client.send_durable_execution_callback_success(CallbackId=callback_id, Result=bad)
    client.send_durable_execution_callback_success(CallbackId=callback_id, Result=b"x" * 1024 * 1024)
    (done,) = incoming.changed()
    assert len(done["CallbackDetails"]["Result"]) == 1024 * 1024


def test_a_heartbeat_moves_the_heartbeat_s_time_out_and_no_other(served: Served, function: RawFunction) -> None:
    """[S62]"""
    client = served.client
    arn = served.start_execution(function)
    incoming = function.next()
    (quiet, both) = opened(incoming, callback("quiet", 0, 10), callback("both", 25, 10))
    for _beat in range(2):
        served.advance(9)
        for callback_id in (quiet, both):
            client.send_durable_execution_callback_heartbeat(CallbackId=callback_id)
    served.advance(6.999)
    assert incoming.changed() == []
    served.advance(0.001)
    ((one),) = incoming.changed()
    assert (one["Id"], one["Status"]) == ("both", "TIMED_OUT")
    assert one["CallbackDetails"]["Error"]["ErrorType"] == "Callback.Timeout"
    served.advance(3)
    ((one),) = incoming.changed()
    assert (one["Id"], one["CallbackDetails"]["Error"]["ErrorType"]) == ("quiet", "Callback.Heartbeat")
    assert served.shown(arn).count("CallbackTimedOut") == 2


def test_a_callback_that_is_completed_before_the_function_suspends_is_not_lost(
    served: Served, function: RawFunction
) -> None:
    """[S63]"""
    arn = served.start_execution(function)
    incoming = function.next()
    (callback_id,) = opened(incoming, callback("c"))
    served.client.send_durable_execution_callback_success(CallbackId=callback_id, Result=json.dumps("yes").encode())
    assert served.shown(arn)[-1] == "CallbackSucceeded"
    incoming.suspend()
    again = function.next()
    assert again.event["UpdatedOperationIds"] == ["c"]
    assert again.operations[1]["CallbackDetails"]["Result"] == '"yes"'
    again.succeed()
    assert served.until_ended(arn)["Status"] == "SUCCEEDED"
    assert served.shown(arn) == [
        *("ExecutionStarted", "CallbackStarted", "CallbackSucceeded", "InvocationCompleted"),
        *("InvocationCompleted", "ExecutionSucceeded"),
    ]
