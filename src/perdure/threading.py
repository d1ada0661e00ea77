"""Tools for threads that work on one execution: what they wait for, and taking turns in the order of asking."""

from collections import deque
from threading import Event, Lock
from types import TracebackType
from typing import Self

from perdure.exceptions import OrderedLockError

__all__ = ["CompletionEvent", "OrderedCounter", "OrderedLock"]


class CompletionEvent:
    """An event whose waiters return, or raise the error that it was set with."""

    def __init__(self) -> None:
        self._event = Event()
        self._error: BaseException | None = None

    def set(self, error: BaseException | None = None) -> None:
        self._error = error
        self._event.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it was set within `timeout` seconds. Raises the error that it was set with."""
        is_set = self._event.wait(timeout)
        if is_set and self._error is not None:
            raise self._error
        return is_set

    def is_set(self) -> bool:
        return self._event.is_set()


class OrderedLock:
    """A lock that is had in the order in which it was asked for.

    An error raised while it is held breaks it: whoever waits for it then, or asks later, gets OrderedLockError with
    that error as its `source_exception`, until it is `reset`.
    """

    def __init__(self) -> None:
        self._turn = Lock()
        self._queue: deque[Event] = deque()
        self._error: Exception | None = None

    def acquire(self) -> bool:
        mine = Event()
        with self._turn:
            self._raise_if_broken()
            self._queue.append(mine)
            if self._queue[0] is mine:
                mine.set()
        mine.wait()
        with self._turn:
            if self._error is not None:
                self._queue.remove(mine)
                self._raise_if_broken()
        return True

    def release(self) -> None:
        with self._turn:
            if not self._queue or not self._queue[0].is_set():
                raise OrderedLockError("the lock was released and nobody had it")
            self._queue.popleft()
            if self._queue:
                self._queue[0].set()

    def reset(self) -> None:
        """Make a broken lock whole again. OrderedLockError while somebody has it or waits for it."""
        with self._turn:
            if self._queue:
                raise OrderedLockError(f"the lock can't be reset: {len(self._queue)} have it or wait for it")
            self._error = None

    def is_broken(self) -> bool:
        with self._turn:
            return self._error is not None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            with self._turn:
                self._error = error
                self._queue.popleft()
                for waiting in self._queue:
                    waiting.set()
        else:
            self.release()

    def _raise_if_broken(self) -> None:
        if self._error is not None:
            raise OrderedLockError(
                f"the lock is broken: {type(self._error).__name__} was raised by somebody who had it; reset it first",
                self._error,
            )


class OrderedCounter:
    """A count that threads change one after the other, in the order in which they ask."""

    def __init__(self) -> None:
        self._lock = OrderedLock()
        self._count = 0

    def increment(self) -> int:
        """Return the count after one was added."""
        with self._lock:
            self._count += 1
            return self._count

    def decrement(self) -> int:
        """Return the count after one was taken away."""
        with self._lock:
            self._count -= 1
            return self._count

    def get_current(self) -> int:
        with self._lock:
            return self._count
