"""Checkpoints over a service that is reached by calls: tokens, batches, pages. Numbers are those of the checklist."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from perdure.exceptions import CheckpointError, DurableApiErrorCategory, GetExecutionStateError
from perdure.lambda_service import (
    CheckpointOutput,
    CheckpointUpdatedExecutionState,
    LambdaClient,
    Operation,
    OperationStatus,
    OperationType,
    OperationUpdate as PublicUpdate,
    StateOutput,
)
from perdure.model.error import ErrorObject
from perdure.model.operation import OperationAction, OperationUpdate
from perdure.sdk.remote import BATCH_BYTES_MAX, BATCH_UPDATES_MAX, Page, RemoteClient, batches, link_to

Json = dict[str, Any]


def step(number: int, payload: str | None = None, **more: Any) -> OperationUpdate:
    return OperationUpdate(f"s{number}", OperationType.STEP, OperationAction.SUCCEED, payload=payload, **more)


def record(number: int) -> Json:
    return {"Id": f"s{number}", "Type": "STEP", "Status": "SUCCEEDED", "StartTimestamp": 1_764_547_200_000}


class Handmade:
    """A link that gives the pages it was made with, and writes down what it was asked."""

    def __init__(self, *pages: Page | Exception) -> None:
        self.pages = list(pages)
        self.calls: list[tuple[Any, ...]] = []

    def _next(self) -> Page:
        page = self.pages.pop(0)
        if isinstance(page, Exception):
            raise page
        return page

    def checkpoint(self, arn: str, token: str, updates: Sequence[Json]) -> Page:
        self.calls.append(("checkpoint", token, [update["Id"] for update in updates]))
        return self._next()

    def state(self, arn: str, token: str, marker: str) -> Page:
        self.calls.append(("state", token, marker))
        return self._next()

    def client(self) -> RemoteClient:
        return RemoteClient(lambda: self, "arn", "t1")


# --- batches -----------------------------------------------------------------------------------------------------


def sizes(updates: Sequence[OperationUpdate]) -> list[int]:
    return [len(batch) for batch in batches(updates)]


def test_batches_hold_at_most_250_updates() -> None:
    """[77]"""
    assert sizes([step(number) for number in range(501)]) == [250, 250, 1]
    assert sizes([step(number) for number in range(250)]) == [250]


def test_batches_hold_at_most_750_kib_of_json() -> None:
    """[77]"""
    updates = [step(number, "x" * 100_000) for number in range(20)]
    found = list(batches(updates))
    assert [len(batch) for batch in found] == [7, 7, 6]
    assert all(sum(len(json.dumps(one)) for one in batch) <= BATCH_BYTES_MAX for batch in found)
    assert [one["Id"] for batch in found for one in batch] == [update.id for update in updates]


def test_what_counts_is_the_json_as_it_is_sent_not_the_characters() -> None:
    """[77]"""
    assert sizes([step(1, "x" * 100_000), step(2, "x" * 100_000)]) == [2]
    assert sizes([step(1, "é" * 100_000), step(2, "é" * 100_000)]) == [1, 1]
    assert sizes([step(1, "\x00" * 100_000), step(2, "\x00" * 100_000)]) == [1, 1]
    assert sizes([step(1, "🎈" * 50_000), step(2, "🎈" * 50_000)]) == [1, 1]


def test_errors_count_as_payloads_do() -> None:
    """[77]"""
    error = ErrorObject("m" * 200_000, "E", "d" * 100_000, ("s" * 100_000,))
    assert sizes([step(1, error=error), step(2, error=error)]) == [1, 1]


def test_an_update_over_the_limit_travels_alone_wherever_it_stands() -> None:
    """[77]"""
    large = step(2, "x" * 800_000)
    assert sizes([large]) == [1]
    assert sizes([step(1), large, step(3)]) == [1, 1, 1]
    assert sizes([large, large]) == [1, 1]


def test_a_checkpoint_without_updates_is_one_call() -> None:
    """It asks for what has changed."""
    link = Handmade(Page([record(1)], token="t2"))
    assert [one.id for one in link.client().checkpoint([]).operations] == ["s1"]
    assert link.calls == [("checkpoint", "t1", [])]


# --- tokens and pages --------------------------------------------------------------------------------------------


def test_each_call_has_the_token_of_the_answer_before() -> None:
    link = Handmade(Page([], token="t2"), Page([], token="t3"), Page([], token="t4"))
    client = link.client()
    assert client.checkpoint([step(number) for number in range(BATCH_UPDATES_MAX + 1)]).may_go_on
    assert client.checkpoint([step(999)]).may_go_on
    assert [token for _, token, _ in link.calls] == ["t1", "t2", "t3"]


def test_an_answer_s_pages_are_fetched_with_its_own_token() -> None:
    link = Handmade(Page([record(1)], "m1", "t2"), Page([record(2)], "m2"), Page([record(3)]))
    answer = link.client().checkpoint([step(1)])
    assert [(one.id, one.number) for one in answer.operations] == [("s1", 1), ("s2", 2), ("s3", 3)]
    assert link.calls == [("checkpoint", "t1", ["s1"]), ("state", "t2", "m1"), ("state", "t2", "m2")]


def test_an_answer_without_a_token_ends_the_sending() -> None:
    """What the answer says is taken in; batches that were to follow are not sent."""
    link = Handmade(Page([record(1)], "m1"))
    client = link.client()
    answer = client.checkpoint([step(number) for number in range(BATCH_UPDATES_MAX + 1)])
    assert not answer.may_go_on
    assert [one.id for one in answer.operations] == ["s1"]
    with pytest.raises(CheckpointError, match="without a checkpoint token") as raised:
        client.checkpoint([step(1)])
    assert raised.value.is_retryable()
    assert len(link.calls) == 1


def test_a_marker_that_leads_to_itself_is_an_error_and_not_a_loop() -> None:
    link = Handmade(Page([], "m1", "t2"), Page([], "m1"))
    with pytest.raises(GetExecutionStateError, match="'m1'"):
        link.client().checkpoint([step(1)])


def test_an_operation_keeps_its_number_when_it_is_told_again() -> None:
    link = Handmade(Page([record(2), record(3)], token="t2"))
    client = link.client()
    execution = {"Id": "id-1", "Type": "EXECUTION", "Status": "STARTED"}
    loaded = client.load([execution, record(1), record(2)], None)
    assert [one.number for one in loaded] == [0, 1, 2]
    assert [one.number for one in client.checkpoint([step(3)]).operations] == [2, 3]


@pytest.mark.parametrize("fault", [{"Type": "DREAM"}, {"Status": "ASLEEP"}, {"Id": 5}])
def test_an_answer_that_can_t_be_read_ends_the_execution(fault: Json) -> None:
    """Another invocation would be answered the same."""
    link = Handmade(Page([{**record(1), **fault}], token="t2"))
    with pytest.raises(CheckpointError, match=next(iter(fault))) as raised:
        link.client().checkpoint([step(1)])
    assert raised.value.error_category is DurableApiErrorCategory.EXECUTION


# --- clients of one's own ----------------------------------------------------------------------------------------


class Objects:
    """A client of the public dataclasses."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.updates: list[PublicUpdate] = []
        self.client_tokens: set[str | None] = set()

    def checkpoint(
        self,
        durable_execution_arn: str,
        checkpoint_token: str,
        updates: list[PublicUpdate],
        client_token: str | None,
    ) -> CheckpointOutput:
        if self.error is not None:
            raise self.error
        self.updates += updates
        self.client_tokens.add(client_token)
        told = Operation(updates[0].operation_id, OperationType.STEP, OperationStatus.SUCCEEDED)
        return CheckpointOutput("t2", CheckpointUpdatedExecutionState([told], "more"))

    def get_execution_state(
        self, durable_execution_arn: str, checkpoint_token: str, next_marker: str, max_items: int = 1000
    ) -> StateOutput:
        if self.error is not None:
            raise self.error
        assert (checkpoint_token, next_marker, max_items) == ("t2", "more", 1000)
        return StateOutput([Operation("s9", OperationType.WAIT, OperationStatus.STARTED)])


def test_a_client_of_one_s_own_is_given_the_public_objects() -> None:
    """They need no times; each call has a client token of its own."""
    objects = Objects()
    client = RemoteClient(lambda: link_to(objects), "arn", "t1")
    error = ErrorObject("m", "t", None, ("f",))
    fail = OperationUpdate(
        "s2", OperationType.STEP, OperationAction.RETRY, "n", "Step", "p", error=error, next_attempt_delay_s=5
    )
    assert [one.id for one in client.checkpoint([step(1, "1"), fail]).operations] == ["s1", "s9"]
    client = RemoteClient(lambda: link_to(objects), "arn", "t1")
    client.checkpoint([step(1)])
    assert len(objects.client_tokens) == 2
    second = objects.updates[1]
    assert (second.parent_id, second.name, second.sub_type, second.action) == ("p", "n", "Step", "RETRY")
    assert second.error is not None and second.error.stack_trace == ["f"]
    assert second.step_options is not None and second.step_options.next_attempt_delay_seconds == 5


@pytest.mark.parametrize("error", [ConnectionError("no route"), TimeoutError(), RuntimeError("?")])
def test_what_a_client_of_one_s_own_raises_ends_the_invocation(error: Exception) -> None:
    client = RemoteClient(lambda: link_to(Objects(error)), "arn", "t1")
    with pytest.raises(CheckpointError) as raised:
        client.checkpoint([step(1)])
    assert raised.value.is_retryable()
    assert raised.value.__cause__ is error
    with pytest.raises(GetExecutionStateError) as failed:
        client.load([], "m")
    assert failed.value.is_retryable()


def test_errors_of_the_sdk_pass_through_a_client_as_they_are() -> None:
    error = CheckpointError("refused", DurableApiErrorCategory.EXECUTION)
    client = RemoteClient(lambda: link_to(Objects(error)), "arn", "t1")
    with pytest.raises(CheckpointError) as raised:
        client.checkpoint([step(1)])
    assert raised.value is error
    with pytest.raises(CheckpointError) as raised:
        client.load([], "m")
    assert raised.value is error


# --- boto3's client ----------------------------------------------------------------------------------------------


class Boto3:
    """The two methods of boto3's Lambda client."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls: list[Json] = []

    def checkpoint_durable_execution(self, **parameters: Any) -> Json:
        self.calls.append(parameters)
        if self.error is not None:
            raise self.error
        return {"CheckpointToken": "t2", "NewExecutionState": {"Operations": [record(1)], "NextMarker": "m"}}

    def get_durable_execution_state(self, **parameters: Any) -> Json:
        self.calls.append(parameters)
        if self.error is not None:
            raise self.error
        return {"Operations": [record(2)]}


def test_boto3_is_given_the_objects_of_the_api() -> None:
    boto3 = Boto3()
    client = RemoteClient(lambda: link_to(LambdaClient(boto3)), "arn", "t1")
    assert [one.id for one in client.checkpoint([step(1, "1")]).operations] == ["s1", "s2"]
    update = {"Id": "s1", "Type": "STEP", "Action": "SUCCEED", "Payload": "1"}
    assert boto3.calls == [
        {"DurableExecutionArn": "arn", "CheckpointToken": "t1", "Updates": [update]},
        {"DurableExecutionArn": "arn", "CheckpointToken": "t2", "Marker": "m", "MaxItems": 1000},
    ]


def test_the_lambda_client_takes_and_gives_the_public_objects() -> None:
    boto3 = Boto3()
    client = LambdaClient(boto3)
    update = PublicUpdate("s1", OperationType.STEP, OperationAction.START, name="")
    output = client.checkpoint("arn", "t1", [update], "once")
    assert output.checkpoint_token == "t2"
    assert output.new_execution_state.next_marker == "m"
    assert [one.operation_id for one in output.new_execution_state.operations] == ["s1"]
    assert [one.operation_id for one in client.get_execution_state("arn", "t2", "m", 5).operations] == ["s2"]
    assert boto3.calls == [
        {
            "DurableExecutionArn": "arn",
            "CheckpointToken": "t1",
            "Updates": [{"Id": "s1", "Type": "STEP", "Action": "START"}],
            "ClientToken": "once",
        },
        {"DurableExecutionArn": "arn", "CheckpointToken": "t2", "Marker": "m", "MaxItems": 5},
    ]


def test_without_a_token_nothing_is_called() -> None:
    boto3 = Boto3()
    client = LambdaClient(boto3)
    with pytest.raises(CheckpointError, match="token") as refused:
        client.checkpoint("arn", "", [], None)
    with pytest.raises(GetExecutionStateError, match="token") as failed:
        client.get_execution_state("arn", "", "m")
    with pytest.raises(GetExecutionStateError, match="token"):
        RemoteClient(lambda: link_to(client), "arn", "").load([], "m")
    assert refused.value.is_retryable()
    assert failed.value.is_retryable()
    assert boto3.calls == []


class Refused(Exception):
    """As botocore's ClientError."""

    def __init__(self, code: str, message: str, http_status: int | None) -> None:
        super().__init__(f"An error occurred ({code}): {message}")
        self.response: Json = {"Error": {"Code": code, "Message": message}}
        if http_status is not None:
            self.response["ResponseMetadata"] = {"HTTPStatusCode": http_status, "RequestId": "r"}


@pytest.mark.parametrize(
    ("error", "is_retryable"),
    [
        (Refused("TooManyRequestsException", "slow down", 429), True),
        (Refused("InvalidParameterValueException", "Invalid checkpoint token: spent", 400), True),
        (Refused("InvalidParameterValueException", "STEP: Invalid checkpoint token", 400), False),
        (Refused("InvalidParameterValueException", "Inconsistent operation name.", 400), False),
        (Refused("AccessDeniedException", "Invalid checkpoint token", 403), False),
        (Refused("ResourceNotFoundException", "no such execution", 404), False),
        (Refused("RequestEntityTooLargeException", "too large", 413), False),
        (Refused("KMSAccessDeniedException", "key", 502), False),
        (Refused("KMSDisabledException", "key", 502), False),
        (Refused("KMSInvalidStateException", "key", 502), False),
        (Refused("KMSNotFoundException", "key", 502), False),
        (Refused("ServiceException", "oh", 500), True),
        (Refused("ServiceUnavailable", "oh", 503), True),
        (Refused("Strange", "no status", None), True),
        (ConnectionError("no route to host"), True),
    ],
)
def test_only_a_refusal_that_would_be_repeated_ends_the_execution(error: Exception, is_retryable: bool) -> None:
    """[75]"""
    category = DurableApiErrorCategory.INVOCATION if is_retryable else DurableApiErrorCategory.EXECUTION
    client = LambdaClient(Boto3(error))
    with pytest.raises(CheckpointError) as refused:
        client.checkpoint("arn", "t1", [], None)
    with pytest.raises(GetExecutionStateError) as failed:
        client.get_execution_state("arn", "t1", "m")
    for found in (refused.value, failed.value):
        assert (found.error_category, found.is_retryable(), found.is_retriable()) == (
            category,
            is_retryable,
            is_retryable,
        )
        assert str(found) == str(error)
    assert refused.value.termination_reason == "CHECKPOINT_FAILED"
    response = getattr(error, "response", {})
    assert refused.value.build_logger_extras() == response
