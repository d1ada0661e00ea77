"""CONTEXT: operations of their own, under one that is recorded as a whole."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

import msgspec

from perdure.exceptions import (
    ChildContextError,
    DurableOperationError,
    ExecutionError,
    InvocationError,
    SerDesError,
)
from perdure.model.operation import (
    Context,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    payload_bytes,
)
from perdure.sdk.errors import error_object, rebuild_step
from perdure.sdk.misuse import active
from perdure.sdk.scope import Scope
from perdure.sdk.session import INLINE_BYTES_MAX, Session
from perdure.serdes import SerDes, deserialize, serialize

T = TypeVar("T")
Body = Callable[[Scope], Awaitable[T]]


class ChildOptions(msgspec.Struct, frozen=True):
    """How a child records its end."""

    sub_type: str
    serdes: SerDes[Any] | None = None
    summary_generator: Callable[[Any], str] | None = None
    error_mapper: Callable[[DurableOperationError], DurableOperationError] | None = None
    is_remade: bool = False
    """A result that the serdes refuses is not an error: a replay makes it again from the children."""


async def child(session: Session, scope: Scope, body: Body[T], name: str | None, options: ChildOptions) -> T:
    """The recorded result of `body`, which runs in a scope of its own if there is none yet.

    A result too large to store is made again by running the body over its children's records.
    Raises ChildContextError if the body failed, SerDesError if its result can't be recorded.
    """
    journal = session.journal
    operation_id, record = journal.begin(scope, OperationType.CONTEXT, options.sub_type, name)
    serdes = options.serdes or session.default_serdes
    if record is not None and record.is_terminal:
        if record.status is not OperationStatus.SUCCEEDED:
            journal.passed(scope)
            raise _mapped(options, rebuild_step(ChildContextError, record.error, "the child context failed"))
        if not (isinstance(record, Context) and record.replay_children):
            value = None if record.result is None else deserialize(serdes, record.result, operation_id, session.arn)
            journal.passed(scope)
            return cast(T, value)
    inner = Scope(operation_id, operation_id, scope, name, is_replaying=scope.is_replaying)
    run = _Run(session, scope, inner, operation_id, name, options)
    if record is None:
        await session.driver.commit(scope, run.update(OperationAction.START), durable=False)
    is_rerun = record is not None and record.is_terminal
    return cast(T, await run.run(body, serdes, is_rerun=is_rerun))


async def virtual_child(session: Session, scope: Scope, body: Body[T], name: str | None) -> T:
    """A context that records nothing itself: its operations report the enclosing real one as their parent."""
    operation_id = session.journal.take_place(scope)
    inner = Scope(operation_id, scope.parent_id, scope, name, is_replaying=scope.is_replaying, is_virtual=True)
    token = active.set(inner)
    try:
        return await body(inner)
    finally:
        active.reset(token)


class _Remade:
    """In place of a payload: the result can't be stored, a replay makes it again."""


_REMADE: Final = _Remade()


class _Run:
    """One run of a child's body, and what is recorded of it."""

    __slots__ = ("inner", "name", "operation_id", "options", "scope", "session")

    def __init__(
        self,
        session: Session,
        scope: Scope,
        inner: Scope,
        operation_id: str,
        name: str | None,
        options: ChildOptions,
    ) -> None:
        self.session = session
        self.scope = scope
        self.inner = inner
        self.operation_id = operation_id
        self.name = name
        self.options = options

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

    async def run(self, body: Body[Any], serdes: SerDes[Any] | None, *, is_rerun: bool) -> Any:
        session = self.session
        token = active.set(self.inner)
        try:
            returned = await body(self.inner)
            if is_rerun:
                session.journal.passed(self.scope)
                return returned
            payload, value = self.round_trip(serdes, returned)
        except ExecutionError:
            raise
        except InvocationError as error:
            if error.is_retryable() and not isinstance(error, DurableOperationError):
                raise
            failure: Exception = error
        except Exception as error:  # noqa: BLE001 - whatever the author's body raises is recorded
            failure = error
        else:
            await self._succeed(returned, payload)
            return value
        finally:
            active.reset(token)
        recorded = error_object(failure)
        await self._close(self.update(OperationAction.FAIL, error=recorded))
        if isinstance(failure, SerDesError):
            raise failure
        raise _mapped(self.options, rebuild_step(ChildContextError, recorded, "the child context failed"))

    def round_trip(self, serdes: SerDes[Any] | None, returned: Any) -> "tuple[str | _Remade | None, Any]":
        """The payload of the result, and what a replay would read from it."""
        session = self.session
        try:
            payload = serialize(serdes, returned, self.operation_id, session.arn)
        except SerDesError:
            if self.options.is_remade:
                return _REMADE, returned
            raise
        return payload, None if payload is None else deserialize(serdes, payload, self.operation_id, session.arn)

    async def _succeed(self, returned: Any, payload: "str | _Remade | None") -> None:
        """Record the result, or only that there was one if it can't be stored."""
        is_remade = isinstance(payload, _Remade) or payload_bytes(payload) > INLINE_BYTES_MAX
        if is_remade:
            summarize = self.options.summary_generator
            payload = summarize(returned) if summarize is not None else ""
        await self._close(self.update(OperationAction.SUCCEED, payload=payload, replay_children=is_remade or None))

    async def _close(self, update: OperationUpdate) -> None:
        """From here on nothing within may be recorded any more."""
        self.inner.is_closed = True
        await self.session.driver.commit(self.scope, update, durable=True)
        self.session.journal.passed(self.scope)


def _mapped(options: ChildOptions, error: Exception) -> Exception:
    if options.error_mapper is not None and isinstance(error, DurableOperationError):
        return options.error_mapper(error)
    return error
