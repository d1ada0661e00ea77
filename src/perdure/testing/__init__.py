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
    from perdure.sdk.strictness import strict as strict
    from perdure.testing.asynchronous import AsyncLocalRunner as AsyncLocalRunner
    from perdure.testing.backend import Backend as Backend, WallTimeout as WallTimeout
    from perdure.testing.clock import VirtualClock as VirtualClock
    from perdure.testing.crashing.check import check_crashes as check_crashes
    from perdure.testing.crashing.effects import Effects as Effects
    from perdure.testing.crashing.report import CrashCheckFailed as CrashCheckFailed, CrashReport as CrashReport
    from perdure.testing.determinism import (
        NotDeterministic as NotDeterministic,
        assert_deterministic as assert_deterministic,
    )
    from perdure.testing.driving import ProcessDied as ProcessDied
    from perdure.testing.environment import UnknownVariableWarning as UnknownVariableWarning
    from perdure.testing.exceptions import (
        AmbiguousOperation as AmbiguousOperation,
        DurableFunctionsLocalRunnerError as DurableFunctionsLocalRunnerError,
        DurableFunctionsTestError as DurableFunctionsTestError,
        OperationNotFound as OperationNotFound,
        RecordedError as RecordedError,
        UnknownValue as UnknownValue,
        WrongOperationType as WrongOperationType,
    )
    from perdure.testing.facts import Facts as Facts, InvocationRecord as InvocationRecord
    from perdure.testing.faults import Fault as Fault
    from perdure.testing.fuzzing import ScheduleDependent as ScheduleDependent, fuzz_schedules as fuzz_schedules
    from perdure.testing.handles import CallbackHandle as CallbackHandle, Execution as Execution
    from perdure.testing.histories import History as History, load_history as load_history
    from perdure.testing.local_runner import Invoked as Invoked, LocalRunner as LocalRunner
    from perdure.testing.metering import Metering as Metering, Prices as Prices
    from perdure.testing.mocks import Mock as Mock
    from perdure.testing.official import (
        DurableChildContextTestRunner as DurableChildContextTestRunner,
        DurableFunctionTestRunner as DurableFunctionTestRunner,
    )
    from perdure.testing.operations import (
        CallbackOperation as CallbackOperation,
        ContextOperation as ContextOperation,
        ExecutionOperation as ExecutionOperation,
        InvokeOperation as InvokeOperation,
        Operation as Operation,
        StepOperation as StepOperation,
        WaitOperation as WaitOperation,
    )
    from perdure.testing.recorded import recorded_error as recorded_error, recorded_value as recorded_value
    from perdure.testing.remote import (
        DurableFunctionCloudTestRunner as DurableFunctionCloudTestRunner,
        RemoteRunner as RemoteRunner,
    )
    from perdure.testing.replaying.judging import Divergence as Divergence, Verdict as Verdict
    from perdure.testing.replaying.replayer import (
        IncompatibleError as IncompatibleError,
        Replayer as Replayer,
        ReplayResult as ReplayResult,
        ReplaySummary as ReplaySummary,
    )
    from perdure.testing.result import (
        DurableFunctionTestResult as DurableFunctionTestResult,
        Invocation as Invocation,
        Result as Result,
    )
    from perdure.testing.runner import Runner as Runner
    from perdure.testing.server import ServerRunner as ServerRunner
    from perdure.testing.snapshots import snapshot as snapshot, snapshot_text as snapshot_text
    from perdure.testing.trace import Attempt as Attempt
    from perdure.testing.tree import tree_of as tree_of
    from perdure.testing.units import (
        ChildContextRunner as ChildContextRunner,
        StepResult as StepResult,
        StepRunner as StepRunner,
    )
    from perdure.testing.unittest import DurableTestCase as DurableTestCase
    from perdure.testing.web import (
        FunctionConfig as FunctionConfig,
        FunctionConfigs as FunctionConfigs,
        StoreType as StoreType,
        WebRunner as WebRunner,
        WebRunnerConfig as WebRunnerConfig,
        WebServiceConfig as WebServiceConfig,
    )

_HOMES: Final = {
    "perdure.sdk.strictness": ("strict",),
    "perdure.testing.backend": ("Backend", "WallTimeout"),
    "perdure.testing.clock": ("VirtualClock",),
    "perdure.testing.environment": ("UnknownVariableWarning",),
    "perdure.testing.crashing.check": ("check_crashes",),
    "perdure.testing.crashing.effects": ("Effects",),
    "perdure.testing.crashing.report": ("CrashCheckFailed", "CrashReport"),
    "perdure.testing.exceptions": (
        "AmbiguousOperation",
        "DurableFunctionsLocalRunnerError",
        "DurableFunctionsTestError",
        "OperationNotFound",
        "RecordedError",
        "UnknownValue",
        "WrongOperationType",
    ),
    "perdure.testing.facts": ("Facts", "InvocationRecord"),
    "perdure.testing.handles": ("CallbackHandle", "Execution"),
    "perdure.testing.histories": ("History", "load_history"),
    "perdure.testing.recorded": ("recorded_error", "recorded_value"),
    "perdure.testing.replaying.judging": ("Divergence", "Verdict"),
    "perdure.testing.replaying.replayer": ("IncompatibleError", "ReplayResult", "ReplaySummary", "Replayer"),
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
    "perdure.testing.remote": ("DurableFunctionCloudTestRunner", "RemoteRunner"),
    "perdure.testing.result": ("DurableFunctionTestResult", "Invocation", "Result"),
    "perdure.testing.server": ("ServerRunner",),
    "perdure.testing.asynchronous": ("AsyncLocalRunner",),
    "perdure.testing.determinism": ("NotDeterministic", "assert_deterministic"),
    "perdure.testing.driving": ("ProcessDied",),
    "perdure.testing.fuzzing": ("ScheduleDependent", "fuzz_schedules"),
    "perdure.testing.faults": ("Fault",),
    "perdure.testing.local_runner": ("Invoked", "LocalRunner"),
    "perdure.testing.mocks": ("Mock",),
    "perdure.testing.official": ("DurableChildContextTestRunner", "DurableFunctionTestRunner"),
    "perdure.testing.runner": ("Runner",),
    "perdure.testing.units": ("ChildContextRunner", "StepResult", "StepRunner"),
    "perdure.testing.snapshots": ("snapshot", "snapshot_text"),
    "perdure.testing.trace": ("Attempt",),
    "perdure.testing.tree": ("tree_of",),
    "perdure.testing.unittest": ("DurableTestCase",),
    "perdure.testing.web": (
        "FunctionConfig",
        "FunctionConfigs",
        "StoreType",
        "WebRunner",
        "WebRunnerConfig",
        "WebServiceConfig",
    ),
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
