"""When a failed step is tried again: strategies, presets; and `with_retry`, which tries several operations again.

A strategy is any `(error, attempts_made) -> RetryDecision`; `attempts_made` counts the attempt that has just failed.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

from perdure.config import Duration, DurationLike, JitterStrategy, RetryStrategy, to_duration, to_word
from perdure.exceptions import DurableOperationError, ExecutionError, InvocationError, ValidationError

if TYPE_CHECKING:
    from perdure.async_context import AsyncDurableContext
    from perdure.config import ChildConfig
    from perdure.context import DurableContext

__all__ = [
    "JitterStrategy",
    "LinearRetryStrategyConfig",
    "RetryDecision",
    "RetryPresets",
    "RetryStrategyConfig",
    "WithRetryConfig",
    "create_linear_retry_strategy",
    "create_retry_strategy",
    "with_retry",
]

T = TypeVar("T")


@dataclass(frozen=True)
class RetryDecision:
    """Whether to try again, and after how long."""

    should_retry: bool
    delay: Duration

    @property
    def delay_seconds(self) -> int:
        return self.delay.to_seconds()

    @classmethod
    def retry(cls, delay: DurationLike) -> "RetryDecision":
        return cls(should_retry=True, delay=to_duration(delay, "delay"))

    @classmethod
    def no_retry(cls) -> "RetryDecision":
        return cls(should_retry=False, delay=Duration())


def _check_attempts(value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValidationError(f"max_attempts must be at least 1, not {value!r}; it counts the first attempt too")


@dataclass(frozen=True)
class RetryStrategyConfig:
    """Exponential back-off: `initial_delay * backoff_rate ** (attempts_made - 1)`, at most `max_delay`, with jitter.

    `max_attempts` counts the first attempt. Without filters every error is tried again; with them, one whose text
    contains a pattern of `retryable_errors` (a string, or a compiled expression), or which is an instance of one of
    `retryable_error_types`.
    """

    max_attempts: int = 3
    initial_delay: Duration = Duration(5)
    max_delay: Duration = Duration(300)
    backoff_rate: float = 2.0
    jitter_strategy: JitterStrategy = JitterStrategy.FULL
    retryable_errors: "Sequence[str | re.Pattern[str]] | None" = None
    retryable_error_types: "Sequence[type[Exception]] | None" = None

    def __post_init__(self) -> None:
        _check_attempts(self.max_attempts)
        for name in ("initial_delay", "max_delay"):
            object.__setattr__(self, name, to_duration(getattr(self, name), name))
        object.__setattr__(self, "jitter_strategy", to_word(JitterStrategy, self.jitter_strategy, "jitter_strategy"))

    @property
    def initial_delay_seconds(self) -> int:
        return self.initial_delay.to_seconds()

    @property
    def max_delay_seconds(self) -> int:
        return self.max_delay.to_seconds()


@dataclass(frozen=True)
class LinearRetryStrategyConfig:
    """Linear back-off: `initial_delay + increment * (attempts_made - 1)`, at most `max_delay`, with jitter."""

    max_attempts: int = 6
    initial_delay: Duration = Duration(1)
    increment: Duration = Duration(1)
    max_delay: Duration = Duration(300)
    jitter_strategy: JitterStrategy = JitterStrategy.FULL
    retryable_errors: "Sequence[str | re.Pattern[str]] | None" = None
    retryable_error_types: "Sequence[type[Exception]] | None" = None

    def __post_init__(self) -> None:
        _check_attempts(self.max_attempts)
        for name in ("initial_delay", "increment", "max_delay"):
            object.__setattr__(self, name, to_duration(getattr(self, name), name))
        object.__setattr__(self, "jitter_strategy", to_word(JitterStrategy, self.jitter_strategy, "jitter_strategy"))

    @property
    def initial_delay_seconds(self) -> int:
        return self.initial_delay.to_seconds()

    @property
    def increment_seconds(self) -> int:
        return self.increment.to_seconds()

    @property
    def max_delay_seconds(self) -> int:
        return self.max_delay.to_seconds()


def create_retry_strategy(config: RetryStrategyConfig | None = None) -> RetryStrategy:
    """The strategy of an exponential back-off. Its defaults (3 attempts) are not those of a step (6 attempts)."""
    how = config or RetryStrategyConfig()

    def base_delay(attempts_made: int) -> float:
        try:
            grown = how.initial_delay.seconds * how.backoff_rate ** (attempts_made - 1)
        except OverflowError:
            return how.max_delay.seconds
        return min(grown, how.max_delay.seconds)

    return _strategy(how, base_delay)


def create_linear_retry_strategy(config: LinearRetryStrategyConfig | None = None) -> RetryStrategy:
    """The strategy of a linear back-off."""
    how = config or LinearRetryStrategyConfig()

    def base_delay(attempts_made: int) -> float:
        return min(how.initial_delay.seconds + how.increment.seconds * (attempts_made - 1), how.max_delay.seconds)

    return _strategy(how, base_delay)


def _strategy(
    how: RetryStrategyConfig | LinearRetryStrategyConfig, base_delay: Callable[[int], float]
) -> RetryStrategy:
    def decide(error: Exception, attempts_made: int) -> RetryDecision:
        if attempts_made >= how.max_attempts or not _is_retryable(how, error):
            return RetryDecision.no_retry()
        return RetryDecision.retry(Duration(how.jitter_strategy.finalize_delay(base_delay(attempts_made))))

    return decide


def _is_retryable(how: RetryStrategyConfig | LinearRetryStrategyConfig, error: Exception) -> bool:
    patterns, types = how.retryable_errors, how.retryable_error_types
    if patterns is None and types is None:
        return True
    text = str(error)
    for pattern in patterns or ():
        if pattern in text if isinstance(pattern, str) else pattern.search(text):
            return True
    return isinstance(error, tuple(types or ()))


class RetryPresets:
    """Ready-made strategies; each call makes one."""

    @classmethod
    def none(cls) -> RetryStrategy:
        """Never again: with an at-most-once step, truly once."""
        return create_retry_strategy(RetryStrategyConfig(max_attempts=1))

    @classmethod
    def default(cls) -> RetryStrategy:
        """What a step without a strategy has: 6 attempts, waits of up to 5, 10, 20, 40 and 60 seconds."""
        return create_retry_strategy(RetryStrategyConfig(max_attempts=6, max_delay=Duration(60)))

    @classmethod
    def transient(cls) -> RetryStrategy:
        """For short disturbances: 3 attempts, waits of 3–5 and 6–10 seconds."""
        return create_retry_strategy(RetryStrategyConfig(jitter_strategy=JitterStrategy.HALF))

    @classmethod
    def resource_availability(cls) -> RetryStrategy:
        """For things that take a while to come up: 5 attempts, waits of up to 5, 10, 20 and 40 seconds."""
        return create_retry_strategy(RetryStrategyConfig(max_attempts=5))

    @classmethod
    def critical(cls) -> RetryStrategy:
        """For what has to work: 10 attempts, waits from 1 to 26 seconds."""
        return create_retry_strategy(
            RetryStrategyConfig(
                max_attempts=10,
                initial_delay=Duration(1),
                max_delay=Duration(60),
                backoff_rate=1.5,
                jitter_strategy=JitterStrategy.NONE,
            )
        )

    @classmethod
    def linear(cls) -> RetryStrategy:
        """6 attempts, waits of 1, 2, 3, 4 and 5 seconds."""
        return create_linear_retry_strategy(LinearRetryStrategyConfig(jitter_strategy=JitterStrategy.NONE))

    @classmethod
    def fixed(cls, interval: DurationLike = Duration(5)) -> RetryStrategy:
        """5 attempts, the same wait between them."""
        wait = to_duration(interval, "interval")
        return create_retry_strategy(
            RetryStrategyConfig(
                max_attempts=5,
                initial_delay=wait,
                max_delay=wait,
                backoff_rate=1,
                jitter_strategy=JitterStrategy.NONE,
            )
        )


# --- several operations ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WithRetryConfig(Generic[T]):
    """How `with_retry` tries again: without a strategy 3 attempts, as `create_retry_strategy()` has it.

    All attempts are in one child context, made as `child_context_config` says, unless
    `wrap_with_run_in_child_context` is False.
    """

    retry_strategy: RetryStrategy | None = None
    wrap_with_run_in_child_context: bool = True
    child_context_config: "ChildConfig[T] | None" = None


_WITH_RETRY: Final[WithRetryConfig[Any]] = WithRetryConfig()


@overload
def with_retry(
    context: "AsyncDurableContext",
    func: "Callable[[AsyncDurableContext, int], Awaitable[T]] | Callable[[AsyncDurableContext], Awaitable[T]]",
    config: WithRetryConfig[T] | None = None,
    name: str | None = None,
) -> Awaitable[T]: ...


@overload
def with_retry(
    context: "DurableContext",
    func: "Callable[[DurableContext, int], T] | Callable[[DurableContext], T]",
    config: WithRetryConfig[T] | None = None,
    name: str | None = None,
) -> T: ...


def with_retry(
    context: Any,
    func: Callable[..., Any],
    config: WithRetryConfig[Any] | None = None,
    name: str | None = None,
) -> Any:
    """Run `func(context, attempt)`, which may contain any operations, again from its beginning until it succeeds.

    `attempt` counts from 1; each has operations of its own, and a wait named `{name}-backoff-{attempt}` before the
    next. A step alone is tried again by its own configuration, without this. In an `async def` handler, await it.

    Raises ChildContextError for the last failure; unwrapped, the failure itself. An ExecutionError and a retryable
    InvocationError are never tried again: they are about the execution and the invocation.
    """
    from perdure.context import DurableContext
    from perdure.sdk.arity import first_or_both
    from perdure.sdk.drivers.running import run_blocking

    how = config or _WITH_RETRY
    takes_both = first_or_both(func, "the function of with_retry", "context", "attempt")
    strategy = how.retry_strategy or create_retry_strategy()
    is_blocking = isinstance(context, DurableContext)

    def attempts(inner: Any) -> Any:
        tried = _try_again(inner, func, strategy, name, takes_both=takes_both)
        return run_blocking(tried) if is_blocking else tried

    if not how.wrap_with_run_in_child_context:
        return attempts(context)
    attempts._original_function = func  # type: ignore[attr-defined]  # whose annotation says what the result becomes
    return context.run_in_child_context(attempts, name, how.child_context_config)


async def _try_again(
    context: Any, func: Callable[..., Any], strategy: RetryStrategy, name: str | None, *, takes_both: bool
) -> Any:
    """The attempts, one after the other; what a blocking context gives has no need to be awaited."""
    attempt = 1
    while True:
        try:
            result = func(context, attempt) if takes_both else func(context)
            return await result if hasattr(result, "__await__") else result
        except Exception as error:
            if _ends_more(error):
                raise
            decision = strategy(error, attempt)
            if not decision.should_retry:
                raise
        pause = context.wait(_at_least_a_second(decision), f"{name}-backoff-{attempt}" if name else None)
        if pause is not None:
            await pause
        attempt += 1


def _ends_more(error: Exception) -> bool:
    """The error is about the execution or the invocation, not about what was tried."""
    if isinstance(error, DurableOperationError):
        return False
    return isinstance(error, ExecutionError) or (isinstance(error, InvocationError) and error.is_retryable())


def _at_least_a_second(decision: RetryDecision) -> Duration:
    if decision.delay_seconds < 1:
        logging.getLogger("perdure").warning("a retry delay of %s s was raised to 1 s", decision.delay_seconds)
        return Duration(1)
    return decision.delay
