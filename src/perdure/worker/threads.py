"""Workers in threads: one for every invocation that runs, none for those that wait."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from perdure.execution import definition_of
from perdure.model.error import ServiceError
from perdure.sdk.drivers.blocking import BlockingDriver
from perdure.sdk.drivers.linger import Linger
from perdure.sdk.invocation import Definition, DriverOf, LoopDriverOf
from perdure.service.invocation import Call, Invocation
from perdure.service.service import Service
from perdure.worker.client import InProcessClient, InvocationClient
from perdure.worker.handlers import answer_call, run_and_end

if TYPE_CHECKING:
    from perdure.worker.loop import LoopThread

ClientOf = Callable[[Invocation], InvocationClient]

log: Final = logging.getLogger("perdure.worker")

LOOP_PLACES: Final = 10_000
"""With handlers that run on the loop, and take no thread, there are more places than threads: the others queue."""

THREADS: Final = 64
"""Handlers block their threads, so there are more of these than cores; a thread costs about 50 KiB once it has run."""


JOIN_S: Final = 1.0
"""So long does a closing worker wait for a thread that has nothing to do but to end."""


class ThreadWorker:
    """The dispatcher of a process: at most `threads` invocations at once, in threads that are made when needed.

    `handlers` are the functions by name, durable ones and plain ones `f(event, context)`. `driver_of` makes the driver
    of a handler that is not `async def`, `loop_driver_of` that of one that is.
    """

    def __init__(
        self,
        handlers: Mapping[str, Callable[..., Any]],
        threads: int = THREADS,
        *,
        driver_of: DriverOf = BlockingDriver,
        loop_driver_of: "LoopDriverOf | None" = None,
    ) -> None:
        self._handlers: dict[str, Callable[..., Any]] = {}
        self._definitions: dict[str, Definition] = {}
        self._durable: frozenset[str] = frozenset()
        self._threads_max = threads
        self._places = threads
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._taken = 0
        self._loop: LoopThread | None = None
        self._waiting_threads = 0
        self._threads: list[threading.Thread] = []
        self._work: queue.SimpleQueue[Invocation | Call | None] = queue.SimpleQueue()
        self._running: dict[int, InvocationClient] = {}
        self._linger = Linger()
        self._is_closing = False
        self._client_of: ClientOf | None = None
        self._driver_of = driver_of
        self._loop_driver_of = loop_driver_of
        self.take(handlers)

    def take(self, handlers: Mapping[str, Callable[..., Any]]) -> None:
        """Run these functions from now on, and no others; what has a place already keeps it."""
        durable = {name: found for name, handler in handlers.items() if (found := definition_of(handler)) is not None}
        is_any_async = any(definition.is_async for definition in durable.values())
        with self._lock:
            self._handlers = {**self._handlers, **handlers}
            self._definitions = {**self._definitions, **durable}
            self._durable = frozenset(durable)
            if is_any_async and self._loop is None:
                from perdure.worker import loop  # asyncio is not for everybody

                self._loop = loop.LoopThread()
                self._places = max(LOOP_PLACES, self._threads_max)

    def bind(self, service: Service) -> None:
        """Give the worker the service that its handlers talk to."""
        self.bind_to(lambda invocation: InProcessClient(service, invocation))

    def bind_to(self, client_of: ClientOf) -> None:
        """Give the worker what makes the client of an invocation, where the service is in another process."""
        self._client_of = client_of

    # --- places --------------------------------------------------------------------------------------------------

    def reserve(self, target: str) -> bool:
        function = target.partition(":")[0]
        with self._lock:
            if self._is_closing or self._taken >= self._places or function not in self._durable:
                return False
            self._taken += 1
            return True

    def enter(self) -> bool:
        """Take a place, free or not, where somebody else has counted them; False if the worker is closing."""
        with self._lock:
            self._taken += not self._is_closing
            return not self._is_closing

    @property
    def has_backlog(self) -> bool:
        return not self._work.empty()

    def release(self, target: str) -> None:
        with self._lock:
            self._taken -= 1
            if not self._taken:
                self._idle.notify_all()

    def run(self, invocation: Invocation) -> None:
        definition = self._definitions[invocation.function]
        if definition.is_async and self._loop is not None:
            self._loop.submit(lambda: self._invoke_on_loop(invocation))
        else:
            self._put(invocation)

    def call(self, call: Call) -> None:
        self._put(call)

    def _put(self, work: Invocation | Call) -> None:
        """Queue work, with one more thread if all are busy and there may be more."""
        self._work.put(work)
        with self._lock:
            if self._waiting_threads > 0:
                self._waiting_threads -= 1
            elif len(self._threads) < self._threads_max:
                thread = threading.Thread(target=self._serve, name=f"perdure-worker-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            else:
                self._waiting_threads -= 1

    # --- threads -------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                if isinstance(work, Call):
                    answer_call(work, self._handlers[work.function])
                else:
                    self._invoke(work)
            except Exception:
                log.exception("a worker thread met an error of its own")
            with self._lock:
                self._waiting_threads += 1

    def _begin(self, invocation: Invocation) -> tuple[Definition, InvocationClient]:
        definition = self._definitions[invocation.function]
        assert self._client_of is not None
        client = self._client_of(invocation)
        self._running[id(client)] = client
        client.is_closing = self._is_closing
        return definition, client

    def _invoke(self, invocation: Invocation) -> None:
        definition, client = self._begin(invocation)
        try:
            run_and_end(invocation, definition, client, self._linger, self._driver_of)
        except ServiceError:
            log.exception("the end of an invocation was refused", extra={"execution": invocation.execution_id})
        finally:
            del self._running[id(client)]

    async def _invoke_on_loop(self, invocation: Invocation) -> None:
        from perdure.worker.loop import run_on_loop_and_end

        definition, client = self._begin(invocation)
        try:
            await run_on_loop_and_end(invocation, definition, client, self._loop_driver_of)
        except ServiceError:
            log.exception("the end of an invocation was refused", extra={"execution": invocation.execution_id})
        finally:
            del self._running[id(client)]

    # --- the end -------------------------------------------------------------------------------------------------

    def close(self, timeout_s: float) -> bool:
        """Start nothing more; let what runs come to its next checkpoint and hand it back. False if some still run.

        If none does, no thread of the worker is left.
        """
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._is_closing = True
            for client in list(self._running.values()):
                client.is_closing = True
            while self._taken and (left := deadline - time.monotonic()) > 0:
                self._idle.wait(left)
            is_idle = not self._taken
        for _ in self._threads:
            self._work.put(None)
        self._linger.close()
        if self._loop is not None:
            self._loop.close()
        if is_idle:
            for thread in self._threads:
                if thread is not threading.current_thread():
                    thread.join(JOIN_S)
        return is_idle
