"""Calls of functions that are not durable: answered at once, or accepted and made later.

What is accepted is on disk first, as a record; it goes when the call has succeeded, or has failed for good. A call is
made at least once.

Source of the numbers: Lambda Developer Guide, asynchronous invocation.
"""

import base64
import heapq
import logging
import threading
import uuid
from concurrent.futures import Future
from typing import Final

import msgspec

from perdure.api.backing import Called, PlainCall
from perdure.model.error import ErrorObject, ResourceNotFound, ServiceError, StoreError
from perdure.model.function import Host
from perdure.model.ids import LATEST
from perdure.runtimes.pool import InvokeOutcome, ManagedPool
from perdure.server.pools import Pools
from perdure.service.clock import Clock
from perdure.service.invocation import Call
from perdure.service.registry import Registry
from perdure.store.protocol import Change, Store

log: Final = logging.getLogger("perdure.server")

EVENT: Final = "event"
RETRIES: Final = 2
RETRY_DELAYS_MS: Final = (60_000, 120_000)
AGE_MS_MAX: Final = 6 * 3_600_000
BUSY_MS: Final = 1_000
SCAN: Final = 1_000


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A call that was accepted. It is made of the version as that is then: `$LATEST` may have other code by now."""

    function: str
    version: str
    request_id: str
    payload: bytes
    accepted_ms: int
    qualifier: str | None = None
    tenant_id: str | None = None
    trace_header: str | None = None
    failures: int = 0


class Calls:
    """Calls by way of the pools."""

    def __init__(self, store: Store, registry: Registry, pools: Pools, managed: ManagedPool, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._pools = pools
        self._managed = managed
        self._clock = clock
        self._lock = threading.Condition()
        self._due: list[tuple[int, str]] = []
        self._delivering = 0
        self._is_stopped = False
        self._thread = threading.Thread(target=self._deliver, name="perdure-events", daemon=True)

    def start(self) -> None:
        """Take up what was accepted before."""
        after: str | None = None
        while records := self._store.records(EVENT, after=after, limit=SCAN):
            after = records[-1].key
            for record in records:
                heapq.heappush(self._due, (int(record.key.partition("-")[0]), record.key))
        self._thread.start()

    def look(self) -> None:
        """Read the clock again, now."""
        with self._lock:
            self._lock.notify_all()

    def next_due_ms(self) -> int | None:
        """When the next call that was accepted is made; now, if one is under way. None if there is none."""
        with self._lock:
            if self._delivering:
                return self._clock.now_ms()
            return self._due[0][0] if self._due else None

    def stop(self) -> None:
        with self._lock:
            self._is_stopped = True
            self._lock.notify_all()
        if self._thread.is_alive():
            self._thread.join(5)

    # --- at once -------------------------------------------------------------------------------------------------

    def call(self, call: PlainCall) -> "Future[Called]":
        """Make a call now."""
        version = call.version
        answered: Future[Called] = Future()
        if version.host is Host.MANAGED:
            self._managed.invoke(
                version,
                call.payload,
                request_id=call.request_id,
                client_context=_decoded(call.client_context),
                tenant_id=call.tenant_id,
                trace=call.trace_header,
            ).add_done_callback(lambda outcome: _pass_on(outcome, answered))
            return answered

        def answer(result: str | None, error: ErrorObject | None) -> None:
            if error is None:
                answered.set_result(Called((result if result is not None else "null").encode()))
            else:
                answered.set_result(Called(msgspec.json.encode(document_of(error)), is_error=True))

        text = call.payload.decode() if call.payload else None
        self._pools.call(Call(version.function, version.version, text, answer))
        return answered

    # --- later ---------------------------------------------------------------------------------------------------

    def accept(self, call: PlainCall) -> None:
        """Keep a call on disk and make it soon."""
        now_ms = self._clock.now_ms()
        event = Event(
            function=call.version.function,
            version=call.version.version,
            request_id=call.request_id,
            payload=call.payload,
            accepted_ms=now_ms,
            qualifier=call.qualifier,
            tenant_id=call.tenant_id,
            trace_header=call.trace_header,
        )
        self._keep(event, now_ms, None)

    def _keep(self, event: Event, due_ms: int, instead_of: str | None) -> None:
        key = f"{due_ms:013d}-{uuid.uuid4().hex}"
        changes = [Change(EVENT, key, msgspec.msgpack.encode(event), 0)]
        if instead_of is not None:
            changes.append(Change(EVENT, instead_of, None))
        self._store.change(changes)
        with self._lock:
            heapq.heappush(self._due, (due_ms, key))
            self._lock.notify_all()

    def _deliver(self) -> None:
        while True:
            with self._lock:
                while not self._is_stopped and (not self._due or self._due[0][0] > self._clock.now_ms()):
                    wait_ms = self._due[0][0] - self._clock.now_ms() if self._due else None
                    self._lock.wait(wait_ms / 1000 if wait_ms is not None else None)
                if self._is_stopped:
                    return
                _due_ms, key = heapq.heappop(self._due)
                self._delivering += 1
            called: Future[Called] | None = None
            try:
                called = self._deliver_one(key)
            except ServiceError as error:
                log.warning("an event could not be delivered now", extra={"event": key, "error": str(error)})
                self._again(key)
            if called is None:
                self._delivered_one()
            else:
                called.add_done_callback(lambda _called: self._delivered_one())

    def _delivered_one(self) -> None:
        with self._lock:
            self._delivering -= 1

    def _deliver_one(self, key: str) -> "Future[Called] | None":
        """Make a call that was accepted; None if there is none to make any more."""
        record = self._store.record(EVENT, key)
        if record is None:
            return None
        event = msgspec.msgpack.decode(record.data, type=Event)
        try:
            version = self._registry.get(event.function, event.version)
        except ResourceNotFound as error:
            log.warning("an event was given up", extra={"function": event.function, "error": str(error)})
            self._store.change([Change(EVENT, key, None)])
            return None
        call = PlainCall(
            version=version,
            request_id=event.request_id,
            payload=event.payload,
            qualifier=event.qualifier,
            tenant_id=event.tenant_id,
            trace_header=event.trace_header,
        )
        called = self.call(call)
        called.add_done_callback(lambda called: self._answered(key, event, called))
        return called

    def _answered(self, key: str, event: Event, called: "Future[Called]") -> None:
        error = called.exception()
        if error is None:
            self._delivered(key, event, called.result())
            return
        log.warning("an event could not be delivered now", extra={"event": key, "error": str(error)})
        self._again(key)

    def _again(self, key: str) -> None:
        """Deliver an event anew in a while; what is on disk of it stays."""
        with self._lock:
            heapq.heappush(self._due, (self._clock.now_ms() + BUSY_MS, key))
            self._lock.notify_all()

    def _terms_of(self, event: Event) -> tuple[int, int]:
        """How often a call is made again, and for how long, as the function's settings have it."""
        try:
            settings = self._registry.function(event.function).event_invokes.get(event.qualifier or LATEST)
        except ResourceNotFound:
            settings = None
        if settings is None:
            return RETRIES, AGE_MS_MAX
        retries_max = settings.retries_max if settings.retries_max is not None else RETRIES
        age_ms_max = settings.age_max_s * 1000 if settings.age_max_s is not None else AGE_MS_MAX
        return retries_max, age_ms_max

    def _delivered(self, key: str, event: Event, called: Called) -> None:
        """The call has ended: it is done with, or made again later."""
        now_ms = self._clock.now_ms()
        try:
            retries_max, age_ms_max = self._terms_of(event)
            if called.is_error and event.failures < retries_max and now_ms - event.accepted_ms < age_ms_max:
                again = msgspec.structs.replace(event, failures=event.failures + 1)
                self._keep(again, now_ms + RETRY_DELAYS_MS[event.failures], key)
                return
            if called.is_error:
                log.error("an event was given up", extra={"function": event.function, "request": event.request_id})
            self._store.change([Change(EVENT, key, None)])
        except StoreError as error:
            log.warning("the end of an event can't be kept; it is delivered again", extra={"error": str(error)})
            self._again(key)


def _decoded(client_context: str | None) -> str | None:
    """The JSON text of a client context."""
    return base64.b64decode(client_context).decode() if client_context is not None else None


def _pass_on(outcome: "Future[InvokeOutcome]", answered: "Future[Called]") -> None:
    error = outcome.exception()
    if error is not None:
        answered.set_exception(error)
        return
    found = outcome.result()
    answered.set_result(Called(found.body, found.function_error is not None, found.log_tail))


def document_of(error: ErrorObject) -> dict[str, object]:
    """The document that an invoker is given of a function's error."""
    document: dict[str, object] = {"errorMessage": error.message or "", "errorType": error.type or "Error"}
    if error.stack_trace is not None:
        document["stackTrace"] = list(error.stack_trace)
    return document
