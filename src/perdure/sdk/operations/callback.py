"""CALLBACK: an id goes out, an answer comes back, some time, from somebody."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from perdure.config import CallbackConfig, StepConfig, WaitForCallbackConfig
from perdure.exceptions import (
    CallbackError,
    CallbackExternalError,
    CallbackSubmitterError,
    CallbackTimeoutError,
    ChildContextError,
    StepError,
)
from perdure.model.operation import (
    Callback,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
)
from perdure.sdk.arity import first_or_both, is_async, refuse_coroutine
from perdure.sdk.journal import Begun, has_ended
from perdure.sdk.operations.child import ChildOptions, child
from perdure.sdk.operations.step import step
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session
from perdure.serdes import SerDes, deserialize
from perdure.types import StepContext, WaitForCallbackContext

SUB_TYPE: Final = "Callback"
WAIT_FOR_CALLBACK: Final = "WaitForCallback"


def create_callback(session: Session, scope: Scope, name: str | None, config: CallbackConfig) -> Begun[Callback]:
    """The record of the callback, with the id that the service has given it; however it ended, this returns."""
    operation_id, _ = session.journal.begin(scope, OperationType.CALLBACK, config.sub_type or SUB_TYPE, name)
    return partial(_create_callback, session, scope, operation_id, name, config)


async def _create_callback(
    session: Session, scope: Scope, operation_id: str, name: str | None, config: CallbackConfig
) -> Callback:
    record = session.journal.records.get(operation_id)
    if record is None:
        update = OperationUpdate(
            operation_id,
            OperationType.CALLBACK,
            OperationAction.START,
            name,
            config.sub_type or SUB_TYPE,
            scope.parent_id,
            timeout_s=config.timeout.seconds,
            heartbeat_timeout_s=config.heartbeat_timeout.seconds,
        )
        await session.driver.commit(scope, update, durable=True)
        record = session.journal.records.get(operation_id)
    if not isinstance(record, Callback) or not record.callback_id:
        raise CallbackError(f"the service gave no callback id for '{name or operation_id}'")
    session.journal.passed(scope, None)  # it has not ended; who asks for its result knows when it has
    return record


async def callback_result(session: Session, operation_id: str, serdes: SerDes[Any] | None) -> Any:
    """What the callback was completed with; suspends while it is open.

    Raises CallbackExternalError if a failure was reported, CallbackTimeoutError if nobody answered in time.
    """
    record = session.journal.records[operation_id]
    serdes = serdes or session.callback_serdes
    if not record.is_terminal:
        what = f"callback '{record.name or operation_id}'"
        record = await session.driver.until(operation_id, has_ended, what, record.due_ms)
    match record.status:
        case OperationStatus.SUCCEEDED:
            if record.result is None or serdes is None:
                return record.result
            return deserialize(serdes, record.result, operation_id, session.arn)
        case OperationStatus.TIMED_OUT:
            raise _without_type(CallbackTimeoutError, record.error, "Callback timed out")
        case _:
            error = _without_type(CallbackExternalError, record.error, "Callback failed")
            error.external_error_type = record.error.type if record.error is not None else None
            raise error


def _without_type(kind: Any, error: Any, default: str) -> Any:
    """A callback's error is of our type, whatever type its sender gave it."""
    if error is None:
        return kind(default)
    return kind(error.message or default, None, error.data, error.stack_trace)


def wait_for_callback(
    session: Session,
    scope: Scope,
    submitter: Callable[..., Any],
    name: str | None,
    config: WaitForCallbackConfig,
) -> Begun[Any]:
    """Make a callback, hand its id out in a step, wait for its answer: all in one child context."""
    takes_both = first_or_both(submitter, "the submitter", "callback_id", "context")

    async def body(inner: Scope) -> Any:
        record = await create_callback(session, inner, f"{name} create callback id" if name else _CREATE, config)()

        def call(context: StepContext) -> Any:
            if takes_both:
                return submitter(record.callback_id, WaitForCallbackContext(context.logger))
            return submitter(record.callback_id)

        def submit(context: StepContext) -> None:
            refuse_coroutine(call(context), submitter)

        async def submit_async(context: StepContext) -> None:
            await call(context)

        step_config = StepConfig(config.retry_strategy)
        await step(
            session,
            inner,
            submit_async if is_async(submitter) else submit,
            f"{name} submitter" if name else _SUBMITTER,
            step_config,
        )()
        return await callback_result(session, record.id, config.serdes)

    return partial(_unwrapped, child(session, scope, body, name, ChildOptions(WAIT_FOR_CALLBACK, is_remade=True)))


async def _unwrapped(begun: Begun[Any]) -> Any:
    try:
        return await begun()
    except ChildContextError as error:
        itself = _as_itself(error)
        raise itself from (None if itself is error.__cause__ else error.__cause__)


_CREATE: Final = "create callback id"
_SUBMITTER: Final = "submitter"


def _as_itself(error: ChildContextError) -> Exception:
    """A callback's failure is raised as what it is, a submitter's as that; anything else stays the child's."""
    cause = error.__cause__
    if isinstance(cause, CallbackError):
        return cause
    if isinstance(cause, StepError):
        return CallbackSubmitterError(error.message, None, error.data, error.stack_trace)
    return error
