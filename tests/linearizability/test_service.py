"""Threads ask one service, or several over one store, at the same time: some order of their calls explains all answers.

Each run takes a fresh seed and prints it. Threads are what they are: a seed gives the same questions, not the same
moments.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from linearizability.recording import SOON_S, Desk, InProcess, Record, Work, finish, let_clients_ask
from perdure.engine.terms import RetryPolicy, Terms
from perdure.model.error import StoreError
from perdure.model.execution import DurableConfig
from perdure.model.ids import Home
from perdure.service.functions import LoadedFunctions
from perdure.service.service import Service
from perdure.service.starting import StartRequest
from perdure.service.ticker import Ticker
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Store
from perdure.store.sqlite.store import SqliteStore
from perdure.worker.threads import ThreadWorker
from support.around import Around

R = TypeVar("R")
TERMS = Terms(retries=RetryPolicy(first_delay_ms=1, delay_max_ms=10, quarantine_after=10**6))
SYSTEM = random.SystemRandom()


class Unreliable(Around):
    """A store that now and then does nothing, or does it and does not say so."""

    def __init__(self, real: Store) -> None:
        super().__init__(real)
        self.faults = 0.0

    def around(self, call: Callable[[], R], *, writes: bool) -> R:
        if SYSTEM.random() < self.faults:
            raise StoreError("the store is away")
        answer = call()
        if writes and SYSTEM.random() < self.faults:
            raise StoreError("the reply was lost")
        return answer


@contextmanager
def running(store: Store, desk: Desk, nodes: int) -> Iterator[list[Service]]:
    """Services over one store, each with threads that run its functions."""
    functions = LoadedFunctions(dict.fromkeys(desk.handlers, DurableConfig()), Home())
    workers = [ThreadWorker(desk.handlers) for _ in range(nodes)]
    services = [Service(store, functions, worker, terms=TERMS, owner=f"n{n}") for n, worker in enumerate(workers)]
    tickers = [Ticker(service) for service in services]
    for service, worker, ticker in zip(services, workers, tickers, strict=True):
        worker.bind(service)
        ticker.start()
    try:
        yield services
    finally:
        for service, worker, ticker in zip(services, workers, tickers, strict=True):
            service.close()
            worker.close(5)
            ticker.stop(5)
        store.close()


@pytest.mark.parametrize("faults", [0.0, 0.03])
@pytest.mark.parametrize(("kind", "nodes"), [("memory", 1), ("memory", 3), ("sqlite", 1)])
def test_one_order_of_calls_explains_what_threads_were_answered(
    kind: str, nodes: int, faults: float, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    seed = SYSTEM.randrange(2**32)
    real: Store = (
        MemoryStore(lease_ms=1_500 if nodes > 1 else None) if kind == "memory" else SqliteStore(tmp_path / "s")
    )
    store = Unreliable(real)
    desk, record = Desk(), Record()
    with running(store, desk, nodes) as services:
        requests = [StartRequest(function="asks", input="3") for _ in range(8)]
        executions = [started.execution_id for started in services[0].start(requests)]
        for execution_id in executions:
            desk.until_asked(execution_id)
        clients = InProcess(desk, services)
        store.faults = faults
        names = [f"name-{number}" for number in range(5)]
        let_clients_ask(record, lambda _number, _rng: clients, Work(names, executions), seed, _never)
        store.faults = 0.0

        def until_ended(execution_id: str) -> None:
            # A node is not told what another one has written: it looks.
            for _ in range(int(SOON_S / 0.01)):
                if services[0].wait(execution_id, 0.01) or services[0].get(execution_id).end_ms is not None:
                    return
            pytest.fail(f"seed {seed}: it has not ended: {services[0].get(execution_id)}")

        finish(record, clients, executions, until_ended)
    record.check(executions)
    tell(f"{len(record.calls)} calls, {record.lost} without an answer, {kind}, {nodes} node(s), seed {seed}")
    assert (record.lost > 0) is (faults > 0)


def _never() -> None:
    raise AssertionError("a service in this process is never away")
