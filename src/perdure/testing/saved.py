"""Executions as JSON documents: `Execution` is an answer to GetDurableExecution, `Events` those of its history.

That is what the replayer and AWS's tools read. `Operations` and `Invocations`, which they do not know, hold what the
events alone do not say.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from perdure.model.error import ErrorObject, InvalidParameterValue
from perdure.model.event import ExecutionStarted
from perdure.model.execution import DurableConfig
from perdure.model.ids import ExecutionArn, Home
from perdure.model.view import ExecutionView
from perdure.testing.exceptions import DurableFunctionsTestError
from perdure.testing.facts import Facts, InvocationRecord
from perdure.testing.metering import metered_execution
from perdure.testing.model import about_of, shown
from perdure.testing.trace import Trace
from perdure.wire.events import About, read_event, write_event
from perdure.wire.executions import read_execution, write_execution
from perdure.wire.forms import ANY, PEOPLE
from perdure.wire.operations import ERROR, SHOWN, read_operation, write_operation

_FORM: Final = PEOPLE


def write(facts: Facts) -> str:
    """The document of an execution."""
    about = about_of(facts)
    document = {
        "Execution": write_execution(_view(facts), _FORM),
        "Events": [write_event(event, about, _FORM) for event in shown(facts.events)],
        "Operations": [write_operation(operation, _FORM, SHOWN) for operation in facts.operations],
        "Invocations": [_write_invocation(record) for record in facts.invocations],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _view(facts: Facts) -> ExecutionView:
    arn = ExecutionArn.parse(facts.arn)
    started = [shown.event for shown in facts.events if isinstance(shown.event, ExecutionStarted)]
    config = DurableConfig(started[0].execution_timeout_s) if started else DurableConfig()
    return ExecutionView(
        execution_id=arn.execution_id,
        arn=facts.arn,
        name=facts.name,
        function=facts.function,
        version=facts.version,
        status=facts.status,
        start_ms=facts.start_ms,
        end_ms=facts.end_ms,
        input=facts.input,
        result=facts.result,
        error=facts.error,
        config=config,
        deadline_ms=None,
        pause=None,
        parent=None,
        operations=len(facts.operations),
        written_bytes=metered_execution(Trace(facts)).written_bytes,
        invocations=len(facts.invocations),
        is_running=False,
        waiting_on=(),
        failures=0,
        last_failure=None,
        tenant_id=None,
        trace_header=None,
    )


def _write_invocation(record: InvocationRecord) -> dict[str, Any]:
    written = {
        "Number": record.number,
        "RequestId": record.request_id,
        "StartTimestamp": _FORM.times.write(record.start_ms),
        "EndTimestamp": None if record.end_ms is None else _FORM.times.write(record.end_ms),
        "Status": record.status,
        "ReplayedOperations": record.replayed_operations,
        "NewOperations": record.new_operations,
        "Error": None if record.error is None else ERROR.write(record.error, _FORM),
    }
    return {name: value for name, value in written.items() if value is not None}


def read(document: str | bytes | Mapping[str, Any]) -> Facts:
    """The facts of a document; DurableFunctionsTestError says what is missing or can't be."""
    try:
        given = document if isinstance(document, Mapping) else json.loads(document)
        return _read(given)
    except (ValueError, InvalidParameterValue, KeyError, TypeError) as error:
        raise DurableFunctionsTestError(
            f"this is no saved execution: {type(error).__name__}: {error}; it is a JSON object with Execution, the "
            "answer to GetDurableExecution, and Events, those of GetDurableExecutionHistory with execution data"
        ) from error


def _read(given: Mapping[str, Any]) -> Facts:
    view = read_execution(given["Execution"], ANY)
    arn = ExecutionArn.parse(view.arn)
    about = About(view.execution_id, view.name, Home(arn.partition, arn.region, arn.account))
    return Facts(
        arn=view.arn,
        name=view.name,
        function=view.function,
        version=view.version,
        status=view.status,
        input=view.input,
        result=view.result,
        error=view.error,
        start_ms=view.start_ms,
        end_ms=view.end_ms,
        operations=[
            read_operation(each, ANY, number, f"Operations[{number - 1}]", shapes=SHOWN)
            for number, each in enumerate(given["Operations"], 1)
        ],
        events=[read_event(each, about, ANY) for each in given["Events"]],
        invocations=[_read_invocation(each) for each in given.get("Invocations", ())],
    )


def _read_invocation(given: Mapping[str, Any]) -> InvocationRecord:
    end, error = given.get("EndTimestamp"), given.get("Error")
    return InvocationRecord(
        number=given["Number"],
        request_id=given["RequestId"],
        start_ms=ANY.times.read(given["StartTimestamp"], "StartTimestamp"),
        end_ms=None if end is None else ANY.times.read(end, "EndTimestamp"),
        status=given["Status"],
        replayed_operations=given["ReplayedOperations"],
        new_operations=given["NewOperations"],
        error=None if error is None else _read_error(error),
    )


def _read_error(given: Mapping[str, Any]) -> ErrorObject:
    return msgspec.convert(ERROR.read(dict(given), ANY, "Error"), ErrorObject)
