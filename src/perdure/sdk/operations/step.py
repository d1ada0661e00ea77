"""STEP: run a body, record what it returned; try it again if it failed."""

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar, cast

from perdure.config import RetryStrategy, StepConfig, StepSemantics
from perdure.exceptions import (
    ExecutionError,
    RetryableSerDesError,
    SerDesError,
    StepError,
    StepInterruptedError,
    qualified_name,
)
from perdure.model.error import ErrorObject
from perdure.model.operation import (
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    Step,
)
from perdure.retries import RetryPresets
from perdure.sdk.annotated import typed_serdes, typed_serdes_for
from perdure.sdk.arity import takes_context
from perdure.sdk.errors import error_object, rebuild_step
from perdure.sdk.identity import named_id
from perdure.sdk.journal import Begun, may_start
from perdure.sdk.misuse import Body, active
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session
from perdure.serdes import SerDes, deserialize, serialize
from perdure.types import StepContext

T = TypeVar("T")
Status = OperationStatus

DEFAULT_CONFIG: Final = StepConfig()
DEFAULT_RETRY: Final = RetryPresets.default()
SUB_TYPE: Final = "Step"

_OVER: Final = frozenset({Status.FAILED, Status.CANCELLED, Status.STOPPED, Status.TIMED_OUT})


def step(
    session: Session,
    scope: Scope,
    body: Callable[..., T | Awaitable[T]],
    name: str | None,
    config: StepConfig,
    key: str | None = None,
) -> Begun[T]:
    """The recorded result of `body`, which runs if there is none yet. With a `key` its place is that, and not its turn.

    Raises StepError once it has failed for good, SerDesError if its result can't be recorded.
    """
    sub_type = config.sub_type or SUB_TYPE
    if key is None:
        operation_id, _ = session.journal.begin(scope, OperationType.STEP, sub_type, name)
    else:
        operation_id, _ = session.journal.begin_named(
            named_id(scope.prefix, "id", key), scope, OperationType.STEP, sub_type, name
        )
    return partial(_step, session, scope, operation_id, body, name, config)


async def _step(
    session: Session,
    scope: Scope,
    operation_id: str,
    body: Callable[..., T | Awaitable[T]],
    name: str | None,
    config: StepConfig,
) -> T:
    record = session.journal.records.get(operation_id)
    serdes = config.serdes or typed_serdes(config.result_type) or session.default_serdes or typed_serdes_for(body)
    while True:
        if record is not None:
            status = record.status
            if status is Status.SUCCEEDED:
                value = cast(T, _read(serdes, record.result, operation_id, session))
                session.journal.passed(scope, operation_id)
                return value
            if status in _OVER:
                session.journal.passed(scope, operation_id)
                raise rebuild_step(StepError, record.error, f"step '{name or operation_id}' was {status.lower()}")
        if record is None or record.status is not Status.PENDING:
            attempt = _Attempt(session, scope, operation_id, name, config, record)
            if record is not None and record.status is Status.STARTED and config.step_semantics is _AT_MOST_ONCE:
                text = f"step '{name or operation_id}' was interrupted: whether it took effect is unknown"
                due_ms: int | None = await attempt.judge(StepInterruptedError(text, operation_id))
            else:
                if record is None or record.status is not Status.STARTED:
                    await attempt.start()
                outcome = await attempt.run(body, serdes)
                if not isinstance(outcome, _Retried):
                    return cast(T, outcome)
                due_ms = outcome.due_ms
        else:
            due_ms = record.next_attempt_ms if isinstance(record, Step) else None
        what = f"the next attempt of step '{name or operation_id}'"
        record = await session.driver.until(operation_id, may_start, what, due_ms)


class _Retried:
    """In place of a result: the attempt has failed, the next one is due at `due_ms`."""

    __slots__ = ("due_ms",)

    def __init__(self, due_ms: int) -> None:
        self.due_ms = due_ms


_AT_MOST_ONCE: Final = StepSemantics.AT_MOST_ONCE_PER_RETRY


def _read(serdes: SerDes[Any] | None, payload: str | None, operation_id: str, session: Session) -> Any:
    return None if payload is None else deserialize(serdes, payload, operation_id, session.arn)


class _Attempt:
    """One run of a step's body, and what is recorded of it."""

    __slots__ = ("config", "name", "number", "operation_id", "scope", "session")

    def __init__(
        self,
        session: Session,
        scope: Scope,
        operation_id: str,
        name: str | None,
        config: StepConfig,
        record: Operation | None,
    ) -> None:
        self.session = session
        self.scope = scope
        self.operation_id = operation_id
        self.name = name
        self.config = config
        self.number = (record.attempt if isinstance(record, Step) else 0) + 1

    def update(self, action: OperationAction, **more: Any) -> OperationUpdate:
        return OperationUpdate(
            self.operation_id,
            OperationType.STEP,
            action,
            self.name,
            self.config.sub_type or SUB_TYPE,
            self.scope.parent_id,
            time.time_ns() // 1_000_000,
            **more,
        )

    async def start(self) -> None:
        """At most once: the START is on disk before the body runs. At least once: it travels with the result."""
        durable = self.config.step_semantics is _AT_MOST_ONCE
        await self.session.driver.commit(self.scope, self.update(OperationAction.START), durable=durable)

    async def run(self, body: Callable[..., Any], serdes: SerDes[Any] | None) -> Any:
        """Run the body and record its result; what is returned is what a replay would read, or that it is retried."""
        session = self.session
        is_once = self.config.step_semantics is _AT_MOST_ONCE
        token = active.set(Body("step", self.name, self.operation_id, self.number, is_once=is_once))
        try:
            context = self.context()
            run = (lambda: body(context)) if takes_context(body) else body
            if self.config.timeout is None:
                returned = await session.driver.call(run, body)
            else:
                returned = await session.driver.call_within(self.config.timeout.seconds, run, body)
            payload = serialize(serdes, returned, self.operation_id, session.arn)
            value = _read(serdes, payload, self.operation_id, session)
        except (ExecutionError, RetryableSerDesError):
            raise
        except SerDesError as error:
            failure: Exception = error
        except Exception as error:  # noqa: BLE001 - whatever the author's body raises is judged
            failure = error
        else:
            await session.driver.commit(self.scope, self.update(OperationAction.SUCCEED, payload=payload), durable=True)
            session.journal.passed(self.scope, self.operation_id)
            return value
        finally:
            active.reset(token)
        if isinstance(failure, SerDesError):
            raise await self.give_up(failure)
        return _Retried(await self.judge(failure))

    def context(self) -> StepContext:
        extra = {"operationId": self.operation_id, "operationName": self.name, "attempt": self.number}
        context = StepContext.__new__(StepContext)
        context.__dict__.update(  # a frozen dataclass takes 1.5 µs to fill by its own means
            logger=self.session.logger.with_extra(extra),
            attempt=self.number,
            operation_id=self.operation_id,
            execution_id=self.session.execution_id,
        )
        return context

    async def judge(self, error: Exception) -> int:
        """Ask the strategy whether to try again, and record that: return when; raise what a replay would if not."""
        strategy: RetryStrategy = self.config.retry_strategy or self.session.default_retry or DEFAULT_RETRY
        decision = strategy(error, self.number)
        if not decision.should_retry:
            raise await self.give_up(error)
        delay_s = decision.delay_seconds
        if delay_s < 1:
            logging.getLogger("perdure").warning("a retry delay of %s s was raised to 1 s", delay_s)
            delay_s = 1
        update = self.update(OperationAction.RETRY, error=error_object(error), next_attempt_delay_s=delay_s)
        await self.session.driver.park(self.scope, update)
        return time.time_ns() // 1_000_000 + delay_s * 1000

    async def give_up(self, error: Exception) -> Exception:
        """Record the failure and return what a replay would raise."""
        recorded = error_object(error)
        if isinstance(error, StepInterruptedError):
            recorded = ErrorObject(recorded.message, qualified_name(StepInterruptedError))
        await self.session.driver.commit(self.scope, self.update(OperationAction.FAIL, error=recorded), durable=True)
        self.session.journal.passed(self.scope, self.operation_id)
        return rebuild_step(StepError, recorded, "the step failed")
