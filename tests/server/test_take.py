"""The functions of a node's own process are replaced while it serves."""

import threading
from collections.abc import Sequence
from typing import Any

from perdure import AsyncDurableContext, DurableContext, durable_execution
from perdure.engine.state import ExecutionState
from perdure.model import event as ev
from perdure.model.ids import LATEST
from perdure.server.node import Node
from perdure.service.starting import StartRequest
from perdure.store.memory import MemoryStore

WAIT_S = 20.0


def started(node: Node, function: str) -> str:
    (begun,) = node.service.start([StartRequest(function=function, version=LATEST, input="{}")])
    return begun.execution_id


def result(node: Node, execution_id: str) -> str | None:
    assert node.service.wait(execution_id, WAIT_S)
    return node.service.get(execution_id).result


def test_an_open_execution_goes_on_with_the_code_that_is_taken() -> None:
    @durable_execution
    def first(event: Any, context: DurableContext) -> str:
        said = context.step(lambda _: "first", name="say")
        context.create_callback(name="go").result()
        return f"{said}, first"

    @durable_execution
    async def second(event: Any, context: AsyncDurableContext) -> str:
        said = await context.step(lambda _: "second", name="say")
        await (await context.create_callback(name="go")).result()
        return f"{said}, second"

    suspended = threading.Event()

    def see(state: ExecutionState, events: Sequence[ev.Event]) -> None:
        if state.head.in_flight is None and state.callback_ids:
            suspended.set()

    with Node(MemoryStore(), handlers={"order": first}) as node:
        node.service.watch_all(see)
        execution_id = started(node, "order")
        assert suspended.wait(WAIT_S)
        node.take({"order": second})
        (callback,) = node.service.open_callbacks(execution_id)
        node.service.succeed_callback(callback.callback_id)
        assert result(node, execution_id) == '"first, second"'


def test_a_function_that_is_taken_away_waits_until_it_is_back() -> None:
    @durable_execution
    def order(event: Any, context: DurableContext) -> str:
        return "done"

    with Node(MemoryStore(), handlers={"order": order}) as node:
        node.take({})
        execution_id = started(node, "order")
        assert node.service.get(execution_id).invocations == 0
        node.take({"order": order})
        assert result(node, execution_id) == '"done"'


def test_who_watches_all_sees_every_execution_begin_and_end() -> None:
    @durable_execution
    def order(event: Any, context: DurableContext) -> str:
        return "done"

    seen: list[tuple[str, str]] = []

    def see(state: ExecutionState, events: Sequence[ev.Event]) -> None:
        seen.extend((state.head.execution_id, type(event).__name__) for event in events)
        raise RuntimeError("a watcher that fails harms nobody")

    with Node(MemoryStore(), handlers={"order": order}) as node:
        node.service.watch_all(see)
        ids = [started(node, "order") for _ in range(3)]
        for execution_id in ids:
            assert result(node, execution_id) == '"done"'
    for execution_id in ids:
        names = [name for each, name in seen if each == execution_id]
        assert names[0] == "ExecutionStarted"
        assert names.count("ExecutionSucceeded") == 1
