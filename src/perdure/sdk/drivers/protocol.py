"""All that an operation asks of the world."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeVar

from perdure.model.operation import Operation, OperationUpdate
from perdure.sdk.scope import Scope

T = TypeVar("T")

UPDATES_MAX: Final = 1_000
"""So many updates are sent at once: far below what a service of our own takes, far above what AWS does."""


class Driver(Protocol):
    """Runs bodies, makes updates durable, runs branches beside each other."""

    async def call(self, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        """Run a body of the author's; `function` is what the author wrote, `body` calls it."""
        ...

    async def call_within(self, seconds: int, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        """The same; raises TimeoutError if it takes longer."""
        ...

    async def enter(self, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        """The same for a function that gets a context: it blocks in durable operations, and nowhere else."""
        ...

    async def commit(self, scope: Scope, update: OperationUpdate, *, durable: bool) -> None:
        """Have `update` recorded: before this returns if `durable`, else together with whatever is recorded next.

        Raises what ends the invocation: OrphanedChildException if the context has ended, SuspendExecution if the right
        to write is gone, BackgroundThreadError if the service can't be reached.
        """
        ...

    async def close(self, scope: Scope, update: OperationUpdate, inner: Scope, *, durable: bool) -> None:
        """Have the end of the context `inner` recorded; from now on nothing within may be recorded any more."""
        ...

    async def park(self, scope: Scope, update: OperationUpdate) -> None:
        """Have an update recorded after which this branch can only wait."""
        ...

    async def until(
        self, operation_id: str, is_good: Callable[[Operation], bool], what: str, due_ms: int | None
    ) -> Operation:
        """The record of an operation once `is_good` of it; `due_ms` is when it becomes so by itself, if it does.

        Raises SuspendExecution if that is not worth waiting for.
        """
        ...

    def owner(self) -> object:
        """Who is running now: the thread or the task."""
        ...

    @property
    def foreigner(self) -> str:
        """What to call somebody else than the owner of a context."""
        ...

    async def fan_out(self, work: "FanOut") -> None:
        """Run branches beside each other until the work says that it is over.

        Raises SuspendExecution once all that is left of them waits, and whatever must not stay within a branch.
        """
        ...

    def leave(self, scope: Scope) -> None:
        """The function of a context is over: what was started in it, and has not ended, never runs again."""
        ...

    async def settle(self, futures: "Sequence[Settling]", is_enough: Callable[[], bool]) -> None:
        """Return once enough of the futures have an outcome. Raises SuspendExecution if all that is left waits."""
        ...


class Branch(Protocol):
    """One of several things that run beside each other. It may be run again, over what it has recorded."""

    def run(self) -> Coroutine[Any, Any, Any]: ...


class FanOut(Protocol):
    """What a driver has to know of branches: which to start, and when to stop. Asked from one thread."""

    @property
    def is_serial(self) -> bool:
        """At most one branch is in flight at a time."""
        ...

    @property
    def is_over(self) -> bool: ...

    def next(self) -> Branch | None:
        """The next branch to start; None while there is none, or enough are in flight."""
        ...

    def ended(self, branch: Any, outcome: Any) -> None:
        """The branch returned `outcome`."""
        ...


class Settling(Protocol):
    """Something that will have an outcome."""

    is_settled: bool

    @property
    def scope(self) -> Scope: ...

    def tell(self, listener: Any) -> None:
        """Have `listener.settle` called once there is an outcome."""
        ...
