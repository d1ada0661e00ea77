"""The forms in which AWS's pages write durable functions, each as it stands there, import root aside.

The numbers are those of the table in the SDK's specification, section 0.1.
"""

import uuid
from types import SimpleNamespace
from typing import Any

import pytest

import perdure
from perdure import DurableContext, durable_execution
from perdure.exceptions import CallbackError
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import OperationStatus
from seeds import workshop_order
from support.local import Local, Outcome


def run(handler: Any, event: Any = None) -> Outcome:
    return Local(handler).run(event)


def test_the_workshop_order_runs_as_written_and_its_history_shows_the_retries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """[12] S2 to S5, S14, S18, S19: three failures in a row; the order is created once, the wait is waited once."""
    throws = iter([0.1, 0.4, 0.49, 0.5])
    monkeypatch.setattr(workshop_order, "random", SimpleNamespace(randint=lambda low, high: 42, random=throws.__next__))
    outcome = run(workshop_order.lambda_handler, {})
    assert outcome.result["success"] is True
    assert outcome.result["notification"]["sent"] is True
    shown = [(event.type, event.name) for event in outcome.history if event.type.startswith(("Step", "Wait"))]
    assert shown == [
        ("StepStarted", "create_order"),
        ("StepSucceeded", "create_order"),
        ("WaitStarted", None),
        ("WaitSucceeded", None),
        *[("StepStarted", "send_notification"), ("StepFailed", "send_notification")] * 3,
        ("StepStarted", "send_notification"),
        ("StepSucceeded", "send_notification"),
    ]
    delays = [e.event.next_attempt_delay_s for e in outcome.history if e.type == "StepFailed"]  # type: ignore[attr-defined]
    assert all(delay >= 1 for delay in delays), "each retry waits, and is due later than it failed"
    assert outcome.view.end_ms is not None
    assert outcome.view.end_ms - outcome.view.start_ms >= 5_000 + sum(delays) * 1000


def test_s1_s3_the_names_come_from_the_package_and_the_handler_needs_no_annotations() -> None:
    from perdure import DurableContext, durable_execution  # noqa: F401, PLC0415, RUF100

    @durable_execution
    def handler(event, context):  # type: ignore[no-untyped-def]
        return event["n"]

    assert run(handler, {"n": 1}).result == 1


def test_s6_s7_s8_s9_steps_of_lambdas_and_functions_named_or_not() -> None:
    def charge_payment(_: Any) -> str:
        return "charged"

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        transaction = context.step(lambda _: str(uuid.uuid4()), name="generate-transaction-id")
        payment = context.step(charge_payment, name="charge-payment")
        context.step(charge_payment)
        for item in event["items"]:
            context.step(lambda _, item=item: item, name=f"save-item-{item['id']}")
        return [transaction, payment]

    outcome = run(handler, {"items": [{"id": "a"}, {"id": "b"}]})
    assert uuid.UUID(outcome.result[0])
    names = [operation.name for operation in outcome.operations]
    assert names == ["generate-transaction-id", "charge-payment", None, "save-item-a", "save-item-b"]


def test_s12_s17_a_step_config_takes_the_word_execution_mode_and_is_in_the_package() -> None:
    config = perdure.StepConfig(execution_mode="AT_MOST_ONCE_PER_RETRY")
    assert config.step_semantics is perdure.StepSemantics.AT_MOST_ONCE_PER_RETRY

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.step(lambda _: "once", name="charge", config=config)

    assert run(handler).result == "once"


def test_s13_a_wait_takes_seconds() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.wait(86400)

    view = run(handler).view
    assert view.status is ExecutionStatus.SUCCEEDED
    assert view.end_ms is not None
    assert view.end_ms - view.start_ms == 86_400_000


def test_s15_s16_s21_a_callback_with_timeout_seconds_and_a_submitter_of_one_argument() -> None:
    sent: list[str] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            return context.wait_for_callback(
                lambda callback_id: sent.append(callback_id),
                name="external-job",
                config=perdure.WaitForCallbackConfig(timeout_seconds=3600),
            )
        except CallbackError as error:
            return f"no answer: {type(error).__name__}"

    assert run(handler).result == "no answer: CallbackTimeoutError"
    local = Local(handler)
    outcome = local.run(until_s=60)
    local.service.succeed_callback(sent[-1], "done")
    assert local.go_on(outcome.id).result == "done"


@pytest.mark.parametrize("kind", ["CallbackConfig", "WaitForCallbackConfig"])
def test_s15_the_heartbeat_too(kind: str) -> None:
    config = getattr(perdure, kind)(timeout_seconds=3600, heartbeat_timeout_seconds=60)
    assert (config.timeout_seconds, config.heartbeat_timeout_seconds) == (3600, 60)


def test_s20_a_print_in_a_step_prints_once(capsys: pytest.CaptureFixture[str]) -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: print("once"))
        context.wait(1)
        print("at each invocation")
        return "done"

    outcome = run(handler)
    assert outcome.result == "done"
    assert capsys.readouterr().out == "once\nat each invocation\n"
    assert outcome.operations[0].result == "null"
    assert outcome.operations[0].status is OperationStatus.SUCCEEDED


def test_s24_a_callback_unpacks_as_a_pair() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        future: Any
        future, callback_id = context.create_callback("answer")
        assert callback_id == future.callback_id
        return future.result()

    local = Local(handler)
    outcome = local.run()
    local.service.succeed_callback(outcome.callback_id("answer"), "yes")
    assert local.go_on(outcome.id).result == "yes"
