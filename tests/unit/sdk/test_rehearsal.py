"""Other code is tried on the journals of open executions, and nothing happens."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

import perdure
from perdure import AsyncDurableContext, DurableContext, Duration, durable_execution
from perdure.engine.state import ExecutionState
from perdure.execution import definition_of
from perdure.model.error import ErrorObject
from perdure.model.event import Event
from perdure.model.operation import OperationStatus
from perdure.sdk.invocation import InvocationInput
from perdure.sdk.rehearsal import rehearse

Handler = Callable[..., Any]


def journal_of(handler: Handler, event: object = None) -> InvocationInput:
    """What an invocation would be given after `handler` has run until it can't go on."""
    suspended = threading.Event()

    def see(state: ExecutionState, _events: Sequence[Event]) -> None:
        if state.head.in_flight is None:
            suspended.set()

    with perdure.open("memory://", {"order": handler}) as app:
        execution = app.start("order", event)
        execution.watch(see, from_start=True)
        assert suspended.wait(10)
        view = execution.describe()
        operations = app.service.operations(execution.id)
    return InvocationInput(view.arn, view.execution_id, view.name, view.input, operations)


def verdict(handler: Handler, given: InvocationInput) -> ErrorObject | None:
    definition = definition_of(handler)
    assert definition is not None
    return rehearse(definition, given)


def never(*_: object) -> str:
    raise AssertionError("a body has run in a rehearsal")


@durable_execution
def order(event: Any, context: DurableContext) -> str:
    context.step(lambda _: "reserved", name="reserve")
    context.wait(Duration.from_days(1), name="cool-down")
    return "done"


@durable_execution
async def async_order(event: Any, context: AsyncDurableContext) -> str:
    await context.step(lambda _: "reserved", name="reserve")
    await context.wait(Duration.from_days(1), name="cool-down")
    return "done"


def test_the_same_code_goes_on() -> None:
    assert verdict(order, journal_of(order)) is None
    assert verdict(async_order, journal_of(async_order)) is None


def test_code_that_changed_after_what_has_happened_goes_on() -> None:
    @durable_execution
    def changed(event: Any, context: DurableContext) -> str:
        assert context.step(never, name="reserve") == "reserved"
        context.wait(Duration.from_days(2), name="cool-down")
        return context.step(never, name="charge")

    assert verdict(changed, journal_of(order)) is None


def test_code_that_does_something_else_is_a_divergence_and_runs_no_body() -> None:
    @durable_execution
    def changed(event: Any, context: DurableContext) -> str:
        context.step(never, name="reserve")
        return context.step(never, name="charge")

    @durable_execution
    async def async_changed(event: Any, context: AsyncDurableContext) -> str:
        await context.step(never, name="reserve")
        return await context.step(never, name="charge")

    for before, after in ((order, changed), (async_order, async_changed)):
        error = verdict(after, journal_of(before))
        assert error is not None
        assert error.type == "perdure.exceptions.NonDeterministicExecutionError"
        assert "the journal has WAIT 'cool-down', the code asked for STEP 'charge'" in str(error.message)


def test_code_that_swallows_the_divergence_diverges_all_the_same() -> None:
    @durable_execution
    def changed(event: Any, context: DurableContext) -> str:
        try:
            context.step(never, name="other")
        except Exception:
            return "never mind"
        return "done"

    error = verdict(changed, journal_of(order))
    assert error is not None
    assert "the code asked for STEP 'other'" in str(error.message)


def test_what_is_new_is_not_come_to_whatever_it_is() -> None:
    @durable_execution
    def waiting(event: Any, context: DurableContext) -> None:
        context.create_callback(name="approve").result()

    @durable_execution
    def parallel(event: Any, context: DurableContext) -> Any:
        return context.parallel([never, never], name="both").get_results()

    @durable_execution
    def child(event: Any, context: DurableContext) -> Any:
        return context.run_in_child_context(lambda inner: inner.step(never, name="inner"), name="child")

    @durable_execution
    def condition(event: Any, context: DurableContext) -> Any:
        return context.wait_for_callback(never, name="asked")

    @durable_execution
    def invoke(event: Any, context: DurableContext) -> Any:
        return context.invoke("other", {}, name="other")

    given = journal_of(waiting)
    assert verdict(waiting, given) is None
    fresh = InvocationInput(given.arn, given.execution_id, given.execution_name, given.input, [])
    for handler in (parallel, child, condition, invoke):
        assert verdict(handler, fresh) is None


def test_branches_and_children_that_have_ended_are_replayed() -> None:
    def branch(number: int) -> Callable[[DurableContext], int]:
        def run(context: DurableContext) -> int:
            value = context.step(lambda _: number, name="number")
            if number == 2:
                context.wait(Duration.from_days(1), name="long")
            return value

        return run

    @durable_execution
    def both(event: Any, context: DurableContext) -> Any:
        return context.parallel([branch(1), branch(2)], name="both").get_results()

    given = journal_of(both)
    assert verdict(both, given) is None

    @durable_execution
    def changed(event: Any, context: DurableContext) -> Any:
        return context.parallel([branch(1), lambda inner: inner.step(never, name="other")], name="both").get_results()

    error = verdict(changed, given)
    assert error is not None
    assert "'other'" in str(error.message)


def test_branches_on_a_loop_are_replayed() -> None:
    async def branch(context: AsyncDurableContext) -> str:
        await context.wait(Duration.from_days(1), name="long")
        return "waited"

    async def quick(context: AsyncDurableContext) -> str:
        return await context.step(lambda _: "quick", name="quick")

    @durable_execution
    async def both(event: Any, context: AsyncDurableContext) -> Any:
        return (await context.parallel([branch, quick], name="both")).get_results()

    async def other(context: AsyncDurableContext) -> str:
        return await context.step(never, name="other")

    @durable_execution
    async def changed(event: Any, context: AsyncDurableContext) -> Any:
        return (await context.parallel([other, quick], name="both")).get_results()

    given = journal_of(both)
    assert verdict(both, given) is None
    error = verdict(changed, given)
    assert error is not None
    assert "'other'" in str(error.message)


def test_a_step_that_was_cut_off_or_is_to_be_retried_does_not_run() -> None:
    @durable_execution
    def retried(event: Any, context: DurableContext) -> Any:
        def fail(_: object) -> None:
            raise ValueError("no")

        return context.step(fail, name="charge")

    given = journal_of(retried)

    @durable_execution
    def same(event: Any, context: DurableContext) -> Any:
        return context.step(never, name="charge")

    assert given.operations[0].status is OperationStatus.PENDING
    assert verdict(same, given) is None
    for status in (OperationStatus.STARTED, OperationStatus.READY):
        cut_off = msgspec.structs.replace(given.operations[0], status=status)
        assert verdict(same, msgspec.structs.replace(given, operations=[cut_off])) is None


def test_an_error_of_the_handler_is_told_and_a_log_line_is_not(caplog: pytest.LogCaptureFixture) -> None:
    @durable_execution
    def broken(event: Any, context: DurableContext) -> Any:
        context.step(never, name="reserve")
        context.logger.error("said again")
        raise KeyError("item")

    @durable_execution
    def leaving(event: Any, context: DurableContext) -> Any:
        raise SystemExit(3)

    given = journal_of(order)
    with caplog.at_level(logging.DEBUG):
        error = verdict(broken, given)
    assert error is not None
    assert error.type == "KeyError"
    assert caplog.records == []
    assert (gone := verdict(leaving, given)) is not None
    assert gone.type == "SystemExit"
