"""What a function is invoked with, what its answers do, and when it is invoked again."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from support.raw import Incoming, Json, RawFunction, callback, context, retry, step, update, wait
from support.served import Served

INVALID = "InvalidParameterValueException"
NOTHING_PENDING = "Cannot return PENDING status with no pending operations."
MIB = 1024 * 1024


def test_the_first_event_has_the_execution_and_nothing_else(served: Served, function: RawFunction) -> None:
    """[S22]"""
    arn = served.start_execution(function, {"order": 17}, DurableExecutionName="order-17")
    incoming = function.next()
    event = incoming.event
    assert set(event) == {"DurableExecutionArn", "CheckpointToken", "InitialExecutionState", "UpdatedOperationIds"}
    assert event["DurableExecutionArn"] == arn
    assert event["UpdatedOperationIds"] == []
    assert not event["InitialExecutionState"].get("NextMarker")
    (execution,) = incoming.operations
    assert execution == {
        "Id": arn.rpartition("/")[2],
        "Type": "EXECUTION",
        "Status": "STARTED",
        "Name": "order-17",
        "StartTimestamp": served.manual.now,
        "ExecutionDetails": {"InputPayload": '{"order": 17}'},
    }
    nothing = served.invoke(FunctionName=function.qualified, InvocationType="Event")["DurableExecutionArn"]
    (execution,) = function.next().operations
    assert execution["ExecutionDetails"] == {"InputPayload": "null"}
    assert served.get(nothing)["InputPayload"] == "null"


def test_times_in_an_event_are_whole_milliseconds(served: Served, function: RawFunction) -> None:
    """[S23]"""
    arn = served.start_execution(function)
    now = served.manual.now
    incoming = function.next()
    incoming.checkpoint(step("done", "SUCCEED"), retry("again", 7), wait("w", 5), callback("c"))
    incoming.suspend()
    served.until_shown(arn, "InvocationCompleted")
    served.advance(5.004)
    again = function.next()
    by_id = {operation["Id"]: operation for operation in again.operations}

    def times(value: Any) -> list[Any]:
        if not isinstance(value, dict):
            return []
        here = [inner for name, inner in value.items() if name.endswith("Timestamp")]
        return here + [time for inner in value.values() for time in times(inner)]

    found = times({str(at): operation for at, operation in enumerate(again.operations)})
    assert len(found) == 9
    assert {type(time) for time in found} == {int}
    assert by_id["again"]["StepDetails"]["NextAttemptTimestamp"] == now + 7000
    assert by_id["w"]["WaitDetails"]["ScheduledEndTimestamp"] == now + 5000
    assert by_id["done"]["EndTimestamp"] == now


def test_state_that_is_too_large_for_an_event_is_had_by_its_marker(served: Served, function: RawFunction) -> None:
    """[S24]"""
    arn = served.start_execution(function)
    incoming = function.next()
    ids = [f"s{n}" for n in range(9)]
    for operation_id in ids:
        incoming.checkpoint(step(operation_id, "SUCCEED", Payload="x" * (MIB - 10)))
    incoming.checkpoint(wait("w", 5))
    incoming.suspend()
    served.until_shown(arn, "InvocationCompleted")
    served.advance(5)
    again = function.next()
    assert len(again.body) < 6 * MIB
    found, marker = again.operations, again.event["InitialExecutionState"]["NextMarker"]
    assert 1 < len(found) < 9
    assert marker
    while marker:
        page = served.client.get_durable_execution_state(
            DurableExecutionArn=arn, CheckpointToken=again.token, Marker=marker, MaxItems=1000
        )
        assert page["Operations"]
        assert sum(len(json.dumps(one, default=str)) for one in page["Operations"]) < 6 * MIB
        found += page["Operations"]
        marker = page.get("NextMarker")
    assert [one["Id"] for one in found] == [arn.rpartition("/")[2], *ids, "w"]
    assert all(one["StepDetails"]["Result"] == "x" * (MIB - 10) for one in found[1:-1])
    assert again.changed(step("last", "SUCCEED"))[0]["Id"] == "last"
    again.succeed()
    assert served.until_ended(arn)["Status"] == "SUCCEEDED"


def test_children_of_a_finished_context_are_in_state_only_if_it_is_to_be_replayed(
    served: Served, function: RawFunction
) -> None:
    """[S25]"""
    arn = served.start_execution(function)
    incoming = function.next()

    def boxed(name: str, action: str, **more: Any) -> list[Json]:
        return [
            context(name, "START"),
            context(f"{name}-box", "START", ParentId=name),
            step(f"{name}-step", "SUCCEED", ParentId=f"{name}-box", Payload="1"),
            context(f"{name}-box", "SUCCEED", ParentId=name),
            context(name, action, **more),
        ]

    incoming.checkpoint(*boxed("closed", "SUCCEED", Payload="1", ContextOptions={"ReplayChildren": False}))
    incoming.checkpoint(*boxed("failed", "FAIL", Error={"ErrorMessage": "no"}))
    incoming.checkpoint(*boxed("replayed", "SUCCEED", Payload="", ContextOptions={"ReplayChildren": True}))
    incoming.checkpoint(*boxed("open", "SUCCEED")[:-1], wait("w", 5))
    incoming.suspend()
    served.until_shown(arn, "InvocationCompleted")
    served.advance(5)
    again = function.next()
    expected = ["closed", "failed", "replayed", "replayed-box", "open", "open-box", "w"]
    assert [one["Id"] for one in again.operations[1:]] == expected
    page = served.client.get_durable_execution_state(DurableExecutionArn=arn, CheckpointToken=again.token)
    assert [one["Id"] for one in page["Operations"][1:]] == expected
    (replayed,) = [one for one in again.operations if one["Id"] == "replayed"]
    assert replayed["ContextDetails"]["ReplayChildren"] is True


# --- answers -----------------------------------------------------------------------------------------------------


def ended_by(served: Served, output: Any) -> Json:
    """The execution, with its history, that this output has ended."""
    function = served.function()
    arn = served.start_execution(function)
    function.next().answer(output)
    ended = served.until_ended(arn)
    history = served.history(arn)
    assert [event["EventType"] for event in history[:-1]] == ["ExecutionStarted", "InvocationCompleted"]
    assert function.count == 1
    return {**ended, "Last": history[-1]}


@pytest.mark.parametrize("result", ['{"a": [1, 2]}', "null", '"é"', "", None])
def test_an_answer_of_success_ends_the_execution_with_its_result(served: Served, result: str | None) -> None:
    """[S26]"""
    output = {"Status": "SUCCEEDED"} if result is None else {"Status": "SUCCEEDED", "Result": result}
    ended = ended_by(served, output)
    assert ended["Status"] == "SUCCEEDED"
    assert ended.get("Result") == result
    assert "Error" not in ended
    assert ended["Last"]["EventType"] == "ExecutionSucceeded"
    details = ended["Last"]["ExecutionSucceededDetails"]["Result"]
    assert details.get("Payload") == result


@pytest.mark.parametrize(
    "error",
    [{"ErrorType": "T", "ErrorMessage": "m", "ErrorData": "d", "StackTrace": ["a", "b"]}, {"ErrorMessage": "m"}, {}],
)
def test_an_answer_of_failure_ends_the_execution_with_its_error(served: Served, error: Json) -> None:
    """[S26]"""
    ended = ended_by(served, {"Status": "FAILED", "Error": error})
    assert ended["Status"] == "FAILED"
    assert ended.get("Error", {}) == error
    assert ended["Last"]["ExecutionFailedDetails"]["Error"].get("Payload", {}) == error


def test_a_failure_needs_no_error(served: Served) -> None:
    """[S26]"""
    ended = ended_by(served, {"Status": "FAILED"})
    assert ended["Status"] == "FAILED"
    assert "Payload" not in ended["Last"]["ExecutionFailedDetails"]["Error"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            {"Status": "SUCCEEDED", "Result": "1", "Error": {"ErrorMessage": "m"}},
            "Cannot provide an Error for SUCCEEDED status.",
        ),
        (
            {"Status": "FAILED", "Result": "1", "Error": {"ErrorMessage": "m"}},
            "Cannot provide a Result for FAILED status.",
        ),
        ({"Status": "ASLEEP"}, "Invalid invocation output"),
        ({"Result": "1"}, "Invalid invocation output"),
        ({"Status": None}, "Invalid invocation output"),
        ({"Status": "SUCCEEDED", "Result": {"no": "text"}}, "Invalid invocation output"),
        ({"Status": "FAILED", "Error": "no object"}, "Invalid invocation output"),
        ([], "Invalid invocation output"),
        ("PENDING", "Invalid invocation output"),
        (None, "Invalid invocation output"),
        (b"", "Invalid invocation output"),
        (b"{", "Invalid invocation output"),
        (b'{"Status": "SUCCEEDED", "Result": "\xff"}', "Invalid invocation output"),
        (b"[" * 100_000, "Invalid invocation output"),
    ],
)
def test_an_answer_that_can_t_be_fails_the_execution(served: Served, output: Any, message: str) -> None:
    """[S26]"""
    ended = ended_by(served, output)
    assert ended["Status"] == "FAILED"
    assert ended["Error"]["ErrorType"] == INVALID
    assert ended["Error"]["ErrorMessage"].startswith(message)
    assert ended["Last"]["ExecutionFailedDetails"]["Error"]["Payload"]["ErrorType"] == INVALID


def test_an_answer_of_pending_waits_for_what_is_pending(served: Served, function: RawFunction) -> None:
    """[S26]"""
    arn = served.start_execution(function)
    incoming = function.next()
    incoming.checkpoint(wait("w", 5))
    incoming.suspend()
    served.until_shown(arn, "InvocationCompleted")
    assert served.status(arn) == "RUNNING"
    assert function.count == 1
    (completed,) = served.events(arn, "InvocationCompleted")
    assert "Error" not in completed["InvocationCompletedDetails"]
    served.advance(5)
    assert function.next().event["UpdatedOperationIds"] == ["w"]


def test_pending_without_anything_pending_fails_at_the_third_time(served: Served, function: RawFunction) -> None:
    """[S27]"""
    arn = served.start_execution(function)
    for _ in range(2):
        function.next().suspend()
    incoming = function.next()
    incoming.checkpoint(wait("w", 5))
    incoming.suspend()
    served.until_shown(arn, "InvocationCompleted", 3)
    served.advance(5)
    for _ in range(3):
        function.next().suspend()
    ended = served.until_ended(arn)
    error = {"ErrorType": INVALID, "ErrorMessage": NOTHING_PENDING}
    assert (ended["Status"], ended["Error"]) == ("FAILED", error)
    completed = [event["InvocationCompletedDetails"] for event in served.events(arn, "InvocationCompleted")]
    errors = [one["Error"]["Payload"] if "Error" in one else None for one in completed]
    assert errors == [error, error, None, error, error, error]
    assert served.shown(arn)[-2:] == ["InvocationCompleted", "ExecutionFailed"]
    assert function.count == 6


def test_a_handler_that_raises_is_invoked_again_with_a_new_token(served: Served, function: RawFunction) -> None:
    """[S28]"""
    arn = served.start_execution(function)
    first = function.next()
    first.checkpoint(step("1", "START"))
    stale = first.token
    first.raise_error("boom", "RuntimeError", stackTrace=["one.py", "two.py"], requestId="r")
    served.until_shown(arn, "InvocationCompleted")
    served.advance(2)
    second = function.next()
    assert second.arn == arn
    assert second.token not in (stale, first.event["CheckpointToken"])
    assert [(one["Id"], one["Status"]) for one in second.operations[1:]] == [("1", "STARTED")]
    client = served.client
    for token in (stale, first.event["CheckpointToken"]):
        with pytest.raises(client.exceptions.InvalidParameterValueException, match="Invalid checkpoint token"):
            client.checkpoint_durable_execution(DurableExecutionArn=arn, CheckpointToken=token)
    second.succeed()
    assert served.until_ended(arn)["Status"] == "SUCCEEDED"
    failed, done = (event["InvocationCompletedDetails"] for event in served.events(arn, "InvocationCompleted"))
    assert failed["Error"]["Payload"] == {
        "ErrorType": "RuntimeError",
        "ErrorMessage": "boom",
        "StackTrace": ["one.py", "two.py"],
    }
    assert "Error" not in done
    assert failed["RequestId"] != done["RequestId"]
    assert failed["StartTimestamp"] <= failed["EndTimestamp"] <= done["StartTimestamp"]


# --- when it is invoked ------------------------------------------------------------------------------------------


class Flights:
    """How many invocations of an execution are in flight, and were at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        yield
        with self._lock:
            self._now -= 1


def test_there_are_never_two_invocations_of_an_execution_in_flight(served: Served) -> None:
    """[S30]"""
    flights = Flights()
    opened: list[str] = []
    ready = threading.Event()

    def reply(incoming: Incoming) -> None:
        with flights.one():
            known = {one["Id"]: one["Status"] for one in incoming.operations[1:]}
            if not known:
                callbacks = incoming.changed(*(callback(f"c{n}") for n in range(16)))
                incoming.checkpoint(*(wait(f"w{n}", n + 1) for n in range(16)))
                opened.extend(one["CallbackDetails"]["CallbackId"] for one in callbacks)
                ready.set()
            else:
                for operation in incoming.changed():
                    known[operation["Id"]] = operation["Status"]
            if known and set(known.values()) == {"SUCCEEDED"}:
                incoming.succeed()
            else:
                incoming.suspend()

    function = served.function(reply)
    arn = served.start_execution(function)
    assert ready.wait(20)
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(served.client.send_durable_execution_callback_success, CallbackId=one) for one in opened]
        for _ in range(16):
            served.advance(1)
        for one in done:
            one.result(20)
    assert served.until_ended(arn)["Status"] == "SUCCEEDED"
    assert flights.most == 1
    completed = [event["InvocationCompletedDetails"] for event in served.events(arn, "InvocationCompleted")]
    assert len(completed) == function.count
    assert len({one["RequestId"] for one in completed}) == function.count


def test_what_happens_during_an_invocation_is_told_in_its_next_checkpoint(
    served: Served, function: RawFunction
) -> None:
    """[S31]"""
    arn = served.start_execution(function)
    incoming = function.next()
    (opened, *_) = incoming.changed(callback("c"), wait("w", 5), retry("r", 5))
    served.client.send_durable_execution_callback_success(
        CallbackId=opened["CallbackDetails"]["CallbackId"], Result=b"yes"
    )
    served.advance(5)
    told = {one["Id"]: one["Status"] for one in incoming.changed()}
    assert told == {"c": "SUCCEEDED", "w": "SUCCEEDED", "r": "READY"}
    assert incoming.changed() == []
    incoming.succeed()
    served.until_ended(arn)
    assert function.count == 1


def test_what_an_invocation_has_not_seen_leads_to_exactly_one_more(served: Served, function: RawFunction) -> None:
    """[S31]"""
    arn = served.start_execution(function)
    incoming = function.next()
    (opened, *_) = incoming.changed(callback("c"), wait("w", 5), wait("later", 60))
    served.client.send_durable_execution_callback_success(CallbackId=opened["CallbackDetails"]["CallbackId"])
    served.advance(5)
    served.until_shown(arn, "WaitSucceeded")
    assert function.count == 1
    incoming.suspend()
    again = function.next()
    assert sorted(again.event["UpdatedOperationIds"]) == ["c", "w"]
    again.suspend()
    served.until_shown(arn, "InvocationCompleted", 2)
    assert function.count == 2
    served.advance(55)
    last = function.next()
    assert last.event["UpdatedOperationIds"] == ["later"]
    last.succeed()
    served.until_ended(arn)
    assert function.count == 3


def test_a_result_of_seven_mebibytes_comes_by_a_checkpoint(served: Served, function: RawFunction) -> None:
    """[S32]"""
    arn = served.start_execution(function, DurableExecutionName="large")
    incoming = function.next()
    result = json.dumps("é" + "x" * (7 * MIB), ensure_ascii=False)
    answer = incoming.checkpoint(
        step("1", "SUCCEED"), update("execution-result-1764547200123", "EXECUTION", "SUCCEED", Payload=result)
    )
    assert "CheckpointToken" not in answer
    incoming.answer({"Status": "SUCCEEDED", "Result": ""})
    assert served.until_over(arn)[-2:] == ["ExecutionSucceeded", "InvocationCompleted"]
    found = served.get(arn)
    assert (found["Status"], found["Result"]) == ("SUCCEEDED", result)
    (succeeded,) = served.events(arn, "ExecutionSucceeded")
    assert (succeeded["Id"], succeeded["Name"]) == (arn.rpartition("/")[2], "large")
    assert succeeded["ExecutionSucceededDetails"]["Result"]["Payload"] == result
    assert served.shown(arn)[-2:] == ["ExecutionSucceeded", "InvocationCompleted"]
    assert (
        served.invoke(FunctionName=function.qualified, DurableExecutionName="large", Payload="null")["Payload"]
        == result
    )
