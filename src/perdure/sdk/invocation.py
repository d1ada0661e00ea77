"""One invocation from the handler's side: give it its input, run it over the journal, and say how it ended."""

import json
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

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
from perdure.sdk.client import Client
from perdure.sdk.drivers.blocking import BlockingDriver, Linger
from perdure.sdk.errors import error_object
from perdure.sdk.journal import Journal
from perdure.sdk.misuse import Guard, active
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session
from perdure.serdes import SerDes, SerDesContext

if TYPE_CHECKING:
    from perdure.config import RetryStrategy
    from perdure.types import LoggerInterface

log: Final = logging.getLogger("perdure")


class Definition(msgspec.Struct, frozen=True):
    """A durable function: the author's handler and how it wants to be run."""

    handler: Callable[..., Any]
    name: str
    guard: Guard = Guard.ERROR
    serdes: SerDes[Any] | None = None
    input_serdes: SerDes[Any] | None = None
    output_serdes: SerDes[Any] | None = None
    retry_strategy: "RetryStrategy | None" = None
    logger: "LoggerInterface | None" = None


class InvocationInput(msgspec.Struct, frozen=True):
    """What an invocation begins with. `operations` are the records, without the EXECUTION operation."""

    arn: str
    execution_id: str
    execution_name: str
    input: str | None
    operations: Sequence[Operation]
    updated_ids: Sequence[str] = ()


class InvocationStatus(Word):
    """How an invocation ended. RETRY, that it raised, is what those are told who watch it; no answer has it."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    PENDING = "PENDING"
    RETRY = "RETRY"


class InvocationAnswer(msgspec.Struct, frozen=True):
    """How an invocation ended. `updates` have not been sent: they belong to a PENDING answer.

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
) -> InvocationAnswer:
    """Run the handler until it ends or can't go on.

    Raises what the platform has to see as a failed invocation: a retryable InvocationError, a service that can't be
    reached, SystemExit and KeyboardInterrupt.
    """
    from perdure.context import DurableContext

    journal = Journal(given.execution_name, given.operations)
    driver = BlockingDriver(client, journal, linger)
    session = Session(
        arn=given.arn,
        execution_id=given.execution_id,
        journal=journal,
        driver=driver,
        logger=Logger(definition.logger, {"executionArn": given.arn}),
        guard=definition.guard,
        default_retry=definition.retry_strategy,
        default_serdes=definition.serdes,
        lambda_context=lambda_context,
    )
    scope = Scope(is_replaying=bool(given.operations))
    event = read_input(definition, given)
    token = active.set(scope)
    try:
        result = definition.handler(event, DurableContext(session, scope))
        answer = _succeeded(definition, given, result)
    except SuspendExecution:
        answer = _PENDING
    except (OrphanedChildException, BackgroundThreadError) as end:
        answer = _answer_for(end)
    except Exception as error:  # noqa: BLE001 - whatever the handler raises ends the execution or the invocation
        answer = _answer_for(error)
    finally:
        active.reset(token)
        rest = driver.finish()
    return _settled(answer, scope, driver, journal, rest)


_PENDING: Final = InvocationAnswer(InvocationStatus.PENDING)
_INTERRUPTED: Final = InvocationAnswer(InvocationStatus.PENDING, is_interrupted=True)


def _settled(
    answer: InvocationAnswer, scope: Scope, driver: BlockingDriver, journal: Journal, rest: Sequence[OperationUpdate]
) -> InvocationAnswer:
    """What the answer is in the end: what the handler swallowed counts all the same."""
    if driver.is_revoked:
        return _INTERRUPTED
    if driver.failure is not None:
        return _answer_for(driver.failure)
    if journal.divergence is not None:
        return InvocationAnswer(InvocationStatus.FAILED, error=error_object(journal.divergence))
    if scope.suspended is not None:
        if answer.status is not InvocationStatus.PENDING:
            _warn_of_swallowing(scope.suspended)
        return InvocationAnswer(InvocationStatus.PENDING, updates=rest)
    if answer.status is InvocationStatus.PENDING:
        return InvocationAnswer(InvocationStatus.PENDING, updates=rest)
    return answer


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
    """The event: the value of the input's JSON; an absent or blank one is an empty dictionary."""
    text = given.input
    if definition.input_serdes is not None:
        return definition.input_serdes.deserialize(text or "", SerDesContext("", given.arn))
    if text is None or not text.strip():
        return {}
    try:
        return json.loads(text)
    except ValueError as error:
        raise ExecutionError(f"the input of {given.execution_name!r} is not JSON: {error}") from error


def _succeeded(definition: Definition, given: InvocationInput, result: Any) -> InvocationAnswer:
    if definition.output_serdes is not None:
        text = definition.output_serdes.serialize(result, SerDesContext("", given.arn))
    else:
        text = to_json(result)
    return InvocationAnswer(InvocationStatus.SUCCEEDED, text)


def to_json(value: Any) -> str:
    """Plain JSON of a handler's result or of an event.

    What JSON does not know is written as callers expect it: dates and times as ISO texts, Decimals and UUIDs as texts,
    dataclasses and pydantic models as objects. TypeError for anything else.
    """
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    import dataclasses
    import datetime
    import decimal
    import enum
    import uuid

    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    kind = type(value)
    raise TypeError(
        f"a value of type {kind.__module__}.{kind.__qualname__} can't be written as JSON; "
        "return texts, numbers, lists and dictionaries, or give the handler an output_serdes"
    )
