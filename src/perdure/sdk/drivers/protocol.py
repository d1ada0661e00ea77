"""All that an operation asks of the world."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from perdure.model.operation import Operation, OperationUpdate
from perdure.sdk.scope import Scope

T = TypeVar("T")


class Driver(Protocol):
    """Runs bodies and makes updates durable."""

    async def call(self, body: Callable[[], T | Awaitable[T]]) -> T:
        """Run a body of the author's."""
        ...

    async def commit(self, scope: Scope, update: OperationUpdate, *, durable: bool) -> None:
        """Have `update` recorded: before this returns if `durable`, else together with whatever is recorded next.

        Raises what ends the invocation: OrphanedChildException if the context has ended, SuspendExecution if the right
        to write is gone, BackgroundThreadError if the service can't be reached.
        """
        ...

    async def park(self, scope: Scope, update: OperationUpdate) -> Operation | None:
        """Have an update recorded after which this branch can only wait.

        Returns the operation's record if the service has answered already, None if the answer comes with the next
        invocation.
        """
        ...
