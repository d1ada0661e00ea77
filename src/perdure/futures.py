"""Operations that are not waited for at once: what `context.start` gives, and every call on an asynchronous context."""

import os
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, cast

from perdure.exceptions import DurableCancelledError, InvalidStateError
from perdure.sdk.identity import operation_id

if TYPE_CHECKING:
    import asyncio

    from perdure.sdk.drivers.blocking import BlockingDriver
    from perdure.sdk.drivers.crew import Unit
    from perdure.sdk.drivers.loop import LoopDriver
    from perdure.sdk.journal import Begun
    from perdure.sdk.scope import Scope

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

__all__ = ["AsyncDurableFuture", "DurableFuture", "Settled"]

_OWN: Final = os.path.dirname(__file__)  # noqa: PTH120 - pathlib takes 4 ms to load


@dataclass(frozen=True)
class Settled(Generic[T]):
    """How one of several futures ended: `value` if it is "fulfilled", `error` if it is "rejected"."""

    status: Literal["fulfilled", "rejected"]
    value: T | None = None
    error: Exception | None = None


class Promise(Generic[T_co]):
    """An operation and, once it has one, its outcome. `number` counts the outcomes of its context in their order.

    `place` is that of the operation, where it is not the latest of its context.
    """

    place: str | None = None

    def __init__(self, begun: "Begun[T_co]", scope: "Scope", call: str) -> None:
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN):
            frame = frame.f_back
        self.call = call
        self.where = (frame.f_code.co_filename, frame.f_lineno)
        self.is_settled = False
        self.number = 0
        self._begun: Begun[T_co] | None = begun
        self._scope = scope
        self._turn = scope.counter
        self._value: T_co | None = None
        self._error: BaseException | None = None
        self._listeners: list[Any] = []
        if scope.unused is None:
            scope.unused = {}
        scope.unused[self] = None

    def use(self) -> None:
        """Somebody has asked for it."""
        if self._scope.unused is not None:
            self._scope.unused.pop(self, None)

    def _run_beside(self) -> None:
        """It begins to run beside its context, which does not know its end before it has asked for it."""
        scope = self._scope
        if self.place is None:
            self.place = operation_id(scope.prefix, self._turn)
        if scope.beside is None:
            scope.beside = set()
        scope.beside.add(self.place)

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Give it its outcome; the first one counts."""
        if self.is_settled:
            return
        self.is_settled = True
        self._scope.settled += 1
        self.number = self._scope.settled
        self._value, self._error = value, error
        self._begun = None
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.settle(None, None)

    def tell(self, listener: Any) -> None:
        if self.is_settled:
            listener.settle(None, None)
        else:
            self._listeners.append(listener)

    @property
    def error(self) -> BaseException | None:
        return self._error

    @property
    def value(self) -> T_co:
        """The outcome, returned or raised."""
        if self._error is not None:
            raise self._error
        return cast(T_co, self._value)

    @property
    def scope(self) -> "Scope":
        return self._scope

    def __repr__(self) -> str:
        state = "settled" if self.is_settled else "open"
        return f"<{type(self).__name__} of {self.call}, {state}>"


class DurableFuture(Promise[T_co]):
    """An operation that has been started in a blocking handler.

    It runs beside what the handler does next. A handler or a child that ends without having asked for it fails.
    """

    def __init__(
        self,
        begun: "Begun[T_co]",
        scope: "Scope",
        call: str,
        driver: "BlockingDriver",
        run: "Callable[[Begun[None]], None]",
    ) -> None:
        super().__init__(begun, scope, call)
        self._driver = driver
        self._run = run
        self.unit: Unit | None = None

    def start(self, *, light: bool) -> None:
        """Begin to run it; `light` says that it never runs anything of the author's, and needs no thread."""
        assert self._begun is not None
        self._run_beside()
        self.unit = self._driver.start(self._scope, self, self._begun, light=light)

    def result(self) -> T_co:
        """What the operation returned, once it has; raises what it raised."""
        self.use()
        if not self.is_settled:
            self._run(lambda: self._driver.settle([self], lambda: self.is_settled))
        self._driver.asked_for(self._scope, self.place)
        return self.value

    @property
    def has_ended(self) -> bool:
        self._driver.collect(self._scope)
        return self.is_settled

    def exception(self) -> Exception | None:
        """What the operation raised, once it has ended; None if it returned."""
        try:
            self.result()
        except Exception as error:  # noqa: BLE001 - it is what was asked for
            return error
        return None

    def done(self) -> bool:
        """Whether it has ended by now. Not the same in every run: nothing durable should depend on it."""
        self.use()
        self._driver.collect(self._scope)
        return self.is_settled

    def cancel(self) -> bool:
        """Never run it again. False if it has ended, or runs right now; then it goes on."""
        self.use()
        if self.is_settled or self.unit is None or not self._driver.drop(self.unit):
            return False
        self.settle(None, DurableCancelledError(f"{self.call} was cancelled"))
        return True


class AsyncDurableFuture(Promise[T_co]):
    """An operation of an asynchronous handler: `await` it. It has its place in the journal since it was called.

    It begins to run when it is awaited, or given to something that awaits it; `start()` lets it begin at once. A
    handler or a child that ends without having awaited it fails.
    """

    def __init__(self, begun: "Begun[T_co]", scope: "Scope", call: str, driver: "LoopDriver") -> None:
        super().__init__(begun, scope, call)
        self._driver = driver
        self._task: asyncio.Task[Any] | None = None
        self._is_running = False

    def start(self) -> "AsyncDurableFuture[T_co]":
        """Begin to run it beside the caller."""
        if self._task is None and not self._is_running and not self.is_settled:
            self._is_running = True
            self._run_beside()
            self._task = self._driver.spawn(self._drive())
        return self

    def __await__(self) -> Generator[Any, None, T_co]:
        self.use()
        if not self.is_settled:
            if not self._is_running:
                self._is_running = True
                yield from self._drive().__await__()
            else:
                yield from self._driver.settle([self], lambda: self.is_settled).__await__()
        self._driver.asked_for(self._scope, self.place)
        return self.value

    async def _drive(self) -> None:
        begun = self._begun
        assert begun is not None
        try:
            value = await begun()
        except BaseException as error:
            self.settle(None, error)
            if self._task is not None and not isinstance(error, Exception):
                raise
        else:
            self.settle(value, None)

    def result(self) -> T_co:
        """What the operation returned; raises what it raised, InvalidStateError if it has not ended."""
        self.use()
        if not self.is_settled:
            raise InvalidStateError(f"{self.call} has not ended; await it")
        self._driver.asked_for(self._scope, self.place)
        return self.value

    def exception(self) -> BaseException | None:
        """What the operation raised; None if it returned. InvalidStateError if it has not ended."""
        self.use()
        if not self.is_settled:
            raise InvalidStateError(f"{self.call} has not ended; await it")
        return self.error

    def done(self) -> bool:
        """Whether it has ended by now. Not the same in every run: nothing durable should depend on it."""
        return self.is_settled

    def cancel(self) -> bool:
        """Never run it, or stop it where it awaits something. False if it has ended, or is awaited elsewhere."""
        self.use()
        if self.is_settled or (self._is_running and self._task is None):
            return False
        if self._task is not None:
            self._task.cancel()
        self.settle(None, DurableCancelledError(f"{self.call} was cancelled"))
        return True
