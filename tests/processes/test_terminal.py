"""`perdure invoke` as people use it: on a terminal, where it asks them, and where Ctrl-C leaves the execution alone."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure import DurableContext, Duration, durable_execution
from perdure.config import CallbackConfig
from perdure.server.node import Node
from perdure.store.memory import MemoryStore
from support.terminal import Process, Screen, on_terminal

PERDURE = [sys.executable, "-m", "perdure"]


@durable_execution(name="order")
def order(event: Any, context: DurableContext) -> Any:
    context.step(lambda _: 1, name="reserve")
    return context.create_callback("barista", CallbackConfig(timeout=Duration.from_hours(1))).result()


@durable_execution(name="twice")
def twice(event: Any, context: DurableContext) -> Any:
    return [context.create_callback(name).result() for name in ("first", "second")]


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node(MemoryStore(), handlers={"order": order, "twice": twice}) as node:
        yield node


def invoke(node: Node, folder: Path, function: str, *deeds: Any) -> Screen:
    environ = {"PERDURE_ENDPOINT": node.url, "XDG_STATE_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return on_terminal([*PERDURE, "invoke", function], folder, *deeds, environ=environ)


def types(line: str) -> Any:
    return lambda process: process.type(line)


def status_of_the_last(node: Node) -> str:
    from perdure.store.protocol import Query

    (row,) = node.service.search(Query(now_ms=node.service.clock.now_ms(), limit=1)).rows[:1]
    return str(node.service.get(row.execution_id).status)


def test_at_a_callback_the_menu_offers_to_answer_it_and_the_run_goes_on(node: Node, tmp_path: Path) -> None:
    """CLI 30"""
    screen = invoke(
        node,
        tmp_path,
        "order",
        ("What now [1]:", types("3")),
        ("kept alive", lambda _: None),
        ("What now [1]:", types("1")),
        ("Result (optional):", types("a cortado")),
    )
    assert screen.code == 0
    assert "waits for an answer to 'barista'" in screen.text
    for number in range(1, 6):
        assert f"  {number}. " in screen.text
    assert "✓ reserve" in screen.text
    assert screen.text.rstrip().endswith('"a cortado"')


def test_the_menu_answers_with_a_failure(node: Node, tmp_path: Path) -> None:
    deeds = [("What now", types("2")), ("[User cancelled]:", types("")), ("(optional):", types("Cancelled"))]
    screen = invoke(node, tmp_path, "order", *deeds)
    assert screen.code == 1
    assert "User cancelled" in screen.text


def test_the_menu_stops_the_execution(node: Node, tmp_path: Path) -> None:
    deeds = [("What now", types("4")), ("Error message [", types("enough")), ("(optional):", types(""))]
    screen = invoke(node, tmp_path, "order", *deeds)
    assert screen.code == 1
    assert "ended STOPPED" in screen.text
    assert status_of_the_last(node) == "STOPPED"


def test_who_waits_is_asked_again_at_the_next_callback(node: Node, tmp_path: Path) -> None:
    def answer(_process: Process) -> None:
        (found,) = node.service.open_callbacks()
        node.service.succeed_callback(found.callback_id, b"one")

    screen = invoke(
        node,
        tmp_path,
        "twice",
        ("answer to 'first'", lambda _: None),
        ("What now [1]:", lambda process: (process.type("5"), answer(process))),
        ("answer to 'second'", lambda _: None),
        ("What now [1]:", types("1")),
        ("Result (optional):", types("two")),
    )
    assert screen.code == 0
    assert '"two"' in screen.text


def test_ctrl_c_leaves_the_execution_running_and_says_how_to_see_it_again(node: Node, tmp_path: Path) -> None:
    screen = invoke(node, tmp_path, "order", ("What now", Process.interrupt))
    assert screen.code == 130
    assert "goes on. Hint: see it again with: perdure execution follow " in " ".join(screen.text.split())
    assert status_of_the_last(node) == "RUNNING"
