"""Executions and callbacks on the wire, as they are listed and looked at.

What AWS's shapes do not have is under one more member, `Perdure`, which other clients ignore.

Source: Lambda API 2025-12-01, shapes Execution and GetDurableExecutionResponse.
"""

from typing import Any, Final

from msgspec.structs import replace

from perdure.model.execution import DurableConfig, ExecutionRow, ExecutionStatus, ParentLink, WaitingOn
from perdure.model.ids import ExecutionArn, Home
from perdure.model.view import ExecutionView, OpenCallback, PauseView
from perdure.wire.forms import Form
from perdure.wire.operations import ERROR
from perdure.wire.table import (
    FLAG,
    TIME,
    WHOLE,
    Derived,
    Group,
    Json,
    ListOf,
    Member,
    OneOf,
    Shape,
    expect_object,
    write_all,
)

_CONFIG: Final = Shape(
    DurableConfig,
    Member("RetentionPeriodInDays", "retention_days", WHOLE),
    Member("ExecutionTimeout", "execution_timeout_s", WHOLE),
)
_PAUSE: Final = Shape(
    PauseView,
    Member("PauseRequestTimestamp", "requested_ms", TIME),
    Member("Reason", "reason"),
    Member("ExecutionTimeoutPaused", "is_timeout_paused", FLAG),
    assumed={"reason": None, "is_quarantine": False},
)
_PARENT: Final = Shape(ParentLink, Member("ExecutionId", "execution_id"), Member("OperationId", "operation_id"))
_WAITING_ON: Final = Member("WaitingOn", "waiting_on", ListOf(OneOf(WaitingOn)))

_VIEW: Final = (
    Member("DurableExecutionArn", "arn"),
    Member("DurableExecutionName", "name"),
    Derived("FunctionArn", lambda view: function_arn(view.arn)),
    Member("InputPayload", "input", is_data=True),
    Member("Result", "result", is_data=True),
    Member("Error", "error", ERROR, is_data=True),
    Member("StartTimestamp", "start_ms", TIME),
    Member("Status", "status", OneOf(ExecutionStatus)),
    Member("EndTimestamp", "end_ms", TIME),
    Member("Version", "version"),
    Group("TraceHeader", (Member("XAmznTraceId", "trace_header"),)),
    Member("DurableConfig", "config", _CONFIG),
    Member("PauseDetails", "pause", _PAUSE),
    Member("ExpectedExecutionTimeoutTimestamp", "deadline_ms", TIME),
    Group(
        "Perdure",
        (
            Member("ExecutionId", "execution_id"),
            Member("FunctionName", "function"),
            Member("Operations", "operations", WHOLE),
            Member("WrittenBytes", "written_bytes", WHOLE),
            Member("Invocations", "invocations", WHOLE),
            Member("Running", "is_running", FLAG),
            _WAITING_ON,
            Member("WaitingReason", "waiting_reason"),
            Member("FailedInvocations", "failures", WHOLE, is_zero_absent=True),
            Member("LastFailure", "last_failure", ERROR, is_data=True),
            Derived("Quarantined", lambda view: view.pause.is_quarantine if view.pause is not None else None, FLAG),
            Member("Parent", "parent", _PARENT),
            Member("TenantId", "tenant_id"),
        ),
    ),
)

_ROW: Final = (
    Member("Status", "status", OneOf(ExecutionStatus)),
    Member("StartTimestamp", "start_ms", TIME),
    Member("EndTimestamp", "end_ms", TIME),
    Group(
        "Perdure",
        (
            Member("ExecutionId", "execution_id"),
            Member("FunctionName", "function"),
            Member("Version", "version"),
            Member("Operations", "operations", WHOLE),
            Member("Invocations", "invocations", WHOLE),
            _WAITING_ON,
            Member("ErrorType", "error_type"),
            Member("Parent", "parent", _PARENT),
        ),
    ),
)

_OPEN_CALLBACK: Final = (
    Member("CallbackId", "callback_id"),
    Member("Name", "name"),
    Member("OperationId", "operation_id"),
    Member("ExecutionId", "execution_id"),
    Member("DurableExecutionName", "execution_name"),
    Member("FunctionName", "function"),
    Member("StartTimestamp", "start_ms", TIME),
    Member("TimeoutTimestamp", "timeout_ms", TIME),
    Member("HeartbeatTimeoutTimestamp", "heartbeat_ms", TIME),
)


_EXECUTION: Final = Shape(
    ExecutionView,
    *_VIEW,
    assumed={
        **dict.fromkeys(("end_ms", "input", "result", "error", "deadline_ms", "pause", "parent", "last_failure")),
        **dict.fromkeys(("tenant_id", "trace_header")),
        **dict.fromkeys(("operations", "written_bytes", "invocations", "failures"), 0),
        "config": DurableConfig(),
        "is_running": False,
        "waiting_on": (),
    },
)
_SUMMARY: Final = Shape(ExecutionRow, *_ROW)
_CALLBACK: Final = Shape(OpenCallback, *_OPEN_CALLBACK, assumed=dict.fromkeys(("name", "timeout_ms", "heartbeat_ms")))


def function_arn(execution_arn: str) -> str:
    """The function's ARN, with its version, that the ARN of an execution begins with."""
    return execution_arn.partition("/durable-execution/")[0]


def write_execution(view: ExecutionView, form: Form) -> Json:
    """What GetDurableExecution says of an execution."""
    return {**write_all(_VIEW, view, form), "ExecutionDataIncluded": form.is_data_shown}


def write_summary(row: ExecutionRow, home: Home, form: Form) -> Json:
    """What a list says of an execution."""
    arn = home.execution_arn(row.function, row.version, row.shown_name, row.execution_id)
    named: dict[str, Any] = {
        "DurableExecutionArn": arn,
        "DurableExecutionName": row.shown_name,
        "FunctionArn": function_arn(arn),
    }
    return {**named, **write_all(_ROW, row, form)}


def write_open_callback(callback: OpenCallback, form: Form) -> Json:
    """A callback that waits to be completed; AWS has no shape for it."""
    return write_all(_OPEN_CALLBACK, callback, form)


# --- reading, for clients ----------------------------------------------------------------------------------------


def read_execution(value: Any, form: Form) -> ExecutionView:
    """What an answer of GetDurableExecution says. What AWS's own answers do not have is 0, or not there."""
    given = expect_object(value, "the execution")
    arn = ExecutionArn.parse(str(given.get("DurableExecutionArn")))
    ids = {"execution_id": arn.execution_id, "function": arn.function, "version": arn.version}
    view = _EXECUTION.read(given, form, "", **ids)
    if view.pause is not None and (given.get("Perdure") or {}).get("Quarantined"):
        view = replace(view, pause=replace(view.pause, is_quarantine=True))
    return view


def read_summary(value: Any, form: Form) -> ExecutionRow:
    """What a list says of an execution."""
    given = expect_object(value, "the execution")
    arn = ExecutionArn.parse(str(given.get("DurableExecutionArn")))
    ids = {"execution_id": arn.execution_id, "function": arn.function, "version": arn.version}
    return _SUMMARY.read(given, form, "", **ids, name=arn.name if arn.name != arn.execution_id else None)


def read_open_callback(value: Any, form: Form) -> OpenCallback:
    return _CALLBACK.read(value, form, "the callback")
