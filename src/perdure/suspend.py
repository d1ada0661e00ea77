"""Ending an invocation until a moment, for those who write operations of their own."""

from datetime import datetime
from typing import NoReturn

from perdure.exceptions import SuspendExecution, TimedSuspendExecution

__all__ = ["suspend_with_optional_resume_delay", "suspend_with_optional_resume_timestamp"]


def suspend_with_optional_resume_timestamp(msg: str, datetime_timestamp: datetime | None = None) -> NoReturn:
    """Suspend until this moment; without one, until the service has news."""
    if datetime_timestamp is None:
        raise SuspendExecution(msg)
    raise TimedSuspendExecution.from_datetime(msg, datetime_timestamp)


def suspend_with_optional_resume_delay(msg: str, delay_seconds: int | None = None) -> NoReturn:
    """Suspend for this many seconds; without them, until the service has news."""
    if delay_seconds is None:
        raise SuspendExecution(msg)
    raise TimedSuspendExecution.from_delay(msg, delay_seconds)
