"""The driver of an invocation that plugins watch: any other driver, and hooks around what it does."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from perdure.model.operation import Operation, OperationAction, OperationType, OperationUpdate
from perdure.sdk.drivers.protocol import Driver
from perdure.sdk.misuse import Body, active
from perdure.sdk.scope import Scope

if TYPE_CHECKING:
    from perdure.sdk.observer import Observer

T = TypeVar("T")


class ObservedDriver:
    """Hooks run in the thread of the operation, outside of all locks. Of an orphan nothing is told."""

    def __init__(self, driver: Driver, observer: "Observer") -> None:
        self._driver = driver
        self._observer = observer
        self.owner = driver.owner
        self.enter = driver.enter
        self.fan_out = driver.fan_out
        self.settle = driver.settle
        self.leave = driver.leave

    def __getattr__(self, name: str) -> Any:
        """What one kind of driver has beyond all drivers, for its own kind of context."""
        return getattr(self._driver, name)

    @property
    def foreigner(self) -> str:
        return self._driver.foreigner

    async def call(self, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        now = active.get()
        if not isinstance(now, Body) or not self._observer.wants_functions:
            return await self._driver.call(body, function)
        run = self._observer.body_started(now.operation_id, now.attempt)
        try:
            result = await self._driver.call(body, function)
        except BaseException as error:
            self._observer.function_ended(run, error)
            raise
        self._observer.function_ended(run, None)
        return result

    async def call_within(self, seconds: int, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        now = active.get()
        if not isinstance(now, Body) or not self._observer.wants_functions:
            return await self._driver.call_within(seconds, body, function)
        run = self._observer.body_started(now.operation_id, now.attempt)
        try:
            result = await self._driver.call_within(seconds, body, function)
        except BaseException as error:
            self._observer.function_ended(run, error)
            raise
        self._observer.function_ended(run, None)
        return result

    async def commit(self, scope: Scope, update: OperationUpdate, *, durable: bool) -> None:
        if update.action is OperationAction.START:
            if not scope.is_orphaned:
                self._observer.starting(update)
            await self._driver.commit(scope, update, durable=durable)
            return
        self._observer.closing(update)
        await self._driver.commit(scope, update, durable=durable)
        self._observer.closed(update)

    async def close(self, scope: Scope, update: OperationUpdate, inner: Scope, *, durable: bool) -> None:
        """What nobody would wait for is waited for if somebody is told of its end."""
        self._observer.closing(update)
        await self._driver.close(scope, update, inner, durable=durable or self._observer.wants_ends)
        self._observer.closed(update)

    async def park(self, scope: Scope, update: OperationUpdate) -> None:
        if update.action is OperationAction.START and not scope.is_orphaned:
            if update.type is OperationType.CHAINED_INVOKE:
                header = self._observer.trace_header(update)
                if header is not None:
                    update = msgspec.structs.replace(update, trace_header=header)
            self._observer.starting(update)
        await self._driver.park(scope, update)

    async def until(
        self, operation_id: str, is_good: Callable[[Operation], bool], what: str, due_ms: int | None
    ) -> Operation:
        record = await self._driver.until(operation_id, is_good, what, due_ms)
        if record.is_terminal:
            self._observer.claim(operation_id)
        return record
