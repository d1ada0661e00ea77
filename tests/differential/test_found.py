"""What the comparison of the two SDKs has found wrong in Perdure's, each as a test of its own."""

from typing import Any

from perdure import (
    CallbackExternalError,
    ChildConfig,
    ChildContextError,
    DurableContext,
    ExecutionError,
    RetryPresets,
    SerDesError,
    StepConfig,
    StepSemantics,
    WaitForConditionConfig,
    WaitForConditionError,
    durable_execution,
    fixed_wait,
)
from perdure.model.error import ErrorObject
from perdure.model.execution import ExecutionStatus
from support.local import Local
from support.sdks import PERDURE, Ground

VIRTUAL: ChildConfig[Any] = ChildConfig(is_virtual=True)
NO_RETRY = StepConfig(retry_strategy=RetryPresets.none())


def crashing(handler: Any, crashes: dict[int, bool]) -> Any:
    ground = Ground({PERDURE: {"main": handler}}, PERDURE, crashes=crashes)
    return ground.run_answering({}, lambda _ground, _callback: False)


def test_a_virtual_child_fails_as_a_recorded_one_does() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def body(child: DurableContext) -> Any:
            raise KeyError("k")

        try:
            context.run_in_child_context(body, config=VIRTUAL)
        except ChildContextError as error:
            return [error.error_type, error.message]

    assert Local(handler).run().result == ["KeyError", "'k'"]


def test_a_virtual_child_gives_what_would_be_read_from_a_record_of_it() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        mapped = context.run_in_child_context(lambda _: {1: "a"}, config=VIRTUAL)
        try:
            context.run_in_child_context(lambda _: object(), config=VIRTUAL)
        except SerDesError:
            return repr(mapped)

    assert Local(handler).run().result == "{'1': 'a'}"


def test_an_interrupted_step_that_ends_the_execution_is_recorded_as_a_step_error() -> None:
    """Its own class is private: no other SDK knows its name."""
    once = StepConfig(RetryPresets.none(), StepSemantics.AT_MOST_ONCE_PER_RETRY)

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: 1, name="charge", config=once)

    outcome = crashing(handler, {1: False})
    assert outcome.op("charge").error.type == "perdure.exceptions.StepInterruptedError"
    assert outcome.error.type == "perdure.exceptions.StepError"


def test_the_cause_of_an_operation_s_error_is_what_is_recorded_of_it() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        config = WaitForConditionConfig(fixed_wait(lambda _: True, max_attempts=1), 0)
        causes = []
        try:
            context.wait_for_condition(lambda state: state, config)
        except WaitForConditionError as error:
            causes.append(type(error.__cause__).__name__)
        try:
            context.step(lambda _: object())
        except SerDesError as error:
            causes.append(type(error.__cause__).__name__)
        return causes

    assert Local(handler).run().result == ["WaitForConditionError", "DurableOperationError"]


def test_a_failed_callback_is_not_its_own_cause() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            context.wait_for_callback(lambda callback_id: None, name="job")
        except CallbackExternalError as error:
            return [str(error), repr(error.__cause__)]

    local = Local(handler)
    outcome = local.run()
    local.service.fail_callback(outcome.callback_id(), ErrorObject("no", "Outside"))
    assert local.go_on(outcome.id).result == ["no", "None"]


def test_an_execution_that_an_execution_error_ends_shows_where_it_was() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def give_up(_: Any) -> Any:
            raise ExecutionError("enough")

        context.parallel([lambda branch: 1, lambda branch: branch.step(give_up, name="pay")], name="both")

    for outcome in (Local(handler).run(), crashing(handler, {})):
        assert outcome.status is ExecutionStatus.FAILED
        statuses = {operation.name: str(operation.status) for operation in outcome.operations}
        assert statuses == {
            "both": "STARTED",
            "parallel-branch-0": "SUCCEEDED",
            "parallel-branch-1": "STARTED",
            "pay": "STARTED",
        }


def test_a_crash_between_a_failed_branch_and_the_end_of_its_batch_loses_no_large_result() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def fail(branch: DurableContext) -> Any:
            raise ValueError("no")

        both = context.parallel([lambda branch: "x" * 300_000, fail], name="both")
        return [[str(item.status), len(item.result or "")] for item in both]

    uninterrupted = crashing(handler, {}).result
    assert uninterrupted == [["SUCCEEDED", 300_000], ["FAILED", 0]]
    for updates in range(1, 7):
        assert crashing(handler, {updates: True}).result == uninterrupted, f"a crash after {updates} updates"


def test_an_item_whose_result_can_t_be_recorded_is_thrown_as_that() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            context.parallel([lambda branch: branch.step(lambda _: object())]).throw_if_error()
        except SerDesError as error:
            return error.error_type

    assert Local(handler).run().result == "perdure.exceptions.SerDesError"


def test_everything_in_the_configuration_comes_with_a_star() -> None:
    names: dict[str, Any] = {}
    exec("from perdure.config import *", names)
    assert {"MapConfig", "NestingType", "Duration", "StepConfig", "complete_batch"} <= set(names)
