"""A test goes through an execution point by point: by invocations, by suspensions, by operations."""

from datetime import timedelta
from typing import Any

import pytest

from perdure import DurableContext, durable_execution
from perdure.exceptions import ValidationError
from perdure.testing import LocalRunner, WallTimeout


@durable_execution
def stages(_event: Any, context: DurableContext) -> str:
    context.step(lambda: 1, name="first")
    context.wait(60, name="pause")
    answer = context.create_callback("approve").result()
    context.wait(60, name="rest")
    context.step(lambda: 2, name="charge")
    return str(answer)


def names(result: Any) -> list[str]:
    return [each.name for each in result.all_operations]


def test_until_suspended_stops_at_the_first_suspension() -> None:
    with LocalRunner(stages) as runner:
        result = runner.run(until="suspended")
    assert (names(result), result.duration, result.status) == (["first", "pause"], timedelta(0), "PENDING")


def test_until_a_callback_stops_once_it_is_open() -> None:
    with LocalRunner(stages) as runner:
        result = runner.run(until="callback:approve")
    assert (names(result), result.duration) == (["first", "pause", "approve"], timedelta(seconds=60))


def test_until_an_operation_stops_once_it_has_begun() -> None:
    with LocalRunner(stages) as runner:
        result = runner.auto_callback("approve", "yes").run(until="operation:rest")
    assert names(result) == ["first", "pause", "approve", "rest"]
    assert result.op("rest").status == "STARTED"


def test_until_a_number_stops_after_so_many_invocations() -> None:
    with LocalRunner(stages) as runner:
        result = runner.run(until=2)
    assert [each.status for each in result.invocations] == ["PENDING", "PENDING"]


def test_until_stops_at_the_end_at_the_latest() -> None:
    with LocalRunner(stages) as runner:
        result = runner.auto_callback("approve", "yes").run(until="operation:never")
    result.assert_succeeded("yes")


def test_until_says_what_it_understands() -> None:
    with LocalRunner(stages) as runner, pytest.raises(ValidationError, match="until must be 'suspended'"):
        runner.run(until="forever")


def test_invoke_once_runs_one_invocation_at_a_time() -> None:
    with LocalRunner(stages) as runner:
        first = runner.invoke_once()
        assert (first.status, [each.name for each in first.pending]) == ("PENDING", ["pause"])
        second = runner.invoke_once()
        assert (second.status, [each.name for each in second.pending]) == ("PENDING", ["approve"])
        second.execution.callback("approve").succeed("yes")
        assert len(second.result.invocations) == 2
        third = runner.invoke_once()
        assert [each.name for each in third.pending] == ["rest"]
        last = runner.invoke_once()
        assert (last.status, last.pending, last.result.result) == ("SUCCEEDED", [], "yes")
        assert runner.invoke_once().execution != last.execution


def test_invoke_once_says_so_if_no_invocation_can_follow() -> None:
    with LocalRunner(stages) as runner:
        runner.invoke_once()
        waiting = runner.invoke_once()
        with pytest.raises(WallTimeout, match="waiting for the next invocation"):
            runner.invoke_once()
        waiting.execution.callback("approve").succeed("yes")
        done = waiting.execution.result()
        done.assert_succeeded("yes")
        with pytest.raises(ValidationError, match="no invocation of it follows"):
            runner.invoke_once(execution=waiting.execution)


def test_a_paused_execution_goes_on_only_when_it_is_resumed() -> None:
    with LocalRunner(stages) as runner:
        runner.auto_callback("approve", "yes")
        execution = runner.start()
        execution.pause()
        assert execution.status == "PAUSED"
        with pytest.raises(WallTimeout, match=" PAUSED "):
            execution.result(wall_timeout=0.05)
        execution.resume()
        execution.result().assert_succeeded("yes")


def test_a_stopped_execution_has_the_error_that_it_was_stopped_with() -> None:
    with LocalRunner(stages) as runner:
        execution = runner.start()
        execution.callback("approve").wait()
        execution.stop("changed my mind")
        result = execution.result()
    result.assert_stopped()
    assert result.error.message == "changed my mind"


def test_raises_raises_the_failure_as_what_it_was() -> None:
    @durable_execution
    def failing(_event: Any, _context: DurableContext) -> None:
        raise ZeroDivisionError("by nought")

    with LocalRunner(failing) as runner, pytest.raises(ZeroDivisionError, match="by nought"):
        runner.run(raises=True)


def test_deployed_code_runs_from_the_next_invocation_on() -> None:
    @durable_execution
    def changed(_event: Any, context: DurableContext) -> str:
        context.step(lambda: 1, name="first")
        context.wait(60, name="pause")
        return "new code"

    with LocalRunner(stages) as runner:
        execution = runner.start()
        runner.go_on(execution, "suspended")
        runner.deploy(changed)
        assert execution.result().result == "new code"


def test_deployed_code_that_does_not_fit_fails_the_execution() -> None:
    @durable_execution
    def incompatible(_event: Any, context: DurableContext) -> None:
        context.wait(60, name="something else")

    with LocalRunner(stages) as runner:
        execution = runner.start()
        runner.go_on(execution, "suspended")
        runner.deploy(incompatible)
        execution.result().assert_failed(type="NonDeterministicExecutionError")
