"""Lambda handlers that are more than their durable function: what is around it runs in a test as it does on Lambda.

A decorator above `durable_execution`, or a function that calls the durable one, gets an event and answers for it. Here
the event brings the durable function into the invocation that is under way.
"""

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec

from perdure.exceptions import SuspendExecution, ValidationError
from perdure.execution import default_name, definition_of
from perdure.sdk.annotated import input_type_of
from perdure.sdk.errors import error_object
from perdure.sdk.invocation import Definition, to_json
from perdure.wire.forms import ANY
from perdure.wire.operations import ERROR

Handler = Callable[..., Any]

_PENDING: Final = {"Status": "PENDING"}


def as_entry(handler: Handler) -> Handler:
    """A durable function that does what this Lambda handler does; itself if nothing is around it."""
    definition = definition_of(handler)
    if definition is not None and definition_of(getattr(handler, "__wrapped__", None)) is None:
        return handler
    if definition is not None and definition.is_async:
        return handler  # what is around it is not async, and so can't be run on the loop
    return _Entry(handler, definition)


class _Entry:
    """A Lambda handler as a durable function."""

    def __init__(self, handler: Handler, inner: Definition | None) -> None:
        self._handler = handler
        self.__perdure__ = (
            Definition(self._run, default_name(handler))
            if inner is None
            else msgspec.structs.replace(inner, handler=self._run, input_serdes=None, output_serdes=None)
        )
        self._inner = inner

    def __call__(self, event: Any, lambda_context: Any = None) -> Any:
        return self._handler(event, lambda_context)

    def _run(self, value: Any, context: Any) -> Any:
        event = LambdaEvent(value, context)
        answer = self._handler(event, context.lambda_context)
        return event.outcome(answer, self._handler)


class LambdaEvent(dict[str, Any]):
    """The event of an invocation; the durable function that gets it runs in the invocation that is under way."""

    def __init__(self, value: Any, context: Any) -> None:
        arn = context.execution_context.durable_execution_arn
        details = {"InputPayload": json.dumps(value)}
        execution = {"Id": arn.rpartition("/")[2], "Type": "EXECUTION", "ExecutionDetails": details}
        super().__init__(
            DurableExecutionArn=arn,
            CheckpointToken="",
            InitialExecutionState={"Operations": [execution], "NextMarker": ""},
        )
        self._value = value
        self._context = context
        self._returned: Any = None
        self._raised: BaseException | None = None
        self._is_run = False

    def run_here(self, definition: Definition) -> dict[str, Any]:
        """Run the handler of a durable function, and answer as Lambda is answered."""
        if definition.is_async:
            raise ValidationError(
                f"{definition.name!r} is async: give the runner the function itself, with nothing around"
            )
        self._is_run = True
        wanted = input_type_of(definition.handler)
        value = self._value
        try:
            if wanted is not None:
                from perdure.sdk.plain import read_input_as

                value = read_input_as(wanted, value)
            self._returned = definition.handler(value, self._context)
            return {"Status": "SUCCEEDED", "Result": to_json(self._returned)}
        except SuspendExecution as suspended:
            self._raised = suspended
            return dict(_PENDING)
        except Exception as error:  # noqa: BLE001 - whatever it raises is its failure
            self._raised = error
            return {"Status": "FAILED", "Error": ERROR.write(error_object(error), ANY)}

    def outcome(self, answer: Any, handler: Handler) -> Any:
        """What the durable function returned or raised; ValidationError if none was run."""
        if not self._is_run:
            raise ValidationError(
                f"{getattr(handler, '__name__', handler)!r} is no durable function, ran none, and returned "
                f"{answer!r:.80}; decorate it with @durable_execution, or give it to LocalRunner as it is"
            )
        if self._raised is not None:
            raise self._raised
        return self._returned
