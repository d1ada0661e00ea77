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
    from perdure.testing.exceptions import (
        AmbiguousOperation as AmbiguousOperation,
        DurableFunctionsTestError as DurableFunctionsTestError,
        OperationNotFound as OperationNotFound,
        RecordedError as RecordedError,
        UnknownValue as UnknownValue,
        WrongOperationType as WrongOperationType,
    )
    from perdure.testing.facts import Facts as Facts, InvocationRecord as InvocationRecord
    from perdure.testing.handles import CallbackHandle as CallbackHandle, Execution as Execution
    from perdure.testing.metering import Metering as Metering, Prices as Prices
    from perdure.testing.operations import (
        CallbackOperation as CallbackOperation,
        ContextOperation as ContextOperation,
        ExecutionOperation as ExecutionOperation,
        InvokeOperation as InvokeOperation,
        Operation as Operation,
        StepOperation as StepOperation,
        WaitOperation as WaitOperation,
    )
    from perdure.testing.result import (
        DurableFunctionTestResult as DurableFunctionTestResult,
        Invocation as Invocation,
        Result as Result,
    )
    from perdure.testing.runner import LocalRunner as LocalRunner, Runner as Runner
    from perdure.testing.snapshots import snapshot as snapshot, snapshot_text as snapshot_text
    from perdure.testing.trace import Attempt as Attempt
    from perdure.testing.tree import tree_of as tree_of

_HOMES: Final = {
    "perdure.testing.backend": ("Backend", "WallTimeout"),
    "perdure.testing.clock": ("VirtualClock",),
    "perdure.testing.exceptions": (
        "AmbiguousOperation",
        "DurableFunctionsTestError",
        "OperationNotFound",
        "RecordedError",
        "UnknownValue",
        "WrongOperationType",
    ),
    "perdure.testing.facts": ("Facts", "InvocationRecord"),
    "perdure.testing.handles": ("CallbackHandle", "Execution"),
    "perdure.testing.metering": ("Metering", "Prices"),
    "perdure.testing.operations": (
        "CallbackOperation",
        "ContextOperation",
        "ExecutionOperation",
        "InvokeOperation",
        "Operation",
        "StepOperation",
        "WaitOperation",
    ),
    "perdure.testing.result": ("DurableFunctionTestResult", "Invocation", "Result"),
    "perdure.testing.runner": ("LocalRunner", "Runner"),
    "perdure.testing.snapshots": ("snapshot", "snapshot_text"),
    "perdure.testing.trace": ("Attempt",),
    "perdure.testing.tree": ("tree_of",),
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
