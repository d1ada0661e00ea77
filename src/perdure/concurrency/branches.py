"""The names of the official SDK's inner workings of a batch that code may import; nothing in Perdure uses them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from perdure.exceptions import InvalidStateError
from perdure.model.word import Word

__all__ = ["Branch", "BranchEvent", "BranchEventKind", "BranchStatus", "Executable"]

T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., Any])


@dataclass(frozen=True)
class Executable(Generic[C]):
    """A branch's place, function and name."""

    index: int
    func: C
    name: str | None = None


class BranchStatus(Word):
    """What a branch is doing."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    SUSPENDED = "suspended"
    SUSPENDED_WITH_TIMEOUT = "suspended_with_timeout"
    FAILED = "failed"


class Branch(Generic[T]):
    """A branch and what has become of it. `resume_at` is in seconds since the epoch."""

    def __init__(self, executable: Executable[Any]) -> None:
        self.executable = executable
        self.status = BranchStatus.PENDING
        self.result: T | None = None
        self.error: Exception | None = None
        self.resume_at: float | None = None

    @property
    def index(self) -> int:
        return self.executable.index

    def start(self) -> None:
        if self.status not in (BranchStatus.PENDING, BranchStatus.SUSPENDED_WITH_TIMEOUT):
            raise InvalidStateError(f"branch {self.index} can't start: it is {self.status}")
        self.status, self.resume_at = BranchStatus.RUNNING, None

    def complete(self, result: T | None) -> None:
        self.status, self.result = BranchStatus.COMPLETED, result

    def fail(self, error: Exception) -> None:
        self.status, self.error = BranchStatus.FAILED, error

    def suspend(self) -> None:
        self.status, self.resume_at = BranchStatus.SUSPENDED, None

    def suspend_until(self, resume_at: float) -> None:
        self.status, self.resume_at = BranchStatus.SUSPENDED_WITH_TIMEOUT, resume_at


class BranchEventKind(Word):
    """How one run of a branch ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    SUSPENDED = "suspended"
    SUSPENDED_UNTIL = "suspended_until"
    ORPHANED = "orphaned"
    FATAL = "fatal"


@dataclass(frozen=True)
class BranchEvent(Generic[T]):
    """The end of one run of a branch."""

    index: int
    kind: BranchEventKind
    result: T | None = None
    error: Exception | None = None
    resume_at: float | None = None
    fatal_error: BaseException | None = None
