"""Invocations: answers, crashes, back-off, quarantine."""

import pytest

from perdure.engine import commands as cmd
from perdure.engine.terms import Limits, RetryPolicy, Terms
from perdure.model.error import ErrorObject, StaleToken
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import OperationStatus as Status
from support.one import One, callback, step, wait

BOOM = ErrorObject("boom", "RuntimeError")


def test_an_execution_without_a_free_place_waits_to_be_invoked() -> None:
    one = One(invoke=False)
    assert one.head.in_flight is None
    one.wake()
    assert one.effects == [cmd.StartInvocation(1)]


def test_there_is_never_a_second_invocation_in_flight() -> None:
    one = One()
    one.wake()
    assert one.effects == []
    assert one.head.epoch == 1


def test_the_completed_invocation_comes_before_the_end_that_its_answer_causes() -> None:
    one = One()
    one.end(cmd.Succeeded('"done"'))
    assert one.shown() == ["ExecutionStarted", "InvocationCompleted", "ExecutionSucceeded"]
    assert (one.head.status, one.head.result, one.head.end_ms) == (ExecutionStatus.SUCCEEDED, '"done"', one.now_ms)
    assert one.effects == [cmd.ExecutionEnded()]


def test_a_failed_answer_ends_the_execution_at_once() -> None:
    one = One()
    one.end(cmd.Failed(BOOM))
    assert (one.head.status, one.head.error) == (ExecutionStatus.FAILED, BOOM)


def test_what_was_not_sent_yet_is_applied_before_the_end_of_the_invocation() -> None:
    one = One()
    one.end(cmd.Pending(), wait("w", 5))
    assert one.shown() == ["ExecutionStarted", "WaitStarted", "InvocationCompleted"]
    assert one.head.waits == 1


def test_a_trigger_that_the_handler_has_not_seen_causes_one_more_invocation() -> None:
    one = One()
    one.checkpoint(callback("c"))
    one.do(cmd.CompleteCallback(callback_id=one.op("c").callback_id, result="1"))
    one.end(invoke=True)
    assert one.head.epoch == 2
    assert one.state.updated_ids == ("c",)
    one.end(cmd.Succeeded())
    assert one.head.invocation_count == 2


def test_a_trigger_that_was_delivered_by_a_checkpoint_causes_none() -> None:
    one = One()
    one.checkpoint(callback("c"), callback("d"))
    one.do(cmd.CompleteCallback(callback_id=one.op("c").callback_id, result="1"))
    one.checkpoint(step("s", "SUCCEED"))
    one.end(invoke=True)
    assert one.head.in_flight is None


def test_a_handler_that_suspends_beside_a_step_that_has_become_ready_is_invoked_once_more() -> None:
    one = One()
    one.checkpoint(step("s", "RETRY", error=BOOM, next_attempt_delay_s=5), callback("c"))
    one.now_ms += 5_000
    one.checkpoint()
    one.checkpoint(wait("w", 3600))
    assert one.status("s") is Status.READY
    one.end(invoke=True)
    assert one.effects == [cmd.StartInvocation(2)]
    assert one.head.invalid_pendings == one.head.failures.in_a_row == 0
    one.end(invoke=True)
    assert one.effects == []
    assert one.head.in_flight is None


def test_a_step_that_became_ready_and_was_run_causes_no_invocation() -> None:
    one = One()
    one.checkpoint(step("s", "RETRY", error=BOOM, next_attempt_delay_s=5), wait("w", 60))
    one.now_ms += 5_000
    one.checkpoint()
    one.checkpoint(step("s", "START"), step("s", "SUCCEED"))
    one.end(invoke=True)
    assert one.head.in_flight is None


def test_a_trigger_that_comes_with_the_last_updates_is_not_lost() -> None:
    """The answer to the updates that come with PENDING reaches nobody, so it delivers nothing."""
    one = One()
    one.checkpoint(callback("c"))
    one.do(cmd.CompleteCallback(callback_id=one.op("c").callback_id, result="1"))
    one.end(cmd.Pending(), wait("w", 60), invoke=True)
    assert one.head.epoch == 2


def test_pending_with_nothing_pending_is_tried_three_times_and_then_fails() -> None:
    one = One()
    one.end(invoke=True)
    one.end(invoke=True)
    assert one.head.epoch == 3
    one.end(invoke=True)
    assert one.head.status is ExecutionStatus.FAILED
    assert one.head.error.message == "Cannot return PENDING status with no pending operations."
    assert one.shown() == ["ExecutionStarted", *["InvocationCompleted"] * 3, "ExecutionFailed"]


def test_an_answer_of_a_superseded_invocation_changes_nothing() -> None:
    one = One()
    old = one.token
    one.do(cmd.LoseInvocation(epoch=1, error=BOOM, invoker="you"))
    events = len(one.journal)
    one.do(cmd.EndInvocation(token=old, outcome=cmd.Succeeded("1"), resolve=one.resolve))
    assert len(one.journal) == events
    assert one.head.status is ExecutionStatus.RUNNING


def test_a_lost_invocation_is_tried_again_at_once_the_first_time() -> None:
    one = One()
    one.do(cmd.LoseInvocation(epoch=1, error=BOOM, invoker="you"))
    assert one.head.in_flight.owner == "you"
    assert one.shown() == ["ExecutionStarted", "InvocationCompleted"]


def test_a_raising_invocation_is_tried_again_later_and_later() -> None:
    one = One(terms=Terms(retries=RetryPolicy(quarantine_after=100)))
    delays = []
    for _ in range(12):
        one.end(cmd.Crashed(BOOM))
        delays.append(one.head.retry_at_ms - one.now_ms)
        assert one.wake().events == []
        one.now_ms = one.head.retry_at_ms
        one.wake()
        assert one.head.in_flight is not None
    full = [min(1000 * 2**n, 300_000) for n in range(12)]
    assert all(base / 2 <= delay <= base for delay, base in zip(delays, full, strict=True))


def test_an_interrupted_step_stays_started() -> None:
    one = One()
    one.checkpoint(step("a", "START"))
    one.do(cmd.LoseInvocation(epoch=1, error=BOOM, invoker="you"))
    assert (one.status("a"), one.op("a").attempt) == (Status.STARTED, 0)


def test_an_execution_that_keeps_dying_at_one_point_is_paused_with_a_diagnosis() -> None:
    one = One(terms=Terms(retries=RetryPolicy(quarantine_after=3)))
    one.checkpoint(step("a", "SUCCEED", name="reserve"), step("b", "START", name="charge"))
    for _ in range(3):
        one.end(cmd.Crashed(BOOM))
        one.after(1000)
    assert one.head.status is ExecutionStatus.PAUSED
    assert one.head.pause.is_quarantine
    assert one.head.pause.reason == (
        "quarantined: 3 invocations in a row ended in STEP 'charge' without any progress; "
        "the last error was RuntimeError: boom"
    )
    assert one.shown()[-1] == "ExecutionPaused"


def test_the_diagnosis_names_the_last_operation_if_none_is_running() -> None:
    one = One(terms=Terms(retries=RetryPolicy(quarantine_after=1)))
    one.checkpoint(step("a", "SUCCEED", name="reserve"))
    one.end(cmd.Crashed(BOOM))
    assert "after STEP 'reserve'" in one.head.pause.reason


def test_progress_between_failures_keeps_an_execution_out_of_quarantine() -> None:
    one = One(terms=Terms(retries=RetryPolicy(quarantine_after=2)))
    for number in range(5):
        one.checkpoint(step(f"s{number}", "SUCCEED"))
        one.end(cmd.Crashed(BOOM))
        one.after(1000)
    assert one.head.status is ExecutionStatus.RUNNING
    assert (one.head.failures.in_a_row, one.head.failures.same_point) == (5, 1)


def test_a_quarantined_execution_can_be_resumed_and_starts_counting_anew() -> None:
    one = One(terms=Terms(retries=RetryPolicy(quarantine_after=1)))
    one.end(cmd.Crashed(BOOM))
    one.do(cmd.Resume(invoker="me"))
    assert one.head.in_flight is not None
    assert one.head.failures.in_a_row == 0
    one.end(cmd.Succeeded("1"))
    assert one.head.status is ExecutionStatus.SUCCEEDED


def test_a_clean_invocation_resets_the_count_of_failures() -> None:
    one = One()
    one.end(cmd.Crashed(BOOM))
    one.after(10)
    one.end(cmd.Pending(), wait("w", 1))
    assert one.head.failures.in_a_row == 0


def test_the_emulator_profile_gives_up_after_five_failures_five_seconds_apart() -> None:
    one = One(terms=Terms(retries=RetryPolicy.emulator()))
    for _ in range(5):
        one.end(cmd.Crashed(BOOM))
        one.after(5)
    assert (one.head.status, one.head.error) == (ExecutionStatus.FAILED, BOOM)


def test_a_released_invocation_is_no_failure_and_goes_on_at_once() -> None:
    one = One()
    one.end(cmd.Released())
    assert one.head.failures.in_a_row == 0
    one.wake()
    assert one.head.epoch == 2


def test_a_result_over_the_limit_fails_the_execution() -> None:
    one = One(terms=Terms(limits=Limits(result_bytes_max=3)))
    one.end(cmd.Succeeded('"ab"'))
    assert one.head.status is ExecutionStatus.FAILED
    assert one.head.error.message == "Execution output payload size must be less than or equal to 3 bytes."


def test_a_stale_answer_does_not_bring_its_updates_in() -> None:
    one = One()
    spent = one.token
    one.checkpoint(step("a", "SUCCEED"))
    one.do(cmd.EndInvocation(token=spent, outcome=cmd.Pending(), updates=[wait("w")], resolve=one.resolve))
    assert "w" not in one.state.operations


def test_after_the_execution_has_timed_out_a_checkpoint_is_stale_and_the_time_out_is_kept() -> None:
    from perdure.model.execution import DurableConfig

    one = One(config=DurableConfig(execution_timeout_s=10))
    one.now_ms += 10_000
    with pytest.raises(StaleToken):
        one.checkpoint(step("a", "SUCCEED"), token=cmd.Token(1, 0))
    assert one.head.status is ExecutionStatus.TIMED_OUT
