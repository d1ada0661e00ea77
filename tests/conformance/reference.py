"""The handler of the reference sequences, written for the official Python SDK; `index.js` beside is its twin.

It is deployed as it stands. What a scenario is expected to leave in the history is in `test_sequences.py`.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python.config import (
    CallbackConfig,
    Duration,
    MapConfig,
    NestingType,
    ParallelConfig,
    StepConfig,
    StepSemantics,
    WaitForCallbackConfig,
)
from aws_durable_execution_sdk_python.retries import RetryDecision
from aws_durable_execution_sdk_python.waits import WaitForConditionConfig, WaitForConditionDecision

SECOND = Duration.from_seconds(1)
LARGE = 7 * 1024 * 1024
PART = 700_000
"""What is larger than a batch of 750 KiB hangs the official Python SDK."""
FLUSHED_S = 1.5
"""By then the START of a step that runs has been sent: the SDK gathers for a second."""


def retries(most: int) -> Callable[[Exception, int], RetryDecision]:
    """So many attempts, a second apart."""

    def decide(_error: Exception, attempt: int) -> RetryDecision:
        return RetryDecision.retry(SECOND) if attempt < most else RetryDecision.no_retry()

    return decide


def failing(times: int) -> Callable[[Any], str]:
    """A step's body that fails so often, and then works; what it knows of before is its attempt."""

    def body(step: Any) -> str:
        if step.attempt <= times:
            raise RuntimeError(f"attempt {step.attempt}")
        return "done"

    return body


def dying(mark: str, delay_s: float = 0) -> Callable[[Any], str]:
    """A step's body in which the process dies, the first time that it runs."""

    def body(_step: Any) -> str:
        place = Path(mark)
        if not place.exists():
            place.touch()
            time.sleep(delay_s)
            os._exit(1)
        return "survived"

    return body


def one(n: int) -> Callable[[Any], int]:
    return lambda _step: n


def wait_for_callback(context: DurableContext, submit: Callable[[Any], None], attempts: int = 1) -> Any:
    def submitter(_callback_id: str, about: Any) -> None:
        submit(about)

    return context.wait_for_callback(submitter, "ask", WaitForCallbackConfig(retry_strategy=retries(attempts)))


def submit_nothing(_about: Any) -> None:
    return None


def submit_badly(_about: Any) -> None:
    raise RuntimeError("nobody is there")


def run(scenario: str, event: Any, context: DurableContext) -> Any:
    match scenario:
        case "echo":
            return event
        case "step":
            return context.step(one(1), "one")
        case "step-and-wait":
            context.step(one(1), "one")
            context.wait(SECOND, "rest")
            return None
        case "step-retried":
            return context.step(failing(1), "flaky", StepConfig(retry_strategy=retries(2)))
        case "retries-exhausted":
            return context.step(failing(9), "hopeless", StepConfig(retry_strategy=retries(4)))
        case "killed-at-most-once" | "killed-at-most-once-retried":
            attempts = 2 if scenario.endswith("retried") else 1
            semantics = StepSemantics.AT_MOST_ONCE_PER_RETRY
            config = StepConfig(retry_strategy=retries(attempts), step_semantics=semantics)
            return context.step(dying(event["mark"]), "deadly", config)
        case "two-waits":
            context.wait(SECOND, "first")
            context.wait(SECOND, "second")
            return None
        case "child-context":
            return context.run_in_child_context(lambda child: child.step(one(1), "inner"), "box")
        case "child-context-throws":

            def throws(_child: DurableContext) -> None:
                raise RuntimeError("in the box")

            return context.run_in_child_context(throws, "box")
        case "killed-in-child":
            body = dying(event["mark"], FLUSHED_S)
            return context.run_in_child_context(lambda child: child.step(body, "deadly"), "box")
        case "callback" | "callback-and-wait" | "callback-timeout" | "heartbeat-timeout":
            limits = {
                "callback-timeout": CallbackConfig(timeout=SECOND),
                "heartbeat-timeout": CallbackConfig(heartbeat_timeout=SECOND),
            }
            answer = context.create_callback("ask", limits.get(scenario))
            if scenario == "callback-and-wait":
                context.wait(Duration.from_seconds(3), "rest")
            return answer.result()
        case "invoke" | "invoke-fails":
            return context.invoke(event["target"], {"scenario": event["as"]}, "call")
        case "slow-child" | "slow-child-fails":
            context.wait(SECOND, "rest")
            if scenario.endswith("fails"):
                raise RuntimeError("the child has failed")
            return "from the child"
        case "condition":

            def until_three(state: int, _about: Any) -> int:
                return state + 1

            def again(state: int, _attempt: int) -> WaitForConditionDecision:
                if state < 3:
                    return WaitForConditionDecision.continue_waiting(SECOND)
                return WaitForConditionDecision.stop_polling()

            return context.wait_for_condition(until_three, WaitForConditionConfig(again, 0), "until three")
        case "wait-for-callback":
            return wait_for_callback(context, submit_nothing)
        case "submitter-fails-twice":
            return wait_for_callback(context, submit_badly, attempts=2)
        case "parallel" | "parallel-with-failure" | "parallel-flat":

            def fails(_branch: DurableContext) -> None:
                raise RuntimeError("in the branch")

            def steps(branch: DurableContext) -> int:
                return branch.step(one(1), "inner")

            def nothing(_branch: DurableContext) -> None:
                return None

            second = fails if scenario == "parallel-with-failure" else nothing
            if scenario == "parallel-flat":
                flat = ParallelConfig(max_concurrency=1, nesting_type=NestingType.FLAT)
                return context.parallel([steps, steps], "both", flat).success_count
            return context.parallel([nothing, second], "both", ParallelConfig(max_concurrency=1)).success_count
        case "map-with-wait":

            def item(child: DurableContext, n: int, _index: int, _all: Any) -> int:
                if n == 1:
                    child.wait(SECOND, "rest")
                return child.step(one(n), "inner")

            return context.map([0, 1], item, "items", MapConfig(max_concurrency=1)).success_count
        case "large-result":
            return "x" * LARGE
        case "large-state":
            found = [context.step(lambda _step: "x" * PART, f"part-{n}") for n in range(8)]
            context.wait(SECOND, "rest")
            return sum(len(part) for part in found)
        case "handler-throws":
            raise RuntimeError("at once")
    raise ValueError(f"there is no scenario {scenario!r}")


@durable_execution
def handler(event: Any, context: DurableContext) -> Any:
    return run(event["scenario"] if isinstance(event, dict) and "scenario" in event else "echo", event, context)
