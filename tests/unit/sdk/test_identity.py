"""Operation ids, replay checks, the guard. Numbers in brackets are those of the SDK specification's checklist."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from perdure import (
    ChildConfig,
    DurableContext,
    StepConfig,
    WaitForConditionConfig,
    durable_execution,
    fixed_wait,
)
from perdure.exceptions import ContextUsageError, NonDeterministicExecutionError
from perdure.model.execution import ExecutionStatus
from perdure.sdk.identity import operation_id
from perdure.sdk.invocation import InvocationStatus
from support.local import Local
from support.wire import Handmade


def test_ids_are_those_of_the_official_sdk() -> None:
    """[16]"""
    first = operation_id("", 1)
    assert first == "1ced8f5be2db23a6513eba4d819c73806424748a7bc6fa0d792cc1c7d1775a97"
    assert operation_id(first, 1) == "974bfc6321e227b0ff101342eaf19b336f002dc6cc99c18f0941a7755cc20fc4"
    assert operation_id(first, 0) == "1712f93e2f51df042e2b933907d75accfe34a48fe4a42a24e0b08131bc72d591"


def test_an_operation_of_a_child_is_numbered_within_it() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: 1)
        context.run_in_child_context(lambda child: child.step(lambda _: 2, name="inner"), name="child")

    outcome = Local(handler).run()
    assert outcome.op("child").id == operation_id("", 2)
    assert outcome.op("inner").id == operation_id(operation_id("", 2), 1)


def _asks_for(ask: Callable[[DurableContext], Any]) -> Any:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        ask(context)

    return handler


DIVERGED = "replay of 'name-1' diverged at operation 1: the journal has STEP 'charge', the code asked for "
ADVICE = (
    ". Code before this point changed or is not deterministic; publish it as a new version, or move the choice into a "
    "step. Different (recorded, asked for): "
)


@pytest.mark.parametrize(
    ("ask", "asked", "different"),
    [
        (lambda c: c.step(lambda _: 1, name="pay"), "STEP 'pay'", "name ('charge', 'pay')"),
        (lambda c: c.step(lambda _: 1), "STEP without a name", "name ('charge', 'none')"),
        (
            lambda c: c.wait(1, name="cool-down"),
            "WAIT 'cool-down'",
            "type ('STEP', 'WAIT'), subtype ('Step', 'Wait'), name ('charge', 'cool-down')",
        ),
        (
            lambda c: c.step(lambda _: 1, name="charge", config=StepConfig(sub_type="Pay")),
            "STEP 'charge'",
            "subtype ('Step', 'Pay')",
        ),
        (
            lambda c: c.wait_for_condition(
                lambda s: s, WaitForConditionConfig(fixed_wait(lambda _: False), 1), name="charge"
            ),
            "STEP 'charge'",
            "subtype ('Step', 'WaitForCondition')",
        ),
    ],
)
def test_another_operation_than_the_recorded_one_fails_the_execution_with_a_diff(
    ask: Any, asked: str, different: str
) -> None:
    """[18]"""
    handmade = Handmade(_asks_for(ask))
    handmade.step("charge", status="SUCCEEDED", result="1")
    answer = handmade.invoke()
    assert answer.status is InvocationStatus.FAILED
    assert answer.error is not None
    assert answer.error.type == "perdure.exceptions.NonDeterministicExecutionError"
    assert answer.error.message == DIVERGED + asked + ADVICE + different
    assert handmade.calls == []


def test_a_reparented_operation_is_another_one() -> None:
    """[18] The same id under another parent: a child that became virtual."""

    def ask(context: DurableContext) -> None:
        context.run_in_child_context(
            lambda child: child.step(lambda _: 1, name="inner"), config=ChildConfig(is_virtual=True)
        )

    handmade = Handmade(_asks_for(ask))
    handmade.context(None, status="STARTED")
    context_id = handmade.operations[0].id
    handmade.operations.clear()
    handmade.step("inner", status="SUCCEEDED", parent_id=context_id)
    answer = handmade.invoke()
    assert answer.error is not None
    assert answer.error.message is not None
    assert f"parent ('{context_id}', 'none')" in answer.error.message


def test_a_recorded_operation_in_the_place_of_a_virtual_context_is_refused() -> None:
    """[21] in the form that these operations have."""

    def ask(context: DurableContext) -> None:
        context.run_in_child_context(lambda _: 1, config=ChildConfig(is_virtual=True))

    handmade = Handmade(_asks_for(ask))
    handmade.context(None, status="SUCCEEDED")
    answer = handmade.invoke()
    assert answer.error is not None
    assert answer.error.type == "perdure.exceptions.NonDeterministicExecutionError"


def test_a_divergence_that_the_handler_swallows_fails_the_execution_all_the_same() -> None:
    """[19]"""

    def ask(context: DurableContext) -> None:
        try:
            context.step(lambda _: 1, name="pay")
        except Exception:
            pass

    handmade = Handmade(_asks_for(ask))
    handmade.step("charge", status="SUCCEEDED")
    answer = handmade.invoke()
    assert answer.status is InvocationStatus.FAILED
    assert answer.error is not None
    assert answer.error.type == "perdure.exceptions.NonDeterministicExecutionError"


@pytest.mark.parametrize("recorded", [None, ""])
@pytest.mark.parametrize("asked", [None, ""])
def test_no_name_and_an_empty_one_are_the_same(recorded: str | None, asked: str | None) -> None:
    """[20]"""
    handmade = Handmade(_asks_for(lambda c: c.step(lambda _: 1, name=asked)))
    handmade.step(recorded, status="SUCCEEDED", result="1")
    assert handmade.invoke().status is InvocationStatus.SUCCEEDED


def test_a_changed_handler_meets_its_own_past_with_the_diff() -> None:
    """The whole way: started with one code, gone on with another."""
    version = {"name": "charge"}

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: 1, name=version["name"])
        context.wait(5)

    local = Local(handler)
    execution_id = local.start(name="invoice-42")
    local.pump()
    version["name"] = "pay"
    outcome = local.go_on(execution_id)
    assert outcome.status is ExecutionStatus.FAILED
    assert outcome.error.message.startswith(
        "replay of 'invoice-42' diverged at operation 1: the journal has STEP 'charge', the code asked for STEP 'pay'."
    )


# --- the guard ---------------------------------------------------------------------------------------------------


def _nested_step(context: DurableContext) -> Any:
    return context.step(lambda _: context.step(lambda _: 1, name="inner"), name="outer")


def _wait_in_a_step(context: DurableContext) -> Any:
    return context.step(lambda _: context.wait(5), name="outer")


def _parent_in_a_child(context: DurableContext) -> Any:
    return context.run_in_child_context(lambda _: context.step(lambda _: 1, name="inner"), name="child")


def _operation_in_a_check(context: DurableContext) -> Any:
    config = WaitForConditionConfig(fixed_wait(lambda _: False), 0)
    return context.wait_for_condition(lambda _: context.step(lambda _: 1), config, name="check")


def _operation_in_a_submitter(context: DurableContext) -> Any:
    return context.wait_for_callback(lambda _: context.step(lambda _: 1), name="ask")


@pytest.mark.parametrize(
    ("misuse", "text"),
    [
        (
            _nested_step,
            "context.step('inner') was called on the handler's context inside the body of step 'outer': a body can't "
            "contain durable operations; group them with run_in_child_context, or call them after it",
        ),
        (_wait_in_a_step, "context.wait(…) was called on the handler's context inside the body of step 'outer'"),
        (
            _parent_in_a_child,
            "context.step('inner') was called on the handler's context inside the child context 'child': use the "
            "context that the child's function receives",
        ),
        (_operation_in_a_check, "inside the body of check 'check'"),
        (_operation_in_a_submitter, "inside the body of step 'ask submitter'"),
    ],
)
def test_a_context_used_where_it_must_not_be_fails_before_anything_of_it_is_recorded(misuse: Any, text: str) -> None:
    """[22]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        misuse(context)

    outcome = Local(handler).run()
    assert outcome.status is ExecutionStatus.FAILED
    assert outcome.error.type == "perdure.exceptions.ContextUsageError"
    assert text in outcome.error.message
    assert all(operation.name != "inner" for operation in outcome.operations)


def test_a_misuse_consumes_no_place() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def body(_: Any) -> None:
            with pytest.raises(ContextUsageError):
                context.step(lambda _: 1, name="inner")

        context.step(body, name="outer")
        context.step(lambda _: 2, name="after")

    outcome = Local(handler).run()
    assert outcome.op("after").id == operation_id("", 2)


def test_the_guard_can_warn_or_be_off(caplog: pytest.LogCaptureFixture) -> None:
    def body(event: Any, context: DurableContext) -> Any:
        return _nested_step(context)

    with caplog.at_level(logging.WARNING):
        assert Local(durable_execution(guard="warn")(body)).run().result == 1
    assert "inside the body of step 'outer'" in caplog.text
    caplog.clear()
    assert Local(durable_execution(guard="off")(body)).run().result == 1
    assert caplog.text == ""


def test_a_thread_of_the_author_s_own_can_not_use_the_context() -> None:
    """[22]"""
    errors: list[str] = []

    def use(context: DurableContext) -> None:
        try:
            context.step(lambda _: 5, name="in a thread")
        except ContextUsageError as error:
            errors.append(str(error))

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        thread = threading.Thread(target=use, args=(context,))
        thread.start()
        thread.join()

    outcome = Local(handler).run()
    assert not outcome.operations
    assert errors == [
        "context.step('in a thread') was called on the handler's context inside another thread: the order of its "
        "operations would depend on chance; give each its own context with map, parallel, run_in_child_context or "
        "context.start"
    ]


def test_many_threads_of_one_invocation_share_their_commits_and_lose_nothing() -> None:
    @durable_execution(guard="off")
    def handler(event: Any, context: DurableContext) -> Any:
        lock = threading.Lock()
        done: list[int] = []

        def work() -> None:
            for _ in range(20):
                with lock:
                    value = context.step(lambda _: len(done))
                done.append(value)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(done)

    outcome = Local(handler).run()
    assert outcome.result == 160
    assert len(outcome.operations) == 160


def test_non_determinism_is_an_execution_error_that_names_the_operation() -> None:
    error = NonDeterministicExecutionError("text", "id")
    assert (error.step_id, str(error)) == ("id", "text")
