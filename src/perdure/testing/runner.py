"""Runs durable functions in a test."""

from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from perdure.config import DurationLike, to_duration
from perdure.engine.terms import KIB, Limits, RetryPolicy, Terms
from perdure.exceptions import ValidationError
from perdure.execution import definition_of, durable_execution
from perdure.model.execution import ENDED, EXECUTION_TIMEOUT_S_MAX, DurableConfig
from perdure.model.ids import Home
from perdure.model.operation import OperationStatus
from perdure.store.protocol import Store
from perdure.testing.backend import Backend
from perdure.testing.chance import SeededIds
from perdure.testing.clock import VirtualClock
from perdure.testing.facts import Facts
from perdure.testing.handles import Execution, as_answer, as_error, as_payload, callbacks_called

if TYPE_CHECKING:
    from perdure.testing.result import Result

Handler = Callable[..., Any]
Until = str | int

WALL_TIMEOUT_S = 30.0
MIB = KIB * KIB


class Runner:
    """What all runners do, wherever the executions run. Safe to use from several threads; to be closed."""

    def __init__(self, wall_timeout: float = WALL_TIMEOUT_S) -> None:
        self.wall_timeout = wall_timeout
        self._answers: dict[str, Any] = {}
        self._answered: set[str] = set()

    @property
    def backend(self) -> Backend:
        """Where the executions run."""
        raise NotImplementedError

    @property
    def function(self) -> str:
        """The name of the function that is tested."""
        raise NotImplementedError

    def wall_s(self, given: float | None) -> float:
        return self.wall_timeout if given is None else given

    # --- running -------------------------------------------------------------------------------------------------

    def run(
        self,
        input: Any = None,  # noqa: A002 - the official name
        *,
        name: str | None = None,
        tenant_id: str | None = None,
        raises: bool = False,
        until: Until | None = None,
        raw_input: str | bytes | None = None,
        execution_timeout: DurationLike | None = None,
        wall_timeout: float | None = None,
    ) -> Any:
        """Begin an execution, let it come to its end, and return its Result.

        `input` is any value that JSON knows, `raw_input` JSON text instead. With `raises` a failure is raised, as what
        it was where that can be imported. `until` stops before the end: "suspended" once it can only wait,
        "callback:NAME" once that callback is open, "operation:NAME" once that operation has begun, a number after so
        many invocations. `execution_timeout` is modelled time, `wall_timeout` real seconds.

        Raises WallTimeout if it does not get there.
        """
        execution = self.start(
            input, name=name, tenant_id=tenant_id, raw_input=raw_input, execution_timeout=execution_timeout
        )
        if until is not None:
            self.go_on(execution, until, wall_timeout=wall_timeout)
            return self.result_of(execution)
        return self.finish(execution, raises=raises, wall_timeout=wall_timeout)

    def start(
        self,
        input: Any = None,  # noqa: A002
        *,
        name: str | None = None,
        tenant_id: str | None = None,
        raw_input: str | bytes | None = None,
        execution_timeout: DurationLike | None = None,
    ) -> Execution:
        """Begin an execution and return at once."""
        timeout_s = None
        if execution_timeout is not None:
            timeout_s = to_duration(execution_timeout, "execution_timeout").seconds
        arn = self.backend.start(
            self.function,
            as_payload(input, raw_input),
            name=name,
            tenant_id=tenant_id,
            execution_timeout_s=timeout_s,
        )
        return Execution(arn, self)

    def finish(self, execution: str, *, raises: bool = False, wall_timeout: float | None = None) -> Any:
        """The Result of an execution, once it has ended."""
        backend = self.backend
        backend.until(
            lambda: self.answer_callbacks(execution) and backend.status(execution) in ENDED,
            wall_s=self.wall_s(wall_timeout),
            what="the execution to end",
            arn=execution,
        )
        result = self.result_of(execution)
        if raises and result.error is not None:
            raise result.error.exception()
        return result

    def go_on(self, execution: str, until: Until, *, wall_timeout: float | None = None) -> None:
        """Let an execution go on until it has come to a point, as `run` does."""
        backend = self.backend
        reached = self._reached(execution, until)
        backend.until(
            lambda: self.answer_callbacks(execution) and (reached() or backend.status(execution) in ENDED),
            wall_s=self.wall_s(wall_timeout),
            what=f"{until!r}" if isinstance(until, str) else f"{until} invocations",
            arn=execution,
            settles=True,
        )

    def _reached(self, execution: str, until: Until) -> Callable[[], bool]:
        backend = self.backend
        if isinstance(until, int):
            return lambda: backend.invocations(execution) >= until
        kind, _, name = until.partition(":")
        if until == "suspended":
            return lambda: backend.invocations(execution) > 0
        if kind == "callback" and name:
            return lambda: any(
                each.status is OperationStatus.STARTED for each in callbacks_called(backend.operations(execution), name)
            )
        if kind == "operation" and name:
            return lambda: any(each.name == name for each in backend.operations(execution))
        raise ValidationError(
            f"until must be 'suspended', 'callback:NAME', 'operation:NAME' or a number of invocations, not {until!r}"
        )

    def result_of(self, execution: str) -> Any:
        """The Result of an execution as it stands now."""
        return self.as_result(self.backend.facts(execution))

    @property
    def result_class(self) -> "type[Result]":
        """The class of what `run` returns."""
        from perdure.testing.result import Result

        return Result

    def as_result(self, facts: Facts) -> Any:
        """What becomes of the facts of an execution."""
        return self.result_class(facts)

    # --- callbacks -----------------------------------------------------------------------------------------------

    def auto_callback(self, name: str, answer: Any = None) -> Self:
        """Answer every callback of this name, from now on, with a value, or with what a function of the callback id
        returns; what that raises is its failure.
        """
        self._answers[name] = answer
        return self

    def answer_callbacks(self, execution: str) -> bool:
        """Answer what is to be answered by itself. True, for conditions to go on with."""
        if not self._answers:
            return True
        operations = self.backend.operations(execution)
        for name, answer in list(self._answers.items()):
            for callback in callbacks_called(operations, name):
                if callback.status is OperationStatus.STARTED and callback.callback_id not in self._answered:
                    self._answered.add(callback.callback_id)
                    self._answer(callback.callback_id, answer)
        return True

    def _answer(self, callback_id: str, answer: Any) -> None:
        try:
            value = answer(callback_id) if callable(answer) else answer
        except Exception as error:  # noqa: BLE001 - whatever it raises is the callback's failure
            self.backend.fail_callback(callback_id, as_error(error))
        else:
            self.backend.succeed_callback(callback_id, as_answer(value))

    def got(self, execution: str, callback_id: str) -> None:
        """A callback is known to whoever asks, who may answer it."""

    # --- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give back what the runner has taken."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class LocalRunner(Runner):
    """Runs a durable function in this process, in memory, on a clock that jumps over what it waits for."""

    def __init__(
        self,
        handler: Handler,
        *,
        skip_time: bool = True,
        start_time: datetime | None = None,
        wall_timeout: float = WALL_TIMEOUT_S,
        execution_timeout: DurationLike | None = None,
        invocation_timeout: DurationLike | None = None,
        store: Store | str | None = None,
        seed: int = 0,
        limits: Limits | str | None = "aws",
        max_operations: int = 3000,
        max_bytes: int = 100 * MIB,
        same_store: bool = False,
    ) -> None:
        super().__init__(wall_timeout)
        self._handler = as_durable(handler)
        self._skip_time = skip_time
        self.clock = VirtualClock(start_time, is_real=not skip_time)
        timeout_s = to_duration(execution_timeout, "execution_timeout").seconds
        self._config = DurableConfig(timeout_s or EXECUTION_TIMEOUT_S_MAX)
        self._invocation_timeout_s = to_duration(invocation_timeout, "invocation_timeout").seconds or 900
        self._store = store
        self._seed = seed
        self._limits = limits_of(limits, max_operations, max_bytes)
        self._same_store = same_store
        self._local: Any = None
        self._functions: list[tuple[str, Handler, DurableConfig | None]] = []
        self._is_closed = False

    @property
    def function(self) -> str:
        definition = definition_of(self._handler)
        assert definition is not None
        return definition.name

    @property
    def backend(self) -> Any:
        if self._local is None:
            if self._is_closed:
                raise ValidationError("this runner is closed")
            self._local = self._open()
        return self._local

    def _open(self) -> Any:
        from perdure.testing.local import LocalBackend

        local = LocalBackend(
            clock=self.clock,
            store=self._open_store(),
            ids=SeededIds(self._seed) if self._store is None else None,
            terms=Terms(limits=self._limits, retries=RetryPolicy.emulator()),
            home=Home(account="123456789012"),
            config=self._config,
            invocation_timeout_s=self._invocation_timeout_s,
        )
        local.put(self.function, self._handler)
        for name, handler, config in self._functions:
            local.put(name, handler, config)
        return local

    def _open_store(self) -> Store:
        if isinstance(self._store, str):
            from perdure.store.open import open_store

            return open_store(self._store)
        if self._store is not None:
            return self._store
        from perdure.store.memory import MemoryStore
        from perdure.testing.local import NamesAgain

        return MemoryStore() if self._same_store else NamesAgain()

    # --- functions -----------------------------------------------------------------------------------------------

    def register_function(self, function_name: str, handler: Handler) -> Self:
        """Have `context.invoke(function_name)` call a function `f(event, context)`."""
        return self._register(function_name, handler, None)

    def register_durable_function(
        self,
        function_name: str,
        handler: Handler,
        execution_timeout: DurationLike = 120,
        retention_period_days: int = 1,
    ) -> Self:
        """Have `context.invoke(function_name)` begin an execution of a durable function."""
        timeout_s = to_duration(execution_timeout, "execution_timeout").seconds
        return self._register(function_name, as_durable(handler), DurableConfig(timeout_s, retention_period_days))

    def _register(self, name: str, handler: Handler, config: DurableConfig | None) -> Self:
        self._functions.append((name, handler, config))
        if self._local is not None:
            self._local.put(name, handler, config)
        return self

    def got(self, execution: str, callback_id: str) -> None:
        self.backend.got(execution, callback_id)

    # --- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        self._is_closed = True
        local, self._local = self._local, None
        if local is not None:
            local.close()


def as_durable(handler: Handler) -> Handler:
    """The handler, durable if it is not yet."""
    return handler if definition_of(handler) is not None else durable_execution(handler)


def limits_of(limits: Limits | str | None, max_operations: int, max_bytes: int) -> Limits:
    """What an execution may use: the documented numbers, those given, or none."""
    from msgspec.structs import replace

    if isinstance(limits, Limits):
        return limits
    if limits is None:
        return Limits()
    if limits != "aws":
        raise ValidationError(f"limits must be 'aws', Limits(…) or None, not {limits!r}")
    return replace(
        Limits.aws(), operations_max=max_operations, written_bytes_max=max_bytes, payload_bytes_max=256 * KIB
    )
