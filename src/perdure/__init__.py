"""Durable functions: they survive crashes, wait a year without running, and go on where they were.

    from perdure import durable_execution, DurableContext

    @durable_execution
    def handler(event, context: DurableContext):
        price = context.step(lambda _: quote(event["sku"]), name="quote")
        context.wait(3600)
        return context.step(lambda _: charge(price), name="charge")

Names are loaded when they are first used, so that importing the package costs little in a function package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from perdure.__about__ import __version__

if TYPE_CHECKING:
    from perdure.async_context import (
        AsyncCallback as AsyncCallback,
        AsyncDurableContext as AsyncDurableContext,
    )
    from perdure.batches import (
        BatchedInput as BatchedInput,
        BatchItemStatus as BatchItemStatus,
        CompletionConfig as CompletionConfig,
        CompletionDecision as CompletionDecision,
        CompletionItemStatus as CompletionItemStatus,
        CompletionOutcome as CompletionOutcome,
        CompletionStatus as CompletionStatus,
        ItemBatcher as ItemBatcher,
        MapConfig as MapConfig,
        NestingType as NestingType,
        ParallelBranch as ParallelBranch,
        ParallelConfig as ParallelConfig,
        complete_batch as complete_batch,
        continue_batch as continue_batch,
        durable_parallel_branch as durable_parallel_branch,
    )
    from perdure.concurrency.models import (
        BatchCompletionError as BatchCompletionError,
        BatchItem as BatchItem,
        BatchResult as BatchResult,
        CompletionReason as CompletionReason,
    )
    from perdure.config import (
        CallbackConfig as CallbackConfig,
        ChildConfig as ChildConfig,
        Duration as Duration,
        InvokeConfig as InvokeConfig,
        JitterStrategy as JitterStrategy,
        StepConfig as StepConfig,
        StepSemantics as StepSemantics,
        WaitForCallbackConfig as WaitForCallbackConfig,
    )
    from perdure.context import (
        Callback as Callback,
        DurableContext as DurableContext,
        StepContext as StepContext,
        durable_step as durable_step,
        durable_wait_for_callback as durable_wait_for_callback,
        durable_with_child_context as durable_with_child_context,
    )
    from perdure.exceptions import (
        CallbackError as CallbackError,
        CallbackExternalError as CallbackExternalError,
        CallbackSubmitterError as CallbackSubmitterError,
        CallbackTimeoutError as CallbackTimeoutError,
        ChildContextError as ChildContextError,
        CompensationError as CompensationError,
        ContextUsageError as ContextUsageError,
        DurableCancelledError as DurableCancelledError,
        DurableExecutionsError as DurableExecutionsError,
        DurableOperationError as DurableOperationError,
        DurableTimeoutError as DurableTimeoutError,
        ExecutionEndedError as ExecutionEndedError,
        ExecutionError as ExecutionError,
        ExecutionFailed as ExecutionFailed,
        ExecutionStopped as ExecutionStopped,
        ExecutionTimedOut as ExecutionTimedOut,
        InvocationError as InvocationError,
        InvokeError as InvokeError,
        NonDeterminismError as NonDeterminismError,
        NonDeterminismWarning as NonDeterminismWarning,
        NonDeterministicExecutionError as NonDeterministicExecutionError,
        PluginLoadError as PluginLoadError,
        PromiseCombinatorError as PromiseCombinatorError,
        RetryableSerDesError as RetryableSerDesError,
        SerDesError as SerDesError,
        StepError as StepError,
        StepInterruptedError as StepInterruptedError,
        ValidationError as ValidationError,
        WaitForConditionError as WaitForConditionError,
    )
    from perdure.execution import durable_execution as durable_execution
    from perdure.futures import (
        AsyncDurableFuture as AsyncDurableFuture,
        DurableFuture as DurableFuture,
        Settled as Settled,
    )
    from perdure.retries import (
        LinearRetryStrategyConfig as LinearRetryStrategyConfig,
        RetryDecision as RetryDecision,
        RetryPresets as RetryPresets,
        RetryStrategyConfig as RetryStrategyConfig,
        WithRetryConfig as WithRetryConfig,
        create_linear_retry_strategy as create_linear_retry_strategy,
        create_retry_strategy as create_retry_strategy,
        with_retry as with_retry,
    )
    from perdure.saga import AsyncSaga as AsyncSaga, Saga as Saga
    from perdure.serdes import (
        DEFAULT_JSON_SERDES as DEFAULT_JSON_SERDES,
        EXTENDED_TYPES_SERDES as EXTENDED_TYPES_SERDES,
        ExtendedTypeSerDes as ExtendedTypeSerDes,
        JsonSerDes as JsonSerDes,
        PassThroughSerDes as PassThroughSerDes,
        PydanticSerDes as PydanticSerDes,
        SerDes as SerDes,
        SerDesContext as SerDesContext,
        TypedSerDes as TypedSerDes,
    )
    from perdure.waits import (
        WaitForConditionConfig as WaitForConditionConfig,
        WaitForConditionDecision as WaitForConditionDecision,
        WaitStrategyConfig as WaitStrategyConfig,
        create_wait_strategy as create_wait_strategy,
        exponential_wait as exponential_wait,
        fixed_wait as fixed_wait,
        linear_wait as linear_wait,
    )
    from perdure.worker.embedded import Execution as Execution, Perdure as Perdure, open as open  # noqa: A004

_HOMES: Final = {
    "perdure.async_context": (
        "AsyncCallback",
        "AsyncDurableContext",
    ),
    "perdure.batches": (
        "BatchItemStatus",
        "BatchedInput",
        "CompletionConfig",
        "CompletionDecision",
        "CompletionItemStatus",
        "CompletionOutcome",
        "CompletionStatus",
        "ItemBatcher",
        "MapConfig",
        "NestingType",
        "ParallelBranch",
        "ParallelConfig",
        "complete_batch",
        "continue_batch",
        "durable_parallel_branch",
    ),
    "perdure.concurrency.models": (
        "BatchCompletionError",
        "BatchItem",
        "BatchResult",
        "CompletionReason",
    ),
    "perdure.futures": (
        "AsyncDurableFuture",
        "DurableFuture",
        "Settled",
    ),
    "perdure.config": (
        "CallbackConfig",
        "ChildConfig",
        "Duration",
        "InvokeConfig",
        "JitterStrategy",
        "StepConfig",
        "StepSemantics",
        "WaitForCallbackConfig",
    ),
    "perdure.context": (
        "Callback",
        "DurableContext",
        "StepContext",
        "durable_step",
        "durable_wait_for_callback",
        "durable_with_child_context",
    ),
    "perdure.exceptions": (
        "CallbackError",
        "CallbackExternalError",
        "CallbackSubmitterError",
        "CallbackTimeoutError",
        "ChildContextError",
        "CompensationError",
        "ContextUsageError",
        "DurableCancelledError",
        "DurableTimeoutError",
        "DurableExecutionsError",
        "DurableOperationError",
        "ExecutionEndedError",
        "ExecutionError",
        "ExecutionFailed",
        "ExecutionStopped",
        "ExecutionTimedOut",
        "InvocationError",
        "InvokeError",
        "NonDeterminismError",
        "NonDeterminismWarning",
        "NonDeterministicExecutionError",
        "PluginLoadError",
        "PromiseCombinatorError",
        "RetryableSerDesError",
        "SerDesError",
        "StepError",
        "StepInterruptedError",
        "ValidationError",
        "WaitForConditionError",
    ),
    "perdure.execution": ("durable_execution",),
    "perdure.saga": ("AsyncSaga", "Saga"),
    "perdure.retries": (
        "LinearRetryStrategyConfig",
        "RetryDecision",
        "RetryPresets",
        "RetryStrategyConfig",
        "WithRetryConfig",
        "create_linear_retry_strategy",
        "create_retry_strategy",
        "with_retry",
    ),
    "perdure.serdes": (
        "DEFAULT_JSON_SERDES",
        "EXTENDED_TYPES_SERDES",
        "ExtendedTypeSerDes",
        "JsonSerDes",
        "PassThroughSerDes",
        "PydanticSerDes",
        "SerDes",
        "SerDesContext",
        "TypedSerDes",
    ),
    "perdure.waits": (
        "WaitForConditionConfig",
        "WaitForConditionDecision",
        "WaitStrategyConfig",
        "create_wait_strategy",
        "exponential_wait",
        "fixed_wait",
        "linear_wait",
    ),
    "perdure.worker.embedded": ("Execution", "Perdure", "open"),
}
_HOME_OF: Final = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME_OF]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'perdure' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
