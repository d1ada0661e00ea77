"""Time-outs of a part of a handler: `with context.timeout(hours=2):`.

A durable wait runs beside the block. An operation that still waits when it is over raises DurableTimeoutError, and that
it did is recorded: a replay raises at the same call, whatever the operation has come to since.
"""

import time
from typing import TYPE_CHECKING, Any, Final

from perdure.exceptions import DurableTimeoutError
from perdure.model.operation import OperationAction, OperationType, OperationUpdate
from perdure.sdk.identity import named_id

if TYPE_CHECKING:
    from types import TracebackType

    from perdure.async_context import AsyncDurableContext
    from perdure.context import DurableContext
    from perdure.futures import AsyncDurableFuture, DurableFuture
    from perdure.sdk.journal import Begun
    from perdure.sdk.scope import Scope
    from perdure.sdk.session import Session

__all__ = ["AsyncTimeout", "Timeout"]

SUB_TYPE: Final = "Timeout"


class _Limit:
    """One time-out, while its block runs. `calls` counts the operations in the block that were waited for."""

    def __init__(self, session: "Session", scope: "Scope", seconds: int) -> None:
        self.session = session
        self.scope = scope
        self.seconds = seconds
        self.calls = 0
        self.number = 0

    def enter(self) -> None:
        self.scope.timeouts = (*self.scope.timeouts, self)
        self.number = self.scope.counter + 1

    def leave(self) -> None:
        self.scope.timeouts = tuple(each for each in self.scope.timeouts if each is not self)

    def next_marker(self) -> str:
        """The id under which it is recorded that the next call in the block was given up."""
        self.calls += 1
        return named_id(self.scope.prefix, "timeout", f"{self.number}:{self.calls}")

    def was_given_up(self, marker: str) -> bool:
        return marker in self.session.journal.records

    def expired(self) -> DurableTimeoutError:
        """What the call that was given up raises. It is past: the replay goes on if something comes after it."""
        self.session.journal.passed(self.scope, None)
        return DurableTimeoutError(f"the block took longer than its time-out of {self.seconds} s")

    async def give_up(self, marker: str) -> DurableTimeoutError:
        """Record that this call was given up; return what to raise."""
        parts = ("timeout", SUB_TYPE, self.scope.parent_id, time.time_ns() // 1_000_000)
        driver = self.session.driver
        for action in (OperationAction.START, OperationAction.SUCCEED):
            update = OperationUpdate(marker, OperationType.STEP, action, *parts)
            await driver.commit(self.scope, update, durable=action is OperationAction.SUCCEED)
        return self.expired()


class Timeout(_Limit):
    """The time-out of a block in a blocking handler."""

    def __init__(self, context: "DurableContext", seconds: int) -> None:
        super().__init__(context._session, context._scope, seconds)
        self._context = context
        self._timer: DurableFuture[None] | None = None

    @property
    def is_over(self) -> bool:
        assert self._timer is not None
        return self._timer.has_ended

    def __enter__(self) -> "Timeout":
        timer = self._context.start.wait(self.seconds, name="timeout")
        timer.use()
        self.enter()
        self._timer = timer
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self.leave()
        if self._timer is not None and (error is None or isinstance(error, Exception)):
            self._timer.cancel()


class AsyncTimeout(_Limit):
    """The time-out of a block in an `async def` handler: `async with context.timeout(hours=2):`."""

    def __init__(self, context: "AsyncDurableContext", seconds: int) -> None:
        super().__init__(context._session, context._scope, seconds)
        self._context = context
        self._timer: AsyncDurableFuture[None] | None = None

    async def __aenter__(self) -> "AsyncTimeout":
        timer = self._context.start.wait(self.seconds, name="timeout")
        timer.use()
        self.enter()
        self._timer = timer
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self.leave()
        if self._timer is not None:
            self._timer.cancel()

    def limited(self, begun: "Begun[Any]") -> "Begun[Any]":
        """The operation, given up when the time is over."""
        marker = self.next_marker()
        timer = self._timer
        assert timer is not None

        async def run() -> Any:
            if self.was_given_up(marker):
                raise self.expired()
            driver = self._context._driver
            task = driver.spawn(begun())
            await driver.either(task, timer)
            if task.done():
                return await task
            if timer.error is not None:
                raise timer.error
            error = await self.give_up(marker)
            task.cancel()
            raise error

        return run
