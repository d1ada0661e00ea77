"""Callbacks and chained invokes. Numbers in brackets are those of the SDK specification's checklist."""

from typing import Any

import pytest

from perdure import (
    CallbackConfig,
    CallbackError,
    CallbackExternalError,
    CallbackSubmitterError,
    CallbackTimeoutError,
    ChildContextError,
    DurableContext,
    Duration,
    InvokeConfig,
    InvokeError,
    JsonSerDes,
    RetryPresets,
    SerDes,
    SerDesContext,
    ValidationError,
    WaitForCallbackConfig,
    durable_execution,
    durable_wait_for_callback,
)
from perdure.exceptions import CallableRuntimeError
from perdure.model.error import ErrorObject
from perdure.model.execution import DurableConfig, ExecutionStatus
from perdure.sdk.client import Answer
from perdure.sdk.invocation import InvocationStatus
from support.local import Local, Outcome
from support.wire import Handmade, Recording


def _waiting(handler: Any) -> Outcome:
    """Run a handler until it waits for its callback."""
    return Local(handler).run()


def _answered(handler: Any, *answers: Any) -> Outcome:
    """Run a handler whose callbacks are answered, one after the other."""
    outcome = _waiting(handler)
    for answer in answers:
        service = outcome.local.service
        callback_id = outcome.callback_id()
        if isinstance(answer, ErrorObject):
            service.fail_callback(callback_id, answer)
        else:
            service.succeed_callback(callback_id, answer)
        outcome.local.go_on(outcome.id)
    return outcome


def test_a_callback_waits_and_returns_the_raw_text() -> None:
    """[66]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        callback = context.create_callback("approval")
        return callback.result()

    assert _answered(handler, '{"a": 1}').result == '{"a": 1}'
    assert _answered(handler, b"").result is None


def test_a_callback_with_a_serdes_is_decoded_and_unpacks_into_future_and_id() -> None:
    """S24"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        future, callback_id = context.create_callback(config=CallbackConfig(serdes=JsonSerDes()))
        assert isinstance(callback_id, str)
        return future.result()  # type: ignore[union-attr]

    assert _answered(handler, '{"a": 1}').result == {"a": 1}


def test_code_between_the_callback_and_its_result_runs_even_if_it_has_failed() -> None:
    """[68]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        callback = context.create_callback("c")
        text = context.step(lambda _: f"sent {len(callback.callback_id) > 20}")
        try:
            callback.result()
        except CallbackError as error:
            return [text, type(error).__name__]

    assert _answered(handler, ErrorObject("no")).result == ["sent True", "CallbackExternalError"]


def test_a_reported_failure_keeps_its_data_its_stack_and_its_type_beside_ours() -> None:
    """[67]"""
    seen: list[Any] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            context.create_callback("c").result()
        except CallbackExternalError as error:
            seen.append([str(error), error.error_type, error.external_error_type, error.data, error.stack_trace])

    _answered(handler, ErrorObject("no", "Declined", "card", ("frame",)))
    assert seen == [["no", "perdure.exceptions.CallbackExternalError", "Declined", "card", ["frame"]]]


def test_a_callback_times_out_with_an_error_that_callback_error_catches() -> None:
    """[67], S21"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            context.create_callback("c", CallbackConfig(timeout=Duration.from_minutes(2))).result()
        except CallbackError as error:
            return [type(error).__name__, str(error)]

    outcome = Local(handler).run()
    assert outcome.result == ["CallbackTimeoutError", "Callback timed out"]
    assert outcome.view.end_ms == outcome.view.start_ms + 120_000


def test_a_missing_heartbeat_times_it_out_too() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.create_callback("c", CallbackConfig(heartbeat_timeout=10)).result()

    outcome = Local(handler).run()
    assert (outcome.error.type, outcome.error.message) == (
        "perdure.exceptions.CallbackTimeoutError",
        "Callback timed out on heartbeat",
    )


def test_wait_for_callback_records_three_operations_under_the_names_that_others_look_for() -> None:
    """[65]"""
    ids: list[str] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.wait_for_callback(ids.append, name="job")

    outcome = _answered(handler, "done")
    assert outcome.result == "done"
    assert [(op.name, op.sub_type) for op in outcome.operations] == [
        ("job", "WaitForCallback"),
        ("job create callback id", "Callback"),
        ("job submitter", "Step"),
    ]
    assert ids == [outcome.op("job create callback id").callback_id]


def test_wait_for_callback_without_a_name_has_the_bare_suffixes() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.wait_for_callback(lambda callback_id: None)

    assert [op.name for op in _answered(handler, "x").operations] == [None, "create callback id", "submitter"]


def test_a_submitter_may_take_the_context_too_and_have_arguments_bound() -> None:
    """[11]"""
    seen: list[Any] = []

    @durable_wait_for_callback
    def submit(callback_id: str, context: Any, order: int) -> None:
        context.logger.info("submitting")
        seen.append((len(callback_id) > 20, order))

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return context.wait_for_callback(submitter=submit(7))

    outcome = _answered(handler, "x")
    assert outcome.result == "x"
    assert seen == [(True, 7)]
    assert outcome.operations[0].name == "submit"


def test_a_submitter_without_a_parameter_is_refused() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        with pytest.raises(ValidationError, match="must take"):
            context.wait_for_callback(lambda: None)

    outcome = Local(handler).run()
    assert outcome.status is ExecutionStatus.SUCCEEDED
    assert outcome.operations == []


def test_a_failing_submitter_exhausts_its_retries_and_is_named_as_the_cause() -> None:
    """[69]"""
    tries: list[int] = []

    def submit(callback_id: str) -> None:
        tries.append(1)
        raise ConnectionError("refused")

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        config = WaitForCallbackConfig(retry_strategy=RetryPresets.fixed(1))
        try:
            context.wait_for_callback(submit, name="job", config=config)
        except CallbackSubmitterError as error:
            return str(error)

    assert Local(handler).run().result == "refused"
    assert len(tries) == 5


@pytest.mark.parametrize("kind", ["timeout", "failure"])
def test_the_failures_of_wait_for_callback_come_as_themselves_also_from_a_replay(kind: str) -> None:
    seen: list[str] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            context.wait_for_callback(lambda _: None, name="job", config=WaitForCallbackConfig(timeout_seconds=60))
        except CallbackTimeoutError:
            seen.append("timeout")
        except CallbackExternalError:
            seen.append("failure")
        context.wait(1)

    if kind == "timeout":
        Local(handler).run()
    else:
        outcome = Local(handler).run(until_s=1)
        outcome.local.service.fail_callback(outcome.callback_id(), ErrorObject("no"))
        outcome.local.go_on(outcome.id)
    assert seen == [kind, kind]


def test_a_custom_serdes_reads_the_payload_and_leaves_the_submitter_alone() -> None:
    class Order:
        def __init__(self, number: int) -> None:
            self.number = number

    class OrderSerDes(SerDes[Order]):
        def serialize(self, value: Order, serdes_context: SerDesContext) -> str:
            return f"order:{value.number}"

        def deserialize(self, data: str, serdes_context: SerDesContext) -> Order:
            return Order(int(data.partition(":")[2]))

    seen: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        config = WaitForCallbackConfig(serdes=OrderSerDes())
        seen.append(context.wait_for_callback(lambda _: 5, name="job", config=config).number)
        context.wait(1)

    outcome = _answered(handler, "order:7")
    assert outcome.status is ExecutionStatus.SUCCEEDED, outcome.error
    assert seen == [7, 7]
    assert outcome.op("job submitter").result == "null"


def test_a_callback_completed_while_the_handler_runs_is_not_lost() -> None:
    local: Local

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        callback = context.create_callback("c")
        context.step(lambda _: local.service.succeed_callback(callback.callback_id, "early"))
        return callback.result()

    local = Local(handler)
    outcome = local.run()
    assert outcome.result == "early"
    assert outcome.shown.count("InvocationCompleted") == 1


def test_a_service_that_gives_no_callback_id_is_an_error() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.create_callback("c")

    answer = Handmade(handler).invoke()
    assert answer.error is not None
    assert answer.error.type == "perdure.exceptions.CallbackError"


# --- invokes -----------------------------------------------------------------------------------------------------


@durable_execution(name="child")
def double(event: Any, context: DurableContext) -> Any:
    context.wait(60)
    if event == "fail":
        raise ValueError("child failed")
    return context.step(lambda _: [event, event], name="double")


def plain(event: Any, context: Any) -> Any:
    if event == "fail":
        raise ValueError("plain failed")
    return {"got": event}


def test_a_durable_function_is_invoked_and_waited_for() -> None:
    @durable_execution(name="parent")
    def parent(event: Any, context: DurableContext) -> Any:
        return context.invoke("child", {"n": 1}, name="call")

    local = Local(parent, double)
    outcome = local.run()
    local.advance(60)
    assert outcome.result == [{"n": 1}, {"n": 1}]
    call = outcome.op("call")
    child = local.service.get(call.execution_id)
    assert (child.function, child.input, child.parent.execution_id) == ("child", '{"n": 1}', outcome.id)  # type: ignore[union-attr]


def test_a_plain_function_is_called() -> None:
    @durable_execution(name="parent")
    def parent(event: Any, context: DurableContext) -> Any:
        return [context.invoke(function_name="plain", payload=[1]), context.invoke("plain")]

    assert Local(parent, functions={"plain": plain}).run().result == [{"got": [1]}, {"got": None}]


@pytest.mark.parametrize("target", ["child", "plain"])
def test_a_failing_target_raises_with_its_own_type(target: str) -> None:
    """[13] and [40]"""

    @durable_execution(name="parent")
    def parent(event: Any, context: DurableContext) -> Any:
        try:
            context.invoke(target, "fail")
        except CallableRuntimeError as error:
            return [type(error).__name__, error.message, error.error_type]

    local = Local(parent, double, functions={"plain": plain})
    outcome = local.run()
    local.advance(60)
    assert outcome.result == ["InvokeError", f"{target} failed", "ValueError"]


def test_an_unknown_target_raises_in_the_next_breath() -> None:
    @durable_execution(name="parent")
    def parent(event: Any, context: DurableContext) -> Any:
        try:
            context.invoke("nobody:live", {})
        except InvokeError as error:
            return [str(error), error.error_type]

    text = "Function not found: arn:aws:lambda:us-east-1:000000000000:function:nobody:live"
    assert Local(parent).run().result == [text, "ResourceNotFoundException"]


def test_a_stopped_and_a_timed_out_child_raise() -> None:
    """[40]"""

    @durable_execution(name="parent")
    def parent(event: Any, context: DurableContext) -> Any:
        try:
            context.invoke("child", 1, name="call")
        except InvokeError as error:
            return [str(error), error.error_type]

    local = Local(parent, double)
    outcome = local.run()
    local.service.stop(outcome.op("call").execution_id, ErrorObject("enough", "Operator"))
    assert local.go_on(outcome.id).result == ["enough", "Operator"]

    slow = Local(parent, double, config=DurableConfig(execution_timeout_s=100))
    second = slow.run()
    slow.service.pause(second.op("call").execution_id, is_timeout_paused=False)
    slow.advance(99)
    assert second.status is ExecutionStatus.RUNNING
    slow.advance(1)
    assert second.status is ExecutionStatus.TIMED_OUT


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "STOPPED", "CANCELLED"])
def test_every_bad_end_of_an_invoke_raises(status: str) -> None:
    """[40]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.invoke("fn", name="i")

    handmade = Handmade(handler)
    handmade.chained("i", status=status)
    answer = handmade.invoke()
    assert answer.status is InvocationStatus.FAILED
    assert answer.error is not None
    assert answer.error.message == f"function 'fn' was {status.lower()}"


def test_an_absent_result_is_none_and_an_absent_payload_is_sent_as_null() -> None:
    """[40] and [41]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        return [context.invoke("fn"), context.invoke("fn", {"a": 1})]

    handmade = Handmade(handler)
    handmade.chained(None, status="SUCCEEDED")
    handmade.chained(None, status="SUCCEEDED")
    assert handmade.invoke().result == "[null, null]"
    fresh = Handmade(handler)
    fresh.invoke()
    ((update,),) = fresh.calls
    assert (update.payload, update.function_name) == ("null", "fn")


def test_an_invoke_encodes_with_plain_json_and_with_a_serdes_if_it_has_one() -> None:
    """[41]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.invoke("fn", {"a": (1,)}, config=InvokeConfig(tenant_id="t-1"))

    wire = Recording()
    Local(handler, functions={"fn": plain}, client=wire.client).run()
    handmade = Handmade(handler)
    handmade.invoke()
    ((update,),) = handmade.calls
    assert (update.payload, update.tenant_id) == ('{"a": [1]}', "t-1")


@pytest.mark.parametrize("name", ["", None, 5])
def test_an_invoke_needs_the_name_of_a_function(name: Any) -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        with pytest.raises(ValidationError, match="function_name must be the name or ARN"):
            context.invoke(name)

    assert Local(handler).run().status is ExecutionStatus.SUCCEEDED


def test_a_child_context_error_of_another_kind_stays_one() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        def body(child: DurableContext) -> Any:
            raise KeyError("x")

        try:
            context.run_in_child_context(body)
        except ChildContextError as error:
            return error.error_type

    assert Local(handler).run().result == "KeyError"


def test_an_answer_without_the_right_to_go_on_is_pending_whatever_the_handler_returns() -> None:
    """[76]"""

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        context.step(lambda _: 1)
        return "ended"

    handmade = Handmade(handler)
    handmade.answers = [Answer((), may_go_on=False)]
    assert handmade.invoke().status is InvocationStatus.PENDING
