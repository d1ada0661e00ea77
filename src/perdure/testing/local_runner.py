"""Runs a durable function in this process, and has happen to it what a test wants."""

import random
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import msgspec

from perdure.config import DurationLike, to_duration
from perdure.engine.terms import KIB, MIB, Limits, RetryPolicy, Terms
from perdure.exceptions import ValidationError
from perdure.execution import definition_of
from perdure.model.execution import ENDED, EXECUTION_TIMEOUT_S_MAX, DurableConfig
from perdure.model.ids import Home
from perdure.model.operation import Operation
from perdure.sdk import strictness
from perdure.sdk.strictness import Strict, stricter, to_strict
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Store
from perdure.testing.chance import RandomIds, SeededIds
from perdure.testing.clock import VirtualClock
from perdure.testing.facts import Facts
from perdure.testing.faults import Fault, Lost, Plan
from perdure.testing.functions import NamesAgain, bare_name, lent
from perdure.testing.handles import Execution
from perdure.testing.local import LocalBackend
from perdure.testing.mocks import UNSET, Mock
from perdure.testing.runner import WALL_TIMEOUT_S, Handler, Runner, as_durable
from perdure.testing.targets import Target

if TYPE_CHECKING:
    from perdure.sdk.invocation import DriverOf
    from perdure.testing.patched_time import PatchedTime

INVOCATION_TIMEOUT_S: Final = 900
PAYLOAD_BYTES_MAX: Final = 256 * KIB
OPERATIONS_MAX: Final = 3_000
WRITTEN_BYTES_MAX: Final = 100 * MIB
ACCOUNT: Final = "123456789012"


class Invoked(msgspec.Struct, frozen=True):
    """How one invocation ended: `status` is SUCCEEDED, FAILED, PENDING or CRASHED, `pending` what is waited for."""

    status: str
    pending: list[Operation]
    execution: Execution

    @property
    def result(self) -> Any:
        """The Result as it stood."""
        return self.execution.so_far()


class LocalRunner(Runner):
    """Runs a durable function in this process, in memory, on a clock that jumps over what it waits for.

    `start_time` is when the clock begins: now, if none is given. `skip_time` False makes it the machine's clock.
    `wall_timeout` are the real seconds after which waiting is given up; `execution_timeout` and `invocation_timeout`
    (900 s) are modelled. `store` keeps executions elsewhere than in memory: a path, a URL, or a Store, which is not
    closed with the runner. In memory, a name is free again for every execution, unless `same_store`. `seed` makes ids
    and chance; `schedule_seed` also decides in which order branches run. `serdes` is for steps that name none.

    With `always_replay` the end of each operation ends the invocation, so that each line of the handler is replayed:
    a cheap test of determinism.

    `strict` says what becomes of a handler that asks for a clock, chance, a file or a connection outside of a step:
    "warn", "raise" or "off"; with PERDURE_STRICT=1 in the environment it is always "raise".

    `limits` are the documented ones, "aws", with `max_operations` and `max_bytes`; `Limits(…)` of one's own; None for
    those of Perdure. `checkpoint_delay` is modelled time that each checkpoint takes. `page_bytes` is for other runners:
    here, an invocation gets its state whole. With `patch_time`, `time.time` and `datetime.now` tell the clock's time
    while the runner is open. Runners that are given one `clock` are on it together, where one of them at a time runs
    anything.
    """

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
        serdes: Any = None,
        seed: int = 0,
        max_operations: int = OPERATIONS_MAX,
        max_bytes: int = WRITTEN_BYTES_MAX,
        page_bytes: int | None = None,
        checkpoint_delay: float = 0.0,
        limits: Limits | Literal["aws"] | None = "aws",
        same_store: bool = False,
        schedule_seed: int | None = None,
        always_replay: bool = False,
        patch_time: bool = False,
        strict: Strict | str | bool = Strict.WARN,
        region: str = "us-east-1",
        clock: VirtualClock | None = None,
    ) -> None:
        super().__init__(wall_timeout)
        if page_bytes is not None and page_bytes < 1:
            raise ValidationError(f"page_bytes must be at least 1, not {page_bytes}")
        self._serdes = serdes
        self._strict = stricter(strictness.mode, to_strict(strict))
        self._handler = self._own(handler)
        self.clock = clock or VirtualClock(start_time, is_real=not skip_time)
        timeout_s = to_duration(execution_timeout, "execution_timeout").seconds
        self._config = DurableConfig(timeout_s or EXECUTION_TIMEOUT_S_MAX)
        self._invocation_timeout_s = (
            to_duration(invocation_timeout, "invocation_timeout").seconds or INVOCATION_TIMEOUT_S
        )
        self._store = store
        self._seed = seed
        self._limits = limits_of(limits, max_operations, max_bytes)
        self._is_same_store = same_store
        self._schedule_seed = schedule_seed
        self._region = region
        self._plan = Plan()
        self._plan.delay_s = checkpoint_delay
        self._plan.is_always_replaying = always_replay
        self._lock = threading.Lock()
        self._local: Any = None
        self._functions: dict[str, tuple[Handler, DurableConfig | None]] = {}
        self._stepped: Execution | None = None
        self._is_closed = False
        self._patched = _patched(self.clock) if patch_time else None

    def _own(self, handler: Handler) -> Handler:
        """The handler under test, with the runner's serdes if it has none."""
        durable = as_durable(handler)
        definition = definition_of(durable)
        assert definition is not None
        return self._strictly(durable, serdes=definition.serdes or self._serdes)

    def _strictly(self, durable: Handler, **changes: Any) -> Handler:
        """A durable function that is as strict as the runner, unless it says itself how strict it is."""
        definition = definition_of(durable)
        assert definition is not None
        strict = definition.strict or self._strict
        return _Redefined(durable, msgspec.structs.replace(definition, strict=strict, **changes))

    @property
    def function(self) -> str:
        definition = definition_of(self._handler)
        assert definition is not None
        return definition.name

    @property
    def backend(self) -> Any:
        return self._local or self._opened(ACCOUNT)

    def _opened(self, account: str) -> Any:
        """The backend, made now if this is the first call for it."""
        with self._lock:
            if self._local is None:
                if self._is_closed:
                    raise ValidationError("this runner is closed; make another one")
                self._local = self._open(account)
            return self._local

    def _backend_type(self) -> Callable[..., Any]:
        """What makes the back-end."""
        return LocalBackend

    def _open(self, account: str) -> Any:
        local = self._backend_type()(
            clock=self.clock,
            store=self._open_store(),
            plan=self._plan,
            terms=Terms(limits=self._limits, retries=RetryPolicy.emulator()),
            home=Home(region=self._region, account=account),
            config=self._config,
            invocation_timeout_s=self._invocation_timeout_s,
            ids=SeededIds(self._seed) if self._store is None else RandomIds(),
            driver_of=self._driver_of(),
        )
        self._put_functions(local)
        return local

    def _put_functions(self, local: Any) -> None:
        """Have the back-end run the functions of this runner."""
        local.put(self.function, self._handler)
        for name, (handler, config) in self._functions.items():
            local.put(name, handler, config)

    def _open_store(self) -> Store:
        if isinstance(self._store, str):
            from perdure.store.open import open_store

            return open_store(self._store)
        if self._store is not None:
            return lent(self._store)
        return MemoryStore() if self._is_same_store else NamesAgain()

    def _driver_of(self) -> "DriverOf | None":
        if self._schedule_seed is None:
            return None
        from perdure.sdk.drivers.scheduled import scheduled

        return scheduled(random.Random(self._schedule_seed), self.clock.now_ms)

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
        return self._register(
            function_name, self._strictly(as_durable(handler)), DurableConfig(timeout_s, retention_period_days)
        )

    def _register(self, reference: str, handler: Handler, config: DurableConfig | None) -> Self:
        name = bare_name(reference)
        self._functions[name] = (handler, config)
        if self._local is not None:
            self._local.put(name, handler, config)
        return self

    def invoke_target(self, function_name: str) -> Target:
        """What a chained invoke of this function comes to: `invoke_target("charge").returns(5)`."""
        return Target(self, function_name)

    def deploy(self, new_handler: Handler) -> Self:
        """Run other code from the next invocation on, as after a deployment in place."""
        name, self._handler = self.function, self._own(new_handler)
        definition = definition_of(self._handler)
        assert definition is not None
        if definition.name != name:
            self._handler = _Redefined(self._handler, msgspec.structs.replace(definition, name=name))
        if self._local is not None:
            self._local.put(name, self._handler, self._config)
        return self

    def prepare_as(self, other: "LocalRunner") -> None:
        """Have the functions, mocks and answers of callbacks of another runner; its faults stay its own."""
        for name, (handler, config) in other._functions.items():
            self._register(name, handler, config)
        self._plan.mocks = [mock.again() for mock in other._plan.mocks]
        self._answers.update(other._answers)

    # --- invocation by invocation --------------------------------------------------------------------------------

    def invoke_once(self, input: Any = None, *, execution: Execution | None = None, **how: Any) -> Invoked:  # noqa: A002
        """Run exactly one invocation and say how it ended.

        The first call begins an execution, as `start` does with `input` and the like; each further one runs the next
        invocation of it, once something lets it go on: a timer, to which the clock jumps, or an answer. Once it has
        ended, the next call begins another one. ValidationError if `execution`, given to go on with, has ended.
        """
        backend = self.backend
        found = execution or self._stepped
        if found is None or (execution is None and found.status in ENDED):
            with backend.desk.holding_new():
                found = self.start(input, **how)
        elif found.status in ENDED:
            raise ValidationError(f"{found} is {found.status}: no invocation of it follows")
        self._stepped = found
        arn = found
        backend.until(
            lambda: self.answer_callbacks(arn) and (backend.is_held(arn) or arn.status in ENDED),
            wall_s=self.wall_timeout,
            what="the next invocation",
            arn=arn,
        )
        before = backend.invocations(arn)
        backend.let_go(arn)
        backend.until(
            lambda: backend.invocations(arn) > before or arn.status in ENDED,
            wall_s=self.wall_timeout,
            what="the invocation to end",
            arn=arn,
            settles=True,
        )
        records = backend.facts(arn).invocations
        open_ones = [each for each in backend.operations(arn) if not each.is_terminal]
        return Invoked(records[-1].status if records else "PENDING", open_ones, arn)

    def as_result(self, facts: Facts) -> Any:
        result = super().as_result(facts)
        result.handler = self._handler
        return result

    def finish(self, execution: str, *, raises: bool = False, wall_timeout: float | None = None) -> Any:
        self.backend.let_go(execution, is_last=True)
        return super().finish(execution, raises=raises, wall_timeout=wall_timeout)

    def fork(self, execution: str, operation_id: str, name: str | None) -> str:
        forked: str = self.backend.fork(execution, operation_id, name=name)
        return forked

    def got(self, execution: str, callback_id: str) -> None:
        self.backend.got(execution, callback_id)

    # --- what a test wants to happen -----------------------------------------------------------------------------

    def mock_operation(self, path: str, *, returns: Any = UNSET, side_effect: Any = None, wraps: Any = None) -> Mock:
        """Run something else than the body that `path` means: of a step, a condition's check, a child context, a
        branch. A mere name means every operation of that name. The operation is recorded as ever.

        `returns` is a value; `side_effect` an error to raise, a function to call with the arguments of the
        `durable_step`, or several values and errors for one call after the other; `wraps` True runs the body itself,
        or a function gets it. Without any of them, None is returned.
        """
        mock = Mock(path, returns=returns, side_effect=side_effect, wraps=wraps)
        self._plan.mocks.insert(0, mock)
        return mock

    def mock_step(self, name: str, *, returns: Any = UNSET, side_effect: Any = None, wraps: Any = None) -> Mock:
        """The same for a step by its name."""
        return self.mock_operation(name, returns=returns, side_effect=side_effect, wraps=wraps)

    def crash(
        self, *, before: str | None = None, after: str | None = None, at_checkpoint: int | None = None, times: int = 1
    ) -> Fault:
        """Have the process of the invocation die: before an operation begins, after it has ended and that is recorded,
        or in the place of the N-th checkpoint, from 1, of an invocation. It is tried again, as after a real crash.

        `before` and `after` are names or paths of operations.
        """
        given = [each for each in (before, after, at_checkpoint) if each is not None]
        if len(given) != 1:
            raise ValidationError("crash takes one of before=, after= and at_checkpoint=")
        if at_checkpoint is not None:
            return self._fault(Fault("crash", at_checkpoint=at_checkpoint, times=times))
        kind, path = ("crash before", before) if before is not None else ("crash after", after)
        return self._fault(Fault(kind, path or "", times=times))

    def lose_checkpoint(self, operation: str, *, lost: Lost = "answer", times: int = 1) -> Fault:
        """Lose the next checkpoint that has an update of this operation: the service keeps it and its answer is lost,
        or the request never arrives. The invocation fails and is tried again.
        """
        return self._fault(Fault("lose", operation, lost=lost, times=times))

    def duplicate_checkpoint(self, operation: str, *, times: int = 1) -> Fault:
        """Send the next checkpoint that has an update of this operation twice, as a client does that got no answer."""
        return self._fault(Fault("duplicate", operation, times=times))

    def throttle(self, n: int = 1) -> Fault:
        """Refuse the next `n` checkpoints with TooManyRequestsException: each ends its invocation, which is retried."""
        return self._fault(Fault("throttle", times=n))

    def delay(self, seconds: float) -> None:
        """Let every checkpoint from now on take so much modelled time; 0 for none."""
        self._plan.delay_s = seconds

    def _fault(self, fault: Fault) -> Fault:
        self._plan.faults.append(fault)
        return fault

    # --- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            local, self._local = self._local, None
        if local is not None:
            local.close()
        if self._patched is not None:
            self._patched.undo()
            self._patched = None


class _Redefined:
    """A durable function under a changed definition."""

    def __init__(self, handler: Callable[..., Any], definition: Any) -> None:
        self._handler = handler
        self.__perdure__ = definition

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._handler(*args, **kwargs)


def _patched(clock: VirtualClock) -> "PatchedTime":
    from perdure.testing.patched_time import PatchedTime

    return PatchedTime(clock)


def limits_of(limits: Limits | str | None, max_operations: int, max_bytes: int) -> Limits:
    """What an execution may use: the documented numbers with those given, others, or Perdure's own."""
    if isinstance(limits, Limits):
        return limits
    if limits is None:
        return Limits()
    if limits != "aws":
        raise ValidationError(f"limits must be 'aws', Limits(…) or None, not {limits!r}")
    return msgspec.structs.replace(
        Limits.aws(),
        operations_max=max_operations,
        written_bytes_max=max_bytes,
        payload_bytes_max=PAYLOAD_BYTES_MAX,
        chained_result_bytes_max=PAYLOAD_BYTES_MAX,
        error_bytes_max=PAYLOAD_BYTES_MAX,
    )
