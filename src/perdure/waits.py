"""When a condition is looked at again: strategies for `wait_for_condition`.

A strategy is any `(state, attempts_made) -> WaitForConditionDecision`; `attempts_made` counts the poll that has just
been made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from perdure.config import Duration, DurationLike, JitterStrategy, to_duration, to_word
from perdure.exceptions import ValidationError, WaitForConditionError

if TYPE_CHECKING:
    from perdure.dropped import WaitDecision as WaitDecision
    from perdure.serdes import SerDes

__all__ = [
    "Duration",
    "JitterStrategy",
    "WaitForConditionConfig",
    "WaitForConditionDecision",
    "WaitStrategyConfig",
    "create_wait_strategy",
    "exponential_wait",
    "fixed_wait",
    "linear_wait",
]

T = TypeVar("T")


@dataclass(frozen=True)
class WaitForConditionDecision:
    """Whether to look again, and after how long."""

    should_continue: bool
    delay: Duration

    @property
    def delay_seconds(self) -> int:
        return self.delay.to_seconds()

    @classmethod
    def continue_waiting(cls, delay: DurationLike) -> "WaitForConditionDecision":
        return cls(should_continue=True, delay=to_duration(delay, "delay"))

    @classmethod
    def stop_polling(cls) -> "WaitForConditionDecision":
        return cls(should_continue=False, delay=Duration())


WaitStrategy = Callable[[T, int], WaitForConditionDecision]


@dataclass(frozen=True)
class WaitForConditionConfig(Generic[T]):
    """What to begin with, and when to look again."""

    wait_strategy: Callable[[T, int], WaitForConditionDecision]
    initial_state: T
    serdes: "SerDes[T] | None" = None


@dataclass(frozen=True)
class WaitStrategyConfig(Generic[T]):
    """Exponential back-off between polls, while `should_continue_polling(state)` and at most `max_attempts` times."""

    should_continue_polling: Callable[[T], bool]
    max_attempts: int = 60
    initial_delay: Duration = Duration(5)
    max_delay: Duration = Duration(300)
    backoff_rate: float = 1.5
    jitter_strategy: JitterStrategy = JitterStrategy.FULL

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or self.max_attempts < 1:
            raise ValidationError(f"max_attempts must be at least 1, not {self.max_attempts!r}")
        for name in ("initial_delay", "max_delay"):
            object.__setattr__(self, name, to_duration(getattr(self, name), name))
        object.__setattr__(self, "jitter_strategy", to_word(JitterStrategy, self.jitter_strategy, "jitter_strategy"))

    @property
    def initial_delay_seconds(self) -> int:
        return self.initial_delay.to_seconds()

    @property
    def max_delay_seconds(self) -> int:
        return self.max_delay.to_seconds()


def create_wait_strategy(config: WaitStrategyConfig[T]) -> Callable[[T, int], WaitForConditionDecision]:
    """The strategy of `config`: a condition that is met ends it, even at the last poll; then it gives up."""

    def delay(attempts_made: int) -> float:
        try:
            grown = config.initial_delay.seconds * config.backoff_rate ** (attempts_made - 1)
        except OverflowError:
            return config.max_delay.seconds
        return min(grown, config.max_delay.seconds)

    return _strategy(config.should_continue_polling, config.max_attempts, config.jitter_strategy, delay)


def _strategy(
    should_continue: Callable[[T], bool], max_attempts: int, jitter: JitterStrategy, delay: Callable[[int], float]
) -> Callable[[T, int], WaitForConditionDecision]:
    def decide(state: T, attempts_made: int) -> WaitForConditionDecision:
        if not should_continue(state):
            return WaitForConditionDecision.stop_polling()
        if attempts_made >= max_attempts:
            raise WaitForConditionError(f"the condition was not met in {max_attempts} polls")
        return WaitForConditionDecision.continue_waiting(Duration(jitter.finalize_delay(delay(attempts_made))))

    return decide


def fixed_wait(
    should_continue: Callable[[Any], bool], *, delay: DurationLike = 5, max_attempts: int = 60
) -> Callable[[Any, int], WaitForConditionDecision]:
    """The same delay between all polls."""
    seconds = to_duration(delay, "delay").seconds
    return _strategy(should_continue, max_attempts, JitterStrategy.NONE, lambda _attempts_made: seconds)


def linear_wait(
    should_continue: Callable[[Any], bool],
    *,
    initial_delay: DurationLike = 5,
    increment: DurationLike = 5,
    max_delay: DurationLike = 300,
    max_attempts: int = 60,
) -> Callable[[Any, int], WaitForConditionDecision]:
    """A delay that grows by the same amount from poll to poll."""
    first, step = to_duration(initial_delay, "initial_delay").seconds, to_duration(increment, "increment").seconds
    most = to_duration(max_delay, "max_delay").seconds
    return _strategy(
        should_continue,
        max_attempts,
        JitterStrategy.NONE,
        lambda attempts_made: min(first + step * (attempts_made - 1), most),
    )


def exponential_wait(
    should_continue: Callable[[Any], bool],
    *,
    initial_delay: DurationLike = 5,
    max_delay: DurationLike = 300,
    backoff_rate: float = 1.5,
    max_attempts: int = 60,
    jitter: JitterStrategy | str = JitterStrategy.FULL,
) -> Callable[[Any, int], WaitForConditionDecision]:
    """A delay that grows by the same factor from poll to poll."""
    return create_wait_strategy(
        WaitStrategyConfig(
            should_continue,
            max_attempts,
            to_duration(initial_delay, "initial_delay"),
            to_duration(max_delay, "max_delay"),
            backoff_rate,
            to_word(JitterStrategy, jitter, "jitter"),
        )
    )


def __getattr__(name: str) -> Any:
    """`WaitDecision`, a name of the official 1.x line."""
    if name == "WaitDecision":
        from perdure.dropped import WaitDecision

        return WaitDecision
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
