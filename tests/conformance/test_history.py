"""GetDurableExecutionHistory: which events there are, in which order, with which details."""

from typing import Any

import pytest

from support.raw import Incoming, Json, RawFunction, callback, context, invoke, retry, step, update, wait
from support.served import Served

ERROR = {"ErrorType": "ValueError", "ErrorMessage": "no"}


def kinds(events: list[Json]) -> list[str]:
    return [str(event["EventType"]) for event in events]


def test_events_are_numbered_from_one_without_gaps_in_either_direction(served: Served, function: RawFunction) -> None:
    """[S48]"""
    arn = served.start_execution(function, 1, DurableExecutionName="numbered")
    incoming = function.next()
    incoming.checkpoint(*(step(f"s{n}", "SUCCEED") for n in range(20)), retry("r", 5), wait("w", 5), callback("c"))
    incoming.suspend()
    served.until_shown(arn, "InvocationCompleted")
    served.advance(5)
    function.next().succeed()
    served.until_ended(arn)
    history = served.history(arn)
    assert [event["EventId"] for event in history] == list(range(1, len(history) + 1))
    first = history[0]
    assert (first["EventType"], first["Id"], first["Name"]) == ("ExecutionStarted", arn.rpartition("/")[2], "numbered")
    assert first["ExecutionStartedDetails"]["Input"] == {"Payload": "1", "Truncated": False}
    assert first["ExecutionStartedDetails"]["ExecutionTimeout"] > 0
    for page_size in (1, 7, 1000):
        paging = {"PaginationConfig": {"PageSize": page_size}}
        assert served.history(arn, ReverseOrder=True, **paging) == history[::-1]
        assert served.history(arn, ReverseOrder=False, **paging) == history
    page = served.client.get_durable_execution_history(DurableExecutionArn=arn, ReverseOrder=True, MaxItems=2)
    assert kinds(page["Events"]) == ["ExecutionSucceeded", "InvocationCompleted"]


@pytest.mark.parametrize(
    ("output", "last"),
    [({"Status": "SUCCEEDED", "Result": "1"}, "ExecutionSucceeded"), ({"Status": "FAILED"}, "ExecutionFailed")],
)
def test_the_end_of_an_invocation_stands_before_the_end_that_it_brings(
    served: Served, function: RawFunction, output: Json, last: str
) -> None:
    """[S49]"""
    arn = served.start_execution(function)
    function.next().answer(output)
    served.until_ended(arn)
    history = served.history(arn)
    assert kinds(history) == ["ExecutionStarted", "InvocationCompleted", last]
    completed = history[1]
    assert "Id" not in completed
    details = completed["InvocationCompletedDetails"]
    assert set(details) == {"StartTimestamp", "EndTimestamp", "RequestId"}
    assert details["StartTimestamp"] <= details["EndTimestamp"] == completed["EventTimestamp"]


def test_each_attempt_of_a_step_has_events_of_its_own(served: Served, function: RawFunction) -> None:
    """[S50]"""
    arn = served.start_execution(function)
    incoming = function.next()
    named = {"Name": "charge", "SubType": "Step"}
    for _attempt in range(2):
        incoming.checkpoint(step("1", "START", **named), retry("1", 5, **named))
        served.advance(5)
    incoming.checkpoint(step("1", "START", **named), step("1", "FAIL", Error=ERROR, **named))
    incoming.checkpoint(step("2", "START"), step("2", "SUCCEED", Payload="1"))
    incoming.checkpoint(step("3", "START"), retry("3", 7))
    served.advance(7)
    incoming.checkpoint(step("3", "START"), step("3", "SUCCEED", Payload="2"))
    history = served.history(arn)[1:]
    assert kinds(history) == [
        *("StepStarted", "StepFailed", "StepStarted", "StepFailed", "StepStarted", "StepFailed"),
        *("StepStarted", "StepSucceeded"),
        *("StepStarted", "StepFailed", "StepStarted", "StepSucceeded"),
    ]
    retries = [next(iter(details(event).values())) for event in history if kinds([event]) != ["StepStarted"]]
    assert [one["RetryDetails"] for one in retries] == [
        {"CurrentAttempt": 1, "NextAttemptDelaySeconds": 5},
        {"CurrentAttempt": 2, "NextAttemptDelaySeconds": 5},
        {"CurrentAttempt": 3},
        {"CurrentAttempt": 1},
        {"CurrentAttempt": 1, "NextAttemptDelaySeconds": 7},
        {"CurrentAttempt": 2},
    ]
    assert retries[2]["Error"] == {"Payload": ERROR, "Truncated": False}
    assert retries[3]["Result"] == {"Payload": "1", "Truncated": False}
    assert {event["Name"] for event in history[:6]} == {"charge"}


def details(event: Json) -> Json:
    """The details of an event, under their name."""
    return {name: value for name, value in event.items() if name.endswith("Details")}


def test_a_poll_of_a_condition_is_a_success_with_its_state(served: Served, function: RawFunction) -> None:
    """[S50]"""
    arn = served.start_execution(function)
    incoming = function.next()
    named = {"Name": "until", "SubType": "WaitForCondition"}
    for state in ("1", "2"):
        incoming.checkpoint(step("1", "START", **named), retry("1", 3, Payload=state, **named))
        served.advance(3)
    incoming.checkpoint(step("1", "START", **named), step("1", "SUCCEED", Payload="3", **named))
    history = served.history(arn)[1:]
    assert kinds(history) == ["StepStarted", "StepSucceeded"] * 3
    found = [event["StepSucceededDetails"] for event in history[1::2]]
    assert [one["Result"]["Payload"] for one in found] == ["1", "2", "3"]
    assert [one["RetryDetails"].get("NextAttemptDelaySeconds") for one in found] == [3, 3, None]
    assert [one["RetryDetails"]["CurrentAttempt"] for one in found] == [1, 2, 3]
    assert {event["SubType"] for event in history} == {"WaitForCondition"}


def test_what_only_the_service_knows_makes_no_event(served: Served, function: RawFunction) -> None:
    """[S51]"""
    arn = served.start_execution(function)
    incoming = function.next()
    assert served.shown(arn) == ["ExecutionStarted"]
    (_parked, opened) = incoming.changed(retry("r", 5), callback("c", 60, 30))
    before = served.shown(arn)
    served.client.send_durable_execution_callback_heartbeat(CallbackId=opened["CallbackDetails"]["CallbackId"])
    served.advance(5)
    assert [one["Status"] for one in incoming.changed()] == ["READY"]
    incoming.checkpoint()
    assert served.shown(arn) == before == ["ExecutionStarted", "StepFailed", "CallbackStarted"]
    incoming.suspend()
    served.until_shown(arn, "InvocationCompleted")
    function.next()
    assert served.shown(arn)[3:] == ["InvocationCompleted"]


def test_a_history_without_data_says_where_it_was(served: Served, function: RawFunction) -> None:
    """[S52]"""
    child = served.function(Incoming.succeed)
    arn = served.start_execution(function, {"secret": "s-3"})
    incoming = function.next()
    opened = incoming.changed(
        step("1", "SUCCEED", Payload='"s-3"'),
        step("2", "FAIL", Error={"ErrorMessage": "s-3"}),
        context("3", "START"),
        context("3", "SUCCEED", Payload='"s-3"'),
        step("none", "SUCCEED"),
        callback("4"),
        callback("5"),
        invoke("6", child.qualified, Payload='"s-3"'),
    )
    ids = [one["CallbackDetails"]["CallbackId"] for one in opened if one["Type"] == "CALLBACK"]
    served.client.send_durable_execution_callback_success(CallbackId=ids[0], Result=b"s-3")
    served.client.send_durable_execution_callback_failure(CallbackId=ids[1], Error={"ErrorMessage": "s-3"})
    served.until_shown(arn, "ChainedInvokeSucceeded")
    incoming.answer({"Status": "SUCCEEDED", "Result": '"s-3"'})
    served.until_ended(arn)
    full, default = served.history(arn, IncludeExecutionData=True), served.history(arn)
    bare = served.history(arn, IncludeExecutionData=False)
    assert default == full
    assert kinds(bare) == kinds(full)
    assert "s-3" in str(full)
    assert "s-3" not in str(bare)
    wrappers = {
        name: [wrapper for event in events for wrapper in wrapped(details(event))]
        for name, events in (("full", full), ("bare", bare))
    }
    assert len(wrappers["full"]) == len(wrappers["bare"])
    for with_data, without in zip(wrappers["full"], wrappers["bare"], strict=True):
        if "Payload" in with_data:
            assert with_data["Truncated"] is False
            assert without == {"Truncated": True}
        else:
            assert "Payload" not in without
            assert not without.get("Truncated")
    for include, is_there in ((True, True), (False, False)):
        found = served.get(arn, IncludeExecutionData=include)
        assert found["ExecutionDataIncluded"] is include
        assert ("Result" in found, "InputPayload" in found) == (is_there, is_there)
    assert served.get(arn)["ExecutionDataIncluded"] is True


def wrapped(value: Any) -> list[Json]:
    """The wrappers of inputs, results and errors in the details of an event."""
    found: list[Json] = []
    for name, inner in value.items() if isinstance(value, dict) else ():
        if name in ("Input", "Result", "Error"):
            found.append(inner)
        else:
            found += wrapped(inner)
    return found


def test_an_event_has_its_details_even_if_they_are_empty(served: Served, function: RawFunction) -> None:
    """[S48]"""
    arn = served.start_execution(function)
    incoming = function.next()
    incoming.checkpoint(
        context("1", "START", Name="box", SubType="RunInChildContext"),
        step("2", "START", ParentId="1"),
        step("2", "SUCCEED", ParentId="1"),
        context("1", "FAIL", Name="box", SubType="RunInChildContext"),
        wait("3", 5),
    )
    incoming.checkpoint(update("3", "WAIT", "CANCEL"))
    history = served.history(arn)[1:]
    for event in history:
        assert f"{event['EventType']}Details" in event
    assert [event["EventType"] for event in history] == [
        *("ContextStarted", "StepStarted", "StepSucceeded", "ContextFailed", "WaitStarted", "WaitCancelled")
    ]
    assert history[0]["ContextStartedDetails"] == {}
    assert history[1]["ParentId"] == "1"
    assert "ParentId" not in history[0]
    assert history[2]["StepSucceededDetails"]["Result"] == {}
    assert history[3]["ContextFailedDetails"] == {"Error": {}}
