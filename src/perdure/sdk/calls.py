"""From a call on a context to its operation: check the arguments, take the place, hand the functions their contexts.

Both contexts, the blocking and the asynchronous one, make their operations here; they differ in how they run them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from perdure.config import (
    CallbackConfig,
    ChildConfig,
    DurationLike,
    InvokeConfig,
    StepConfig,
    WaitForCallbackConfig,
    to_duration,
)
from perdure.exceptions import ValidationError
from perdure.logger import Logger
from perdure.model.execution import EXECUTION_TIMEOUT_S_MAX
from perdure.model.operation import Callback as CallbackRecord
from perdure.sdk import misuse
from perdure.sdk.annotated import typed_serdes, typed_serdes_for
from perdure.sdk.arity import require_context
from perdure.sdk.journal import Begun
from perdure.sdk.markers import patched, version
from perdure.sdk.operations.callback import create_callback, wait_for_callback
from perdure.sdk.operations.child import ChildOptions, child, virtual_child
from perdure.sdk.operations.condition import wait_for_condition
from perdure.sdk.operations.invoke import invoke
from perdure.sdk.operations.step import DEFAULT_CONFIG, step
from perdure.sdk.operations.wait import wait
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session
from perdure.types import FunctionRef

if TYPE_CHECKING:
    from datetime import datetime
    from random import Random
    from uuid import UUID

    from perdure.batches import MapConfig, ParallelConfig
    from perdure.concurrency.models import BatchResult
    from perdure.serdes import SerDes
    from perdure.types import LoggerInterface
    from perdure.waits import WaitForConditionConfig

Operation = Begun[Any]

DEFAULT_CALLBACK: Final = CallbackConfig()
_WAIT_FOR_CALLBACK: Final = WaitForCallbackConfig()
_INVOKE: Final = InvokeConfig()
_CHILD: Final[ChildConfig[Any]] = ChildConfig()
RUN_IN_CHILD_CONTEXT: Final = "RunInChildContext"


class Calls:
    """What a context is, and the operations that its methods ask for."""

    def __init__(self, session: Session, scope: Scope) -> None:
        self._session = session
        self._scope = scope
        extra = {"parentId": scope.parent_id} if scope.outer is not None and scope.parent_id is not None else {}
        self._logger = session.logger.with_extra(extra, self.is_replaying)

    @property
    def lambda_context(self) -> Any:
        """The platform's context of this invocation; None where there is none."""
        return self._session.lambda_context

    @property
    def logger(self) -> Logger:
        """A logger that is silent while this context replays."""
        return self._logger

    def set_logger(self, new_logger: "LoggerInterface") -> None:
        """Send the records of this context, and of the contexts made from it from now on, to another logger."""
        self._session.logger = self._session.logger.with_logger(new_logger)
        self._logger = self._logger.with_logger(new_logger)

    def configure_serdes(self, default: "SerDes[Any] | None" = None, callback: "SerDes[Any] | None" = None) -> None:
        """Write and read with other serdes from here on, wherever a configuration names none: `default` for operations,
        `callback` for what callbacks are answered.
        """
        if default is not None:
            self._session.default_serdes = default
        if callback is not None:
            self._session.callback_serdes = callback

    @property
    def is_virtual(self) -> bool:
        return self._scope.is_virtual

    def is_replaying(self) -> bool:
        """Whether what runs now has run before."""
        return self._scope.is_replaying

    # --- what is the same in every replay ------------------------------------------------------------------------

    def now(self) -> "datetime":
        """The time, as far as this context knows it: the end of its latest operation, else the execution's start.

        The same in every replay, and free. For the clock itself, use a step.
        """
        from datetime import UTC, datetime

        last = self._session.journal.records.get(self._scope.last_id or "")
        known_ms = (last.end_ms or last.start_ms) if last is not None else self._session.start_ms
        return datetime.fromtimestamp(known_ms / 1000, UTC)

    def uuid4(self) -> "UUID":
        """A new UUID, the same in every replay."""
        from uuid import UUID

        return UUID(bytes=self._chance(16), version=4)

    def random(self) -> "Random":
        """A new generator of random numbers, seeded so that it gives the same in every replay."""
        from random import Random

        return Random(int.from_bytes(self._chance(32), "big"))

    def _chance(self, size: int) -> bytes:
        from hashlib import blake2b

        scope = self._scope
        scope.chances += 1
        seed = f"{self._session.execution_id}:{scope.prefix}:{scope.chances}"
        return blake2b(seed.encode(), digest_size=size).digest()

    def patched(self, name: str) -> bool:
        """Whether to run the new code of the change called `name`: not in executions that were past this point before.

        `if context.patched("2026-fix-tax"): … else: …`; once no old execution is left, `deprecate_patch(name)`.
        """
        self._check("patched", name)
        return patched(self._session, self._scope, name)

    def deprecate_patch(self, name: str) -> None:
        """The old code of a change is gone; what `patched` has recorded stays good."""
        self._check("deprecate_patch", name)

    def version(self, name: str, *, min: int = 1, max: int) -> int:  # noqa: A002 - the words that read best
        """Which version of the code called `name` to run: `max` in new executions, the recorded one in those that have
        been here, `min` in those that were past this point before it was asked.
        """
        self._check("version", name)
        return version(self._session, self._scope, name, min, max)

    def version_gate(self, id: str, *, min: int = 1, max: int) -> int:  # noqa: A002 - the words that read best
        """The same as `version`, under the name by which gates of deployments know it."""
        return self.version(id, min=min, max=max)

    # --- operations ----------------------------------------------------------------------------------------------

    def _step(self, func: Any, name: Any, config: StepConfig | None, key: str | None = None) -> Operation:
        func, name = func_and_name(func, name, "step")
        self._check("step", name)
        how: StepConfig = config or getattr(func, "_step_config", None) or DEFAULT_CONFIG
        if key is not None:
            self._take_key(key)
        return step(self._session, self._scope, func, name, how, key)

    def _take_key(self, key: str) -> None:
        if not isinstance(key, str) or not key:
            raise ValidationError(f"id must be a text of the author's choice, not {key!r}")
        scope = self._scope
        if scope.keys is None:
            scope.keys = set()
        if key in scope.keys:
            raise ValidationError(f"id {key!r} is taken by an earlier step of {scope}; each needs one of its own")
        scope.keys.add(key)

    @staticmethod
    def _seconds_of(duration: DurationLike | None, units: dict[str, float]) -> int:
        if (duration is None) == (not units):
            raise ValidationError("timeout needs a duration, or days, hours, minutes, seconds: timeout(hours=2)")
        return _waitable(to_duration(duration if duration is not None else units, "timeout").seconds)

    def _wait(self, duration: DurationLike, name: str | None) -> Operation:
        seconds = _waitable(to_duration(duration).seconds)
        self._check("wait", name)
        return wait(self._session, self._scope, seconds, name or None)

    def _create_callback(self, name: str | None, config: CallbackConfig | None) -> Begun[CallbackRecord]:
        self._check("create_callback", name)
        return create_callback(self._session, self._scope, name or None, config or DEFAULT_CALLBACK)

    def _wait_for_callback(
        self,
        submitter: Callable[..., Any],
        name: str | None,
        config: WaitForCallbackConfig | None,
        result_type: Any = None,
    ) -> Operation:
        func, name = func_and_name(submitter, name, "wait_for_callback")
        self._check("wait_for_callback", name)
        how = with_result_type(config or _WAIT_FOR_CALLBACK, "serdes", result_type)
        return wait_for_callback(self._session, self._scope, func, name, how)

    def _invoke(
        self, function: Any, payload: Any, name: str | None, config: InvokeConfig | None, result_type: Any = None
    ) -> Operation:
        function_name = getattr(function, "invoke_ref", function)
        if isinstance(function_name, FunctionRef):
            result_type = result_type or function_name.result_type
            function_name = function_name.name
        if not isinstance(function_name, str) or not function_name:
            raise ValidationError(f"function_name must be the name or ARN of a function, not {function_name!r}")
        self._check("invoke", name)
        how = with_result_type(config or _INVOKE, "serdes_result", result_type)
        return invoke(self._session, self._scope, function_name, payload, name or None, how)

    def _continue_as_new(self, payload: Any, name: str | None) -> Operation:
        function = self._session.arn.partition("/durable-execution/")[0]
        return self._invoke(function, payload, name, None)

    def _child(
        self,
        func: Callable[..., Any],
        name: str | None,
        config: ChildConfig[Any] | None,
    ) -> Operation:
        func, name = func_and_name(func, name, "run_in_child_context")
        require_context(func, "the function of run_in_child_context")
        how = config or _CHILD
        self._check("run_in_child_context", name)
        session, make = self._session, type(self)

        async def body(scope: Scope) -> Any:
            context = make(session, scope)
            return await session.driver.enter(lambda: func(context), func)

        serdes = how.serdes or typed_serdes(how.result_type) or session.default_serdes or typed_serdes_for(func)
        options = ChildOptions(how.sub_type or RUN_IN_CHILD_CONTEXT, serdes, how.summary_generator, how.error_mapper)
        return (virtual_child if how.is_virtual else child)(session, self._scope, body, name, options)

    def _wait_for_condition(
        self, check: Callable[..., Any], config: "WaitForConditionConfig[Any]", name: str | None
    ) -> Operation:
        if not callable(check):
            raise ValidationError(f"check must be a function of the state, not {check!r}")
        if config is None:
            raise ValidationError(
                "wait_for_condition needs a config: WaitForConditionConfig(wait_strategy, initial_state)"
            )
        func, name = func_and_name(check, name, "wait_for_condition")
        self._check("wait_for_condition", name)
        return wait_for_condition(self._session, self._scope, func, config, name)

    def _map(
        self, inputs: Iterable[Any], func: Callable[..., Any], name: str | None, config: "MapConfig | None"
    ) -> "Begun[BatchResult[Any]]":
        from perdure.sdk import batch_calls

        func, name = func_and_name(func, name, "map")
        work = batch_calls.map_work(inputs, func, config)
        self._check("map", name)
        return batch_calls.begin(self._session, self._scope, type(self), work, name)

    def _parallel(
        self, functions: Sequence[Callable[..., Any]], name: str | None, config: "ParallelConfig | None"
    ) -> "Begun[BatchResult[Any]]":
        from perdure.sdk import batch_calls

        work = batch_calls.parallel_work(functions, config)
        self._check("parallel", name)
        return batch_calls.begin(self._session, self._scope, type(self), work, name or None)

    def _check(self, call: str, name: str | None) -> None:
        """Refuse a call where the context must not be used, and go on suspending once it can't go on."""
        scope = self._scope
        if misuse.active.get() is not scope or scope.owner != self._session.driver.owner():
            misuse.check(scope, call, name, self._session)
        if scope.suspended is not None:
            raise scope.suspended


def with_result_type(config: Any, field: str, result_type: Any) -> Any:
    """The configuration with a serdes that reads plain JSON as this type, unless it has one of its own."""
    if result_type is None or getattr(config, field) is not None:
        return config
    from dataclasses import replace

    from perdure.sdk.plain import PlainJson

    return replace(config, **{field: PlainJson(result_type)})


def _waitable(seconds: int) -> int:
    if not 1 <= seconds <= EXECUTION_TIMEOUT_S_MAX:
        raise ValidationError(f"seconds must be from 1 to {EXECUTION_TIMEOUT_S_MAX}, not {seconds}")
    return seconds


def with_arguments(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[..., Any]:
    """A function of the context alone; it keeps the annotations of `func`, and no name."""

    def call(context: Any) -> Any:
        return func(context, *args, **kwargs)

    call._original_function = func  # type: ignore[attr-defined]
    return call


def func_and_name(func: Any, name: Any, call: str) -> tuple[Callable[..., Any], str | None]:
    """The function and its name, in either order; a function made by one of the decorators brings its name along."""
    if isinstance(func, str) and callable(name):
        func, name = name, func
    if not callable(func):
        raise ValidationError(f"{call} needs a function, not {type(func).__name__} {func!r}")
    return func, name or getattr(func, "_original_name", None) or None
