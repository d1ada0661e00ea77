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

    def is_enough() -> bool:
        return all(each.is_settled for each in futures) or any(each.error is not None for each in futures)

    async def body(_inner: Scope) -> None:
        await session.driver.settle(futures, is_enough)
        failed = _first([each for each in futures if each.error is not None])
        if failed is not None:
            raise _failure_of(failed)

    begun = _recorded(session, scope, body, name)

    async def run() -> tuple[Any, ...]:
        await begun()
        await session.driver.settle(futures, lambda: all(each.is_settled for each in futures))
        return tuple(each.value for each in futures)

    return run


def all_settled_of(session: Session, scope: Scope, futures: Futures, name: str | None) -> Begun[list[Settled[Any]]]:
    """How each of them ended; never raises because one has failed."""

    async def body(_inner: Scope) -> None:
        await session.driver.settle(futures, lambda: all(each.is_settled for each in futures))
        for each in futures:
            _let_through(each)

    begun = _recorded(session, scope, body, name)

    async def run() -> list[Settled[Any]]:
        await begun()
        await session.driver.settle(futures, lambda: all(each.is_settled for each in futures))
        return [_settled(each) for each in futures]

    return run


def any_of(session: Session, scope: Scope, futures: Futures, name: str | None) -> Begun[Any]:
    """The value of the first that succeeds; PromiseCombinatorError if none does."""

    def is_enough() -> bool:
        return any(each.is_settled and each.error is None for each in futures) or all(
            each.is_settled for each in futures
        )

    async def body(_inner: Scope) -> int:
        await session.driver.settle(futures, is_enough)
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
        await session.driver.settle(futures, lambda: any(each.is_settled for each in futures))
        winner = _first([each for each in futures if each.is_settled])
        assert winner is not None
        _let_through(winner)
        if is_failing and winner.error is not None:
            raise _failure_of(winner)
        return futures.index(winner)

    return _recorded(session, scope, body, name)


# --- parts -------------------------------------------------------------------------------------------------------


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
