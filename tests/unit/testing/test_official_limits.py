"""Under its official name a runner has the official limits, and says more when they are reached."""

from typing import Any

import pytest

from perdure import DurableContext, durable_execution
from perdure.testing import DurableFunctionTestRunner, WallTimeout


@durable_execution
def asks(_event: Any, context: DurableContext) -> Any:
    context.wait(86_400 * 30, name="month")
    return context.create_callback(name="go").result()


def test_a_run_that_can_t_end_times_out_at_once_and_shows_what_it_waits_for() -> None:
    """[T1]"""
    with DurableFunctionTestRunner(asks) as runner:
        with pytest.raises(WallTimeout, match=r"go +CALLBACK STARTED +callback id") as raised:
            runner.run("{}", 10)
        assert isinstance(raised.value, TimeoutError)


def test_an_execution_that_is_waited_for_longer_than_its_limit_has_timed_out() -> None:
    """[T1]"""
    with DurableFunctionTestRunner(asks) as runner:
        execution = runner.run_async("{}", 10)
        result = runner.wait_for_result(execution, timeout=60)
        result.assert_timed_out()
        assert result.error.message == "Execution timed out after 10 seconds."
        first = runner.get_execution_history(execution).events[0]
        assert first.execution_started_details.execution_timeout == 10


def test_a_frozen_clock_lets_no_limit_pass() -> None:
    with DurableFunctionTestRunner(asks) as runner, runner.clock.frozen():
        execution = runner.run_async("{}", 10)
        with pytest.raises(WallTimeout, match="the clock is frozen"):
            runner.wait_for_result(execution, timeout=60)
