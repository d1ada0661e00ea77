"""History events on the wire.

Source: Lambda API 2025-12-01, shape Event and its details.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from perdure.model import event as ev
from perdure.model.error import InvalidParameterValue
from perdure.model.ids import ExecutionArn, Home, request_id
from perdure.wire.forms import Form
from perdure.wire.operations import ERROR
from perdure.wire.table import FLAG, TIME, WHOLE, Group, Json, Member, Shape, expect_object, write_all


class About(msgspec.Struct, frozen=True):
    """The execution that a history is of."""

    execution_id: str
    name: str
    home: Home


class _Payload(msgspec.Struct, frozen=True):
    """A text or an error in a wrapper that says whether it was left out; a required wrapper may be empty."""

    name: str
    attribute: str
    shape: Shape[Any] | None = None
    is_optional: bool = False

    def write(self, value: Any, form: Form, into: Json) -> None:
        found = getattr(value, self.attribute)
        if found is None:
            if not self.is_optional:
                into[self.name] = {}
        elif form.is_data_shown:
            into[self.name] = {"Payload": self.shape.write(found, form) if self.shape else found, "Truncated": False}
        else:
            into[self.name] = {"Truncated": True}

    def read(self, given: Json, form: Form, where: str, into: Json) -> None:
        payload = expect_object(given.get(self.name) or {}, f"{where}.{self.name}").get("Payload")
        if payload is not None:
            into[self.attribute] = self.shape.read(payload, form, f"{where}.{self.name}") if self.shape else payload


Detail = _Payload | Member | Group

_INPUT: Final = _Payload("Input", "input")
_RESULT: Final = _Payload("Result", "result")
_ERROR: Final = _Payload("Error", "error", ERROR)
_ERROR_IF_ANY: Final = _Payload("Error", "error", ERROR, is_optional=True)
_REASON: Final = _Payload("Reason", "reason", is_optional=True)
_RETRY: Final = Group(
    "RetryDetails",
    (Member("CurrentAttempt", "attempt", WHOLE), Member("NextAttemptDelaySeconds", "next_attempt_delay_s", WHOLE)),
)
_REMADE: Final = Group("Perdure", (Member("ReplayChildren", "replay_children", FLAG, is_zero_absent=True),))
"""Whether a replay makes the result again from the children; AWS's histories do not say so."""

DETAILS: Final[dict[type[ev.Event], tuple[Detail, ...]]] = {
    ev.ExecutionStarted: (_INPUT, Member("ExecutionTimeout", "execution_timeout_s", WHOLE)),
    ev.ExecutionSucceeded: (_RESULT,),
    ev.ExecutionFailed: (_ERROR,),
    ev.ExecutionTimedOut: (_ERROR_IF_ANY,),
    ev.ExecutionStopped: (_ERROR,),
    ev.ExecutionPaused: (
        Member("PauseRequestTimestamp", "pause_requested_ms", TIME),
        _REASON,
        Member("ExecutionTimeoutPaused", "is_timeout_paused", FLAG),
    ),
    ev.ExecutionResumed: (Member("ResumeRequestTimestamp", "resume_requested_ms", TIME), _REASON),
    ev.InvocationCompleted: (
        Member("StartTimestamp", "start_ms", TIME),
        Member("EndTimestamp", "at_ms", TIME),
        _ERROR_IF_ANY,
    ),
    ev.StepStarted: (),
    ev.StepSucceeded: (_RESULT, _RETRY),
    ev.StepFailed: (_ERROR, _RETRY),
    ev.ContextStarted: (),
    ev.ContextSucceeded: (_RESULT, _REMADE),
    ev.ContextFailed: (_ERROR, _REMADE),
    ev.WaitStarted: (
        Member("Duration", "duration_s", WHOLE),
        Member("ScheduledEndTimestamp", "scheduled_end_ms", TIME),
    ),
    ev.WaitSucceeded: (Member("Duration", "duration_s", WHOLE),),
    ev.WaitCancelled: (_ERROR_IF_ANY,),
    ev.CallbackStarted: (
        Member("CallbackId", "callback_id"),
        Member("Timeout", "timeout_s", WHOLE, is_zero_absent=True),
        Member("HeartbeatTimeout", "heartbeat_timeout_s", WHOLE, is_zero_absent=True),
    ),
    ev.CallbackSucceeded: (_RESULT,),
    ev.CallbackFailed: (_ERROR,),
    ev.CallbackTimedOut: (_ERROR,),
    ev.ChainedInvokeStarted: (
        Member("FunctionName", "function"),
        _Payload("Input", "input", is_optional=True),
        Member("TenantId", "tenant_id"),
        Member("ExecutedVersion", "version"),
    ),
    ev.ChainedInvokeSucceeded: (_RESULT,),
    ev.ChainedInvokeFailed: (_ERROR,),
    ev.ChainedInvokeTimedOut: (_ERROR,),
    ev.ChainedInvokeStopped: (_ERROR,),
}
"""The details of each event that histories show."""


def _request_id(event: ev.InvocationCompleted, about: About) -> str:
    return request_id(about.execution_id, event.epoch)


def _child_arn(event: ev.ChainedInvokeStarted, about: About) -> str | None:
    child = event.execution_id
    if child is None or event.target is None or event.version is None:
        return None
    return about.home.execution_arn(event.target, event.version, child, child)


_FROM_EXECUTION: Final[dict[type[ev.Event], tuple[str, Callable[[Any, About], str | None]]]] = {
    ev.InvocationCompleted: ("RequestId", _request_id),
    ev.ChainedInvokeStarted: ("DurableExecutionArn", _child_arn),
}
"""Details that follow from the execution as well."""


def write_event(shown: ev.HistoryEvent, about: About, form: Form) -> Json:
    """An event with its envelope. Its details are there even if they are empty."""
    event = shown.event
    written: Json = {
        "EventType": shown.type,
        "EventId": shown.event_id,
        "EventTimestamp": form.times.write(event.at_ms),
        **_named(shown, about),
    }
    details = write_all(DETAILS[type(event)], event, form)
    if derived := _FROM_EXECUTION.get(type(event)):
        name, work_out = derived
        if (value := work_out(event, about)) is not None:
            details[name] = value
    written[f"{shown.type}Details"] = details
    return written


def _named(shown: ev.HistoryEvent, about: About) -> Json:
    """What the event is of. Those of the execution bear its id and name, an invocation's end bears none."""
    if shown.operation_id is not None:
        of = {
            "Id": shown.operation_id,
            "Name": shown.name,
            "SubType": shown.sub_type,
            "ParentId": shown.parent_id,
        }
        return {name: value for name, value in of.items() if value is not None}
    if isinstance(shown.event, ev.InvocationCompleted):
        return {}
    return {"Id": about.execution_id, "Name": about.name}


# --- reading, for clients ----------------------------------------------------------------------------------------

_HEX: Final = re.compile(r"[0-9a-f]{8}")
_KINDS: Final = {kind.__name__: kind for kind in DETAILS}
_NEEDED: Final = {kind: [f.name for f in msgspec.structs.fields(kind) if f.required] for kind in DETAILS}
_FIELDS: Final = {kind: {f.name for f in msgspec.structs.fields(kind)} for kind in DETAILS}
_ABSENT: Final[Json] = {
    "name": None,
    "input": None,
    "function": "",
    "version": "",
    "callback_id": "",
    "execution_timeout_s": 0,
    "retention_days": 0,
    "duration_s": 0,
    "scheduled_end_ms": 0,
    "epoch": 0,
    "attempt": 1,
}
"""What stands for what the wire does not have."""


def read_event(value: Any, about: About, form: Form) -> ev.HistoryEvent:
    """An event of a history, as far as the wire has it.

    Raises InvalidParameterValue if it is of a type that is not known here, or a member can't be.
    """
    given = expect_object(value, "the event")
    name = str(given.get("EventType"))
    kind = _KINDS.get(name)
    if kind is None:
        raise InvalidParameterValue(f"EventType must be one of {', '.join(_KINDS)}, not {name[:80]!r}")
    at_ms = form.times.read(given.get("EventTimestamp"), "EventTimestamp")
    details = expect_object(given.get(f"{name}Details") or {}, f"{name}Details")
    attributes: Json = {"at_ms": at_ms}
    for member in DETAILS[kind]:
        member.read(details, form, f"{name}Details", attributes)
    if read_derived := _TO_EXECUTION.get(kind):
        read_derived(details, about, attributes)
    event_id = WHOLE.read(given.get("EventId", 0), form, "EventId")
    named: Json = {}
    if issubclass(kind, ev.OperationEvent):
        named = {"name": given.get("Name"), "sub_type": given.get("SubType"), "parent_id": given.get("ParentId")}
        attributes |= {attribute: found for attribute, found in named.items() if attribute in _FIELDS[kind]}
        named["operation_id"] = attributes["operation_id"] = str(given.get("Id"))
    assumed = {**_ABSENT, **dict.fromkeys(("start_ms", "pause_requested_ms", "resume_requested_ms"), at_ms)}
    assumed["execution_id"] = about.execution_id
    event = kind(**{attribute: assumed[attribute] for attribute in _NEEDED[kind] if attribute in assumed} | attributes)
    return ev.HistoryEvent(event_id, event, **named)


def _read_request_id(details: Json, about: About, into: Json) -> None:
    given = details.get("RequestId")
    if isinstance(given, str) and given[:-8] == about.execution_id[:-8] and _HEX.fullmatch(given[-8:]):
        into["epoch"] = (int(given[-8:], 16) - int(about.execution_id[-8:], 16)) & 0xFFFFFFFF


def _read_child_arn(details: Json, _about: About, into: Json) -> None:
    given = details.get("DurableExecutionArn")
    if isinstance(given, str):
        arn = ExecutionArn.parse(given)
        into["target"], into["execution_id"] = arn.function, arn.execution_id


_TO_EXECUTION: Final[dict[type[ev.Event], Callable[[Json, About, Json], None]]] = {
    ev.InvocationCompleted: _read_request_id,
    ev.ChainedInvokeStarted: _read_child_arn,
}
