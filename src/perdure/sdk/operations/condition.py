"""A condition: a STEP that is repeated, with its state kept between the polls."""

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar, cast

from perdure.exceptions import ExecutionError, InvocationError, WaitForConditionError
from perdure.model.operation import Operation, OperationAction, OperationStatus, OperationType, OperationUpdate, Step
from perdure.sdk.annotated import typed_serdes_for
from perdure.sdk.arity import first_or_both
from perdure.sdk.errors import error_object, rebuild_step
from perdure.sdk.journal import Begun, may_start
from perdure.sdk.misuse import Body, active
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session
from perdure.serdes import SerDes, deserialize, serialize
from perdure.types import WaitForConditionCheckContext
from perdure.waits import WaitForConditionConfig, WaitForConditionDecision

T = TypeVar("T")
SUB_TYPE: Final = "WaitForCondition"


def wait_for_condition(
    session: Session,
    scope: Scope,
    check: Callable[..., T | Awaitable[T]],
    config: WaitForConditionConfig[T],
    name: str | None,
) -> Begun[T]:
    """The state with which the condition is met.

    Raises WaitForConditionError if the check or the strategy raises, or the polls are exhausted.
    """
    takes_both = first_or_both(check, "the check", "state", "context")
    operation_id, _ = session.journal.begin(scope, OperationType.STEP, SUB_TYPE, name)
    return partial(_wait_for_condition, session, scope, operation_id, check, config, name, takes_both=takes_both)


async def _wait_for_condition(
    session: Session,
    scope: Scope,
    operation_id: str,
    check: Callable[..., T | Awaitable[T]],
    config: WaitForConditionConfig[T],
    name: str | None,
    *,
    takes_both: bool,
) -> T:
    record = session.journal.records.get(operation_id)
    serdes = config.serdes or session.default_serdes or typed_serdes_for(check)
    while True:
        poll = _Poll(session, scope, operation_id, name, config, record, serdes)
        if record is not None and record.is_terminal:
            session.journal.passed(scope, operation_id)
            if record.status is not OperationStatus.SUCCEEDED:
                raise rebuild_step(WaitForConditionError, record.error, f"{poll} was {record.status.lower()}")
            return cast(T, None) if record.result is None else cast(T, poll.read(record.result))
        if record is not None and record.status is OperationStatus.PENDING:
            due_ms = record.next_attempt_ms if isinstance(record, Step) else None
        else:
            if record is None or record.status is not OperationStatus.STARTED:
                await session.driver.commit(scope, poll.update(OperationAction.START), durable=False)
            looked = await poll.run(check, record.result if record is not None else None, takes_both=takes_both)
            if isinstance(looked, Exception):
                raise await poll.give_up(looked)
            payload, decision = looked
            if not decision.should_continue:
                await session.driver.commit(scope, poll.update(OperationAction.SUCCEED, payload=payload), durable=True)
                session.journal.passed(scope, operation_id)
                return cast(T, poll.read(payload))
            due_ms = await poll.park(payload, decision.delay_seconds)
        record = await session.driver.until(operation_id, may_start, f"the next poll of {poll}", due_ms)


class _Poll:
    """One look at the condition, and what is recorded of it."""

    __slots__ = ("config", "name", "number", "operation_id", "scope", "serdes", "session")

    def __init__(
        self,
        session: Session,
        scope: Scope,
        operation_id: str,
        name: str | None,
        config: WaitForConditionConfig[Any],
        record: Operation | None,
        serdes: SerDes[Any] | None,
    ) -> None:
        self.session = session
        self.scope = scope
        self.operation_id = operation_id
        self.name = name
        self.config = config
        self.serdes = serdes
        self.number = (record.attempt if isinstance(record, Step) else 0) + 1

    def __str__(self) -> str:
        return f"condition '{self.name or self.operation_id}'"

    def update(self, action: OperationAction, **more: Any) -> OperationUpdate:
        return OperationUpdate(
            self.operation_id,
            OperationType.STEP,
            action,
            self.name,
            SUB_TYPE,
            self.scope.parent_id,
            time.time_ns() // 1_000_000,
            **more,
        )

    def write(self, state: Any) -> str:
        return serialize(self.serdes, state, self.operation_id, self.session.arn)

    def read(self, payload: str) -> Any:
        return deserialize(self.serdes, payload, self.operation_id, self.session.arn)

    async def run(
        self, check: Callable[..., Any], recorded: str | None, *, takes_both: bool
    ) -> tuple[str, WaitForConditionDecision] | Exception:
        """Call the check with the state so far; return the new state's payload and what the strategy says of it.

        Returns the error if the author's check or strategy, or the serdes, raises one that is to be recorded.
        """
        extra = {"operationId": self.operation_id, "operationName": self.name, "attempt": self.number}
        context = WaitForConditionCheckContext(self.session.logger.with_extra(extra), self.number)
        token = active.set(Body("check", self.name, self.operation_id, self.number))
        try:
            state = self.read(recorded if recorded is not None else self.write(self.config.initial_state))
            arguments = (state, context) if takes_both else (state,)
            payload = self.write(await self.session.driver.call(lambda: check(*arguments), check))
            return payload, self.config.wait_strategy(self.read(payload), self.number)
        except ExecutionError:
            raise
        except Exception as error:
            if isinstance(error, InvocationError) and error.is_retryable():
                raise
            return error
        finally:
            active.reset(token)

    async def park(self, payload: str, delay_s: int) -> int:
        """Record the state; return when the next poll is due."""
        if delay_s < 1:
            logging.getLogger("perdure").warning("a poll delay of %s s was raised to 1 s", delay_s)
            delay_s = 1
        update = self.update(OperationAction.RETRY, payload=payload, next_attempt_delay_s=delay_s)
        await self.session.driver.park(self.scope, update)
        return time.time_ns() // 1_000_000 + delay_s * 1000

    async def give_up(self, error: Exception) -> Exception:
        """Record the failure and return what a replay would raise."""
        recorded = error_object(error)
        await self.session.driver.commit(self.scope, self.update(OperationAction.FAIL, error=recorded), durable=True)
        self.session.journal.passed(self.scope, self.operation_id)
        return rebuild_step(WaitForConditionError, recorded, "the condition failed")
