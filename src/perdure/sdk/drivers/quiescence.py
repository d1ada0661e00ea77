"""Whether the tasks of an invocation can go on by themselves, seen from what each of them waits for."""

import asyncio
from typing import Any, Final, NamedTuple

_WAITS: Final = {
    "taskgroups.py": None,
    "locks.py": None,
    "queues.py": None,
    "tasks.py": frozenset({"_wait", "wait", "wait_for", "_wait_for_one", "gather"}),
}
"""Functions of asyncio in which a task waits for other tasks of its invocation, by file; None: all in it."""


class Settleable(asyncio.Future[Any]):
    """A future that may be settled when it is already done: by whoever comes first."""

    def settle(self, result: Any, error: BaseException | None) -> None:
        if self.done():
            return
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(result)


class Busy(Settleable):
    """Something of ours is on its way: a commit, a body in a thread."""


class Joined(Settleable):
    """Waits for other tasks of the invocation."""


class Parked(Settleable):
    """Waits for a durable operation to change."""

    def __init__(self, what: str, due_ms: int | None, operation_id: str, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.what = what
        self.due_ms = due_ms
        self.operation_id = operation_id


class Going(NamedTuple):
    """A task that can go on, and the future that lets it; None if it is about to run."""

    task: "asyncio.Task[Any]"
    future: "asyncio.Future[Any] | None"


def find_going(ours: "set[asyncio.Task[Any]]", likely: "asyncio.Task[Any] | None") -> Going | None:
    """A task that can go on before a durable operation changes; None if there is none. `likely` is looked at first."""
    for task in (likely, *ours) if likely in ours else ours:
        if task is None or task.done():
            continue
        waiter = getattr(task, "_fut_waiter", None)
        if waiter is None:
            return Going(task, None)
        foreign = _foreign(task, waiter, ours)
        if foreign is not None:
            return Going(task, foreign)
    return None


def _foreign(
    task: asyncio.Task[Any] | None, waiter: "asyncio.Future[Any]", ours: "set[asyncio.Task[Any]]"
) -> "asyncio.Future[Any] | None":
    """The future that somebody outside will settle, among what `waiter` is; None if there is none."""
    if waiter.done():
        return waiter
    if isinstance(waiter, (Parked, Joined)):
        return None
    if isinstance(waiter, asyncio.Task):
        return None if waiter in ours else waiter
    children = getattr(waiter, "_children", None)
    if children is not None:  # asyncio.gather
        for child in children:
            if not child.done() and (found := _foreign(None, child, ours)) is not None:
                return found
        return None
    if task is not None and not isinstance(waiter, Busy) and _is_waiting_for_tasks(task):
        return None
    return waiter


def _is_waiting_for_tasks(task: asyncio.Task[Any]) -> bool:
    """Whether the innermost function in which the task waits is one of asyncio's that wait for other tasks."""
    inner: Any = task.get_coro()
    code = None
    while inner is not None:
        code = getattr(inner, "cr_code", None) or getattr(inner, "gi_code", None) or code
        inner = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None)
    if code is None:
        return False
    folder, _, file = code.co_filename.replace("\\", "/").rpartition("/")
    names = _WAITS.get(file, frozenset())
    return folder.endswith("/asyncio") and (names is None or code.co_name in names)
