"""The test kit: run durable functions in a test, look at all that they did, and say what should have happened.

    from perdure.testing import LocalRunner

    def test_an_order_is_charged_after_its_cooling_off_time():
        with LocalRunner(handler) as runner:
            assert runner.run({"sku": "tea"}).result == {"charged": 12}

Names are loaded when they are first used, so that importing the package costs a test run little.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from perdure.testing.backend import Backend as Backend, WallTimeout as WallTimeout
    from perdure.testing.clock import VirtualClock as VirtualClock
    from perdure.testing.facts import Facts as Facts, InvocationRecord as InvocationRecord
    from perdure.testing.handles import CallbackHandle as CallbackHandle, Execution as Execution
    from perdure.testing.histories import History as History, load_history as load_history
    from perdure.testing.replaying.judging import Divergence as Divergence, Verdict as Verdict
    from perdure.testing.replaying.replayer import (
        IncompatibleError as IncompatibleError,
        Replayer as Replayer,
        ReplayResult as ReplayResult,
        ReplaySummary as ReplaySummary,
    )
    from perdure.testing.runner import LocalRunner as LocalRunner, Runner as Runner

_HOMES: Final = {
    "perdure.testing.backend": ("Backend", "WallTimeout"),
    "perdure.testing.clock": ("VirtualClock",),
    "perdure.testing.facts": ("Facts", "InvocationRecord"),
    "perdure.testing.handles": ("CallbackHandle", "Execution"),
    "perdure.testing.histories": ("History", "load_history"),
    "perdure.testing.replaying.judging": ("Divergence", "Verdict"),
    "perdure.testing.replaying.replayer": ("IncompatibleError", "ReplayResult", "ReplaySummary", "Replayer"),
    "perdure.testing.runner": ("LocalRunner", "Runner"),
}
_HOME_OF: Final = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*_HOME_OF]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'perdure.testing' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
