"""Every transition of every execution, as pure functions: no clock, no randomness, no input or output.

decide(state, command, now_ms, ids, terms) -> Decision    # may raise; changes nothing
apply(state, event) -> state                              # can't fail
"""

from perdure.engine.decide import decide
from perdure.engine.fold import apply, fold
from perdure.engine.state import ExecutionState

__all__ = ["ExecutionState", "apply", "decide", "fold"]
