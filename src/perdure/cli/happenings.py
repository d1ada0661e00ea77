"""Events in words: for the history table, and for the plain lines of a run."""

from collections.abc import Callable
from typing import Any, Final

from perdure.cli.lines import error_line
from perdure.cli.moments import duration_text
from perdure.model import event as ev
from perdure.model.error import ErrorObject


def _delay(event: Any) -> str:
    return f"; next attempt in {event.next_attempt_delay_s} s" if event.next_attempt_delay_s is not None else ""


def _error(error: ErrorObject | None) -> str:
    return f": {error_line(error)}" if error is not None else ""


def _attempt(event: Any) -> str:
    return f" (attempt {event.attempt})" if event.attempt > 1 else ""


_WORDS: Final[dict[type[ev.Event], Callable[[Any], str]]] = {
    ev.ExecutionStarted: lambda _: "started",
    ev.ExecutionSucceeded: lambda _: "succeeded",
    ev.ExecutionFailed: lambda event: f"failed{_error(event.error)}",
    ev.ExecutionTimedOut: lambda event: f"timed out{_error(event.error)}",
    ev.ExecutionStopped: lambda event: f"stopped{_error(event.error)}",
    ev.ExecutionPaused: lambda event: f"paused: {event.reason}" if event.reason else "paused",
    ev.ExecutionResumed: lambda event: f"resumed: {event.reason}" if event.reason else "resumed",
    ev.InvocationCompleted: lambda event: (
        f"invocation {event.epoch} ended after {duration_text(event.at_ms - event.start_ms)}{_error(event.error)}"
    ),
    ev.StepStarted: lambda _: "started",
    ev.StepSucceeded: lambda event: (
        f"polled{_attempt(event)}{_delay(event)}" if event.next_attempt_delay_s else f"succeeded{_attempt(event)}"
    ),
    ev.StepFailed: lambda event: f"attempt {event.attempt} failed{_error(event.error)}{_delay(event)}",
    ev.ContextStarted: lambda _: "started",
    ev.ContextSucceeded: lambda _: "succeeded",
    ev.ContextFailed: lambda event: f"failed{_error(event.error)}",
    ev.WaitStarted: lambda event: f"waits {duration_text(event.duration_s * 1000)}",
    ev.WaitSucceeded: lambda event: f"waited {duration_text(event.duration_s * 1000)}",
    ev.WaitCancelled: lambda _: "cancelled",
    ev.CallbackStarted: lambda event: f"waits for an answer to {event.callback_id}",
    ev.CallbackSucceeded: lambda _: "answered",
    ev.CallbackFailed: lambda event: f"answered with a failure{_error(event.error)}",
    ev.CallbackTimedOut: lambda event: f"timed out{_error(event.error)}",
    ev.ChainedInvokeStarted: lambda event: f"invokes {event.function}",
    ev.ChainedInvokeSucceeded: lambda _: "succeeded",
    ev.ChainedInvokeFailed: lambda event: f"failed{_error(event.error)}",
    ev.ChainedInvokeTimedOut: lambda event: f"timed out{_error(event.error)}",
    ev.ChainedInvokeStopped: lambda event: f"stopped{_error(event.error)}",
}


def in_words(event: ev.Event) -> str:
    """What happened, without saying to what."""
    return _WORDS[type(event)](event)


def details(event: ev.Event) -> str:
    """What the history table says beside the event's type, and that neither its payload nor its error says."""
    match event:
        case ev.ExecutionStarted(execution_timeout_s=timeout_s):
            return f"times out after {duration_text(timeout_s * 1000)}"
        case ev.InvocationCompleted(epoch=epoch):
            return f"invocation {epoch}, {duration_text(event.at_ms - event.start_ms)}"
        case ev.StepSucceeded() | ev.StepFailed():
            return f"attempt {event.attempt}{_delay(event)}"
        case ev.WaitStarted(duration_s=duration_s):
            return duration_text(duration_s * 1000)
        case ev.CallbackStarted(timeout_s=timeout_s, heartbeat_timeout_s=heartbeat_s):
            limits = (("timeout", timeout_s), ("heartbeat", heartbeat_s))
            return ", ".join(f"{name} {duration_text(limit * 1000)}" for name, limit in limits if limit)
        case ev.ChainedInvokeStarted(function=function):
            return function
        case ev.ExecutionPaused(reason=reason) | ev.ExecutionResumed(reason=reason):
            return reason or ""
        case _:
            return ""


def payload_of(event: ev.Event) -> str | None:
    """The input or the result that the event holds."""
    found: str | None = getattr(event, "input", None) or getattr(event, "result", None)
    return found


def error_of(event: ev.Event) -> ErrorObject | None:
    found: ErrorObject | None = getattr(event, "error", None)
    return found
