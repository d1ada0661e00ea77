"""What leaves the branches of a batch, and what they see. Numbers in brackets are those of the SDK's checklist."""

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from perdure import (
    DurableContext,
    ExecutionError,
    InvocationError,
    RetryPresets,
    StepConfig,
    durable_execution,
)
from perdure.config import (
    CompletionConfig,
    MapConfig,
    NestingType,
    ParallelConfig,
)
from perdure.model.execution import ExecutionStatus
from perdure.sdk.invocation import InvocationStatus
from support.local import Local, Outcome
from support.wire import Handmade

NO_RETRY = StepConfig(RetryPresets.none())
WAIT_S = 10.0


def mapped(items: Any, function: Callable[..., Any], config: MapConfig | None = None) -> Outcome:
    """The outcome of a handler that returns what a map gives."""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.map(items, function, name="m", config=config)

    return Local(handler).run()


@pytest.mark.parametrize("nesting", list(NestingType))
def test_an_execution_error_of_a_branch_fails_the_execution(nesting: NestingType) -> None:
    """[62]"""

    def function(ctx: DurableContext, item: int) -> int:
        if item == 1:
            raise ExecutionError("stop everything")
        return item

    config = MapConfig(completion_config=CompletionConfig.all_completed(), nesting_type=nesting)
    outcome = mapped(range(3), function, config)
    assert outcome.status is ExecutionStatus.FAILED
    assert (outcome.error.type, outcome.error.message) == ("perdure.exceptions.ExecutionError", "stop everything")
    assert "FAILED" not in {str(each.status) for each in outcome.operations if each.sub_type != "Map" and each.name}


@pytest.mark.parametrize("nesting", list(NestingType))
def test_a_retryable_invocation_error_of_a_branch_is_raised_when_the_others_have_ended(nesting: NestingType) -> None:
    ended: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        reached = threading.Event()

        def function(ctx: DurableContext, item: int) -> int:
            if item == 0:
                assert reached.wait(WAIT_S)
                raise InvocationError("the platform shall try again")
            reached.set()
            ctx.step(lambda _: ended.append(item))
            return item

        context.map(range(3), function, config=MapConfig(3, nesting_type=nesting))

    wire = Handmade(handler)
    with pytest.raises(InvocationError, match="try again"):
        wire.invoke()
    assert sorted(ended) == [1, 2]


def test_what_leaves_a_process_leaves_a_batch() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def leave(ctx: DurableContext) -> None:
            raise SystemExit(3)

        context.parallel([lambda ctx: ctx.wait(60), leave])

    with pytest.raises(SystemExit):
        Handmade(handler).invoke()


def test_an_item_says_what_escaped_its_branch() -> None:
    def function(ctx: DurableContext, item: int) -> Any:
        return ctx.step(lambda _: 1 / 0, config=NO_RETRY)

    error = mapped([1], function).result["all"][0]["error"]
    assert error["ErrorType"] == "perdure.exceptions.StepError"
    assert error["ErrorMessage"] == "division by zero"


@pytest.mark.parametrize("nesting", list(NestingType))
def test_an_item_that_can_t_be_written_is_a_failed_item(nesting: NestingType) -> None:
    result = mapped([1], lambda ctx, item: object(), MapConfig(nesting_type=nesting)).result
    assert result["all"][0]["status"] == "FAILED"
    assert result["all"][0]["error"]["ErrorType"] == "perdure.exceptions.SerDesError"


@pytest.mark.parametrize("nesting", list(NestingType))
def test_an_abandoned_branch_records_nothing_any_more(nesting: NestingType) -> None:
    """[63] The branch that lost goes on after the batch was decided: neither a new operation nor the end of one."""
    go_on, lost = threading.Event(), threading.Event()
    bodies: list[str] = []
    raised: list[str] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        begun = threading.Event()

        def slow(ctx: DurableContext) -> Any:
            def body(_: Any) -> None:
                begun.set()
                assert go_on.wait(WAIT_S)

            try:
                ctx.step(body, name="open when the batch ends")
            except BaseException as error:
                raised.append(type(error).__name__)
            try:
                ctx.step(lambda _: bodies.append("ran"), name="begun after it")
            except BaseException as error:
                raised.append(type(error).__name__)
            try:
                ctx.map([1], lambda c, i: bodies.append("ran"), name="a batch after it")
            except BaseException as error:
                raised.append(type(error).__name__)
                raise
            finally:
                lost.set()

        def fast(ctx: DurableContext) -> str:
            assert begun.wait(WAIT_S)
            return "won"

        config = ParallelConfig(completion_config=CompletionConfig.first_successful(), nesting_type=nesting)
        batch = context.parallel([slow, fast], config=config)
        go_on.set()
        assert lost.wait(WAIT_S)
        return context.step(lambda _: [item.status for item in batch], name="after")

    outcome = Local(handler).run()
    assert outcome.result == ["STARTED", "SUCCEEDED"]
    assert bodies == []
    assert raised == ["OrphanedChildException"] * 3
    assert str(outcome.op("open when the batch ends").status) == "STARTED"
    assert {"begun after it", "a batch after it"}.isdisjoint({each.name for each in outcome.operations})


VARIABLE: ContextVar[str] = ContextVar("variable", default="nothing")


@pytest.mark.parametrize("limit", [None, 1])
def test_branches_see_the_context_variables_of_the_handler_and_keep_theirs(limit: int | None) -> None:
    """[80]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        VARIABLE.set("handler's")

        def function(ctx: DurableContext, item: int) -> str:
            seen = VARIABLE.get()
            VARIABLE.set(f"branch {item}'s")
            return f"{seen}, {VARIABLE.get()}"

        seen = context.map(range(2), function, config=MapConfig(limit)).get_results()
        return [*seen, VARIABLE.get()]

    assert Local(handler).run().result == ["handler's, branch 0's", "handler's, branch 1's", "handler's"]


def test_a_batch_with_everything_waiting_suspends_the_handler() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.map(range(3), lambda ctx, item: ctx.wait(60 + item))
        raise AssertionError

    wire = Handmade(handler, answers_waits=False)
    answer = wire.invoke()
    assert answer.status is InvocationStatus.PENDING
    sent = [update for call in [*wire.calls, answer.updates] for update in call]
    assert sorted(str(update.type) for update in sent) == ["CONTEXT"] * 4 + ["WAIT"] * 3
