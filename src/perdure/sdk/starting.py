"""`context.start`: begin an operation now, ask for its outcome later."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.config import CallbackConfig, ChildConfig, DurationLike, InvokeConfig, StepConfig, WaitForCallbackConfig
from perdure.futures import DurableFuture
from perdure.sdk.calls import with_arguments

if TYPE_CHECKING:
    from perdure.batches import MapConfig, ParallelConfig
    from perdure.concurrency.models import BatchResult
    from perdure.context import DurableContext
    from perdure.types import StepContext
    from perdure.waits import WaitForConditionConfig

T = TypeVar("T")


class Starter:
    """The operations of a context, each begun at once: what they return is a future of what they would return."""

    def __init__(self, context: "DurableContext") -> None:
        self._context = context

    def step(
        self,
        func: "Callable[[StepContext], T] | Callable[[], T]",
        name: str | None = None,
        config: StepConfig | None = None,
    ) -> DurableFuture[T]:
        """A step in a thread beside the handler."""
        return self._context._begin(self._context._step(func, name, config), "step", name)

    def wait(self, duration: DurationLike, name: str | None = None) -> DurableFuture[None]:
        """A wait that others can be raced against."""
        return self._context._begin(self._context._wait(duration, name), "wait", name, light=True)

    def invoke(
        self, function_name: str, payload: Any = None, name: str | None = None, config: InvokeConfig | None = None
    ) -> DurableFuture[Any]:
        begun = self._context._invoke(function_name, payload, name, config)
        return self._context._begin(begun, "invoke", name, light=True)

    def run_in_child_context(
        self, func: "Callable[[DurableContext], T]", name: str | None = None, config: ChildConfig[T] | None = None
    ) -> DurableFuture[T]:
        return self._context._begin(self._context._child(func, name, config), "run_in_child_context", name)

    def child(self, func: Callable[..., T], *arguments: Any, name: str | None = None) -> DurableFuture[T]:
        """`func(context, *arguments)` in a child context, in a thread beside the handler."""
        return self._context._begin(
            self._context._child(with_arguments(func, arguments, {}), name, None), "child", name
        )

    def create_callback(self, name: str | None = None, config: CallbackConfig | None = None) -> DurableFuture[Any]:
        """The answer of a callback; `context.create_callback` gives its id, too."""
        callback = self._context.create_callback(name, config)
        return self._context._as_future(callback)

    def wait_for_callback(
        self, submitter: Callable[..., Any], name: str | None = None, config: WaitForCallbackConfig | None = None
    ) -> DurableFuture[Any]:
        begun = self._context._wait_for_callback(submitter, name, config)
        return self._context._begin(begun, "wait_for_callback", name)

    def wait_for_condition(
        self, check: Callable[..., T], config: "WaitForConditionConfig[T]", name: str | None = None
    ) -> DurableFuture[T]:
        begun = self._context._wait_for_condition(check, config, name)
        return self._context._begin(begun, "wait_for_condition", name)

    def map(
        self,
        inputs: Iterable[Any],
        func: Callable[..., T],
        name: str | None = None,
        config: "MapConfig | None" = None,
    ) -> "DurableFuture[BatchResult[T]]":
        return self._context._begin(self._context._map(inputs, func, name, config), "map", name)

    def parallel(
        self,
        functions: "Sequence[Callable[[DurableContext], T]]",
        name: str | None = None,
        config: "ParallelConfig | None" = None,
    ) -> "DurableFuture[BatchResult[T]]":
        return self._context._begin(self._context._parallel(functions, name, config), "parallel", name)
