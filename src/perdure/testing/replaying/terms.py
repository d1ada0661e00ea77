"""Waits, time-outs, retries and targets that differ from what is recorded: nothing stops because of them."""

import builtins
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from perdure.model import event as ev
from perdure.model.error import ErrorObject
from perdure.model.event import HistoryEvent
from perdure.model.operation import Callback, ChainedInvoke, Operation, Wait
from perdure.testing.replaying.asking import Asked, Rerun

SAMPLES: Final = 3
"""A strategy that gives one delay that often has no jitter, and its delays can be compared."""


def changed_terms(run: Rerun, events: Sequence[HistoryEvent], operations: Sequence[Operation]) -> Iterator[str]:
    """What a run asked for with other terms than those recorded, in words. `operations` are all that there are."""
    callbacks = {each.parent_id: each for each in operations if isinstance(each, Callback) and each.parent_id}
    attempts = _attempts(events)
    for asked in run.asked.values():
        if asked.record is None or not asked.terms:
            continue
        record = callbacks.get(asked.place, asked.record)
        for text in _of_one(asked, record, attempts.get(asked.place, ())):
            yield f"{record.type} '{asked.name}': {text}" if asked.name else f"operation {record.number}: {text}"


def _of_one(asked: Asked, record: Operation, attempts: "Sequence[_Attempt]") -> Iterator[str]:
    terms = asked.terms
    if isinstance(record, Wait) and "wait_s" in terms and record.scheduled_end_ms is not None:
        recorded_s = round((record.scheduled_end_ms - record.start_ms) / 1000)
        if recorded_s != terms["wait_s"]:
            yield f"it waits {recorded_s} s as recorded; the code asks for {terms['wait_s']} s"
    elif isinstance(record, Callback) and "timeout_s" in terms:
        for field, words in (("timeout_s", "time-out"), ("heartbeat_timeout_s", "heartbeat time-out")):
            if getattr(record, field) != terms[field]:
                yield f"its {words} is {_s(getattr(record, field))} as recorded; the code asks for {_s(terms[field])}"
    elif isinstance(record, ChainedInvoke) and record.function and terms.get("function") != record.function:
        yield f"it invoked {record.function!r}; the code invokes {terms.get('function')!r}"
    elif "retry" in terms and attempts:
        yield from _retries(terms["retry"], attempts)


def _s(seconds: int) -> str:
    return f"{seconds} s" if seconds else "none"


class _Attempt(msgspec.Struct, frozen=True):
    """An attempt that failed: `delay_s` is what was waited before the next one, None if there was none."""

    number: int
    error: ErrorObject | None
    delay_s: int | None


def _attempts(events: Sequence[HistoryEvent]) -> Mapping[str, Sequence[_Attempt]]:
    found: dict[str, list[_Attempt]] = {}
    for shown in events:
        event = shown.event
        if isinstance(event, ev.StepFailed):
            attempt = _Attempt(event.attempt, event.error, event.next_attempt_delay_s)
            found.setdefault(event.operation_id, []).append(attempt)
    return found


def _retries(strategy: Any, attempts: Sequence[_Attempt]) -> Iterator[str]:
    """The first attempt after which the strategy would now decide otherwise."""
    for attempt in attempts:
        error = _as_raised(attempt.error)
        if error is None:
            return
        try:
            decisions = [strategy(error, attempt.number) for _ in range(SAMPLES)]
        except Exception:  # noqa: BLE001 - the author's strategy may want what is not recorded
            return
        would_retry = decisions[0].should_retry
        if would_retry != (attempt.delay_s is not None):
            was, now = (
                ("it was not tried again", "would")
                if would_retry
                else (f"it was tried again after {attempt.delay_s} s", "would not")
            )
            yield f"after attempt {attempt.number} {was}; with the code's retry policy it {now} be"
            return
        delays = {max(1, each.delay_seconds) for each in decisions} if would_retry else set()
        if len(delays) == 1 and delays != {attempt.delay_s}:
            yield (
                f"after attempt {attempt.number} it was tried again after {attempt.delay_s} s; the code's retry policy "
                f"waits {delays.pop()} s"
            )
            return


def _as_raised(error: ErrorObject | None) -> Exception | None:
    """An error of the class that was raised, with its message; None if that can't be had."""
    if error is None or error.type is None:
        return None
    module, _, name = error.type.rpartition(".")
    home = builtins if not module else sys.modules.get(module)
    kind = getattr(home, name, None)
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        return None
    try:
        return kind(error.message or "")
    except Exception:  # noqa: BLE001 - a class of the author's that wants more than a message
        return None
