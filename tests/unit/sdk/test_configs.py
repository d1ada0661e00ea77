"""Configurations, durations, retries. Numbers in brackets are those of the SDK specification's checklist."""

import dataclasses
import random
import re
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    CallbackConfig,
    Duration,
    InvokeConfig,
    JitterStrategy,
    JsonSerDes,
    LinearRetryStrategyConfig,
    RetryPresets,
    RetryStrategyConfig,
    StepConfig,
    StepSemantics,
    ValidationError,
    WaitForCallbackConfig,
    create_linear_retry_strategy,
    create_retry_strategy,
)

AT_MOST_ONCE = StepSemantics.AT_MOST_ONCE_PER_RETRY


def test_execution_mode_is_another_name_of_step_semantics() -> None:
    """[4]"""
    old = StepConfig(execution_mode="AT_MOST_ONCE_PER_RETRY")
    new = StepConfig(step_semantics=AT_MOST_ONCE)
    assert old == new
    assert hash(old) == hash(new)
    assert repr(old) == repr(new)
    assert StepConfig(semantics=AT_MOST_ONCE) == new


def test_wrong_and_contradicting_values_are_refused_with_the_choice() -> None:
    """[5]"""
    with pytest.raises(ValidationError, match="execution_mode must be one of AT_MOST_ONCE_PER_RETRY, AT_LEAST_ONCE"):
        StepConfig(execution_mode="x")
    with pytest.raises(ValidationError, match="step_semantics is given twice, with different values"):
        StepConfig(step_semantics=AT_MOST_ONCE, execution_mode="AT_LEAST_ONCE_PER_RETRY")
    assert (
        StepConfig(step_semantics=AT_MOST_ONCE, execution_mode="AT_MOST_ONCE_PER_RETRY").step_semantics is AT_MOST_ONCE
    )


def test_timeout_seconds_is_a_keyword_and_a_property() -> None:
    """[6]"""
    config = WaitForCallbackConfig(timeout_seconds=3600)
    assert (config.timeout, config.timeout_seconds) == (Duration(3600), 3600)
    assert config.heartbeat_timeout_seconds == 0
    changed = dataclasses.replace(config, heartbeat_timeout=Duration(5))
    assert (changed.timeout_seconds, changed.heartbeat_timeout_seconds) == (3600, 5)
    assert CallbackConfig(heartbeat_timeout_seconds=7) == CallbackConfig(heartbeat_timeout=timedelta(seconds=7))
    with pytest.raises(ValidationError, match="timeout is given twice"):
        CallbackConfig(timeout=5, timeout_seconds=6)


def test_positions_keep_their_meaning() -> None:
    """[7]"""
    strategy = RetryPresets.none()
    config = WaitForCallbackConfig(Duration(1), Duration(2), None, strategy)
    assert (config.timeout.seconds, config.heartbeat_timeout.seconds, config.retry_strategy) == (1, 2, strategy)
    serdes = JsonSerDes()
    step = StepConfig(strategy, AT_MOST_ONCE, serdes)
    assert (step.retry_strategy, step.step_semantics, step.serdes) == (strategy, AT_MOST_ONCE, serdes)


def test_configurations_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        StepConfig().serdes = None


@pytest.mark.parametrize("retry", [RetryStrategyConfig(max_attempts=4), 4])
def test_retry_takes_a_configuration_or_a_number_of_attempts(retry: Any) -> None:
    strategy = StepConfig(retry=retry).retry_strategy
    assert strategy is not None
    assert [strategy(ValueError(), n).should_retry for n in (1, 3, 4)] == [True, True, False]
    assert StepConfig(retry=None).retry_strategy is None
    with pytest.raises(ValidationError, match="retry must be a strategy"):
        StepConfig(retry="often")  # type: ignore[arg-type]


def test_the_javascript_names_of_invoke_are_understood() -> None:
    serdes = JsonSerDes()
    assert InvokeConfig(payload_serdes=serdes, result_serdes=serdes) == InvokeConfig(serdes, serdes)


@pytest.mark.parametrize("sub_type", ["Saga", "a" * 32, "a-b_c"])
def test_a_good_subtype_is_kept(sub_type: str) -> None:
    assert StepConfig(sub_type=sub_type).sub_type == sub_type


@pytest.mark.parametrize("sub_type", ["a b", "a" * 33, "é"])
def test_a_bad_subtype_is_refused(sub_type: str) -> None:
    with pytest.raises(ValidationError, match="sub_type must be 1 to 32"):
        StepConfig(sub_type=sub_type)


# --- durations ---------------------------------------------------------------------------------------------------


def test_durations_are_made_from_units_and_truncate() -> None:
    assert Duration.from_seconds(1.9) == Duration(1)
    assert Duration.from_minutes(1.5) == Duration(90)
    assert Duration.from_hours(0.5).to_seconds() == 1800
    assert Duration.from_days(2).to_timedelta() == timedelta(days=2)
    with pytest.raises(ValidationError, match="can't be negative"):
        Duration(-1)


def test_durations_calculate_compare_and_print() -> None:
    assert Duration(60) + Duration(5) == Duration(65)
    assert Duration(60) - Duration(5) == Duration(55)
    assert Duration(60) * 1.5 == 2 * Duration(45) == Duration(90)
    assert Duration(1) < Duration(2) <= Duration(2) < Duration(3)
    assert [str(Duration(n)) for n in (0, 59, 3600, 90061)] == ["0s", "59s", "1h", "1d 1h 1m 1s"]


# --- retries -----------------------------------------------------------------------------------------------------


def _delays(strategy: Any, attempts: int) -> list[int]:
    delays = []
    for made in range(1, attempts + 2):
        decision = strategy(ValueError("boom"), made)
        if not decision.should_retry:
            break
        delays.append(decision.delay_seconds)
    return delays


@pytest.mark.parametrize(
    ("preset", "lows", "highs"),
    [
        (RetryPresets.none(), [], []),
        (RetryPresets.default(), [1] * 5, [5, 10, 20, 40, 60]),
        (RetryPresets.transient(), [3, 5], [5, 10]),
        (RetryPresets.resource_availability(), [1] * 4, [5, 10, 20, 40]),
        (RetryPresets.critical(), [1, 2, 3, 4, 6, 8, 12, 18, 26], [1, 2, 3, 4, 6, 8, 12, 18, 26]),
        (RetryPresets.linear(), [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]),
        (RetryPresets.fixed(), [5] * 4, [5] * 4),
        (RetryPresets.fixed(7), [7] * 4, [7] * 4),
    ],
)
def test_each_preset_waits_as_its_row_says(preset: Any, lows: list[int], highs: list[int]) -> None:
    """[24]"""
    for _ in range(200):
        delays = _delays(preset, 12)
        assert len(delays) == len(highs)
        assert all(low <= delay <= high for low, delay, high in zip(lows, delays, highs, strict=True))


def test_the_jitter_comes_before_the_rounding_and_never_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """[24]"""
    monkeypatch.setattr(random, "random", lambda: 0.0)
    assert JitterStrategy.FULL.finalize_delay(10) == 1
    assert JitterStrategy.HALF.finalize_delay(5) == 3
    monkeypatch.setattr(random, "random", lambda: 0.41)
    assert JitterStrategy.FULL.finalize_delay(10) == 5
    assert JitterStrategy.NONE.apply_jitter(2.5) == 2.5


def test_a_strategy_without_arguments_is_not_the_default_policy() -> None:
    assert len(_delays(create_retry_strategy(), 9)) == 2
    assert len(_delays(create_linear_retry_strategy(), 9)) == 5


def test_a_pattern_or_a_type_suffices_and_types_alone_disable_the_rest() -> None:
    """[25]"""
    both = create_retry_strategy(
        RetryStrategyConfig(retryable_errors=["busy", re.compile(r"code 5\d\d")], retryable_error_types=[KeyError])
    )
    assert both(ValueError("server busy"), 1).should_retry
    assert both(ValueError("code 503"), 1).should_retry
    assert both(KeyError("x"), 1).should_retry
    assert not both(ValueError("code 404"), 1).should_retry
    types = create_linear_retry_strategy(LinearRetryStrategyConfig(retryable_error_types=[OSError]))
    assert types(ConnectionError(), 1).should_retry
    assert not types(ValueError("anything"), 1).should_retry
    nothing = create_retry_strategy(RetryStrategyConfig(retryable_errors=[]))
    assert not nothing(ValueError(), 1).should_retry


def test_delays_do_not_overflow() -> None:
    strategy = create_retry_strategy(RetryStrategyConfig(max_attempts=10**6, jitter_strategy=JitterStrategy.NONE))
    assert strategy(ValueError(), 100_000).delay_seconds == 300


@pytest.mark.parametrize("value", [0, -1, True, 1.5])
def test_a_number_of_attempts_counts_from_one(value: Any) -> None:
    with pytest.raises(ValidationError, match="max_attempts must be at least 1"):
        RetryStrategyConfig(max_attempts=value)


def test_durations_in_retry_configurations_may_be_numbers_and_enums_may_be_texts() -> None:
    given: dict[str, Any] = {"initial_delay": 3, "max_delay": timedelta(minutes=1), "jitter_strategy": "NONE"}
    config = RetryStrategyConfig(**given)
    assert (config.initial_delay_seconds, config.max_delay_seconds) == (3, 60)
    assert config.jitter_strategy is JitterStrategy.NONE
    increment: Any = 4
    linear = LinearRetryStrategyConfig(increment=increment)
    assert (linear.initial_delay_seconds, linear.increment_seconds, linear.max_delay_seconds) == (1, 4, 300)
