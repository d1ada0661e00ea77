"""The value of an operation is the Python object that the handler got."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from perdure import (
    BatchResult,
    CompletionConfig,
    CompletionReason,
    DurableContext,
    JsonSerDes,
    MapConfig,
    StepConfig,
    durable_execution,
)
from perdure.config import InvokeConfig
from perdure.serdes import SerDesContext
from perdure.testing import LocalRunner, Result, UnknownValue
from support.kit import run


@dataclass
class Order:
    number: int
    price: Decimal


class Shout(JsonSerDes):
    """JSON in capitals."""

    def serialize(self, value: Any, serdes_context: SerDesContext) -> str:
        return json.dumps(value).upper()


TOLERANT = MapConfig(completion_config=CompletionConfig(tolerated_failure_count=1))

VALUES = [
    7,
    {"a": [1, 2.5]},
    [1, "two", None],
    None,
    datetime(2026, 1, 31, 12, tzinfo=UTC),
    Decimal("12.50"),
    b"\x00\xff",
    "text",
    (1, 2),
    {1, 2},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_the_value_of_a_step_is_what_it_returned(value: Any) -> None:
    """[T12]"""

    @durable_execution
    def handler(_event: Any, context: DurableContext) -> None:
        context.step(lambda _: value, name="a")

    found = run(handler).op("a").value
    assert (found, type(found)) == (value, type(value))


def test_the_value_of_a_step_that_returns_a_dataclass_is_one() -> None:
    """[T12]"""

    @durable_execution
    def handler(_event: Any, context: DurableContext) -> None:
        def order(_: Any) -> Order:
            return Order(7, Decimal("1.20"))

        context.step(order, name="a")
        context.map([1, 2], lambda inner, n, _i, _all: inner.step(lambda _: n, name="n"), name="m")

    result = run(handler)
    assert result.op("a").value == Order(7, Decimal("1.20"))
    batch = result.op("m").value
    assert isinstance(batch, BatchResult)
    assert (batch.get_results(), batch.completion_reason) == ([1, 2], CompletionReason.ALL_COMPLETED)


def test_a_saved_dataclass_is_read_if_its_module_is_loaded_and_named_if_not() -> None:
    @durable_execution
    def handler(_event: Any, context: DurableContext) -> None:
        def order(_: Any) -> Order:
            return Order(7, Decimal("1.20"))

        context.step(order, name="a")

    document = run(handler).to_json()
    assert Result.from_json(document).op("a").value == Order(7, Decimal("1.20"))
    elsewhere = Result.from_json(document.replace(f"{__name__}.Order", "nowhere.Order"))
    with pytest.raises(UnknownValue, match=r"the result of 'a' can't be read: the value is a nowhere\.Order"):
        _ = elsewhere.op("a").value


def test_values_are_read_with_the_serdes_that_wrote_them() -> None:
    @durable_execution(output_serdes=Shout())
    def handler(_event: Any, context: DurableContext) -> str:
        context.step(lambda _: "text", name="step", config=StepConfig(serdes=Shout()))
        context.map([1], lambda *_: "item", name="map", config=MapConfig(item_serdes=Shout()))
        context.invoke("other", {"a": "b"}, name="plain")
        context.invoke("other", {"a": "b"}, name="loud", config=InvokeConfig(serdes_payload=Shout()))
        return "done"

    with LocalRunner(handler) as runner:
        runner.register_function("other", lambda event, _: list(event))
        result = runner.run()
    assert result.raw_result == '"DONE"'
    assert result.result == "DONE"
    assert result.op("step").value == "TEXT"
    assert result.op("map/*").value == "ITEM"
    assert (result.op("plain").value, result.op("loud").value) == (["a"], ["A"])


def test_a_callback_s_value_is_the_text_that_the_handler_got() -> None:
    @durable_execution
    def handler(_event: Any, context: DurableContext) -> Any:
        return context.wait_for_callback(lambda _id: None, name="approve")

    with LocalRunner(handler) as runner:
        execution = runner.start()
        execution.callback("approve").succeed({"yes": True})
        result = execution.result()
    assert json.loads(result.result) == {"yes": True}
    assert result.callbacks[0].value == result.op("approve").value == result.result


def test_a_batch_that_was_too_large_to_be_recorded_is_made_of_its_branches_again() -> None:
    @durable_execution
    def handler(_event: Any, context: DurableContext) -> None:
        def item(_inner: Any, n: int, _index: int, _all: Any) -> str:
            if n == 2:
                raise ValueError("two")
            return "x" * 100_000

        context.map([0, 1, 2, 3], item, name="m", config=TOLERANT)
        context.run_in_child_context(lambda _: "x" * 300_000, name="big")

    result = run(handler)
    batch = result.op("m").value
    assert [len(each or "") for each in (item.result for item in batch)] == [100_000, 100_000, 0, 100_000]
    assert [str(error) for error in batch.get_errors()] == ["ValueError: two"]
    with pytest.raises(UnknownValue, match="the result of 'big' was too large to be recorded"):
        _ = result.op("big").value


def test_a_result_that_is_no_json_is_shown_as_it_is() -> None:
    class Plain(JsonSerDes):
        def serialize(self, value: Any, serdes_context: SerDesContext) -> str:
            return "<done/>"

    @durable_execution(output_serdes=Plain())
    def handler(_event: Any, _context: DurableContext) -> None: ...

    result = Result.from_json(run(handler).to_json())
    assert result.raw_result == "<done/>"
    with pytest.raises(UnknownValue, match="is not JSON: '<done/>'; raw_result has all of it"):
        _ = result.result
