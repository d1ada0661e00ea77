"""Handlers run to their end on the real service, in one thread, and looked at as the test kit does."""

from collections.abc import Callable, Mapping
from typing import Any

from perdure.model.event import InvocationCompleted
from perdure.model.ids import request_id
from perdure.testing.facts import Facts, InvocationRecord
from perdure.testing.result import Result
from support.local import Local, Outcome


def ran(handler: Callable[..., Any], event: Any = None, **options: Any) -> Result:
    """The result of a handler, after all its waits."""
    return Result(facts_of(Local(handler, **options).run(event)))


def facts_of(outcome: Outcome, values: Mapping[str, Any] | None = None) -> Facts:
    view = outcome.view
    ended = [shown.event for shown in outcome.history if isinstance(shown.event, InvocationCompleted)]
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
        operations=outcome.operations,
        events=outcome.history,
        invocations=[
            InvocationRecord(
                event.epoch,
                request_id(view.execution_id, event.epoch),
                event.start_ms,
                event.at_ms,
                "CRASHED" if event.error is not None else "PENDING",
                0,
                0,
                event.error,
            )
            for event in ended
        ],
        values=values or {},
    )
