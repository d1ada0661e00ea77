"""What an `async def` handler gets: the same operations under the same names, each to be awaited."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from perdure.config import (
    CallbackConfig,
    ChildConfig,
    DurationLike,
    InvokeConfig,
    StepConfig,
    WaitForCallbackConfig,
)
from perdure.context import ExecutionContext
from perdure.exceptions import ContextUsageError, ValidationError
from perdure.futures import AsyncDurableFuture
from perdure.sdk.calls import DEFAULT_CALLBACK, Calls, with_arguments, with_result_type
from perdure.sdk.journal import Begun
from perdure.sdk.operations.callback import callback_result
from perdure.types import StepContext

if TYPE_CHECKING:
    from perdure.batches import MapConfig, ParallelBranch, ParallelConfig
    from perdure.concurrency.models import BatchResult
    from perdure.futures import Settled
    from perdure.saga import AsyncSaga
    from perdure.sdk.drivers.loop import LoopDriver
    from perdure.serdes import SerDes
    from perdure.timeouts import AsyncTimeout
    from perdure.types import DurableFunction, FunctionRef
    from perdure.waits import WaitForConditionConfig

__all__ = ["AsyncCallback", "AsyncDurableContext"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
P = ParamSpec("P")
_Branch = Callable[["AsyncDurableContext"], Awaitable[T]]


class AsyncCallback(Generic[T_co]):
    """An id that somebody outside completes; awaiting it waits for the answer.

    Unpacks as `future, callback_id`.
    """

    def __init__(
        self, callback_id: str, operation_id: str, context: "AsyncDurableContext", serdes: "SerDes[T_co] | None" = None
    ) -> None:
        self.callback_id = callback_id
        self.operation_id = operation_id
        self.serdes = serdes
        self._context = context
        self._future: AsyncDurableFuture[T_co] | None = None

    def result(self) -> AsyncDurableFuture[T_co]:
        """The answer: a text unless the callback has a serdes, None if it was empty.

        Raises CallbackExternalError if a failure was reported, CallbackTimeoutError if nobody answered in time.
        """
        if self._future is None:
            self._future = self._context._answer_of(self)
        return self._future

    def __await__(self) -> Any:
        return self.result().__await__()

    def __iter__(self) -> "Iterator[AsyncCallback[T_co] | str]":
        return iter((self, self.callback_id))

    def __repr__(self) -> str:
        return f"AsyncCallback({self.callback_id!r})"


class AsyncDurableContext(Calls):
    """The durable operations of one `async def` handler or child context.

    Each call takes its place in the journal at once, and gives a future: `await` it, or several with `gather`. A
    context belongs to the task that received it; tasks that need operations of their own get a context with `child`.
    """

    @property
    def execution_context(self) -> ExecutionContext:
        return ExecutionContext(self._session.arn)

    # --- operations ----------------------------------------------------------------------------------------------

    @overload
    def step(
        self,
        func: "Callable[[StepContext], Awaitable[T]]",
        name: str | None = None,
        config: StepConfig | None = None,
        *,
        id: str | None = None,
    ) -> AsyncDurableFuture[T]: ...

    @overload
    def step(
        self,
        func: "Callable[[], Awaitable[T]]",
        name: str | None = None,
        config: StepConfig | None = None,
        *,
        id: str | None = None,
    ) -> AsyncDurableFuture[T]: ...

    @overload
    def step(
        self,
        func: "Callable[[StepContext], T]",
        name: str | None = None,
        config: StepConfig | None = None,
        *,
        id: str | None = None,
    ) -> AsyncDurableFuture[T]: ...

    @overload
    def step(
        self,
        func: "Callable[[], T]",
        name: str | None = None,
        config: StepConfig | None = None,
        *,
        id: str | None = None,
    ) -> AsyncDurableFuture[T]: ...

    def step(self, func: Any, name: Any = None, config: StepConfig | None = None, *, id: str | None = None) -> Any:  # noqa: A002
        """Run `func` once, record what it returns, and return that at every replay.

        An `async def` function runs on the loop, another one in a thread: it never blocks the loop. Retries and errors
        are those of `DurableContext.step`.

        An `id` takes the step out of the order: code before it may come and go in running executions.
        """
        return self._future(self._step(func, name, config, id), "step", name)

    def wait(self, duration: DurationLike, name: str | None = None) -> AsyncDurableFuture[None]:
        """Go on after `duration`: from 1 second to 366 days, without running meanwhile."""
        return self._future(self._wait(duration, name), "wait", name)

    @overload
    def create_callback(
        self, name: str | None = None, config: CallbackConfig | None = None, *, result_type: type[T]
    ) -> AsyncDurableFuture[AsyncCallback[T]]: ...

    @overload
    def create_callback(
        self, name: str | None = None, config: CallbackConfig | None = None
    ) -> AsyncDurableFuture[AsyncCallback[Any]]: ...

    def create_callback(
        self, name: str | None = None, config: CallbackConfig | None = None, *, result_type: Any = None
    ) -> AsyncDurableFuture[AsyncCallback[Any]]:
        """Make an id that somebody outside can complete; awaiting what this gives when awaited waits for the answer.

        With a `result_type` the answer is plain JSON, read as that.
        """
        how = with_result_type(config or DEFAULT_CALLBACK, "serdes", result_type)
        begun = self._create_callback(name, how)

        async def run() -> AsyncCallback[Any]:
            record = await begun()
            return AsyncCallback(record.callback_id, record.id, self, how.serdes)

        return self._future(run, "create_callback", name)

    def _answer_of(self, callback: AsyncCallback[T]) -> AsyncDurableFuture[T]:
        begun = partial(callback_result, self._session, callback.operation_id, callback.serdes)
        future = self._future(begun, "create_callback(…).result", None)
        future.place = callback.operation_id
        return future

    @overload
    def wait_for_callback(
        self,
        submitter: Callable[..., Any],
        name: str | None = None,
        config: WaitForCallbackConfig | None = None,
        *,
        result_type: type[T],
    ) -> AsyncDurableFuture[T]: ...

    @overload
    def wait_for_callback(
        self, submitter: Callable[..., Any], name: str | None = None, config: WaitForCallbackConfig | None = None
    ) -> AsyncDurableFuture[Any]: ...

    def wait_for_callback(
        self,
        submitter: Callable[..., Any],
        name: str | None = None,
        config: WaitForCallbackConfig | None = None,
        *,
        result_type: Any = None,
    ) -> AsyncDurableFuture[Any]:
        """Make a callback, hand its id to `submitter(callback_id)` or `submitter(callback_id, context)` in a step, and
        wait for the answer. Errors are those of `DurableContext.wait_for_callback`.
        """
        begun = self._wait_for_callback(submitter, name, config, result_type)
        return self._future(begun, "wait_for_callback", name)

    @overload
    def invoke(
        self,
        function_name: "FunctionRef[U, T] | DurableFunction[U, T]",
        payload: U,
        name: str | None = None,
        config: InvokeConfig | None = None,
    ) -> AsyncDurableFuture[T]: ...

    @overload
    def invoke(
        self,
        function_name: str,
        payload: Any = None,
        name: str | None = None,
        config: InvokeConfig | None = None,
        *,
        result_type: type[T],
    ) -> AsyncDurableFuture[T]: ...

    @overload
    def invoke(
        self, function_name: str, payload: Any = None, name: str | None = None, config: InvokeConfig | None = None
    ) -> AsyncDurableFuture[Any]: ...

    def invoke(
        self,
        function_name: Any,
        payload: Any = None,
        name: str | None = None,
        config: InvokeConfig | None = None,
        *,
        result_type: Any = None,
    ) -> AsyncDurableFuture[Any]:
        """Invoke another function and wait for its result. Raises InvokeError if it fails or can't be found.

        The function is its name or ARN, a durable handler, or a `FunctionRef`; its result is plain JSON, read as
        `result_type` if one is given.
        """
        return self._future(self._invoke(function_name, payload, name, config, result_type), "invoke", name)

    def run_in_child_context(
        self,
        func: "Callable[[AsyncDurableContext], Awaitable[T]]",
        name: str | None = None,
        config: ChildConfig[T] | None = None,
    ) -> AsyncDurableFuture[T]:
        """Run `func(context)` with a context of its own and record its result as one operation.

        Raises ChildContextError if it fails, SerDesError if its result can't be recorded.
        """
        return self._future(self._child(func, name, config), "run_in_child_context", name)

    def child(
        self, func: "Callable[Concatenate[AsyncDurableContext, P], Awaitable[T]]", *args: P.args, **kwargs: P.kwargs
    ) -> AsyncDurableFuture[T]:
        """Run `func(context, *args, **kwargs)` in a child context."""
        return self._future(self._child(with_arguments(func, args, kwargs), None, None), "child", None)

    @overload
    def map(
        self,
        inputs: Iterable[U],
        func: "Callable[[AsyncDurableContext, U], Awaitable[T]]",
        name: str | None = None,
        config: "MapConfig | None" = None,
    ) -> "AsyncDurableFuture[BatchResult[T]]": ...

    @overload
    def map(
        self,
        inputs: Iterable[U],
        func: "Callable[[AsyncDurableContext, U, int], Awaitable[T]]",
        name: str | None = None,
        config: "MapConfig | None" = None,
    ) -> "AsyncDurableFuture[BatchResult[T]]": ...

    @overload
    def map(
        self,
        inputs: Iterable[U],
        func: "Callable[[AsyncDurableContext, U, int, list[U]], Awaitable[T]]",
        name: str | None = None,
        config: "MapConfig | None" = None,
    ) -> "AsyncDurableFuture[BatchResult[T]]": ...

    def map(
        self,
        inputs: Iterable[Any],
        func: Callable[..., Any],
        name: str | None = None,
        config: "MapConfig | None" = None,
    ) -> "AsyncDurableFuture[BatchResult[Any]]":
        """Run `func(context, item)` once for each of `inputs`, each in a task and a context of its own.

        As `DurableContext.map`, without threads; a branch that is not needed any more is cancelled.
        """
        return self._future(self._map(inputs, func, name, config), "map", name)

    @overload
    def parallel(
        self,
        functions: "tuple[_Branch[T1], _Branch[T2]]",
        name: str | None = None,
        config: "ParallelConfig | None" = None,
    ) -> "AsyncDurableFuture[BatchResult[T1 | T2]]": ...

    @overload
    def parallel(
        self,
        functions: "tuple[_Branch[T1], _Branch[T2], _Branch[T3]]",
        name: str | None = None,
        config: "ParallelConfig | None" = None,
    ) -> "AsyncDurableFuture[BatchResult[T1 | T2 | T3]]": ...

    @overload
    def parallel(
        self,
        functions: "tuple[_Branch[T1], _Branch[T2], _Branch[T3], _Branch[T4]]",
        name: str | None = None,
        config: "ParallelConfig | None" = None,
    ) -> "AsyncDurableFuture[BatchResult[T1 | T2 | T3 | T4]]": ...

    @overload
    def parallel(
        self,
        functions: "Sequence[Callable[[AsyncDurableContext], Awaitable[T]] | ParallelBranch[Awaitable[T]]]",
        name: str | None = None,
        config: "ParallelConfig | None" = None,
    ) -> "AsyncDurableFuture[BatchResult[T]]": ...

    def parallel(
        self,
        functions: Sequence[Callable[..., Any]],
        name: str | None = None,
        config: "ParallelConfig | None" = None,
    ) -> "AsyncDurableFuture[BatchResult[Any]]":
        """Run each of `functions` with a context of its own, beside each other. As `map` otherwise."""
        return self._future(self._parallel(functions, name, config), "parallel", name)

    def wait_for_condition(
        self, check: Callable[..., Any], config: "WaitForConditionConfig[T]", name: str | None = None
    ) -> AsyncDurableFuture[T]:
        """Call `check(state)` or `check(state, context)` again and again, without running in between, until the
        configuration's strategy says that its result is good. Raises WaitForConditionError as in blocking handlers.
        """
        return self._future(self._wait_for_condition(check, config, name), "wait_for_condition", name)

    def saga(self, undo_config: StepConfig | None = None) -> "AsyncSaga":
        """`async with context.saga() as saga:` undoes what its steps did if the block raises; see `AsyncSaga`."""
        from perdure.saga import AsyncSaga

        return AsyncSaga(self, undo_config)

    def timeout(self, duration: DurationLike | None = None, **units: float) -> "AsyncTimeout":
        """`async with context.timeout(hours=2):` raises DurableTimeoutError at what is still awaited after that.

        `units` are days, hours, minutes and seconds.
        """
        from perdure.timeouts import AsyncTimeout

        return AsyncTimeout(self, self._seconds_of(duration, units))

    def continue_as_new(self, payload: Any = None, name: str | None = None) -> AsyncDurableFuture[Any]:
        """Go on as a new execution of this function, with a history of its own; as in blocking handlers."""
        return self._future(self._continue_as_new(payload, name), "continue_as_new", name)

    # --- several at once -----------------------------------------------------------------------------------------

    @property
    def start(self) -> "AsyncStarter":
        """Begin an operation without waiting for it: `future = context.start.step(f)`, later `await future`."""
        return AsyncStarter(self)

    async def gather(self, *futures: Awaitable[T]) -> tuple[T, ...]:
        """The results of all, in their order; raises what the first that failed raised. Records nothing."""
        import asyncio

        return tuple(await asyncio.gather(*futures))

    def all(
        self, *futures: "AsyncDurableFuture[T] | AsyncCallback[T]", name: str | None = None
    ) -> AsyncDurableFuture[tuple[T, ...]]:
        """The results of all, once all are there. Raises PromiseCombinatorError as soon as one has failed."""
        from perdure.sdk.operations.combine import all_of

        return self._combined("all", all_of, futures, name)

    def all_settled(
        self, *futures: "AsyncDurableFuture[T] | AsyncCallback[T]", name: str | None = None
    ) -> "AsyncDurableFuture[list[Settled[T]]]":
        """How each of them ended, once all have."""
        from perdure.sdk.operations.combine import all_settled_of

        return self._combined("all_settled", all_settled_of, futures, name)

    def any(
        self, *futures: "AsyncDurableFuture[T] | AsyncCallback[T]", name: str | None = None
    ) -> AsyncDurableFuture[T]:
        """The result of the first that succeeds. Raises PromiseCombinatorError if all fail."""
        from perdure.sdk.operations.combine import any_of

        return self._combined("any", any_of, futures, name)

    def race(
        self, *futures: "AsyncDurableFuture[T] | AsyncCallback[T]", name: str | None = None
    ) -> AsyncDurableFuture[T]:
        """The result of the first that ends; which one that was is recorded.

        `await context.race(callback, context.wait(60))` waits for a callback, but at most a minute.
        Raises PromiseCombinatorError if the first failed.
        """
        from perdure.sdk.operations.combine import race_of

        return self._combined("race", race_of, futures, name)

    async def as_completed(
        self, *futures: "AsyncDurableFuture[T] | AsyncCallback[T]", name: str | None = None
    ) -> AsyncIterator[AsyncDurableFuture[T]]:
        """The futures in the order in which they end; the order is recorded, and the same in every replay."""
        from perdure.sdk.operations.combine import first_of

        left: list[AsyncDurableFuture[T]] = [self._as_future(each) for each in futures]
        for each in left:
            each.use()
        while left:
            self._check("as_completed", name)
            yield left.pop(await first_of(self._session, self._scope, left, name or None)())

    def _combined(self, call: str, combine: Any, given: Sequence[Any], name: str | None) -> AsyncDurableFuture[Any]:
        futures = [self._as_future(each) for each in given]
        if not futures and call in ("any", "race"):
            raise ValidationError(f"{call} needs at least one future")
        self._check(call, name)
        for each in futures:
            if each.scope is not self._scope:
                raise ContextUsageError(f"{call} was given {each.call} of {each.scope} on {self._scope}: use it there")
            each.use()
        return self._future(combine(self._session, self._scope, futures, name or None), call, name)

    def _as_future(self, given: Any) -> AsyncDurableFuture[Any]:
        if isinstance(given, AsyncCallback):
            given = given.result()
        if isinstance(given, AsyncDurableFuture):
            return given.start()
        raise ValidationError(f"a future of this context or a callback is needed, not {given!r}")

    def _future(self, begun: Begun[Any], call: str, name: str | None) -> AsyncDurableFuture[Any]:
        what = f"context.{call}({name!r})" if name else f"context.{call}(…)"
        for limit in reversed(self._scope.timeouts):
            begun = limit.limited(begun)
        return AsyncDurableFuture(begun, self._scope, what, self._driver)

    @property
    def _driver(self) -> "LoopDriver":
        return cast("LoopDriver", self._session.driver)

    def _check(self, call: str, name: str | None) -> None:
        super()._check(call, name)
        if self._driver.suspended is not None:
            raise self._driver.suspended


class AsyncStarter:
    """The operations of a context, each begun at once beside the caller."""

    def __init__(self, context: AsyncDurableContext) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Callable[..., AsyncDurableFuture[Any]]:
        call = getattr(self._context, name)
        if name.startswith("_") or not callable(call):
            raise AttributeError(name)

        def start(*args: Any, **kwargs: Any) -> AsyncDurableFuture[Any]:
            future = call(*args, **kwargs)
            if not isinstance(future, AsyncDurableFuture):
                raise ValidationError(f"context.start.{name} is no operation that can be started")
            return future.start()

        return start
