"""The real service with managed functions: real processes, real time, and an endpoint that a real boto3 calls."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perdure.engine import tokens
from perdure.engine.terms import RetryPolicy, Terms
from perdure.model.event import HistoryEvent
from perdure.model.execution import DurableConfig
from perdure.model.ids import ExecutionArn, Home, execution_key
from perdure.model.operation import Operation
from perdure.model.view import ExecutionView
from perdure.runtimes.pool import ManagedPool
from perdure.service.functions import LoadedFunctions
from perdure.service.invocation import Call, Invocation
from perdure.service.service import Service
from perdure.service.starting import StartRequest
from perdure.store.memory import MemoryStore
from perdure.wire.forms import API, Form
from perdure.wire.operations import UPDATE, write_operation
from support.functions import WAIT_S, Managed
from support.lambda_http import LambdaApi, serving
from support.remote import Json, WireService


class SealedWire(WireService):
    """The two calls of handlers, with the tokens that the service seals; state goes on where a number says."""

    def checkpoint(self, arn: str, body: Json) -> Json:
        self.calls.append(("checkpoint", body))
        execution_id = ExecutionArn.parse(arn).execution_id
        updates = [UPDATE.read(one, API, f"Updates[{at}]") for at, one in enumerate(body.get("Updates") or [])]
        token = self._token(execution_id, body["CheckpointToken"])
        answer = self.service.checkpoint(execution_id, token, updates, body.get("ClientToken"))
        written: Json = {"NewExecutionState": {"Operations": _written(answer.operations, API)}}
        if answer.token is not None:
            secret = self.service.store.secret
            written["CheckpointToken"] = tokens.mint(secret, execution_key(execution_id), answer.token)
        return written

    def state(self, arn: str, token: str, marker: str, max_items: int) -> Json:
        self.calls.append(("state", {"Marker": marker}))
        execution_id = ExecutionArn.parse(arn).execution_id
        found, left = self.service.state_page(
            execution_id, self._token(execution_id, token), int(marker), min(max_items, self.page)
        )
        page: Json = {"Operations": _written(found, API)}
        return page if left is None else {**page, "NextMarker": str(left)}

    def _token(self, execution_id: str, text: str) -> Any:
        return tokens.read(self.service.store.secret, execution_key(execution_id), text)


def _written(operations: Sequence[Operation], form: Form) -> list[Json]:
    return [write_operation(one, form) for one in operations]


class _Places:
    """The pool as the dispatcher of a service that may know functions by their names alone."""

    def __init__(self, pool: ManagedPool, function: str) -> None:
        self._pool = pool
        self._target = f"{function}:$LATEST"

    def reserve(self, target: str) -> bool:
        return self._pool.reserve(target if ":" in target else f"{target}:$LATEST")

    def release(self, target: str | None = None) -> None:
        self._pool.release(target or self._target)

    @property
    def has_backlog(self) -> bool:
        return self._pool.has_backlog

    def run(self, invocation: Invocation) -> None:
        self._pool.run(invocation)

    def call(self, call: Call) -> None:
        self._pool.call(call)


class ManagedService:
    """A service, its pool, and a thread for what happens because time passes."""

    def __init__(self, folder: Path, api: LambdaApi, url: str, *, page: int = 1000, terms: Terms | None = None) -> None:
        self.managed = Managed(folder, endpoint=url)
        self.api = api
        self._page = page
        self._terms = terms or Terms(retries=RetryPolicy(first_delay_ms=50, delay_max_ms=200))
        self._is_over = False
        self._service: Service | None = None

    @property
    def service(self) -> Service:
        assert self._service is not None, "put a function first"
        return self._service

    @property
    def wire(self) -> WireService:
        assert self.api.wire is not None
        return self.api.wire

    def put(self, name: str, files: Any, **more: Any) -> None:
        """The one durable function of this service; `put_plain` others before it."""
        self.managed.put(name, files, durable=DurableConfig(), **more)
        targets = self.managed.registry.versions.values()
        configs = {one.function: one.durable for one in targets}
        places = _Places(self.managed.pool, name)
        self._service = Service(MemoryStore(), LoadedFunctions(configs, Home()), places, terms=self._terms)
        self.managed.pool.bind(self._service)
        self.api.wire = SealedWire(self._service, self._page)
        self._ticker = threading.Thread(target=self._tick)
        self._ticker.start()

    def _tick(self) -> None:
        service = self.service
        while not self._is_over:
            service.tick()
            with service.agenda.earlier:
                delay_s = (service.next_tick_ms() - service.clock.now_ms()) / 1000
                if delay_s > 0 and not self._is_over:
                    service.agenda.earlier.wait(min(delay_s, 1.0))

    def start(self, function: str, input_: str | None = "null") -> str:
        return self.service.start([StartRequest(function=function, input=input_)])[0].execution_id

    def run(self, function: str, input_: str | None = "null") -> ExecutionView:
        execution_id = self.start(function, input_)
        assert self.service.wait(execution_id, WAIT_S), self.history(execution_id)
        return self.service.get(execution_id)

    def history(self, execution_id: str) -> list[HistoryEvent]:
        return list(self.service.all_events(execution_id))

    def close(self) -> None:
        if self._service is not None:
            self._service.close()
        self.managed.pool.close(0)
        self._is_over = True
        if self._service is not None:
            with self._service.agenda.earlier:
                self._service.agenda.earlier.notify_all()
            self._ticker.join()
        self.managed.logs.close()


@contextmanager
def managed_service(folder: Path, **more: Any) -> Iterator[ManagedService]:
    api = LambdaApi()
    with serving(api) as url:
        made = ManagedService(folder, api, url, **more)
        try:
            yield made
        finally:
            made.close()
