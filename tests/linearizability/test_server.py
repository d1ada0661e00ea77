"""Clients ask a server over connections that break, and that is restarted meanwhile, at times without notice."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from linearizability.recording import SOON_S, Desk, Record, Work, finish, let_clients_ask
from linearizability.wired import OverHttp, id_of
from perdure.engine.terms import RetryPolicy, Terms
from perdure.model.error import StoreError
from perdure.service.clock import SystemClock
from perdure.store.protocol import Store
from support.around import Around
from support.served import Served, serving

R = TypeVar("R")
CUTS = 0.1
TERMS = Terms(retries=RetryPolicy(first_delay_ms=1, delay_max_ms=10, quarantine_after=10**6))
SYSTEM = random.SystemRandom()


class Mortal(Around):
    """The store of a process that ends from one moment to the next: what it was about to say is never said."""

    is_dead = False

    def around(self, call: Callable[[], R], *, writes: bool) -> R:
        if self.is_dead:
            raise StoreError("the process is dead")
        answer = call()
        if self.is_dead:
            raise StoreError("the process died after it")
        return answer


class Restarted:
    """A server that is restarted again and again, each time at another point of the work."""

    def __init__(self, served: Served, record: Record, restarts: int) -> None:
        self._served = served
        self._record = record
        self._restarts = restarts
        self._is_up = threading.Event()
        self._is_up.set()
        self._thread = threading.Thread(target=self._run)

    def wait_until_back(self) -> None:
        assert self._is_up.wait(SOON_S), "the server did not come back"

    def _run(self) -> None:
        for number in range(1, self._restarts + 1):
            while len(self._record.calls) < number * 360 // (self._restarts + 1):
                threading.Event().wait(0.005)
            self._is_up.clear()
            store = self._served.node.store
            assert isinstance(store, Mortal)
            store.is_dead = number % 2 == 1
            self._served.stop()
            self._served.start()
            self._is_up.set()

    def __enter__(self) -> "Restarted":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()


@pytest.mark.parametrize(("kind", "restarts"), [("memory", 0), ("sqlite", 2)])
def test_one_order_of_calls_explains_what_clients_of_a_server_were_answered(
    kind: str, restarts: int, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    seed = SYSTEM.randrange(2**32)
    desk, record = Desk(), Record()
    path = tmp_path / "s" if kind == "sqlite" else None
    with serving(handlers=desk.handlers, clock=SystemClock(), terms=TERMS, path=path, around=_mortal) as served:
        executions = [_begin(served, desk) for _ in range(8)]
        names = [f"name-{number}" for number in range(5)]

        def until_ended(execution_id: str) -> None:
            assert served.node.service.wait(execution_id, SOON_S), f"seed {seed}: {execution_id} has not ended"

        with Restarted(served, record, restarts) as restarted:
            let_clients_ask(
                record,
                lambda _number, rng: OverHttp(served, desk, rng, CUTS),
                Work(names, executions),
                seed,
                restarted.wait_until_back,
            )
        finish(record, OverHttp(served, desk, random.Random(seed), 0.0), executions, until_ended)
    record.check(executions)
    told = f"{len(record.calls)} calls, {record.lost} without an answer, {restarts} restarts"
    tell(f"over HTTP: {told}, {kind}, seed {seed}")
    assert record.lost > 0


def _mortal(store: Store) -> Store:
    return Mortal(store)


def _begin(served: Served, desk: Desk) -> str:
    answer = served.invoke(FunctionName="asks:$LATEST", InvocationType="Event", Payload="3")
    execution_id = id_of(str(answer["DurableExecutionArn"]))
    desk.until_asked(execution_id)
    return execution_id
