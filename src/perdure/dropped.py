"""The names of the official SDK's 1.x line that it has dropped since: old code still imports them, they do nothing.

They are had from where they were: `perdure.config`, `perdure.waits`, `perdure.exceptions`.
"""

import warnings
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from perdure.config import Duration, DurationLike, to_duration
from perdure.model.word import Word

__all__ = [
    "CallableRuntimeErrorSerializableDetails",
    "CheckpointMode",
    "StepFuture",
    "TerminationMode",
    "WaitDecision",
]

T = TypeVar("T")

_warned: Final[set[str]] = set()


def warn_of_dropped(option: str, given: Any, default: Any, *, frames: int) -> None:
    """Warn once in a process that an option does nothing, if it was given a value that would have done something.

    The warning names the line that is so many frames away.
    """
    if given == default or option in _warned:
        return
    _warned.add(option)
    text = f"{option} does nothing: the official SDK has dropped it, too. Leave it out."
    warnings.warn(text, DeprecationWarning, stacklevel=frames)


class TerminationMode(Word):
    """What was to become of what still ran when a batch was decided."""

    TERMINATE = "TERMINATE"
    CANCEL = "CANCEL"
    WAIT = "WAIT"
    ABANDON = "ABANDON"


class CheckpointMode(Word):
    """When a child context was to be recorded."""

    NO_CHECKPOINT = "NO_CHECKPOINT"
    CHECKPOINT_AT_FINISH = "CHECKPOINT_AT_FINISH"
    CHECKPOINT_AT_START_AND_FINISH = "CHECKPOINT_AT_START_AND_FINISH"


class StepFuture(Generic[T]):
    """A named future of the standard library."""

    def __init__(self, future: "Future[T]", name: str | None = None) -> None:
        self.name = name
        self.future = future

    def result(self, timeout_seconds: int | None = None) -> T:
        """The result; TimeoutError after so many seconds."""
        return self.future.result(timeout=timeout_seconds)


@dataclass(frozen=True)
class WaitDecision:
    """Whether to wait, and how long; `WaitForConditionDecision` has taken its place."""

    should_wait: bool
    delay: Duration

    @property
    def delay_seconds(self) -> int:
        return self.delay.to_seconds()

    @classmethod
    def wait(cls, delay: DurationLike) -> "WaitDecision":
        return cls(should_wait=True, delay=to_duration(delay, "delay"))

    @classmethod
    def no_wait(cls) -> "WaitDecision":
        return cls(should_wait=False, delay=Duration())


@dataclass(frozen=True)
class CallableRuntimeErrorSerializableDetails:
    """An error's bare type and its text."""

    type: str
    message: str

    @classmethod
    def from_exception(cls, exception: Exception) -> "CallableRuntimeErrorSerializableDetails":
        return cls(type(exception).__name__, str(exception))

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"
