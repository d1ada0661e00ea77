"""What is found in a result, and what is said when it is not."""

from datetime import timedelta

import pytest

from perdure import BatchResult, DurableContext, durable_execution
from perdure.lambda_service import InvocationStatus, OperationStatus, OperationType
from perdure.testing import (
    AmbiguousOperation,
    DurableFunctionsTestError,
    DurableFunctionTestResult,
    LocalRunner,
    OperationNotFound,
    Result,
    StepOperation,
    WaitOperation,
    WrongOperationType,
)
from support.kit import every, run, shop


@pytest.fixture(scope="module")
def result() -> Result:
    return run(shop, {"order": 7})


# --- the whole ---------------------------------------------------------------------------------------------------


def test_a_result_says_how_it_ended_and_what_it_returned(result: Result) -> None:
    assert result.status is InvocationStatus.SUCCEEDED
    assert result.execution_status == "SUCCEEDED"
    assert result.result == result.value == {"state": "done", "for": {"order": 7}}
    assert result.raw_result == '{"state": "done", "for": {"order": 7}}'
    assert result.error is None
    assert result.raise_if_failed() is result


def test_times_are_modelled_and_the_wall_s_are_beside_them(result: Result) -> None:
    assert result.duration == timedelta(hours=1, minutes=1, seconds=10)
    assert timedelta(0) < result.wall_time < timedelta(seconds=30)
    assert result.op("cool down").duration == timedelta(hours=1)
    assert result.end_timestamp == result.start_timestamp + result.duration


def test_a_result_shows_itself_in_one_line(result: Result) -> None:
    assert repr(result) == f"<Result {result.name} SUCCEEDED (22 operations, 5 invocations, 1 h 1 min)>"
    assert repr(result.op("orders/*[1]/charge[0]")) == "<StepOperation 'orders/map-item-1/charge[0]' SUCCEEDED>"


def test_under_its_official_name_a_result_is_the_recorded_text(result: Result) -> None:
    official = DurableFunctionTestResult(result.facts)
    assert official.result == '{"state": "done", "for": {"order": 7}}'
    assert official.value == result.result
    official.assert_succeeded({"state": "done", "for": {"order": 7}})


def test_what_has_not_ended_is_pending() -> None:
    with LocalRunner(shop) as runner:
        early = runner.run(until="suspended")
    assert (early.status, early.execution_status, early.end_timestamp) == ("PENDING", "RUNNING", None)
    assert early.duration == timedelta(0)


# --- paths -------------------------------------------------------------------------------------------------------


def test_paths_with_index_and_glob_find_operations_in_parallel_map_and_child_contexts(result: Result) -> None:
    """[T14]"""
    assert [each.value for each in result.ops("orders/*/charge[1]")] == ["TEA", "MILK", "JAM"]
    assert result.op("orders/*[2]/reserve").value == "jam"
    assert result.op("tell/*/mail").value == 1
    assert result.op("bill/charge").value == 12
    assert result.op("bill/charge").path == "bill/charge"
    assert len(result.ops("orders/*[2]/**")) == 3
    assert [each.path for each in result.ops("**/mail")] == ["tell/parallel-branch-0/mail"]
    assert result.op("orders").op("map-item-0/charge[0]") is result.op("orders/map-item-0/charge[0]")
    assert result.op("(Wait)").duration == timedelta(minutes=1)


def test_the_order_is_that_of_the_code_whatever_the_threads_do(result: Result) -> None:
    assert [each.path for each in result.all_operations] == [
        "validate",
        "orders",
        *(
            f"orders/map-item-{item}{within}"
            for item in range(3)
            for within in ("", "/reserve", "/charge[0]", "/charge[1]")
        ),
        "cool down",
        "(Wait)",
        "tell",
        "tell/parallel-branch-0",
        "tell/parallel-branch-0/mail",
        "tell/parallel-branch-1",
        "bill",
        "bill/charge",
    ]


def test_branches_that_start_in_another_order_are_shown_in_that_of_the_code() -> None:
    @durable_execution
    def handler(_event: object, context: DurableContext) -> None:
        late = context.run_in_child_context

        def first(inner: DurableContext) -> None:
            inner.wait(5, name="first waits")
            inner.step(lambda _: 1, name="first")

        context.parallel([first, lambda inner: inner.step(lambda _: 2, name="second")], name="both")
        late(lambda _: None, name="late")

    result = run(handler)
    assert [each.name for each in result.op("both").children] == ["parallel-branch-0", "parallel-branch-1"]
    result.assert_operations(
        ["both", ["parallel-branch-0", ["first waits", "first"], "parallel-branch-1", ["second"]], "late"]
    )


def test_a_path_that_means_several_is_refused_with_all_of_them(result: Result) -> None:
    with pytest.raises(AmbiguousOperation, match=r"3 operations are at 'orders/\*/reserve': orders/map-item-0/reserve"):
        result.op("orders/*/reserve")


def test_every_operation_knows_its_neighbours(result: Result) -> None:
    charge = result.op("orders/*[1]/charge[0]")
    assert charge.parent is result.op("orders/*[1]")
    assert charge.parent.parent is result.op("orders")
    assert result.op("orders").parent is None
    assert charge in charge.parent.children
    assert charge.depth == 2


# --- accessors ---------------------------------------------------------------------------------------------------


def test_an_accessor_refuses_an_operation_of_another_type(result: Result) -> None:
    """[T13]"""
    with pytest.raises(TypeError, match=r"'validate' is a step, not a wait: use get_step\('validate'\)"):
        result.get_wait("validate")
    with pytest.raises(WrongOperationType, match=r"'orders' is a context, not a step: use get_context"):
        result.get_step("orders")
    assert issubclass(WrongOperationType, DurableFunctionsTestError)


def test_an_unknown_name_is_refused_with_near_ones(result: Result) -> None:
    """[T13]"""
    with pytest.raises(
        OperationNotFound, match=r"Operation with name 'valdate' not found; did you mean 'validate'\? There are: "
    ):
        result.get_step("valdate")
    with pytest.raises(
        OperationNotFound, match="Operation with name 'mail' not found; that name is at tell/parallel-branch-0/mail"
    ):
        result.get_step("mail")
    with pytest.raises(
        OperationNotFound, match="Operation at 'mail' not found; that name is at tell/parallel-branch-0/mail"
    ):
        result.op("mail")
    with pytest.raises(LookupError, match="did you mean 'orders'"):
        result.op("order")


def test_the_official_accessors_give_the_official_types(result: Result) -> None:
    assert isinstance(result.get_step("validate"), StepOperation)
    assert isinstance(result.get_wait("cool down"), WaitOperation)
    assert result.get_context("bill").get_step("charge").attempt == 3
    assert {each.operation_type for each in result.get_all_operations()} == {
        OperationType.STEP,
        OperationType.WAIT,
        OperationType.CONTEXT,
    }
    assert len(result.get_all_operations()) == len(result.all_operations) == 22


def test_operations_are_found_by_what_they_are(result: Result) -> None:
    assert len(result.steps) == 12
    assert [wait.name for wait in result.waits] == ["cool down", None]
    assert result.callbacks == []
    assert len(result.by_status("SUCCEEDED")) == 22
    assert result.by_status(OperationStatus.FAILED) == []
    assert len(result.find(name="charge")) == 7
    assert len(result.find(name="charge", path="orders/**")) == 6
    assert len(result.find(type="CONTEXT", sub_type={"Map", "Parallel"})) == 2
    assert [each.path for each in result.find(where=lambda each: len(each.attempts) > 1)] == ["bill/charge"]
    with pytest.raises(TypeError, match="find\\(\\) has no filter 'nam'; there are: name, type"):
        result.find(nam="charge")


# --- what an operation says --------------------------------------------------------------------------------------


def test_the_attempts_of_a_step_have_their_errors_and_delays(result: Result) -> None:
    first, second, third = result.op("bill/charge").attempts
    assert (first.number, first.status, str(first.error)) == (1, "FAILED", "ConnectionError: the bank is away")
    assert first.next_delay == second.next_delay == timedelta(seconds=5)
    assert second.start == first.start + timedelta(seconds=5)
    assert (third.status, third.error, third.next_delay, third.duration) == ("SUCCEEDED", None, None, timedelta(0))
    assert len(result.op("validate").attempts) == 1
    assert result.op("cool down").attempts == []


def test_an_operation_has_its_own_events_with_typed_details(result: Result) -> None:
    started, failed, *_ = result.op("bill/charge").events
    assert (started.event_type, started.name) == ("StepStarted", "charge")
    assert failed.step_failed_details is not None
    assert failed.step_failed_details.retry_details is not None
    assert failed.details.retry_details.next_attempt_delay_seconds == 5
    assert [each.event_type for each in result.op("cool down").events] == ["WaitStarted", "WaitSucceeded"]
    assert [each.event_id for each in result.history] == list(range(1, len(result.history) + 1))
    assert result.history[0].details.input.payload == '{"order": 7}'
    assert repr(started).startswith("<Event ")


def test_the_value_of_a_map_is_its_batch_result(result: Result) -> None:
    value = result.op("orders").value
    assert isinstance(value, BatchResult)
    assert value.get_results() == ["tea", "milk", "jam"]


def test_invocations_say_what_each_did(result: Result) -> None:
    assert [each.status for each in result.invocations] == ["PENDING"] * 4 + ["SUCCEEDED"]
    assert [each.new_operations for each in result.invocations] == [15, 1, 6, 0, 0]
    assert result.invocations[1].start - result.invocations[0].start == timedelta(hours=1)


def test_two_operations_are_equal_if_their_official_fields_are(result: Result) -> None:
    other = Result(result.facts)
    assert other.operations == result.operations
    assert other.op("validate") is not result.op("validate")
    assert result.op("validate") == StepOperation(
        operation_id=result.op("validate").operation_id,
        operation_type=OperationType.STEP,
        status=OperationStatus.SUCCEEDED,
        name="validate",
        sub_type="Step",
        start_timestamp=result.start_timestamp,
        end_timestamp=result.start_timestamp,
        child_operations=[],
        result="true",
        attempt=1,
    )


def test_an_operation_that_a_test_makes_by_hand_has_its_fields_and_no_past() -> None:
    made = WaitOperation("1", OperationType.WAIT, OperationStatus.STARTED)
    assert (made.path, made.children, made.parent, made.value, made.attempts) == ("(Wait)", [], None, None, [])
    assert (made.events, made.duration, made.metering.operations) == ([], None, 0)


def test_a_running_attempt_is_there_without_an_end() -> None:
    @durable_execution
    def handler(_event: object, context: DurableContext) -> None:
        def fails(_: object) -> None:
            raise ValueError("once")

        context.step(fails, name="fails", config=every(10, 2))

    with LocalRunner(handler) as runner:
        early = runner.run(until="suspended")
    (only,) = early.op("fails").attempts
    assert (only.status, only.next_delay) == ("FAILED", timedelta(seconds=10))
    assert "attempt 1 failed: ValueError: once; next at" in early.tree()


def test_a_handle_shows_the_same_while_the_execution_goes_on() -> None:
    with LocalRunner(shop) as runner:
        execution = runner.start()
        runner.go_on(execution, until="operation:cool down")
        assert [each.path for each in execution.operations()][:3] == ["validate", "orders", "cool down"]
        assert execution.history()[-1].event_type in {"WaitStarted", "InvocationCompleted"}
