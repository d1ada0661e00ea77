"""Child contexts, maps, parallels and conditions, tested as the official documentation tests them."""

import json
from typing import Any

from aws_durable_execution_sdk_python import (
    BatchResult,
    ChildContextError,
    DurableContext,
    durable_execution,
    durable_with_child_context,
)
from aws_durable_execution_sdk_python.concurrency.models import CompletionReason
from aws_durable_execution_sdk_python.config import (
    BatchItemStatus,
    CompletionConfig,
    Duration,
    MapConfig,
    ParallelConfig,
)
from aws_durable_execution_sdk_python.execution import InvocationStatus
from aws_durable_execution_sdk_python.lambda_service import OperationStatus, OperationType
from aws_durable_execution_sdk_python.serdes import ExtendedTypeSerDes, SerDesContext
from aws_durable_execution_sdk_python.waits import WaitForConditionConfig, WaitForConditionDecision
from aws_durable_execution_sdk_python_testing import DurableChildContextTestRunner, DurableFunctionTestRunner
from aws_durable_execution_sdk_python_testing.runner import ContextOperation, Operation


def read(payload: str | None) -> Any:
    assert payload is not None
    return ExtendedTypeSerDes().deserialize(payload, SerDesContext("", ""))


@durable_with_child_context
def order(context: DurableContext, number: int) -> str:
    reserved = context.step(lambda _: f"reserved {number}", name="reserve")
    context.wait(Duration.from_seconds(60), name="cool down")
    inner = context.run_in_child_context(lambda child: child.step(lambda _: 7, name="pack"), name="dispatch")
    return f"{reserved}, {inner}"


@durable_execution
def orders(event: Any, context: DurableContext) -> str:
    return context.run_in_child_context(order(event["number"]), name="order")


def test_what_is_in_a_child_context_is_found_in_it() -> None:
    with DurableFunctionTestRunner(handler=orders) as runner:
        result = runner.run(input='{"number": 4}', execution_timeout=120)
    assert json.loads(result.result or "") == "reserved 4, 7"
    context: ContextOperation = result.get_context("order")
    assert isinstance(context, ContextOperation)
    assert context.sub_type == "RunInChildContext"
    assert read(context.result) == "reserved 4, 7"
    assert [child.name for child in context.child_operations] == ["reserve", "cool down", "dispatch"]
    assert context.get_step("reserve").parent_id == context.operation_id
    assert context.get_wait("cool down").status is OperationStatus.SUCCEEDED
    assert context.get_context("dispatch").get_step("pack").result == "7"
    assert context.get_operation_by_name("reserve").operation_type is OperationType.STEP
    assert len(result.get_all_operations()) == 5


def test_a_child_context_function_is_tested_alone() -> None:
    with DurableChildContextTestRunner(order, 9) as runner:
        result = runner.run(input="{}", execution_timeout=120)
    assert result.status is InvocationStatus.SUCCEEDED
    assert json.loads(result.result or "") == "reserved 9, 7"
    assert result.get_step("reserve").result == '"reserved 9"'


@durable_execution
def fails_within(_event: Any, context: DurableContext) -> str:
    def body(_child: DurableContext) -> None:
        raise ValueError("within")

    try:
        context.run_in_child_context(body, name="fails")
    except ChildContextError as error:
        return f"caught {error}"
    return "nothing"


def test_a_failed_child_context_has_its_error() -> None:
    with DurableFunctionTestRunner(handler=fails_within) as runner:
        result = runner.run(input="{}", execution_timeout=10)
    context = result.get_context("fails")
    assert context.status is OperationStatus.FAILED
    assert context.error is not None
    assert (context.error.type, context.error.message) == ("ValueError", "within")
    assert json.loads(result.result or "") == "caught within"


@durable_execution
def squares(event: Any, context: DurableContext) -> list[int]:
    def square(inner: DurableContext, n: int, index: int, _all: Any) -> int:
        inner.wait(Duration.from_seconds(index + 1), name="pause")
        return inner.step(lambda _: n * n, name="square")

    found: BatchResult[int] = context.map(event, square, name="squares", config=MapConfig(max_concurrency=2))
    return found.get_results()


def test_a_map_has_a_context_for_each_item() -> None:
    with DurableFunctionTestRunner(handler=squares) as runner:
        result = runner.run(input="[1, 2, 3, 4]", execution_timeout=120)
    assert json.loads(result.result or "") == [1, 4, 9, 16]
    context = result.get_context("squares")
    assert context.sub_type == "Map"
    names = {child.name for child in context.child_operations}
    assert names == {"map-item-0", "map-item-1", "map-item-2", "map-item-3"}
    assert context.get_context("map-item-2").get_step("square").result == "9"
    batch = read(context.result)
    assert batch.get_results() == [1, 4, 9, 16]
    assert batch.completion_reason is CompletionReason.ALL_COMPLETED


@durable_execution
def branches(_event: Any, context: DurableContext) -> Any:
    def fails(_inner: DurableContext) -> None:
        raise RuntimeError("branch 1")

    config = ParallelConfig(completion_config=CompletionConfig(tolerated_failure_count=1))
    found = context.parallel(
        [lambda inner: inner.step(lambda _: "a", name="a"), fails, lambda inner: inner.step(lambda _: "c", name="c")],
        name="branches",
        config=config,
    )
    return {"ok": found.get_results(), "failed": [item.index for item in found.failed()], "count": found.total_count}


def test_a_parallel_tolerates_what_it_is_told_to() -> None:
    with DurableFunctionTestRunner(handler=branches) as runner:
        result = runner.run(input="{}", execution_timeout=10)
    assert json.loads(result.result or "") == {"ok": ["a", "c"], "failed": [1], "count": 3}
    context = result.get_context("branches")
    assert context.get_context("parallel-branch-1").status is OperationStatus.FAILED
    batch = read(context.result)
    assert [item.status for item in batch.all] == [
        BatchItemStatus.SUCCEEDED,
        BatchItemStatus.FAILED,
        BatchItemStatus.SUCCEEDED,
    ]


@durable_execution
def first_of_many(_event: Any, context: DurableContext) -> Any:
    config = ParallelConfig(max_concurrency=1, completion_config=CompletionConfig(min_successful=1))
    found = context.parallel([lambda _: "first", lambda _: "second"], name="race", config=config)
    return [found.get_results(), str(found.completion_reason.value)]


def test_a_parallel_is_over_when_enough_have_succeeded() -> None:
    with DurableFunctionTestRunner(handler=first_of_many) as runner:
        result = runner.run(input="{}", execution_timeout=10)
    assert json.loads(result.result or "") == [["first"], "MIN_SUCCESSFUL_REACHED"]


@durable_execution
def polls(_event: Any, context: DurableContext) -> int:
    def check(state: int, _context: Any) -> int:
        return state + 1

    def decide(state: int, _attempt: int) -> WaitForConditionDecision:
        if state >= 3:
            return WaitForConditionDecision.stop_polling()
        return WaitForConditionDecision.continue_waiting(Duration.from_minutes(10))

    return context.wait_for_condition(check, WaitForConditionConfig(decide, 0), name="three")


def test_a_condition_is_a_step_that_is_repeated() -> None:
    with DurableFunctionTestRunner(handler=polls) as runner:
        result = runner.run(input="{}", execution_timeout=3_000)
    assert result.result == "3"
    step = result.get_step("three")
    assert (step.sub_type, step.attempt, step.result) == ("WaitForCondition", 3, "3")


def depth(operation: Operation, level: int = 0) -> int:
    children = getattr(operation, "child_operations", [])
    return max([level, *(depth(child, level + 1) for child in children)])


def test_the_operations_are_a_tree() -> None:
    with DurableFunctionTestRunner(handler=orders) as runner:
        result = runner.run(input='{"number": 1}', execution_timeout=120)
    assert [depth(operation) for operation in result.operations] == [2]
