"""How an execution ends by its own answer, and how a pause that was asked for begins."""

from perdure.engine.draft import Draft
from perdure.engine.terms import Limits
from perdure.model import event as ev
from perdure.model.error import ErrorObject
from perdure.model.operation import payload_bytes


def end_succeeded(draft: Draft, result: str | None, limits: Limits) -> None:
    """The execution has its result; one that is too large fails it instead."""
    limit = limits.result_bytes_max if draft.head.parent is None else limits.chained_result_bytes_max
    if payload_bytes(result) > limit:
        text = f"Execution output payload size must be less than or equal to {limit} bytes."
        end_failed(draft, ErrorObject(text, "InvalidParameterValueException"))
        return
    draft.emit(ev.ExecutionSucceeded(draft.now_ms, result))


def end_failed(draft: Draft, error: ErrorObject | None) -> None:
    draft.emit(ev.ExecutionFailed(draft.now_ms, error))


def pause_now(draft: Draft) -> None:
    """What was requested begins."""
    pause = draft.head.pause
    assert pause is not None, "only a requested pause can begin"
    draft.emit(ev.ExecutionPaused(draft.now_ms, pause.requested_ms, pause.reason, pause.is_timeout_paused))
