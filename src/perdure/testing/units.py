"""Runs one piece of a durable function: a child context's function, or a step's."""

import inspect
import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec

from perdure.context import StepContext
from perdure.execution import durable_execution
from perdure.logger import Logger
from perdure.sdk.arity import is_async, takes_context
from perdure.sdk.misuse import Body, active
from perdure.serdes import SerDes, deserialize, serialize
from perdure.testing.local_runner import LocalRunner
from perdure.testing.logs import Capturing, Logs

OPERATION_ID: Final = "step-under-test"


class ChildContextRunner(LocalRunner):
    """Runs a function of a child context alone, in a handler of its own: `fn(context, *args, **kwargs)`.

    `runner_options` are those of `LocalRunner`.
    """

    def __init__(
        self, fn: Callable[..., Any], *args: Any, runner_options: "dict[str, Any] | None" = None, **kwargs: Any
    ) -> None:
        super().__init__(handler_around(fn, args, kwargs), **(runner_options or {}))


def handler_around(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[..., Any]:
    """A durable function that runs `fn(context, …)` in its context; one that `durable_with_child_context` has made is
    given its arguments first.
    """
    name = getattr(fn, "__name__", "child")
    is_maker = _is_maker(fn)

    def call(context: Any) -> Any:
        return fn(*args, **kwargs)(context) if is_maker else fn(context, *args, **kwargs)

    if is_async(inspect.unwrap(fn)):

        async def on_loop(_event: Any, context: Any) -> Any:
            return await call(context)

        return durable_execution(name=_function_name(name))(on_loop)

    def blocking(_event: Any, context: Any) -> Any:
        return call(context)

    return durable_execution(name=_function_name(name))(blocking)


def _is_maker(fn: Callable[..., Any]) -> bool:
    """Whether calling the function gives the one that takes the context, as the SDK's decorators make them."""
    return bool(getattr(fn, "_is_maker", False))


def _function_name(name: str) -> str:
    return (
        "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in name)[:64].strip("-") or "child"
    )


class StepResult(msgspec.Struct, frozen=True):
    """What one run of a step's body came to: its value, as a replay would read it, or what it raised; and its logs."""

    value: Any = None
    error: Exception | None = None
    logs: list[logging.LogRecord] = []
    payload: str | None = None


class StepRunner:
    """Runs the body of a step alone, without an execution: with a context that says what the test says."""

    def __init__(
        self, step_fn: Callable[..., Any], *args: Any, serdes: SerDes[Any] | None = None, **kwargs: Any
    ) -> None:
        """`step_fn` is `f(step_context, …)`, or takes nothing; `args` and `kwargs` come after the context."""
        self._body = step_fn
        self._args = args
        self._kwargs = kwargs
        self._serdes = serdes

    def run(
        self,
        *args: Any,
        attempt: int = 1,
        operation_id: str = OPERATION_ID,
        execution_id: str = "execution-under-test",
        name: str | None = None,
        raises: bool = True,
        **kwargs: Any,
    ) -> StepResult:
        """Run the body once, as that `attempt`. What it raises is raised, unless `raises` is False.

        Its value goes through its serdes, as in an execution: SerDesError if it can't be recorded.
        """
        logs = Logs(list)
        logger = Logger(Capturing(None, logs), {"operationId": operation_id, "operationName": name, "attempt": attempt})
        context = StepContext(logger, attempt, operation_id, execution_id)
        token = active.set(Body("step", name, operation_id, attempt))
        try:
            returned = self._call(context, (*self._args, *args), {**self._kwargs, **kwargs})
            payload = serialize(self._serdes, returned, operation_id, "")
            value = deserialize(self._serdes, payload, operation_id, "")
        except Exception as error:
            if raises:
                raise
            return StepResult(error=error, logs=logs[""])
        finally:
            active.reset(token)
        return StepResult(value, logs=logs[""], payload=payload)

    def _call(self, context: StepContext, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        body = self._body
        if _is_maker(body):
            returned = body(*args, **kwargs)(context)
        elif args or kwargs:
            returned = body(context, *args, **kwargs)
        else:
            returned = body(context) if takes_context(body) else body()
        if inspect.iscoroutine(returned):
            import asyncio

            return asyncio.run(returned)
        return returned
