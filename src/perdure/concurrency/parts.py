"""The parts of a batch under the names that the official SDK gives them, for code that imports them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from perdure.model.word import Word


class BranchStatus(Word):
    """Where a branch is."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    SUSPENDED = "suspended"
    SUSPENDED_WITH_TIMEOUT = "suspended_with_timeout"
    FAILED = "failed"


class BranchEventKind(Word):
    """What has happened to a branch."""

    COMPLETED = "completed"
    FAILED = "failed"
    SUSPENDED = "suspended"
    SUSPENDED_UNTIL = "suspended_until"
    ORPHANED = "orphaned"
    FATAL = "fatal"


@dataclass(frozen=True)
class Executable:
    """A branch that may be started: its index, its function, its name."""

    index: int
    func: Callable[..., Any]
    name: str | None = None


@dataclass(frozen=True)
class BranchEvent:
    """What a branch has come to."""

    index: int
    kind: BranchEventKind
    result: Any = None
    error: Exception | None = None
    resume_at: float | None = None
    fatal_error: BaseException | None = None

    @classmethod
    def completed(cls, index: int, result: Any) -> "BranchEvent":
        return cls(index, BranchEventKind.COMPLETED, result)

    @classmethod
    def failed(cls, index: int, error: Exception) -> "BranchEvent":
        return cls(index, BranchEventKind.FAILED, error=error)

    @classmethod
    def suspended(cls, index: int) -> "BranchEvent":
        return cls(index, BranchEventKind.SUSPENDED)

    @classmethod
    def suspended_until(cls, index: int, resume_at: float) -> "BranchEvent":
        return cls(index, BranchEventKind.SUSPENDED_UNTIL, resume_at=resume_at)

    @classmethod
    def orphaned(cls, index: int) -> "BranchEvent":
        return cls(index, BranchEventKind.ORPHANED)

    @classmethod
    def fatal(cls, index: int, error: BaseException) -> "BranchEvent":
        return cls(index, BranchEventKind.FATAL, fatal_error=error)


class Branch:
    """A branch and its status, which the methods move on."""

    def __init__(self, executable: Executable) -> None:
        self.executable = executable
        self.status = BranchStatus.PENDING
        self.result: Any = None
        self.error: Exception | None = None
        self.resume_at: float | None = None

    @property
    def index(self) -> int:
        return self.executable.index

    def start(self) -> None:
        self.status, self.resume_at = BranchStatus.RUNNING, None

    def complete(self, result: Any) -> None:
        self.status, self.result = BranchStatus.COMPLETED, result

    def fail(self, error: Exception) -> None:
        self.status, self.error = BranchStatus.FAILED, error

    def suspend(self) -> None:
        self.status = BranchStatus.SUSPENDED

    def suspend_until(self, resume_at: float) -> None:
        self.status, self.resume_at = BranchStatus.SUSPENDED_WITH_TIMEOUT, resume_at
