"""What SAM writes of executions: its summary, its table, its lines.

Source: SAM CLI, commands of durable executions.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from perdure.cli.lines import speaks_unicode
from perdure.cli.moments import local
from perdure.model import event as ev
from perdure.model.error import ErrorObject
from perdure.model.event import HistoryEvent
from perdure.model.execution import ExecutionStatus
from perdure.model.ids import request_id
from perdure.model.view import ExecutionView

PAYLOAD_CHARS: Final = 100
NARROW_CHARS: Final = 60
"""Where there is a column of errors as well."""
COLUMNS: Final = ("Event Id", "Event Type", "SubType", "Name", "Timestamp", "Details", "Payload")
ERROR: Final = "Error"
_LEFT: Final = frozenset({"Details", "Payload", ERROR})
_MARKS: Final = {
    ExecutionStatus.SUCCEEDED: " ✅",
    ExecutionStatus.FAILED: " ❌",
    ExecutionStatus.TIMED_OUT: " ⚠️",
    ExecutionStatus.STOPPED: " ⚠️",
}


def marked(sign: str, text: str) -> str:
    """A line with its sign, where that can be shown."""
    return f"{sign} {text}" if speaks_unicode() else text


def summary_of(view: ExecutionView) -> str:
    duration = f"{(view.end_ms - view.start_ms) / 1000:.2f}s" if view.end_ms is not None else "N/A"
    mark = _MARKS.get(view.status, "") if speaks_unicode() else ""
    lines = [
        "",
        "Execution Summary:",
        "=" * 25,
        f"ARN:      {view.arn}",
        f"Name:     {view.name}",
        f"Duration: {duration}",
        f"Status:   {view.status}{mark}",
        f"Input:    {view.input if view.input is not None else 'N/A'}",
    ]
    if view.result is not None:
        lines.append(f"Result:   {view.result}")
    if view.error is not None:
        lines.append(f"Error:    {view.error.type or 'Unknown'}: {view.error.message or 'Unknown error'}")
    return "\n".join(lines)


def history_of(view: ExecutionView, events: Iterable[HistoryEvent], command: str, *, is_utc: bool) -> str:
    """The table of a history; `command` shows all of it where something had to be cut."""
    shown = list(events)
    if not shown:
        return "No execution events found."
    has_errors = any(_error(event.event) is not None for event in shown)
    chars = NARROW_CHARS if has_errors else PAYLOAD_CHARS
    rows: list[list[str]] = []
    is_cut = False
    for event in shown:
        payload, is_payload_cut = _cut(_payload(event.event), chars)
        row = [
            str(event.event_id),
            event.type,
            event.sub_type or "-",
            event.name or (view.name if event.operation_id is None and event.type != "InvocationCompleted" else "-"),
            f"{local(event.event.at_ms, is_utc=is_utc):%H:%M:%S}",
            _details(view, event.event) or "-",
            payload,
        ]
        is_cut = is_cut or is_payload_cut
        if has_errors:
            error, is_error_cut = _cut(_error(event.event), NARROW_CHARS)
            row.append(error)
            is_cut = is_cut or is_error_cut
        rows.append(row)
    text = _boxed([*COLUMNS, ERROR] if has_errors else COLUMNS, rows)
    if is_cut:
        text += f"\n\nNote: Some fields were truncated. Use '{command}' to view full output."
    return text


def _boxed(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(title), *(len(row[at]) for row in rows)) for at, title in enumerate(titles)]
    across, down, corners = ("─", "│", "┌┬┐├┼┤└┴┘") if speaks_unicode() else ("-", "|", "+++++++++")

    def rule(left: str, middle: str, right: str) -> str:
        return left + middle.join(across * (width + 2) for width in widths) + right

    def line(cells: Sequence[str], is_title: bool = False) -> str:
        placed = [
            cell.ljust(width) if title in _LEFT and not is_title else cell.center(width)
            for title, cell, width in zip(titles, cells, widths, strict=True)
        ]
        return f"{down} " + f" {down} ".join(placed) + f" {down}"

    top, middle, bottom = (rule(*corners[at : at + 3]) for at in (0, 3, 6))
    return "\n".join([top, line(titles, is_title=True), middle, *(line(row) for row in rows), bottom])


def _cut(text: str | None, chars: int) -> tuple[str, bool]:
    """A text as far as it fits, JSON without its blanks; whether something was cut."""
    if text is None:
        return "-", False
    try:
        text = json.dumps(json.loads(text), separators=(",", ":"))
    except ValueError:
        text = " ".join(text.split())
    return (text, False) if len(text) <= chars else (f"{text[: chars - 3]}...", True)


def _details(view: ExecutionView, event: ev.Event) -> str:
    match event:
        case ev.ExecutionStarted():
            return f"Timeout: {event.execution_timeout_s}s"
        case ev.WaitStarted():
            return f"Duration: {event.duration_s}s"
        case ev.CallbackStarted():
            limits = (("Timeout", event.timeout_s), ("Heartbeat", event.heartbeat_timeout_s))
            return ", ".join(f"{name}: {limit}s" for name, limit in limits if limit)
        case ev.StepSucceeded() if event.attempt > 1:
            return f"Retries Attempted: {event.attempt - 1}"
        case ev.InvocationCompleted():
            return f"Invocation Id: {request_id(view.execution_id, event.epoch)}"
        case ev.ExecutionTimedOut() if event.error is None:
            return "Execution exceeded timeout"
    return ""


def _payload(event: ev.Event) -> str | None:
    found: Any = getattr(event, "input", None) if isinstance(event, ev.ExecutionStarted) else None
    return found if found is not None else getattr(event, "result", None)


def _error(event: ev.Event) -> str | None:
    found: ErrorObject | None = getattr(event, "error", None)
    if found is None or not (found.type or found.message):
        return None
    return ": ".join(part for part in (found.type, found.message) if part)


def next_commands(tree: str, arn: str) -> str:
    """The commands that one may want after an invocation."""
    lines = [
        "",
        "Commands you can use next",
        "=" * 25,
        f"[*] Get execution details: perdure {tree} execution get {arn}",
        f"[*] View execution history: perdure {tree} execution history {arn}",
    ]
    return "\n".join(lines)


def said(sign: str, line: str, error: ErrorObject | None = None) -> str:
    """What was done, with the fields of the error that was given."""
    lines = [marked(sign, line)]
    if error is not None:
        fields = (("Error Type", error.type), ("Error Message", error.message), ("Error Data", error.data))
        lines += [f"{name}: {value}" for name, value in fields if value]
    return "\n".join(lines)
