"""The runners under their official names: the same, with the official parameters, defaults and raw results."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from perdure.exceptions import ValidationError
from perdure.testing.handles import Execution
from perdure.testing.local_runner import ACCOUNT, LocalRunner
from perdure.testing.units import handler_around

if TYPE_CHECKING:
    from perdure.store.protocol import Store
    from perdure.testing.result import DurableFunctionTestResult

FUNCTION = "test-function"
EXECUTION = "execution-name"
EXECUTION_TIMEOUT_S = 300
INVOCATION_TIMEOUT_S = 900
REGION = "us-west-2"


class DurableFunctionTestRunner(LocalRunner):
    """`LocalRunner` as the official testing package has it.

    `poll_interval` and `max_invocation_page_bytes` are taken and mean nothing here: nobody polls, and an invocation
    gets its state whole. `execution_timeout` is modelled; in real time, a run is given up after `wall_timeout` seconds.
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
            execution_timeout=execution_timeout,
            invocation_timeout=invocation_timeout,
            store=store,
            page_bytes=max_invocation_page_bytes,
            region=region,
            **more,
        )
        self._account = ACCOUNT

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
        finish = {word: how.pop(word) for word in ("raises", "wall_timeout") if word in how}
        until = how.pop("until", None)
        execution = self.run_async(
            input, execution_timeout, timeout, function_name, execution_name, account_id, tenant_id, **how
        )
        if until is not None:
            self.go_on(execution, until, wall_timeout=finish.get("wall_timeout"))
            return self.result_of(execution)
        return self.finish(execution, **finish)

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
        raw = input if isinstance(input, (str, bytes)) else None
        return self.begin(
            function_name,
            None if raw is not None else input,
            name=execution_name,
            tenant_id=tenant_id,
            raw_input=how.get("raw_input", raw),
            execution_timeout=execution_timeout or timeout,
        )

    def _at_home(self, account: str) -> Any:
        if self._local is None:
            self._account = account
            self._local = self._open(account)
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
