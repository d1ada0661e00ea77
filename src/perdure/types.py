"""What the SDK hands to the functions of authors, and the shapes it expects of what they hand over."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from perdure.testing.replaying.replayer import HistoryLike, ReplayResult

__all__ = [
    "DurableExecutionArn",
    "DurableFunction",
    "FunctionRef",
    "LambdaContext",
    "LoggerInterface",
    "OperationContext",
    "StepContext",
    "SummaryGenerator",
    "WaitForCallbackContext",
    "WaitForConditionCheckContext",
]

T_contra = TypeVar("T_contra", contravariant=True)
E_contra = TypeVar("E_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class LoggerInterface(Protocol):
    """The methods of a logger that the SDK calls; every logger of the standard library has them."""

    def debug(self, msg: object, *args: object, extra: "dict[str, object] | None" = None) -> None: ...
    def info(self, msg: object, *args: object, extra: "dict[str, object] | None" = None) -> None: ...
    def warning(self, msg: object, *args: object, extra: "dict[str, object] | None" = None) -> None: ...
    def error(self, msg: object, *args: object, extra: "dict[str, object] | None" = None) -> None: ...
    def exception(self, msg: object, *args: object, extra: "dict[str, object] | None" = None) -> None: ...


@dataclass(frozen=True)
class OperationContext:
    """What every body gets: a logger that knows the operation."""

    logger: LoggerInterface


@dataclass(frozen=True)
class StepContext(OperationContext):
    """What the body of a step gets. `attempt` counts from 1.

    `idempotency_key` is the same for all attempts and all replays of the step, and different for all other steps of all
    executions: give it to the service that the step calls.
    """

    attempt: int
    operation_id: str = ""
    execution_id: str = ""

    @property
    def idempotency_key(self) -> str:
        return f"{self.execution_id}:{self.operation_id}"

    @property
    def is_replaying(self) -> bool:
        """A body never runs in a replay."""
        return False


@dataclass(frozen=True)
class WaitForCallbackContext(OperationContext):
    """What the function gets that hands a callback id out."""


@dataclass(frozen=True)
class WaitForConditionCheckContext(OperationContext):
    """What the check of a condition gets. `attempt` is the number of the poll, from 1."""

    attempt: int


class SummaryGenerator(Protocol[T_contra]):
    """Writes what is stored of a result that is too large to store."""

    def __call__(self, result: T_contra) -> str: ...


@runtime_checkable
class LambdaContext(Protocol):
    """The platform's context of an invocation."""

    aws_request_id: str
    function_name: str
    function_version: str
    invoked_function_arn: str

    def get_remaining_time_in_millis(self) -> int: ...


class FunctionRef(Generic[E_contra, R_co]):
    """A function to invoke, with the types of its event and its result: `FunctionRef("quote", Quote)`.

    `result_type` is what the result, plain JSON, is read as; None leaves it as it is.
    """

    def __init__(self, name: str, result_type: "type[R_co] | None" = None) -> None:
        self.name = name
        self.result_type: Any = result_type

    def __repr__(self) -> str:
        return f"FunctionRef({self.name!r})"


class DurableFunction(Protocol[E_contra, R_co]):
    """What `durable_execution` makes of a handler."""

    __name__: str

    def __call__(self, event: Any, lambda_context: Any = None) -> Any: ...

    @property
    def invoke_ref(self) -> FunctionRef[E_contra, R_co]:
        """What `context.invoke` takes to infer the result's type."""
        ...

    def check_determinism(self, history: "HistoryLike") -> "ReplayResult":
        """Replay a stored history with this function, offline and without running a body: would it go on?

        `history` is a file as `perdure execution export` writes it, its content, or what a test has kept. The result
        has the first divergence; `.assert_compatible()` raises it.
        """
        ...


_ARN: Final = re.compile(
    r"arn:[^:]+:lambda:[^:]+:[^:]+:function:(?P<function_name>[^:]+):[^/]+/durable-execution/"
    r"(?P<execution_name>[^/]+)/(?P<invocation_id>[^/]+)"
)


@dataclass(frozen=True)
class DurableExecutionArn:
    """The speaking parts of an execution's ARN; `invocation_id` is its last segment, the execution's id."""

    function_name: str
    execution_name: str
    invocation_id: str

    @classmethod
    def from_arn(cls, arn: str) -> "DurableExecutionArn | None":
        found = _ARN.fullmatch(arn)
        return cls(**found.groupdict()) if found else None


def __getattr__(name: str) -> Any:
    """What lives in `perdure.context` and `perdure.concurrency.models`, under the names that it has here, too."""
    if name in ("DurableContext", "Callback"):
        from perdure import context

        return getattr(context, name)
    if name == "BatchResult":
        from perdure.concurrency import models

        return models.BatchResult
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
