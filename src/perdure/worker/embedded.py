"""Durable functions inside an application: no server, one store file, handlers in threads of this process."""

import atexit
import contextlib
import json
import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from perdure.config import DurationLike, to_duration
from perdure.engine.terms import Limits, RetryPolicy, Terms
from perdure.exceptions import (
    ExecutionEndedError,
    ExecutionFailed,
    ExecutionStopped,
    ExecutionTimedOut,
    ValidationError,
)
from perdure.execution import default_name, definition_of
from perdure.model.error import ErrorObject
from perdure.model.execution import DurableConfig, ExecutionRow, ExecutionStatus
from perdure.model.ids import ExecutionArn, Home
from perdure.model.view import ExecutionView, OpenCallback
from perdure.sdk.invocation import to_json
from perdure.service.functions import LoadedFunctions
from perdure.service.service import Service
from perdure.service.starting import StartRequest
from perdure.service.ticker import Ticker
from perdure.store.open import DEFAULT_URL, open_store
from perdure.store.protocol import PAGE_DEFAULT, Query, Store
from perdure.worker.threads import THREADS, ThreadWorker

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType

    from perdure.model.event import HistoryEvent
    from perdure.model.operation import Operation
    from perdure.service.watching import Watcher

log: Final = logging.getLogger("perdure")

Handler = Callable[..., Any]
CLOSE_S: Final = 10.0


def open(  # noqa: A001 - `perdure.open` reads as what it is
    url: str = DEFAULT_URL,
    functions: Sequence[Handler] | Mapping[str, Handler] = (),
    *,
    threads: int = THREADS,
    limits: Limits | str | None = None,
    retries: RetryPolicy | None = None,
    execution_timeout: DurationLike | None = None,
    retention_days: int = 14,
) -> "Perdure":
    """Open a store and run its executions in this process, those that were in flight first.

    `url` is `sqlite:///FILE`, a path, or `memory://`. `functions` are the handlers, durable and plain ones: by their
    own names, or a mapping of names. At most `threads` of them run at once; what waits takes none. `limits` is "aws"
    for the published quotas. `execution_timeout` (366 days) and `retention_days` hold for executions that are started
    without their own.

    Raises StoreHeld if another process runs functions on the same file, NotAStore, StoreTooNew, StoreReadOnly.
    """
    handlers = _by_name(functions)
    if threads < 1:
        raise ValidationError(f"threads must be at least 1, not {threads}")
    timeout_s = to_duration(execution_timeout, "execution_timeout").seconds
    config = DurableConfig(timeout_s, retention_days) if timeout_s else DurableConfig(retention_days=retention_days)
    terms = Terms(limits=_limits(limits), retries=retries or RetryPolicy())
    return Perdure(open_store(url), handlers, config, terms, threads)


def _limits(limits: Limits | str | None) -> Limits:
    if limits is None or isinstance(limits, Limits):
        return limits or Limits()
    if limits == "aws":
        return Limits.aws()
    raise ValidationError(f"limits must be 'aws' or Limits(…), not {limits!r}")


def _by_name(functions: Sequence[Handler] | Mapping[str, Handler]) -> dict[str, Handler]:
    """The handlers by the names that their executions go by."""
    if isinstance(functions, Mapping):
        return dict(functions)
    if callable(functions):
        raise ValidationError("functions must be a list or a mapping of handlers: functions=[handler]")
    handlers: dict[str, Handler] = {}
    for handler in functions:
        name = name_of(handler)
        if name in handlers and handlers[name] is not handler:
            raise ValidationError(
                f"two handlers are called {name!r}; name them: functions={{'first': …, 'second': …}}, "
                "or @durable_execution(name=…)"
            )
        handlers[name] = handler
    return handlers


def name_of(handler: Handler) -> str:
    """The name that a handler's executions go by."""
    if not callable(handler):
        raise ValidationError(f"{handler!r} is no function")
    definition = definition_of(handler)
    return definition.name if definition is not None else default_name(handler)


class Perdure:
    """An open store with the functions of this process. Safe to use from any thread; to be closed."""

    def __init__(
        self,
        store: Store,
        handlers: Mapping[str, Handler],
        config: DurableConfig,
        terms: Terms,
        threads: int,
    ) -> None:
        self._names = {id(handler): name for name, handler in handlers.items()}
        self._config = config
        self._store = store
        self._worker = ThreadWorker(handlers, threads)
        configs = {name: config if definition_of(handler) is not None else None for name, handler in handlers.items()}
        try:
            self.service = Service(store, LoadedFunctions(configs, Home()), self._worker, terms=terms)
        except BaseException:
            store.close()
            raise
        self._worker.bind(self.service)
        self._is_closed = False
        self._ticker = Ticker(self.service)
        self._ticker.start()
        self._at_exit = _closer(weakref.ref(self))
        atexit.register(self._at_exit)

    # --- starting ------------------------------------------------------------------------------------------------

    def start(
        self,
        function: Handler | str,
        event: Any = None,
        *,
        name: str | None = None,
        execution_timeout: DurationLike | None = None,
        retention_days: int | None = None,
    ) -> "Execution":
        """Begin an execution and return at once. With a `name` it is begun once: the same name and event give the same
        execution again, ExecutionAlreadyStarted is raised if the event is another.
        """
        request = self._request(function, event, name, execution_timeout, retention_days)
        (started,) = self.service.start([request])
        return Execution(self, started.execution_id, is_new=started.is_new)

    def start_many(
        self, function: Handler | str, events: Iterable[Any], *, names: Iterable[str] | None = None
    ) -> "list[Execution]":
        """Begin many executions with one commit, one for each event."""
        given = list(events)
        called: list[str | None] = list(names) if names is not None else [None] * len(given)
        if len(called) != len(given):
            raise ValidationError(f"there are {len(given)} events and {len(called)} names")
        requests = [self._request(function, event, name) for event, name in zip(given, called, strict=True)]
        return [Execution(self, item.execution_id, is_new=item.is_new) for item in self.service.start(requests)]

    def run(
        self, function: Handler | str, event: Any = None, *, name: str | None = None, timeout: float | None = None
    ) -> Any:
        """Begin an execution and return its result. Raises as `Execution.result` does."""
        return self.start(function, event, name=name).result(timeout)

    def _request(
        self,
        function: Handler | str,
        event: Any,
        name: str | None,
        execution_timeout: DurationLike | None = None,
        retention_days: int | None = None,
    ) -> StartRequest:
        config = None
        if execution_timeout is not None or retention_days is not None:
            seconds = to_duration(execution_timeout, "execution_timeout").seconds
            config = DurableConfig(
                seconds if execution_timeout is not None else self._config.execution_timeout_s,
                retention_days if retention_days is not None else self._config.retention_days,
            )
        try:
            text = to_json(event)
        except (TypeError, ValueError) as error:
            raise ValidationError(f"the event can't be written as JSON: {error}") from error
        return StartRequest(function=self._function(function), input=text, name=name, config=config)

    def _function(self, function: Handler | str) -> str:
        if isinstance(function, str):
            return function
        name = self._names.get(id(function))
        if name is None:
            raise ValidationError(
                f"{name_of(function)!r} is not among the functions of this store; "
                "give it to perdure.open(…, functions=[…])"
            )
        return name

    # --- looking -------------------------------------------------------------------------------------------------

    def execution(self, execution: str) -> "Execution":
        """An execution by its id or ARN; ResourceNotFound if there is none."""
        execution_id = ExecutionArn.parse(execution).execution_id if execution.startswith("arn:") else execution
        self.service.get(execution_id)
        return Execution(self, execution_id)

    def callbacks(self) -> "list[CallbackHandle]":
        """The open callbacks of all executions, oldest execution first."""
        return [CallbackHandle(self.service, opened) for opened in self.service.open_callbacks()]

    def callback(self, callback_id: str) -> "CallbackHandle":
        """A callback by its id."""
        return CallbackHandle(self.service, callback_id=callback_id)

    # --- the end -------------------------------------------------------------------------------------------------

    def close(self, timeout: float = CLOSE_S) -> None:
        """Hand back what runs at its next checkpoint, and give the store back. What waits waits on, on disk.

        A handler that reaches no checkpoint within `timeout` seconds goes on from its last one at the next opening.
        """
        if self._is_closed:
            return
        atexit.unregister(self._at_exit)
        self.service.close()
        if not self._worker.close(timeout):
            log.warning("handlers were still running when the store was closed; they will go on from their last step")
        self._is_closed = True
        self._ticker.stop(timeout)
        self._store.close()

    def __enter__(self) -> "Perdure":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self.close()

    def list(
        self,
        function: Handler | str | None = None,
        *,
        status: ExecutionStatus | str | Sequence[ExecutionStatus | str] = (),
        name: str | None = None,
        started_after: "datetime | None" = None,
        started_before: "datetime | None" = None,
        oldest_first: bool = False,
        limit: int | None = None,
    ) -> Iterator[ExecutionRow]:
        """The executions that fulfil all conditions, newest first; read page by page while one iterates."""
        words = (status,) if isinstance(status, str) else tuple(status)
        query = Query(
            now_ms=self.service.clock.now_ms(),
            function=None if function is None else self._function(function),
            name=name,
            statuses=tuple(_status(word) for word in words),
            started_from_ms=int(started_after.timestamp() * 1000) if started_after is not None else None,
            started_until_ms=int(started_before.timestamp() * 1000) if started_before is not None else None,
            is_oldest_first=oldest_first,
            limit=PAGE_DEFAULT if limit is None else max(1, min(limit, PAGE_DEFAULT)),
        )
        return islice(self.service.all_rows(query), limit)


def _closer(perdure: "weakref.ref[Perdure]") -> Callable[[], None]:
    """What closes a store that was left open when the process ends, unless it is gone."""

    def close() -> None:
        left = perdure()
        if left is not None:
            with contextlib.suppress(Exception):
                left.close()

    return close


def _status(word: ExecutionStatus | str) -> ExecutionStatus:
    try:
        return ExecutionStatus(word)
    except ValueError:
        raise ValidationError(f"status must be one of {', '.join(ExecutionStatus)}, not {word!r}") from None


_ENDED: Final[dict[ExecutionStatus, type[ExecutionEndedError]]] = {
    ExecutionStatus.FAILED: ExecutionFailed,
    ExecutionStatus.TIMED_OUT: ExecutionTimedOut,
    ExecutionStatus.STOPPED: ExecutionStopped,
}


class Execution:
    """One execution. `is_new` says whether the call that returned it began it."""

    def __init__(self, perdure: Perdure, execution_id: str, *, is_new: bool = False) -> None:
        self._service = perdure.service
        self._perdure = perdure
        self.id = execution_id
        self.is_new = is_new

    def describe(self) -> ExecutionView:
        """What is known of it now."""
        return self._service.get(self.id)

    @property
    def arn(self) -> str:
        return self.describe().arn

    @property
    def name(self) -> str:
        return self.describe().name

    @property
    def status(self) -> ExecutionStatus:
        return self.describe().status

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; False if it has not within `timeout` seconds."""
        return self._service.wait(self.id, timeout)

    def result(self, timeout: float | None = None) -> Any:
        """What the handler returned, once it has.

        Raises ExecutionFailed, ExecutionTimedOut or ExecutionStopped if there is no result, TimeoutError if it has not
        ended within `timeout` seconds.
        """
        if not self.wait(timeout):
            view = self.describe()
            waiting = f", waiting for {' and '.join(view.waiting_on)}" if view.waiting_on else ""
            raise TimeoutError(
                f"execution {view.name!r} has not ended within {timeout} s: it is {view.status}{waiting}"
            )
        view = self.describe()
        if view.status is ExecutionStatus.SUCCEEDED:
            return json.loads(view.result) if view.result else None
        error = view.error or ErrorObject()
        kind = _ENDED.get(view.status, ExecutionEndedError)
        raise kind(
            error.message, error.type or "Error", error.data, error.stack_trace, arn=view.arn, status=view.status
        )

    def history(self, *, reverse: bool = False) -> "Iterator[HistoryEvent]":
        """Every event of it, oldest first unless `reverse`; read page by page while one iterates."""
        return self._service.all_events(self.id, is_reversed=reverse)

    def operations(self) -> "list[Operation]":
        """Its operations, in the order in which they started."""
        return self._service.operations(self.id)

    def callbacks(self) -> "list[CallbackHandle]":
        """Its open callbacks."""
        return [CallbackHandle(self._service, opened) for opened in self._service.open_callbacks(self.id)]

    def watch(self, watcher: "Watcher", *, from_start: bool = False) -> None:
        """Call `watcher(state, events)` with what happens, once it is on disk; it must be quick.

        With `from_start` it is shown at once what has happened so far.
        """
        self._service.watch(self.id, watcher, is_from_start=from_start)

    def stop(self, message: str | None = None, error_type: str | None = None) -> None:
        """End it now: STOPPED. What runs of it can't record anything any more."""
        self._service.stop(self.id, ErrorObject(message, error_type) if message or error_type else None)

    def pause(self, reason: str | None = None, *, stop_clock: bool = True) -> None:
        """Hold it: timers and callbacks are recorded, nothing is run. `stop_clock` stops its execution time-out."""
        self._service.pause(self.id, reason, is_timeout_paused=stop_clock)

    def resume(self, reason: str | None = None) -> None:
        """Let it go on."""
        self._service.resume(self.id, reason)

    def delete(self) -> None:
        """Remove it with its history; it must have ended."""
        self._service.delete(self.id)

    def __repr__(self) -> str:
        return f"Execution({self.id!r})"


class CallbackHandle:
    """A callback that can be completed. The facts are None if it was asked for by its id alone."""

    def __init__(self, service: Service, opened: OpenCallback | None = None, callback_id: str | None = None) -> None:
        self._service = service
        self.opened = opened
        self.id: str = opened.callback_id if opened is not None else callback_id or ""

    @property
    def name(self) -> str | None:
        return self.opened.name if self.opened is not None else None

    def succeed(self, result: Any = None) -> None:
        """Complete it. A text goes as it is, anything else as JSON; None leaves the result absent."""
        text = result if result is None or isinstance(result, (str, bytes)) else to_json(result)
        self._service.succeed_callback(self.id, text)

    def fail(self, message: str | None = None, error_type: str | None = None, data: str | None = None) -> None:
        """Complete it with a failure."""
        self._service.fail_callback(self.id, ErrorObject(message, error_type, data))

    def heartbeat(self) -> None:
        """Say that work on it goes on."""
        self._service.heartbeat_callback(self.id)

    def __repr__(self) -> str:
        return f"CallbackHandle({self.name or self.id!r})"
