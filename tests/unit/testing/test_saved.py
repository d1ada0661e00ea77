"""A result can be written and read again, and is then the same."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from perdure import DurableContext, durable_execution
from perdure.config import CallbackConfig
from perdure.testing import DurableFunctionsTestError, LocalRunner, Result
from support.kit import NEVER, run, shop


@durable_execution
def everything(_event: Any, context: DurableContext) -> None:
    def fails(_: Any) -> None:
        raise ValueError("no")

    context.invoke("other", {"a": 1}, name="other")
    context.parallel([lambda inner: inner.step(fails, name="fails", config=NEVER)], name="tries")
    context.create_callback(name="ask", config=CallbackConfig(timeout=60)).result()


def results() -> list[Result]:
    with LocalRunner(everything) as runner:
        runner.register_function("other", lambda event, _: event)
        return [run(shop, {"order": 7}), runner.run(), runner.run(until="callback:ask")]


@pytest.mark.parametrize("result", results(), ids=["succeeded", "failed", "open"])
def test_a_result_that_was_written_reads_as_the_same(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "x.history.json"
    result.save(path)
    again = Result.load(path)
    assert again.tree() == result.tree()
    assert again.all_operations == result.all_operations
    assert again.history == result.history
    assert again.invocations == result.invocations
    assert again.metering == result.metering
    assert (again.status, again.error, again.raw_result) == (result.status, result.error, result.raw_result)
    assert (again.arn, again.name, again.duration) == (result.arn, result.name, result.duration)
    assert [each.attempts for each in again.steps] == [each.attempts for each in result.steps]
    assert again.to_json() == result.to_json() == path.read_text("utf-8")


def test_the_document_has_the_answers_of_the_api() -> None:
    result = run(shop, 7, start_time=datetime(2026, 1, 31, 12, tzinfo=UTC))
    document = json.loads(result.to_json())
    assert document["Execution"]["DurableExecutionArn"] == result.arn
    assert document["Execution"]["Status"] == "SUCCEEDED"
    assert document["Execution"]["InputPayload"] == "7"
    assert [event["EventType"] for event in document["Events"][:2]] == ["ExecutionStarted", "StepStarted"]
    assert document["Events"][0]["EventTimestamp"] == "2026-01-31T12:00:00.000Z"


def test_the_events_alone_are_enough_for_all_but_the_name_of_the_function() -> None:
    result = run(shop, 7)
    document = json.loads(result.to_json())
    again = Result.from_json({"Events": document["Events"]})
    assert again.tree() == result.tree()
    assert again.result == result.result
    assert again.facts.function == "unknown"


@pytest.mark.parametrize("document", ["{}", "[]", "no", '{"Execution": {}, "Events": []}', '{"Execution": 1}'])
def test_what_is_no_saved_execution_is_refused_with_what_one_is(document: str) -> None:
    with pytest.raises(DurableFunctionsTestError, match=r"this is no saved execution: .* it is a JSON object with"):
        Result.from_json(document)
