"""The service's models against those of the official SDK: the same names, the same objects on the wire."""

import dataclasses
import inspect
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import pytest
from aws_durable_execution_sdk_python import execution as official_execution, lambda_service as official
from aws_durable_execution_sdk_python.identifier import OperationIdentifier as OfficialIdentifier

from perdure import execution, lambda_service as ours
from perdure.identifier import OperationIdentifier, OperationIdNamespace
from perdure.lambda_service import OperationType

AT = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
SHAPES = [
    name
    for name, value in vars(official).items()
    if inspect.isclass(value) and dataclasses.is_dataclass(value) and value.__module__ == official.__name__
]
ENUMS = [
    name
    for name, value in vars(official).items()
    if inspect.isclass(value) and issubclass(value, Enum) and value.__module__ == official.__name__
]


@pytest.mark.parametrize("name", ENUMS)
def test_enumerations_have_the_official_words(name: str) -> None:
    theirs, mine = getattr(official, name), getattr(ours, name)
    assert {member.name: member.value for member in theirs} == {member.name: member.value for member in mine}


@pytest.mark.parametrize("name", SHAPES)
def test_models_have_the_official_fields_in_their_order(name: str) -> None:
    theirs, mine = (dataclasses.fields(getattr(module, name)) for module in (official, ours))
    assert [field.name for field in mine] == [field.name for field in theirs]
    assert [field.kw_only for field in mine] == [field.kw_only for field in theirs]
    for our_field, their_field in zip(mine, theirs, strict=True):
        if their_field.default is not dataclasses.MISSING:
            assert our_field.default == their_field.default


@pytest.mark.parametrize(
    "name", ["InitialExecutionState", "DurableExecutionInvocationInput", "DurableExecutionInvocationInputWithClient"]
)
def test_events_have_the_official_parameters(name: str) -> None:
    theirs, mine = (inspect.signature(getattr(module, name)) for module in (official_execution, execution))
    assert {key: value.kind for key, value in mine.parameters.items()} == {
        key: value.kind for key, value in theirs.parameters.items()
    }


@pytest.mark.parametrize("name", [name for name in dir(official.OperationUpdate) if name.startswith("create_")])
def test_updates_are_made_as_by_the_official_ones(name: str) -> None:
    """But the id of an execution's end, which is the same each time here."""
    theirs, mine = getattr(official.OperationUpdate, name), getattr(ours.OperationUpdate, name)
    parameters = inspect.signature(theirs).parameters
    assert {key: value.kind for key, value in inspect.signature(mine).parameters.items()} == {
        key: value.kind for key, value in parameters.items()
    }

    def arguments(module: Any, identifier: Any) -> dict[str, Any]:
        given = {
            "identifier": identifier,
            "payload": "p",
            "error": module.ErrorObject("m", "t", "d", ["f"]),
            "next_attempt_delay_seconds": 7,
            "callback_options": module.CallbackOptions(60, 0),
            "context_options": module.ContextOptions(replay_children=True),
            "chained_invoke_options": module.ChainedInvokeOptions("fn", "tenant", "Root=1"),
            "wait_options": module.WaitOptions(5),
        }
        return {key: given[key] for key in parameters}

    kind: Any = official.OperationType.STEP
    made = theirs(**arguments(official, OfficialIdentifier("i", "Step", "p", "n", operation_type=kind))).to_dict()
    update = mine(**arguments(ours, OperationIdentifier("i", "Step", "p", "n", operation_type=OperationType.STEP)))
    if "execution" in name:
        made["Id"] = "execution-result"
    assert update.to_dict() == made
    assert ours.OperationUpdate.from_dict(made) == update


def full(module: Any) -> Any:
    error = module.ErrorObject("m", "t", "d", ["f"])
    return module.Operation(
        "i",
        module.OperationType.STEP,
        module.OperationStatus.PENDING,
        "p",
        "n",
        AT,
        AT,
        "Step",
        module.ExecutionDetails("{}"),
        module.ContextDetails(True, "r", error),
        module.StepDetails(2, AT, "r", error),
        module.WaitDetails(AT),
        module.CallbackDetails("c", "r", error),
        module.ChainedInvokeDetails("r", error),
    )


def test_operations_are_written_and_read_as_the_official_ones() -> None:
    theirs, mine = full(official), full(ours)
    assert mine.to_dict() == theirs.to_dict()
    assert mine.to_json_dict() == theirs.to_json_dict()
    assert ours.Operation.from_dict(theirs.to_dict()) == ours.Operation.from_json_dict(theirs.to_json_dict()) == mine
    assert mine.to_json_dict()["StepDetails"]["NextAttemptTimestamp"] == 1_769_860_800_250


@pytest.mark.parametrize("at", [AT, datetime(2026, 1, 31), datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), None])  # noqa: DTZ001
def test_timestamps_are_converted_as_by_the_official_ones(at: datetime | None) -> None:
    theirs, mine = official.TimestampConverter, ours.TimestampConverter
    if at is None or at.tzinfo is not None:
        assert mine.to_unix_millis(at) == theirs.to_unix_millis(at)
    else:
        assert mine.to_unix_millis(at) == theirs.to_unix_millis(at.replace(tzinfo=UTC))
    assert mine.from_unix_millis(mine.to_unix_millis(at)) == theirs.from_unix_millis(mine.to_unix_millis(at))


def test_events_and_outputs_are_written_and_read_as_the_official_ones() -> None:
    arn = "arn:aws:lambda:us-east-1:123456789012:function:fn:1/durable-execution/n/i"
    theirs = official_execution.DurableExecutionInvocationInput(
        arn,
        "t",
        official_execution.InitialExecutionState([full(official)], "m"),
        updated_operation_ids=["i"],
    )
    mine = execution.DurableExecutionInvocationInput(
        arn, "t", execution.InitialExecutionState([full(ours)], "m"), updated_operation_ids=["i"]
    )
    assert mine.to_dict() == theirs.to_dict()
    assert mine.to_json_dict() == theirs.to_json_dict()
    assert execution.DurableExecutionInvocationInput.from_json_dict(dict(theirs.to_json_dict())) == mine
    for made in ("create_pending", "create_succeeded"):
        given = ["{}"] if made == "create_succeeded" else []
        output = getattr(ours.DurableExecutionInvocationOutput, made)(*given)
        assert output.to_dict() == getattr(official.DurableExecutionInvocationOutput, made)(*given).to_dict()
        assert ours.DurableExecutionInvocationOutput.from_dict(output.to_dict()) == output
    assert ours.CheckpointOutput.from_dict({}).checkpoint_token is None
    assert ours.StateOutput.from_dict({}).operations == []


def test_errors_are_made_and_raised_as_the_official_ones() -> None:
    """But for the stack trace, which is recorded here and not there."""
    try:
        raise LookupError("none")
    except LookupError as error:
        theirs, mine = official.ErrorObject.from_exception(error), ours.ErrorObject.from_exception(error)
    assert (mine.message, mine.type, mine.data) == (theirs.message, theirs.type, theirs.data)
    assert mine.stack_trace is not None and "LookupError" in mine.stack_trace[-1]
    assert ours.ErrorObject.from_message("m") == ours.ErrorObject("m", None, None, None)
    assert ours.ErrorObject.from_dict({}).to_dict() == {}
    from perdure import StepError

    with pytest.raises(StepError) as raised:
        mine.raise_as_operation_error(StepError)
    assert (raised.value.message, raised.value.error_type) == ("none", "LookupError")
    assert type(raised.value.__cause__).__name__ == "DurableOperationError"
    retried = ours.DurableExecutionInvocationOutput.create_retry(mine)
    assert (retried.status, retried.error) == (ours.InvocationStatus.RETRY, mine)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({}, "Id is missing"),
        ({"Id": "i", "Type": "STEP"}, "Status is missing"),
        ({"Id": "i", "Type": "DREAM", "Status": "STARTED"}, "DREAM"),
        ({"Id": "i", "Type": "CALLBACK", "Status": "STARTED", "CallbackDetails": {}}, "CallbackId is missing"),
    ],
)
def test_an_operation_that_can_t_be_names_the_member(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        ours.Operation.from_dict(given)


def test_ids_are_those_of_the_official_namespace() -> None:
    """[16]"""
    root = OperationIdNamespace().create_id_for_step(1)
    assert root == "1ced8f5be2db23a6513eba4d819c73806424748a7bc6fa0d792cc1c7d1775a97"
    assert OperationIdNamespace(root).create_id_for_step(1).startswith("974bfc6321e2")
    identifier = OperationIdentifier(root, "Step", operation_type=OperationType.STEP)
    assert identifier.type is OperationType.STEP
