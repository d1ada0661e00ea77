"""One invocation from the handler's side: give it its input, run it over the journal, and say how it ended."""

import json
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import msgspec

from perdure.exceptions import (
    BackgroundThreadError,
    ExecutionError,
    InvocationError,
    OrphanedChildException,
    SuspendExecution,
)
from perdure.logger import Logger
from perdure.model.error import ErrorObject
from perdure.model.operation import Operation, OperationUpdate
from perdure.model.word import Word
from perdure.sdk import plugins, strictness
from perdure.sdk.annotated import input_type_of
from perdure.sdk.client import Client
from perdure.sdk.drivers.blocking import BlockingDriver
from perdure.sdk.drivers.linger import Linger
from perdure.sdk.drivers.protocol import Driver
from perdure.sdk.errors import error_object
from perdure.sdk.journal import Journal
from perdure.sdk.leaving import check_nothing_unused
from perdure.sdk.misuse import Guard, active
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session
from perdure.sdk.strictness import Strict
from perdure.serdes import SerDes, SerDesContext

if TYPE_CHECKING:
    from perdure.async_context import AsyncDurableContext
    from perdure.config import RetryStrategy
    from perdure.context import DurableContext
    from perdure.plugin import DurableInstrumentationPluginFactory
    from perdure.sdk.drivers.loop import LoopDriver
    from perdure.sdk.strict import Ground
    from perdure.types import LoggerInterface

log: Final = logging.getLogger("perdure")

DriverOf = Callable[[Client, Journal, Linger | None], BlockingDriver]
"""Makes the driver of one invocation of a handler that blocks."""

LoopDriverOf: TypeAlias = "Callable[[Client, Journal], LoopDriver]"
"""The same for one that is `async def`."""


class Definition(msgspec.Struct, frozen=True):
    """A durable function: the author's handler and how it wants to be run."""

    handler: Callable[..., Any]
    name: str
    is_async: bool = False
    guard: Guard = Guard.ERROR
    serdes: SerDes[Any] | None = None
    input_serdes: SerDes[Any] | None = None
    output_serdes: SerDes[Any] | None = None
    retry_strategy: "RetryStrategy | None" = None
    logger: "LoggerInterface | None" = None
    plugins: "Sequence[DurableInstrumentationPluginFactory]" = ()
    strict: Strict | None = None
    """None: as strict as the process is."""


class InvocationInput(msgspec.Struct, frozen=True):
    """What an invocation begins with. `operations` are the records, without the EXECUTION operation."""

    arn: str
    execution_id: str
    execution_name: str
    input: str | None
    operations: Sequence[Operation]
    updated_ids: Sequence[str] = ()
    start_ms: int = 0


class InvocationStatus(Word):
    """How an invocation ended. RETRY, that it raised, is what those are told who watch it; no answer has it."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    PENDING = "PENDING"
    RETRY = "RETRY"


class InvocationAnswer(msgspec.Struct, frozen=True):
    """How an invocation ended. `updates` have not been sent: they belong to the answer.

    `is_interrupted` says that the handler could have gone on, but the right to write was withdrawn.
    """

    status: InvocationStatus
    result: str | None = None
    error: ErrorObject | None = None
    updates: Sequence[OperationUpdate] = ()
    is_interrupted: bool = False


def run_invocation(
    definition: Definition,
    given: InvocationInput,
    client: Client,
    *,
    linger: Linger | None = None,
    lambda_context: Any = None,
    driver_of: DriverOf = BlockingDriver,
    watch_of: Callable[[Definition, InvocationInput, object], plugins.Watch] = plugins.watch,
    context_of: "Callable[[Session, Scope], DurableContext] | None" = None,
) -> InvocationAnswer:
    """Run the handler until it ends or can't go on; one that is `async def` on a loop of this thread.

    `driver_of` makes the driver of a handler that is not, `context_of` the context that it gets, `watch_of` whoever
    watches it, and gives it its journal.

    Raises what the platform has to see as a failed invocation: a retryable InvocationError, a service that can't be
    reached, SystemExit and KeyboardInterrupt.
    """
    from perdure.context import DurableContext

    if definition.is_async:
        from perdure.sdk.loops import run_here

        return run_here(lambda: run_on_loop(definition, given, client, lambda_context=lambda_context))
    with watch_of(definition, given, lambda_context) as watch:
        journal = watch.journal()
        driver = driver_of(client, journal, linger)
        handler, session_driver, made_by = definition.handler, watch.around(driver), context_of or DurableContext
        if (ground := ground_of(definition)) is not None:
            handler, session_driver = ground.handler, ground.driver(session_driver)
            made_by = context_of or ground.context_of
        run = Run(definition, given, journal, session_driver, lambda_context)
        run.session.observer = watch.observer
        token = active.set(run.scope)
        try:
            answer = run.ended(handler(run.event(), made_by(run.session, run.scope)))
        except BaseException as error:  # noqa: BLE001 - whatever the handler raises ends the execution or the invocation
            answer = run.answer_for(error)
        finally:
            active.reset(token)
            run.scope.is_closed = run.scope.suspended is None
            driver.leave(run.scope)
            rest = driver.finish()
        return watch.ended(run.settled(answer, driver, rest))


async def run_on_loop(
    definition: Definition,
    given: InvocationInput,
    client: Client,
    *,
    lambda_context: Any = None,
    driver_of: "LoopDriverOf | None" = None,
    watch_of: Callable[[Definition, InvocationInput, object], plugins.Watch] = plugins.watch,
    context_of: "Callable[[Session, Scope], AsyncDurableContext] | None" = None,
) -> InvocationAnswer:
    """The same for a handler that is `async def`, on the loop that is running: one that `loops` has prepared."""
    import asyncio

    from perdure.async_context import AsyncDurableContext
    from perdure.sdk.drivers.loop import LoopDriver
    from perdure.sdk.loops import current_driver

    with watch_of(definition, given, lambda_context) as watch:
        journal = watch.journal()
        driver = (driver_of or LoopDriver)(client, journal)
        handler = definition.handler if (ground := ground_of(definition)) is None else ground.handler
        run = Run(definition, given, journal, watch.around(driver), lambda_context)
        run.session.observer = watch.observer

        async def handle() -> InvocationAnswer:
            run.scope.owner = driver.owner()
            active.set(run.scope)
            current_driver.set(driver)
            context = (context_of or AsyncDurableContext)(run.session, run.scope)
            try:
                return run.ended(await handler(run.event(), context))
            except BaseException as error:  # noqa: BLE001 - whatever it raises ends the execution or the invocation
                return run.answer_for(error)

        main = driver.main = driver.spawn(handle())
        try:
            await asyncio.wait({main})
        finally:
            if not main.done():
                main.cancel()
            run.scope.suspended = driver.suspended
            run.scope.is_closed = driver.suspended is None
            rest = await driver.finish()
        if main.cancelled():
            answer = _answer_for(ExecutionError("the handler's task was cancelled, and not by the service"))
        else:
            answer = main.result()
        return watch.ended(run.settled(answer, driver, rest))


def ground_of(definition: Definition) -> "Ground | None":
    """What guards the handler against what a replay would not repeat, if that was asked for."""
    mode = definition.strict or strictness.mode
    if mode is Strict.OFF:
        return None
    from perdure.sdk.strict import Ground

    return Ground(definition, mode)


class Ending(Protocol):
    """What a driver knows about how an invocation ends."""

    @property
    def failure(self) -> BackgroundThreadError | None: ...

    @property
    def is_revoked(self) -> bool: ...


class Run:
    """One run of a handler: what it is given, and what its end means. For both drivers."""

    def __init__(
        self, definition: Definition, given: InvocationInput, journal: Journal, driver: Driver, lambda_context: Any
    ) -> None:
        self._definition = definition
        self._given = given
        self._value = read_input(definition, given)
        self._journal = journal
        self.session = Session(
            arn=given.arn,
            execution_id=given.execution_id,
            journal=journal,
            driver=driver,
            logger=Logger(definition.logger, {"executionArn": given.arn}),
            guard=definition.guard,
            default_retry=definition.retry_strategy,
            default_serdes=definition.serdes,
            lambda_context=lambda_context,
            start_ms=given.start_ms,
        )
        self.scope = Scope(is_replaying=bool(given.operations))
        self.scope.owner = driver.owner()

    def event(self) -> Any:
        """What the handler gets: the input's value, as its first parameter is annotated; ExecutionError if it can't."""
        if self._definition.input_serdes is not None:
            return self._value
        wanted = input_type_of(self._definition.handler)
        if wanted is None:
            return self._value
        from perdure.sdk.plain import read_input_as

        return read_input_as(wanted, self._value)

    def ended(self, result: Any) -> InvocationAnswer:
        """The answer to what the handler returned."""
        if self.scope.unused and self.scope.suspended is None:
            check_nothing_unused(self.session, self.scope)
        serdes = self._definition.output_serdes
        text = to_json(result) if serdes is None else serdes.serialize(result, SerDesContext("", self._given.arn))
        return InvocationAnswer(InvocationStatus.SUCCEEDED, text)

    def answer_for(self, error: BaseException) -> InvocationAnswer:
        """The answer to what the handler raised; what is not for this execution to bear is raised again."""
        if is_suspension(error):
            return _PENDING
        if isinstance(error, (Exception, OrphanedChildException, BackgroundThreadError)):
            return _answer_for(error)
        raise error

    def settled(self, answer: InvocationAnswer, driver: Ending, rest: Sequence[OperationUpdate]) -> InvocationAnswer:
        """What the answer is in the end: what the handler swallowed counts all the same."""
        if driver.is_revoked:
            return _INTERRUPTED
        if driver.failure is not None:
            return _answer_for(driver.failure)
        if self._journal.divergence is not None:
            error = error_object(self._journal.divergence)
            return InvocationAnswer(InvocationStatus.FAILED, error=error, updates=rest)
        suspended = self.scope.suspended
        if suspended is not None:
            if answer.status is not InvocationStatus.PENDING:
                _warn_of_swallowing(suspended)
            return InvocationAnswer(InvocationStatus.PENDING, updates=rest)
        if answer.status is InvocationStatus.PENDING:
            return InvocationAnswer(InvocationStatus.PENDING, updates=rest)
        return msgspec.structs.replace(answer, updates=rest) if rest else answer


def is_suspension(error: BaseException) -> bool:
    """A suspension, or a group of errors, as a TaskGroup raises, with one among them."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_suspension(each) for each in error.exceptions)
    return isinstance(error, SuspendExecution)


_PENDING: Final = InvocationAnswer(InvocationStatus.PENDING)
_INTERRUPTED: Final = InvocationAnswer(InvocationStatus.PENDING, is_interrupted=True)


def _answer_for(error: BaseException) -> InvocationAnswer:
    """FAILED, or the error raised again if another invocation may do better."""
    if isinstance(error, BackgroundThreadError):
        error = error.source_exception
    if isinstance(error, InvocationError) and error.is_retryable() and not _is_operation_error(error):
        raise error
    if isinstance(error, OrphanedChildException):
        return InvocationAnswer(InvocationStatus.FAILED, error=ErrorObject(str(error), "OrphanedChildException"))
    return InvocationAnswer(InvocationStatus.FAILED, error=error_object(error))


def _is_operation_error(error: BaseException) -> bool:
    from perdure.exceptions import DurableOperationError

    return isinstance(error, DurableOperationError)


def _warn_of_swallowing(suspended: SuspendExecution) -> None:
    where = "the handler"
    trace = suspended.__traceback__
    if trace is not None:
        code = trace.tb_frame.f_code
        where = f"{code.co_filename}:{trace.tb_lineno}, in {code.co_name}"
    log.warning(
        "a suspension was swallowed by an `except` that catches everything (%s); the invocation ends PENDING all the "
        "same. Catch Exception, or what you mean, instead.",
        where,
    )


# --- input and result --------------------------------------------------------------------------------------------


def read_input(definition: Definition, given: InvocationInput) -> Any:
    """The value of the input's JSON; an absent or blank one is an empty dictionary."""
    text = given.input
    if definition.input_serdes is not None:
        return definition.input_serdes.deserialize(text or "", SerDesContext("", given.arn))
    if text is None or not text.strip():
        return {}
    try:
        return json.loads(text)
    except ValueError as error:
        raise ExecutionError(f"the input of {given.execution_name!r} is not JSON: {error}") from error


def to_json(value: Any) -> str:
    """Plain JSON of a handler's result or of an event.

    What JSON does not know is written as callers expect it: dates and times as ISO texts, Decimals and UUIDs as texts,
    dataclasses and models as objects. TypeError for anything else.
    """
    try:
        return json.dumps(value)
    except TypeError:
        from perdure.sdk import plain

        return plain.to_json(value)
