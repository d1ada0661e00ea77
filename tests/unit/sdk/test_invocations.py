"""The invocation as a whole: input, result, ways to end, logs. Numbers in brackets are those of the SDK checklist."""

import dataclasses
import importlib
import logging
import subprocess
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

import perdure
from perdure import (
    DurableContext,
    ExecutionError,
    InvocationError,
    JsonSerDes,
    RetryPresets,
    StepConfig,
    ValidationError,
    durable_execution,
)
from perdure.exceptions import (
    BackgroundThreadError,
    CheckpointError,
    DurableApiErrorCategory,
    DurableOperationError,
    StepError,
    TimedSuspendExecution,
)
from perdure.execution import default_name, definition_of
from perdure.model.execution import ExecutionStatus
from perdure.sdk.client import Answer
from perdure.sdk.invocation import InvocationStatus
from support.local import Local
from support.wire import ARN, Handmade


def _echo() -> Any:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return event

    return handler


@pytest.mark.parametrize(
    ("text", "value"),
    [(None, {}), ("", {}), ("  ", {}), ("null", None), ('"text"', "text"), ('{"a": [1]}', {"a": [1]}), ("NaN", None)],
)
def test_the_event_is_the_value_of_the_input(text: str | None, value: Any) -> None:
    """[73]"""
    seen: list[Any] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        seen.append(event)

    handmade = Handmade(handler)
    handmade.input = text
    handmade.invoke()
    assert seen == [value] or text == "NaN"


def test_an_input_that_is_no_json_is_raised() -> None:
    """[73]"""
    handmade = Handmade(_echo())
    handmade.input = "{nope"
    with pytest.raises(ExecutionError, match="the input of 'name-1' is not JSON"):
        handmade.invoke()


def test_a_durable_handler_that_is_called_as_a_plain_one_says_what_is_missing() -> None:
    """[72]"""
    with pytest.raises(ExecutionError, match="Check that durability is enabled"):
        _echo()({"order": 1}, None)


@dataclasses.dataclass
class Receipt:
    number: int
    paid: datetime


def test_a_result_of_known_types_is_written_as_plain_json() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return {
            "receipt": Receipt(1, datetime(2024, 1, 2, tzinfo=UTC)),
            "sum": Decimal("1.50"),
            "id": UUID(int=1),
            "kind": perdure.StepSemantics.AT_MOST_ONCE_PER_RETRY,
        }

    assert Local(handler).run().result == {
        "receipt": {"number": 1, "paid": "2024-01-02T00:00:00+00:00"},
        "sum": "1.50",
        "id": "00000000-0000-0000-0000-000000000001",
        "kind": "AT_MOST_ONCE_PER_RETRY",
    }


def test_a_result_that_can_not_be_written_fails_the_execution_with_the_way_out() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return object()

    outcome = Local(handler).run()
    assert (outcome.status, outcome.error.type) == (ExecutionStatus.FAILED, "TypeError")
    way_out = "return texts, numbers, lists, dictionaries, dataclasses or models, or give the handler an output_serdes"
    assert way_out in outcome.error.message


def test_input_and_output_may_have_a_serdes() -> None:
    class Loud(JsonSerDes):
        def serialize(self, value: Any, serdes_context: Any) -> str:
            return super().serialize(str(value).upper(), serdes_context)

        def deserialize(self, data: str, serdes_context: Any) -> Any:
            return super().deserialize(data, serdes_context)["text"]

    @durable_execution(input_serdes=Loud(), output_serdes=Loud())
    def handler(event: Any, context: DurableContext) -> Any:
        return event

    assert Local(handler).run({"text": "abc"}).result == "ABC"


def test_an_exception_of_the_handler_fails_the_execution_in_one_invocation() -> None:
    class OrderError(Exception):
        pass

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        raise OrderError("no beans")

    outcome = Local(handler).run()
    assert outcome.status is ExecutionStatus.FAILED
    assert outcome.error.message == "no beans"
    assert outcome.error.type == f"{OrderError.__module__}.{OrderError.__qualname__}"
    assert "raise OrderError" in outcome.error.stack_trace[-1]
    assert outcome.shown == ["ExecutionStarted", "InvocationCompleted", "ExecutionFailed"]


def test_an_error_that_can_not_say_what_it_is_is_recorded_all_the_same() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        raise Mute

    assert Local(handler).run().error.message == "(the error's own text could not be made)"


def test_a_retryable_invocation_error_has_the_invocation_tried_again() -> None:
    tries: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        tries.append(1)
        if len(tries) < 3:
            raise InvocationError("not now")
        return len(tries)

    assert Local(handler).run().result == 3


@pytest.mark.parametrize("leaving", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_leaving_the_process_is_a_failed_invocation(leaving: BaseException) -> None:
    tries: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise leaving
        return "went on"

    outcome = Local(handler).run()
    assert outcome.result == "went on"
    (failed, _) = [event.event for event in outcome.history if event.type == "InvocationCompleted"]
    assert failed.error is not None  # type: ignore[attr-defined]


# --- failing service ---------------------------------------------------------------------------------------------


def _one_step() -> Any:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            return context.step(lambda _: 1)
        except Exception as error:  # a failed service call is none
            return f"swallowed {error}"

    return handler


def test_a_permanent_refusal_fails_the_execution() -> None:
    """[75]"""
    handmade = Handmade(_one_step())
    handmade.answers = [CheckpointError("Invalid parent operation id.", DurableApiErrorCategory.EXECUTION)]
    answer = handmade.invoke()
    assert answer.status is InvocationStatus.FAILED
    assert answer.error is not None
    assert answer.error.message == "Invalid parent operation id."


@pytest.mark.parametrize("error", [CheckpointError("throttled"), OSError("connection reset")])
def test_what_may_pass_is_raised_or_fails_by_its_kind(error: Exception) -> None:
    """[75] A checkpoint error says itself; a foreign error of a client is no reason to try again for ever."""
    handmade = Handmade(_one_step())
    handmade.answers = [error]
    if isinstance(error, CheckpointError):
        with pytest.raises(CheckpointError):
            handmade.invoke()
    else:
        assert handmade.invoke().status is InvocationStatus.FAILED


def test_after_a_failed_call_every_later_operation_meets_the_same_end() -> None:
    met: list[str] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        for _ in range(2):
            try:
                context.step(lambda _: 1)
            except BackgroundThreadError as error:
                met.append(str(error.source_exception))

    handmade = Handmade(handler)
    handmade.answers = [CheckpointError("gone")]
    with pytest.raises(CheckpointError):
        handmade.invoke()
    assert met == ["gone", "gone"]
    assert len(handmade.calls) == 1


def test_an_operation_after_a_withdrawn_right_suspends() -> None:
    """[76]"""
    ran: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: ran.append(1))
        context.step(lambda _: ran.append(2))

    handmade = Handmade(handler)
    handmade.answers = [Answer((), may_go_on=False)]
    assert handmade.invoke().status is InvocationStatus.PENDING
    assert ran == [1]


# --- logging and context -----------------------------------------------------------------------------------------


def test_what_was_logged_before_is_not_logged_again_and_records_say_where_they_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """[79]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.logger.info("begins")
        context.step(lambda step: step.logger.info("in a step"), name="one")
        context.logger.info("after one")
        context.wait(1)
        context.logger.info("after the wait %s", 1, extra={"order": 7})

        def body(child: DurableContext) -> None:
            child.logger.info("in a child")

        context.run_in_child_context(body, name="child")

    with caplog.at_level(logging.INFO):
        outcome = Local(handler).run()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["begins", "in a step", "after one", "after the wait 1", "in a child"]
    assert {record.executionArn for record in caplog.records} == {outcome.view.arn}  # type: ignore[attr-defined]
    step = caplog.records[1]
    found = (step.operationId, step.operationName, step.attempt)  # type: ignore[attr-defined]
    assert found == (outcome.op("one").id, "one", 1)
    assert caplog.records[3].order == 7  # type: ignore[attr-defined]
    assert caplog.records[4].parentId == outcome.op("child").id  # type: ignore[attr-defined]
    assert all(record.filename == "test_invocations.py" for record in caplog.records)


def test_a_logger_of_one_s_own_takes_the_records() -> None:
    class Mine:
        def __init__(self) -> None:
            self.said: list[tuple[str, str, Any]] = []

        def __getattr__(self, level: str) -> Any:
            return lambda msg, *args, extra=None: self.said.append((level, msg, sorted(extra or {})))

    mine = Mine()

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.set_logger(mine)
        context.logger.warning("look")
        context.step(lambda step: step.logger.error("there"), name="s")
        try:
            raise ValueError
        except ValueError:
            context.logger.exception("oops")
        assert context.logger.get_logger() is mine

    assert Local(handler).run().status is ExecutionStatus.SUCCEEDED
    assert mine.said == [
        ("warning", "look", ["executionArn"]),
        ("error", "there", ["attempt", "executionArn", "operationId", "operationName"]),
        ("exception", "oops", ["executionArn"]),
    ]


def test_a_context_knows_whether_it_replays() -> None:
    seen: list[bool] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        seen.append(context.is_replaying())
        context.step(lambda _: 1)
        seen.append(context.is_replaying())
        context.wait(1)
        seen.append(context.is_replaying())

    Local(handler).run()
    assert seen == [False, False, True, True, False]


def test_the_handler_sees_the_context_variables_of_its_caller_and_keeps_its_own() -> None:
    """[80]"""
    variable: ContextVar[str] = ContextVar("variable", default="none")
    seen: list[str] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        seen.append(variable.get())
        variable.set("changed")
        context.run_in_child_context(lambda _: seen.append(variable.get()))

    variable.set("caller")
    Local(handler).run()
    assert seen == ["caller", "changed"]
    assert variable.get() == "caller"


def test_the_context_says_which_execution_it_is() -> None:
    seen: list[Any] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        platform = context.lambda_context
        seen.append(context.execution_context.durable_execution_arn)
        seen.append(platform.function_name)
        seen.append(platform.get_remaining_time_in_millis() > 0)
        seen.append(platform.aws_request_id != "")

    outcome = Local(handler).run()
    assert seen == [outcome.view.arn, outcome.view.function, True, True]
    handmade = Handmade(_echo())
    assert handmade.invoke().result == "{}"
    assert ARN.endswith("id-1")


# --- the package -------------------------------------------------------------------------------------------------


def test_a_function_is_called_after_its_file_and_itself_or_as_it_wants() -> None:
    @durable_execution
    def process(event: Any, context: DurableContext) -> Any: ...

    @durable_execution(name="orders")
    def other(event: Any, context: DurableContext) -> Any: ...

    assert definition_of(process).name == "test_invocations-process"  # type: ignore[union-attr]
    assert definition_of(other).name == "orders"  # type: ignore[union-attr]
    assert len(default_name(test_a_function_is_called_after_its_file_and_itself_or_as_it_wants)) == 64
    with pytest.raises(ValidationError, match="a function's name must be"):
        durable_execution(name="no spaces")(lambda event, context: None)
    with pytest.raises(ValidationError, match="guard must be one of error, warn, off, not 'loud'"):
        durable_execution(guard="loud")(lambda event, context: None)


def test_the_decorated_function_keeps_its_face() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        """Handle it."""

    assert (handler.__name__, handler.__doc__) == ("handler", "Handle it.")


def test_every_public_name_loads_and_lives_where_it_says() -> None:
    """[1], as far as these operations go."""
    for name in perdure.__all__:
        assert getattr(perdure, name) is not None
    assert set(perdure.__all__) <= set(dir(perdure))
    from perdure.config import Duration
    from perdure.context import DurableContext as Context, StepContext, durable_step
    from perdure.execution import durable_execution as decorator
    from perdure.types import Callback, DurableContext as FromTypes, DurableExecutionArn
    from perdure.waits import JitterStrategy

    assert (Duration, Context, decorator) == (perdure.Duration, FromTypes, durable_execution)
    assert StepContext is perdure.StepContext
    assert durable_step is perdure.durable_step
    assert JitterStrategy is perdure.JitterStrategy
    assert Callback is perdure.Callback
    parsed = DurableExecutionArn.from_arn(ARN)
    assert parsed == DurableExecutionArn("fn", "name-1", "id-1")
    assert DurableExecutionArn.from_arn("uuid/uuid") is None
    with pytest.raises(AttributeError):
        importlib.import_module("perdure").nothing  # noqa: B018


def test_importing_the_package_loads_neither_boto3_nor_the_server_s_parts() -> None:
    """[81]"""
    code = (
        "import sys; from perdure import durable_execution, DurableContext; "
        "print([m for m in sys.modules if m.startswith(('boto', 'urllib3', 'sqlite3', 'rich', 'click', 'asyncio', "
        "'perdure.service', 'perdure.store', 'perdure.engine', 'perdure.worker', 'perdure.cli'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_errors_of_other_sdks_are_rebuilt_as_ours() -> None:
    """[88], as far as these operations go."""
    for spelling in (
        "StepError",
        "aws_durable_execution_sdk_python.exceptions.StepError",
        "perdure.exceptions.StepError",
    ):
        assert type(DurableOperationError.from_error_fields(spelling, "m")) is StepError
    other = DurableOperationError.from_error_fields("OrderError", "m", "d", ["s"])
    assert type(other) is DurableOperationError
    assert (other.error_type, other.message, other.data, other.stack_trace) == ("OrderError", "m", "d", ["s"])
    foreign = DurableOperationError.from_error_fields("mymodule.StepError", "m")
    assert type(foreign) is DurableOperationError


def test_a_timed_suspension_knows_its_moment() -> None:
    moment = datetime(2024, 1, 2, tzinfo=UTC)
    assert TimedSuspendExecution.from_datetime("m", moment).scheduled_timestamp == moment.timestamp()
    assert TimedSuspendExecution.from_delay("m", 5).scheduled_timestamp > datetime.now(UTC).timestamp() + 4


def test_a_failed_step_of_the_handler_fails_the_execution_with_the_step_s_error() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: 1 / 0, config=StepConfig(RetryPresets.none()))

    outcome = Local(handler).run()
    assert (outcome.error.type, outcome.error.message) == ("perdure.exceptions.StepError", "division by zero")
