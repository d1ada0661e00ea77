"""A fork's journal is the past of another one, moved to now."""

import itertools

import pytest

from perdure.engine.fold import fold
from perdure.engine.forking import forked
from perdure.model import event as ev
from perdure.model.error import InvalidParameterValue
from perdure.model.execution import ParentLink
from perdure.model.operation import OperationStatus

OLD, NEW = "0194f7a0-0000-7000-8000-000000000001", "0194f7a0-0000-7000-8000-000000000002"
NOW = 1_000_000

JOURNAL: list[ev.Event] = [
    ev.ExecutionStarted(1_000, OLD, "orders", "3", "order-7", "{}", 60, 14, ParentLink(OLD, "p"), "tenant"),
    ev.InvocationStarted(1_000, 1, "owner"),
    ev.StepStarted(1_100, "a", "first"),
    ev.StepSucceeded(1_200, "a", 1, '"one"'),
    ev.ContextStarted(1_200, "c", "inner"),
    ev.WaitStarted(1_300, "w", 5, 6_300, "pause", None, "c"),
    ev.CallbackStarted(1_300, "k", "old-callback", 0, 0, "ask"),
    ev.InvocationCompleted(1_300, 1_000, 1),
    ev.CallbackSucceeded(4_000, "k", "yes"),
    ev.WaitSucceeded(6_300, "w", 5),
    ev.InvocationStarted(6_300, 2, "owner"),
    ev.StepStarted(6_500, "b", "second", None, "c"),
]


def fork_at(operation_id: str) -> list[ev.Event]:
    numbers = itertools.count(1)
    return forked(
        JOURNAL,
        operation_id,
        execution_id=NEW,
        name="again",
        now_ms=NOW,
        new_callback_id=lambda: f"callback-{next(numbers)}",
    )


def test_what_had_ended_before_the_point_is_kept_as_long_ago_as_it_was() -> None:
    state = fold(fork_at("b"))
    assert {each.id: each.status for each in state.operations.values()} == {
        "a": OperationStatus.SUCCEEDED,
        "c": OperationStatus.STARTED,
        "w": OperationStatus.SUCCEEDED,
        "k": OperationStatus.SUCCEEDED,
    }
    assert state.operations["a"].end_ms == NOW - 5_300
    assert state.operations["w"].end_ms == NOW - 200
    head = state.head
    assert (head.execution_id, head.name, head.parent, head.tenant_id) == (NEW, "again", None, "tenant")
    assert (head.start_ms, head.deadline_ms) == (NOW - 5_500, NOW - 5_500 + 60_000)
    assert (head.invocation_count, head.in_flight, head.can_be_invoked(NOW)) == (0, None, True)
    assert state.timers == []


def test_what_was_under_way_or_waited_is_left_out() -> None:
    state = fold(fork_at("k"))
    assert list(state.operations) == ["a", "c"]


def test_callbacks_have_ids_of_their_own() -> None:
    assert fold(fork_at("b")).callback_ids == {"callback-1": "k"}


def test_the_point_must_be_an_operation() -> None:
    with pytest.raises(InvalidParameterValue, match="no operation 'nowhere' to be forked at"):
        fork_at("nowhere")
