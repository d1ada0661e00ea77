"""The one entrance: which function decides which command."""

from typing import Any, Final

from perdure.engine import callbacks, checkpoint, commands as cmd, dispatch, invokes, lifecycle
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
        return lifecycle.decide_start(command, now_ms, terms)
    decision: cmd.Decision = _DECIDERS[type(command)](state, command, now_ms, ids, terms)
    return decision


_DECIDERS: Final[dict[type[cmd.Command], Any]] = {
    cmd.EndInvocation: dispatch.decide_end,
    cmd.LoseInvocation: dispatch.decide_lose,
    cmd.Wake: dispatch.decide_wake,
    cmd.CompleteCallback: callbacks.decide_completion,
    cmd.HeartbeatCallback: callbacks.decide_heartbeat,
    cmd.EndChainedInvoke: invokes.decide_child_ended,
    cmd.ConfirmChild: invokes.decide_child_confirmed,
    cmd.ConfirmParentTold: invokes.decide_parent_told,
    cmd.Stop: lifecycle.decide_stop,
    cmd.Pause: lifecycle.decide_pause,
    cmd.Resume: lifecycle.decide_resume,
    cmd.Delete: lifecycle.decide_delete,
}
