"""What stands between a handler and its service in a test: mocks of bodies, and faults."""

from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from perdure.model.operation import Operation, OperationAction, OperationUpdate
from perdure.sdk.drivers.blocking import BlockingDriver
from perdure.sdk.misuse import Body, active
from perdure.sdk.scope import Scope
from perdure.testing.paths import is_glob, select

T = TypeVar("T")


class ProcessDied(BaseException):
    """The process of an invocation is dead, as a test wanted it: nothing of that invocation has any effect any more.

    It is no Exception, so that handlers do not catch it; their `finally` blocks run, which in a dead process they would
    not.
    """


class Hooks(Protocol):
    """What looks on at one invocation. Each method may raise ProcessDied."""

    def starting(self, update: OperationUpdate) -> None:
        """An operation is about to begin."""
        ...

    def ended(self, operation_id: str) -> None:
        """An operation has ended, and that is recorded."""
        ...

    def has_to_record(self, operation_id: str) -> bool:
        """Whether the end of this operation must be recorded before the code goes on."""
        ...

    def instead(
        self, operation_id: str, attempt: int, body: Callable[[], Any], function: Callable[..., Any]
    ) -> tuple[Callable[[], Any], Callable[..., Any]]:
        """What runs in the place of a body, and the function that it is."""
        ...


if TYPE_CHECKING:
    from perdure.sdk.drivers.loop import LoopDriver

    _Driver = BlockingDriver
else:
    _Driver = object


class Hooked(_Driver):
    """A driver that tells of what it does before it does it, or after."""

    hooks: Hooks

    async def call(self, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        body, function = self._instead(body, function)
        return await super().call(body, function)

    async def call_within(self, seconds: int, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        body, function = self._instead(body, function)
        return await super().call_within(seconds, body, function)

    async def enter(self, body: Callable[[], T | Awaitable[T]], function: Callable[..., Any]) -> T:
        body, function = self._instead(body, function)
        return await super().enter(body, function)

    def _instead(
        self, body: Callable[[], Any], function: Callable[..., Any]
    ) -> tuple[Callable[[], Any], Callable[..., Any]]:
        now: object = active.get()
        if isinstance(now, Body):
            return self.hooks.instead(now.operation_id, now.attempt, body, function)
        if isinstance(now, Scope):
            return self.hooks.instead(now.prefix, 1, body, function)
        return body, function

    async def commit(self, scope: Scope, update: OperationUpdate, *, durable: bool) -> None:
        if update.action is OperationAction.START:
            self.hooks.starting(update)
            await super().commit(scope, update, durable=durable)
            return
        await super().commit(scope, update, durable=durable)
        self.hooks.ended(update.id)

    async def close(self, scope: Scope, update: OperationUpdate, inner: Scope, *, durable: bool) -> None:
        await super().close(scope, update, inner, durable=durable or self.hooks.has_to_record(update.id))
        self.hooks.ended(update.id)

    async def park(self, scope: Scope, update: OperationUpdate) -> None:
        if update.action is OperationAction.START:
            self.hooks.starting(update)
        await super().park(scope, update)

    async def until(
        self, operation_id: str, is_good: Callable[[Operation], bool], what: str, due_ms: int | None
    ) -> Operation:
        record = await super().until(operation_id, is_good, what, due_ms)
        if record.is_terminal:
            self.hooks.ended(operation_id)
        return record


D = TypeVar("D", bound="BlockingDriver | LoopDriver")


def hooked(driver: D, hooks: Hooks) -> D:
    """The same driver, of any kind, with hooks."""
    changed: Any = driver
    kind: Any = type(driver)
    changed.__class__ = _with_hooks(kind)
    changed.hooks = hooks
    return driver


@cache
def _with_hooks(kind: type[Any]) -> type[Any]:
    return type(f"Hooked{kind.__name__}", (Hooked, kind), {})


class Place:
    """An operation among others: what a path is matched with."""

    __slots__ = ("children", "id", "name", "parent_id")

    def __init__(self, operation_id: str, name: str | None, parent_id: str | None, kind: str | None) -> None:
        self.id = operation_id
        self.name = name or f"({kind})"
        self.parent_id = parent_id
        self.children: list[Place] = []


class Places:
    """The operations that one invocation knows of, in the order in which they started."""

    def __init__(self, records: Mapping[str, Operation]) -> None:
        self._places: dict[str, Place] = {}
        self._roots: list[Place] = []
        for record in list(records.values()):
            self._add(Place(record.id, record.name, record.parent_id, record.sub_type))

    def begin(self, update: OperationUpdate) -> None:
        """One more, unless it is known."""
        if update.id not in self._places:
            self._add(Place(update.id, update.name, update.parent_id, update.sub_type))

    def _add(self, place: Place) -> None:
        self._places[place.id] = place
        parent = self._places.get(place.parent_id or "")
        (self._roots if parent is None else parent.children).append(place)

    def matches(self, path: str, operation_id: str) -> bool:
        """Whether `path` means this operation: its name wherever it is, or a path from the top."""
        place = self._places.get(operation_id)
        if place is None:
            return False
        if is_name(path):
            return place.name == path
        found = select(self._roots, path, name=lambda each: each.name, children=lambda each: each.children)
        return any(each is place for each in found)


def is_name(path: str) -> bool:
    """Whether a path is a mere name, which means every operation of that name."""
    return "/" not in path and "[" not in path and "\\" not in path and not is_glob(path)
