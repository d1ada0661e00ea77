"""What a handler gets: the context with its durable operations, and the decorators for the functions it hands over."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from perdure.config import (
    CallbackConfig,
    ChildConfig,
    DurationLike,
    InvokeConfig,
    StepConfig,
    StepSemantics,
    WaitForCallbackConfig,
)
from perdure.exceptions import ContextUsageError, SuspendExecution, ValidationError
from perdure.model.operation import Callback as CallbackRecord
from perdure.sdk.calls import DEFAULT_CALLBACK, Calls, with_arguments, with_result_type
from perdure.sdk.drivers.running import run_blocking
from perdure.sdk.journal import Begun
from perdure.sdk.operations.callback import callback_result
from perdure.types import StepContext, WaitForCallbackContext

if TYPE_CHECKING:
    from perdure.batches import MapConfig, ParallelBranch, ParallelConfig, durable_parallel_branch
    from perdure.concurrency.models import BatchResult
    from perdure.futures import DurableFuture, Settled
    from perdure.saga import Saga
    from perdure.sdk.drivers.blocking import BlockingDriver
    from perdure.sdk.starting import Starter
    from perdure.serdes import SerDes
    from perdure.timeouts import Timeout
    from perdure.types import DurableFunction, FunctionRef
    from perdure.waits import WaitForConditionConfig

__all__ = [
    "Callback",
    "DurableContext",
    "ExecutionContext",
    "StepContext",
    "durable_parallel_branch",
    "durable_step",
    "durable_wait_for_callback",
    "durable_with_child_context",
]

T = TypeVar("T")
U = TypeVar("U")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T_co = TypeVar("T_co", covariant=True)
U_contra = TypeVar("U_contra", contravariant=True)
P = ParamSpec("P")
_Branch = Callable[["DurableContext"], T]


@dataclass(frozen=True)
class ExecutionContext:
    """Which execution this is."""

    durable_execution_arn: str


class Callback(Generic[T_co]):
    """An id that somebody outside completes, and the place where the answer arrives.

    Unpacks as `future, callback_id`, as the JavaScript SDK returns it.
    """

    def __init__(
        self, callback_id: str, operation_id: str, state: "DurableContext", serdes: "SerDes[T_co] | None" = None
    ):
        self.callback_id = callback_id
        self.operation_id = operation_id
        self.serdes = serdes
        self._context = state

    def result(self) -> T_co:
        """The answer: a text unless the callback has a serdes, None if it was empty. Suspends until it is there.

        Raises CallbackExternalError if a failure was reported, CallbackTimeoutError if nobody answered in time.
        """
        result: T_co = self._context._callback_result(self)
        return result

    def __iter__(self) -> "Iterator[Callback[T_co] | str]":
        return iter((self, self.callback_id))

    def __repr__(self) -> str:
        return f"Callback({self.callback_id!r})"


class DurableContext(Calls):
    """The durable operations of one handler or child context.

    Everything outside of them runs again at every replay: what is not deterministic, and what has effects, belongs into
    a `step`. A context is for the function that received it: within a child context, its own is used.
    """

    @property
    def execution_context(self) -> ExecutionContext:
        return ExecutionContext(self._session.arn)

    # --- operations ----------------------------------------------------------------------------------------------

    @overload
    def step(
        self,
        func: "Callable[[StepContext], T]",
        name: str | None = None,
        config: StepConfig | None = None,
        *,
        id: str | None = None,
    ) -> T: ...

    @overload
    def step(
        self,
        func: "Callable[[], T]",
        name: str | None = None,
        config: StepConfig | None = None,
        *,
        id: str | None = None,
    ) -> T: ...

    @overload
    def step(
        self, func: str, name: "Callable[[StepContext], T]", config: StepConfig | None = None, *, id: str | None = None
    ) -> T: ...

    def step(self, func: Any, name: Any = None, config: StepConfig | None = None, *, id: str | None = None) -> Any:  # noqa: A002
        """Run `func` once, record what it returns, and return that at every replay.

        The result is a text, a number, a list, a dictionary, or what else the serdes can write. A failure is tried
        again as the configuration says: without one up to 6 attempts, with growing waits of at most a minute. Raises
        StepError once it has failed for good, SerDesError if the result can't be recorded.

        An `id` takes the step out of the order: code before it may come and go in running executions.
        """
        return self._run(self._step(func, name, config, id))

    def wait(self, duration: DurationLike, name: str | None = None) -> None:
        """Go on after `duration`: from 1 second to 366 days, without running meanwhile."""
        self._run(self._wait(duration, name))

    @overload
    def create_callback(
        self, name: str | None = None, config: CallbackConfig | None = None, *, result_type: type[T]
    ) -> Callback[T]: ...

    @overload
    def create_callback(self, name: str | None = None, config: CallbackConfig | None = None) -> Callback[Any]: ...

    def create_callback(
        self, name: str | None = None, config: CallbackConfig | None = None, *, result_type: Any = None
    ) -> Callback[Any]:
        """Make an id that somebody outside can complete; `result()` of what is returned waits for the answer.

        With a `result_type` the answer is plain JSON, read as that.
        """
        how = with_result_type(config or DEFAULT_CALLBACK, "serdes", result_type)
        record: CallbackRecord = self._run(self._create_callback(name, how))
        return Callback(record.callback_id, record.id, self, how.serdes)

    def _callback_result(self, callback: Callback[Any]) -> Any:
        self._check("create_callback(…).result", None)
        try:
            return self._run(partial(callback_result, self._session, callback.operation_id, callback.serdes))
        finally:
            self._session.journal.asked_for(self._scope, callback.operation_id)

    @overload
    def wait_for_callback(
        self,
        submitter: Callable[..., Any],
        name: str | None = None,
        config: WaitForCallbackConfig | None = None,
        *,
        result_type: type[T],
    ) -> T: ...

    @overload
    def wait_for_callback(
        self, submitter: Callable[..., Any], name: str | None = None, config: WaitForCallbackConfig | None = None
    ) -> Any: ...

    def wait_for_callback(
        self,
        submitter: Callable[..., Any],
        name: str | None = None,
        config: WaitForCallbackConfig | None = None,
        *,
        result_type: Any = None,
    ) -> Any:
        """Make a callback, hand its id to `submitter(callback_id)` or `submitter(callback_id, context)` in a step, and
        wait for the answer: a text unless the configuration has a serdes.

        Raises CallbackExternalError, CallbackTimeoutError, or CallbackSubmitterError if the submitter failed.
        """
        return self._run(self._wait_for_callback(submitter, name, config, result_type))

    @overload
    def invoke(
        self,
        function_name: "FunctionRef[U, T] | DurableFunction[U, T]",
        payload: U,
        name: str | None = None,
        config: InvokeConfig | None = None,
    ) -> T: ...

    @overload
    def invoke(
        self,
        function_name: str,
        payload: Any = None,
        name: str | None = None,
        config: InvokeConfig | None = None,
        *,
        result_type: type[T],
    ) -> T: ...

    @overload
    def invoke(
        self, function_name: str, payload: Any = None, name: str | None = None, config: InvokeConfig | None = None
    ) -> Any: ...

    def invoke(
        self,
        function_name: Any,
        payload: Any = None,
        name: str | None = None,
        config: InvokeConfig | None = None,
        *,
        result_type: Any = None,
    ) -> Any:
        """Invoke another function and wait for its result. Raises InvokeError if it fails or can't be found.

        The function is its name or ARN, a durable handler, or a `FunctionRef`; its result is plain JSON, read as
        `result_type` if one is given.
        """
        return self._run(self._invoke(function_name, payload, name, config, result_type))

    def run_in_child_context(
        self, func: "Callable[[DurableContext], T]", name: str | None = None, config: ChildConfig[T] | None = None
    ) -> T:
        """Run `func(context)` with a context of its own and record its result as one operation.

        Raises ChildContextError if it fails, SerDesError if its result can't be recorded.
        """
        result: T = self._run(self._child(func, name, config))
        return result

    @overload
    def map(
        self,
        inputs: "Iterable[U]",
        func: "Callable[[DurableContext, U], T]",
        name: str | None = None,
        config: "MapConfig | None" = None,
    ) -> "BatchResult[T]": ...

    @overload
    def map(
        self,
        inputs: "Iterable[U]",
        func: "Callable[[DurableContext, U, int], T]",
        name: str | None = None,
        config: "MapConfig | None" = None,
    ) -> "BatchResult[T]": ...

    @overload
    def map(
        self,
        inputs: "Iterable[U]",
        func: "Callable[[DurableContext, U, int, list[U]], T]",
        name: str | None = None,
        config: "MapConfig | None" = None,
    ) -> "BatchResult[T]": ...

    def map(
        self,
        inputs: Iterable[Any],
        func: Callable[..., Any],
        name: str | None = None,
        config: "MapConfig | None" = None,
    ) -> "BatchResult[Any]":
        """Run `func(context, item)` once for each of `inputs`, beside each other, each in a context of its own.

        The function may take `(context, item)`, `(context, item, index)` or `(context, item, index, items)`. At most
        64 run at the same moment; branches that wait take no thread. The first failure ends the map unless the
        configuration tolerates it; it never raises because an item has failed. Raises ValidationError if the
        configuration can't be fulfilled, nothing is recorded then.
        """
        result: BatchResult[Any] = self._run(self._map(inputs, func, name, config))
        return result

    @overload
    def parallel(
        self,
        functions: "tuple[_Branch[T1], _Branch[T2]]",
        name: str | None = None,
        config: "ParallelConfig | None" = None,
    ) -> "BatchResult[T1 | T2]": ...

    @overload
    def parallel(
        self,
        functions: "tuple[_Branch[T1], _Branch[T2], _Branch[T3]]",
        name: str | None = None,
        config: "ParallelConfig | None" = None,
    ) -> "BatchResult[T1 | T2 | T3]": ...

    @overload
    def parallel(
        self,
        functions: "tuple[_Branch[T1], _Branch[T2], _Branch[T3], _Branch[T4]]",
        name: str | None = None,
        config: "ParallelConfig | None" = None,
    ) -> "BatchResult[T1 | T2 | T3 | T4]": ...

    @overload
    def parallel(
        self,
        functions: "Sequence[Callable[[DurableContext], T] | ParallelBranch[T]]",
        name: str | None = None,
        config: "ParallelConfig | None" = None,
    ) -> "BatchResult[T]": ...

    def parallel(
        self,
        functions: Sequence[Callable[..., Any]],
        name: str | None = None,
        config: "ParallelConfig | None" = None,
    ) -> "BatchResult[Any]":
        """Run each of `functions` with a context of its own, beside each other. As `map` otherwise."""
        result: BatchResult[Any] = self._run(self._parallel(functions, name, config))
        return result

    def wait_for_condition(
        self,
        check: Callable[..., T],
        config: "WaitForConditionConfig[T]",
        name: str | None = None,
    ) -> T:
        """Call `check(state)` or `check(state, context)` again and again, without running in between, until the
        configuration's strategy says that its result is good; return that.

        Raises WaitForConditionError if the check raises, or the polls are exhausted.
        """
        result: T = self._run(self._wait_for_condition(check, config, name))
        return result

    def saga(self, undo_config: StepConfig | None = None) -> "Saga":
        """`with context.saga() as saga:` undoes what its steps did if the block raises; see `Saga`."""
        from perdure.saga import Saga

        return Saga(self, undo_config)

    def timeout(self, duration: DurationLike | None = None, **units: float) -> "Timeout":
        """`with context.timeout(hours=2):` raises DurableTimeoutError at the operation that still waits after that.

        What was begun in the block and has not ended is given up. `units` are days, hours, minutes and seconds.
        """
        from perdure.timeouts import Timeout

        return Timeout(self, self._seconds_of(duration, units))

    def continue_as_new(self, payload: Any = None, name: str | None = None) -> Any:
        """Go on as a new execution of this function, with a history of its own: `return context.continue_as_new(…)`.

        What that returns, or fails with, is what this one does. This one waits for it on disk, and takes nothing else.
        """
        return self._run(self._continue_as_new(payload, name))

    # --- several at once -----------------------------------------------------------------------------------------

    @property
    def start(self) -> "Starter":
        """Begin an operation without waiting for it: `future = context.start.step(f)`, later `future.result()`."""
        from perdure.sdk.starting import Starter

        return Starter(self)

    def child(self, func: "Callable[Concatenate[DurableContext, P], T]", *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `func(context, *args, **kwargs)` in a child context."""
        result: T = self._run(self._child(with_arguments(func, args, kwargs), None, None))
        return result

    def gather(self, *futures: "DurableFuture[T]") -> tuple[T, ...]:
        """The results of all, in their order; raises what the first of them in this order raised. Records nothing."""
        return tuple(future.result() for future in futures)

    def all(self, *futures: "DurableFuture[T] | Callback[T]", name: str | None = None) -> tuple[T, ...]:
        """The results of all, once all are there. Raises PromiseCombinatorError as soon as one has failed."""
        from perdure.sdk.operations.combine import all_of

        result: tuple[T, ...] = self._combined("all", all_of, futures, name)
        return result

    def all_settled(self, *futures: "DurableFuture[T] | Callback[T]", name: str | None = None) -> "list[Settled[T]]":
        """How each of them ended, once all have."""
        from perdure.sdk.operations.combine import all_settled_of

        result: list[Settled[T]] = self._combined("all_settled", all_settled_of, futures, name)
        return result

    def any(self, *futures: "DurableFuture[T] | Callback[T]", name: str | None = None) -> T:
        """The result of the first that succeeds. Raises PromiseCombinatorError if all fail."""
        from perdure.sdk.operations.combine import any_of

        result: T = self._combined("any", any_of, futures, name)
        return result

    def race(self, *futures: "DurableFuture[T] | Callback[T]", name: str | None = None) -> T:
        """The result of the first that ends; which one that was is recorded.

        `context.race(callback, context.start.wait(60))` waits for a callback, but at most a minute.
        Raises PromiseCombinatorError if the first failed.
        """
        from perdure.sdk.operations.combine import race_of

        result: T = self._combined("race", race_of, futures, name)
        return result

    def as_completed(
        self, *futures: "DurableFuture[T] | Callback[T]", name: str | None = None
    ) -> "Iterator[DurableFuture[T]]":
        """The futures in the order in which they end; the order is recorded, and the same in every replay."""
        from perdure.sdk.operations.combine import first_of

        left = [self._as_future(each) for each in futures]
        for each in left:
            each.use()
        while left:
            self._check("as_completed", name)
            yield left.pop(self._run(first_of(self._session, self._scope, left, name or None)))

    def _combined(self, call: str, combine: Any, given: Sequence[Any], name: str | None) -> Any:
        futures = [self._as_future(each) for each in given]
        if not futures and call in ("any", "race"):
            raise ValidationError(f"{call} needs at least one future")
        self._check(call, name)
        for each in futures:
            if each.scope is not self._scope:
                raise ContextUsageError(f"{call} was given {each.call} of {each.scope} on {self._scope}: use it there")
            each.use()
        return self._run(combine(self._session, self._scope, futures, name or None))

    def _as_future(self, given: Any) -> "DurableFuture[Any]":
        from perdure.futures import DurableFuture

        if isinstance(given, DurableFuture):
            return given
        if isinstance(given, Callback):
            begun = partial(callback_result, self._session, given.operation_id, given.serdes)
            return self._begin(begun, "create_callback", None, light=True, place=given.operation_id)
        raise ValidationError(f"a future of context.start or a callback is needed, not {given!r}")

    def _begin(
        self, begun: Begun[Any], call: str, name: str | None, *, light: bool = False, place: str | None = None
    ) -> "DurableFuture[Any]":
        from perdure.futures import DurableFuture

        what = f"context.start.{call}({name!r})" if name else f"context.start.{call}(…)"
        future: DurableFuture[Any] = DurableFuture(begun, self._scope, what, self._driver, self._run)
        future.place = place
        future.start(light=light)
        return future

    @property
    def _driver(self) -> "BlockingDriver":
        return cast("BlockingDriver", self._session.driver)

    def _run(self, begun: Begun[Any]) -> Any:
        scope = self._scope
        markers = [(limit, limit.next_marker()) for limit in scope.timeouts]
        for limit, marker in markers:
            if limit.was_given_up(marker):
                raise limit.expired()
        try:
            return run_blocking(begun())
        except SuspendExecution as waiting:
            suspended = waiting
            if scope.group is not None:
                suspended = self._driver.drain(scope, suspended)
            for limit, marker in markers:
                if limit.is_over:
                    raise run_blocking(limit.give_up(marker)) from None
            self._driver.leave(scope)
            scope.suspended = suspended
            raise suspended from None


# --- decorators --------------------------------------------------------------------------------------------------


def _bound(func: Callable[..., T], call: Callable[..., T]) -> Callable[..., T]:
    """Give `call` the name under which the operation is recorded, and the annotations of the function."""
    call._original_name = func.__name__  # type: ignore[attr-defined]
    call._original_function = func  # type: ignore[attr-defined]
    return call


@overload
def durable_step(func: Callable[Concatenate[StepContext, P], T]) -> Callable[P, Callable[[StepContext], T]]: ...


@overload
def durable_step(
    func: None = None,
    *,
    name: str | None = None,
    retry: Any = None,
    serdes: "SerDes[Any] | None" = None,
    semantics: StepSemantics | str | None = None,
) -> Callable[[Callable[Concatenate[StepContext, P], T]], Callable[P, Callable[[StepContext], T]]]: ...


def durable_step(
    func: Any = None,
    *,
    name: str | None = None,
    retry: Any = None,
    serdes: "SerDes[Any] | None" = None,
    semantics: StepSemantics | str | None = None,
) -> Any:
    """Make a function of a step: called with its other arguments, it gives what `context.step` takes.

    The step is named after the function, or `name`. The arguments are captured, not recorded. `retry`, `serdes` and
    `semantics` are those of a `StepConfig`; one that is given to `context.step` takes their place.
    """
    config = None
    if retry is not None or serdes is not None or semantics is not None:
        config = StepConfig(retry=retry, serdes=serdes, semantics=semantics or StepSemantics.AT_LEAST_ONCE_PER_RETRY)

    def decorate(func: Callable[Concatenate[StepContext, P], T]) -> Callable[P, Callable[[StepContext], T]]:
        @wraps(func)
        def bind(*args: P.args, **kwargs: P.kwargs) -> Callable[[StepContext], T]:
            call = _bound(func, lambda context: func(context, *args, **kwargs))
            call._arguments = (args, kwargs)  # type: ignore[attr-defined]  # for whoever puts another body in its place
            if name is not None:
                call._original_name = name  # type: ignore[attr-defined]
            if config is not None:
                call._step_config = config  # type: ignore[attr-defined]
            return call

        bind._is_maker = True  # type: ignore[attr-defined]  # what it returns is what takes the context
        return bind

    return decorate if func is None else decorate(func)


def durable_with_child_context(
    func: Callable[Concatenate[DurableContext, P], T],
) -> Callable[P, Callable[[DurableContext], T]]:
    """The same for `context.run_in_child_context`."""

    @wraps(func)
    def bind(*args: P.args, **kwargs: P.kwargs) -> Callable[[DurableContext], T]:
        return _bound(func, lambda context: func(context, *args, **kwargs))

    bind._is_maker = True  # type: ignore[attr-defined]
    return bind


def durable_wait_for_callback(
    func: Callable[Concatenate[str, WaitForCallbackContext, P], T],
) -> Callable[P, Callable[[str, WaitForCallbackContext], T]]:
    """The same for `context.wait_for_callback`."""

    @wraps(func)
    def bind(*args: P.args, **kwargs: P.kwargs) -> Callable[[str, WaitForCallbackContext], T]:
        return _bound(func, lambda callback_id, context: func(callback_id, context, *args, **kwargs))

    return bind


def __getattr__(name: str) -> Any:
    """`durable_parallel_branch`, loaded by those who use it."""
    if name == "durable_parallel_branch":
        from perdure.batches import durable_parallel_branch

        return durable_parallel_branch
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
