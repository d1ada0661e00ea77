"""Operations as tests see them: the official types and fields, with values, attempts, neighbours and paths.

The types are frozen dataclasses with the official fields; two are equal if those are. What goes beyond them
(`value`, `attempts`, `children`, `parent`, `path`, `events`, `duration`, `metering`) is worked out when asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

from perdure.lambda_service import OperationStatus, OperationType
from perdure.model import operation as op
from perdure.testing import paths
from perdure.testing.exceptions import RecordedError, recorded
from perdure.testing.search import Search
from perdure.wire.forms import from_ms

if TYPE_CHECKING:
    from perdure.testing.metering import Metering
    from perdure.testing.model import Event
    from perdure.testing.trace import Attempt, Trace


@dataclass(frozen=True, repr=False)
class Operation(Search):
    """What every operation has; its accessors and paths look among those within it.

    Times are in UTC and modelled: those of the runner's clock.
    """

    operation_id: str
    operation_type: OperationType
    status: OperationStatus
    parent_id: str | None = field(default=None, kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    sub_type: str | None = field(default=None, kw_only=True)
    start_timestamp: datetime | None = field(default=None, kw_only=True)
    end_timestamp: datetime | None = field(default=None, kw_only=True)

    trace: ClassVar["Trace | None"] = None
    """Where the operation was seen; None for one that a test has made by hand."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r} {self.status}>"

    @property
    def display_name(self) -> str:
        """The name, or the kind in parentheses of one that has none: `(Wait)`."""
        return self.name or f"({self.sub_type or self.operation_type.title().replace('_', '')})"

    @property
    def path(self) -> str:
        """The path that names this operation and no other in its execution."""
        return self.trace.path_of(self) if self.trace is not None else paths.escape(self.display_name)

    @property
    def children(self) -> "list[Operation]":
        """The operations directly within, in the order of the code; [] for those that can have none."""
        return self.trace.children_of(self.operation_id) if self.trace is not None else []

    def _roots(self) -> "list[Operation]":
        return self.children

    @property
    def parent(self) -> "Operation | None":
        """The operation that this one is within; None at the top."""
        return self.trace.by_id.get(self.parent_id) if self.trace is not None and self.parent_id is not None else None

    @property
    def depth(self) -> int:
        """How many operations this one is within."""
        return 0 if self.parent is None else self.parent.depth + 1

    @property
    def value(self) -> Any:
        """The result as the handler got it, read with the operation's own serdes; None if there is none (yet).

        Raises UnknownValue for a result that was too large to be recorded or whose classes can't be found.
        """
        return self.trace.value_of(self) if self.trace is not None else None

    @property
    def duration(self) -> timedelta | None:
        """The modelled time from start to end; None while it has no end."""
        if self.start_timestamp is None or self.end_timestamp is None:
            return None
        return self.end_timestamp - self.start_timestamp

    @property
    def attempts(self) -> "list[Attempt]":
        """The attempts of a step, or the polls of a condition, as far as the history shows them; else []."""
        return self.trace.attempts_of(self) if self.trace is not None else []

    @property
    def events(self) -> "list[Event]":
        """The history's events of this operation alone."""
        return self.trace.events_of(self.operation_id) if self.trace is not None else []

    @property
    def metering(self) -> "Metering":
        """What this operation counts for, those within included."""
        from perdure.testing.metering import Metering, metered

        return metered(self) if self.trace is not None else Metering()

    @property
    def is_terminal(self) -> bool:
        return self.status in op.TERMINAL


@dataclass(frozen=True, repr=False)
class ExecutionOperation(Operation):
    """The execution itself. No result lists it."""

    input_payload: str | None = None


@dataclass(frozen=True, repr=False)
class ContextOperation(Operation):
    """A child context, a map or parallel, one of their branches, or a wait for a callback. `result` is as recorded."""

    child_operations: list[Operation]
    result: str | None = None
    error: RecordedError | None = None

    @property
    def children(self) -> list[Operation]:
        return self.child_operations


@dataclass(frozen=True, repr=False)
class StepOperation(ContextOperation):
    """A step, or a condition that is polled. `attempt` counts the attempts that have ended."""

    attempt: int = 0
    next_attempt_timestamp: datetime | None = None
    result: str | None = None
    error: RecordedError | None = None


@dataclass(frozen=True, repr=False)
class WaitOperation(Operation):
    """A wait."""

    scheduled_end_timestamp: datetime | None = None


@dataclass(frozen=True, repr=False)
class CallbackOperation(ContextOperation):
    """A callback; `callback_id` is what whoever answers it needs."""

    callback_id: str | None = None
    result: str | None = None
    error: RecordedError | None = None

    @property
    def timeout_timestamp(self) -> datetime | None:
        """When it times out, by its time-out or its heartbeats, if it does; None once it has ended."""
        return self.trace.due_of(self.operation_id) if self.trace is not None else None


@dataclass(frozen=True, repr=False)
class InvokeOperation(Operation):
    """Another function's invocation."""

    result: str | None = None
    error: RecordedError | None = None

    @property
    def function_name(self) -> str | None:
        """The function as the code refers to it."""
        record = self.trace.records.get(self.operation_id) if self.trace is not None else None
        return record.function if isinstance(record, op.ChainedInvoke) else None


# --- from the model ----------------------------------------------------------------------------------------------


def of_record(record: op.Operation, trace: "Trace") -> Operation:
    """The operation as tests see it."""
    made = _MAKERS[record.type](record, trace)
    object.__setattr__(made, "trace", trace)
    return made


_SUB_TYPES: Final[Mapping[str, str]] = {str(each): each for each in op.OperationSubType}
"""Known sub-types are members of the enumeration, which tests compare by `is`."""


def _common(record: op.Operation) -> dict[str, Any]:
    return {
        "operation_id": record.id,
        "operation_type": record.type,
        "status": record.status,
        "parent_id": record.parent_id,
        "name": record.name,
        "sub_type": _SUB_TYPES.get(record.sub_type or "", record.sub_type),
        "start_timestamp": from_ms(record.start_ms),
        "end_timestamp": _moment(record.end_ms),
    }


def _outcome(record: op.Operation, trace: "Trace") -> dict[str, Any]:
    return {
        **_common(record),
        "child_operations": trace.children_of(record.id),
        "result": record.result,
        "error": recorded(record.error),
    }


def _step(record: Any, trace: "Trace") -> Operation:
    due = _moment(record.next_attempt_ms)
    return StepOperation(**_outcome(record, trace), attempt=record.attempt, next_attempt_timestamp=due)


def _invoke(record: Any, _trace: "Trace") -> Operation:
    return InvokeOperation(**_common(record), result=record.result, error=recorded(record.error))


_MAKERS: Final[Mapping[OperationType, Callable[[Any, "Trace"], Operation]]] = {
    OperationType.STEP: _step,
    OperationType.CHAINED_INVOKE: _invoke,
    OperationType.CONTEXT: lambda record, trace: ContextOperation(**_outcome(record, trace)),
    OperationType.CALLBACK: lambda record, trace: CallbackOperation(
        **_outcome(record, trace), callback_id=record.callback_id
    ),
    OperationType.WAIT: lambda record, _trace: WaitOperation(
        **_common(record), scheduled_end_timestamp=_moment(record.scheduled_end_ms)
    ),
    OperationType.EXECUTION: lambda record, _trace: ExecutionOperation(**_common(record), input_payload=record.input),
}


def _moment(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else from_ms(at_ms)
