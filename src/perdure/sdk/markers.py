"""Which way changed code goes: decisions that an execution takes once and keeps.

A marker is a STEP with an id of its own: it takes no place among the operations of its context, so that asking for it
moves nothing. An execution that passed this point before the question was asked has none, and goes the old way.
"""

import time
from typing import Final

from perdure.exceptions import NonDeterministicExecutionError, ValidationError
from perdure.model.operation import OperationAction, OperationStatus, OperationType, OperationUpdate
from perdure.sdk.drivers.running import run_blocking
from perdure.sdk.identity import named_id
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session

PATCH: Final = "patch"
VERSION: Final = "version"


def patched(session: Session, scope: Scope, name: str) -> bool:
    """Whether the execution goes the new way at the change called `name`."""
    return _decided(session, scope, PATCH, name, old=0, new=1) > 0


def version(session: Session, scope: Scope, name: str, least: int, most: int) -> int:
    """The version of the code called `name` that this execution goes on with, from `least` to `most`.

    Raises NonDeterministicExecutionError if it is one that the code does not have any more.
    """
    if least > most:
        raise ValidationError(f"min must not be greater than max: version({name!r}, min={least}, max={most})")
    found = _decided(session, scope, VERSION, name, old=least, new=most)
    if not least <= found <= most:
        divergence = NonDeterministicExecutionError(
            f"'{session.journal.execution}' goes on with version {found} of {name!r}, the code has {least} to {most}. "
            "Keep the code of a version until no execution has it any more",
            named_id(scope.prefix, VERSION, name),
        )
        session.journal.divergence = session.journal.divergence or divergence
        raise divergence
    return found


def _decided(session: Session, scope: Scope, kind: str, name: str, *, old: int, new: int) -> int:
    if not name or not isinstance(name, str):
        raise ValidationError(f"a {kind} needs a name, not {name!r}")
    marker = named_id(scope.prefix, kind, name)
    known = session.decisions.get(marker)
    if known is not None:
        return known
    record = session.journal.records.get(marker)
    if record is not None and record.status is OperationStatus.SUCCEEDED:
        decision = int(record.result or new)
    elif record is None and session.journal.goes_on(scope):
        decision = old
    else:
        decision = new
        _record(session, scope, marker, kind, name, new, is_started=record is not None)
    session.decisions[marker] = decision
    return decision


def _record(session: Session, scope: Scope, marker: str, kind: str, name: str, value: int, *, is_started: bool) -> None:
    """Have the decision recorded with, and before, whatever is recorded next.

    Its START may be there alone: sent on its own, and the process died.
    """
    parts = (OperationType.STEP, f"{kind} {name}", kind.capitalize(), scope.parent_id, time.time_ns() // 1_000_000)
    step, called, sub_type, parent_id, now_ms = parts
    started = OperationUpdate(marker, step, OperationAction.START, called, sub_type, parent_id, now_ms)
    ended = OperationUpdate(
        marker, step, OperationAction.SUCCEED, called, sub_type, parent_id, now_ms, payload=str(value)
    )
    for update in (ended,) if is_started else (started, ended):
        run_blocking(session.driver.commit(scope, update, durable=False))
