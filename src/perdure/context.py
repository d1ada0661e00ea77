"""What a handler gets: the context with its durable operations, and the decorators for the functions it hands over."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, TypeVar, overload

from perdure.config import (
    CallbackConfig,
    ChildConfig,
    DurationLike,
    InvokeConfig,
    StepConfig,
    WaitForCallbackConfig,
    to_duration,
)
from perdure.exceptions import SuspendExecution, ValidationError
from perdure.logger import Logger
from perdure.model.execution import EXECUTION_TIMEOUT_S_MAX
from perdure.sdk import misuse
from perdure.sdk.arity import require_context
from perdure.sdk.drivers.blocking import run_blocking
from perdure.sdk.operations.callback import callback_result, create_callback, wait_for_callback
from perdure.sdk.operations.child import ChildOptions, child, virtual_child
from perdure.sdk.operations.condition import wait_for_condition
from perdure.sdk.operations.invoke import invoke
from perdure.sdk.operations.step import DEFAULT_CONFIG, step
from perdure.sdk.operations.wait import wait
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session
from perdure.types import StepContext, WaitForCallbackContext

if TYPE_CHECKING:
    from perdure.serdes import SerDes
    from perdure.types import LoggerInterface
    from perdure.waits import WaitForConditionConfig

__all__ = [
    "Callback",
    "DurableContext",
    "ExecutionContext",
    "StepContext",
    "durable_step",
    "durable_wait_for_callback",
    "durable_with_child_context",
]

T = TypeVar("T")
P = ParamSpec("P")

_CALLBACK: Final = CallbackConfig()
_WAIT_FOR_CALLBACK: Final = WaitForCallbackConfig()
_INVOKE: Final = InvokeConfig()
_CHILD: Final[ChildConfig[Any]] = ChildConfig()
RUN_IN_CHILD_CONTEXT: Final = "RunInChildContext"


@dataclass(frozen=True)
class ExecutionContext:
    """Which execution this is."""

    durable_execution_arn: str


class Callback(Generic[T]):
    """An id that somebody outside completes, and the place where the answer arrives.

    Unpacks as `future, callback_id`, as the JavaScript SDK returns it.
    """

    def __init__(self, callback_id: str, operation_id: str, state: "DurableContext", serdes: "SerDes[T] | None" = None):
        self.callback_id = callback_id
        self.operation_id = operation_id
        self.serdes = serdes
        self._context = state

    def result(self) -> T:
        """The answer: a text unless the callback has a serdes, None if it was empty. Suspends until it is there.

        Raises CallbackExternalError if a failure was reported, CallbackTimeoutError if nobody answered in time.
        """
        result: T = self._context._callback_result(self)
        return result

    def __iter__(self) -> "Iterator[Callback[T] | str]":
        return iter((self, self.callback_id))

    def __repr__(self) -> str:
        return f"Callback({self.callback_id!r})"


class DurableContext:
    """The durable operations of one handler or child context.

    Everything outside of them runs again at every replay: what is not deterministic, and what has effects, belongs into
    a `step`. A context is for the function that received it: within a child context, its own is used.
    """

    def __init__(self, session: Session, scope: Scope) -> None:
        self._session = session
        self._scope = scope
        extra = {"parentId": scope.parent_id} if scope.outer is not None and scope.parent_id is not None else {}
        self._logger = session.logger.with_extra(extra, self.is_replaying)

    # --- what the context is -------------------------------------------------------------------------------------

    @property
    def execution_context(self) -> ExecutionContext:
        return ExecutionContext(self._session.arn)

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

    @property
    def is_virtual(self) -> bool:
        return self._scope.is_virtual

    def is_replaying(self) -> bool:
        """Whether what runs now has run before."""
        return self._scope.is_replaying

    # --- operations ----------------------------------------------------------------------------------------------

    @overload
    def step(
        self, func: "Callable[[StepContext], T]", name: str | None = None, config: StepConfig | None = None
    ) -> T: ...

    @overload
    def step(self, func: "Callable[[], T]", name: str | None = None, config: StepConfig | None = None) -> T: ...

    def step(self, func: Callable[..., Any], name: Any = None, config: StepConfig | None = None) -> Any:
        """Run `func` once, record what it returns, and return that at every replay.

        The result is a text, a number, a list, a dictionary, or what else the serdes can write. A failure is tried
        again as the configuration says: without one up to 6 attempts, with growing waits of at most a minute. Raises
        StepError once it has failed for good, SerDesError if the result can't be recorded.
        """
        func, name = _func_and_name(func, name, "step")
        self._check("step", name)
        try:
            return run_blocking(step(self._session, self._scope, func, name, config or DEFAULT_CONFIG))
        except SuspendExecution as suspended:
            self._scope.suspended = suspended
            raise

    def wait(self, duration: DurationLike, name: str | None = None) -> None:
        """Go on after `duration`: from 1 second to 366 days, without running meanwhile."""
        seconds = to_duration(duration).seconds
        if not 1 <= seconds <= EXECUTION_TIMEOUT_S_MAX:
            raise ValidationError(f"seconds must be from 1 to {EXECUTION_TIMEOUT_S_MAX}, not {seconds}")
        self._check("wait", name)
        try:
            run_blocking(wait(self._session, self._scope, seconds, name or None))
        except SuspendExecution as suspended:
            self._scope.suspended = suspended
            raise

    def create_callback(self, name: str | None = None, config: CallbackConfig | None = None) -> Callback[Any]:
        """Make an id that somebody outside can complete; `result()` of what is returned waits for the answer."""
        how = config or _CALLBACK
        self._check("create_callback", name)
        try:
            record = run_blocking(create_callback(self._session, self._scope, name or None, how))
        except SuspendExecution as suspended:
            self._scope.suspended = suspended
            raise
        return Callback(record.callback_id, record.id, self, how.serdes)

    def _callback_result(self, callback: Callback[Any]) -> Any:
        self._check("create_callback(…).result", None)
        try:
            return run_blocking(callback_result(self._session, callback.operation_id, callback.serdes))
        except SuspendExecution as suspended:
            self._scope.suspended = suspended
            raise

    def wait_for_callback(
        self,
        submitter: Callable[..., Any],
        name: str | None = None,
        config: WaitForCallbackConfig | None = None,
    ) -> Any:
        """Make a callback, hand its id to `submitter(callback_id)` or `submitter(callback_id, context)` in a step, and
        wait for the answer: a text unless the configuration has a serdes.

        Raises CallbackExternalError, CallbackTimeoutError, or CallbackSubmitterError if the submitter failed.
        """
        func, name = _func_and_name(submitter, name, "wait_for_callback")
        self._check("wait_for_callback", name)
        operation = wait_for_callback(self._session, self._scope, func, name, config or _WAIT_FOR_CALLBACK)
        try:
            return run_blocking(operation)
        except SuspendExecution as suspended:
            self._scope.suspended = suspended
            raise

    def invoke(
        self, function_name: str, payload: Any = None, name: str | None = None, config: InvokeConfig | None = None
    ) -> Any:
        """Invoke another function and wait for its result. Raises InvokeError if it fails or can't be found."""
        if not isinstance(function_name, str) or not function_name:
            raise ValidationError(f"function_name must be the name or ARN of a function, not {function_name!r}")
        self._check("invoke", name)
        operation = invoke(self._session, self._scope, function_name, payload, name or None, config or _INVOKE)
        try:
            return run_blocking(operation)
        except SuspendExecution as suspended:
            self._scope.suspended = suspended
            raise

    def run_in_child_context(
        self, func: "Callable[[DurableContext], T]", name: str | None = None, config: ChildConfig[T] | None = None
    ) -> T:
        """Run `func(context)` with a context of its own and record its result as one operation.

        Raises ChildContextError if it fails, SerDesError if its result can't be recorded.
        """
        func, name = _func_and_name(func, name, "run_in_child_context")
        require_context(func, "the function of run_in_child_context")
        how = config or _CHILD
        self._check("run_in_child_context", name)
        session = self._session

        async def body(scope: Scope) -> T:
            context = DurableContext(session, scope)
            return await session.driver.call(lambda: func(context))

        if how.is_virtual:
            operation = virtual_child(session, self._scope, body, name)
        else:
            options = ChildOptions(
                how.sub_type or RUN_IN_CHILD_CONTEXT, how.serdes, how.summary_generator, how.error_mapper
            )
            operation = child(session, self._scope, body, name, options)
        try:
            return run_blocking(operation)
        except SuspendExecution as suspended:
            self._scope.suspended = suspended
            raise

    def wait_for_condition(
        self,
        check: Callable[..., T],
        config: "WaitForConditionConfig[T]",
        name: str | None = None,
    ) -> T:
        """Call `check(state)` or `check(state, context)` again and again, without running in between, until the
        configuration's strategy says that its result is good; return that.

        Raises WaitForConditionError if the check raises, or the polls are exhausted.
        """
        if not callable(check):
            raise ValidationError(f"check must be a function of the state, not {check!r}")
        if config is None:
            raise ValidationError(
                "wait_for_condition needs a config: WaitForConditionConfig(wait_strategy, initial_state)"
            )
        func, name = _func_and_name(check, name, "wait_for_condition")
        self._check("wait_for_condition", name)
        try:
            return run_blocking(wait_for_condition(self._session, self._scope, func, config, name))
        except SuspendExecution as suspended:
            self._scope.suspended = suspended
            raise

    def _check(self, call: str, name: str | None) -> None:
        """Refuse a call where the context must not be used, and go on suspending once it can't go on."""
        scope = self._scope
        if misuse.active.get() is not scope:
            misuse.check(scope, call, name, self._session.guard)
        if scope.suspended is not None:
            raise scope.suspended


def _func_and_name(func: Any, name: Any, call: str) -> tuple[Callable[..., Any], str | None]:
    """The function and its name, in either order; a function made by one of the decorators brings its name along."""
    if isinstance(func, str) and callable(name):
        func, name = name, func
    if not callable(func):
        raise ValidationError(f"{call} needs a function, not {type(func).__name__} {func!r}")
    return func, name or getattr(func, "_original_name", None) or None


# --- decorators --------------------------------------------------------------------------------------------------


def _bound(func: Callable[..., T], call: Callable[..., T]) -> Callable[..., T]:
    """Give `call` the name under which the operation is recorded."""
    call._original_name = func.__name__  # type: ignore[attr-defined]
    return call


def durable_step(func: Callable[Concatenate[StepContext, P], T]) -> Callable[P, Callable[[StepContext], T]]:
    """Make a function of a step: called with its other arguments, it gives what `context.step` takes.

    The step is named after the function. The arguments are captured, not recorded.
    """

    @wraps(func)
    def bind(*args: P.args, **kwargs: P.kwargs) -> Callable[[StepContext], T]:
        return _bound(func, lambda context: func(context, *args, **kwargs))

    return bind


def durable_with_child_context(
    func: Callable[Concatenate[DurableContext, P], T],
) -> Callable[P, Callable[[DurableContext], T]]:
    """The same for `context.run_in_child_context`."""

    @wraps(func)
    def bind(*args: P.args, **kwargs: P.kwargs) -> Callable[[DurableContext], T]:
        return _bound(func, lambda context: func(context, *args, **kwargs))

    return bind


def durable_wait_for_callback(
    func: Callable[Concatenate[str, WaitForCallbackContext, P], T],
) -> Callable[P, Callable[[str, WaitForCallbackContext], T]]:
    """The same for `context.wait_for_callback`."""

    @wraps(func)
    def bind(*args: P.args, **kwargs: P.kwargs) -> Callable[[str, WaitForCallbackContext], T]:
        return _bound(func, lambda callback_id, context: func(callback_id, context, *args, **kwargs))

    return bind
