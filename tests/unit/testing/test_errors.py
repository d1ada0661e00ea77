"""An error that a test sees has its type, its message, the author's frames, and a way back to the exception."""

from typing import Any

import pytest

from perdure import (
    CallbackTimeoutError,
    DurableContext,
    DurableOperationError,
    StepConfig,
    StepError,
    durable_execution,
)
from perdure.config import CallbackConfig
from perdure.lambda_service import ErrorObject
from perdure.testing import LocalRunner, RecordedError
from support.kit import NEVER, run


class PaymentError(Exception):
    pass


class Demanding(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def charge(_: Any) -> None:
    raise PaymentError("no credit")


async def charge_async(_: Any) -> None:
    raise PaymentError("no credit")


def frames(error: RecordedError | None) -> list[str]:
    assert error is not None
    assert error.stack_trace is not None
    return error.stack_trace


@pytest.mark.parametrize("config", [NEVER, StepConfig(retry_strategy=NEVER.retry_strategy, timeout=60)])
def test_a_failing_step_has_type_message_and_a_stack_that_begins_in_the_author_s_file(config: StepConfig) -> None:
    """[T15]"""

    @durable_execution
    def handler(_event: Any, context: DurableContext) -> None:
        context.step(charge, name="charge", config=config)

    result = run(handler)
    error = result.get_step("charge").error
    assert error is not None
    assert error.type == f"{__name__}.PaymentError"
    assert error.message == "no credit"
    assert __file__ in frames(error)[0]
    assert "in charge" in frames(error)[0]
    assert __file__ in frames(result.error)[0]


def test_the_same_holds_of_asynchronous_steps_children_branches_and_handlers() -> None:
    """[T15]"""

    @durable_execution
    async def handler(_event: Any, context: Any) -> None:
        async def child(_inner: Any) -> None:
            raise PaymentError("in a child")

        for config in (NEVER, StepConfig(retry_strategy=NEVER.retry_strategy, timeout=60)):
            with pytest.raises(StepError):
                await context.step(charge_async, name="charge", config=config)
        with pytest.raises(DurableOperationError):
            await context.run_in_child_context(child, name="child")
        await context.parallel([child], name="both")
        raise PaymentError("at the end")

    result = run(handler)
    failures = result.find(status="FAILED")
    assert [each.path for each in failures] == ["charge[0]", "charge[1]", "child", "both/parallel-branch-0"]
    assert all(__file__ in frames(each.error)[0] for each in failures)  # type: ignore[attr-defined]
    assert __file__ in frames(result.error)[0]
    assert "in handler" in frames(result.error)[0]


def test_an_error_gives_back_the_exception_of_its_own_class() -> None:
    @durable_execution
    def handler(_event: Any, context: DurableContext) -> None:
        context.step(charge, name="charge", config=NEVER)

    result = run(handler)
    error = result.get_step("charge").error
    assert error is not None
    made = error.exception()
    assert type(made) is PaymentError
    assert str(made) == "no credit"
    assert "in charge" in made.__notes__[0]
    with pytest.raises(StepError, match="no credit") as caught:
        result.raise_if_failed()
    assert caught.value.error_type == f"{__name__}.PaymentError" or isinstance(caught.value, StepError)


def test_an_error_that_can_t_be_made_again_is_one_with_its_type() -> None:
    for name in (f"{__name__}.Demanding", "nowhere.Gone", "Unheard", f"{__name__}.run"):
        made = RecordedError("text", name, "data", None).exception()
        assert type(made) is DurableOperationError
        assert (str(made), made.error_type, made.data) == ("text", name, "data")
    assert type(RecordedError("text", "ValueError", None, None).exception()) is ValueError
    assert type(RecordedError(None, "ValueError", None, None).exception()) is ValueError


def test_an_error_is_equal_to_an_official_one_with_the_same_fields() -> None:
    mine, official = RecordedError("m", "T", None, ["f"]), ErrorObject("m", "T", None, ["f"])
    assert mine == official
    assert official == mine
    assert mine != ErrorObject("m", "U", None, None)
    assert mine != "m"
    assert [
        str(RecordedError(message, kind, None, None)) for message, kind in (("m", "T"), (None, "T"), (None, None))
    ] == [
        "T: m",
        "T",
        "an error without a text",
    ]


def test_a_callback_that_times_out_has_the_official_type() -> None:
    @durable_execution
    def handler(_event: Any, context: DurableContext) -> None:
        context.create_callback(name="answer", config=CallbackConfig(timeout=60)).result()

    with LocalRunner(handler) as runner:
        result = runner.run()
    result.assert_failed(CallbackTimeoutError)
    error = result.get_callback("answer").error
    assert error is not None
    assert error.type == "Callback.Timeout"
    with pytest.raises(CallbackTimeoutError):
        result.raise_if_failed()
