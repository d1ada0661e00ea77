"""Going back in time: an execution is replayed up to one of its events, and stops there in the author's frame."""

import bdb
import linecache
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, Final, Protocol

import msgspec

from perdure.exceptions import SerDesError, ValidationError
from perdure.model import event as ev
from perdure.model.event import HistoryEvent
from perdure.model.operation import TERMINAL, Operation, OperationStatus
from perdure.sdk.invocation import Definition
from perdure.serdes import decode, encode
from perdure.testing.histories import History, apply_event, facts_of
from perdure.testing.replaying.asking import Asked, AskedJournal, Rerun, Where, author_frame, rerun
from perdure.testing.replaying.replayer import invocation_of
from perdure.testing.result import Result

AROUND: Final = 4
"""So many lines are shown before and after the one where it stopped."""


class Leave(BaseException):
    """Ends a replay from within; not to be swallowed by the author's code."""


class Stop(msgspec.Struct, frozen=True):
    """Where a replay stands: at an event, in a line of the author's, with its local variables as they are.

    `operation` is that of the event, as it was then; None before the first. `frame` is the author's, while it lives.
    """

    event: HistoryEvent
    operation: Operation | None
    operations: Sequence[Operation]
    where: Where | None
    variables: Mapping[str, Any]
    frame: FrameType | None = None

    def source(self) -> list[tuple[int, str]]:
        """The lines around, with their numbers."""
        if self.where is None:
            return []
        numbers = range(max(1, self.where.line - AROUND), self.where.line + AROUND + 1)
        lines = [(number, linecache.getline(self.where.file, number).rstrip("\n")) for number in numbers]
        while lines and not lines[-1][1]:
            lines.pop()
        return lines


Stopped = Callable[[Stop], None]


class TimeMachine:
    """Takes a handler to any point of an execution's past. No body runs, and nothing is written anywhere.

    With `overrides`, operations (by id) have other results than those recorded: what if? With `runs`, the bodies of the
    steps of these names run after all, where nothing is recorded of them.
    """

    def __init__(self, definition: Definition, history: History) -> None:
        self.definition = definition
        self.history = history
        self.overrides: dict[str, str] = {}
        self.runs: set[str] = set()
        self._stops = _stops(history)

    # --- points in time ------------------------------------------------------------------------------------------

    def event(self, event_id: int) -> HistoryEvent:
        """The event of this id; ValidationError if there is none."""
        for shown in self.history.events:
            if shown.event_id == event_id:
                return shown
        last = self.history.events[-1].event_id if self.history.events else 0
        raise ValidationError(f"{self.history.label} has events 1 to {last}, and none is {event_id}")

    @property
    def last(self) -> int:
        """The last event of an operation; that of the start if there is no operation."""
        return max(self._stops, default=1)

    def after(self, event_id: int, count: int = 1) -> int:
        """The stop `count` operations later: an event at which an operation had come to what became of it."""
        later = [stop for stop in self._stops if stop > event_id]
        return later[min(count, len(later)) - 1] if later else event_id

    def before(self, event_id: int, count: int = 1) -> int:
        """The stop `count` operations earlier; 1 is before all of them."""
        earlier = [1, *(stop for stop in self._stops if stop < event_id)]
        return earlier[-min(count, len(earlier))]

    def operations(self, event_id: int | None = None) -> list[Operation]:
        """The operations as they were after an event, or in the end; with the results that were put in their place."""
        operations: dict[str, Operation] = {}
        for shown in self.history.events:
            if event_id is not None and shown.event_id > event_id:
                break
            apply_event(operations, shown)
        return [self._overridden(operation) for operation in operations.values()]

    # --- what if -------------------------------------------------------------------------------------------------

    def override(self, path: str, value: Any) -> Operation:
        """Have the operation at a path succeed with another value. Raises OperationNotFound if there is none there."""
        found = Result(facts_of(self.history)).op(path)
        (operation,) = [each for each in self.operations() if each.id == found.operation_id]
        self.overrides[operation.id] = _written(value, operation)
        return self._overridden(operation)

    def _overridden(self, operation: Operation) -> Operation:
        payload = self.overrides.get(operation.id)
        if payload is None or operation.status not in TERMINAL:
            return operation
        changes: dict[str, Any] = {"status": OperationStatus.SUCCEEDED, "result": payload, "error": None}
        if getattr(operation, "replay_children", False):
            changes["replay_children"] = False
        return msgspec.structs.replace(operation, **changes)

    # --- travelling ----------------------------------------------------------------------------------------------

    def travel(
        self, event_id: int, stopped: Stopped, debugger_of: "DebuggerOf | None" = None, *, is_at_call: bool = False
    ) -> Rerun:
        """Replay up to an event and call `stopped` there, in the thread that runs the code; then go on with what else
        is recorded, as far as that goes.

        An operation that has ended by then has returned into the author's code, unless `is_at_call`; at one that has
        not, the code stands at its call. `stopped` may raise Leave. `debugger_of` makes the debugger that stops the
        code, from what is to be called when it has.
        """
        trip = _Trip(self, self.event(event_id), stopped, debugger_of or _Tracer, is_at_call=is_at_call)
        try:
            given = invocation_of(self.history, trip.operations)
            return rerun(self.definition, given, told=trip.asked, runs=self.runs.__contains__ if self.runs else None)
        finally:
            trip.end()


class Debugger(Protocol):
    """Stops code in a frame of the author's."""

    def watch(self, frame: FrameType) -> None:
        """Stop at the frame's next line, or where it returns or raises."""
        ...

    def stand(self, frame: FrameType) -> None:
        """Stop there, now."""
        ...

    def let_go(self) -> None:
        """Watch nothing any more."""
        ...


Reached = Callable[[FrameType | None], None]
DebuggerOf = Callable[[Reached], Debugger]


class _Trip:
    """One replay on its way to an event."""

    def __init__(
        self, machine: TimeMachine, event: HistoryEvent, stopped: Stopped, debugger_of: DebuggerOf, *, is_at_call: bool
    ) -> None:
        self.operations = machine.operations(event.event_id)
        self._machine = machine
        self._event = event
        self._stopped = stopped
        self._debugger = debugger_of(self._reached)
        self._target = _target(machine.history, event, self.operations)
        self._is_at_call = is_at_call or self._target is None or self._target.status not in TERMINAL
        self._arrived: tuple[Where | None, dict[str, Any]] | None = None
        self._has_stopped = False

    def asked(self, asked: Asked, journal: AskedJournal) -> None:
        """The code asks for an operation: stop there if it is the one, or once it has returned."""
        target = self._target
        if self._arrived is not None:
            return
        if target is not None and (target.id, target.type, target.name or None) != (
            asked.place,
            asked.type,
            asked.name,
        ):
            return
        frame = author_frame(sys._getframe(1))
        self._arrived = asked.where, dict(frame.f_locals) if frame is not None else {}
        if frame is None:
            self._reached(None)
        elif self._is_at_call:
            self._debugger.stand(frame)
        else:
            self._debugger.watch(frame)
        journal.merge(self._machine.operations())

    def _reached(self, frame: FrameType | None) -> None:
        """The author's code stands where it was to stop."""
        if self._has_stopped:
            return
        self._has_stopped = True
        where, variables = self._arrived or (None, {})
        if frame is not None:
            where = Where(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
            variables = dict(frame.f_locals)
        self._stopped(Stop(self._event, self._target, self.operations, where, variables, frame))

    def end(self) -> None:
        """Tell of the call, if the code has ended before it could be stopped."""
        self._debugger.let_go()
        if self._arrived is not None:
            self._reached(None)


class _Tracer(bdb.Bdb):
    """A debugger that asks nobody what to do."""

    def __init__(self, reached: Reached) -> None:
        super().__init__()
        self._reached = reached

    def watch(self, frame: FrameType) -> None:
        watch(self, frame)

    def stand(self, frame: FrameType) -> None:
        self._reached(frame)

    def let_go(self) -> None:
        sys.settrace(None)

    def user_line(self, frame: FrameType) -> None:
        self._stop(frame)

    def user_return(self, frame: FrameType, return_value: Any) -> None:
        self._stop(frame)

    def user_exception(self, frame: FrameType, exc_info: Any) -> None:
        self._stop(frame)

    def _stop(self, frame: FrameType) -> None:
        self.set_continue()
        sys.settrace(None)
        self._reached(frame)


def watch(debugger: bdb.Bdb, frame: FrameType) -> None:
    """Have a debugger stop at the next thing that happens in a frame that is running already."""
    debugger.reset()
    frame.f_trace = debugger.trace_dispatch
    debugger.botframe = frame.f_back
    debugger.set_next(frame)
    sys.settrace(debugger.trace_dispatch)


def _target(history: History, event: HistoryEvent, operations: Sequence[Operation]) -> Operation | None:
    """The operation that an event is of; of one that is of none, the one that something happened to before."""
    known = {each.id: each for each in operations}
    latest = [shown.operation_id for shown in history.events if shown.event_id <= event.event_id and shown.operation_id]
    return known[latest[-1]] if latest else None


def _stops(history: History) -> list[int]:
    """For each operation the event at which it had come to what became of it, in order."""
    last: dict[str, int] = {}
    for shown in history.events:
        if shown.operation_id is not None and isinstance(shown.event, ev.OperationEvent):
            last[shown.operation_id] = shown.event_id
    return sorted(last.values())


def _written(value: Any, operation: Operation) -> str:
    """A value in the format that the operation's result is in."""
    import json

    plain = json.dumps(value)
    if operation.type in ("CALLBACK", "CHAINED_INVOKE"):
        return value if operation.type == "CALLBACK" and isinstance(value, str) else plain
    recorded = operation.result
    if recorded is not None and not recorded.startswith('{"t":"'):
        try:
            decode(recorded)
        except SerDesError:
            return plain
    return encode(value)
