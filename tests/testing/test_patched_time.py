"""Code that asks `time` or `datetime` is told a test's time, if the test wants that."""

import datetime as datetimes
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

from perdure import DurableContext, durable_execution
from perdure.testing import LocalRunner

START = datetime(2030, 1, 31, 23, 59, 50, tzinfo=UTC)


@durable_execution
def asking(_event: Any, context: DurableContext) -> list[Any]:
    def ask() -> list[Any]:
        return [
            time.time(),
            time.time_ns() // 1_000_000,
            datetime.now(UTC).isoformat(),
            datetimes.datetime.utcnow().isoformat(),  # noqa: DTZ003 - it is asked for
            datetimes.datetime.now(timezone(2)).isoformat(),
        ]

    first = context.step(ask)
    context.wait(3600)
    return [first, context.step(ask)]


def timezone(hours: int) -> datetimes.timezone:
    return datetimes.timezone(timedelta(hours=hours))


def told(moment: datetime) -> list[Any]:
    naive = moment.replace(tzinfo=None).isoformat()
    return [
        moment.timestamp(),
        int(moment.timestamp() * 1000),
        moment.isoformat(),
        naive,
        moment.astimezone(timezone(2)).isoformat(),
    ]


def test_time_and_datetime_tell_the_modelled_time_before_and_after_a_wait() -> None:
    with LocalRunner(asking, start_time=START, patch_time=True) as runner:
        result = runner.run()
        assert time.time() == (START + timedelta(hours=1)).timestamp()
        assert isinstance(datetime.now(UTC), datetime)
        assert date.today() == datetime.fromtimestamp(time.time()).date()  # noqa: DTZ011, DTZ006 - they are asked
    assert result.result == [told(START), told(START + timedelta(hours=1))]


def test_sleeping_in_a_body_takes_modelled_time() -> None:
    @durable_execution
    def sleeping(_event: Any, context: DurableContext) -> None:
        context.step(lambda: time.sleep(800), name="nap")

    with LocalRunner(sleeping, patch_time=True) as runner:
        result = runner.run()
    assert result.op("nap").duration == timedelta(seconds=800)


def test_the_machine_s_time_is_back_after_closing_and_was_there_all_the_time_without_the_option() -> None:
    real = datetimes.datetime, datetimes.date, time.time, time.time_ns, time.sleep
    with LocalRunner(asking, start_time=START, patch_time=True):
        assert datetimes.datetime is not real[0]
    assert (datetimes.datetime, datetimes.date, time.time, time.time_ns, time.sleep) == real
    assert datetime is real[0]
    with LocalRunner(asking, start_time=START) as runner:
        assert runner.run().result[0][0] < START.timestamp()
