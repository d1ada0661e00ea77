"""One node: a store, the service over it, the pools that run functions, and the API in front."""

import logging
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from perdure.api import emulator, function_logs, operators, workers
from perdure.api.access import Access
from perdure.api.app import HANDLERS, App
from perdure.api.backing import ENDPOINT_TIMEOUT_S, Backing
from perdure.engine.state import ExecutionState
from perdure.engine.terms import Ids, Terms
from perdure.execution import definition_of
from perdure.identity.audit import AuditLog
from perdure.identity.gate import Gate
from perdure.identity.roles import Credentialing
from perdure.model.error import AccessDenied, ErrorObject, ResourceNotFound, ServiceError
from perdure.model.execution import DurableConfig
from perdure.model.function import FunctionState, FunctionVersion, Host, endpoint_url
from perdure.model.ids import LATEST, Home
from perdure.runtimes import packages
from perdure.runtimes.event import PAGE_BYTES
from perdure.runtimes.interpreters import is_known
from perdure.runtimes.logs import FunctionLogs
from perdure.runtimes.pool import ManagedPool, Settings as PoolSettings
from perdure.server.calls import Calls
from perdure.server.chores import Chores
from perdure.server.endpoint_pool import EndpointPool
from perdure.server.http import HttpServer, Tls, is_loopback
from perdure.server.pools import Pools
from perdure.server.worker_pool import WorkerPool
from perdure.service.clock import Clock, SystemClock
from perdure.service.invocation import Dispatcher
from perdure.service.registry import Registry
from perdure.service.service import Service
from perdure.service.ticker import Ticker
from perdure.store.protocol import Store
from perdure.wire.api import lambda_api
from perdure.worker.threads import ThreadWorker

STOP_S: Final = 10.0
REASON_MAX: Final = 1_000
REASON_CODES: Final = {
    "Runtime.InvalidEntrypoint": "FunctionError.InvalidEntryPoint",
    "Sandbox.Timedout": "FunctionError.InitTimeout",
    "Runtime.OutOfMemory": "FunctionError.InitResourceExhausted",
}
log: Final = logging.getLogger("perdure.server")
ROUTES: Final = (*emulator.ROUTES, *function_logs.ROUTES, *operators.ROUTES, *workers.ROUTES)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a node serves. `data` is the folder for unpacked packages and logs.

    Functions that nobody has registered are at `lambda_endpoint`; there, one invocation may take `endpoint_timeout_s`,
    and so many bytes of operations come with its event. With `takes_unqualified` a chained invoke of a durable function
    may leave the version out, as at the official local server.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls: Tls | None = None
    home: Home = Home()
    terms: Terms = Terms()
    data: Path | None = None
    sync_wait_s: float = 900.0
    lambda_endpoint: str | None = None
    endpoint_timeout_s: int = ENDPOINT_TIMEOUT_S
    endpoint_page_bytes: int = PAGE_BYTES
    takes_unqualified: bool = False
    managed: PoolSettings = PoolSettings()


class Node:
    """Serves from `start` to `stop`; it owns the store. `handlers` run in its own process."""

    def __init__(
        self,
        store: Store,
        settings: Settings | None = None,
        handlers: Mapping[str, Callable[..., Any]] | None = None,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        self.settings = settings = settings or Settings()
        self.store = store
        clock = clock or SystemClock()
        self.registry = Registry(
            store, settings.home, clock, random.random, takes_unqualified=settings.takes_unqualified
        )
        self._worker = ThreadWorker(handlers or {})
        self._endpoints = EndpointPool(self.registry.find, page_bytes=settings.endpoint_page_bytes)
        self._folder = (settings.data or Path(tempfile.mkdtemp(prefix="perdure-node-"))).resolve()
        self._is_folder_ours = settings.data is None
        self.logs = FunctionLogs(self._folder / "logs")
        self._managed = self._managed_pool(settings)
        self._workers = WorkerPool(self.registry)
        pools: dict[Host, Dispatcher] = {
            Host.PROCESS: self._worker,
            Host.ENDPOINT: self._endpoints,
            Host.MANAGED: self._managed,
            Host.WORKER: self._workers,
        }
        self.pools = Pools(self.registry, pools)
        self.service = Service(
            store, self.registry, self.pools, home=settings.home, terms=settings.terms, clock=clock, ids=ids
        )
        self._worker.bind(self.service)
        self._endpoints.bind(self.service)
        self._managed.bind(self.service)
        self._workers.bind(self.service)
        self.service.why_waiting = self._workers.why_waiting
        self.pools.bind(self.service)
        self._register(handlers or {})
        self._ticker = Ticker(self.service)
        self._calls = Calls(store, self.registry, self.pools, self._managed, clock)
        self.backing = Backing(
            service=self.service,
            registry=self.registry,
            store=store,
            home=settings.home,
            calling=self._calls,
            logs=self.logs,
            workers=self._workers,
            runtimes=frozenset(filter(is_known, lambda_api().shapes["Runtime"]["enum"])),
            check_package=packages.check,
            sync_wait_s=settings.sync_wait_s,
            lambda_endpoint=endpoint_url(settings.lambda_endpoint) if settings.lambda_endpoint else None,
            endpoint_timeout_s=settings.endpoint_timeout_s,
        )
        gate = Gate(store, settings.home, clock.now_ms)
        if gate.is_open() and not is_loopback(settings.host):
            raise AccessDenied(
                f"nothing is served at {settings.host}, beyond this machine, without access keys",
                hint="make one with `perdure keys create`, or listen on 127.0.0.1",
            )
        self._audit = AuditLog(store)
        app = App(self.backing, Access(gate, self._audit), HANDLERS, ROUTES)
        self._http = HttpServer(app, settings.host, settings.port, settings.tls, stopping=app.stop)
        self.backing.base_url = self._http.url
        self._chores = Chores([self.registry.sweep])

    @property
    def url(self) -> str:
        return self._http.url

    def clock_has_moved(self) -> None:
        """Look at a clock again that has jumped: what is due by it happens now."""
        self._ticker.look()
        self._calls.look()

    def next_due_ms(self, counts: Callable[[ExecutionState, int], bool] = lambda _state, _at_ms: True) -> int | None:
        """When something happens here next by itself, in executions what `counts`; None if nothing will.

        A moment that has passed says that something runs, waits for a place, or is about to happen.
        """
        moments = self.service.next_due_ms(counts), self._calls.next_due_ms()
        return min((found for found in moments if found is not None), default=None)

    def start(self) -> None:
        """Go on with what is in the store, and take requests."""
        self._ticker.start()
        self._calls.start()
        self._chores.start()
        self._http.start()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Take no requests any more, hand back what runs, and give the store back; also before it was started."""
        self._workers.close()
        self._http.stop(timeout_s)
        self._calls.stop()
        self._chores.stop()
        self.service.close()
        self._workers.hand_back()
        self._worker.close(timeout_s)
        self._ticker.stop(timeout_s)
        self.pools.close()
        self._endpoints.close()
        self._managed.close(timeout_s)
        self.logs.close()
        self._audit.close()
        self.store.close()
        if self._is_folder_ours:
            shutil.rmtree(self._folder, ignore_errors=True)

    def take(self, handlers: Mapping[str, Callable[..., Any]]) -> None:
        """Run these functions in this process from now on, in the place of those before."""
        self._worker.take(handlers)
        self._register(handlers)
        self.service.fill_places()

    def _managed_pool(self, settings: Settings) -> ManagedPool:
        credentialing = Credentialing(self.store.secret)
        registry = self.registry

        def version_of(target: str) -> FunctionVersion:
            function, _, version = target.rpartition(":")
            return registry.get(function, version)

        def code_of(version: FunctionVersion) -> bytes:
            if version.code_key is None:
                raise ResourceNotFound(f"{version.target} has no deployment package")
            return registry.code(version.code_key)

        def credentials_of(version: FunctionVersion) -> dict[str, str]:
            given = credentialing.credentials_for(version, SystemClock().now_ms())
            return {
                "AWS_ACCESS_KEY_ID": given.key_id,
                "AWS_SECRET_ACCESS_KEY": given.secret,
                "AWS_SESSION_TOKEN": given.token,
            }

        return ManagedPool(
            version_of,
            code_of,
            self.logs,
            home=settings.home,
            endpoint=lambda: self.url,
            concurrency_of=lambda function: registry.function(function).concurrency,
            credentials_of=credentials_of,
            freed=lambda: self.service.fill_places(),
            settle=self._settle,
            settings=msgspec.structs.replace(
                settings.managed, cache=settings.managed.cache or self._folder / "packages"
            ),
        )

    def _settle(self, version: FunctionVersion, error: ErrorObject | None) -> None:
        """Keep it where it is seen that a version can't be loaded, and why; or that it can be again."""
        state, reason, code = FunctionState.ACTIVE, None, None
        if error is not None:
            state, reason = FunctionState.FAILED, f"{error.type}: {error.message}"[:REASON_MAX]
            code = REASON_CODES.get(error.type or "", "FunctionError.RuntimeInitError")
        try:
            self.registry.set_state(version.function, version.version, state, reason, code)
        except ServiceError as refused:
            log.warning("a function's state can't be kept", extra={"function": version.target, "error": str(refused)})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _register(self, handlers: Mapping[str, Callable[..., Any]]) -> None:
        """Have the functions of this process in the registry."""
        for name, handler in handlers.items():
            durable = DurableConfig() if definition_of(handler) is not None else None
            found = self.registry.find(name, LATEST)
            version = FunctionVersion(function=name, host=Host.PROCESS, durable=durable, timeout_s=900)
            if found is None:
                self.registry.create(version)
            else:
                self.registry.update_configuration(name, _becomes(version))


def _becomes(version: FunctionVersion) -> Callable[[FunctionVersion], FunctionVersion]:
    return lambda _before: version
