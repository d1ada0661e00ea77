"""What the service promises about a name, and about an execution with its callbacks, as if calls came one by one."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from linearizability.checker import UNKNOWN, Action

Outcome = tuple[str, str]
"""How a callback was completed, ("succeeded", result) or ("failed", message): what the handler returns of it."""

ENDED: Final = ("SUCCEEDED", "FAILED", "STOPPED", "TIMED_OUT")


class Taken(NamedTuple):
    """A name that is taken: the input it was taken with, and the execution, where anybody has been told which."""

    payload: str
    execution: str | None = None


class Name:
    """One name of executions: the first start takes it, the same start again finds it, another one is refused.

    * `start(payload)`: ("started", execution, is_new), is_new None where the client is not told; or ("refused",)
    * `find()`: the execution that has the name, or None
    """

    initial: Final[Taken | None] = None

    def after(self, state: Taken | None, action: Action, answer: Any) -> Iterable[Taken | None]:
        verb, *given = action
        if verb == "find":
            return _bound(state, answer)
        assert verb == "start", verb
        payload = str(given[0])
        if answer is UNKNOWN:
            return [state or Taken(payload)]
        if answer[0] == "refused":
            return [state] if state is not None and state.payload != payload else []
        _, execution, is_new = answer
        if state is None:
            return [Taken(payload, execution)] if is_new in (True, None) else []
        return _bound(state, execution) if state.payload == payload and is_new in (False, None) else []


def _bound(state: Taken | None, execution: Any) -> Iterable[Taken | None]:
    """The name after somebody was told whose it is."""
    if execution is UNKNOWN or (execution is None and state is None):
        return [state]
    if state is None or execution is None or state.execution not in (None, execution):
        return []
    return [state._replace(execution=execution)]


class Standing(NamedTuple):
    """An execution. `end_ms` is None while nobody has been told when it ended; `events` is the longest history seen."""

    callbacks: tuple[Outcome | None, ...]
    status: str = "RUNNING"
    end_ms: int | None = None
    events: int = 0

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def result(self) -> tuple[Outcome | None, ...] | None:
        return self.callbacks if self.status == "SUCCEEDED" else None


class Execution:
    """An execution that waits for its callbacks in their order, and returns how each was completed.

    * `succeed(number, result)`, `fail(number, message)`, `heartbeat(number)`: "ok", or "closed"
    * `pause()`, `resume()`: "ok", or "conflict"
    * `stop()`: ("ok", when it ended)
    * `read()`: (status, result, when it ended)
    * `list()`: the status
    * `history()`: how many events there are
    * `open()`: the numbers of the callbacks that can be completed

    It goes on by itself: it ends once all callbacks are completed, unless it is paused; PAUSING becomes PAUSED.
    """

    def __init__(self, callbacks: int) -> None:
        self.initial = Standing((None,) * callbacks)

    def after(self, state: Standing, action: Action, answer: Any) -> Iterable[Standing]:
        return [after for before in _by_itself(state) for after in _AFTER[str(action[0])](before, action, answer)]


def _by_itself(state: Standing) -> Iterator[Standing]:
    """The execution, and what it may have become without anybody asking."""
    yield state
    if state.status == "PAUSING":
        yield state._replace(status="PAUSED")
    if state.status in ("RUNNING", "PAUSING") and None not in state.callbacks:
        yield state._replace(status="SUCCEEDED")


def _complete(state: Standing, action: Action, answer: Any) -> Iterator[Standing]:
    verb, number, text = action
    assert isinstance(number, int)
    is_open = not state.has_ended and state.callbacks[number] is None
    if is_open and answer in ("ok", UNKNOWN):
        outcome = ("succeeded" if verb == "succeed" else "failed", str(text))
        callbacks = (*state.callbacks[:number], outcome, *state.callbacks[number + 1 :])
        yield state._replace(callbacks=callbacks)
    elif not is_open and answer in ("closed", UNKNOWN):
        yield state


def _heartbeat(state: Standing, action: Action, answer: Any) -> Iterator[Standing]:
    number = action[1]
    assert isinstance(number, int)
    is_open = not state.has_ended and state.callbacks[number] is None
    if answer is UNKNOWN or answer == ("ok" if is_open else "closed"):
        yield state


def _pause(state: Standing, _action: Action, answer: Any) -> Iterator[Standing]:
    if state.status == "RUNNING" and answer in ("ok", UNKNOWN):
        yield state._replace(status="PAUSING")
        yield state._replace(status="PAUSED")
    elif state.status != "RUNNING" and answer in ("conflict", UNKNOWN):
        yield state


def _resume(state: Standing, _action: Action, answer: Any) -> Iterator[Standing]:
    is_paused = state.status in ("PAUSING", "PAUSED")
    if is_paused and answer in ("ok", UNKNOWN):
        yield state._replace(status="RUNNING")
    elif not is_paused and answer in ("conflict", UNKNOWN):
        yield state


def _stop(state: Standing, _action: Action, answer: Any) -> Iterator[Standing]:
    stopped = state if state.has_ended else state._replace(status="STOPPED")
    if answer is UNKNOWN:
        yield stopped
    else:
        yield from _ended_at(stopped, answer[1])


def _read(state: Standing, _action: Action, answer: Any) -> Iterator[Standing]:
    if answer is UNKNOWN:
        yield state
        return
    status, result, end_ms = answer
    if (status, result) == (state.status, state.result):
        yield from _ended_at(state, end_ms)


def _ended_at(state: Standing, end_ms: int | None) -> Iterator[Standing]:
    """The execution after somebody was told when it ended."""
    if (end_ms is not None) is state.has_ended and state.end_ms in (None, end_ms):
        yield state._replace(end_ms=end_ms)


def _list(state: Standing, _action: Action, answer: Any) -> Iterator[Standing]:
    if answer is UNKNOWN or answer == state.status:
        yield state


def _history(state: Standing, _action: Action, answer: Any) -> Iterator[Standing]:
    if answer is UNKNOWN:
        yield state
    elif answer >= state.events:
        yield state._replace(events=answer)


def _open(state: Standing, _action: Action, answer: Any) -> Iterator[Standing]:
    numbers = frozenset() if state.has_ended else {n for n, outcome in enumerate(state.callbacks) if outcome is None}
    if answer is UNKNOWN or answer == numbers:
        yield state


_AFTER: Final = {
    "succeed": _complete,
    "fail": _complete,
    "heartbeat": _heartbeat,
    "pause": _pause,
    "resume": _resume,
    "stop": _stop,
    "read": _read,
    "list": _list,
    "history": _history,
    "open": _open,
}
