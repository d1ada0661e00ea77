"""Checkpoints: tokens, batches, what comes back, quotas."""

import pytest

from perdure.engine import commands as cmd
from perdure.engine.terms import Limits, Terms
from perdure.model.error import ErrorObject, InvalidUpdate, StaleToken
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import OperationStatus as Status
from support.one import One, callback, context, invoke, step, update, wait


def test_every_accepted_checkpoint_spends_its_token() -> None:
    one = One()
    first = one.token
    one.checkpoint(step("a", "SUCCEED"))
    with pytest.raises(StaleToken, match=r"^Invalid checkpoint token$"):
        one.checkpoint(step("b", "SUCCEED"), token=first)
    assert one.token == cmd.Token(first.epoch, first.count + 1)


def test_an_empty_checkpoint_spends_its_token_too() -> None:
    one = One()
    first = one.token
    one.checkpoint()
    with pytest.raises(StaleToken):
        one.checkpoint(token=first)


def test_a_new_invocation_makes_every_older_token_stale() -> None:
    one = One()
    old = one.token
    one.do(cmd.LoseInvocation(epoch=1, error=ErrorObject("died"), invoker="you"))
    assert one.token.epoch == 2
    with pytest.raises(StaleToken):
        one.checkpoint(step("a", "SUCCEED"), token=old)


def test_a_repeated_client_token_is_answered_again_and_changes_nothing() -> None:
    one = One()
    token = one.token
    one.checkpoint(step("a", "SUCCEED", payload="1"), client_token="c-1")
    events = len(one.journal)
    again = one.checkpoint(step("a", "SUCCEED", payload="1"), token=token, client_token="c-1")
    assert [operation.id for operation in again.repeated or ()] == ["a"]
    assert len(one.journal) == events


def test_a_repeated_client_token_is_forgotten_after_a_quarter_of_an_hour() -> None:
    one = One()
    token = one.token
    one.checkpoint(step("a", "SUCCEED"), client_token="c-1")
    one.now_ms += 15 * 60 * 1000
    with pytest.raises(StaleToken):
        one.checkpoint(step("a", "SUCCEED"), token=token, client_token="c-1")


def test_the_answer_repeats_the_operations_as_they_were_then() -> None:
    one = One()
    token = one.token
    one.checkpoint(callback("c"), client_token="c-1")
    callback_id = one.op("c").callback_id
    one.do(cmd.CompleteCallback(callback_id=callback_id, result="late"))
    again = one.checkpoint(callback("c"), token=token, client_token="c-1")
    assert again.repeated is not None
    assert again.repeated[0].status is Status.STARTED


def test_an_answer_has_what_changed_since_the_handler_last_looked_in_the_order_of_starting() -> None:
    one = One()
    one.checkpoint(callback("c"), wait("w", 5))
    one.do(cmd.CompleteCallback(callback_id=one.op("c").callback_id, result="1"))
    one.now_ms += 5_000
    one.checkpoint(step("s", "SUCCEED"))
    assert one.state.delivered is not None
    assert [(op.id, op.status) for op in one.state.delivered.operations] == [
        ("c", Status.SUCCEEDED),
        ("w", Status.SUCCEEDED),
        ("s", Status.SUCCEEDED),
    ]
    one.checkpoint()
    assert one.state.delivered.operations == ()


def test_a_wait_that_is_due_comes_back_succeeded_from_an_empty_checkpoint() -> None:
    one = One()
    one.checkpoint(wait("w", 1))
    one.now_ms += 1_000
    one.checkpoint()
    assert one.status("w") is Status.SUCCEEDED


def test_one_bad_update_refuses_the_batch_and_leaves_the_token_valid() -> None:
    one = One()
    token = one.token
    with pytest.raises(InvalidUpdate):
        one.checkpoint(step("a", "SUCCEED"), wait("w", 0))
    one.checkpoint(step("a", "SUCCEED"), token=token)


@pytest.mark.parametrize(
    "batch",
    [
        [step("a", "START"), step("a", "START")],
        [step("a", "SUCCEED"), step("a", "FAIL")],
        [wait("a"), update("a", "WAIT", "CANCEL")],
        [step("a", "START"), step("b", "START"), step("a", "SUCCEED"), step("a", "SUCCEED")],
    ],
)
def test_an_id_may_stand_twice_only_as_start_and_end_of_a_step_or_context(batch: list[object]) -> None:
    one = One()
    with pytest.raises(InvalidUpdate, match="Cannot checkpoint multiple operations with the same ID"):
        one.checkpoint(*batch)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (wait("a", name="n", sub_type="s"), "Inconsistent operation type."),
        (step("a", "SUCCEED", name="n", sub_type="t"), "Inconsistent operation subtype."),
        (step("a", "SUCCEED", name="m", sub_type="s"), "Inconsistent operation name."),
        (step("a", "SUCCEED", name="n", sub_type="s", parent_id="p"), "Inconsistent parent operation id."),
    ],
)
def test_an_update_must_describe_its_operation_as_it_is_stored(changed: object, text: str) -> None:
    one = One()
    one.checkpoint(context("p", "START"), step("a", "START", name="n", sub_type="s"))
    with pytest.raises(InvalidUpdate, match=text):
        one.checkpoint(changed)  # type: ignore[arg-type]


def test_a_parent_must_be_a_context_that_exists_or_starts_earlier_in_the_batch() -> None:
    one = One()
    for batch in (
        [step("a", "START", parent_id="nobody")],
        [step("a", "START", parent_id="c"), context("c", "START")],
        [step("s", "START"), step("a", "START", parent_id="s")],
    ):
        with pytest.raises(InvalidUpdate, match="Invalid parent operation id"):
            one.checkpoint(*batch)
    one.checkpoint(context("c", "START"), step("a", "START", parent_id="c"))
    assert one.op("a").parent_id == "c"


def test_a_late_child_of_a_closed_context_does_not_fail_the_batch() -> None:
    one = One()
    one.checkpoint(context("c", "START"), context("c", "SUCCEED"))
    one.checkpoint(step("a", "SUCCEED", parent_id="c"))
    assert one.status("a") is Status.SUCCEEDED


def test_a_closed_context_is_closed() -> None:
    one = One()
    one.checkpoint(context("c", "FAIL", error=ErrorObject("x")))
    for action, text in (
        ("START", "Cannot start a CONTEXT that already exists"),
        ("SUCCEED", "Invalid current CONTEXT"),
    ):
        with pytest.raises(InvalidUpdate, match=text):
            one.checkpoint(context("c", action))


def test_an_execution_update_ends_the_execution_under_its_own_id_and_withholds_the_token() -> None:
    one = One()
    decision = one.checkpoint(
        step("a", "SUCCEED"), update("execution-result-1", "EXECUTION", "SUCCEED", payload='"big"')
    )
    assert decision.is_token_withheld
    assert (one.head.status, one.head.result) == (ExecutionStatus.SUCCEEDED, '"big"')
    assert one.shown() == ["ExecutionStarted", "StepSucceeded", "ExecutionSucceeded"]
    with pytest.raises(StaleToken):
        one.checkpoint(token=cmd.Token(1, 1))
    one.end(cmd.Succeeded(""))
    assert one.head.result == '"big"'
    assert one.shown()[-1] == "InvocationCompleted"


def test_there_is_one_execution_update_and_it_is_the_last() -> None:
    one = One()
    end = update("x", "EXECUTION", "SUCCEED")
    with pytest.raises(InvalidUpdate, match="Cannot checkpoint multiple EXECUTION updates"):
        one.checkpoint(end, update("y", "EXECUTION", "FAIL"))
    with pytest.raises(InvalidUpdate, match="EXECUTION checkpoint must be the last update"):
        one.checkpoint(end, step("a", "SUCCEED"))


def test_the_operation_over_the_limit_fails_the_execution_and_withholds_the_token() -> None:
    one = One(terms=Terms(limits=Limits(operations_max=3)))
    one.checkpoint(step("a", "SUCCEED"), step("b", "SUCCEED"))
    decision = one.checkpoint(step("c", "SUCCEED"))
    assert decision.is_token_withheld
    assert one.head.status is ExecutionStatus.FAILED
    assert one.head.error.type == "ServiceQuotaExceededException"
    assert one.status("c") is Status.SUCCEEDED


def test_bytes_over_the_limit_fail_the_execution() -> None:
    one = One(terms=Terms(limits=Limits(written_bytes_max=10)))
    one.checkpoint(step("a", "SUCCEED", payload="x" * 10))
    assert one.head.status is ExecutionStatus.RUNNING
    one.checkpoint(step("b", "SUCCEED", payload="x"))
    assert one.head.status is ExecutionStatus.FAILED


def test_the_aws_profile_has_the_published_numbers() -> None:
    limits = Limits.aws()
    assert (limits.operations_max, limits.written_bytes_max) == (3_000, 100 * 1024 * 1024)
    assert (limits.payload_bytes_max, limits.result_bytes_max) == (1_048_576, 6_291_456)


@pytest.mark.parametrize("seconds", [0, 31_622_401, -1])
def test_a_wait_takes_from_one_second_to_366_days(seconds: int) -> None:
    one = One()
    with pytest.raises(InvalidUpdate, match=f"WaitSeconds must be from 1 to 31622400, not {seconds}"):
        one.checkpoint(wait("w", seconds))


def test_a_wait_can_be_cancelled_once() -> None:
    one = One()
    one.checkpoint(wait("w"))
    one.checkpoint(update("w", "WAIT", "CANCEL"))
    assert one.status("w") is Status.CANCELLED
    assert one.head.pending == 0
    with pytest.raises(InvalidUpdate, match="Cannot cancel a WAIT"):
        one.checkpoint(update("w", "WAIT", "CANCEL"))
    with pytest.raises(InvalidUpdate, match="Cannot start a WAIT that already exists"):
        one.checkpoint(wait("w"))


@pytest.mark.parametrize("kind", ["CALLBACK", "CHAINED_INVOKE"])
def test_callbacks_and_invokes_can_not_be_cancelled_by_the_handler(kind: str) -> None:
    one = One()
    with pytest.raises(InvalidUpdate, match="Invalid action for the given operation type"):
        one.checkpoint(update("c", kind, "CANCEL"))


def test_an_invoke_needs_the_name_of_a_function() -> None:
    one = One()
    with pytest.raises(InvalidUpdate, match="requires ChainedInvokeOptions"):
        one.checkpoint(update("i", "CHAINED_INVOKE", "START"))


def test_an_invoke_of_an_unknown_function_fails_in_the_same_answer() -> None:
    one = One()
    refusal = ErrorObject("Function not found: nobody", "ResourceNotFoundException")
    one.resolve = lambda _update: cmd.Target("nobody", "$LATEST", refusal=refusal)
    one.checkpoint(invoke("i", "nobody", payload="{}"))
    assert (one.status("i"), one.op("i").error) == (Status.FAILED, refusal)
    assert one.shown()[-2:] == ["ChainedInvokeStarted", "ChainedInvokeFailed"]
    assert one.effects == []
    assert one.head.owed == 0
