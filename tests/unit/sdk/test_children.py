"""Child contexts. Numbers in brackets are those of the SDK specification's checklist."""

from typing import Any

import pytest

from perdure import (
    ChildConfig,
    ChildContextError,
    DurableContext,
    DurableOperationError,
    ExecutionError,
    InvocationError,
    RetryPresets,
    SerDesError,
    StepConfig,
    ValidationError,
    durable_execution,
    durable_with_child_context,
)
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import OperationStatus
from support.local import Local
from support.wire import Recording

NO_RETRY = StepConfig(RetryPresets.none())


def test_a_child_groups_its_operations_and_is_recorded_as_one() -> None:
    runs: list[str] = []

    @durable_with_child_context
    def prepare(context: DurableContext, what: str) -> Any:
        runs.append("body")
        return context.step(lambda _: what * 2, name="inner")

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        value = context.run_in_child_context(prepare("x"))
        context.wait(1)
        return value

    outcome = Local(handler).run()
    assert outcome.result == "xx"
    assert runs == ["body"], "a replay returns the recorded result"
    child = outcome.op("prepare")
    assert (child.sub_type, child.result) == ("RunInChildContext", '"xx"')
    assert outcome.op("inner").parent_id == child.id


def test_a_failed_child_raises_the_same_on_every_run() -> None:
    """[45]"""
    seen: list[Any] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def body(child: DurableContext) -> Any:
            raise ValueError("boom")

        try:
            context.run_in_child_context(body, name="child")
        except ChildContextError as error:
            cause: Any = error.__cause__
            seen.append((type(error).__name__, error.message, error.error_type, type(cause).__name__, cause.error_type))
        context.wait(1)

    outcome = Local(handler).run()
    assert seen == [("ChildContextError", "boom", "ValueError", "DurableOperationError", "ValueError")] * 2
    assert outcome.op("child").status is OperationStatus.FAILED


def test_a_step_s_failure_in_a_child_is_the_cause_of_the_child_s() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def body(child: DurableContext) -> Any:
            child.step(lambda _: 1 / 0, config=NO_RETRY)

        try:
            context.run_in_child_context(body)
        except ChildContextError as error:
            return [error.error_type, type(error.__cause__).__name__]

    assert Local(handler).run().result == ["perdure.exceptions.StepError", "StepError"]


@pytest.mark.parametrize(
    ("text", "is_stored"),
    [("x" * (262_144 - 2), True), ("x" * (262_144 - 1), False)],
    ids=["at the limit", "over it"],
)
def test_a_result_over_256_kib_is_made_again_instead_of_stored(text: str, *, is_stored: bool) -> None:
    """[46] and [48]"""
    bodies: list[int] = []
    steps: list[int] = []
    results: list[bool] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def body(child: DurableContext) -> Any:
            bodies.append(1)
            child.step(lambda _: steps.append(1))
            return text

        results.append(context.run_in_child_context(body, name="large") == text)
        context.wait(1)

    wire = Recording()
    outcome = Local(handler, client=wire.client).run()
    assert outcome.status is ExecutionStatus.SUCCEEDED
    assert results == [True, True]
    assert outcome.op("large").replay_children is not is_stored
    assert (outcome.op("large").result == "") is not is_stored
    assert (len(bodies), len(steps)) == ((1, 1) if is_stored else (2, 1))
    assert wire.shape() == [["CONTEXT START", "STEP START", "STEP SUCCEED"], ["CONTEXT SUCCEED"]]


def test_the_limit_counts_bytes() -> None:
    """[47] Quoted for JSON, an é is six characters of ASCII; a serdes may write it as two bytes."""
    from perdure import SerDes, SerDesContext

    class Plain(SerDes[str]):
        def serialize(self, value: str, serdes_context: SerDesContext) -> str:
            return value

        def deserialize(self, data: str, serdes_context: SerDesContext) -> str:
            return data

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.run_in_child_context(lambda _: "é" * 131_072, name="stored", config=ChildConfig(Plain()))
        context.run_in_child_context(lambda _: "é" * 131_073, name="made again", config=ChildConfig(Plain()))

    outcome = Local(handler).run()
    assert [outcome.op(name).replay_children for name in ("stored", "made again")] == [False, True]


def test_a_summary_is_stored_in_place_of_a_large_result() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        config: ChildConfig[str] = ChildConfig(summary_generator=lambda result: f"{len(result)} characters")
        return len(context.run_in_child_context(lambda _: "x" * 300_000, name="large", config=config))

    outcome = Local(handler).run()
    assert (outcome.result, outcome.op("large").result) == (300_000, "300000 characters")


def test_a_virtual_child_records_nothing_and_its_operations_report_the_context_around_it() -> None:
    """[49]"""
    bodies: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def inner(child: DurableContext) -> Any:
            bodies.append(1)
            assert child.is_virtual
            return child.step(lambda _: 1, name="in the virtual one")

        def outer(child: DurableContext) -> Any:
            child.run_in_child_context(inner, config=ChildConfig(is_virtual=True))
            return child.step(lambda _: 2, name="after it")

        context.run_in_child_context(outer, name="real")
        context.run_in_child_context(inner, config=ChildConfig(is_virtual=True))
        context.wait(1)

    outcome = Local(handler).run()
    assert outcome.status is ExecutionStatus.SUCCEEDED, outcome.error
    names = [operation.name for operation in outcome.operations]
    assert names == ["real", "in the virtual one", "after it", "in the virtual one", None]
    parents = [operation.parent_id for operation in outcome.operations]
    real = outcome.op("real").id
    assert parents == [None, real, real, None, None]
    assert len(bodies) == 3, "the one outside of the recorded child runs at every invocation"


def test_execution_errors_and_retryable_invocation_errors_pass_a_child() -> None:
    tries: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def body(child: DurableContext) -> Any:
            tries.append(1)
            if len(tries) == 1:
                raise InvocationError("again")
            raise ExecutionError("enough")

        context.run_in_child_context(body, name="child")

    outcome = Local(handler).run()
    assert outcome.error.type == "perdure.exceptions.ExecutionError"
    assert outcome.shown == [
        "ExecutionStarted",
        "InvocationCompleted",
        "InvocationCompleted",
        "ExecutionFailed",
    ], "the start of the child was never sent: nothing came after it"


def test_a_wait_in_a_child_suspends_the_whole_and_the_child_goes_on() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def body(child: DurableContext) -> Any:
            child.wait(5)
            return child.step(lambda _: "after")

        return context.run_in_child_context(body, name="child")

    outcome = Local(handler).run()
    assert outcome.result == "after"
    assert outcome.shown[1:4] == ["ContextStarted", "WaitStarted", "InvocationCompleted"]


def test_an_error_mapper_may_replace_the_error() -> None:
    class Mine(DurableOperationError):
        pass

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        config: ChildConfig[Any] = ChildConfig(error_mapper=lambda error: Mine(f"mapped {error.message}"))
        try:
            context.run_in_child_context(lambda _: 1 / 0, config=config)
        except Mine as error:
            return str(error)

    assert Local(handler).run().result == "mapped division by zero"


def test_a_child_function_must_take_its_context() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        with pytest.raises(ValidationError, match="must take the context of the child"):
            context.run_in_child_context(lambda: 1)  # type: ignore[arg-type]

    outcome = Local(handler).run()
    assert outcome.status is ExecutionStatus.SUCCEEDED
    assert outcome.operations == []


def test_a_subtype_of_one_s_own_is_recorded_and_checked() -> None:
    with pytest.raises(ValidationError, match="sub_type must be 1 to 32"):
        ChildConfig(sub_type="no spaces")

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.run_in_child_context(lambda _: 1, name="c", config=ChildConfig(sub_type="Saga"))
        context.step(lambda _: 1, name="s", config=StepConfig(sub_type="Charge"))

    outcome = Local(handler).run()
    assert (outcome.op("c").sub_type, outcome.op("s").sub_type) == ("Saga", "Charge")


def test_a_finished_child_s_abandoned_work_can_not_record_anything() -> None:
    """The thread that a child left behind finds its context closed."""
    import threading

    from perdure.exceptions import OrphanedChildException

    raised: list[str] = []

    @durable_execution(guard="off")
    def handler(event: Any, context: DurableContext) -> Any:
        kept: list[DurableContext] = []
        context.run_in_child_context(lambda child: kept.append(child), name="child")

        def late() -> None:
            try:
                kept[0].step(lambda _: 1, name="late")
            except OrphanedChildException as error:
                raised.append(str(error))

        thread = threading.Thread(target=late)
        thread.start()
        thread.join()

    outcome = Local(handler).run()
    assert raised == ["the context of this operation has ended"]
    assert [operation.name for operation in outcome.operations] == ["child"]


@pytest.mark.parametrize("is_virtual", [True, False])
def test_a_virtual_child_returns_and_raises_what_a_recorded_one_does(*, is_virtual: bool) -> None:
    config: ChildConfig[Any] = ChildConfig(is_virtual=is_virtual)

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def fails(child: DurableContext) -> None:
            child.step(lambda _: 1 / 0, config=NO_RETRY)

        with pytest.raises(SerDesError, match=r"builtins.object can't be written"):
            context.run_in_child_context(lambda child: object(), config=config)
        with pytest.raises(ChildContextError, match="division by zero") as caught:
            context.run_in_child_context(fails, config=config)
        assert caught.value.error_type == "perdure.exceptions.StepError"
        assert isinstance(caught.value.__cause__, DurableOperationError)

        def mapper(error: DurableOperationError) -> DurableOperationError:
            return DurableOperationError("mapped")

        mapped: ChildConfig[Any] = ChildConfig(is_virtual=is_virtual, error_mapper=mapper)
        with pytest.raises(DurableOperationError, match="mapped"):
            context.run_in_child_context(lambda child: 1 / 0, config=mapped)

    assert Local(handler).run().status is ExecutionStatus.SUCCEEDED


def test_a_virtual_child_s_result_is_what_a_replay_would_read() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        config: ChildConfig[Any] = ChildConfig(is_virtual=True)
        return list(context.run_in_child_context(lambda child: {1: "a"}, config=config))

    assert Local(handler).run().result == ["1"]
