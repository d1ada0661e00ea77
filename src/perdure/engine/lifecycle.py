"""Beginning and end of an execution, and what operators do to it in between: stop, pause, resume, delete."""

from typing import Final

from perdure.engine.commands import Decision, Delete, Pause, Resume, Start, Stop
from perdure.engine.dispatch import invoke_if_possible
from perdure.engine.draft import Draft
from perdure.engine.effects import effects_of
from perdure.engine.fold import apply
from perdure.engine.state import ExecutionState, Request
from perdure.engine.terms import Ids, Terms
from perdure.engine.timers import fire_due
from perdure.model import event as ev
from perdure.model.error import ErrorObject, InvalidParameterValue, RequestTooLarge, ResourceConflict
from perdure.model.execution import EXECUTION_TIMEOUT_S_MAX, ExecutionStatus
from perdure.model.ids import CLIENT_TOKEN, EXECUTION_NAME, NAME_RULE, TENANT_ID, check
from perdure.model.operation import payload_bytes

REPEAT_MS: Final = 15 * 60 * 1000
"""How long the client token of a pause or resume is known (Lambda API)."""

REASON_MAX: Final = 1024
RETENTION_DAYS_MAX: Final = 36_500
"""A hundred years. AWS allows 90 days; on one's own disk that is one's own affair."""


def decide_start(command: Start, now_ms: int, terms: Terms) -> Decision:
    """Begin an execution; raises InvalidParameterValue and RequestTooLarge."""
    if command.name is not None:
        check(EXECUTION_NAME, command.name, "the execution's name", NAME_RULE)
    if command.tenant_id is not None:
        check(TENANT_ID, command.tenant_id, "TenantId", f"1 to 256 characters matching {TENANT_ID.pattern}")
    config = command.config
    if not 1 <= config.execution_timeout_s <= EXECUTION_TIMEOUT_S_MAX:
        rule = f"ExecutionTimeout must be from 1 to {EXECUTION_TIMEOUT_S_MAX} seconds"
        raise InvalidParameterValue(f"{rule}, not {config.execution_timeout_s}")
    if not 1 <= config.retention_days <= RETENTION_DAYS_MAX:
        rule = f"RetentionPeriodInDays must be from 1 to {RETENTION_DAYS_MAX}"
        raise InvalidParameterValue(f"{rule}, not {config.retention_days}")
    size = payload_bytes(command.input)
    if size > terms.limits.input_bytes_max:
        raise RequestTooLarge(
            f"the input has {size} bytes; an execution's input may have {terms.limits.input_bytes_max}",
            hint="store large data elsewhere and pass a reference to it",
        )
    started = ev.ExecutionStarted(
        now_ms,
        command.execution_id,
        command.function,
        command.version,
        command.name,
        command.input,
        config.execution_timeout_s,
        config.retention_days,
        command.parent,
        command.tenant_id,
        command.trace_header,
    )
    draft = Draft(apply(None, started), now_ms)
    draft.events.append(started)
    invoke_if_possible(draft, command.invoker)
    return Decision(draft.events, effects_of(draft), draft=draft)


def decide_stop(state: ExecutionState, command: Stop, now_ms: int, _ids: Ids, terms: Terms) -> Decision:
    """STOPPED at once, whatever runs. What has ended stays as it ended."""
    if command.error is not None and command.error.size_bytes() > terms.limits.error_bytes_max:
        raise InvalidParameterValue(f"Error object size must be less than {terms.limits.error_bytes_max} bytes.")
    draft = Draft(state, now_ms)
    fire_due(draft, terms.limits.timers_per_commit)
    if not draft.head.has_ended:
        error = command.error
        if error is None or error == ErrorObject():
            error = ErrorObject("Execution stopped by user request", "Execution.Stopped")
        draft.emit(ev.ExecutionStopped(now_ms, error))
    return Decision(draft.events, effects_of(draft), draft=draft)


def decide_pause(state: ExecutionState, command: Pause, now_ms: int, _ids: Ids, terms: Terms) -> Decision:
    """PAUSED, or PAUSING while an invocation is in flight. Raises ResourceConflict if there is nothing to pause."""
    _check_request(command.client_token, command.reason)
    if _is_repeated(state.head.pause_request, command.client_token, now_ms):
        return Decision()
    draft = Draft(state, now_ms)
    fire_due(draft, terms.limits.timers_per_commit)
    head = draft.head
    if head.status is not ExecutionStatus.RUNNING:
        refusal = ResourceConflict(
            f"the execution is {head.status}; only a RUNNING one can be paused",
            hint="there is nothing to do" if head.is_paused else None,
        )
        return Decision(draft.events, effects_of(draft), refusal=refusal, draft=draft)
    if head.in_flight is not None:
        draft.emit(ev.PauseRequested(now_ms, command.reason, command.is_timeout_paused, command.client_token))
    else:
        draft.emit(ev.ExecutionPaused(now_ms, now_ms, command.reason, command.is_timeout_paused, command.client_token))
    return Decision(draft.events, effects_of(draft), draft=draft)


def decide_resume(state: ExecutionState, command: Resume, now_ms: int, _ids: Ids, terms: Terms) -> Decision:
    """RUNNING again, invoked if there is a reason to. Raises ResourceConflict if it is not paused."""
    _check_request(command.client_token, command.reason)
    if _is_repeated(state.head.resume_request, command.client_token, now_ms):
        return Decision()
    draft = Draft(state, now_ms)
    fire_due(draft, terms.limits.timers_per_commit)
    head = draft.head
    if head.status is ExecutionStatus.PAUSING:
        draft.emit(ev.PauseWithdrawn(now_ms, command.client_token))
    elif head.is_paused:
        draft.emit(ev.ExecutionResumed(now_ms, now_ms, command.reason, command.client_token))
        invoke_if_possible(draft, command.invoker)
    else:
        refusal = ResourceConflict(f"the execution is {head.status}; only a paused one can be resumed")
        return Decision(draft.events, effects_of(draft), refusal=refusal, draft=draft)
    return Decision(draft.events, effects_of(draft), draft=draft)


def decide_delete(state: ExecutionState, _command: Delete, now_ms: int, _ids: Ids, _terms: Terms) -> Decision:
    """DELETING. Raises ResourceConflict unless the execution has ended."""
    if not state.head.has_ended:
        raise ResourceConflict(
            f"the execution is {state.head.status}; only one that has ended can be deleted", hint="stop it first"
        )
    if state.head.owed:
        raise ResourceConflict(
            "the execution that invoked this one has not been told its outcome yet", hint="try again"
        )
    return Decision() if state.head.is_deleted else Decision([ev.DeleteRequested(now_ms)])


def _check_request(client_token: str | None, reason: str | None) -> None:
    if client_token is not None:
        check(CLIENT_TOKEN, client_token, "ClientToken", "1 to 64 printable ASCII characters without space")
    if reason is not None and len(reason) > REASON_MAX:
        raise InvalidParameterValue(f"Reason must have at most {REASON_MAX} characters, not {len(reason)}")


def _is_repeated(request: Request | None, client_token: str | None, now_ms: int) -> bool:
    return request is not None and request.client_token == client_token and now_ms - request.at_ms < REPEAT_MS
