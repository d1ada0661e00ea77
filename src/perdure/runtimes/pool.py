"""The dispatcher of managed functions: places, and invocations that lead to processes and back to the service.

Sandboxes live on a loop in a thread of the pool's own. What is asked of the service happens in a few other threads,
because its answers wait for the disk.
"""

import asyncio
import contextlib
import logging
import os
import tempfile
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec

from perdure.engine import commands as cmd
from perdure.model.error import ErrorObject, InvalidParameterValue, ServiceError, TooManyRequests
from perdure.model.function import FunctionVersion, target_of
from perdure.model.ids import Home
from perdure.runtimes import packages
from perdure.runtimes.event import error_body, event_of, outcome_of
from perdure.runtimes.fleet import Fleets, Tell, Work, stopped
from perdure.runtimes.interpreters import Interpreters, Launch
from perdure.runtimes.logs import FunctionLogs
from perdure.runtimes.processes import Guard
from perdure.runtimes.runtime_api import Task
from perdure.runtimes.sandbox import INIT_S, Ending, Ground
from perdure.service.invocation import Call, Invocation
from perdure.service.service import Service

log: Final = logging.getLogger("perdure.runtimes")

IDLE_S: Final = 300.0
LIFE_S: Final = 4 * 3600.0
"""Credentials are good for six hours at least, and an invocation takes an hour and a half at most."""
HANDS: Final = 16
"""Threads that record the ends of invocations; each waits for the disk, which takes many of them at once."""

SANDBOX_CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": "perdure",
    "AWS_SECRET_ACCESS_KEY": "perdure",
    "AWS_SESSION_TOKEN": "perdure",
}
"""For services that take anybody: clients don't send what they can't sign."""


def default_places() -> int:
    """Four for each core, and at least 16: most invocations wait for something."""
    return max(16, 4 * (os.cpu_count() or 1))


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool may use. `interpreters` are paths by the names of runtimes: `{"python3.12": "/opt/py/bin/python"}`.

    `places` bounds the invocations at once and the processes, idle ones included. A process that has not been used for
    `idle_s` is ended; so is one that is older than `life_s` when its task ends, because its credentials run out one
    day. `cache` is where packages are unpacked.
    """

    places: int = msgspec.field(default_factory=default_places)
    idle_s: float = IDLE_S
    life_s: float = LIFE_S
    init_s: float = INIT_S
    is_memory_limited: bool = True
    interpreters: dict[str, str] = {}
    cache: Path | None = None


class InvokeOutcome(msgspec.Struct, frozen=True):
    """What the caller of a function gets. `function_error` is "Unhandled" if it failed; `body` says how then.

    `log_tail` is the last 4 KiB of what the invocation has written to its log.
    """

    body: bytes
    function_error: str | None = None
    log_tail: bytes = b""


class ManagedPool:
    """Runs the functions that the service manages. Safe to use from any thread; to be closed.

    `version_of` gives the version that a target `name:version` is now, or raises ResourceNotFound. `code_of` gives the
    zip file of a version. `concurrency_of` gives the concurrency reserved for a function, None for none.
    `credentials_of` gives the environment variables that hold the credentials of a version's role. `endpoint` is the
    URL of the service, or what gives it once it is known. `freed` is called when a place has become free otherwise than
    by the end of an invocation of the service's: there may be executions that wait for one. `settle` hears of a version
    that can't be loaded, and of one that can be after all.
    """

    def __init__(
        self,
        version_of: Callable[[str], FunctionVersion],
        code_of: Callable[[FunctionVersion], bytes],
        logs: FunctionLogs,
        *,
        home: Home | None = None,
        endpoint: str | Callable[[], str | None] | None = None,
        concurrency_of: Callable[[str], int | None] = lambda _function: None,
        credentials_of: Callable[[FunctionVersion], Mapping[str, str]] = lambda _version: SANDBOX_CREDENTIALS,
        freed: Callable[[], None] = lambda: None,
        settle: Tell = lambda _version, _error: None,
        settings: Settings | None = None,
    ) -> None:
        self.logs = logs
        self._version_of = version_of
        self._code_of = code_of
        self._home = home or Home()
        self._concurrency_of = concurrency_of
        self._freed = freed
        self._settle = settle
        self._settings = settings or Settings()
        self._service: Service | None = None
        self._lock = threading.Lock()
        self._taken = 0
        self._taken_of: dict[str, int] = {}
        self._calls: deque[Call] = deque()
        self._is_closing = False
        self._interpreters = Interpreters(self._settings.interpreters)
        self._folders: dict[str, Future[Path]] = {}
        self._temp = Path(tempfile.mkdtemp(prefix="perdure-"))
        self._guard = Guard(self._temp)
        self._hands = ThreadPoolExecutor(HANDS, "perdure-ends")
        self._files = ThreadPoolExecutor(4, "perdure-files")
        ground = Ground(
            temp=self._temp,
            logs=logs,
            guard=self._guard,
            files=self._files,
            home=self._home,
            credentials_of=credentials_of,
            endpoint=endpoint if callable(endpoint) else lambda: endpoint,
            init_s=self._settings.init_s,
            is_memory_limited=self._settings.is_memory_limited,
        )
        self._loop = _new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="perdure-sandboxes", daemon=True)
        self._thread.start()
        self._fleets: Fleets = asyncio.run_coroutine_threadsafe(self._make_fleets(ground), self._loop).result()

    async def _make_fleets(self, ground: Ground) -> Fleets:
        settings = self._settings
        return Fleets(
            ground,
            self._prepare,
            self._settled,
            processes_max=settings.places,
            idle_s=settings.idle_s,
            life_s=settings.life_s,
        )

    def _settled(self, version: FunctionVersion, error: ErrorObject | None) -> None:
        with contextlib.suppress(RuntimeError):  # it is closing
            self._hands.submit(self._settle, version, error)

    def bind(self, service: Service) -> None:
        """Give the pool the service whose invocations it runs."""
        self._service = service

    # --- places --------------------------------------------------------------------------------------------------

    def reserve(self, target: str) -> bool:
        """Take a place for an invocation of `target`; False if there is none, or if the function is unknown."""
        function = target.partition(":")[0]
        try:
            self._version_of(target)
        except ServiceError:
            return False
        return self._take(function)

    def _take(self, function: str) -> bool:
        limit = self._concurrency_of(function)
        with self._lock:
            return self._take_locked(function, limit)

    def _take_locked(self, function: str, limit: int | None) -> bool:
        taken = self._taken_of.get(function, 0)
        if self._is_closing or self._taken >= self._settings.places or (limit is not None and taken >= limit):
            return False
        self._taken += 1
        self._taken_of[function] = taken + 1
        return True

    def release(self, target: str) -> None:
        """Give back a place. Calls that wait for one come before executions."""
        function = target.partition(":")[0]
        with self._lock:
            self._taken -= 1
            left = self._taken_of[function] - 1
            if left:
                self._taken_of[function] = left
            else:
                del self._taken_of[function]
        self._start_calls()

    @property
    def has_backlog(self) -> bool:
        """Whether calls wait for a place."""
        return bool(self._calls)

    # --- durable functions ---------------------------------------------------------------------------------------

    def run(self, invocation: Invocation) -> None:
        """Run an invocation in the place that was reserved; its end is recorded when it has come."""
        service = self._service
        assert service is not None, "bind the pool to its service first"
        try:
            version = self._version_of(target_of(invocation.function, invocation.version))
        except ServiceError as error:
            self._by_hand(self._end, invocation, cmd.Failed(ErrorObject(error.message, error.code)))
            return
        task = Task(
            request_id=invocation.request_id,
            event=event_of(invocation, service.store.secret),
            arn=self._home.function_arn(invocation.function, invocation.version),
            trace=invocation.trace_header,
            tenant_id=invocation.tenant_id,
        )
        self._submit(version, Work(task, lambda ending: self._by_hand(self._end, invocation, _outcome_of(ending))))

    def _end(self, invocation: Invocation, outcome: cmd.Outcome) -> None:
        """Tell the service. What it refuses can't be stored, and fails the execution instead."""
        service = self._service
        assert service is not None
        try:
            service.end_invocation(invocation, invocation.token, outcome)
        except InvalidParameterValue as error:
            failed = cmd.Failed(ErrorObject(error.message, error.code))
            service.end_invocation(invocation, invocation.token, failed)

    # --- plain functions -----------------------------------------------------------------------------------------

    def invoke(
        self,
        version: FunctionVersion,
        payload: bytes,
        *,
        request_id: str | None = None,
        invoked_arn: str | None = None,
        client_context: str | None = None,
        cognito_identity: str | None = None,
        tenant_id: str | None = None,
        trace: str | None = None,
    ) -> "Future[InvokeOutcome]":
        """Run a plain function once, now. An empty `payload` is `{}`, as in AWS Lambda.

        Raises TooManyRequests if there is no place for it.
        """
        if not self._take(version.function):
            raise TooManyRequests(
                "Rate Exceeded.", hint=f"all places for invocations of {version.function!r} are taken: try again later"
            )
        outcome: Future[InvokeOutcome] = Future()
        outcome.set_running_or_notify_cancel()  # who stops waiting does not stop the function

        def end(ending: Ending) -> None:
            self.release(version.target)
            error = ending.error
            body = ending.body
            if ending.is_broken and error is not None:
                body = error_body(error)
            outcome.set_result(InvokeOutcome(body, "Unhandled" if error is not None else None, ending.tail))
            self._freed()

        task = Task(
            request_id=request_id or str(uuid.uuid4()),
            event=payload or b"{}",
            arn=invoked_arn or self._home.function_arn(version.function, version.version),
            trace=trace,
            client_context=client_context,
            cognito_identity=cognito_identity,
            tenant_id=tenant_id,
        )
        self._submit(version, Work(task, lambda ending: self._by_hand(end, ending)))
        return outcome

    def call(self, call: Call) -> None:
        """Call a plain function for a chained invoke, as soon as there is a place."""
        with self._lock:
            self._calls.append(call)
        self._start_calls()

    def _start_calls(self) -> None:
        """Give free places to the calls that wait, in their order; one that can't be had now lets others pass."""
        if not self._calls:
            return
        startable: list[Call] = []
        with self._lock:
            for _ in range(len(self._calls)):
                call = self._calls.popleft()
                if self._is_closing or self._take_locked(call.function, self._concurrency_of(call.function)):
                    startable.append(call)
                else:
                    self._calls.append(call)
        for call in startable:
            self._start_call(call)

    def _start_call(self, call: Call) -> None:
        def end(ending: Ending) -> None:
            self.release(target_of(call.function, call.version))
            if ending.error is None:
                call.answer(ending.body.decode("utf-8", "replace"), None)
            else:
                call.answer(None, ending.error)
            self._freed()

        try:
            version = self._version_of(target_of(call.function, call.version))
        except ServiceError as error:
            gone = Ending(b"", ErrorObject(error.message, error.code), is_broken=True)
            self._by_hand(end, gone)
            return
        task = Task(
            request_id=str(uuid.uuid4()),
            event=(call.input or "null").encode(),
            arn=self._home.function_arn(call.function, call.version),
        )
        self._submit(version, Work(task, lambda ending: self._by_hand(end, ending)))

    # --- the loop ------------------------------------------------------------------------------------------------

    def _submit(self, version: FunctionVersion, work: Work) -> None:
        try:
            self._loop.call_soon_threadsafe(self._fleets.submit, version, work)
        except RuntimeError:  # the loop is closed
            work.end(stopped())

    def _by_hand(self, act: Callable[..., None], *given: Any) -> None:
        """Have something done that may wait for the disk: in another thread, as long as there are any."""
        try:
            self._hands.submit(self._carefully, act, *given)
        except RuntimeError:  # the pool is closed
            self._carefully(act, *given)

    def _carefully(self, act: Callable[..., None], *given: Any) -> None:
        try:
            act(*given)
        except Exception:
            log.exception("the end of an invocation was refused")

    def retire(self, target: str) -> None:
        """A target's code or configuration has changed, or it is gone: processes that run the old one take no more."""
        self._loop.call_soon_threadsafe(self._fleets.retire, target)

    async def _prepare(self, version: FunctionVersion) -> tuple[Launch, Path]:
        return await self._loop.run_in_executor(self._files, self._prepare_now, version)

    def _prepare_now(self, version: FunctionVersion) -> tuple[Launch, Path]:
        """Have the package unpacked, once for all that ask at the same time, and find what runs it."""
        root = self._folder_of(version)
        return self._interpreters.launch(version.runtime, root), root

    def _folder_of(self, version: FunctionVersion) -> Path:
        key = version.code_sha256
        with self._lock:
            found = self._folders.get(key)
            mine: Future[Path] | None = None
            if found is None or (found.done() and not found.result().is_dir()):
                found = mine = self._folders[key] = Future()
        if mine is not None:
            try:
                mine.set_result(packages.unpack(self._code_of(version), key, self._settings.cache))
            except BaseException as error:  # noqa: BLE001 - all who wait for it are told
                with self._lock:
                    del self._folders[key]
                mine.set_exception(error)
        return found.result()

    def close(self, timeout_s: float = 10.0) -> bool:
        """Start nothing more; what runs has `timeout_s` to end, and is recorded as lost if it has not.

        False if something had to be killed.
        """
        with self._lock:
            if self._is_closing:
                return True
            self._is_closing = True
        self._start_calls()
        was_quiet = asyncio.run_coroutine_threadsafe(self._fleets.close(timeout_s), self._loop).result()
        self._hands.shutdown()
        self._files.shutdown()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._guard.close()
        packages.remove(self._temp)
        return was_quiet


def _new_loop() -> asyncio.AbstractEventLoop:
    """A fast loop where there is one."""
    try:
        import uvloop
    except ImportError:  # not for every system
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _outcome_of(ending: Ending) -> cmd.Outcome:
    """What the end of a durable function's invocation means: an answer, or that it has to be tried again."""
    if ending.error is not None:
        return cmd.Crashed(ending.error, is_lost=ending.is_lost)
    return outcome_of(ending.body)
