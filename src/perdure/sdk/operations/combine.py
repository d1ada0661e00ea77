"""Several futures as one operation: which of them counted is recorded, so that a replay goes the same way.

Each is one CONTEXT, as in the JavaScript SDK. What the futures came to is in their own records.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from perdure.exceptions import DurableOperationError, PromiseCombinatorError
from perdure.futures import Promise, Settled
from perdure.sdk.journal import Begun
from perdure.sdk.operations.child import ChildOptions, child
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session

SUB_TYPE: Final = "RunInChildContext"

Futures = Sequence[Promise[Any]]


def all_of(session: Session, scope: Scope, futures: Futures, name: str | None) -> Begun[tuple[Any, ...]]:
    """The values of all; raises PromiseCombinatorError as soon as one has failed."""

    async def body(_inner: Scope) -> None:
        tally = _Tally(futures)
        await session.driver.settle(futures, lambda: tally.is_complete or tally.failed > 0)
        failed = _first([each for each in futures if each.error is not None])
        if failed is not None:
            raise _failure_of(failed)

    begun = _recorded(session, scope, body, name)

    async def run() -> tuple[Any, ...]:
        await begun()
        await _settle_all(session, futures)
        return tuple(each.value for each in futures)

    return run


def all_settled_of(session: Session, scope: Scope, futures: Futures, name: str | None) -> Begun[list[Settled[Any]]]:
    """How each of them ended; never raises because one has failed."""

    async def body(_inner: Scope) -> None:
        await _settle_all(session, futures)
        for each in futures:
            _let_through(each)

    begun = _recorded(session, scope, body, name)

    async def run() -> list[Settled[Any]]:
        await begun()
        await _settle_all(session, futures)
        return [_settled(each) for each in futures]

    return run


def any_of(session: Session, scope: Scope, futures: Futures, name: str | None) -> Begun[Any]:
    """The value of the first that succeeds; PromiseCombinatorError if none does."""

    async def body(_inner: Scope) -> int:
        tally = _Tally(futures)
        await session.driver.settle(futures, lambda: tally.is_complete or tally.settled > tally.failed)
        for each in futures:
            _let_through(each)
        winner = _first([each for each in futures if each.is_settled and each.error is None])
        if winner is None:
            reasons = "; ".join(f"{type(each.error).__name__}: {each.error}" for each in futures)
            raise PromiseCombinatorError(f"all {len(futures)} futures failed: {reasons}" if futures else "no futures")
        return futures.index(winner)

    return _value_of(session, futures, _recorded(session, scope, body, name))


def race_of(session: Session, scope: Scope, futures: Futures, name: str | None) -> Begun[Any]:
    """What the first that ends comes to: its value, or PromiseCombinatorError for its failure."""
    begun = first_of(session, scope, futures, name, is_failing=True)
    return _value_of(session, futures, begun)


def first_of(
    session: Session, scope: Scope, futures: Futures, name: str | None, *, is_failing: bool = False
) -> Begun[int]:
    """The index of the first that ends."""

    async def body(_inner: Scope) -> int:
        tally = _Tally(futures)
        await session.driver.settle(futures, lambda: tally.settled > 0)
        winner = _first([each for each in futures if each.is_settled])
        assert winner is not None
        _let_through(winner)
        if is_failing and winner.error is not None:
            raise _failure_of(winner)
        return futures.index(winner)

    return _recorded(session, scope, body, name)


# --- parts -------------------------------------------------------------------------------------------------------


class _Tally:
    """How many of the futures have ended, counted as they do: asking costs the same however many there are."""

    def __init__(self, futures: Futures) -> None:
        self.total = len(futures)
        self.settled = 0
        self.failed = 0
        for future in futures:
            future.tell(_Counted(self, future))

    @property
    def is_complete(self) -> bool:
        return self.settled == self.total


class _Counted:
    """Counts one future when it ends."""

    __slots__ = ("_future", "_tally")

    def __init__(self, tally: _Tally, future: Promise[Any]) -> None:
        self._tally = tally
        self._future = future

    def settle(self, _value: None, _error: None) -> None:
        self._tally.settled += 1
        self._tally.failed += self._future.error is not None


async def _settle_all(session: Session, futures: Futures) -> None:
    tally = _Tally(futures)
    await session.driver.settle(futures, lambda: tally.is_complete)


def _recorded(session: Session, scope: Scope, body: Callable[[Scope], Awaitable[Any]], name: str | None) -> Begun[Any]:
    return child(session, scope, body, name, ChildOptions(SUB_TYPE, error_mapper=_as_combinator_error))


def _value_of(session: Session, futures: Futures, begun: Begun[int]) -> Begun[Any]:
    """The value of the future whose index was recorded: its own record has it, whatever the others do now."""

    async def run() -> Any:
        winner = futures[await begun()]
        await session.driver.settle([winner], lambda: winner.is_settled)
        return winner.value

    return run


def _first(settled: Futures) -> Promise[Any] | None:
    return min(settled, key=lambda each: each.number, default=None)


def _let_through(promise: Promise[Any]) -> None:
    """What is no outcome of an operation, but the end of the invocation, is raised as it is."""
    if promise.error is not None and not isinstance(promise.error, Exception):
        raise promise.error


def _failure_of(promise: Promise[Any]) -> Exception:
    _let_through(promise)
    assert isinstance(promise.error, Exception)
    return promise.error


def _settled(promise: Promise[Any]) -> Settled[Any]:
    if promise.error is not None:
        return Settled("rejected", None, _failure_of(promise))
    return Settled("fulfilled", promise.value)


def _as_combinator_error(error: DurableOperationError) -> DurableOperationError:
    if isinstance(error.__cause__, PromiseCombinatorError):
        return error.__cause__
    return PromiseCombinatorError(error.message, error.error_type, error.data, error.stack_trace)
