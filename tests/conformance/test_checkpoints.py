"""CheckpointDurableExecution and GetDurableExecutionState: tokens, batches, and each kind of operation."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from perdure.engine.terms import Limits, Terms
from support.raw import Incoming, Json, RawFunction, callback, context, invoke, retry, step, update, wait
from support.served import Served, serving

STALE = "Invalid checkpoint token"
MIB = 1024 * 1024
ERROR = {"ErrorType": "ValueError", "ErrorMessage": "no"}


@pytest.fixture
def incoming(served: Served, function: RawFunction) -> Iterator[Incoming]:
    """The first invocation of an execution, in flight while the test runs."""
    arn = served.start_execution(function, {"n": 1})
    incoming = function.next()
    yield incoming
    served.client.stop_durable_execution(DurableExecutionArn=arn)
    incoming.suspend()


def refused(incoming: Incoming, *updates: Json, **more: Any) -> str:
    """The text with which a batch is refused; the token is good as before."""
    before = incoming.token
    with pytest.raises(incoming.client.exceptions.InvalidParameterValueException) as raised:
        incoming.checkpoint(*updates, **more)
    incoming.token = before
    answer: Any = raised.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    return str(answer["Error"]["Message"])


def state(incoming: Incoming, **more: Any) -> list[Json]:
    """The operations of GetDurableExecutionState, after EXECUTION."""
    given = {"CheckpointToken": incoming.token, "MaxItems": 1000, **more}
    answer = incoming.client.get_durable_execution_state(DurableExecutionArn=incoming.arn, **given)
    return list(answer["Operations"][1:])


def ids(operations: list[Json]) -> list[str]:
    return [str(operation["Id"]) for operation in operations]


# --- tokens ------------------------------------------------------------------------------------------------------


def test_a_token_that_is_spent_foreign_or_superseded_is_stale(served: Served, function: RawFunction) -> None:
    """[S33]"""
    arns = [served.start_execution(function, n) for n in range(2)]
    one, other = (function.next() for _ in arns)
    spent = one.token
    one.checkpoint(step("1", "START"))
    assert one.token != spent
    assert re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", str(one.token))
    assert len(str(one.token)) <= 2048
    for stale in (spent, other.token, "AAAA", "dG9rZW4=", "A" * 52, flipped(str(one.token))):
        assert refused(one, CheckpointToken=stale) == STALE
        assert refused(one, step("2", "START"), CheckpointToken=stale) == STALE
    superseded = one.token
    one.raise_error()
    served.until_shown(one.arn, "InvocationCompleted")
    assert refused(one, CheckpointToken=superseded) == STALE
    served.advance(2)
    again = function.next()
    assert again.arn == one.arn
    assert refused(one, CheckpointToken=superseded) == STALE
    assert ids(state(again)) == ["1"]
    again.succeed()
    served.until_ended(again.arn)
    assert refused(again) == STALE
    other.succeed()


def flipped(token: str) -> str:
    """The token with one of its last bits another."""
    at = -3
    return token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]


def test_of_two_checkpoints_at_once_with_one_token_one_is_taken(served: Served, incoming: Incoming) -> None:
    """[S33]"""

    def one(n: int) -> str:
        try:
            served.client.checkpoint_durable_execution(
                DurableExecutionArn=incoming.arn,
                CheckpointToken=incoming.token,
                Updates=[step(f"s{n}", "SUCCEED")],
            )
        except served.client.exceptions.InvalidParameterValueException as error:
            return str(error.response["Error"]["Message"])
        return "taken"

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(8)))
    assert sorted(answers) == [STALE] * 7 + ["taken"]
    assert len(served.events(incoming.arn, "StepSucceeded")) == 1


def test_a_poll_gives_a_new_token_and_what_has_happened(served: Served, incoming: Incoming) -> None:
    """[S34]"""
    incoming.checkpoint(wait("w", 5), retry("r", 5), wait("late", 60))
    before = incoming.token
    assert incoming.changed() == []
    assert incoming.token not in (None, before)
    served.advance(5)
    assert [(one["Id"], one["Status"]) for one in incoming.changed()] == [("w", "SUCCEEDED"), ("r", "READY")]
    path = f"/2025-12-01/durable-executions/{incoming.arn.replace('/', '%2F')}/checkpoint"
    answer = served.raw("POST", path, json.dumps({"CheckpointToken": incoming.token}).encode()).json
    assert answer["NewExecutionState"] == {"Operations": []}
    assert "NextMarker" not in answer["NewExecutionState"]
    incoming.token = answer["CheckpointToken"]


def test_a_repeated_checkpoint_is_answered_as_before_and_adds_nothing(served: Served, incoming: Incoming) -> None:
    """[S35]"""
    token, given = incoming.token, {"ClientToken": "once"}
    updates = [step("1", "START"), step("1", "SUCCEED", Payload="1"), callback("c"), wait("w", 5)]
    first = incoming.checkpoint(*updates, **given)
    shown = served.shown(incoming.arn)
    for seconds in (0, 899 - 5):
        served.advance(seconds)
        again = incoming.checkpoint(*updates, **given, CheckpointToken=token)
        assert again["CheckpointToken"] == first["CheckpointToken"]
        assert again["NewExecutionState"] == first["NewExecutionState"]
        assert [kind for kind in served.shown(incoming.arn) if kind != "WaitSucceeded"] == shown
    assert "other updates" in refused(incoming, *updates[:2], **given, CheckpointToken=token)
    assert refused(incoming, *updates, CheckpointToken=token, ClientToken="other") == STALE
    served.advance(10)
    assert refused(incoming, *updates, **given, CheckpointToken=token) == STALE
    assert ids(incoming.changed(step("2", "START"), ClientToken="twice")) == ["w", "2"]


def test_a_checkpoint_repeated_by_a_superseded_invocation_gives_it_no_right(
    served: Served, function: RawFunction
) -> None:
    """[S35] [S33]"""
    served.start_execution(function)
    old = function.next()
    given = {"CheckpointToken": old.token, "ClientToken": "once"}
    first = old.checkpoint(step("1", "START"), **given)
    old.raise_error()
    served.until_shown(old.arn, "InvocationCompleted")
    assert old.checkpoint(step("1", "START"), **given)["CheckpointToken"] == first["CheckpointToken"]
    served.advance(2)
    new = function.next()
    again = old.checkpoint(step("1", "START"), **given)
    assert again["NewExecutionState"] == first["NewExecutionState"]
    assert again["CheckpointToken"] == first["CheckpointToken"]
    assert refused(old, step("1", "SUCCEED"), CheckpointToken=again["CheckpointToken"]) == STALE
    assert ids(new.changed(step("1", "SUCCEED"))) == ["1"]
    new.succeed()


def test_one_update_that_can_t_be_refuses_all_and_leaves_all_as_it_was(served: Served, incoming: Incoming) -> None:
    """[S36]"""
    incoming.checkpoint(step("old", "START"))
    before, shown = state(incoming), served.shown(incoming.arn)
    for bad in (
        step("old", "START"),
        wait("w", 31_622_401),
        update("x", "STEP", "CANCEL"),
        step("y", "SUCCEED", Payload="x" * (MIB + 1)),
        step("z", "RETRY"),
        step("no id!", "START"),
    ):
        assert refused(incoming, step("new", "SUCCEED"), callback("c"), bad)
        assert refused(incoming, bad, step("new", "SUCCEED"), callback("c"))
    assert state(incoming) == before
    assert served.shown(incoming.arn) == shown
    assert ids(incoming.changed(step("new", "SUCCEED"))) == ["new"]


# --- steps -------------------------------------------------------------------------------------------------------


def test_a_step_may_start_and_succeed_in_one_batch(served: Served, incoming: Incoming) -> None:
    """[S37]"""
    named = {"Name": "charge", "SubType": "Step"}
    (one,) = incoming.changed(step("1", "START", **named), step("1", "SUCCEED", Payload='"ok"', **named))
    assert (one["Status"], one["StepDetails"]) == ("SUCCEEDED", {"Attempt": 1, "Result": '"ok"'})
    assert (one["Name"], one["SubType"], one["Type"]) == ("charge", "Step", "STEP")
    started, succeeded = served.history(incoming.arn)[1:]
    assert (started["EventType"], succeeded["EventType"]) == ("StepStarted", "StepSucceeded")
    assert started["StepStartedDetails"] == {}
    for event in (started, succeeded):
        assert (event["Id"], event["Name"], event["SubType"]) == ("1", "charge", "Step")
    boxed = incoming.changed(context("box", "START"), context("box", "SUCCEED", Payload="2"))
    assert [one["Status"] for one in boxed] == ["SUCCEEDED"]
    again = [step("2", "START"), step("2", "SUCCEED"), step("2", "SUCCEED")]
    assert refused(incoming, *again)
    assert refused(incoming, step("2", "SUCCEED"), step("2", "START"))


def test_a_step_may_succeed_without_a_start(served: Served, incoming: Incoming) -> None:
    """[S38]"""
    (one,) = incoming.changed(step("1", "SUCCEED", Payload="1"))
    assert (one["Status"], one["StepDetails"]) == ("SUCCEEDED", {"Attempt": 1, "Result": "1"})
    assert one["StartTimestamp"] == one["EndTimestamp"]
    (failed,) = incoming.changed(step("2", "FAIL", Error=ERROR))
    assert (failed["Status"], failed["StepDetails"]) == ("FAILED", {"Attempt": 1, "Error": ERROR})
    (nothing,) = incoming.changed(step("3", "SUCCEED"))
    assert nothing["StepDetails"] == {"Attempt": 1}
    assert served.shown(incoming.arn)[1:] == ["StepSucceeded", "StepFailed", "StepSucceeded"]


def test_a_retry_waits_until_it_is_due_and_is_ready_then(served: Served, incoming: Incoming) -> None:
    """[S39]"""
    (started,) = incoming.changed(step("1", "START"))
    assert (started["Status"], started["StepDetails"]) == ("STARTED", {"Attempt": 0})
    for attempt in (1, 2):
        at = served.manual.now
        (parked,) = incoming.changed(retry("1", 7))
        assert (parked["Status"], parked["StepDetails"]["Attempt"]) == ("PENDING", attempt)
        assert parked["StepDetails"]["NextAttemptTimestamp"].timestamp() == at / 1000 + 7
        assert parked["StepDetails"]["Error"]["ErrorType"] == "ValueError"
        assert refused(incoming, step("1", "START")) == "Invalid current STEP state to start."
        assert refused(incoming, step("1", "SUCCEED")) == "Invalid current STEP state to close."
        assert refused(incoming, retry("1")) == "Invalid current STEP state to re-attempt."
        served.advance(6.999)
        assert incoming.changed() == []
        served.advance(0.001)
        (ready,) = incoming.changed()
        assert (ready["Status"], ready["StepDetails"]["Attempt"]) == ("READY", attempt)
        assert "NextAttemptTimestamp" not in ready["StepDetails"]
        (again,) = incoming.changed(step("1", "START"))
        assert (again["Status"], again["StepDetails"]["Attempt"]) == ("STARTED", attempt)
    (done,) = incoming.changed(step("1", "SUCCEED", Payload="1"))
    assert (done["Status"], done["StepDetails"]) == ("SUCCEEDED", {"Attempt": 3, "Result": "1"})


def test_the_state_of_a_condition_is_kept_over_the_start_of_its_next_poll(served: Served, incoming: Incoming) -> None:
    """[S39]"""
    named = {"SubType": "WaitForCondition"}
    (parked,) = incoming.changed(step("1", "START", **named), retry("1", 1, Payload="41", **named))
    assert (parked["Status"], parked["StepDetails"]["Result"]) == ("PENDING", "41")
    served.advance(1)
    (again,) = incoming.changed(step("1", "START", **named))
    assert (again["Status"], again["StepDetails"]) == ("STARTED", {"Attempt": 1, "Result": "41"})


def test_an_operation_keeps_its_type_name_subtype_and_parent(incoming: Incoming) -> None:
    """[S40]"""
    incoming.checkpoint(context("box", "START"), step("1", "START", Name="a", SubType="Step", ParentId="box"))
    same = {"Name": "a", "SubType": "Step", "ParentId": "box"}
    for other, message in (
        (context("1", "SUCCEED", **same), "Inconsistent operation type."),
        (step("1", "SUCCEED", **{**same, "Name": "b"}), "Inconsistent operation name."),
        (step("1", "SUCCEED", **{**same, "SubType": "Other"}), "Inconsistent operation subtype."),
        (step("1", "SUCCEED", Name="a", SubType="Step"), "Inconsistent parent operation id."),
    ):
        assert refused(incoming, other) == message
    assert incoming.changed(step("1", "SUCCEED", **same))[0]["Status"] == "SUCCEEDED"


def test_a_parent_is_a_context_that_has_started(incoming: Incoming) -> None:
    """[S41]"""
    unknown = "Invalid parent operation id."
    assert refused(incoming, step("1", "START", ParentId="box")) == unknown
    assert refused(incoming, step("1", "START", ParentId="box"), context("box", "START")) == unknown
    assert refused(incoming, step("s", "START"), step("1", "START", ParentId="s")) == unknown
    made = incoming.changed(
        context("box", "START"), context("inner", "START", ParentId="box"), step("1", "SUCCEED", ParentId="inner")
    )
    assert [(one["Id"], one.get("ParentId")) for one in made] == [("box", None), ("inner", "box"), ("1", "inner")]
    closed = incoming.changed(context("inner", "SUCCEED", ParentId="box"), context("box", "SUCCEED"))
    assert [one["Status"] for one in closed] == ["SUCCEEDED", "SUCCEEDED"]


def test_the_execution_ends_once_and_last(served: Served, function: RawFunction) -> None:
    """[S42]"""
    for action, more in (("SUCCEED", {"Payload": '"done"'}), ("FAIL", {"Error": ERROR})):
        arn = served.start_execution(function)
        incoming = function.next()
        end = update("execution-result-1", "EXECUTION", action, **more)
        twice = refused(incoming, end, {**end, "Id": "execution-result-2"})
        assert twice == "Cannot checkpoint multiple EXECUTION updates."
        assert refused(incoming, end, step("1", "SUCCEED")) == "EXECUTION checkpoint must be the last update."
        assert served.shown(arn) == ["ExecutionStarted"]
        answer = incoming.checkpoint(step("1", "SUCCEED"), end)
        assert "CheckpointToken" not in answer
        found = served.get(arn)
        if action == "SUCCEED":
            assert (found["Status"], found["Result"]) == ("SUCCEEDED", '"done"')
        else:
            assert (found["Status"], found["Error"]) == ("FAILED", ERROR)
        incoming.answer({"Status": "SUCCEEDED", "Result": ""})
        assert served.until_over(arn)[-2] == {"SUCCEED": "ExecutionSucceeded", "FAIL": "ExecutionFailed"}[action]


# --- the others --------------------------------------------------------------------------------------------------


def test_a_callback_is_given_its_id_when_it_starts(incoming: Incoming) -> None:
    """[S43]"""
    opened = incoming.changed(callback("a", 60, 30, Name="ask"), callback("b"))
    found = [one["CallbackDetails"]["CallbackId"] for one in opened]
    assert len(set(found)) == 2
    for text in found:
        assert re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", text)
        assert 1 <= len(text) <= 1024
    assert [one["Status"] for one in opened] == ["STARTED", "STARTED"]
    assert refused(incoming, callback("a", Name="ask")) == "Cannot start a CALLBACK that already exists."
    assert refused(incoming, update("a", "CALLBACK", "CANCEL", Name="ask"))


def test_a_wait_says_when_it_ends(served: Served, incoming: Incoming) -> None:
    """[S44]"""
    at = served.manual.now
    for operation_id, seconds in (("short", 1), ("long", 31_622_400)):
        (started,) = incoming.changed(wait(operation_id, seconds))
        assert started["Status"] == "STARTED"
        assert started["WaitDetails"]["ScheduledEndTimestamp"].timestamp() == at / 1000 + seconds
    assert refused(incoming, wait("long", 5)) == "Cannot start a WAIT that already exists."
    assert refused(incoming, update("w", "WAIT", "START"))
    assert refused(incoming, wait("w", 31_622_401))
    (cancelled,) = incoming.changed(update("long", "WAIT", "CANCEL"))
    assert cancelled["Status"] == "CANCELLED"
    cannot = "Cannot cancel a WAIT that does not exist or has already completed."
    assert refused(incoming, update("long", "WAIT", "CANCEL")) == cannot
    (_started, event, *_) = [e for e in served.history(incoming.arn) if e["EventType"].startswith("Wait")]
    assert event["WaitStartedDetails"]["Duration"] == 31_622_400


def test_a_target_that_can_t_be_invoked_fails_in_the_same_answer(served: Served, incoming: Incoming) -> None:
    """[S45]"""
    durable = served.function().name
    found = incoming.changed(
        invoke("missing", "nobody"),
        invoke("version", f"{durable}:7"),
        invoke("unqualified", durable),
    )
    assert [one["Status"] for one in found] == ["FAILED", "FAILED", "FAILED"]
    kinds = [one["ChainedInvokeDetails"]["Error"]["ErrorType"] for one in found]
    assert kinds == ["ResourceNotFoundException", "ResourceNotFoundException", "InvalidParameterValueException"]
    shown = served.shown(incoming.arn)[1:]
    assert shown == ["ChainedInvokeStarted", "ChainedInvokeFailed"] * 3
    assert "another account" in refused(incoming, invoke("x", "arn:aws:lambda:us-east-1:999999999999:function:f:1"))
    assert "another region" in refused(incoming, invoke("x", "arn:aws:lambda:eu-west-1:000000000000:function:f:1"))
    assert refused(incoming, invoke("x", "no name!"))
    needed = "Update for CHAINED_INVOKE operation requires ChainedInvokeOptions."
    assert refused(incoming, update("x", "CHAINED_INVOKE", "START")) == needed


def test_reading_state_leaves_the_token_as_it_is(served: Served, function: RawFunction) -> None:
    """[S46]"""
    arn = served.start_execution(function)
    incoming = function.next()
    incoming.checkpoint(*(step(f"s{n}", "SUCCEED") for n in range(5)))
    client = served.client
    for _ in range(2):
        assert ids(state(incoming)) == [f"s{n}" for n in range(5)]
    page = client.get_durable_execution_state(DurableExecutionArn=arn, CheckpointToken=incoming.token, MaxItems=2)
    assert (len(page["Operations"]), page["Operations"][0]["Type"]) == (2, "EXECUTION")
    assert ids(state(incoming, Marker=page["NextMarker"])) == ["s2", "s3", "s4"]
    spent = incoming.token
    incoming.checkpoint()
    for stale in (spent, "AAAA"):
        with pytest.raises(client.exceptions.InvalidParameterValueException, match=STALE):
            state(incoming, CheckpointToken=stale)
    good = incoming.token
    incoming.suspend()
    served.until_shown(arn, "InvocationCompleted")
    with pytest.raises(client.exceptions.InvalidParameterValueException, match=STALE):
        state(incoming, CheckpointToken=good)


def test_the_operation_beyond_the_quota_fails_the_execution(tmp_path: Path) -> None:
    """[S47]"""
    with serving(terms=Terms(limits=Limits.aws()), path=tmp_path / "quota.db") as served:
        function = served.function()
        arn = served.start_execution(function)
        incoming = function.next()
        for batch in range(11):
            incoming.checkpoint(*(step(f"s{batch}-{n}", "SUCCEED") for n in range(250)))
        incoming.checkpoint(*(step(f"t{n}", "SUCCEED") for n in range(249)))
        assert incoming.token is not None
        assert served.status(arn) == "RUNNING"
        answer = incoming.checkpoint(step("beyond", "SUCCEED"))
        assert "CheckpointToken" not in answer
        ended = served.get(arn)
        assert ended["Status"] == "FAILED"
        incoming.suspend()
        assert served.until_over(arn)[-2:] == ["ExecutionFailed", "InvocationCompleted"]
        assert ended["Error"]["ErrorType"]
