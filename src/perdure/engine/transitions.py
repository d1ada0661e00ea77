"""The state machines of the operations, as tables.

Each table says which status an action leads to from which status; what is missing is forbidden. `advance` is the other
half: what an event makes of its operation. Source: Lambda API 2025-12-01; `spec` section numbers are those of the wire
specification's chapter 3.
"""

from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from perdure.model import event as ev
from perdure.model.operation import (
    Callback,
    ChainedInvoke,
    Context,
    Operation,
    OperationAction,
    OperationStatus,
    Step,
    Wait,
)

Action = OperationAction
Status = OperationStatus
Table = dict[tuple[Status | None, Action], Status]

STEP_TRANSITIONS: Final[Table] = {
    (None, Action.START): Status.STARTED,
    (Status.READY, Action.START): Status.STARTED,
    (None, Action.SUCCEED): Status.SUCCEEDED,
    (Status.STARTED, Action.SUCCEED): Status.SUCCEEDED,
    (Status.READY, Action.SUCCEED): Status.SUCCEEDED,
    (None, Action.FAIL): Status.FAILED,
    (Status.STARTED, Action.FAIL): Status.FAILED,
    (Status.READY, Action.FAIL): Status.FAILED,
    (None, Action.RETRY): Status.PENDING,
    (Status.STARTED, Action.RETRY): Status.PENDING,
    (Status.READY, Action.RETRY): Status.PENDING,
}

CONTEXT_TRANSITIONS: Final[Table] = {
    (None, Action.START): Status.STARTED,
    (None, Action.SUCCEED): Status.SUCCEEDED,
    (Status.STARTED, Action.SUCCEED): Status.SUCCEEDED,
    (None, Action.FAIL): Status.FAILED,
    (Status.STARTED, Action.FAIL): Status.FAILED,
}

WAIT_TRANSITIONS: Final[Table] = {
    (None, Action.START): Status.STARTED,
    (Status.STARTED, Action.CANCEL): Status.CANCELLED,
}

CALLBACK_TRANSITIONS: Final[Table] = {(None, Action.START): Status.STARTED}

CHAINED_INVOKE_TRANSITIONS: Final[Table] = {(None, Action.START): Status.STARTED}


def _described(event: Any, number: int) -> dict[str, Any]:
    """What the first event of an operation says of it."""
    return {
        "id": event.operation_id,
        "number": number,
        "start_ms": event.at_ms,
        "name": event.name,
        "sub_type": event.sub_type,
        "parent_id": event.parent_id,
    }


def _step_started(step: Step | None, event: ev.StepStarted, number: int) -> Step:
    if step is None:
        return Step(status=Status.STARTED, **_described(event, number))
    return replace(step, status=Status.STARTED, next_attempt_ms=None)


def _step_attempt_ended(step: Step | None, event: ev.StepSucceeded | ev.StepFailed, number: int) -> Step:
    """Close the step, or park it until its next attempt is due."""
    before = step or Step(status=Status.STARTED, **_described(event, number))
    succeeded = isinstance(event, ev.StepSucceeded)
    delay_s = event.next_attempt_delay_s
    if delay_s is None:
        status = Status.SUCCEEDED if succeeded else Status.FAILED
    else:
        status = Status.PENDING
    return replace(
        before,
        status=status,
        attempt=event.attempt,
        result=event.result if isinstance(event, ev.StepSucceeded) else None,
        error=event.error if isinstance(event, ev.StepFailed) else None,
        end_ms=event.at_ms if delay_s is None else None,
        next_attempt_ms=None if delay_s is None else event.at_ms + delay_s * 1000,
    )


def _step_ready(step: Step, _event: ev.StepReady, _number: int) -> Step:
    return replace(step, status=Status.READY, next_attempt_ms=None)


def _context_started(_context: None, event: ev.ContextStarted, number: int) -> Context:
    return Context(status=Status.STARTED, **_described(event, number))


def _context_ended(context: Context | None, event: ev.ContextSucceeded | ev.ContextFailed, number: int) -> Context:
    before = context or Context(status=Status.STARTED, **_described(event, number))
    succeeded = isinstance(event, ev.ContextSucceeded)
    return replace(
        before,
        status=Status.SUCCEEDED if succeeded else Status.FAILED,
        result=event.result if isinstance(event, ev.ContextSucceeded) else None,
        error=event.error if isinstance(event, ev.ContextFailed) else None,
        replay_children=event.replay_children,
        end_ms=event.at_ms,
    )


def _wait_started(_wait: None, event: ev.WaitStarted, number: int) -> Wait:
    return Wait(status=Status.STARTED, scheduled_end_ms=event.scheduled_end_ms, **_described(event, number))


def _callback_started(_callback: None, event: ev.CallbackStarted, number: int) -> Callback:
    return Callback(
        status=Status.STARTED,
        callback_id=event.callback_id,
        timeout_s=event.timeout_s,
        heartbeat_timeout_s=event.heartbeat_timeout_s,
        timeout_ms=event.at_ms + event.timeout_s * 1000 if event.timeout_s else None,
        heartbeat_ms=event.at_ms + event.heartbeat_timeout_s * 1000 if event.heartbeat_timeout_s else None,
        **_described(event, number),
    )


def _callback_heartbeat(callback: Callback, event: ev.CallbackHeartbeat, _number: int) -> Callback:
    if not callback.heartbeat_timeout_s:
        return callback
    return replace(callback, heartbeat_ms=event.at_ms + callback.heartbeat_timeout_s * 1000)


def _invoke_started(_invoke: None, event: ev.ChainedInvokeStarted, number: int) -> ChainedInvoke:
    return ChainedInvoke(
        status=Status.STARTED,
        function=event.function,
        target=event.target,
        version=event.version,
        execution_id=event.execution_id,
        input=event.input,
        tenant_id=event.tenant_id,
        trace_header=event.trace_header,
        **_described(event, number),
    )


def _invoke_confirmed(invoke: ChainedInvoke, _event: ev.ChildStarted, _number: int) -> ChainedInvoke:
    return replace(invoke, is_confirmed=True, input=None)


def _invoke_closed(status: Status) -> Callable[[Any, Any, int], Operation]:
    """End a chained invoke; its input is not needed any more."""
    close = _closed(status)
    return lambda invoke, event, number: replace(close(invoke, event, number), input=None)


def _closed(status: Status) -> Callable[[Any, Any, int], Operation]:
    """End an operation that the service ends, with the result or the error of the event."""

    def close(operation: Operation, event: Any, _number: int) -> Operation:
        return replace(
            operation,
            status=status,
            result=getattr(event, "result", None),
            error=getattr(event, "error", None),
            end_ms=event.at_ms,
        )

    return close


_ADVANCES: Final[dict[type[ev.Event], Callable[[Any, Any, int], Operation]]] = {
    ev.StepStarted: _step_started,
    ev.StepSucceeded: _step_attempt_ended,
    ev.StepFailed: _step_attempt_ended,
    ev.StepReady: _step_ready,
    ev.ContextStarted: _context_started,
    ev.ContextSucceeded: _context_ended,
    ev.ContextFailed: _context_ended,
    ev.WaitStarted: _wait_started,
    ev.WaitSucceeded: _closed(Status.SUCCEEDED),
    ev.WaitCancelled: _closed(Status.CANCELLED),
    ev.CallbackStarted: _callback_started,
    ev.CallbackSucceeded: _closed(Status.SUCCEEDED),
    ev.CallbackFailed: _closed(Status.FAILED),
    ev.CallbackTimedOut: _closed(Status.TIMED_OUT),
    ev.CallbackHeartbeat: _callback_heartbeat,
    ev.ChainedInvokeStarted: _invoke_started,
    ev.ChainedInvokeSucceeded: _invoke_closed(Status.SUCCEEDED),
    ev.ChainedInvokeFailed: _invoke_closed(Status.FAILED),
    ev.ChainedInvokeTimedOut: _invoke_closed(Status.TIMED_OUT),
    ev.ChainedInvokeStopped: _invoke_closed(Status.STOPPED),
    ev.ChildStarted: _invoke_confirmed,
}


def advance(operation: Operation | None, event: ev.OperationEvent, number: int) -> Operation:
    """What `event` makes of its operation; `number` is the one it gets if it is new."""
    return _ADVANCES[type(event)](operation, event, number)
