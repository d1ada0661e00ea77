"""What steps return, live and on replay, where the value is of a class of the author's."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from perdure import DurableContext, SerDesError, TypedSerDes, durable_execution
from perdure.config import ChildConfig, StepConfig
from perdure.filesystem_serdes import FileSystemSerDes, FileSystemSerDesConfig
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import OperationStatus
from perdure.sdk.annotated import typed_serdes_for
from support.local import Local


@dataclass(frozen=True)
class Order:
    sku: str
    price: Decimal
    placed: datetime


ORDER = Order("beans", Decimal("1.50"), datetime(2026, 1, 2, tzinfo=UTC))


def order(_: Any) -> Order:
    return ORDER


@pytest.mark.parametrize("serdes", [TypedSerDes(Order), typed_serdes_for(order)], ids=["asked for", "annotated"])
def test_a_step_returns_a_dataclass_live_and_on_replay(serdes: Any) -> None:
    """[32]"""
    seen: list[Any] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        seen.append(context.step(order, config=StepConfig(serdes=serdes)))
        seen.append(context.run_in_child_context(order, config=ChildConfig(serdes=serdes)))
        context.wait(1)

    assert Local(handler).run().status is ExecutionStatus.SUCCEEDED
    assert seen == [ORDER] * 4
    assert all(type(one) is Order for one in seen)


def test_a_dataclass_that_nobody_expects_fails_before_it_is_recorded() -> None:
    """[33]"""
    runs: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        try:
            context.step(lambda _: runs.append(1) or ORDER, name="order")
        except SerDesError as error:
            return str(error)

    outcome = Local(handler).run()
    assert "annotate the function with what it returns (`-> Order`), set result_type=Order" in outcome.result
    assert runs == [1]
    assert outcome.op("order").status is OperationStatus.FAILED
    assert outcome.op("order").result is None


def test_a_value_in_a_file_is_the_same_on_replay(tmp_path: Path) -> None:
    seen: list[Any] = []
    serdes = FileSystemSerDes(tmp_path, FileSystemSerDesConfig(serdes=TypedSerDes(Order)))

    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        seen.append(context.step(order, name="order", config=StepConfig(serdes=serdes)))
        context.wait(1)

    outcome = Local(handler).run()
    assert seen == [ORDER, ORDER]
    path = Path(json.loads(outcome.op("order").result)["file"])
    assert path.is_relative_to(tmp_path) and "beans" in path.read_text()
