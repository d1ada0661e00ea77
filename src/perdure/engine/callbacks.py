"""Callbacks: completed from outside, exactly once.

Source: Lambda API 2025-12-01, SendDurableExecutionCallbackSuccess, -Failure and -Heartbeat.
"""

from perdure.engine.commands import CompleteCallback, Decision, HeartbeatCallback
from perdure.engine.dispatch import invoke_if_possible
from perdure.engine.draft import Draft
from perdure.engine.effects import effects_of
from perdure.engine.state import ExecutionState
from perdure.engine.terms import Ids, Terms
from perdure.engine.timers import fire_due
from perdure.model import event as ev
from perdure.model.error import CallbackTimeout, ErrorObject, InvalidParameterValue, ResourceNotFound
from perdure.model.operation import Callback, OperationStatus, payload_bytes


def decide_completion(
    state: ExecutionState, command: CompleteCallback, now_ms: int, _ids: Ids, terms: Terms
) -> Decision:
    """The first to complete a callback wins; everybody later, and who comes too late, gets CallbackTimeout."""
    size, limit = payload_bytes(command.result), terms.limits.payload_bytes_max
    if size > limit:
        text = f"CALLBACK output payload size must be less than or equal to {limit} bytes."
        raise InvalidParameterValue(text, hint=f"the result has {size} bytes")
    if command.error is not None and command.error.size_bytes() > terms.limits.error_bytes_max:
        raise InvalidParameterValue(f"Error object size must be less than {terms.limits.error_bytes_max} bytes.")
    draft, callback, refusal = _open_callback(state, command.callback_id, now_ms, terms)
    if refusal is None:
        if command.is_failure:
            draft.emit(ev.CallbackFailed(now_ms, callback.id, command.error or ErrorObject()))
        else:
            draft.emit(ev.CallbackSucceeded(now_ms, callback.id, command.result))
        invoke_if_possible(draft, command.invoker)
    return Decision(draft.events, effects_of(draft), refusal=refusal, draft=draft)


def decide_heartbeat(
    state: ExecutionState, command: HeartbeatCallback, now_ms: int, _ids: Ids, terms: Terms
) -> Decision:
    """Begin the heartbeat's time anew; the time-out of the whole is not moved."""
    draft, callback, refusal = _open_callback(state, command.callback_id, now_ms, terms)
    if refusal is None and callback.heartbeat_timeout_s:
        draft.emit(ev.CallbackHeartbeat(now_ms, callback.id))
    return Decision(draft.events, effects_of(draft), refusal=refusal, draft=draft)


def _open_callback(
    state: ExecutionState, callback_id: str, now_ms: int, terms: Terms
) -> tuple[Draft, Callback, CallbackTimeout | None]:
    """The callback after all that is due has happened, and the refusal if it can't be completed any more."""
    operation_id = state.callback_ids.get(callback_id)
    if operation_id is None:
        raise ResourceNotFound("Callback does not exist", hint="check the callback id: it is one long word")
    draft = Draft(state, now_ms)
    fire_due(draft, terms.limits.timers_per_commit)
    callback = draft.operation(operation_id)
    assert isinstance(callback, Callback)
    if callback.status is not OperationStatus.STARTED:
        return draft, callback, CallbackTimeout(f"Callback is already closed: {callback.status}")
    if draft.head.has_ended:
        return draft, callback, CallbackTimeout(f"Callback is closed: its execution is {draft.head.status}")
    return draft, callback, None
