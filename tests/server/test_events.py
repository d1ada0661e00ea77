"""Calls of plain functions that are accepted and made later: on disk first, made at least once, tried again."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from perdure.model.function import EventInvokeConfig
from perdure.server.calls import EVENT
from perdure.server.node import Node, Settings
from perdure.store.sqlite.store import SqliteStore
from support.local import ManualClock
from support.served import client_of

MINUTE_MS = 60_000


class Played:
    """A plain function that fails as often as it is told, and a node that serves it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock()
        self.failures = 0
        self.seen: list[Any] = []
        self._changed = threading.Condition()
        self.start()

    def start(self) -> None:
        def function(event: Any, _context: Any) -> Any:
            with self._changed:
                self.seen.append(event)
                self._changed.notify_all()
                if len(self.seen) <= self.failures:
                    raise ValueError("not yet")
            return event

        self.node = Node(SqliteStore(self.path), Settings(), {"plain": function}, clock=self.clock)
        self.node.start()

    def send(self, payload: bytes) -> int:
        client = client_of(self.node.url)
        status: int = client.invoke(FunctionName="plain", InvocationType="Event", Payload=payload)["StatusCode"]
        client.close()
        return status

    def await_calls(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.seen) >= count, 10), self.seen

    def move(self, ms: int) -> None:
        self.clock.now += ms
        self.node.clock_has_moved()

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is true of the store, which a thread of the node is about to change."""
        for _ in range(1000):
            if true():
                return
            threading.Event().wait(0.01)
        raise AssertionError("it did not come true")

    def left(self) -> int:
        return len(self.node.store.records(EVENT))


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    made = Played(tmp_path / "events.db")
    yield made
    made.node.stop()


def test_an_event_is_delivered_once_and_then_forgotten(played: Played) -> None:
    assert played.send(b'{"n": 1}') == 202
    played.await_calls(1)
    played.until(lambda: played.left() == 0)
    assert played.seen == [{"n": 1}]


def test_a_failed_event_is_tried_again_after_a_minute_and_after_two(played: Played) -> None:
    played.failures = 2
    played.send(b"1")
    played.await_calls(1)
    played.until(lambda: [one.key[:13] for one in played.node.store.records(EVENT)] == [_due(played, MINUTE_MS)])
    played.move(MINUTE_MS)
    played.await_calls(2)
    played.until(lambda: [one.key[:13] for one in played.node.store.records(EVENT)] == [_due(played, 2 * MINUTE_MS)])
    played.move(2 * MINUTE_MS)
    played.await_calls(3)
    played.until(lambda: played.left() == 0)


def _due(played: Played, in_ms: int) -> str:
    return f"{played.clock.now + in_ms:013d}"


def test_an_event_is_given_up_as_the_function_s_settings_say(played: Played) -> None:
    played.failures = 9
    played.node.registry.update_function("plain", lambda function: _with(function, EventInvokeConfig(retries_max=0)))
    played.send(b"1")
    played.await_calls(1)
    played.until(lambda: played.left() == 0)
    assert len(played.seen) == 1


def _with(function: Any, config: EventInvokeConfig) -> Any:
    return replace(function, event_invokes={"$LATEST": config})


def test_what_was_accepted_is_delivered_after_a_restart(played: Played) -> None:
    played.failures = 1
    played.send(b'"kept"')
    played.await_calls(1)
    played.until(lambda: [one.key[:13] for one in played.node.store.records(EVENT)] == [_due(played, MINUTE_MS)])
    played.node.stop()
    played.clock.now += MINUTE_MS
    played.start()
    played.await_calls(2)
    assert played.seen == ["kept", "kept"]
