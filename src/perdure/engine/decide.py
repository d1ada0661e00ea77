"""The one entrance: which function decides which command."""

from typing import Any, Final

from perdure.engine import callbacks, checkpoint, dispatch, invokes, lifecycle
from perdure.engine import commands as cmd
from perdure.engine.state import ExecutionState
from perdure.engine.terms import Ids, Terms


def decide(state: ExecutionState | None, command: cmd.Command, now_ms: int, ids: Ids, terms: Terms) -> cmd.Decision:
    """Say what `command` makes happen at `now_ms`; `state` is None for the start of an execution, and unchanged.

    Raises the ServiceError that the asker has to see, in which case nothing has happened.
    """
    if type(command) is cmd.Checkpoint:
        assert state is not None
        return checkpoint.decide_checkpoint(state, command, now_ms, ids, terms)
    if state is None:
        assert type(command) is cmd.Start, "an execution begins with its start"
        return lifecycle.decide_start(command, now_ms, ids, terms)
    decision: cmd.Decision = _DECIDERS[type(command)](state, command, now_ms, ids, terms)
    return decision


_DECIDERS: Final[dict[type[cmd.Command], Any]] = {
    cmd.EndInvocation: dispatch.decide_end,
    cmd.LoseInvocation: dispatch.decide_lose,
    cmd.Wake: dispatch.decide_wake,
    cmd.CompleteCallback: callbacks.decide_completion,
    cmd.HeartbeatCallback: lambda state, command, now_ms, _ids, terms: callbacks.decide_heartbeat(
        state, command, now_ms, terms
    ),
    cmd.EndChainedInvoke: invokes.decide_child_ended,
    cmd.ConfirmChild: lambda state, command, now_ms, _ids, _terms: invokes.decide_child_confirmed(
        state, command, now_ms
    ),
    cmd.ConfirmParentTold: lambda state, command, now_ms, _ids, _terms: invokes.decide_parent_told(
        state, command, now_ms
    ),
    cmd.Stop: lambda state, command, now_ms, _ids, terms: lifecycle.decide_stop(state, command, now_ms, terms),
    cmd.Pause: lambda state, command, now_ms, _ids, terms: lifecycle.decide_pause(state, command, now_ms, terms),
    cmd.Resume: lifecycle.decide_resume,
    cmd.Delete: lambda state, command, now_ms, _ids, _terms: lifecycle.decide_delete(state, command, now_ms),
}
