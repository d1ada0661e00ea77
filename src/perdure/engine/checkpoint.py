"""A checkpoint: check its updates against the operations as they are, and say what happened.

Source: Lambda API 2025-12-01, CheckpointDurableExecution. The texts of the refusals are those of AWS's local emulator,
the stale token's that of the service itself.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from perdure.engine.commands import Checkpoint, Decision, Resolve, Token
from perdure.engine.draft import Draft
from perdure.engine.effects import effects_of
from perdure.engine.endings import end_failed, end_succeeded, pause_now
from perdure.engine.state import ExecutionState, Head
from perdure.engine.terms import Ids, Limits, Terms
from perdure.engine.timers import fire_due
from perdure.engine.transitions import (
    CALLBACK_TRANSITIONS,
    CHAINED_INVOKE_TRANSITIONS,
    CONTEXT_TRANSITIONS,
    STEP_TRANSITIONS,
    WAIT_TRANSITIONS,
    Table,
)
from perdure.model import event as ev
from perdure.model.error import ErrorObject, InvalidParameterValue, InvalidUpdate, StaleToken
from perdure.model.execution import EXECUTION_TIMEOUT_S_MAX, ExecutionStatus
from perdure.model.ids import CLIENT_TOKEN, OPERATION_ID, OPERATION_NAME, OPERATION_SUB_TYPE, TENANT_ID, check
from perdure.model.operation import (
    Context,
    Operation,
    OperationAction,
    OperationType,
    OperationUpdate,
    Step,
    payload_bytes,
)

CLIENT_TOKEN_MS: Final = 15 * 60 * 1000
"""How long a repeated client token is known (Lambda API)."""

CALLBACK_TIMEOUT_S_MAX: Final = 99_999_999

Action = OperationAction


def decide_checkpoint(state: ExecutionState, command: Checkpoint, now_ms: int, ids: Ids, terms: Terms) -> Decision:
    """All updates happen, or none. Raises StaleToken and InvalidUpdate; see `Decision` for what else comes back."""
    digest: bytes | None = None
    if command.client_token is not None:
        digest = digest_of(command.updates)
        check(CLIENT_TOKEN, command.client_token, "ClientToken", "1 to 64 printable ASCII characters without space")
        delivered = state.delivered
        if (
            delivered is not None
            and delivered.client_token == command.client_token
            and (delivered.epoch, delivered.count - 1) == (command.token.epoch, command.token.count)
            and now_ms - delivered.at_ms < CLIENT_TOKEN_MS
        ):
            if delivered.digest not in (None, digest):
                raise InvalidParameterValue(
                    f"the ClientToken {command.client_token!r} was given with other updates",
                    hint="repeat a checkpoint with all that it had, or give it a ClientToken of its own",
                )
            return Decision(repeated=delivered.operations)
    if not holds_right(state.head, command.token):
        raise StaleToken
    draft = Draft(state, now_ms)
    fire_due(draft, terms.limits.timers_per_commit)
    if draft.head.has_ended:
        return Decision(draft.events, effects_of(draft), refusal=StaleToken(), draft=draft)
    apply_updates(draft, command.updates, command.resolve, ids, terms.limits)
    head = draft.head
    if head.has_ended or _is_over_quota(draft, terms.limits):
        return Decision(draft.events, effects_of(draft), is_token_withheld=True, draft=draft)
    if head.status is ExecutionStatus.PAUSING:
        pause_now(draft)
        return Decision(draft.events, effects_of(draft), is_token_withheld=True, draft=draft)
    draft.emit(ev.CheckpointAccepted(now_ms, command.token.count + 1, command.client_token, digest))
    return Decision(draft.events, effects_of(draft), draft=draft)


def digest_of(updates: Sequence[OperationUpdate]) -> bytes:
    """What tells one batch of updates from another: eight bytes."""
    return hashlib.blake2b(msgspec.msgpack.encode(updates), digest_size=8).digest()


def holds_right(head: Head, token: Token) -> bool:
    """Whether `token` is the one that may write now."""
    now = head.in_flight
    return (
        now is not None
        and now.count == token.count
        and now.epoch == token.epoch
        and not now.is_revoked
        and not head.has_ended
    )


def apply_updates(draft: Draft, updates: Sequence[OperationUpdate], resolve: Resolve, ids: Ids, limits: Limits) -> None:
    """Emit the events of `updates` in their order; raises InvalidParameterValue at the first that can't be."""
    if len(updates) > 1:
        _check_batch(updates, limits)
    maker = _Maker(draft, resolve, ids, limits)
    for update in updates:
        if update.type is OperationType.EXECUTION:
            maker.end_execution(update)
            continue
        operation = draft.operation(update.id)
        if operation is None:
            maker.check_new(update)
        else:
            _check_same(operation, update)
        maker.check_payload(update)
        draft.emit(_MAKERS[update.type](maker, operation, update))
        if update.type is OperationType.CHAINED_INVOKE:
            maker.refuse_if_unreachable(update)


def _is_over_quota(draft: Draft, limits: Limits) -> bool:
    """End the execution FAILED if it has used more than it may."""
    head = draft.head
    if head.metered_operations > limits.operations_max:
        text = f"The execution has used {head.metered_operations} durable operations of {limits.operations_max}."
    elif head.written_bytes > limits.written_bytes_max:
        text = f"The execution has written {head.written_bytes} bytes of {limits.written_bytes_max}."
    else:
        return False
    end_failed(draft, ErrorObject(text, "ServiceQuotaExceededException"))
    return True


def _check_batch(updates: Sequence[OperationUpdate], limits: Limits) -> None:
    if len(updates) == 2 and _is_start_and_end(*updates):
        return
    if len(updates) > limits.updates_max:
        raise InvalidParameterValue(
            f"Cannot checkpoint {len(updates)} updates at once; the limit is {limits.updates_max}."
        )
    before: dict[str, OperationUpdate] = {}
    executions = 0
    for update in updates:
        executions += update.type is OperationType.EXECUTION
        first = before.get(update.id)
        if first is not None and not (
            first.action is Action.START
            and update.action is not Action.START
            and update.type in (OperationType.STEP, OperationType.CONTEXT)
        ):
            raise InvalidUpdate("Cannot checkpoint multiple operations with the same ID.", operation_id=update.id)
        before[update.id] = update
    if executions > 1:
        raise InvalidUpdate("Cannot checkpoint multiple EXECUTION updates.")
    if executions and updates[-1].type is not OperationType.EXECUTION:
        raise InvalidUpdate("EXECUTION checkpoint must be the last update.")


def _is_start_and_end(first: OperationUpdate, second: OperationUpdate) -> bool:
    """The batch that nearly all are: the start and the end of one step."""
    return (
        first.id == second.id
        and first.type is OperationType.STEP
        and second.type is OperationType.STEP
        and first.action is Action.START
        and second.action is not Action.START
    )


def _check_same(operation: Operation, update: OperationUpdate) -> None:
    """An update must describe its operation as it is recorded; absent and empty are the same."""
    if operation.type is not update.type:
        raise InvalidUpdate("Inconsistent operation type.", operation_id=update.id)
    if (operation.sub_type or None) != (update.sub_type or None):
        raise InvalidUpdate("Inconsistent operation subtype.", operation_id=update.id)
    if (operation.name or None) != (update.name or None):
        raise InvalidUpdate("Inconsistent operation name.", operation_id=update.id)
    if (operation.parent_id or None) != (update.parent_id or None):
        raise InvalidUpdate("Inconsistent parent operation id.", operation_id=update.id)


def _status(operation: Operation | None, table: Table, update: OperationUpdate, refusals: dict[Action, str]) -> None:
    """InvalidUpdate unless the table lets the action happen."""
    if (operation.status if operation is not None else None, update.action) not in table:
        text = refusals.get(update.action, "Invalid action for the given operation type.")
        raise InvalidUpdate(text, operation_id=update.id)


_STEP_REFUSALS: Final = {
    Action.START: "Invalid current STEP state to start.",
    Action.SUCCEED: "Invalid current STEP state to close.",
    Action.FAIL: "Invalid current STEP state to close.",
    Action.RETRY: "Invalid current STEP state to re-attempt.",
}
_CONTEXT_REFUSALS: Final = {
    Action.START: "Cannot start a CONTEXT that already exists.",
    Action.SUCCEED: "Invalid current CONTEXT state to close.",
    Action.FAIL: "Invalid current CONTEXT state to close.",
}
_WAIT_REFUSALS: Final = {
    Action.START: "Cannot start a WAIT that already exists.",
    Action.CANCEL: "Cannot cancel a WAIT that does not exist or has already completed.",
}
_CALLBACK_REFUSALS: Final = {Action.START: "Cannot start a CALLBACK that already exists."}
_INVOKE_REFUSALS: Final = {Action.START: "Cannot start a CHAINED_INVOKE that already exists."}


class _Maker:
    """Turns updates into events, with what all of them need at hand."""

    def __init__(self, draft: Draft, resolve: Resolve, ids: Ids, limits: Limits) -> None:
        self.draft = draft
        self.resolve = resolve
        self.ids = ids
        self.limits = limits
        self.refusals: dict[str, ErrorObject] = {}

    def at_ms(self, update: OperationUpdate) -> int:
        """When it happened: as the handler says, if it shares our clock; never outside its invocation."""
        now_ms: int = self.draft.now_ms
        if update.at_ms is None or self.draft.head.in_flight is None:
            return now_ms
        return min(max(update.at_ms, self.draft.head.in_flight.start_ms), now_ms)

    def check_new(self, update: OperationUpdate) -> None:
        if not _is_word(update.id, 64):
            check(OPERATION_ID, update.id, "Id", "1 to 64 of the characters a-z, A-Z, 0-9, '-' and '_'")
        name = update.name
        if name and not (name.isascii() and name.isprintable() and len(name) <= 256):
            check(OPERATION_NAME, name, "Name", "1 to 256 printable ASCII characters")
        sub_type = update.sub_type
        if sub_type and not _is_word(sub_type, 32):
            check(OPERATION_SUB_TYPE, sub_type, "SubType", "1 to 32 of the characters a-z, A-Z, 0-9, '-' and '_'")
        if update.parent_id and not isinstance(self.draft.operation(update.parent_id), Context):
            raise InvalidUpdate("Invalid parent operation id.", operation_id=update.id)

    def check_payload(self, update: OperationUpdate) -> None:
        limits = self.limits
        if update.payload is not None and len(update.payload) * 4 > limits.payload_bytes_max:
            size = payload_bytes(update.payload)
            if size > limits.payload_bytes_max:
                what = f"{update.type} {'input' if update.type is OperationType.CHAINED_INVOKE else 'output'} payload"
                text = f"{what} size must be less than or equal to {limits.payload_bytes_max} bytes."
                raise InvalidUpdate(text, operation_id=update.id)
        if update.error is not None and update.error.size_bytes() > limits.error_bytes_max:
            raise InvalidUpdate(
                f"Error object size must be less than {limits.error_bytes_max} bytes.", operation_id=update.id
            )
        if update.action is Action.FAIL and update.payload is not None:
            raise InvalidUpdate("Cannot provide a Payload for FAIL action.", operation_id=update.id)
        if update.action is Action.SUCCEED and update.error is not None:
            raise InvalidUpdate("Cannot provide an Error for SUCCEED action.", operation_id=update.id)

    def end_execution(self, update: OperationUpdate) -> None:
        """A result too large for the invocation's answer comes as an update; its id means nothing."""
        if update.action is Action.SUCCEED:
            if update.error is not None:
                raise InvalidUpdate("Cannot provide an Error for SUCCEED action.")
            end_succeeded(self.draft, update.payload, self.limits)
        elif update.action is Action.FAIL:
            if update.payload is not None:
                raise InvalidUpdate("Cannot provide a Payload for FAIL action.")
            end_failed(self.draft, update.error)
        else:
            raise InvalidUpdate("Invalid action for the given operation type.")

    def step(self, step: Step | None, update: OperationUpdate) -> ev.Event:
        _status(step, STEP_TRANSITIONS, update, _STEP_REFUSALS)
        action = update.action
        if (action is Action.RETRY) is (update.next_attempt_delay_s is None):
            raise InvalidUpdate("Invalid StepOptions for the given action.", operation_id=update.id)
        at_ms = self.at_ms(update)
        if action is Action.START:
            return ev.StepStarted(
                at_ms, update.id, update.name or None, update.sub_type or None, update.parent_id or None
            )
        delay_s = update.next_attempt_delay_s
        if delay_s is not None:
            _check_range(delay_s, 1, EXECUTION_TIMEOUT_S_MAX, "NextAttemptDelaySeconds", update)
            if update.payload is not None and update.error is not None:
                raise InvalidUpdate("Cannot provide both error and payload to RETRY a STEP.", operation_id=update.id)
        attempt = (step.attempt if step is not None else 0) + 1
        described = _describe(update) if step is None else ()
        if action is Action.FAIL or (action is Action.RETRY and update.error is not None):
            return ev.StepFailed(at_ms, update.id, attempt, update.error, delay_s, *described)
        return ev.StepSucceeded(at_ms, update.id, attempt, update.payload, delay_s, *described)

    def context(self, context: Context | None, update: OperationUpdate) -> ev.Event:
        _status(context, CONTEXT_TRANSITIONS, update, _CONTEXT_REFUSALS)
        at_ms = self.at_ms(update)
        if update.action is Action.START:
            return ev.ContextStarted(at_ms, update.id, *_describe(update))
        described = _describe(update) if context is None else ()
        if update.action is Action.FAIL:
            return ev.ContextFailed(at_ms, update.id, update.error, bool(update.replay_children), *described)
        return ev.ContextSucceeded(at_ms, update.id, update.payload, bool(update.replay_children), *described)

    def wait(self, wait: Operation | None, update: OperationUpdate) -> ev.Event:
        _status(wait, WAIT_TRANSITIONS, update, _WAIT_REFUSALS)
        at_ms = self.at_ms(update)
        if update.action is Action.CANCEL:
            return ev.WaitCancelled(at_ms, update.id, update.error)
        if update.wait_s is None:
            raise InvalidUpdate("Update for WAIT operation requires WaitOptions.", operation_id=update.id)
        _check_range(update.wait_s, 1, EXECUTION_TIMEOUT_S_MAX, "WaitSeconds", update)
        return ev.WaitStarted(at_ms, update.id, update.wait_s, at_ms + update.wait_s * 1000, *_describe(update))

    def callback(self, callback: Operation | None, update: OperationUpdate) -> ev.Event:
        _status(callback, CALLBACK_TRANSITIONS, update, _CALLBACK_REFUSALS)
        timeout_s, heartbeat_s = update.timeout_s or 0, update.heartbeat_timeout_s or 0
        _check_range(timeout_s, 0, CALLBACK_TIMEOUT_S_MAX, "TimeoutSeconds", update)
        _check_range(heartbeat_s, 0, CALLBACK_TIMEOUT_S_MAX, "HeartbeatTimeoutSeconds", update)
        callback_id = self.ids.callback_id(self.draft.head.execution_id)
        return ev.CallbackStarted(
            self.at_ms(update), update.id, callback_id, timeout_s, heartbeat_s, *_describe(update)
        )

    def chained_invoke(self, invoke: Operation | None, update: OperationUpdate) -> ev.Event:
        _status(invoke, CHAINED_INVOKE_TRANSITIONS, update, _INVOKE_REFUSALS)
        if not update.function_name:
            text = "Update for CHAINED_INVOKE operation requires ChainedInvokeOptions."
            raise InvalidUpdate(text, operation_id=update.id)
        if update.tenant_id is not None:
            check(TENANT_ID, update.tenant_id, "TenantId", f"1 to 256 characters matching {TENANT_ID.pattern}")
        target = self.resolve(update)
        if target.refusal is not None:
            self.refusals[update.id] = target.refusal
        is_reachable = target.refusal is None
        return ev.ChainedInvokeStarted(
            self.at_ms(update),
            update.id,
            update.function_name,
            update.payload,
            update.tenant_id,
            target.name if is_reachable else None,
            target.version if is_reachable else None,
            self.ids.execution_id(self.draft.now_ms) if is_reachable and target.is_durable else None,
            update.trace_header,
            *_describe(update),
        )

    def refuse_if_unreachable(self, update: OperationUpdate) -> None:
        """A target that can't be invoked fails the operation in the same answer."""
        refusal = self.refusals.get(update.id)
        if refusal is not None:
            self.draft.emit(ev.ChainedInvokeFailed(self.draft.now_ms, update.id, refusal))


def _is_word(text: str, length_max: int) -> bool:
    """Whether a text is of letters and digits alone, which is what nearly all ids are: quicker than its pattern."""
    return text.isalnum() and text.isascii() and len(text) <= length_max


def _describe(update: OperationUpdate) -> tuple[str | None, str | None, str | None]:
    return update.name or None, update.sub_type or None, update.parent_id or None


def _check_range(value: int, low: int, high: int, what: str, update: OperationUpdate) -> None:
    if not low <= value <= high:
        raise InvalidUpdate(f"{what} must be from {low} to {high}, not {value}.", operation_id=update.id)


_MAKERS: Final[dict[OperationType, Callable[[_Maker, Any, OperationUpdate], ev.Event]]] = {
    OperationType.STEP: _Maker.step,
    OperationType.CONTEXT: _Maker.context,
    OperationType.WAIT: _Maker.wait,
    OperationType.CALLBACK: _Maker.callback,
    OperationType.CHAINED_INVOKE: _Maker.chained_invoke,
}
