"""Steps as handlers see them. Numbers in brackets are those of the SDK specification's checklist."""

import logging
import time
from typing import Any

import pytest

from perdure import (
    DurableContext,
    ExecutionError,
    InvocationError,
    RetryDecision,
    RetryPresets,
    SerDes,
    SerDesContext,
    SerDesError,
    StepConfig,
    StepContext,
    StepError,
    StepInterruptedError,
    StepSemantics,
    durable_execution,
    durable_step,
)
from perdure.exceptions import CallableRuntimeError, RetryableSerDesError, UserlandError
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import OperationStatus
from support.local import Local
from support.wire import Recording

NO_RETRY = StepConfig(RetryPresets.none())
AT_MOST_ONCE = StepConfig(RetryPresets.none(), StepSemantics.AT_MOST_ONCE_PER_RETRY)


def fail(_: StepContext) -> None:
    raise ValueError("boom")


def test_a_step_runs_once_and_a_replay_returns_what_was_recorded() -> None:
    runs = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        first = context.step(lambda _: runs.append("first") or 7, name="first")
        context.wait(5)
        return first, context.step(lambda _: runs.append("second") or 8, name="second")

    assert Local(handler).run().result == [7, 8]
    assert runs == ["first", "second"]


def test_a_step_without_parameters_is_called_without() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.step(lambda: 1)

    assert Local(handler).run().result == 1


def test_a_plain_function_gives_no_name_and_a_durable_step_its_own() -> None:
    def charge(_: StepContext) -> int:
        return 1

    @durable_step
    def reserve(_: StepContext, what: str, *, amount: int = 1) -> str:
        return what * amount

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(charge)
        context.step(charge, name="")
        context.step(charge, name="charge")
        return context.step(reserve("x", amount=2))

    outcome = Local(handler).run()
    assert outcome.result == "xx"
    assert [operation.name for operation in outcome.operations] == [None, None, "charge", "reserve"]


def test_a_durable_step_keeps_the_face_of_its_function() -> None:
    @durable_step
    def reserve(context: StepContext, what: str) -> str:
        """Reserve it."""
        return what

    assert (reserve.__name__, reserve.__doc__) == ("reserve", "Reserve it.")


def test_the_name_may_come_first() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.step("named", lambda _: 1)

    assert Local(handler).run().op("named").result == "1"


def test_the_default_policy_makes_six_attempts_with_growing_waits() -> None:
    """[23] Waits in [1,5], [1,10], [1,20], [1,40], [1,60]; and [27] the attempt counts from 1."""
    attempts: list[int] = []

    def flaky(step: StepContext) -> None:
        attempts.append(step.attempt)
        raise ValueError("boom")

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(flaky, name="flaky")

    outcome = Local(handler).run()
    assert attempts == [1, 2, 3, 4, 5, 6]
    failed = [event.event for event in outcome.history if event.type == "StepFailed"]
    delays = [event.next_attempt_delay_s for event in failed]  # type: ignore[attr-defined]
    assert delays[-1] is None
    assert all(1 <= delay <= most for delay, most in zip(delays[:-1], (5, 10, 20, 40, 60), strict=True))
    assert outcome.status is ExecutionStatus.FAILED


def test_a_strategy_is_asked_with_the_original_error_and_the_number_of_the_failed_attempt() -> None:
    """[26]"""
    asked: list[tuple[Exception, int]] = []
    error = ValueError("boom")

    def strategy(raised: Exception, attempts_made: int) -> RetryDecision:
        asked.append((raised, attempts_made))
        return RetryDecision.retry(1) if attempts_made < 3 else RetryDecision.no_retry()

    def body(_: StepContext) -> None:
        raise error

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(body, config=StepConfig(strategy))

    Local(handler).run()
    assert asked == [(error, 1), (error, 2), (error, 3)]
    assert asked[0][0] is error


def test_an_instantaneous_step_costs_one_call() -> None:
    """[28] START and SUCCEED travel together."""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        for number in range(3):
            context.step(lambda _, number=number: number)

    wire = Recording()
    Local(handler, client=wire.client).run()
    assert wire.shape() == [["STEP START", "STEP SUCCEED"]] * 3


def test_an_at_most_once_step_does_not_run_before_its_start_is_on_disk() -> None:
    """[29]"""
    wire = Recording()
    seen: list[Any] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: seen.append(wire.shape()), config=AT_MOST_ONCE)

    Local(handler, client=wire.client).run()
    assert seen == [[["STEP START"]]]
    assert wire.shape() == [["STEP START"], ["STEP SUCCEED"]]


class Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("retries", [0, 1])
def test_an_interrupted_at_most_once_step_does_not_run_again_within_its_attempt(retries: int) -> None:
    """[30] The strategy is asked with a StepInterruptedError."""
    asked: list[Exception] = []
    runs: list[int] = []

    def strategy(error: Exception, attempts_made: int) -> RetryDecision:
        asked.append(error)
        return RetryDecision.retry(1) if attempts_made <= retries else RetryDecision.no_retry()

    def body(step: StepContext) -> str:
        runs.append(step.attempt)
        if len(runs) == 1:
            raise Died
        return "ok"

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            return context.step(body, name="pay", config=StepConfig(strategy, StepSemantics.AT_MOST_ONCE_PER_RETRY))
        except StepError as error:
            return [type(error).__name__, str(error), error.error_type, error.is_interrupted]

    outcome = Local(handler).run()
    assert isinstance(asked[0], StepInterruptedError)
    if retries:
        assert outcome.result == "ok"
        assert runs == [1, 2]
    else:
        text = "step 'pay' was interrupted: whether it took effect is unknown"
        assert outcome.result == ["InterruptedStepError", text, "perdure.exceptions.StepInterruptedError", True]
        assert runs == [1]


def test_an_interrupted_at_least_once_step_runs_again() -> None:
    runs: list[int] = []

    def body(step: StepContext) -> str:
        runs.append(step.attempt)
        if len(runs) == 1:
            raise Died
        return "ok"

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.step(body)

    assert Local(handler).run().result == "ok"
    assert runs == [1, 1]


def test_an_interrupted_step_is_caught_by_both_names_and_in_a_child_becomes_its_failure() -> None:
    """[14]"""

    def die_once(step: StepContext) -> None:
        if not died:
            died.append(1)
            raise Died

    died: list[int] = []
    caught: list[str] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def inner(child: DurableContext) -> Any:
            return child.step(die_once, name="pay", config=AT_MOST_ONCE)

        try:
            context.run_in_child_context(inner, name="child")
        except StepError:
            caught.append("StepError")
        except Exception as error:
            caught.append(type(error).__name__)
        died.clear()
        try:
            context.step(die_once, name="again", config=AT_MOST_ONCE)
        except StepInterruptedError:
            caught.append("StepInterruptedError")

    outcome = Local(handler).run()
    assert outcome.status is ExecutionStatus.SUCCEEDED, outcome.error
    assert caught[-1] == "StepInterruptedError"
    assert "ChildContextError" in caught
    assert outcome.op("child").error.type == "perdure.exceptions.StepError"


def test_a_retry_delay_below_one_second_becomes_one_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """[31]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def strategy(_error: Exception, attempts_made: int) -> RetryDecision:
            return RetryDecision.retry(0) if attempts_made == 1 else RetryDecision.no_retry()

        context.step(fail, config=StepConfig(strategy))

    outcome = Local(handler).run()
    failed = [event.event for event in outcome.history if event.type == "StepFailed"]
    assert failed[0].next_attempt_delay_s == 1  # type: ignore[attr-defined]
    assert "raised to 1 s" in caplog.text


def test_what_a_step_returns_is_what_a_replay_would_read() -> None:
    """[32] and [36]"""
    values = [{1: "a"}, (1, (2, 3)), None, [1, [2]], "é", b"x", 1.5, {"k": (1,)}]
    seen: list[list[Any]] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        now = [context.step(lambda _, value=value: value) for value in values]
        context.wait(1)
        seen.append(now)

    outcome = Local(handler).run()
    assert outcome.status is ExecutionStatus.SUCCEEDED
    first = outcome.local
    assert first.invocations == 2
    assert seen == [[{"1": "a"}, (1, (2, 3)), None, [1, [2]], "é", b"x", 1.5, {"k": (1,)}]]
    assert outcome.operations[2].result == "null"


def test_the_first_run_sees_the_decoded_value_and_not_the_original() -> None:
    """[32]"""
    seen: list[Any] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        mutable = {"a": [1]}
        seen.append(context.step(lambda _: mutable) is mutable)
        seen.append(context.step(lambda _: {2: 3}))

    Local(handler).run()
    assert seen == [False, {"2": 3}]


def test_a_result_that_can_not_be_written_fails_at_once_and_is_caught_as_itself() -> None:
    """[33]"""
    runs: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def inner(child: DurableContext) -> Any:
            return child.step(lambda _: runs.append(1) or object(), name="odd")

        try:
            context.run_in_child_context(inner, name="child")
        except SerDesError as error:
            return str(error)

    outcome = Local(handler).run()
    assert outcome.result.startswith("a value of type builtins.object can't be written; return texts, numbers")
    assert runs == [1]
    assert outcome.op("odd").status is OperationStatus.FAILED
    assert outcome.op("odd").error.type == "perdure.exceptions.SerDesError"


def test_the_same_error_is_raised_by_a_replay() -> None:
    texts: list[tuple[str, str, str | None]] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        for config in (NO_RETRY, None):
            try:
                context.step((lambda _: object()) if config is None else fail, config=config)
            except (SerDesError, StepError) as error:
                texts.append((type(error).__name__, str(error), error.error_type))
        context.wait(1)

    Local(handler).run()
    assert texts[:2] == texts[2:]
    assert texts[0] == ("StepError", "boom", "ValueError")


def test_a_transient_serdes_failure_has_the_invocation_tried_again_and_records_nothing() -> None:
    """[34]"""

    class Flaky(SerDes[Any]):
        failures = 1

        def serialize(self, value: Any, serdes_context: SerDesContext) -> str:
            if self.failures:
                self.failures -= 1
                raise RetryableSerDesError("the file server is away")
            return str(value)

        def deserialize(self, data: str, serdes_context: SerDesContext) -> Any:
            return int(data)

    serdes = Flaky()

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.step(lambda _: 5, config=StepConfig(serdes=serdes))

    outcome = Local(handler).run()
    assert outcome.result == 5
    assert outcome.shown == [
        "ExecutionStarted",
        "InvocationCompleted",
        "StepStarted",
        "StepSucceeded",
        "InvocationCompleted",
        "ExecutionSucceeded",
    ]


def test_an_execution_error_from_a_body_fails_the_execution_and_not_the_step() -> None:
    """[35]"""

    def give_up(_: StepContext) -> None:
        raise ExecutionError("no point")

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(give_up, name="s")

    outcome = Local(handler).run()
    assert (outcome.status, outcome.error.type) == (ExecutionStatus.FAILED, "perdure.exceptions.ExecutionError")
    assert "StepFailed" not in outcome.shown


def test_an_invocation_error_from_a_body_is_judged_like_any_other() -> None:
    def body(step: StepContext) -> int:
        if step.attempt == 1:
            raise InvocationError("later")
        return step.attempt

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.step(body)

    outcome = Local(handler).run()
    assert outcome.result == 2
    assert outcome.shown.count("StepFailed") == 1


@pytest.mark.parametrize("name", [CallableRuntimeError, UserlandError])
def test_the_old_names_catch_a_failed_step(name: type[Exception]) -> None:
    """[13]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            context.step(fail, config=NO_RETRY)
        except name as error:
            return [error.message, error.error_type]  # type: ignore[attr-defined]

    assert Local(handler).run().result == ["boom", "ValueError"]


def test_the_cause_is_made_from_the_record_in_both_runs() -> None:
    causes: list[tuple[str, str | None]] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            context.step(fail, config=NO_RETRY)
        except StepError as error:
            cause: Any = error.__cause__
            causes.append((type(cause).__name__, cause.error_type))
        context.wait(1)

    Local(handler).run()
    assert causes == [("DurableOperationError", "ValueError")] * 2


def test_a_failed_step_has_a_stack_trace_whose_first_frame_is_the_author_s() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(fail, name="f", config=NO_RETRY)

    outcome = Local(handler).run()
    trace = outcome.op("f").error.stack_trace
    assert "test_steps.py" in trace[0]
    assert "in fail" in trace[0]
    assert len(trace) == 1


@pytest.mark.parametrize("status", ["CANCELLED", "STOPPED", "TIMED_OUT"])
def test_a_step_that_ended_otherwise_raises_instead_of_running(status: str) -> None:
    """[37]"""
    from msgspec.structs import replace

    from support.wire import Handmade

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: pytest.fail("it ran"), name="s")

    handmade = Handmade(handler)
    handmade.step("s", status="SUCCEEDED")
    record = handmade.operations[-1]
    handmade.operations[-1] = replace(record, status=OperationStatus(status), result=None)
    answer = handmade.invoke()
    assert answer.error is not None
    assert (answer.error.type, answer.error.message) == (
        "perdure.exceptions.StepError",
        f"step 's' was {status.lower()}",
    )


def test_a_body_learns_its_attempt_and_a_key_that_stays_the_same() -> None:
    keys: list[tuple[int, str]] = []

    def body(step: StepContext) -> None:
        keys.append((step.attempt, step.idempotency_key))
        if step.attempt < 3:
            raise ValueError

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(body, name="s")

    outcome = Local(handler).run()
    assert [attempt for attempt, _ in keys] == [1, 2, 3]
    assert {key for _, key in keys} == {f"{outcome.id}:{outcome.op('s').id}"}


def test_an_async_body_in_a_blocking_handler_is_refused_with_the_way_out() -> None:
    """[87]"""

    async def body(_: StepContext) -> int:
        return 1

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(body, config=NO_RETRY)

    outcome = Local(handler).run()
    assert "is an `async def` function in a handler that is not" in outcome.error.message


def test_a_default_serdes_and_a_default_strategy_hold_for_steps_without_their_own() -> None:
    class Upper(SerDes[Any]):
        def serialize(self, value: Any, serdes_context: SerDesContext) -> str:
            return str(value).upper()

        def deserialize(self, data: str, serdes_context: SerDesContext) -> Any:
            return data

    @durable_execution(serdes=Upper(), retry_strategy=RetryPresets.none())
    def handler(event: Any, context: DurableContext) -> Any:
        text = context.step(lambda _: "x")
        try:
            context.step(fail)
        except StepError:
            return text

    outcome = Local(handler).run()
    assert outcome.result == "X"
    assert outcome.shown.count("StepFailed") == 1


def test_suspension_passes_except_exception_and_runs_finally() -> None:
    """[70]"""
    seen: list[str] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            try:
                context.wait(5)
            except Exception:
                seen.append("exception")
            finally:
                seen.append("finally")
        except BaseException:
            seen.append("base")
            raise
        seen.append("after")

    outcome = Local(handler).run()
    assert seen == ["finally", "base", "finally", "after"]
    assert outcome.status is ExecutionStatus.SUCCEEDED


def test_a_swallowed_suspension_is_pending_and_every_later_operation_suspends_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """[71]"""
    ran: list[str] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            context.wait(5)
        except BaseException:
            ran.append("swallowed")
        try:
            context.step(lambda _: ran.append("step"))
        except BaseException:
            ran.append("suspended again")
        return "wrong"

    local = Local(handler)
    execution_id = local.start()
    with caplog.at_level(logging.WARNING):
        local.pump()
    assert local.service.get(execution_id).status is ExecutionStatus.RUNNING
    assert ran == ["swallowed", "suspended again"]
    assert "a suspension was swallowed" in caplog.text
    assert "in handler" in caplog.text


def test_a_step_takes_no_time_from_the_clock_it_does_not_have() -> None:
    """The times of the history are the service's, even if the handler's clock is another."""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: None, name="s")

    outcome = Local(handler).run()
    assert outcome.op("s").start_ms == outcome.view.start_ms
    assert outcome.view.start_ms != int(time.time() * 1000)
