"""How operations are configured. All configurations are values: frozen, comparable, usable with `dataclasses.replace`.

Wherever a `Duration` is taken, seconds (`int`, `float`), a `timedelta` and a mapping of `days`, `hours`, `minutes`,
`seconds` are taken too, rounded up to whole seconds. Every enumerated option takes its name as a string.
"""

import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import total_ordering
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from perdure.exceptions import ValidationError
from perdure.model.word import Word

if TYPE_CHECKING:
    from perdure.batches import (
        BatchedInput as BatchedInput,
        BatchItemStatus as BatchItemStatus,
        CompletionConfig as CompletionConfig,
        CompletionDecision as CompletionDecision,
        CompletionItemStatus as CompletionItemStatus,
        CompletionOutcome as CompletionOutcome,
        CompletionStatus as CompletionStatus,
        ItemBatcher as ItemBatcher,
        ItemsPerBatchUnit as ItemsPerBatchUnit,
        MapConfig as MapConfig,
        NestingType as NestingType,
        ParallelBranch as ParallelBranch,
        ParallelConfig as ParallelConfig,
        complete_batch as complete_batch,
        continue_batch as continue_batch,
    )
    from perdure.exceptions import DurableOperationError
    from perdure.retries import RetryDecision, RetryStrategyConfig
    from perdure.serdes import SerDes
    from perdure.types import SummaryGenerator

T = TypeVar("T")
W = TypeVar("W", bound=Word)
RetryStrategy = Callable[[Exception, int], "RetryDecision"]

SUB_TYPE: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


# --- durations ---------------------------------------------------------------------------------------------------


@total_ordering
@dataclass(frozen=True)
class Duration:
    """A whole number of seconds, not negative."""

    seconds: int = 0

    def __post_init__(self) -> None:
        if self.seconds < 0:
            raise ValidationError(f"a duration can't be negative: {self.seconds} seconds")

    def to_seconds(self) -> int:
        return self.seconds

    @classmethod
    def from_seconds(cls, value: float) -> "Duration":
        return cls(int(value))

    @classmethod
    def from_minutes(cls, value: float) -> "Duration":
        return cls(int(value * 60))

    @classmethod
    def from_hours(cls, value: float) -> "Duration":
        return cls(int(value * 3600))

    @classmethod
    def from_days(cls, value: float) -> "Duration":
        return cls(int(value * 86400))

    def to_timedelta(self) -> timedelta:
        return timedelta(seconds=self.seconds)

    def __lt__(self, other: object) -> bool:
        return self.seconds < other.seconds if isinstance(other, Duration) else NotImplemented

    def __add__(self, other: "Duration") -> "Duration":
        return Duration(self.seconds + other.seconds) if isinstance(other, Duration) else NotImplemented

    def __sub__(self, other: "Duration") -> "Duration":
        return Duration(self.seconds - other.seconds) if isinstance(other, Duration) else NotImplemented

    def __mul__(self, factor: float) -> "Duration":
        return Duration(int(self.seconds * factor))

    __rmul__ = __mul__

    def __str__(self) -> str:
        if not self.seconds:
            return "0s"
        minutes, seconds = divmod(self.seconds, 60)
        hours, minutes = divmod(minutes, 60)
        days, hours = divmod(hours, 24)
        parts = ((days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s"))
        return " ".join(f"{number}{unit}" for number, unit in parts if number)


DurationLike = Duration | int | float | timedelta | Mapping[str, float]
_UNITS: Final = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}


def to_duration(value: DurationLike | None, what: str = "duration") -> Duration:
    """The `Duration` that `value` means; ValidationError, naming `what`, if it means none. None is zero."""
    if isinstance(value, Duration):
        return value
    if value is None:
        return Duration()
    if isinstance(value, timedelta):
        return _whole(value.total_seconds(), what)
    if isinstance(value, Mapping):
        unknown = set(value) - set(_UNITS)
        if unknown:
            raise ValidationError(f"{what} has unknown units {sorted(unknown)}; known are {', '.join(_UNITS)}")
        return _whole(sum(_UNITS[unit] * number for unit, number in value.items()), what)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        kind = type(value).__name__
        raise ValidationError(f"{what} must be a Duration, a number of seconds or a timedelta, not {kind} {value!r}")
    return _whole(value, what)


def _whole(seconds: float, what: str) -> Duration:
    if not math.isfinite(seconds) or seconds < 0:
        raise ValidationError(f"{what} can't be {seconds} seconds")
    return Duration(math.ceil(seconds))


def to_word(kind: type[W], value: "W | str", what: str) -> W:
    """The member that `value` names; ValidationError, listing the values, if it names none."""
    try:
        return kind(value)
    except ValueError:
        raise ValidationError(f"{what} must be one of {', '.join(kind)}, not {value!r}") from None


def one_of(what: str, given: Mapping[str, Any], default: Any) -> Any:
    """The one value of an option that has several names; ValidationError if two names disagree."""
    found = {name: value for name, value in given.items() if value is not _UNSET}
    values = list(found.values())
    if any(value != values[0] for value in values[1:]):
        stated = ", ".join(f"{name}={value!r}" for name, value in found.items())
        raise ValidationError(f"{what} is given twice, with different values: {stated}")
    return values[0] if values else default


def check_sub_type(value: str | None) -> str | None:
    """A caller's subtype, None if there is none."""
    if not value:
        return None
    if not SUB_TYPE.fullmatch(value):
        raise ValidationError(f"sub_type must be 1 to 32 of the characters A-Z, a-z, 0-9, '-' and '_', not {value!r}")
    return value


class _Unset:
    """The value of an option that was not given."""

    def __repr__(self) -> str:
        return "…"


_UNSET: Final = cast(Any, _Unset())


# --- steps -------------------------------------------------------------------------------------------------------


class StepSemantics(Word):
    """What happens to a step that was running when its process died: it runs again, or counts as a failed attempt."""

    AT_MOST_ONCE_PER_RETRY = "AT_MOST_ONCE_PER_RETRY"
    AT_LEAST_ONCE_PER_RETRY = "AT_LEAST_ONCE_PER_RETRY"


class JitterStrategy(Word):
    """How a delay is randomized: not at all, wholly (from 0), or its second half."""

    NONE = "NONE"
    FULL = "FULL"
    HALF = "HALF"

    def apply_jitter(self, delay: float) -> float:
        if self is JitterStrategy.FULL:
            return random.random() * delay
        if self is JitterStrategy.HALF:
            return delay / 2 + random.random() * delay / 2
        return delay

    def finalize_delay(self, delay: float) -> int:
        """The delay in whole seconds: jitter first, then rounded up, at least 1."""
        return max(1, math.ceil(self.apply_jitter(delay)))


def set_fields(config: object, **fields: Any) -> None:
    """Fill a frozen configuration; for its own initialiser."""
    for name, value in fields.items():
        object.__setattr__(config, name, value)


@dataclass(frozen=True, init=False)
class StepConfig:
    """How a step is retried, what an interruption means, and how its result is written.

    `execution_mode` and `semantics` are other names of `step_semantics`. `retry` is another name of `retry_strategy`
    that also takes a `RetryStrategyConfig` or a number of attempts. `result_type` is what the result is read as, where
    the function's annotation does not say it. An attempt that takes longer than `timeout` fails with a TimeoutError;
    a body that blocks runs on in its thread, and its result goes nowhere.
    """

    retry_strategy: RetryStrategy | None
    step_semantics: StepSemantics
    serdes: "SerDes[Any] | None"
    sub_type: str | None
    result_type: Any
    timeout: Duration | None

    def __init__(
        self,
        retry_strategy: RetryStrategy | None = _UNSET,
        step_semantics: StepSemantics | str = _UNSET,
        serdes: "SerDes[Any] | None" = None,
        *,
        sub_type: str | None = None,
        execution_mode: StepSemantics | str = _UNSET,
        semantics: StepSemantics | str = _UNSET,
        retry: "RetryStrategy | RetryStrategyConfig | int | None" = _UNSET,
        result_type: Any = None,
        timeout: DurationLike | None = None,
    ) -> None:
        given = {"step_semantics": step_semantics, "execution_mode": execution_mode, "semantics": semantics}
        words = {
            name: value if value is _UNSET else to_word(StepSemantics, value, name) for name, value in given.items()
        }
        strategies = {
            "retry_strategy": retry_strategy,
            "retry": retry if retry is _UNSET else _to_retry_strategy(retry),
        }
        set_fields(
            self,
            retry_strategy=one_of("retry_strategy", strategies, None),
            step_semantics=one_of("step_semantics", words, StepSemantics.AT_LEAST_ONCE_PER_RETRY),
            serdes=serdes,
            sub_type=check_sub_type(sub_type),
            result_type=result_type,
            timeout=None if timeout is None else _positive(to_duration(timeout, "timeout"), "timeout"),
        )


def _positive(duration: Duration, what: str) -> Duration:
    if not duration.seconds:
        raise ValidationError(f"{what} must be at least 1 second, not {duration.seconds}")
    return duration


def _to_retry_strategy(retry: "RetryStrategy | RetryStrategyConfig | int | None") -> RetryStrategy | None:
    from perdure.retries import RetryStrategyConfig, create_retry_strategy

    if isinstance(retry, RetryStrategyConfig):
        return create_retry_strategy(retry)
    if isinstance(retry, int) and not isinstance(retry, bool):
        return create_retry_strategy(RetryStrategyConfig(max_attempts=retry))
    if retry is None or callable(retry):
        return retry
    raise ValidationError(f"retry must be a strategy, a RetryStrategyConfig or a number of attempts, not {retry!r}")


# --- callbacks ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, init=False)
class CallbackConfig:
    """How long a callback may take, and how long it may be silent; zero is for ever.

    `timeout_seconds` and `heartbeat_timeout_seconds` are other names of the two.
    """

    timeout: Duration
    heartbeat_timeout: Duration
    serdes: "SerDes[Any] | None"
    sub_type: str | None

    def __init__(
        self,
        timeout: DurationLike = _UNSET,
        heartbeat_timeout: DurationLike = _UNSET,
        serdes: "SerDes[Any] | None" = None,
        *,
        sub_type: str | None = None,
        timeout_seconds: DurationLike = _UNSET,
        heartbeat_timeout_seconds: DurationLike = _UNSET,
    ) -> None:
        set_fields(
            self,
            timeout=_one_duration("timeout", timeout, timeout_seconds),
            heartbeat_timeout=_one_duration("heartbeat_timeout", heartbeat_timeout, heartbeat_timeout_seconds),
            serdes=serdes,
            sub_type=check_sub_type(sub_type),
        )

    @property
    def timeout_seconds(self) -> int:
        return self.timeout.seconds

    @property
    def heartbeat_timeout_seconds(self) -> int:
        return self.heartbeat_timeout.seconds


def _one_duration(what: str, value: DurationLike, seconds: DurationLike) -> Duration:
    given = {what: value, f"{what}_seconds": seconds}
    found = {name: item if item is _UNSET else to_duration(item, name) for name, item in given.items()}
    duration: Duration = one_of(what, found, Duration())
    return duration


@dataclass(frozen=True, init=False)
class WaitForCallbackConfig(CallbackConfig):
    """The same for `wait_for_callback`; `retry_strategy` is for the step that hands the callback id out."""

    retry_strategy: RetryStrategy | None

    def __init__(
        self,
        timeout: DurationLike = _UNSET,
        heartbeat_timeout: DurationLike = _UNSET,
        serdes: "SerDes[Any] | None" = None,
        retry_strategy: RetryStrategy | None = None,
        *,
        sub_type: str | None = None,
        timeout_seconds: DurationLike = _UNSET,
        heartbeat_timeout_seconds: DurationLike = _UNSET,
    ) -> None:
        super().__init__(
            timeout,
            heartbeat_timeout,
            serdes,
            sub_type=sub_type,
            timeout_seconds=timeout_seconds,
            heartbeat_timeout_seconds=heartbeat_timeout_seconds,
        )
        set_fields(self, retry_strategy=retry_strategy)


# --- invokes and child contexts ----------------------------------------------------------------------------------


@dataclass(frozen=True, init=False)
class InvokeConfig:
    """How the payload and the result of an invoke are written (plain JSON both), and for which tenant it is.

    `payload_serdes` and `result_serdes`, the names of the JavaScript SDK, are other names of the two.
    """

    serdes_payload: "SerDes[Any] | None"
    serdes_result: "SerDes[Any] | None"
    tenant_id: str | None

    def __init__(
        self,
        serdes_payload: "SerDes[Any] | None" = _UNSET,
        serdes_result: "SerDes[Any] | None" = _UNSET,
        tenant_id: str | None = None,
        *,
        payload_serdes: "SerDes[Any] | None" = _UNSET,
        result_serdes: "SerDes[Any] | None" = _UNSET,
    ) -> None:
        payloads = {"serdes_payload": serdes_payload, "payload_serdes": payload_serdes}
        results = {"serdes_result": serdes_result, "result_serdes": result_serdes}
        set_fields(
            self,
            serdes_payload=one_of("serdes_payload", payloads, None),
            serdes_result=one_of("serdes_result", results, None),
            tenant_id=tenant_id,
        )


@dataclass(frozen=True)
class ChildConfig(Generic[T]):
    """How a child context records its result.

    `summary_generator` writes what is stored of a result too large to store (256 KiB), which a replay makes again from
    the children. A virtual child records nothing itself. `error_mapper` may replace the error that the child raises.
    """

    serdes: "SerDes[T] | None" = None
    sub_type: str | None = None
    summary_generator: "SummaryGenerator[T] | None" = None
    is_virtual: bool = False
    error_mapper: "Callable[[DurableOperationError], DurableOperationError] | None" = None
    result_type: Any = None

    def __post_init__(self) -> None:
        check_sub_type(self.sub_type)


_BATCHES: Final = frozenset(
    {
        "BatchItemStatus",
        "BatchedInput",
        "CompletionConfig",
        "CompletionDecision",
        "CompletionItemStatus",
        "CompletionOutcome",
        "CompletionStatus",
        "ItemBatcher",
        "ItemsPerBatchUnit",
        "MapConfig",
        "NestingType",
        "ParallelBranch",
        "ParallelConfig",
        "complete_batch",
        "continue_batch",
    }
)


def __getattr__(name: str) -> Any:
    """The configuration of `map` and `parallel`, loaded by those who use it."""
    if name in _BATCHES:
        from perdure import batches

        return getattr(batches, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
