"""Would this code go on with an execution that other code began? It is run over the journal, and nothing happens."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import msgspec

from perdure.exceptions import InvocationError, SuspendExecution
from perdure.model.error import ErrorObject
from perdure.model.operation import Operation, OperationType, OperationUpdate
from perdure.sdk import plugins
from perdure.sdk.client import Answer, Client
from perdure.sdk.drivers.blocking import BlockingDriver, Linger
from perdure.sdk.errors import error_object
from perdure.sdk.invocation import (
    Definition,
    InvocationAnswer,
    InvocationInput,
    InvocationStatus,
    run_invocation,
    run_on_loop,
)
from perdure.sdk.journal import Journal, suspension
from perdure.sdk.misuse import Body, active
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session

if TYPE_CHECKING:
    from perdure.sdk.drivers.loop import LoopDriver

T = TypeVar("T")

Left = Callable[[Scope, OperationUpdate, Scope | None], None]
"""Told of an update that would be recorded now: the scope it is in and, if it ends a context, that of its inside."""
Runs = Callable[[str | None], bool]
"""Whether the body of a step of this name runs."""


def rehearse(definition: Definition, given: InvocationInput) -> ErrorObject | None:
    """The error that the handler would end an execution with before it gets to anything new; None if it would go on.

    The handler runs as far as its recorded operations go: no body of a step runs, nothing is recorded, no plugin is
    told. What it does between operations it does, as in every replay. A divergence from the journal is
    NonDeterministicExecutionError.
    """
    try:
        answer = run_still(definition, given)
    except InvocationError:
        return None  # another invocation may do better
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the author's code raises
        return error_object(error)
    return answer.error if answer.status is InvocationStatus.FAILED else None


def run_still(
    definition: Definition,
    given: InvocationInput,
    *,
    watch_of: Callable[[Definition, InvocationInput, object], plugins.Watch] = plugins.watch,
    context_of: Callable[[Session, Scope], Any] | None = None,
    left: Left | None = None,
    runs: Runs | None = None,
) -> InvocationAnswer:
    """Run the handler over the journal as far as that goes; it comes to nothing that is not recorded.

    `left` is told of each update that would have been recorded. `runs` says of steps, by their names, whether their
    bodies run all the same; what comes of that is known to this run alone. Raises what `run_invocation` does.
    """
    quiet = msgspec.structs.replace(definition, plugins=(), logger=_Silence())
    more: dict[str, Any] = {"watch_of": watch_of, "context_of": context_of}
    if definition.is_async:
        from perdure.sdk.loops import run_here

        loop_driver = partial(_loop_driver, left, runs)
        return run_here(lambda: run_on_loop(quiet, given, _Nothing(), driver_of=loop_driver, **more))
    return run_invocation(quiet, given, _Nothing(), driver_of=partial(_blocking_driver, left, runs), **more)


class _Still:
    """What a driver does where nothing may happen: whatever is not recorded is not come to."""

    _journal: Journal
    left: Left | None = None
    runs: Runs | None = None

    async def call(self, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        running = active.get()
        if self.runs is None or not isinstance(running, Body) or not self.runs(running.name):
            _leave()
        result = body()
        return cast(T, await result if inspect.isawaitable(result) else result)

    async def call_within(self, seconds: int, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        return await self.call(body, function)

    async def commit(self, scope: Scope, update: OperationUpdate, *, durable: bool) -> None:
        if self.runs is None or update.type is not OperationType.STEP or not self.runs(update.name):
            self._leave_before(scope, update)
        self._journal.expect(update)

    async def close(self, scope: Scope, update: OperationUpdate, inner: Scope, *, durable: bool) -> None:
        record = self._journal.records.get(update.id)
        if record is None or not record.is_terminal:  # else it was recorded after the code had come into it
            self._leave_before(scope, update, inner)
        inner.is_closed = True

    async def park(self, scope: Scope, update: OperationUpdate) -> None:
        await self.commit(scope, update, durable=True)

    def _leave_before(self, scope: Scope, update: OperationUpdate, inner: Scope | None = None) -> NoReturn:
        if self.left is not None:
            self.left(scope, update, inner)
        _leave()

    async def until(
        self, operation_id: str, is_good: Callable[[Operation], bool], what: str, due_ms: int | None
    ) -> Operation:
        record = self._journal.records.get(operation_id)
        if record is not None and is_good(record):
            return record
        raise suspension(what, None, (operation_id,))


class _StillDriver(_Still, BlockingDriver):
    """For handlers that block."""


def _blocking_driver(
    left: Left | None, runs: Runs | None, client: Client, journal: Journal, linger: Linger | None
) -> BlockingDriver:
    driver = _StillDriver(client, journal, linger)
    driver.left, driver.runs = left, runs
    return driver


def _loop_driver(left: Left | None, runs: Runs | None, client: Client, journal: Journal) -> "LoopDriver":
    from perdure.sdk.drivers.loop import LoopDriver

    class StillLoopDriver(_Still, LoopDriver):
        """For handlers on a loop."""

    driver = StillLoopDriver(client, journal)
    driver.left, driver.runs = left, runs
    return driver


def _leave() -> NoReturn:
    raise SuspendExecution("this is a rehearsal: what follows is new")


class _Nothing:
    """A service that keeps nothing."""

    @property
    def answers_waits(self) -> bool:
        return False

    def checkpoint(self, updates: Sequence[OperationUpdate]) -> Answer:
        return Answer(())


class _Silence:
    """A logger that says nothing."""

    def _say_nothing(self, *_: object, **__: object) -> None:
        pass

    debug = info = warning = error = exception = _say_nothing
