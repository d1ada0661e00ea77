"""The history: reference sequences, numbering, what a replay is given.

The sequences are those of the wire specification, section 5.4, from AWS's language-neutral conformance tests.
"""

from perdure.engine import commands as cmd
from perdure.engine.history import describe, visible_operations
from perdure.model import event as ev
from perdure.model.error import ErrorObject
from support.one import One, callback, context, invoke, step, wait

BOOM = ErrorObject("boom", "ValueError")
EXIT = cmd.Crashed(ErrorObject("gone", "Runtime.ExitError"), is_lost=True)


def _short(one: One) -> list[str]:
    """The history without its first event, abbreviated to initials: StepStarted is SS."""
    return ["".join(letter for letter in name if letter.isupper()) for name in one.shown()[1:]]


def test_step() -> None:
    one = One()
    one.checkpoint(step("1", "START"), step("1", "SUCCEED"))
    one.end(cmd.Succeeded())
    assert _short(one) == ["SS", "SS", "IC", "ES"]


def test_step_then_wait() -> None:
    one = One()
    one.checkpoint(step("1", "START"), step("1", "SUCCEED"))
    one.end(cmd.Pending(), wait("2", 1))
    one.after(1)
    one.end(cmd.Succeeded())
    assert one.shown()[1:7] == [
        "StepStarted",
        "StepSucceeded",
        "WaitStarted",
        "InvocationCompleted",
        "WaitSucceeded",
        "InvocationCompleted",
    ]


def test_retries_exhausted() -> None:
    one = One()
    for _ in range(3):
        one.end(cmd.Pending(), step("1", "START"), step("1", "RETRY", error=BOOM, next_attempt_delay_s=1))
        one.after(1)
    one.checkpoint(step("1", "START"), step("1", "FAIL", error=BOOM))
    one.end(cmd.Failed(BOOM))
    assert _short(one) == ["SS", "SF", "IC"] * 3 + ["SS", "SF", "IC", "EF"]
    attempts = [(e.attempt, e.next_attempt_delay_s) for e in one.journal if isinstance(e, ev.StepFailed)]
    assert attempts == [(1, 1), (2, 1), (3, 1), (4, None)]


def test_at_most_once_step_whose_process_was_killed_is_retried() -> None:
    one = One()
    one.checkpoint(step("1", "START"))
    one.end(EXIT, invoke=True)
    one.end(cmd.Pending(), step("1", "RETRY", error=BOOM, next_attempt_delay_s=1))
    one.after(1)
    one.checkpoint(step("1", "START"), step("1", "SUCCEED"))
    one.end(cmd.Succeeded())
    assert _short(one) == ["SS", "IC", "SF", "IC", "SS", "SS", "IC", "ES"]
    last = one.journal[-3]
    ended = [e for e in one.journal if isinstance(e, ev.StepSucceeded)]
    assert [e.attempt for e in ended] == [2], last


def test_killed_inside_a_step_of_a_child_context() -> None:
    one = One()
    one.checkpoint(context("1", "START"), step("2", "START", parent_id="1"))
    one.end(EXIT, invoke=True)
    one.checkpoint(step("2", "SUCCEED", parent_id="1"), context("1", "SUCCEED"))
    one.end(cmd.Succeeded())
    assert _short(one) == ["CS", "SS", "IC", "SS", "CS", "IC", "ES"]


def test_callback_and_wait_with_the_callback_first() -> None:
    one = One()
    one.checkpoint(callback("1"))
    one.end(cmd.Pending(), wait("2", 60))
    one.do(cmd.CompleteCallback(callback_id=one.op("1").callback_id, result="1", invoker="me"))
    one.end()
    one.after(60)
    one.end(cmd.Succeeded())
    assert _short(one) == ["CS", "WS", "IC", "CS", "IC", "WS", "IC", "ES"]


def test_chained_invoke() -> None:
    one = One()
    one.resolve = lambda _update: cmd.Target("fn", "1")
    one.end(cmd.Pending(), invoke("1", "fn:1"))
    one.do(cmd.EndChainedInvoke(operation_id="1", outcome=cmd.ChildOutcome("FAILED", error=BOOM), invoker="me"))
    one.end(cmd.Failed(BOOM))
    assert _short(one) == ["CIS", "IC", "CIF", "IC", "EF"]


def test_three_polls() -> None:
    one = One()
    for state in ("1", "2"):
        one.end(cmd.Pending(), step("1", "START"), step("1", "RETRY", payload=state, next_attempt_delay_s=1))
        one.after(1)
    one.checkpoint(step("1", "START"), step("1", "SUCCEED", payload="3"))
    one.end(cmd.Succeeded("3"))
    assert _short(one) == ["SS", "SS", "IC"] * 3 + ["ES"]
    polls = [(e.result, e.next_attempt_delay_s) for e in one.journal if isinstance(e, ev.StepSucceeded)]
    assert polls == [("1", 1), ("2", 1), ("3", None)]


def test_wait_for_callback_whose_submitter_fails_twice() -> None:
    one = One()
    one.checkpoint(context("1", "START"), callback("2", parent_id="1"))
    one.end(
        cmd.Pending(),
        step("3", "START", parent_id="1"),
        step("3", "RETRY", parent_id="1", error=BOOM, next_attempt_delay_s=1),
    )
    one.after(1)
    one.checkpoint(step("3", "START", parent_id="1"), step("3", "FAIL", parent_id="1", error=BOOM))
    one.checkpoint(context("1", "FAIL", error=BOOM))
    one.end(cmd.Failed(BOOM))
    assert _short(one) == ["CS", "CS", "SS", "SF", "IC", "SS", "SF", "CF", "IC", "EF"]


def test_handler_error_before_any_operation() -> None:
    one = One()
    one.end(cmd.Failed(BOOM))
    assert _short(one) == ["IC", "EF"]


def test_event_ids_run_from_one_without_gaps_over_what_is_not_shown() -> None:
    one = One()
    one.checkpoint(callback("c", heartbeat_timeout_s=10, name="ask"))
    one.do(cmd.HeartbeatCallback(callback_id=one.op("c").callback_id))
    one.end()
    shown = list(describe(one.journal, one.state.operations, 1))
    assert [event.event_id for event in shown] == list(range(1, one.head.event_count + 1))
    assert [(event.type, event.name) for event in shown] == [
        ("ExecutionStarted", None),
        ("CallbackStarted", "ask"),
        ("InvocationCompleted", None),
    ]


def test_a_replay_is_not_given_the_children_of_what_has_ended_unless_it_asked_for_them() -> None:
    one = One()
    one.checkpoint(
        context("1", "START"),
        context("2", "START", parent_id="1"),
        step("3", "SUCCEED", parent_id="2"),
        context("4", "START"),
        step("5", "SUCCEED", parent_id="4"),
        context("6", "START"),
        step("7", "SUCCEED", parent_id="6"),
    )
    one.checkpoint(context("2", "SUCCEED", parent_id="1"), context("1", "SUCCEED"))
    one.checkpoint(context("4", "SUCCEED", replay_children=True))
    assert [operation.id for operation in visible_operations(one.state.operations)] == ["1", "4", "5", "6", "7"]
