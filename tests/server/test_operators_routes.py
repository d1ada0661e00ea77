"""Perdure's own routes for operators, asked over HTTP."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from perdure import DurableContext, Duration, durable_execution
from perdure.client.client import Client, segment
from perdure.client.errors import ApiError
from perdure.config import CallbackConfig
from perdure.model.execution import WaitingOn
from perdure.server.node import Node
from perdure.store.memory import MemoryStore

ROUTE = "/perdure/v1/durable-executions"


@durable_execution(name="order")
def order(event: Any, context: DurableContext) -> Any:
    context.step(lambda _: "x" * 10, name="reserve")
    return context.create_callback("barista", CallbackConfig(timeout=Duration.from_hours(1))).result()


@durable_execution(name="broken")
def broken(event: Any, context: DurableContext) -> Any:
    raise ValueError("no milk")


class Server:
    def __init__(self, node: Node, client: Client) -> None:
        self.node = node
        self.client = client

    def start(self, function: str, name: str, *, until: WaitingOn | None = None) -> str:
        """Begin an execution; return its ARN when it waits for `until`, or has ended."""
        answer = self.client.call(
            "Invoke", FunctionName=f"{function}:$LATEST", InvocationType="Event", DurableExecutionName=name
        )
        arn = str(answer["DurableExecutionArn"])
        reached = threading.Event()
        service, execution_id = self.node.service, arn.rpartition("/")[2]

        def look(*_news: Any) -> None:
            reached.set()

        while True:
            reached.clear()
            forget = service.watch(execution_id, look)
            view = service.get(execution_id)
            if view.end_ms is not None or (until is not None and until in view.waiting_on):
                forget()
                return arn
            assert reached.wait(10)
            forget()

    def search(self, *query: tuple[str, str]) -> list[str]:
        found = self.client.request("GET", ROUTE, query=query)
        return [item["DurableExecutionName"] for item in found["DurableExecutions"]]

    def changes(self, arn: str, **query: str) -> dict[str, Any]:
        return self.client.request("GET", f"{ROUTE}/{segment(arn)}/changes", query=list(query.items()))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    node = Node(MemoryStore(), handlers={"order": order, "broken": broken})
    with node, Client(node.url, attempts=1) as client:
        yield Server(node, client)


@pytest.fixture(scope="module")
def arns(server: Server) -> dict[str, str]:
    return {
        "order-1": server.start("order", "order-1", until=WaitingOn.CALLBACK),
        "broken-2": server.start("broken", "broken-2"),
        "order-3": server.start("order", "order-3", until=WaitingOn.CALLBACK),
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ([], ["order-3", "broken-2", "order-1"]),
        ([("ReverseOrder", "true")], ["order-1", "broken-2", "order-3"]),
        ([("FunctionName", "order")], ["order-3", "order-1"]),
        ([("FunctionName", "arn:aws:lambda:us-east-1:000000000000:function:broken:$LATEST")], ["broken-2"]),
        ([("Statuses", "FAILED"), ("Statuses", "SUCCEEDED")], ["broken-2"]),
        ([("WaitingOn", "callback")], ["order-3", "order-1"]),
        ([("DurableExecutionName", "order-1")], ["order-1"]),
        ([("NamePrefix", "order-")], ["order-3", "order-1"]),
        ([("Version", "1")], []),
        ([("StartedAfter", "2100-01-01T00:00:00Z")], []),
        ([("StartedBefore", "2100-01-01T00:00:00Z"), ("MaxItems", "1")], ["order-3"]),
    ],
)
def test_executions_of_all_functions_are_found(
    server: Server, arns: dict[str, str], query: list[tuple[str, str]], expected: list[str]
) -> None:
    assert server.search(*query) == expected


def test_an_id_is_found_by_its_beginning(server: Server, arns: dict[str, str]) -> None:
    assert server.search(("IdPrefix", arns["broken-2"].rpartition("/")[2][:30])) == ["broken-2"]


def test_pages_of_a_search_follow_each_other(server: Server, arns: dict[str, str]) -> None:
    first = server.client.request("GET", ROUTE, query=[("MaxItems", "2")])
    second = server.client.request("GET", ROUTE, query=[("MaxItems", "2"), ("Marker", first["NextMarker"])])
    assert len(first["DurableExecutions"]) == 2
    assert [item["DurableExecutionName"] for item in second["DurableExecutions"]] == ["order-1"]
    assert "NextMarker" not in second


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("Statuses", "OPEN", "Statuses must be one of RUNNING"),
        ("WaitingOn", "godot", "WaitingOn must be one of timer"),
        ("MaxItems", "1001", "MaxItems must be a whole number from 0 to 1000"),
        ("MaxItems", "-1", "MaxItems must be a whole number"),
        ("StartedAfter", "soon", "StartedAfter must be an ISO 8601 time"),
        ("ReverseOrder", "yes", "ReverseOrder must be one of true, false"),
        ("Marker", "x", "Marker must be one that an answer gave"),
        ("FunctionName", "a b", "Invalid function ARN"),
    ],
)
def test_what_can_not_be_asked_for_is_named(server: Server, name: str, value: str, text: str) -> None:
    with pytest.raises(ApiError, match=text) as caught:
        server.search((name, value))
    assert caught.value.status == 400


def test_operations_are_listed_with_what_operators_want_to_know(server: Server, arns: dict[str, str]) -> None:
    path = f"{ROUTE}/{segment(arns['order-1'])}/operations"
    found = server.client.request("GET", path)["Operations"]
    assert [(item["Name"], item["Status"]) for item in found] == [("reserve", "SUCCEEDED"), ("barista", "STARTED")]
    assert found[1]["Perdure"]["TimeoutTimestamp"] == found[1]["StartTimestamp"] + 3600
    first = server.client.request("GET", path, query=[("MaxItems", "1")])
    rest = server.client.request("GET", path, query=[("Marker", first["NextMarker"])])
    assert [item["Name"] for item in (*first["Operations"], *rest["Operations"])] == ["reserve", "barista"]
    assert "NextMarker" not in rest


def test_open_callbacks_are_listed_of_all_functions_or_one(server: Server, arns: dict[str, str]) -> None:
    found = server.client.request("GET", "/perdure/v1/callbacks")["Callbacks"]
    assert [item["DurableExecutionName"] for item in found] == ["order-1", "order-3"]
    assert {item["Name"] for item in found} == {"barista"}
    query = [("FunctionName", "broken")]
    assert server.client.request("GET", "/perdure/v1/callbacks", query=query) == {"Callbacks": []}


def test_an_unknown_execution_is_not_found(server: Server) -> None:
    with pytest.raises(ApiError) as caught:
        server.changes("arn:aws:lambda:us-east-1:000000000000:function:f:1/durable-execution/n/0190")
    assert caught.value.status == 404


# --- news ---------------------------------------------------------------------------------------------------------


def test_news_leave_out_payloads_and_keep_errors(server: Server, arns: dict[str, str]) -> None:
    found = server.changes(arns["broken-2"], After="0.1")
    assert found["Execution"]["Status"] == "FAILED"
    assert [event["EventType"] for event in found["Events"]] == [
        "ExecutionStarted",
        "InvocationCompleted",
        "ExecutionFailed",
    ]
    assert found["Events"][0]["ExecutionStartedDetails"]["Input"] == {"Truncated": True}
    assert found["Events"][2]["ExecutionFailedDetails"]["Error"]["Payload"]["ErrorMessage"] == "no milk"
    (step,) = server.changes(arns["order-1"])["Operations"][:1]
    assert "Result" not in step["StepDetails"]
    with_data = server.changes(arns["order-1"], After="0.1", IncludeExecutionData="true")
    assert with_data["Operations"][0]["StepDetails"]["Result"] == '"xxxxxxxxxx"'
    assert with_data["Events"][0]["ExecutionStartedDetails"]["Input"]["Payload"] == "null"


def test_who_waits_for_news_has_them_when_they_come(server: Server) -> None:
    arn = server.start("order", "order-news", until=WaitingOn.CALLBACK)
    position = server.changes(arn)["Position"]
    answers: list[dict[str, Any]] = []
    asking = threading.Thread(
        target=lambda: answers.append(server.changes(arn, After=position, WaitSeconds="25")), daemon=True
    )
    asking.start()
    watching = server.node.service.ledger.watching
    while watching.is_idle:
        asking.join(0.01)
    (found,) = server.node.service.open_callbacks(arn.rpartition("/")[2])
    server.node.service.succeed_callback(found.callback_id, b"a cortado")
    asking.join(10)
    (news,) = answers
    assert "CallbackSucceeded" in [event["EventType"] for event in news["Events"]]
    assert [item["Name"] for item in news["Operations"]] == ["barista"]


def test_without_news_the_answer_is_the_same_position(server: Server, arns: dict[str, str]) -> None:
    position = server.changes(arns["order-1"])["Position"]
    found = server.changes(arns["order-1"], After=position)
    assert (found["Position"], found["Events"], found["Operations"], found["HasMore"]) == (position, [], [], False)


def test_of_what_has_ended_nobody_waits_for_news(server: Server, arns: dict[str, str]) -> None:
    position = server.changes(arns["broken-2"])["Position"]
    found = server.client.request(
        "GET",
        f"{ROUTE}/{segment(arns['broken-2'])}/changes",
        query=[("After", position), ("WaitSeconds", "25")],
        timeout_s=5,
    )
    assert found["Position"] == position


def test_who_goes_away_is_waited_for_no_longer(server: Server, arns: dict[str, str]) -> None:
    position = server.changes(arns["order-1"])["Position"]
    impatient = Client(server.node.url, attempts=1, timeout_s=0.05)
    with pytest.raises(Exception, match="longer than"):
        impatient.request(
            "GET",
            f"{ROUTE}/{segment(arns['order-1'])}/changes",
            query=[("After", position), ("WaitSeconds", "25")],
        )
    idle = threading.Event()
    while not server.node.service.ledger.watching.is_idle:
        idle.wait(0.01)
