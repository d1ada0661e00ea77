"""CONTEXT: operations of their own, under one that is recorded as a whole."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from perdure.exceptions import (
    ChildContextError,
    DurableOperationError,
    ExecutionError,
    InvocationError,
    SerDesError,
)
from perdure.model.error import ErrorObject
from perdure.model.operation import (
    Context,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    payload_bytes,
)
from perdure.sdk.errors import error_object, rebuild_step
from perdure.sdk.journal import Begun
from perdure.sdk.leaving import check_nothing_unused
from perdure.sdk.misuse import active
from perdure.sdk.scope import Scope
from perdure.sdk.session import INLINE_BYTES_MAX, Session
from perdure.serdes import SerDes, deserialize, serialize

T = TypeVar("T")
Body = Callable[[Scope], Awaitable[T]]

FAILED_TEXT: Final = "the child context failed"


class ChildOptions(msgspec.Struct, frozen=True):
    """How a child records its end."""

    sub_type: str
    serdes: SerDes[Any] | None = None
    summary_generator: Callable[[Any], str] | None = None
    error_mapper: Callable[[DurableOperationError], DurableOperationError] | None = None
    is_remade: bool = False
    """A result that the serdes refuses is not an error: a replay makes it again from the children."""
    is_seen: bool = True
    """The author's code sees the result as soon as it is there: then it must be durable first."""


class Failure:
    """How a child failed, as it is recorded."""

    __slots__ = ("recorded",)

    def __init__(self, recorded: ErrorObject | None) -> None:
        self.recorded = recorded


def child(session: Session, scope: Scope, body: Body[T], name: str | None, options: ChildOptions) -> Begun[T]:
    """The recorded result of `body`, which runs in a scope of its own if there is none yet.

    A result too large to store is made again by running the body over its children's records.
    Raises ChildContextError if the body failed, SerDesError if its result can't be recorded.
    """
    operation_id, _ = session.journal.begin(scope, OperationType.CONTEXT, options.sub_type, name)
    return partial(child_at, session, scope, operation_id, body, name, options)


async def child_at(
    session: Session, scope: Scope, operation_id: str, body: Body[T], name: str | None, options: ChildOptions
) -> T:
    """The same at a place that has been taken."""
    run: ChildRun[T] = ChildRun(session, scope, operation_id, name, options)
    outcome = await run.outcome(body)
    session.journal.passed(scope, operation_id)
    if isinstance(outcome, Failure):
        raise _raised(outcome, options)
    return outcome


def _raised(failure: "Failure", options: ChildOptions) -> Exception:
    """What the author sees of a child that failed: the same in the run in which it did, and in a replay."""
    error = rebuild_step(ChildContextError, failure.recorded, FAILED_TEXT)
    if options.error_mapper is not None and isinstance(error, DurableOperationError):
        return options.error_mapper(error)
    return error


def virtual_child(session: Session, scope: Scope, body: Body[T], name: str | None, options: ChildOptions) -> Begun[T]:
    """A context that records nothing itself: its operations report the enclosing real one as their parent.

    What it returns and raises is what a recorded one would.
    """
    return partial(_virtual_child, session, scope, session.journal.take_place(scope), body, name, options)


async def _virtual_child(
    session: Session, scope: Scope, place: str, body: Body[T], name: str | None, options: ChildOptions
) -> T:
    inner = virtual_scope(session, place, scope, name, options.sub_type)
    outcome = await virtual_outcome(session, inner, body, options.serdes)
    session.journal.passed(scope, inner.last_id)
    if isinstance(outcome, Failure):
        raise _raised(outcome, options)
    return outcome


async def virtual_outcome(session: Session, inner: Scope, body: Body[T], serdes: SerDes[Any] | None) -> "T | Failure":
    """What would be recorded of a context that records nothing itself."""
    try:
        returned = await run_in_scope(session, inner, body)
        payload = serialize(serdes, returned, inner.prefix, session.arn)
        return cast(T, None if payload is None else deserialize(serdes, payload, inner.prefix, session.arn))
    except ExecutionError:
        raise
    except Exception as error:
        if retries_invocation(error):
            raise
        return Failure(error_object(error))


def virtual_scope(session: Session, place: str, scope: Scope, name: str | None, sub_type: str) -> Scope:
    """The scope of a context that records nothing itself."""
    is_replaying = scope.is_replaying and session.journal.begins(place)
    return Scope(place, scope.parent_id, scope, name, is_replaying=is_replaying, is_virtual=True, sub_type=sub_type)


async def run_in_scope(session: Session, inner: Scope, body: Body[T]) -> T:
    """Run the body with `inner` as the one context that may be used in it."""
    inner.owner = session.driver.owner()
    token = active.set(inner)
    try:
        if session.observer is not None:
            result = await session.observer.within(inner, body)
        else:
            result = await body(inner)
        if inner.unused:
            check_nothing_unused(session, inner)
        return result
    finally:
        active.reset(token)
        session.driver.leave(inner)


class _Remade:
    """In place of a payload: the result can't be stored, a replay makes it again."""


_REMADE: Final = _Remade()


class ChildRun(Generic[T]):
    """One run of a child's body, and what is recorded of it."""

    __slots__ = ("inner", "name", "operation_id", "options", "record", "scope", "serdes", "session")

    def __init__(
        self, session: Session, scope: Scope, operation_id: str, name: str | None, options: ChildOptions
    ) -> None:
        self.session = session
        self.scope = scope
        self.operation_id = operation_id
        self.record = session.journal.records.get(operation_id)
        self.name = name
        self.options = options
        self.serdes = options.serdes
        is_replaying = scope.is_replaying and session.journal.begins(operation_id)
        self.inner = Scope(operation_id, operation_id, scope, name, is_replaying=is_replaying)

    async def outcome(self, body: Body[T]) -> "T | Failure":
        """What is recorded; if nothing is, run the body and record how it ended."""
        record = self.record
        if record is not None and record.is_terminal:
            if record.status is not OperationStatus.SUCCEEDED or not _is_remade(record):
                return self.recorded()
            return cast(T, self.round_trip(await run_in_scope(self.session, self.inner, body))[1])
        if record is None:
            await self.session.driver.commit(self.scope, self.update(OperationAction.START), durable=False)
        return await self.run_and_record(body)

    def recorded(self) -> "T | Failure":
        """What the record says, whose result is stored in it."""
        record = self.record
        assert record is not None
        if record.status is not OperationStatus.SUCCEEDED:
            return Failure(record.error)
        return cast(T, self.read(record.result))

    def read(self, payload: str | None) -> Any:
        return None if payload is None else deserialize(self.serdes, payload, self.operation_id, self.session.arn)

    def update(self, action: OperationAction, **more: Any) -> OperationUpdate:
        return OperationUpdate(
            self.operation_id,
            OperationType.CONTEXT,
            action,
            self.name,
            self.options.sub_type,
            self.scope.parent_id,
            time.time_ns() // 1_000_000,
            **more,
        )

    async def run_and_record(self, body: Body[T]) -> "T | Failure":
        """Run the body and record its end; what is returned is what a replay would read."""
        try:
            returned = await run_in_scope(self.session, self.inner, body)
            payload, value = self.round_trip(returned)
            is_remade = isinstance(payload, _Remade) or payload_bytes(payload) > INLINE_BYTES_MAX
            if is_remade:
                summarize = self.options.summary_generator
                payload = summarize(returned) if summarize is not None else ""
        except ExecutionError:
            raise
        except Exception as error:
            if retries_invocation(error):
                raise
            recorded = error_object(error)
            await self.close(self.update(OperationAction.FAIL, error=recorded))
            return Failure(recorded)
        await self.close(self.update(OperationAction.SUCCEED, payload=payload, replay_children=is_remade or None))
        return cast(T, value)

    def round_trip(self, returned: Any) -> "tuple[str | _Remade | None, Any]":
        """The payload of the result, and what a replay would read from it."""
        try:
            payload = serialize(self.serdes, returned, self.operation_id, self.session.arn)
            return payload, self.read(payload)
        except SerDesError:
            if self.options.is_remade:
                return _REMADE, returned
            raise

    async def close(self, update: OperationUpdate) -> None:
        """From here on nothing within may be recorded any more."""
        await self.session.driver.close(self.scope, update, self.inner, durable=self.options.is_seen)


def _is_remade(record: Operation) -> bool:
    return isinstance(record, Context) and record.replay_children


def retries_invocation(error: Exception) -> bool:
    """The error is no failure of the child: it wants the whole invocation tried again."""
    return isinstance(error, InvocationError) and error.is_retryable() and not isinstance(error, DurableOperationError)
