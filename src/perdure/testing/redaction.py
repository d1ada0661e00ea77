"""A history without what it is about: inputs, results and errors become stand-ins of the same types and shapes.

Kept are names, types, times, the keys of objects, the lengths of lists, the classes of errors and enums, and what says
which way code goes: recorded versions, and which branches of a batch counted.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from perdure.model.error import ErrorObject
from perdure.model.event import ContextSucceeded, HistoryEvent, StepSucceeded
from perdure.model.view import ExecutionView
from perdure.testing.histories import MARKERS, History

WORD: Final = "redacted"
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(?P<zone>Z|[+-]\d\d:?\d\d)?")
_SHAPES: Final = (
    (re.compile(r"\d{4}-\d\d-\d\d"), "1970-01-01"),
    (re.compile(r"\d\d:\d\d(:\d\d(\.\d+)?)?"), "00:00:00"),
    (re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"), "00000000-0000-0000-0000-000000000000"),
    (re.compile(r"-?P[0-9TDHMSW.]+"), "PT1S"),
    (re.compile(r"-?\d+(\.\d+)?"), "1"),
)
"""Texts that code may want to read as something else, and what can be read likewise."""
_ENVELOPE: Final = frozenset(
    {
        "type",
        "totalCount",
        "completionReason",
        "startedIndexes",
        "completedIndexes",
        "startedCount",
        "successCount",
        "failureCount",
        "status",
    }
)
"""What says how a batch was decided whose result is made again from its branches."""


def redact(history: History) -> History:
    """The same history with stand-ins for its data. Code that does not branch on results replays it alike."""
    view = history.view
    shown: ExecutionView = msgspec.structs.replace(
        view,
        input=redact_payload(view.input),
        result=redact_payload(view.result),
        error=_error(view.error),
        last_failure=_error(view.last_failure),
        pause=None if view.pause is None else msgspec.structs.replace(view.pause, reason=_text(view.pause.reason)),
        tenant_id=_text(view.tenant_id),
        trace_header=None,
    )
    events = tuple(map(_event, history.events))
    return msgspec.structs.replace(history, view=shown, events=events, is_redacted=True)


def _event(shown: HistoryEvent) -> HistoryEvent:
    event: Any = shown.event
    changed: dict[str, Any] = {}
    for field in msgspec.structs.fields(event):
        value = getattr(event, field.name)
        redacted = _FIELDS.get(field.name)
        if value is not None and redacted is not None:
            changed[field.name] = redacted(value)
    if isinstance(event, StepSucceeded) and shown.sub_type in MARKERS:
        changed["result"] = event.result
    elif isinstance(event, ContextSucceeded) and event.replay_children:
        changed["result"] = _envelope(event.result)
    if "callback_id" in changed:
        changed["callback_id"] = f"{WORD}-{shown.event_id}"
    return msgspec.structs.replace(shown, event=msgspec.structs.replace(event, **changed)) if changed else shown


def redact_payload(payload: str | None) -> str | None:
    """A payload with stand-ins in it, in the format that it was written in; what is no JSON becomes one word."""
    if not payload:
        return payload
    try:
        value = json.loads(payload)
    except ValueError:
        return WORD
    return json.dumps(_value(value))


def _envelope(result: str | None) -> str | None:
    """The payload of a result that is made again: how a batch was decided, without a summary of the author's."""
    try:
        found = json.loads(result or "")
    except ValueError:
        return redact_payload(result)
    if not isinstance(found, Mapping) or "completionReason" not in found:
        return redact_payload(result)
    return json.dumps({key: value for key, value in found.items() if key in _ENVELOPE})


def _error(error: ErrorObject | None) -> ErrorObject | None:
    return None if error is None else ErrorObject(_text(error.message), error.type, _text(error.data))


def _text(text: str | None) -> str | None:
    """A stand-in for a text, which can be read as what the text could be read as."""
    if not text:
        return text
    moment = _MOMENT.fullmatch(text)
    if moment is not None:
        return "1970-01-01T00:00:00" + ("+00:00" if moment["zone"] else "")
    return next((stand_in for shape, stand_in in _SHAPES if shape.fullmatch(text)), WORD)


_FIELDS: Final[Mapping[str, Any]] = {
    "input": redact_payload,
    "result": redact_payload,
    "error": _error,
    "reason": _text,
    "tenant_id": _text,
    "callback_id": _text,
    "trace_header": lambda _: None,
}
"""The fields of events that hold data."""


def _value(value: Any) -> Any:
    match value:
        case bool():
            return False
        case int():
            return 1
        case float():
            return 1.0
        case str():
            return _text(value)
        case list():
            return [_value(item) for item in value]
        case {"t": str(tag), "v": held}:
            return {**value, "v": _tagged(tag, held)}
        case dict():
            return {key: _value(item) for key, item in value.items()}
    return value


_TEXTS: Final = {"d": "1", "time": "00:00:00", "timedelta": "PT1S", "B": "", "path": WORD}


def _tagged(tag: str, held: Any) -> Any:
    """The inside of a form of the extended format, by its tag."""
    if tag in _TEXTS:
        return _TEXTS[tag]
    if tag == "enum":
        return held
    if tag == "br":
        return _batch(held)
    if tag == "map":
        return [[key, _value(item)] for key, item in held]
    return _value(held)


def _batch(held: Any) -> Any:
    """The result of a batch: what its branches returned or raised, but not which of them did."""
    items = held["all"]["v"]
    kept = [
        {
            **item,
            "v": {
                key: inner if key in ("index", "status") else _branch_error(inner) if key == "error" else _value(inner)
                for key, inner in item["v"].items()
            },
        }
        for item in items
    ]
    return {**held, "all": {**held["all"], "v": kept}}


def _branch_error(error: Any) -> Any:
    if not isinstance(error, dict) or not isinstance(error.get("v"), dict):
        return error
    return {**error, "v": {key: inner if key == "ErrorType" else _value(inner) for key, inner in error["v"].items()}}
