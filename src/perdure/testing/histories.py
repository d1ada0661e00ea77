"""From a stored history to the operations that a replay goes over: from AWS's JSON, a file, or a service.

A document is `{"Execution": …, "Events": […]}`: the answer of GetDurableExecution, and the events of
GetDurableExecutionHistory with their data. What the AWS command line prints of either call is understood too: events
alone, or both in one object.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from perdure.engine.transitions import advance
from perdure.model import event as ev
from perdure.model.error import InvalidParameterValue
from perdure.model.event import HistoryEvent
from perdure.model.execution import DurableConfig, ExecutionStatus
from perdure.model.ids import LATEST, ExecutionArn, Home, request_id
from perdure.model.operation import Operation
from perdure.model.view import ExecutionView
from perdure.testing.facts import Facts, InvocationRecord
from perdure.wire.events import About, read_event, write_event
from perdure.wire.executions import read_execution, write_execution
from perdure.wire.forms import API, PEOPLE

SUFFIX: Final = ".history.json"
UNKNOWN: Final = "unknown"
"""In place of a function's name, where there are events and nothing else."""


MARKERS: Final = frozenset({"Patch", "Version", "Timeout"})
"""Sub types of steps that code asks for out of turn, and may stop asking for: they say which way it went."""


class History(msgspec.Struct, frozen=True):
    """What is stored of one execution: what it is, and its events, the oldest first.

    `source` is where it comes from, for messages. `is_whole` is False if it was stored without its data, `is_redacted`
    is True if there are stand-ins in its place.
    """

    view: ExecutionView
    events: Sequence[HistoryEvent]
    source: str = ""
    is_whole: bool = True
    is_redacted: bool = False

    @property
    def label(self) -> str:
        """What people call it: its function and its name."""
        return f"{self.view.function}/{self.view.name}"


class Archive(Protocol):
    """What has executions with their histories, as a service does."""

    def get(self, execution_id: str, /) -> ExecutionView: ...

    def all_events(self, execution_id: str, /) -> Iterator[HistoryEvent]: ...


# --- reading ------------------------------------------------------------------------------------------------------


def history_of(archive: Archive, execution_id: str) -> History:
    """The history of an execution that a service has, with its data."""
    return history_from(lambda: archive.get(execution_id), lambda: archive.all_events(execution_id))


def history_from(get: Callable[[], ExecutionView], events: Callable[[], Iterable[HistoryEvent]]) -> History:
    """The history that is read by these two calls. The execution may go on between them."""
    view = get()
    found = tuple(events())
    if view.end_ms is None and any(type(shown.event) in _ENDS for shown in found):
        view = get()
    return History(view, found, view.arn)


def read_history(document: Any, source: str = "the history") -> History:
    """The history that a JSON document holds.

    Raises InvalidParameterValue, which says what is wrong with which part of it.
    """
    if isinstance(document, list):
        document = {"Events": document}
    if not isinstance(document, dict) or not isinstance(document.get("Events"), list):
        raise InvalidParameterValue(
            f"{source} is no history: it must be an object with a list of Events",
            hint="`perdure execution export` writes one; so does `aws lambda get-durable-execution-history "
            "--include-execution-data`",
        )
    execution = document.get("Execution", document if "DurableExecutionArn" in document else None)
    given = sorted(document["Events"], key=_event_id)
    try:
        view = read_execution(execution, API) if execution is not None else _view_of(given)
        arn = ExecutionArn.parse(view.arn)
        about = About(view.execution_id, view.name, Home(arn.partition, arn.region, arn.account))
        events = tuple(read_event(event, about, API) for event in given)
    except InvalidParameterValue as error:
        raise InvalidParameterValue(f"{source}: {error.message}", hint=error.hint) from None
    ours = document.get("Perdure")
    is_redacted = isinstance(ours, dict) and ours.get("Redacted") is True
    return History(view, events, source, not any(map(_is_cut, given)), is_redacted)


def load_history(path: "Path | str") -> History:
    """The history in a file. Raises InvalidParameterValue if there is none in it, OSError if it can't be read."""
    text = Path(path).read_bytes()
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidParameterValue(f"{path} is no history: it is not JSON: {error}") from None
    return read_history(document, str(path))


def find_histories(folder: "Path | str") -> list[Path]:
    """The files of a folder, and of those below, that hold histories: all `*.history.json`, else all `*.json`."""
    root = Path(folder)
    if root.is_file():
        return [root]
    return sorted(root.rglob(f"*{SUFFIX}")) or sorted(root.rglob("*.json"))


def _event_id(event: Any) -> int:
    found = event.get("EventId") if isinstance(event, dict) else None
    return found if isinstance(found, int) else 0


def _is_cut(event: Any) -> bool:
    """Whether data of this event was left out when it was written."""
    details = event.get(f"{event.get('EventType')}Details")
    return isinstance(details, dict) and any(
        isinstance(part, dict) and part.get("Truncated") is True and "Payload" not in part for part in details.values()
    )


_ENDS: Final[dict[type[ev.Event], ExecutionStatus]] = {
    ev.ExecutionSucceeded: ExecutionStatus.SUCCEEDED,
    ev.ExecutionFailed: ExecutionStatus.FAILED,
    ev.ExecutionTimedOut: ExecutionStatus.TIMED_OUT,
    ev.ExecutionStopped: ExecutionStatus.STOPPED,
}


def _view_of(given: Sequence[Any]) -> ExecutionView:
    """What the events alone tell of their execution."""
    first = given[0] if given else {}
    if first.get("EventType") != "ExecutionStarted":
        raise InvalidParameterValue(
            "the history does not begin with ExecutionStarted, and there is no Execution beside it",
            hint="all pages of the history are needed",
        )
    execution_id, name = str(first.get("Id")), str(first.get("Name") or first.get("Id"))
    home = Home()
    about = About(execution_id, name, home)
    events = [read_event(event, about, API) for event in given]
    started = events[0].event
    assert isinstance(started, ev.ExecutionStarted)
    end = next((shown.event for shown in events if type(shown.event) in _ENDS), None)
    return ExecutionView(
        execution_id=execution_id,
        arn=home.execution_arn(UNKNOWN, LATEST, name, execution_id),
        name=name,
        function=UNKNOWN,
        version=LATEST,
        status=_ENDS[type(end)] if end is not None else ExecutionStatus.RUNNING,
        start_ms=started.at_ms,
        end_ms=end.at_ms if end is not None else None,
        input=started.input,
        result=getattr(end, "result", None),
        error=getattr(end, "error", None),
        config=DurableConfig(started.execution_timeout_s or DurableConfig().execution_timeout_s),
        deadline_ms=None,
        pause=None,
        parent=None,
        operations=0,
        written_bytes=0,
        invocations=sum(isinstance(shown.event, ev.InvocationCompleted) for shown in events),
        is_running=False,
        waiting_on=(),
        failures=0,
        last_failure=None,
        tenant_id=None,
        trace_header=None,
    )


# --- writing ------------------------------------------------------------------------------------------------------


def write_history(history: History) -> dict[str, Any]:
    """The document of a history: JSON that `read_history` reads, with times as ISO 8601 texts."""
    view = history.view
    arn = ExecutionArn.parse(view.arn)
    about = About(view.execution_id, view.name, Home(arn.partition, arn.region, arn.account))
    return {
        "Execution": write_execution(view, PEOPLE),
        "Events": [write_event(shown, about, PEOPLE) for shown in history.events],
        **({"Perdure": {"Redacted": True}} if history.is_redacted else {}),
    }


# --- folding ------------------------------------------------------------------------------------------------------

_FIRST: Final = (
    ev.StepStarted,
    ev.ContextStarted,
    ev.WaitStarted,
    ev.CallbackStarted,
    ev.ChainedInvokeStarted,
    ev.ClosingEvent,
)
"""What may be the first event of an operation."""


def fold_operations(events: Iterable[HistoryEvent]) -> list[Operation]:
    """The operations that these events amount to, in the order in which they started.

    A step whose next attempt has become due is PENDING here, not READY: histories do not show that.
    Raises InvalidParameterValue if an event is of an operation that has not begun.
    """
    operations: dict[str, Operation] = {}
    for shown in events:
        apply_event(operations, shown)
    return list(operations.values())


def apply_event(operations: dict[str, Operation], shown: HistoryEvent) -> None:
    """Change one of the operations, by id, as an event says; those that are not of an operation change nothing."""
    event = shown.event
    if not isinstance(event, ev.OperationEvent):
        return
    before = operations.get(event.operation_id)
    if before is None and not isinstance(event, _FIRST):
        raise InvalidParameterValue(
            f"event {shown.event_id} is {shown.type} of operation {event.operation_id}, whose start is missing",
            hint="all pages of the history are needed",
        )
    if isinstance(event, ev.ContextSucceeded) and not event.replay_children and _is_remade(event, shown.sub_type):
        event = msgspec.structs.replace(event, replay_children=True)
    operations[event.operation_id] = advance(before, event, len(operations) + 1)


def _is_remade(event: ev.ContextSucceeded, sub_type: str | None) -> bool:
    """Whether a replay makes the result of a context again: AWS's histories do not say so, but its payload shows it.

    It is empty then, or the summary that maps and parallels write in its place.
    """
    result = event.result
    if result == "":
        return True
    if result is None or sub_type not in ("Map", "Parallel") or not result.startswith("{"):
        return False
    from perdure.concurrency.models import CompletionRecord

    return CompletionRecord.from_summary_payload(result, sys.maxsize) is not None


def facts_of(history: History) -> Facts:
    """All that a history knows of its execution."""
    view = history.view
    return Facts(
        arn=view.arn,
        name=view.name,
        function=view.function,
        version=view.version,
        status=view.status,
        input=view.input,
        result=view.result,
        error=view.error,
        start_ms=view.start_ms,
        end_ms=view.end_ms,
        operations=fold_operations(history.events),
        events=tuple(history.events),
        invocations=tuple(invocations_of(history)),
    )


def invocations_of(history: History) -> Iterator[InvocationRecord]:
    """The invocations that the history shows, and the one that is running if one is."""
    view = history.view
    known: set[str] = set()
    number = before = 0
    since_ms = view.start_ms
    for at, shown in enumerate(history.events):
        event = shown.event
        if isinstance(event, ev.OperationEvent):
            known.add(event.operation_id)
        if isinstance(event, ev.InvocationCompleted):
            number, new, since_ms = number + 1, len(known) - before, event.at_ms
            status = _came_to(event, history.events[at + 1 : at + 2])
            asked = request_id(view.execution_id, event.epoch) if event.epoch else ""
            yield InvocationRecord(number, asked, event.start_ms, event.at_ms, status, before, new, event.error)
            before = len(known)
    if view.is_running:
        yield InvocationRecord(number + 1, "", since_ms, None, "RUNNING", before, len(known) - before, None)


def _came_to(event: ev.InvocationCompleted, following: Sequence[HistoryEvent]) -> str:
    if event.error is not None:
        return "CRASHED"
    if following and isinstance(following[0].event, (ev.ExecutionSucceeded, ev.ExecutionFailed)):
        return str(_ENDS[type(following[0].event)])
    return "PENDING"


def history_of_facts(facts: Facts) -> History:
    """A history with all that `facts` know of its execution."""
    try:
        execution_id = ExecutionArn.parse(facts.arn).execution_id
    except InvalidParameterValue:
        execution_id = facts.name
    view = ExecutionView(
        execution_id=execution_id,
        arn=facts.arn,
        name=facts.name,
        function=facts.function,
        version=facts.version,
        status=facts.status,
        start_ms=facts.start_ms,
        end_ms=facts.end_ms,
        input=facts.input,
        result=facts.result,
        error=facts.error,
        config=DurableConfig(),
        deadline_ms=None,
        pause=None,
        parent=None,
        operations=len(facts.operations),
        written_bytes=0,
        invocations=len(facts.invocations),
        is_running=False,
        waiting_on=(),
        failures=0,
        last_failure=None,
        tenant_id=None,
        trace_header=None,
    )
    return History(view, tuple(facts.events), facts.arn)
