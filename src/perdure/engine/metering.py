"""What each event counts: durable operations and bytes persisted.

Source: Lambda Developer Guide, metering tables of the durable execution SDK page; the rule that gives the tables from
primitive operations is: one for the execution's start; one for every attempt of a STEP that ends; one for a WAIT, a
CALLBACK and a CHAINED_INVOKE when they start; one for a CONTEXT (when it starts if it is a compound operation, else
when it ends); one for a failed invocation. Bytes are the payloads and errors that those events store.
"""

from collections.abc import Callable
from typing import Any, Final

from perdure.model import event as ev
from perdure.model.error import ErrorObject
from perdure.model.operation import Operation, OperationSubType, payload_bytes

COMPOUND: Final = frozenset(
    {
        OperationSubType.MAP,
        OperationSubType.MAP_ITERATION,
        OperationSubType.PARALLEL,
        OperationSubType.PARALLEL_BRANCH,
        OperationSubType.WAIT_FOR_CALLBACK,
    }
)
"""The subtypes whose context is counted when it starts."""


def error_bytes(error: ErrorObject | None) -> int:
    return error.size_bytes() if error is not None else 0


def _attempt_ended(event: Any, _before: Operation | None) -> tuple[int, int]:
    if type(event) is ev.StepSucceeded:
        return 1, payload_bytes(event.result)
    return 1, error_bytes(event.error)


def _context_started(event: Any, _before: Operation | None) -> tuple[int, int]:
    return (1 if event.sub_type in COMPOUND else 0), 0


def _context_ended(event: Any, before: Operation | None) -> tuple[int, int]:
    is_counted = before is not None and before.sub_type in COMPOUND
    size = payload_bytes(event.result) if type(event) is ev.ContextSucceeded else error_bytes(event.error)
    return (0 if is_counted else 1), size


def _one(_event: Any, _before: Operation | None) -> tuple[int, int]:
    return 1, 0


def _input(event: Any, _before: Operation | None) -> tuple[int, int]:
    return 1, payload_bytes(event.input)


def _result(event: Any, _before: Operation | None) -> tuple[int, int]:
    return 0, payload_bytes(event.result)


def _error(event: Any, _before: Operation | None) -> tuple[int, int]:
    return 0, error_bytes(event.error)


def _invocation(event: Any, _before: Operation | None) -> tuple[int, int]:
    return (0, 0) if event.error is None else (1, error_bytes(event.error))


_COSTS: Final[dict[type[ev.Event], Callable[[Any, Operation | None], tuple[int, int]]]] = {
    ev.ExecutionStarted: _input,
    ev.ExecutionSucceeded: _result,
    ev.ExecutionFailed: _error,
    ev.ExecutionTimedOut: _error,
    ev.ExecutionStopped: _error,
    ev.InvocationCompleted: _invocation,
    ev.StepSucceeded: _attempt_ended,
    ev.StepFailed: _attempt_ended,
    ev.ContextStarted: _context_started,
    ev.ContextSucceeded: _context_ended,
    ev.ContextFailed: _context_ended,
    ev.WaitStarted: _one,
    ev.CallbackStarted: _one,
    ev.CallbackSucceeded: _result,
    ev.CallbackFailed: _error,
    ev.CallbackTimedOut: _error,
    ev.ChainedInvokeStarted: _input,
    ev.ChainedInvokeSucceeded: _result,
    ev.ChainedInvokeFailed: _error,
    ev.ChainedInvokeTimedOut: _error,
    ev.ChainedInvokeStopped: _error,
}
_FREE: Final = (0, 0)


def cost(event: ev.Event, before: Operation | None) -> tuple[int, int]:
    """How many operations and bytes `event` counts; `before` is its operation as it was."""
    measure = _COSTS.get(type(event))
    return measure(event, before) if measure is not None else _FREE
