"""A durable function as Lambda calls it: events in, answers out. Numbers in brackets are those of the SDK checklist."""

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from perdure import (
    ChildContextError,
    DurableContext,
    DurableOperationError,
    Duration,
    ExecutionError,
    InvocationError,
    InvokeError,
    JsonSerDes,
    RetryDecision,
    SerDesError,
    StepConfig,
    StepError,
    StepInterruptedError,
    ValidationError,
    durable_execution,
)
from perdure.exceptions import (
    CallbackExternalError,
    CallbackSubmitterError,
    CallbackTimeoutError,
    CheckpointError,
    GetExecutionStateError,
    WaitForConditionError,
)
from perdure.execution import (
    DurableExecutionInvocationInput,
    DurableExecutionInvocationInputWithClient,
    InitialExecutionState,
)
from perdure.lambda_service import (
    CheckpointOutput,
    CheckpointUpdatedExecutionState,
    ErrorObject,
    LambdaClient,
    Operation,
    OperationUpdate,
    StateOutput,
)
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import OperationAction, OperationType, OperationUpdate as ModelUpdate
from perdure.sdk.entry import ANSWER_BYTES_MAX, written
from perdure.sdk.identity import operation_id
from perdure.sdk.invocation import InvocationAnswer, InvocationStatus
from perdure.sdk.remote import RemoteClient, link_to
from support.remote import remote

ARN = "arn:aws:lambda:us-east-1:123456789012:function:fn:1/durable-execution/order-7/id-1"
WAIT_S = 30
START_MS = 1_764_547_200_000
Json = dict[str, Any]


def execution(text: str | None = None) -> Json:
    details = {} if text is None else {"InputPayload": text}
    return {
        "Id": "id-1",
        "Type": "EXECUTION",
        "Status": "STARTED",
        "StartTimestamp": START_MS,
        "ExecutionDetails": details,
    }


def event_of(*operations: Json, marker: str = "") -> Json:
    return {
        "DurableExecutionArn": ARN,
        "CheckpointToken": "t1",
        "InitialExecutionState": {"Operations": list(operations), "NextMarker": marker},
    }


class Scripted:
    """boto3's two methods, answered by hand; whatever was not foreseen is a failure."""

    def __init__(self, *answers: Json | Exception) -> None:
        self.answers = list(answers)
        self.calls: list[Json] = []

    def _answer(self, parameters: Json) -> Json:
        self.calls.append(parameters)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def checkpoint_durable_execution(self, **parameters: Any) -> Json:
        return self._answer(parameters)

    def get_durable_execution_state(self, **parameters: Any) -> Json:
        return self._answer(parameters)


def answered(*operations: Json, token: str | None = "t2") -> Json:
    answer: Json = {"NewExecutionState": {"Operations": list(operations)}}
    return answer if token is None else {**answer, "CheckpointToken": token}


class Own:
    """A client of one's own, which says nothing but yes."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def checkpoint(
        self,
        durable_execution_arn: str,
        checkpoint_token: str,
        updates: list[OperationUpdate],
        client_token: str | None,
    ) -> CheckpointOutput:
        self.tokens.append(checkpoint_token)
        return CheckpointOutput(f"{checkpoint_token}+", CheckpointUpdatedExecutionState())

    def get_execution_state(
        self, durable_execution_arn: str, checkpoint_token: str, next_marker: str, max_items: int = 1000
    ) -> StateOutput:
        raise AssertionError("nothing was left out")


class Refused(Exception):
    def __init__(self, code: str, http_status: int) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": http_status}}


def echo(event: Any, context: DurableContext) -> Any:
    return event


# --- the event ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({}, "InitialExecutionState is missing"),
        ({"order": 7}, "InitialExecutionState is missing"),
        ({"InitialExecutionState": {}}, "DurableExecutionArn is missing"),
        ({"InitialExecutionState": {}, "DurableExecutionArn": ARN}, "CheckpointToken is missing"),
        ({**event_of(), "InitialExecutionState": []}, "not an object"),
        (event_of({"Id": "1", "Type": "DREAM", "Status": "STARTED"}), "Operation.Type must be one of"),
        (event_of({"Id": "1", "Type": "STEP"}), "Operation.Status is missing"),
        (event_of("step"), "must be a JSON object"),  # type: ignore[arg-type]
        (event_of({**execution(), "StartTimestamp": "soon"}), "Operation.StartTimestamp must be an ISO 8601 time"),
        ("order", "of type str"),
        (None, "of type NoneType"),
        (5, "of type int"),
    ],
)
def test_an_event_of_no_durable_execution_is_refused_with_the_way_out(event: Any, found: str) -> None:
    """[72]"""
    with pytest.raises(ExecutionError, match=r"unexpected payload.*durability is enabled") as raised:
        durable_execution(name="fn")(echo)(event, None)
    assert found in str(raised.value)


@pytest.mark.parametrize(
    "start",
    [START_MS, START_MS + 0.5, START_MS / 1000, START_MS // 1000, "2025-12-01T00:00:00Z", datetime.now(UTC), None],
)
def test_times_are_understood_in_all_the_ways_in_which_events_have_them(start: Any) -> None:
    event = event_of({**execution('{"a": 1}'), "StartTimestamp": start})
    assert durable_execution(echo)(event, None) == {"Status": "SUCCEEDED", "Result": '{"a": 1}'}


@pytest.mark.parametrize("state", [{}, {"Operations": None, "NextMarker": None}, {"Operations": [execution()]}])
def test_an_execution_without_input_has_an_empty_dictionary_as_event(state: Json) -> None:
    event = {"DurableExecutionArn": ARN, "CheckpointToken": "t1", "InitialExecutionState": state}
    assert durable_execution(echo)(event, None) == {"Status": "SUCCEEDED", "Result": "{}"}


def test_a_handler_without_operations_makes_no_call_and_starts_no_thread() -> None:
    """[82]"""
    boto3 = Scripted()
    before = threading.active_count()
    answer = durable_execution(boto3_client=boto3)(echo)(event_of(execution('"x"')), None)
    assert answer == {"Status": "SUCCEEDED", "Result": '"x"'}
    assert boto3.calls == []
    assert threading.active_count() == before


def test_an_invocation_that_sends_nothing_does_not_load_boto3() -> None:
    """[81]"""
    code = (
        "import sys, json; from perdure import durable_execution, DurableContext; "
        "import perdure.lambda_service, perdure.execution, perdure.state; "
        "answer = durable_execution(lambda event, context: event)(json.loads(sys.argv[1]), None); "
        "print(answer['Status'], [m for m in sys.modules if m.startswith(('boto', 'urllib3', 'asyncio', 'sqlite3'))])"
    )
    command = [sys.executable, "-c", code, json.dumps(event_of(execution("1")))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "SUCCEEDED []"


def test_the_platform_s_context_is_handed_on() -> None:
    platform = object()
    seen: list[Any] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> None:
        seen.append(context.lambda_context)

    assert handler(event_of(), platform) == {"Status": "SUCCEEDED", "Result": "null"}
    assert seen == [platform]


# --- loading -----------------------------------------------------------------------------------------------------


def test_loading_follows_markers_to_the_end_and_finds_the_input_on_a_later_page() -> None:
    """[78]"""
    step_id = operation_id("", 1)
    step = {"Id": step_id, "Type": "STEP", "Status": "SUCCEEDED", "Name": "a", "SubType": "Step"}
    boto3 = Scripted({"Operations": [], "NextMarker": "m2"}, {"Operations": [execution("[1]")], "NextMarker": ""})

    @durable_execution(boto3_client=boto3)
    def handler(event: Any, context: DurableContext) -> Any:
        return [event, context.step(lambda _: "run", name="a")]

    done = {**step, "StepDetails": {"Result": '"recorded"'}}
    answer = handler(event_of(done, marker="m1"), None)
    assert answer == {"Status": "SUCCEEDED", "Result": '[[1], "recorded"]'}
    assert [(call["CheckpointToken"], call["Marker"]) for call in boto3.calls] == [("t1", "m1"), ("t1", "m2")]


def test_a_state_that_can_t_be_loaded_now_fails_the_invocation() -> None:
    """[75]"""
    handler = durable_execution(boto3_client=Scripted(Refused("TooManyRequestsException", 429)))(echo)
    with pytest.raises(GetExecutionStateError):
        handler(event_of(marker="m1"), None)


def test_a_state_that_can_never_be_loaded_fails_the_execution() -> None:
    """[75]"""
    handler = durable_execution(boto3_client=Scripted(Refused("KMSDisabledException", 502)))(echo)
    answer = handler(event_of(marker="m1"), None)
    assert (answer["Status"], answer["Error"]["ErrorType"]) == (
        "FAILED",
        "perdure.exceptions.GetExecutionStateError",
    )


# --- the way of an execution -------------------------------------------------------------------------------------


def journey(event: Any, context: DurableContext) -> Any:
    order = context.step(lambda _: {"order": event}, name="order")
    context.wait(Duration.from_minutes(5), name="cool-down")

    def charge(step: Any) -> int:
        if step.attempt < 3:
            raise ConnectionError("the bank is closed")
        return int(step.attempt)

    def again(error: Exception, attempt: int) -> RetryDecision:
        return RetryDecision.retry(Duration.from_seconds(attempt))

    attempts = context.step(charge, name="charge", config=StepConfig(retry_strategy=again))
    shipped = context.run_in_child_context(lambda child: child.step(lambda _: "é", name="pack"), name="ship")
    return [order, attempts, shipped]


@pytest.mark.parametrize("page", [1000, 2, 1])
def test_an_execution_runs_through_lambda_s_events_and_answers(page: int) -> None:
    """Whatever the size of the service's pages."""
    service = remote(journey, page=page)
    assert service.run(7).result == [{"order": 7}, 3, "é"]
    assert [answer["Status"] for answer in service.answers] == ["PENDING"] * 3 + ["SUCCEEDED"]
    assert service.wire.sent == [
        ["STEP START", "STEP SUCCEED"],
        ["WAIT START"],
        ["STEP START", "STEP RETRY"],
        ["STEP START", "STEP RETRY"],
        ["STEP START", "STEP SUCCEED"],
        ["CONTEXT START", "STEP START", "STEP SUCCEED"],
        ["CONTEXT SUCCEED"],
    ]
    states = [kind for kind, _ in service.wire.calls].count("state")
    assert (states == 0) == (page == 1000)


def test_a_callback_is_created_and_answered_through_lambda_s_events() -> None:
    def handler(event: Any, context: DurableContext) -> Any:
        return context.wait_for_callback(lambda callback_id, _: issued.append(callback_id), name="approval")

    issued: list[str] = []
    service = remote(handler)
    waiting = service.run()
    assert waiting.status is ExecutionStatus.RUNNING
    assert issued == [waiting.callback_id()]
    service.service.succeed_callback(issued[0], "yes")
    assert service.go_on(waiting.id).result == "yes"


def test_a_wait_that_is_over_in_the_answer_goes_on_in_the_same_invocation() -> None:
    """[39]"""
    wait_id = operation_id("", 1)
    over = {"Id": wait_id, "Type": "WAIT", "Status": "SUCCEEDED", "SubType": "Wait", "StartTimestamp": START_MS}
    boto3 = Scripted(answered(over))

    @durable_execution(boto3_client=boto3)
    def handler(event: Any, context: DurableContext) -> str:
        context.wait(1)
        return "on"

    assert handler(event_of(execution()), None) == {"Status": "SUCCEEDED", "Result": '"on"'}
    assert [update["WaitOptions"] for update in boto3.calls[0]["Updates"]] == [{"WaitSeconds": 1}]


def test_a_large_result_of_an_instantaneous_step_is_sent_behind_its_start() -> None:
    """[77] It does not fit beside the START, so it travels alone."""
    service = remote(lambda event, context: len(context.step(lambda _: "x" * 800_000, name="large")))
    assert service.run().result == 800_000
    assert service.wire.sent == [["STEP START"], ["STEP SUCCEED"]]


@pytest.mark.parametrize("swallow", [True, False])
def test_an_answer_without_a_token_gives_pending_whatever_the_handler_returns(swallow: bool) -> None:
    """[76]"""
    boto3 = Scripted(answered(token=None))

    @durable_execution(boto3_client=boto3)
    def handler(event: Any, context: DurableContext) -> str:
        try:
            context.step(lambda _: 1, name="a")
        except BaseException:
            if not swallow:
                raise
        return "done"

    assert handler(event_of(execution()), None) == {"Status": "PENDING"}
    assert len(boto3.calls) == 1


@pytest.mark.parametrize(
    "error", [Refused("TooManyRequestsException", 429), Refused("ServiceException", 500), ConnectionError("gone")]
)
def test_a_checkpoint_that_may_succeed_later_fails_the_invocation(error: Exception) -> None:
    """[75]"""
    handler: Any = durable_execution(boto3_client=Scripted(error))(
        lambda _, context: context.step(lambda _: 1, name="a")
    )
    with pytest.raises(CheckpointError) as raised:
        handler(event_of(execution()), None)
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("code", ["InvalidParameterValueException", "KMSNotFoundException"])
def test_a_checkpoint_that_is_refused_fails_the_execution(code: str) -> None:
    """[75]"""
    boto3 = Scripted(Refused(code, 400))
    handler: Any = durable_execution(boto3_client=boto3)(lambda _, context: context.step(lambda _: 1, name="a"))
    answer = handler(event_of(execution()), None)
    assert (answer["Status"], answer["Error"]["ErrorType"]) == ("FAILED", "perdure.exceptions.CheckpointError")


def test_the_start_of_a_step_that_takes_long_is_sent_while_it_runs() -> None:
    """So that operators see what is running."""
    started = threading.Event()

    class Telling(Own):
        def checkpoint(self, *args: Any, **more: Any) -> CheckpointOutput:
            started.set()
            return super().checkpoint(*args, **more)

    telling = Telling()
    handler: Any = durable_execution(client=telling)(lambda _, ctx: ctx.step(lambda _: started.wait(WAIT_S), name="a"))
    assert handler(event_of(execution()), None) == {"Status": "SUCCEEDED", "Result": "true"}
    assert telling.tokens == ["t1", "t1+"]


def test_what_an_invocation_waits_for_is_sent_before_it_answers_pending() -> None:
    """The START alone of a step or a context is not: a replay makes it again."""
    boto3 = Scripted(answered())
    client = RemoteClient(lambda: link_to(LambdaClient(boto3)), ARN, "t1")
    start = ModelUpdate("s", OperationType.STEP, OperationAction.START)
    wait = ModelUpdate("w", OperationType.WAIT, OperationAction.START, wait_s=5)
    pending = InvocationStatus.PENDING
    assert written(InvocationAnswer(pending, updates=[start]), client) == {"Status": "PENDING"}
    assert boto3.calls == []
    assert written(InvocationAnswer(pending, updates=[start, wait]), client) == {"Status": "PENDING"}
    assert [update["Id"] for update in boto3.calls[0]["Updates"]] == ["s", "w"]


# --- answers and their size --------------------------------------------------------------------------------------


def test_a_result_of_the_limit_is_answered() -> None:
    """[74]"""
    boto3 = Scripted()
    size = ANSWER_BYTES_MAX - 2
    answer = durable_execution(boto3_client=boto3)(lambda _, context: "x" * size)(event_of(execution()), None)
    assert len(answer["Result"]) == ANSWER_BYTES_MAX == 6 * 1024 * 1024 - 50
    assert boto3.calls == []


def test_a_result_over_the_limit_is_recorded_by_a_checkpoint_of_a_fixed_id() -> None:
    """[74]"""
    service = remote(lambda _, context: "x" * (ANSWER_BYTES_MAX - 1))
    outcome = service.run()
    assert service.answers == [{"Status": "SUCCEEDED", "Result": ""}]
    ((_, body),) = service.wire.calls
    (update,) = body["Updates"]
    assert (update["Id"], update["Type"], update["Action"]) == ("execution-result", "EXECUTION", "SUCCEED")
    assert outcome.result == "x" * (ANSWER_BYTES_MAX - 1)


def test_the_limit_of_a_result_counts_bytes() -> None:
    """[74]"""
    size = ANSWER_BYTES_MAX // 2 + 1

    class Raw(JsonSerDes):
        def serialize(self, value: Any, _: Any) -> str:
            return "é" * size

    service = remote(lambda _, context: None, output_serdes=Raw())
    assert service.run().status is ExecutionStatus.SUCCEEDED
    assert service.answers == [{"Status": "SUCCEEDED", "Result": ""}]


def test_a_failure_over_the_limit_is_recorded_by_a_checkpoint_and_answered_without_error() -> None:
    """[74]"""

    def handler(event: Any, context: DurableContext) -> None:
        raise ValueError("é" * (ANSWER_BYTES_MAX // 6))

    service = remote(handler)
    outcome = service.run()
    assert service.answers == [{"Status": "FAILED"}]
    assert service.wire.sent == [["EXECUTION FAIL"]]
    assert outcome.error.type == "ValueError"


def test_a_failure_within_the_limit_is_answered() -> None:
    def handler(event: Any, context: DurableContext) -> None:
        raise ValueError("x" * 3_000_000)

    answer = durable_execution(boto3_client=Scripted())(handler)(event_of(execution()), None)
    assert (answer["Status"], len(answer["Error"]["ErrorMessage"])) == ("FAILED", 3_000_000)


@pytest.mark.parametrize(("code", "is_failed"), [("TooManyRequestsException", False), ("AccessDenied", True)])
def test_a_large_result_that_can_t_be_recorded_ends_as_any_checkpoint_does(code: str, is_failed: bool) -> None:
    """[75]"""
    boto3 = Scripted(Refused(code, 429 if code.startswith("TooMany") else 403))
    handler: Any = durable_execution(boto3_client=boto3)(lambda _, context: "x" * ANSWER_BYTES_MAX)
    if is_failed:
        assert handler(event_of(execution()), None)["Status"] == "FAILED"
    else:
        with pytest.raises(CheckpointError):
            handler(event_of(execution()), None)


# --- clients -----------------------------------------------------------------------------------------------------


def one_step(event: Any, context: DurableContext) -> Any:
    return context.step(lambda _: event, name="a")


def test_the_client_of_the_event_goes_before_that_of_the_decorator() -> None:
    """An event may be an object with its client, as test runners make them."""
    own, other = Own(), Own()
    handler = durable_execution(client=other)(one_step)
    state = InitialExecutionState([Operation.from_dict(execution("5"))], "")
    given = DurableExecutionInvocationInput(ARN, "t1", state)
    with_client = DurableExecutionInvocationInputWithClient.from_durable_execution_invocation_input(given, own)
    assert handler(with_client, None) == {"Status": "SUCCEEDED", "Result": "5"}
    assert (own.tokens, other.tokens) == (["t1"], [])
    assert handler(given, None) == handler(event_of(execution("5")), None) == {"Status": "SUCCEEDED", "Result": "5"}
    assert (own.tokens, other.tokens) == (["t1"], ["t1", "t1"])


def test_client_and_boto3_client_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="not both"):
        durable_execution(client=Own(), boto3_client=Scripted())


def test_boto3_s_client_is_made_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting may take 5 seconds, an answer 50; the service is told who calls."""
    monkeypatch.setattr(LambdaClient, "_shared", None)
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "k"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
    ):
        monkeypatch.setenv(name, value)
    shared = LambdaClient.initialize_client()
    assert LambdaClient.initialize_client() is shared
    boto3: Any = shared.client
    config = boto3.meta.config
    assert (config.connect_timeout, config.read_timeout) == (5, 50)
    assert "perdure/" in config.user_agent
    boto3.close()


def test_a_machine_without_boto3_fails_the_invocation_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The execution can go on once boto3 is there."""
    monkeypatch.setattr(LambdaClient, "_shared", None)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(InvocationError, match="add boto3 to the package"):
        durable_execution(one_step)(event_of(execution()), None)


def test_a_machine_without_a_region_fails_the_invocation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LambdaClient, "_shared", None)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(InvocationError, match="region"):
        durable_execution(one_step)(event_of(execution()), None)


# --- errors of other SDKs ----------------------------------------------------------------------------------------

OFFICIAL = "aws_durable_execution_sdk_python.exceptions."
SPELLINGS = ("perdure.exceptions.", OFFICIAL, "")


@pytest.mark.parametrize("root", SPELLINGS)
@pytest.mark.parametrize(
    "kind",
    [
        StepError,
        InvokeError,
        ChildContextError,
        WaitForConditionError,
        CallbackExternalError,
        CallbackTimeoutError,
        CallbackSubmitterError,
    ],
)
def test_error_types_of_all_sdks_are_rebuilt_to_their_classes(root: str, kind: type[DurableOperationError]) -> None:
    """[88] The official SDK writes qualified names, that for JavaScript bare ones."""
    recorded = ErrorObject("m", f"{root}{kind.__name__}", "d", ["f"])
    error = recorded.to_durable_operation_error()
    assert type(error) is kind
    assert (error.message, error.data, error.stack_trace) == ("m", "d", ["f"])


def test_an_unknown_error_type_is_kept_as_it_is_recorded() -> None:
    """[88]"""
    error = ErrorObject("m", "shop.NoStock", None, None).to_durable_operation_error()
    assert (type(error), error.error_type) == (DurableOperationError, "shop.NoStock")


@pytest.mark.parametrize("root", SPELLINGS)
@pytest.mark.parametrize(
    ("recorded", "raised"),
    [("SerDesError", SerDesError), ("StepInterruptedError", StepInterruptedError), ("StepError", StepError)],
)
def test_a_step_that_another_sdk_recorded_as_failed_raises_its_class(root: str, recorded: str, raised: type) -> None:
    """[88]"""
    error = {"ErrorMessage": "m", "ErrorType": f"{root}{recorded}"}
    step = {"Id": operation_id("", 1), "Type": "STEP", "Status": "FAILED", "Name": "a", "SubType": "Step"}
    seen: list[Exception] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> None:
        try:
            context.step(lambda _: 1, name="a")
        except Exception as error:
            seen.append(error)

    handler(event_of(execution(), {**step, "StepDetails": {"Error": error}}), None)
    assert isinstance(seen[0], raised)
    assert isinstance(seen[0], StepError) == (recorded != "SerDesError")


@pytest.mark.parametrize("root", SPELLINGS)
def test_the_cause_of_a_recorded_child_failure_is_of_its_class(root: str) -> None:
    """[88]"""
    error = {"ErrorMessage": "m", "ErrorType": f"{root}StepError"}
    child = {"Id": operation_id("", 1), "Type": "CONTEXT", "Status": "FAILED", "SubType": "RunInChildContext"}
    seen: list[BaseException | None] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> None:
        try:
            context.run_in_child_context(lambda inner: None)
        except ChildContextError as error:
            seen.append(error.__cause__)

    handler(event_of(execution(), {**child, "ContextDetails": {"Error": error}}), None)
    assert [type(cause) for cause in seen] == [StepError]
