"""What is stored of an execution is enough for a replay: from the wire, from files, from a service."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from perdure import DurableContext, Duration, durable_execution
from perdure.model.error import InvalidParameterValue
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import Callback, ChainedInvoke, Operation, OperationStatus
from perdure.service.service import Service
from perdure.testing.histories import (
    facts_of,
    find_histories,
    fold_operations,
    history_from,
    history_of,
    load_history,
    read_history,
    write_history,
)
from support.local import Local
from testing.stored import moments


def on_the_wire(service: Service, execution_id: str) -> Any:
    """The document of an execution, as it comes out of a file."""
    return json.loads(json.dumps(write_history(history_of(service, execution_id))))


def essentials(operation: Operation) -> Operation:
    """What a replay needs: not what the service alone keeps, nor whether a due step has been told so."""
    if operation.status is OperationStatus.READY:
        operation = replace(operation, status=OperationStatus.PENDING)
    if isinstance(operation, ChainedInvoke):
        nothing = {"target": None, "version": None, "execution_id": None, "input": None, "trace_header": None}
        return replace(operation, is_confirmed=False, **nothing)
    if isinstance(operation, Callback):
        return replace(operation, heartbeat_ms=None)
    if hasattr(operation, "next_attempt_ms"):
        return replace(operation, next_attempt_ms=None)
    return operation


@pytest.mark.parametrize("seed", range(60))
def test_the_operations_of_a_wire_history_are_those_of_the_service(seed: int) -> None:
    for local, execution_id in moments(seed):
        known = local.service.operations(execution_id)
        folded = fold_operations(read_history(on_the_wire(local.service, execution_id)).events)
        assert list(map(essentials, folded)) == list(map(essentials, known))


@durable_execution
def order(event: Any, context: DurableContext) -> str:
    context.step(lambda _: "reserved", name="reserve")
    context.wait(Duration.from_days(1), name="cool-down")
    return f"done with {event}"


@durable_execution
def large(event: Any, context: DurableContext) -> int:
    def body(child: DurableContext) -> str:
        text: str = child.step(lambda _: "x" * 100_000, name="text")
        return text * 3

    made: str = context.run_in_child_context(body, name="triple")
    return len(made)


def ended(handler: Callable[..., Any]) -> tuple[Local, str]:
    local = Local(handler)
    execution_id = local.start(7)
    local.go_on(execution_id)
    return local, execution_id


def test_a_result_that_a_replay_makes_again_is_known_as_such_even_from_a_history_of_aws() -> None:
    local, execution_id = ended(large)
    document = on_the_wire(local.service, execution_id)
    for event in document["Events"]:
        event.get("ContextSucceededDetails", {}).pop("Perdure", None)
    (context, _) = fold_operations(read_history(document).events)
    assert getattr(context, "replay_children", None) is True


def test_the_facts_of_a_history_say_what_each_invocation_came_to() -> None:
    local, execution_id = ended(order)
    facts = facts_of(history_of(local.service, execution_id))
    assert (facts.function, facts.status, facts.result) == (
        "test_histories-order",
        ExecutionStatus.SUCCEEDED,
        '"done with 7"',
    )
    assert [operation.name for operation in facts.operations] == ["reserve", "cool-down"]
    said = [(each.number, each.status, each.replayed_operations, each.new_operations) for each in facts.invocations]
    assert said == [(1, "PENDING", 0, 2), (2, "SUCCEEDED", 2, 0)]


def test_an_execution_that_ends_while_it_is_read_has_ended() -> None:
    local = Local(order)
    execution_id = local.start(7)
    local.go_on(execution_id, until_s=0)

    def events() -> list[Any]:
        local.go_on(execution_id)
        return list(local.service.all_events(execution_id))

    history = history_from(lambda: local.service.get(execution_id), events)
    assert (history.view.status, history.view.result) == (ExecutionStatus.SUCCEEDED, '"done with 7"')


def test_what_the_aws_command_line_prints_is_understood(tmp_path: Path) -> None:
    local, execution_id = ended(order)
    whole = on_the_wire(local.service, execution_id)
    merged = {**whole["Execution"], "Events": whole["Events"]}
    alone = {"Events": whole["Events"][::-1]}
    for document in (whole, merged, alone, alone["Events"]):
        history = read_history(document)
        assert history.is_whole
        assert [shown.event_id for shown in history.events] == list(range(1, len(history.events) + 1))
        assert (history.view.status, history.view.input) == (ExecutionStatus.SUCCEEDED, "7")
        assert history.view.result == '"done with 7"'


def test_a_file_is_read_and_a_folder_is_searched(tmp_path: Path) -> None:
    local, execution_id = ended(order)
    (tmp_path / "deep").mkdir()
    file = tmp_path / "deep" / "one.history.json"
    file.write_text(json.dumps(on_the_wire(local.service, execution_id)))
    (tmp_path / "package.json").write_text("{}")
    assert find_histories(tmp_path) == [file]
    assert find_histories(file) == [file]
    assert load_history(file).label == f"test_histories-order/{execution_id}"


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({}, "a list of Events"),
        ({"Events": []}, "does not begin with ExecutionStarted"),
        ({"Events": [{"EventType": "Dream", "EventId": 1}]}, "does not begin with ExecutionStarted"),
    ],
)
def test_what_is_no_history_is_refused_in_words(document: Any, complaint: str) -> None:
    with pytest.raises(InvalidParameterValue, match=complaint):
        read_history(document)


def test_a_page_in_the_middle_of_a_history_is_refused() -> None:
    local, execution_id = ended(order)
    document = on_the_wire(local.service, execution_id)
    document["Events"] = [event for event in document["Events"] if event["EventType"] != "WaitStarted"]
    with pytest.raises(InvalidParameterValue, match="whose start is missing"):
        fold_operations(read_history(document).events)


def test_a_history_without_its_data_is_known_as_such() -> None:
    local, execution_id = ended(order)
    document = on_the_wire(local.service, execution_id)
    for event in document["Events"]:
        details = event[f"{event['EventType']}Details"]
        if "Result" in details:
            details["Result"] = {"Truncated": True}
    assert not read_history(document).is_whole
