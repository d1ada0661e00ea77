"""The reference sequences of events, produced by both official SDKs in unmodified packages.

All scenarios of an SDK run at once, in a few real processes and real time; each test then looks at one history.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.runtimes.pool import Settings as PoolSettings
from perdure.service.clock import SystemClock
from support import javascript
from support.functions import PYTHON
from support.packages import package
from support.raw import Json
from support.served import INTERPRETERS, NODE, Served, serving

WAIT_S = 60.0
PLACES = 3
"""Processes at once: more of them than cores would only be slower."""
REFERENCE = Path(__file__).with_name("reference.py")
CONTEXT = ("ContextStarted", "ContextSucceeded", "ContextFailed")
SHOWN_SUB_TYPES = ("Parallel", "ParallelBranch", "Map", "MapIteration")

DONE = ("InvocationCompleted", "ExecutionSucceeded")
FAILED = ("InvocationCompleted", "ExecutionFailed")
STEP = ("StepStarted", "StepSucceeded(1)")
BRANCH = ("ContextStarted/ParallelBranch", "ContextSucceeded/ParallelBranch")
SEQUENCES: dict[str, tuple[str, ...]] = {
    "echo": DONE,
    "step": (*STEP, *DONE),
    "step-and-wait": (*STEP, "WaitStarted", "InvocationCompleted", "WaitSucceeded", *DONE),
    "step-retried": (
        *("StepStarted", "StepFailed(1,delay)", "InvocationCompleted"),
        *("StepStarted", "StepSucceeded(2)", *DONE),
    ),
    "retries-exhausted": (
        *("StepStarted", "StepFailed(1,delay)", "InvocationCompleted"),
        *("StepStarted", "StepFailed(2,delay)", "InvocationCompleted"),
        *("StepStarted", "StepFailed(3,delay)", "InvocationCompleted"),
        *("StepStarted", "StepFailed(4)", *FAILED),
    ),
    "killed-at-most-once": (*("StepStarted", "InvocationCompleted(Runtime.ExitError)", "StepFailed(1)", *FAILED),),
    "killed-at-most-once-retried": (
        *("StepStarted", "InvocationCompleted(Runtime.ExitError)", "StepFailed(1,delay)", "InvocationCompleted"),
        *("StepStarted", "StepSucceeded(2)", *DONE),
    ),
    "two-waits": (
        *("WaitStarted", "InvocationCompleted", "WaitSucceeded"),
        *("WaitStarted", "InvocationCompleted", "WaitSucceeded", *DONE),
    ),
    "child-context": ("ContextStarted", *STEP, "ContextSucceeded", *DONE),
    "child-context-throws": ("ContextStarted", "ContextFailed", *FAILED),
    "killed-in-child": (
        *("ContextStarted", "StepStarted", "InvocationCompleted(Runtime.ExitError)"),
        *("StepSucceeded(1)", "ContextSucceeded", *DONE),
    ),
    "callback": ("CallbackStarted", "InvocationCompleted", "CallbackSucceeded", *DONE),
    "callback-timeout": (*("CallbackStarted", "InvocationCompleted", "CallbackTimedOut(Callback.Timeout)", *FAILED),),
    "heartbeat-timeout": (
        *("CallbackStarted", "InvocationCompleted", "CallbackTimedOut(Callback.Heartbeat)", *FAILED),
    ),
    "callback-and-wait": (
        *("CallbackStarted", "WaitStarted", "InvocationCompleted", "CallbackSucceeded", "InvocationCompleted"),
        *("WaitSucceeded", *DONE),
    ),
    "invoke": ("ChainedInvokeStarted", "InvocationCompleted", "ChainedInvokeSucceeded", *DONE),
    "invoke-fails": ("ChainedInvokeStarted", "InvocationCompleted", "ChainedInvokeFailed", *FAILED),
    "condition": (
        *("StepStarted", "StepSucceeded(1,delay)=1", "InvocationCompleted"),
        *("StepStarted", "StepSucceeded(2,delay)=2", "InvocationCompleted"),
        *("StepStarted", "StepSucceeded(3)=3", *DONE),
    ),
    "wait-for-callback": (
        *("ContextStarted", "CallbackStarted", *STEP, "InvocationCompleted"),
        *("CallbackSucceeded", "ContextSucceeded", *DONE),
    ),
    "submitter-fails-twice": (
        *("ContextStarted", "CallbackStarted", "StepStarted", "StepFailed(1,delay)", "InvocationCompleted"),
        *("StepStarted", "StepFailed(2)", "ContextFailed", *FAILED),
    ),
    "parallel": ("ContextStarted/Parallel", *BRANCH, *BRANCH, "ContextSucceeded/Parallel", *DONE),
    "parallel-with-failure": (
        *("ContextStarted/Parallel", *BRANCH, "ContextStarted/ParallelBranch", "ContextFailed/ParallelBranch"),
        *("ContextSucceeded/Parallel", *DONE),
    ),
    "parallel-flat": ("ContextStarted/Parallel", *STEP, *STEP, "ContextSucceeded/Parallel", *DONE),
    "map-with-wait": (
        *("ContextStarted/Map", "ContextStarted/MapIteration", *STEP, "ContextSucceeded/MapIteration"),
        *("ContextStarted/MapIteration", "WaitStarted", "InvocationCompleted", "WaitSucceeded"),
        *(*STEP, "ContextSucceeded/MapIteration", "ContextSucceeded/Map", *DONE),
    ),
    "large-result": ("ExecutionSucceeded", "InvocationCompleted"),
    "large-state": (*STEP * 8, "WaitStarted", "InvocationCompleted", "WaitSucceeded", *DONE),
    "handler-throws": FAILED,
}
RESULTS: dict[str, Any] = {
    "step": 1,
    "step-and-wait": None,
    "step-retried": "done",
    "killed-at-most-once-retried": "survived",
    "killed-in-child": "survived",
    "child-context": 1,
    "callback": "yes",
    "callback-and-wait": "yes",
    "wait-for-callback": "yes",
    "invoke": "from the child",
    "condition": 3,
    "parallel": 2,
    "parallel-with-failure": 1,
    "parallel-flat": 2,
    "map-with-wait": 2,
    "large-result": "x" * 7 * 1024 * 1024,
    "large-state": 8 * 700_000,
}
ANSWERED = ("callback", "callback-and-wait", "wait-for-callback")


def shown(event: Json) -> str:
    """An event as the sequences write it."""
    kind = str(event["EventType"])
    details = event.get(f"{kind}Details", {})
    if kind in CONTEXT and event.get("SubType") in SHOWN_SUB_TYPES:
        return f"{kind}/{event['SubType']}"
    if "RetryDetails" in details:
        retries = details["RetryDetails"]
        delay = ",delay" if "NextAttemptDelaySeconds" in retries else ""
        state = f"={details['Result']['Payload']}" if event.get("SubType") == "WaitForCondition" else ""
        return f"{kind}({retries['CurrentAttempt']}{delay}){state}"
    if kind in ("InvocationCompleted", "CallbackTimedOut") and "Error" in details:
        return f"{kind}({details['Error']['Payload']['ErrorType']})"
    return kind


class Ran:
    """The executions of all scenarios of one SDK, ended."""

    def __init__(self, served: Served, name: str, code: bytes, runtime: str, handler: str, marks: Path) -> None:
        self.served = served
        self.target = served.deploy(name, code, runtime, handler)
        served.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=PLACES)
        self.arns = {scenario: self._start(scenario, marks) for scenario in SEQUENCES}
        for scenario in ANSWERED:
            self._answer(self.arns[scenario])
        self.found = {scenario: served.until_ended(arn, WAIT_S) for scenario, arn in self.arns.items()}
        served.until_over(self.arns["large-result"])
        self.history = {scenario: served.history(arn) for scenario, arn in self.arns.items()}

    def _start(self, scenario: str, marks: Path) -> str:
        event = {"scenario": scenario, "mark": str(marks / scenario), "target": self.target}
        event["as"] = "slow-child-fails" if scenario.endswith("fails") else "slow-child"
        given = {"FunctionName": self.target, "Payload": json.dumps(event), "InvocationType": "Event"}
        return str(self.served.invoke(**given, DurableExecutionName=scenario)["DurableExecutionArn"])

    def _answer(self, arn: str) -> None:
        """Complete the callback of an execution once it has suspended."""
        self.served.until_shown(arn, "InvocationCompleted")
        (event,) = self.served.events(arn, "CallbackStarted")
        callback_id = event["CallbackStartedDetails"]["CallbackId"]
        self.served.client.send_durable_execution_callback_success(CallbackId=callback_id, Result=b"yes")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("sequences")
    settings = PoolSettings(interpreters=INTERPRETERS, places=2 * PLACES)
    with serving(clock=SystemClock(), path=folder / "sequences.db", managed=settings) as served:
        yield served


@pytest.fixture(scope="module")
def in_python(node: Served, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    marks = tmp_path_factory.mktemp("marks")
    return Ran(node, "python", package({"app.py": REFERENCE.read_text("utf-8")}), PYTHON, "app.handler", marks)


@pytest.fixture(scope="module")
def in_javascript(node: Served, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(node, "javascript", javascript.package(), NODE, "index.handler", tmp_path_factory.mktemp("marks"))


@pytest.fixture(params=["in_python", "in_javascript"])
def ran(request: pytest.FixtureRequest) -> Ran:
    found: Ran = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("scenario", SEQUENCES)
def test_an_official_sdk_leaves_the_reference_sequence(ran: Ran, scenario: str) -> None:
    """[S53] [S22] [S24] [S32]"""
    history = ran.history[scenario]
    assert tuple(shown(event) for event in history) == ("ExecutionStarted", *SEQUENCES[scenario])
    assert [event["EventId"] for event in history] == list(range(1, len(history) + 1))
    found = ran.found[scenario]
    assert found["Status"] == ("SUCCEEDED" if "ExecutionSucceeded" in SEQUENCES[scenario] else "FAILED")
    if scenario in RESULTS:
        assert json.loads(found.get("Result", "null")) == RESULTS[scenario]


def test_an_official_sdk_hands_the_input_to_its_handler(ran: Ran) -> None:
    """[S22]"""
    payload = {"text": "é", "list": [1, None, {"a": 1.5}]}
    answer = ran.served.invoke(FunctionName=ran.target, Payload=json.dumps(payload))
    assert json.loads(answer["Payload"]) == payload
    assert json.loads(ran.found["echo"]["Result"]) == json.loads(ran.found["echo"]["InputPayload"])


def test_a_chained_invoke_says_what_it_has_started(ran: Ran) -> None:
    """[S53]"""
    (started,) = [event for event in ran.history["invoke"] if event["EventType"] == "ChainedInvokeStarted"]
    details = started["ChainedInvokeStartedDetails"]
    assert details["FunctionName"] == ran.target
    assert details["ExecutedVersion"] == "$LATEST"
    assert json.loads(details["Input"]["Payload"]) == {"scenario": "slow-child"}
    child = ran.served.get(details["DurableExecutionArn"])
    assert (child["Status"], json.loads(child["Result"])) == ("SUCCEEDED", "from the child")
