"""The clock of a test, alone."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from perdure.testing.clock import VirtualClock

START = datetime(2027, 3, 1, 12, tzinfo=UTC)


def test_it_stands_until_it_is_moved() -> None:
    clock = VirtualClock(START)
    assert clock.now() == clock.now() == START
    clock.advance(timedelta(minutes=1))
    clock.advance(0.5)
    assert clock.now() == START + timedelta(seconds=60.5)
    clock.advance_to(datetime(2027, 3, 2))  # noqa: DTZ001 - without a time zone it is in UTC
    assert clock.now() == datetime(2027, 3, 2, tzinfo=UTC)


def test_it_does_not_go_back() -> None:
    clock = VirtualClock(START)
    clock.move_to(0)
    assert clock.now() == START
    with pytest.raises(ValueError, match="a clock can't go back"):
        clock.advance(-0.001)


def test_a_real_one_is_the_machine_s_as_far_as_it_was_not_moved_on() -> None:
    clock = VirtualClock(is_real=True)
    before_ms = time.time_ns() // 1_000_000
    clock.advance(3600)
    assert 0 <= clock.now_ms() - before_ms - 3_600_000 < 60_000


def test_it_begins_now_unless_told_otherwise() -> None:
    before_ms = time.time_ns() // 1_000_000
    assert before_ms <= VirtualClock().now_ms() <= time.time_ns() // 1_000_000


def test_frozen_gives_back_what_was_set_before() -> None:
    clock = VirtualClock()
    with clock.frozen():
        assert not clock.auto
        with clock.frozen():
            assert not clock.auto
        assert not clock.auto
    assert clock.auto


def test_without_anything_due_there_is_no_next_timer() -> None:
    assert VirtualClock().run_next_timer() is None
