"""The runners under their official names: the same, with the official parameters, defaults and raw results."""

import itertools
import json
import re
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec.structs import replace

from perdure.config import to_duration
from perdure.exceptions import ValidationError
from perdure.model.error import ErrorObject
from perdure.model.event import ExecutionStarted
from perdure.model.execution import EXECUTION_TIMEOUT_S_MAX
from perdure.testing.backend import WallTimeout
from perdure.testing.entries import as_entry
from perdure.testing.facts import Facts
from perdure.testing.handles import Execution
from perdure.testing.local import id_of
from perdure.testing.local_runner import ACCOUNT, LocalRunner
from perdure.testing.pace import YEAR_S
from perdure.testing.units import handler_around

if TYPE_CHECKING:
    from perdure.store.protocol import Store
    from perdure.testing.result import DurableFunctionTestResult

FUNCTION = "test-function"
EXECUTION = "execution-name"
EXECUTION_TIMEOUT_S = 300
CHAINED_TIMEOUT_S = 120
INVOCATION_TIMEOUT_S = 900
REGION = "us-west-2"

_TIMED_OUT: Final = re.compile(r"(?<=timed out after )\d+(?= seconds)")


class DurableFunctionTestRunner(LocalRunner):
    """`LocalRunner` as the official testing package has it.

    `poll_interval` is taken and means nothing here: nobody polls. As officially, time that is skipped does not count
    towards `execution_timeout`: it is for how long `run` waits in real time, or until nothing can happen any more, and
    TimeoutError says so. `wait_for_result` waits for its own `timeout`; if that is more than the execution's, the
    execution ends TIMED_OUT.
    """

    def __init__(
        self,
        handler: Callable[..., Any],
        poll_interval: float = 1.0,
        max_invocation_page_bytes: int | None = None,
        execution_timeout: int = EXECUTION_TIMEOUT_S,
        invocation_timeout: int = INVOCATION_TIMEOUT_S,
        store: "Store | str | None" = None,
        skip_time: bool = True,
        region: str = REGION,
        **more: Any,
    ) -> None:
        self.poll_interval = poll_interval
        super().__init__(
            handler,
            skip_time=skip_time,
            execution_timeout=_modelled(execution_timeout, skip_time=skip_time),
            invocation_timeout=invocation_timeout,
            store=store,
            page_bytes=max_invocation_page_bytes,
            region=region,
            **more,
        )
        self._account = ACCOUNT
        self._limit_s = execution_timeout
        self._limits_s: dict[str, int] = {}

    def _backend_type(self) -> Callable[..., Any]:
        """As `--perdure-mode` says, if it says it: these tests are to run unchanged."""
        from perdure.testing.modes import Mode, chosen

        if chosen().mode is not Mode.SERVER:
            return super()._backend_type()
        from perdure.testing.server import ServerBackend

        return ServerBackend

    @property
    def result_class(self) -> "type[DurableFunctionTestResult]":
        from perdure.testing.result import DurableFunctionTestResult

        return DurableFunctionTestResult

    def run(  # type: ignore[override]
        self,
        input: Any = None,  # noqa: A002
        execution_timeout: int | None = None,
        timeout: int | None = None,
        function_name: str = FUNCTION,
        execution_name: str = EXECUTION,
        account_id: str = ACCOUNT,
        tenant_id: str | None = None,
        **how: Any,
    ) -> Any:
        """Begin an execution, let it come to its end, and return its result.

        `input` is JSON text, or any other value that JSON knows. `timeout` is the former name of `execution_timeout`.
        """
        if timeout is not None and execution_timeout is None:
            text = "run(timeout=) is deprecated as officially; use execution_timeout="
            warnings.warn(text, DeprecationWarning, stacklevel=2)
        finish = {word: how.pop(word) for word in ("raises", "wall_timeout") if word in how}
        until = how.pop("until", None)
        execution = self.run_async(
            input, execution_timeout, timeout, function_name, execution_name, account_id, tenant_id, **how
        )
        if until is not None:
            self.go_on(execution, until, wall_timeout=finish.get("wall_timeout"))
            return self.result_of(execution)
        finish.setdefault("wall_timeout", self._limits_s[execution])
        return self.finish(execution, **finish)

    def finish(self, execution: str, *, raises: bool = False, wall_timeout: float | None = None) -> Any:
        limit_s = self._limits_s.get(execution, self._limit_s)
        left_s = self.wall_s(wall_timeout)
        may_time_out = left_s > limit_s
        while True:
            began_s = time.monotonic()
            try:
                return super().finish(execution, raises=raises, wall_timeout=min(left_s, limit_s))
            except WallTimeout:
                left_s -= time.monotonic() - began_s
                if left_s <= 0 or not self._time_out_next(execution if not may_time_out else None):
                    raise

    def _time_out_next(self, spared: str | None) -> bool:
        """Let time pass until the execution that has the least time has none; False if that is the one to be spared."""
        found = None if self.clock.is_real or not self.clock.auto else self.backend.first_due()
        if found is None or (spared is not None and found[1] == id_of(spared)):
            return False
        self.clock.advance_to_ms(max(found[0], self.clock.now_ms()))
        return True

    def register_durable_function(
        self,
        function_name: str,
        handler: Callable[..., Any],
        execution_timeout: Any = CHAINED_TIMEOUT_S,
        retention_period_days: int = 1,
    ) -> Self:
        modelled = _modelled(
            to_duration(execution_timeout, "execution_timeout").seconds, skip_time=not self.clock.is_real
        )
        return super().register_durable_function(function_name, as_entry(handler), modelled, retention_period_days)

    def as_result(self, facts: Facts) -> Any:
        return super().as_result(_as_given(facts))

    def get_execution_history(self, execution_arn: str, include_execution_data: bool = False) -> Any:
        from perdure.testing.model import history_of

        facts = _as_given(self.backend.facts(execution_arn))
        return history_of(facts, include_execution_data=include_execution_data)

    def run_async(
        self,
        input: Any = None,  # noqa: A002
        execution_timeout: int | None = None,
        timeout: int | None = None,
        function_name: str = FUNCTION,
        execution_name: str = EXECUTION,
        account_id: str = ACCOUNT,
        tenant_id: str | None = None,
        **how: Any,
    ) -> Execution:
        """Begin an execution and return its ARN."""
        local = self._at_home(account_id)
        if not local.has(function_name):
            local.put(function_name, self._handler, self._config)
        raw = input if isinstance(input, bytes) or (isinstance(input, str) and _is_json(input)) else None
        limit_s = next(each for each in (execution_timeout, timeout, self._limit_s) if each is not None)
        execution = self.begin(
            function_name,
            None if raw is not None else input,
            name=self._free(function_name, execution_name),
            tenant_id=tenant_id,
            raw_input=how.get("raw_input", raw),
            execution_timeout=_modelled(limit_s, skip_time=not self.clock.is_real),
        )
        self._limits_s[execution] = limit_s
        return execution

    def _own(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        return super()._own(as_entry(handler))

    def _free(self, function: str, name: str) -> str:
        """The name, or one with a number after it: as officially, every run is an execution of its own in its store."""
        store = self._store
        if store is None or isinstance(store, str) or store.find(function, name) is None:
            return name
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        return next(free for free in numbered if store.find(function, free) is None)

    def _at_home(self, account: str) -> Any:
        if self._local is None:
            self._account = account
            self._local = self._opened(account)
        elif account != self._account:
            raise ValidationError(
                f"this runner's executions are in the account {self._account}, not {account}; make another runner"
            )
        return self._local

    def start(self, input: Any = None, **how: Any) -> Execution:  # noqa: A002
        name = how.pop("name", None)
        return self.run_async(input, execution_name=name or EXECUTION, **how)

    def deploy(self, new_handler: Callable[..., Any]) -> Self:
        super().deploy(new_handler)
        if self._local is not None:
            self._local.put(FUNCTION, self._handler, self._config)
        return self


class DurableChildContextTestRunner(DurableFunctionTestRunner):
    """Runs one function of a child context alone, in a handler of its own."""

    def __init__(
        self,
        context_function: Callable[..., Any],
        *args: Any,
        skip_time: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(handler_around(context_function, args, kwargs), skip_time=skip_time)


def _modelled(limit_s: int, *, skip_time: bool) -> int:
    """The time-out of an execution for which skipped time does not count: what is given, after all that is skipped."""
    return min(YEAR_S + limit_s, EXECUTION_TIMEOUT_S_MAX) if skip_time else limit_s


def _as_given(facts: Facts) -> Facts:
    """The facts with the time-outs that the test has given."""
    events, operations = list(facts.events), facts.operations
    if events and isinstance(events[0].event, ExecutionStarted):
        timeout_s = _given(events[0].event.execution_timeout_s)
        events[0] = replace(events[0], event=replace(events[0].event, execution_timeout_s=timeout_s))
    if any(each.error is not None for each in operations):
        operations = [replace(each, error=_error_as_given(each.error)) for each in operations]
    return replace(facts, events=events, operations=operations, error=_error_as_given(facts.error))


def _error_as_given(error: ErrorObject | None) -> ErrorObject | None:
    if error is None or error.message is None:
        return error
    return replace(error, message=_TIMED_OUT.sub(lambda found: str(_given(int(found[0]))), error.message))


def _given(modelled_s: int) -> int:
    return modelled_s - YEAR_S if YEAR_S < modelled_s < EXECUTION_TIMEOUT_S_MAX else modelled_s


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
