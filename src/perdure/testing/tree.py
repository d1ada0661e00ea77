"""An execution as text: the tree of its operations, with what is pending, until when, and who may answer."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from perdure.lambda_service import OperationStatus
from perdure.sdk.tags import is_batch
from perdure.testing.exceptions import UnknownValue
from perdure.testing.facts import Facts, InvocationRecord
from perdure.testing.operations import (
    CallbackOperation,
    InvokeOperation,
    Operation,
    StepOperation,
    WaitOperation,
)
from perdure.testing.trace import Trace
from perdure.wire.forms import PEOPLE, to_ms

SHOWN_MAX: Final = 200
"""How many operations of one parent are shown before the rest is counted."""
VALUE_MAX: Final = 60
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))


def tree_of(facts: Facts, *, now_ms: int | None = None) -> str:
    """The execution as text. With `now_ms`, the clock's present, it says how far off everything is that is due."""
    return tree(Trace(facts), now_ms=now_ms)


def tree(trace: Trace, *, now_ms: int | None = None) -> str:
    """The first line is the execution, then one for each operation, a parent before its children."""
    rows: list[tuple[str, str, str]] = []
    _rows(trace.roots, "", rows, now_ms)
    widths = [min(max((len(row[at]) for row in rows), default=0), 60) for at in (0, 1)]
    lines = [f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows]
    return "\n".join([headline(trace.facts), *_invocations(trace.facts.invocations), *lines])


def headline(facts: Facts) -> str:
    """One line: the name, the status, the counts, the modelled time."""
    counts = f"{_count(len(facts.operations), 'operation')}, {_count(len(facts.invocations), 'invocation')}"
    took = f", {human(timedelta(milliseconds=facts.end_ms - facts.start_ms))}" if facts.end_ms is not None else ""
    error = f": {_short(str(facts.error))}" if facts.error is not None else ""
    return f"{facts.name} {facts.status} ({counts}{took}){error}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _invocations(records: Sequence[InvocationRecord]) -> list[str]:
    """The invocations that say something: those that crashed, and the one that runs."""
    telling = [record for record in records if record.status in ("CRASHED", "RUNNING")]
    return [
        f"  invocation {record.number} {record.status} since {PEOPLE.times.write(record.start_ms)}"
        if record.end_ms is None
        else f"  invocation {record.number} {record.status}: {_short(str(record.error or 'its process is gone'))}"
        for record in telling
    ]


def _rows(operations: Sequence[Operation], stem: str, rows: list[tuple[str, str, str]], now_ms: int | None) -> None:
    shown = operations[:SHOWN_MAX]
    for at, operation in enumerate(shown):
        is_last = at == len(operations) - 1
        label = f"{stem}{'└─' if is_last else '├─'} {operation.display_name}"
        rows.append((label, f"{kind(operation)} {operation.status}", remark(operation, now_ms)))
        _rows(operation.children, stem + ("   " if is_last else "│  "), rows, now_ms)
    if len(operations) > len(shown):
        rows.append((f"{stem}└─ … and {len(operations) - len(shown)} more", "", ""))


def kind(operation: Operation) -> str:
    """The type, with the sub-type where that says more."""
    plain = operation.operation_type.replace("_", "").casefold()
    sub_type = operation.sub_type
    return operation.operation_type if sub_type is None or sub_type.casefold() == plain else sub_type


# --- what there is to say of an operation ------------------------------------------------------------------------


def remark(operation: Operation, now_ms: int | None = None) -> str:
    """Its value or error if it has ended; what it waits for if not."""
    if not operation.is_terminal:
        return _pending(operation, now_ms)
    took = f"took {human(operation.duration)}" if operation.duration else ""
    return "; ".join(part for part in (_attempts(operation), _outcome(operation), took) if part)


def _attempts(operation: Operation) -> str:
    count = len(operation.attempts)
    return f"{count} attempts" if count > 1 else ""


def _outcome(operation: Operation) -> str:
    if operation.status is not OperationStatus.SUCCEEDED:
        error = getattr(operation, "error", None)
        return _short(str(error)) if error is not None else ""
    try:
        value = operation.value
    except UnknownValue:
        return _short(getattr(operation, "result", None) or "")
    if value is None:
        return ""
    return describe_batch(value) or _short(repr(value))


def describe_batch(value: Any) -> str:
    """The outcome of a map or parallel in a few words; "" if `value` is none."""
    if not is_batch(value):
        return ""
    return f"{value.success_count} of {value.total_count} succeeded, {value.completion_reason}"


def _pending(operation: Operation, now_ms: int | None) -> str:
    match operation:
        case StepOperation():
            return _pending_step(operation, now_ms)
        case WaitOperation():
            return f"due {_due(operation.scheduled_end_timestamp, now_ms)}"
        case CallbackOperation():
            due = operation.timeout_timestamp
            until = f"times out {_due(due, now_ms)}" if due is not None else "no time-out"
            return f"callback id {operation.callback_id}; {until}"
        case InvokeOperation():
            return f"of function {operation.function_name!r}"
        case _:
            return ""


def _pending_step(operation: StepOperation, now_ms: int | None) -> str:
    attempts = operation.attempts
    if operation.status is not OperationStatus.PENDING:
        return f"attempt {operation.attempt + 1} " + ("runs" if operation.status == "STARTED" else "may start")
    last = attempts[-1] if attempts else None
    said = f"attempt {operation.attempt} failed: {_short(str(last.error))}" if last and last.error else ""
    said = said or f"looked {operation.attempt} times"
    return f"{said}; next {_due(operation.next_attempt_timestamp, now_ms)}"


def _time(at: datetime | None) -> str:
    return "" if at is None else str(PEOPLE.times.write(to_ms(at)))


def _due(at: datetime | None, now_ms: int | None) -> str:
    if at is None:
        return "at an unknown time"
    at_ms = to_ms(at)
    text = f"at {_time(at)}"
    if now_ms is None:
        return text
    off = timedelta(milliseconds=abs(at_ms - now_ms))
    return f"{text} (in {human(off)})" if at_ms > now_ms else f"{text} (due since {human(off)})"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= VALUE_MAX else f"{line[: VALUE_MAX - 1]}…"


def human(duration: timedelta) -> str:
    """A duration as people say it: `2 min`, `1 d 6 h`, `0.25 s`."""
    seconds = duration.total_seconds()
    parts = []
    for unit, length in _UNITS:
        if seconds >= length:
            parts.append(f"{int(seconds // length)} {unit}")
            seconds %= length
    if seconds or not parts:
        parts.append(f"{round(seconds, 3):g} s")
    return " ".join(parts[:2])


# --- tables ------------------------------------------------------------------------------------------------------

COLUMNS: Final[dict[str, Callable[[Operation], str]]] = {
    "path": lambda operation: operation.path,
    "name": lambda operation: operation.display_name,
    "type": lambda operation: str(operation.operation_type),
    "sub_type": lambda operation: operation.sub_type or "",
    "status": lambda operation: str(operation.status),
    "attempts": lambda operation: str(len(operation.attempts) or ""),
    "start": lambda operation: _time(operation.start_timestamp),
    "end": lambda operation: _time(operation.end_timestamp),
    "duration": lambda operation: "" if operation.duration is None else human(operation.duration),
    "outcome": lambda operation: _outcome(operation) if operation.is_terminal else _pending(operation, None),
    "error": lambda operation: _short(str(getattr(operation, "error", None) or "")),
    "id": lambda operation: operation.operation_id,
    "operations": lambda operation: str(operation.metering.operations),
    "bytes": lambda operation: str(operation.metering.written_bytes),
}
"""What a table may have, by the name of the column."""

DEFAULT_COLUMNS: Final = ("path", "type", "status", "attempts", "duration", "outcome")


def table(operations: Sequence[Operation], columns: Sequence[str] = DEFAULT_COLUMNS) -> str:
    """A table with a line for each operation. ValueError if a column is not one of `COLUMNS`."""
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown:
        raise ValueError(f"no column {unknown[0]!r}; there are: {', '.join(COLUMNS)}")
    rows = [list(columns), *([str(COLUMNS[column](each)) for column in columns] for each in operations)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(columns))]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
