"""From start to deletion: time-outs, stop, pause, resume, callbacks, chained invokes."""

from typing import Any

import pytest

from perdure.engine import commands as cmd
from perdure.engine.terms import Limits, Terms
from perdure.engine.timers import next_due_ms, wake_at_ms
from perdure.model.error import (
    CallbackTimeout,
    ErrorObject,
    InvalidParameterValue,
    RequestTooLarge,
    ResourceConflict,
    ResourceNotFound,
    StaleToken,
)
from perdure.model.execution import DurableConfig, ExecutionStatus, ParentLink
from perdure.model.operation import OperationStatus as Status
from support.one import T0, One, callback, invoke, step, wait

DAY_S = 86_400


@pytest.mark.parametrize(
    ("start", "text"),
    [
        ({"name": "a b"}, "the execution's name must be 1 to 64"),
        ({"name": "x" * 65}, "the execution's name must be 1 to 64"),
        ({"config": DurableConfig(0)}, "ExecutionTimeout must be from 1 to 31622400 seconds, not 0"),
        ({"config": DurableConfig(1, 0)}, "RetentionPeriodInDays must be from 1"),
        ({"tenant_id": "\n"}, "TenantId must be"),
    ],
)
def test_a_start_with_wrong_arguments_is_refused(start: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidParameterValue, match=text):
        One(**start)


def test_an_input_over_the_limit_is_refused() -> None:
    with pytest.raises(RequestTooLarge, match="the input has 4 bytes; an execution's input may have 3"):
        One(input="1234", terms=Terms(limits=Limits(input_bytes_max=3)))


def test_the_execution_times_out_in_the_middle_of_a_wait() -> None:
    one = One(config=DurableConfig(execution_timeout_s=10))
    one.end(cmd.Pending(), wait("w", 60))
    one.after(9.999)
    assert one.head.status is ExecutionStatus.RUNNING
    one.after(0.001)
    assert (one.head.status, one.head.end_ms) == (ExecutionStatus.TIMED_OUT, T0 + 10_000)
    assert one.head.error.message == "Execution timed out after 10 seconds."
    assert next_due_ms(one.state) is None
    assert wake_at_ms(one.state, one.now_ms, None) is None
    assert one.shown()[-1] == "ExecutionTimedOut"


def test_a_stop_takes_effect_at_once_and_fences_the_invocation() -> None:
    one = One()
    token = one.token
    one.do(cmd.Stop(error=ErrorObject("enough", "Operator")))
    assert (one.head.status, one.head.error) == (ExecutionStatus.STOPPED, ErrorObject("enough", "Operator"))
    with pytest.raises(StaleToken):
        one.checkpoint(step("a", "SUCCEED"), token=token)
    one.do(cmd.EndInvocation(token=token, outcome=cmd.Succeeded("1"), resolve=one.resolve))
    assert one.head.status is ExecutionStatus.STOPPED
    assert one.shown() == ["ExecutionStarted", "ExecutionStopped", "InvocationCompleted"]


def test_a_second_stop_changes_nothing() -> None:
    one = One()
    one.do(cmd.Stop())
    assert one.head.error.message == "Execution stopped by user request"
    one.now_ms += 1
    one.do(cmd.Stop(error=ErrorObject("again")))
    assert (one.head.end_ms, one.head.error.message) == (T0, "Execution stopped by user request")


def test_open_operations_of_a_stopped_execution_keep_their_status() -> None:
    one = One()
    one.end(cmd.Pending(), wait("w"))
    one.do(cmd.Stop())
    assert one.status("w") is Status.STARTED


def test_a_pause_begins_at_once_when_nothing_runs_and_holds_invocations_back() -> None:
    one = One()
    one.end(cmd.Pending(), wait("w", 5))
    one.do(cmd.Pause(reason="look at it"))
    assert one.head.status is ExecutionStatus.PAUSED
    one.after(5)
    assert one.status("w") is Status.SUCCEEDED
    assert one.head.in_flight is None
    one.do(cmd.Resume(invoker="me"))
    assert one.head.in_flight is not None
    assert one.shown()[-3:] == ["ExecutionPaused", "WaitSucceeded", "ExecutionResumed"]


def test_a_pause_waits_for_the_next_checkpoint_of_a_running_invocation_and_withholds_its_token() -> None:
    one = One()
    one.do(cmd.Pause(reason="r"))
    assert one.head.status is ExecutionStatus.PAUSING
    decision = one.checkpoint(step("a", "SUCCEED"))
    assert decision.is_token_withheld
    assert one.head.status is ExecutionStatus.PAUSED
    assert one.status("a") is Status.SUCCEEDED
    with pytest.raises(StaleToken):
        one.checkpoint(step("b", "SUCCEED"))
    one.end()
    assert one.head.status is ExecutionStatus.PAUSED
    one.do(cmd.Resume(invoker="me"))
    assert one.head.epoch == 2


def test_a_pause_begins_when_the_running_invocation_ends_without_another_checkpoint() -> None:
    one = One()
    one.do(cmd.Pause())
    one.end(cmd.Pending(), wait("w", 60))
    assert one.head.status is ExecutionStatus.PAUSED
    one.do(cmd.Resume(invoker="me"))
    assert one.head.in_flight is None, "nothing happened meanwhile, and nothing was interrupted"


def test_a_resume_withdraws_a_pause_that_has_not_begun() -> None:
    one = One()
    one.do(cmd.Pause())
    one.do(cmd.Resume())
    assert one.head.status is ExecutionStatus.RUNNING
    one.checkpoint(step("a", "SUCCEED"))
    assert "ExecutionPaused" not in one.shown()


def test_an_execution_that_ends_while_pausing_has_ended() -> None:
    one = One()
    one.do(cmd.Pause())
    one.end(cmd.Succeeded("1"))
    assert one.head.status is ExecutionStatus.SUCCEEDED


def test_paused_time_is_added_to_the_execution_time_out() -> None:
    one = One(config=DurableConfig(execution_timeout_s=100))
    one.end(cmd.Pending(), wait("w", 200))
    one.now_ms += 50_000
    one.do(cmd.Pause())
    one.after(1000)
    assert one.head.status is ExecutionStatus.PAUSED
    one.do(cmd.Resume())
    one.after(49)
    assert one.head.status is ExecutionStatus.RUNNING
    one.after(1)
    assert one.head.status is ExecutionStatus.TIMED_OUT


def test_a_pause_that_leaves_the_clock_running_times_out() -> None:
    one = One(config=DurableConfig(execution_timeout_s=100))
    one.end(cmd.Pending(), wait("w", 200))
    one.do(cmd.Pause(is_timeout_paused=False))
    one.after(100)
    assert one.head.status is ExecutionStatus.TIMED_OUT


def test_a_paused_clock_ends_366_days_after_the_start_all_the_same() -> None:
    one = One(config=DurableConfig(execution_timeout_s=100))
    one.end(cmd.Pending(), wait("w", 200))
    one.do(cmd.Pause())
    one.after(366 * DAY_S)
    assert one.head.status is ExecutionStatus.TIMED_OUT


def test_repeating_a_pause_with_its_client_token_has_no_effect_for_a_quarter_of_an_hour() -> None:
    one = One()
    one.end(cmd.Pending(), wait("w", 20_000))
    one.do(cmd.Pause(client_token="p"))
    one.do(cmd.Resume(client_token="r"))
    assert one.do(cmd.Pause(client_token="p")).events == ()
    assert one.do(cmd.Resume(client_token="r")).events == ()
    one.now_ms += 15 * 60 * 1000
    one.do(cmd.Pause(client_token="p"))
    assert one.head.status is ExecutionStatus.PAUSED


@pytest.mark.parametrize("command", [cmd.Resume(), cmd.Delete()])
def test_what_does_not_fit_a_running_execution_is_a_conflict(command: cmd.Command) -> None:
    one = One()
    with pytest.raises(ResourceConflict):
        one.do(command)


def test_what_has_ended_can_be_deleted_and_not_paused() -> None:
    one = One()
    one.end(cmd.Succeeded())
    with pytest.raises(ResourceConflict, match="the execution is SUCCEEDED; only a RUNNING one can be paused"):
        one.do(cmd.Pause())
    one.do(cmd.Delete())
    assert one.head.status is ExecutionStatus.DELETING
    assert one.do(cmd.Delete()).events == ()


# --- callbacks ---------------------------------------------------------------------------------------------------


def _with_callback(**options: int) -> One:
    one = One()
    one.checkpoint(callback("c", **options))
    one.end()
    return one


def test_a_callback_is_completed_once() -> None:
    one = _with_callback()
    one.do(cmd.CompleteCallback(callback_id=one.op("c").callback_id, result='"yes"', invoker="me"))
    assert (one.status("c"), one.op("c").result) == (Status.SUCCEEDED, '"yes"')
    assert one.effects == [cmd.StartInvocation(2)]
    with pytest.raises(CallbackTimeout, match="already closed: SUCCEEDED"):
        one.do(cmd.CompleteCallback(callback_id=one.op("c").callback_id, result='"no"'))
    assert one.op("c").result == '"yes"'


def test_a_failed_callback_has_the_error_given_even_an_empty_one() -> None:
    one = _with_callback()
    one.do(cmd.CompleteCallback(callback_id=one.op("c").callback_id, is_failure=True))
    assert (one.status("c"), one.op("c").error) == (Status.FAILED, ErrorObject())


def test_an_unknown_callback_does_not_exist() -> None:
    with pytest.raises(ResourceNotFound, match="Callback does not exist"):
        _with_callback().do(cmd.CompleteCallback(callback_id="nobody"))


def test_a_callback_times_out() -> None:
    one = _with_callback(timeout_s=30)
    one.after(29.999)
    assert one.status("c") is Status.STARTED
    one.after(0.001)
    assert (one.status("c"), one.op("c").error.type) == (Status.TIMED_OUT, "Callback.Timeout")
    assert one.head.in_flight is not None


def test_a_callback_that_is_too_late_is_refused_and_the_time_out_is_recorded() -> None:
    one = _with_callback(timeout_s=30)
    one.now_ms += 30_000
    with pytest.raises(CallbackTimeout):
        one.do(cmd.CompleteCallback(callback_id=one.op("c").callback_id, result="1"))
    assert one.status("c") is Status.TIMED_OUT


def test_a_heartbeat_postpones_the_heartbeat_time_out_and_not_the_other() -> None:
    one = _with_callback(timeout_s=25, heartbeat_timeout_s=10)
    for _ in range(2):
        one.after(9)
        one.do(cmd.HeartbeatCallback(callback_id=one.op("c").callback_id))
    one.after(6.999)
    assert one.status("c") is Status.STARTED
    one.after(0.001)
    assert (one.status("c"), one.op("c").error.type) == (Status.TIMED_OUT, "Callback.Timeout")


def test_a_missing_heartbeat_times_the_callback_out() -> None:
    one = _with_callback(timeout_s=25, heartbeat_timeout_s=10)
    one.after(10)
    assert (one.status("c"), one.op("c").error.type) == (Status.TIMED_OUT, "Callback.Heartbeat")


def test_a_heartbeat_leaves_no_trace_in_the_history() -> None:
    one = _with_callback(heartbeat_timeout_s=10)
    before = one.shown()
    one.do(cmd.HeartbeatCallback(callback_id=one.op("c").callback_id))
    assert one.shown() == before


def test_a_callback_of_an_ended_execution_is_closed() -> None:
    one = _with_callback()
    one.do(cmd.Stop())
    with pytest.raises(CallbackTimeout, match="its execution is STOPPED"):
        one.do(cmd.CompleteCallback(callback_id=one.op("c").callback_id, result="1"))


def test_a_callback_result_over_the_limit_is_refused() -> None:
    one = _with_callback()
    one.terms = Terms(limits=Limits(payload_bytes_max=3))
    with pytest.raises(InvalidParameterValue, match="CALLBACK output payload size"):
        one.do(cmd.CompleteCallback(callback_id=one.op("c").callback_id, result="1234"))


# --- chained invokes ---------------------------------------------------------------------------------------------


def _with_invoke(*, durable: bool = True) -> One:
    one = One()
    one.resolve = lambda _update: cmd.Target("child", "3", DurableConfig() if durable else None)
    one.end(cmd.Pending(), invoke("i", "child:live", payload="{}"))
    return one


def test_a_durable_target_is_started_and_owed_until_it_is_confirmed() -> None:
    one = _with_invoke()
    child = one.op("i").execution_id
    wish = cmd.StartChild("i", child, "child", "3", "{}")
    assert one.effects == [wish]
    assert one.wake().effects == [wish]
    assert wake_at_ms(one.state, one.now_ms, None) == one.now_ms
    one.do(cmd.ConfirmChild(operation_id="i"))
    assert one.wake().effects == []
    assert one.do(cmd.ConfirmChild(operation_id="i")).events == ()


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (cmd.ChildOutcome("SUCCEEDED", "1"), Status.SUCCEEDED),
        (cmd.ChildOutcome("FAILED", error=ErrorObject("x")), Status.FAILED),
        (cmd.ChildOutcome("TIMED_OUT", error=ErrorObject("x")), Status.TIMED_OUT),
        (cmd.ChildOutcome("STOPPED", error=ErrorObject("x")), Status.STOPPED),
    ],
)
def test_the_outcome_of_the_target_ends_the_invoke_once(outcome: cmd.ChildOutcome, status: Status) -> None:
    one = _with_invoke()
    child = one.op("i").execution_id
    one.do(cmd.EndChainedInvoke(operation_id="i", outcome=outcome, child_id=child, invoker="me"))
    assert (one.status("i"), one.op("i").result, one.op("i").error) == (status, outcome.result, outcome.error)
    assert one.head.epoch == 2
    assert one.head.owed == 0
    again = cmd.EndChainedInvoke(operation_id="i", outcome=cmd.ChildOutcome("FAILED"), child_id=child)
    assert one.do(again).events == []


def test_a_foreign_child_can_not_end_an_invoke() -> None:
    one = _with_invoke()
    wrong = cmd.EndChainedInvoke(operation_id="i", outcome=cmd.ChildOutcome("SUCCEEDED"), child_id="other")
    assert one.do(wrong).events == []


def test_a_plain_target_is_called_and_owed_until_it_has_answered() -> None:
    one = _with_invoke(durable=False)
    wish = cmd.CallFunction("i", "child", "3", "{}")
    assert one.effects == [wish]
    assert one.wake().effects == [wish]
    one.do(cmd.EndChainedInvoke(operation_id="i", outcome=cmd.ChildOutcome("SUCCEEDED", "2")))
    assert one.wake(invoke=False).effects == []


def test_a_result_over_one_mebibyte_fails_the_invoke() -> None:
    one = _with_invoke(durable=False)
    outcome = cmd.ChildOutcome("SUCCEEDED", "x" * (1_048_576 + 1))
    one.do(cmd.EndChainedInvoke(operation_id="i", outcome=outcome))
    assert one.op("i").error.message.endswith("must be less than or equal to 1048576 bytes.")


def test_a_child_tells_its_parent_until_that_is_confirmed() -> None:
    one = One(parent=ParentLink("p", "i"))
    one.end(cmd.Succeeded('"r"'))
    wish = cmd.TellParent(ParentLink("p", "i"), cmd.ChildOutcome("SUCCEEDED", '"r"'))
    assert one.effects == [cmd.ExecutionEnded(), wish]
    assert one.wake().effects == [wish]
    with pytest.raises(ResourceConflict, match="has not been told"):
        one.do(cmd.Delete())
    one.do(cmd.ConfirmParentTold())
    assert one.wake().effects == []
    assert wake_at_ms(one.state, one.now_ms, None) is None


def test_a_child_that_timed_out_says_so_in_the_words_of_the_invoke() -> None:
    one = One(parent=ParentLink("p", "i"), config=DurableConfig(execution_timeout_s=10))
    one.after(10)
    told = one.effects[-1]
    assert isinstance(told, cmd.TellParent)
    assert told.outcome.error == ErrorObject("CHAINED_INVOKE timed out after 10 seconds.", "ChainedInvoke.Timeout")


def test_the_result_of_a_chained_execution_has_the_smaller_limit() -> None:
    one = One(parent=ParentLink("p", "i"))
    one.end(cmd.Succeeded('"' + "x" * 1_048_576 + '"'))
    assert one.head.status is ExecutionStatus.FAILED
