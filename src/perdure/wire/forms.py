"""What differs between the places where JSON is written: how a time looks, and whether payloads are shown.

Source of the three encodings: Lambda API 2025-12-01. Bodies of the API hold seconds, the event that a function is
invoked with holds milliseconds; people are shown ISO 8601. What a function is given may be in any of them.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import msgspec

from perdure.model.error import InvalidParameterValue


class Times(Protocol):
    """One way to write a time."""

    def write(self, at_ms: int) -> Any: ...

    def read(self, value: Any, where: str) -> int: ...


class Seconds:
    """A number of seconds since the epoch; milliseconds are its fraction. ISO text is understood too."""

    def write(self, at_ms: int) -> int | float:
        return at_ms // 1000 if at_ms % 1000 == 0 else at_ms / 1000

    def read(self, value: Any, where: str) -> int:
        if isinstance(value, str):
            return IsoText().read(value, where)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < SECONDS_END:
            raise InvalidParameterValue(f"{where} must be a number of seconds, not {value!r:.80}")
        return round(value * 1000)


class Milliseconds:
    """A whole number of milliseconds since the epoch."""

    def write(self, at_ms: int) -> int:
        return at_ms

    def read(self, value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidParameterValue(f"{where} must be a whole number of milliseconds, not {value!r:.80}")
        return value


class IsoText:
    """ISO 8601 in UTC, to the millisecond: `2026-01-31T12:00:00.250Z`."""

    def write(self, at_ms: int) -> str:
        seconds, thousandths = divmod(at_ms, 1000)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{thousandths:03}Z"

    def read(self, value: Any, where: str) -> int:
        try:
            at = datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise InvalidParameterValue(f"{where} must be an ISO 8601 time, not {value!r:.80}") from None
        return to_ms(at)


class AnyTime(Milliseconds):
    """Written as milliseconds; read in whatever way services and clients hand times to a function.

    That is a datetime, ISO text, or a number: of seconds if it is under 10^11, which is the year 5138 in seconds and
    1973 in milliseconds.
    """

    def read(self, value: Any, where: str) -> int:
        if type(value) is int and value >= SECONDS_END:
            return value
        if isinstance(value, datetime):
            return to_ms(value)
        if isinstance(value, float) and value >= SECONDS_END:
            return round(value)
        return Seconds().read(value, where)


SECONDS_END: Final = 10**11
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def to_ms(at: datetime) -> int:
    """Whole milliseconds since the epoch; a datetime without a zone is taken as UTC."""
    return ((at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - _EPOCH) // _MILLISECOND


def from_ms(at_ms: int) -> datetime:
    """The moment in UTC, exact to the millisecond."""
    return _EPOCH + at_ms * _MILLISECOND


class Form(msgspec.Struct, frozen=True):
    """How one document is written. Without `is_data_shown`, payloads and errors are left out."""

    times: Times
    is_data_shown: bool = True

    def without_data(self) -> "Form":
        return Form(self.times, is_data_shown=False)


API: Final = Form(Seconds())
FUNCTION: Final = Form(Milliseconds())
PEOPLE: Final = Form(IsoText())
ANY: Final = Form(AnyTime())
