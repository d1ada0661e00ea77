"""From an invocation to its outcome: run the handler, whatever it does."""

import contextlib
import contextvars
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from perdure.engine import commands as cmd
from perdure.model.error import ErrorObject
from perdure.model.operation import OperationUpdate
from perdure.sdk.drivers.blocking import BlockingDriver
from perdure.sdk.drivers.linger import Linger
from perdure.sdk.errors import error_object
from perdure.sdk.invocation import (
    Definition,
    DriverOf,
    InvocationAnswer,
    InvocationInput,
    InvocationStatus,
    run_invocation,
    to_json,
)
from perdure.service.invocation import Call, Invocation
from perdure.worker.client import InvocationClient


class LocalContext:
    """What stands in for the platform's context of an invocation where there is no platform."""

    def __init__(self, invocation: Invocation) -> None:
        self.aws_request_id = invocation.request_id
        self.function_name = invocation.function
        self.function_version = invocation.version
        self.invoked_function_arn = invocation.arn.partition("/durable-execution/")[0]
        self.memory_limit_in_mb = "0"
        self.log_group_name = ""
        self.log_stream_name = ""
        self.tenant_id = invocation.tenant_id
        self._deadline = time.monotonic() + invocation.timeout_s

    def get_remaining_time_in_millis(self) -> int:
        """What is left of the function's time-out; of Lambda's fifteen minutes where nothing limits an invocation."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))


def run_and_end(
    invocation: Invocation,
    definition: Definition,
    client: InvocationClient,
    linger: Linger | None = None,
    driver_of: DriverOf = BlockingDriver,
) -> None:
    """Run the handler of an invocation and have its outcome recorded; raises only what that raises."""
    client.end(*_run(invocation, definition, client, linger, driver_of))


def _run(
    invocation: Invocation,
    definition: Definition,
    client: InvocationClient,
    linger: Linger | None,
    driver_of: DriverOf,
) -> tuple[cmd.Outcome, tuple[OperationUpdate, ...]]:
    given = given_of(invocation)
    run = partial(
        run_invocation,
        definition,
        given,
        client,
        linger=linger,
        lambda_context=LocalContext(invocation),
        driver_of=driver_of,
    )
    try:
        answer = contextvars.copy_context().run(run)
    except BaseException as error:  # noqa: BLE001 - an invocation that raises is one that failed
        return crashed(error), ()
    return outcome_of_answer(answer, client)


def given_of(invocation: Invocation) -> InvocationInput:
    return InvocationInput(
        invocation.arn,
        invocation.execution_id,
        invocation.name,
        invocation.input,
        invocation.operations,
        invocation.updated_ids,
        invocation.execution_start_ms,
    )


def crashed(error: BaseException) -> cmd.Outcome:
    if isinstance(error, SystemExit):
        return cmd.Crashed(ErrorObject(f"the handler left with exit code {error.code}", "Runtime.ExitError"))
    return cmd.Crashed(error_object(error))


def outcome_of_answer(
    answer: InvocationAnswer, client: InvocationClient
) -> tuple[cmd.Outcome, tuple[OperationUpdate, ...]]:
    if answer.is_interrupted and client.is_closing:
        return cmd.Released(), ()
    return _outcome_of(answer), tuple(answer.updates)


def _outcome_of(answer: InvocationAnswer) -> cmd.Outcome:
    match answer.status:
        case InvocationStatus.SUCCEEDED:
            return cmd.Succeeded(answer.result)
        case InvocationStatus.FAILED:
            return cmd.Failed(answer.error)
        case InvocationStatus.PENDING:
            return cmd.Pending()
        case InvocationStatus.RETRY:
            raise AssertionError("an invocation that is to be tried again has raised")


def answer_call(call: Call, function: Callable[[Any, Any], Any]) -> None:
    """Call a function that is not durable and give its result, or its error, to whoever invoked it."""
    result: str | None = None
    error: ErrorObject | None = None
    try:
        event = json.loads(call.input) if call.input else {}
        result = to_json(function(event, None))
    except BaseException as raised:  # noqa: BLE001 - whatever it raises is its answer
        error = error_object(raised)
    with contextlib.suppress(Exception):
        call.answer(result, error)
