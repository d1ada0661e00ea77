"""Who may do what at the API, and what goes on record."""

from collections.abc import Callable, Mapping
from typing import Final

from perdure.api.backing import Backing
from perdure.engine import tokens
from perdure.identity.actions import Need, need_of, need_of_own
from perdure.identity.audit import AuditLog, Entry, shown
from perdure.identity.callers import Caller, CallerKind
from perdure.identity.gate import Gate
from perdure.model.error import AccessDenied, InvalidParameterValue, MissingAuthentication, ResourceNotFound
from perdure.model.ids import execution_text
from perdure.wire.table import Json

_CALLBACKS: Final = "SendDurableExecutionCallback"


class Access:
    """The gate and the audit log, as the API asks them."""

    def __init__(self, gate: Gate, audit: AuditLog) -> None:
        self._gate = gate
        self._audit = audit

    def check_signed(self, headers: Mapping[str, str], query: str) -> None:
        """Refuse what can't be right before its body is read: MissingAuthentication."""
        if "authorization" not in headers and "X-Amz-Signature" not in query and not self._gate.is_open():
            raise MissingAuthentication(
                "Missing Authentication Token",
                hint="sign it with an access key (AWS Signature Version 4); `perdure keys create` makes one",
            )

    def caller(
        self,
        method: str,
        raw_path: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes,
        peer: str | None,
        *,
        is_secure: bool,
    ) -> Caller:
        """Who has sent a request; raises what the gate raises."""
        return self._gate.authenticate(method, raw_path, query, headers, body, peer=peer, is_secure=is_secure)

    def permit(
        self, backing: Backing, caller: Caller, operation: str, parameters: Json, request_id: str
    ) -> Need | None:
        """What the caller has leave for. None if nobody asks and nothing goes on record.

        Raises AccessDenied, which goes on record as the action would.
        """
        if caller.kind is CallerKind.ANONYMOUS and operation in _UNRECORDED:
            return None
        arn: str | None = None
        if operation.startswith(_CALLBACKS):
            arn = _execution_of(backing, parameters["CallbackId"])
        need = need_of(operation, parameters, backing.home, execution_arn=arn)
        if caller.kind is not CallerKind.ANONYMOUS:
            try:
                self._gate.authorize(caller, need.action, need.resource)
            except AccessDenied as denied:
                now_ms = backing.service.clock.now_ms()
                self.record(caller, need, operation, parameters, request_id, denied.code, now_ms)
                raise
        return need

    def authorizer(self, caller: Caller) -> Callable[[str, str], None] | None:
        """What says whether the caller may do an action to a resource; None if anybody may do anything."""
        if caller.kind is CallerKind.ANONYMOUS:
            return None
        return lambda action, resource: self._gate.authorize(caller, action, resource)

    def permit_own(self, caller: Caller, action: str, resource: str, *, is_audited: bool) -> Need:
        """The same for a route that AWS's API does not have; `action` is `perdure:Name` or one of Lambda's."""
        service, _, name = action.partition(":")
        is_own = service == "perdure"
        need = (
            need_of_own(name, resource=resource, is_audited=is_audited)
            if is_own
            else Need(action, resource, is_audited)
        )
        if caller.kind is not CallerKind.ANONYMOUS:
            self._gate.authorize(caller, need.action, need.resource)
        return need

    def record(
        self, caller: Caller, need: Need, operation: str, parameters: Json, request_id: str, outcome: str, at_ms: int
    ) -> None:
        """Put an action of an operator on record, if it is one of those that are."""
        if not need.is_audited or caller.kind is CallerKind.ROLE:
            return
        self._audit.note(
            Entry(
                at_ms=at_ms,
                caller=caller.shown,
                operation=operation,
                resource=need.resource,
                outcome=outcome,
                source=caller.source,
                key_id=caller.key_id,
                request_id=request_id,
                parameters=shown(parameters),
            )
        )


_UNRECORDED: Final = frozenset(
    {
        "CheckpointDurableExecution",
        "GetDurableExecutionState",
        "GetDurableExecution",
        "GetDurableExecutionHistory",
        "ListDurableExecutionsByFunction",
        "SendDurableExecutionCallbackHeartbeat",
    }
)
"""What anybody on this machine may do while there are no keys, and what is never put on record."""


def _execution_of(backing: Backing, callback_id: str) -> str:
    """The ARN of the execution that a callback belongs to."""
    key = tokens.callback_owner(callback_id)
    if key is None:
        raise InvalidParameterValue("Invalid callback id", hint=f"{callback_id[:60]!r} is none of ours")
    try:
        return backing.service.get(execution_text(key)).arn
    except ResourceNotFound:
        raise ResourceNotFound("Callback does not exist", hint="its execution is gone, or was never here") from None
