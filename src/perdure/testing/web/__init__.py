"""A server for handlers that live elsewhere, behind an endpoint that takes Lambda's Invoke, under the official names.

    with WebRunner(WebRunnerConfig(web_service=WebServiceConfig(port=5000))) as runner:
        runner.serve_forever()

It is the server that `perdure serve` starts: everything that boto3 and the official SDKs ask of it is there.

Source of the names and defaults: aws-durable-execution-sdk-python-testing 1.4.
"""

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from perdure.testing.exceptions import DurableFunctionsLocalRunnerError

if TYPE_CHECKING:
    from perdure.server.node import Node
    from perdure.store.protocol import Store
    from perdure.testing.skipping import Skipping

FILE_PREFIX: Final = "file://"
FOLDER: Final = ".durable_executions"
DATABASE: Final = "durable-executions.db"
_log: Final = logging.getLogger("perdure.api")


class StoreType(Enum):
    """Where executions are kept. FILESYSTEM is a folder, with a database in it."""

    MEMORY = "memory"
    FILESYSTEM = "filesystem"
    SQLITE = "sqlite"


@dataclass(frozen=True)
class WebServiceConfig:
    """Where the server listens; port 0 takes a free one. `log_level` is that of the server's own log.

    A request may have `max_request_size` bytes officially; here the limits of the Lambda API hold instead.
    """

    host: str = "localhost"
    port: int = 5000
    log_level: int = logging.INFO
    max_request_size: int = 10 * 1024 * 1024


@dataclass(frozen=True)
class FunctionConfig:
    """What a durable function may invoke: a plain function, or a durable one with its time-out and retention."""

    is_durable: bool = False
    execution_timeout_seconds: int = 120
    retention_period_days: int = 1

    @classmethod
    def from_dict(cls, name: str, raw: Any) -> "FunctionConfig":
        """Read `{}` or None, a plain function, or an object whose DurableConfig has ExecutionTimeout, in seconds, and
        RetentionPeriodInDays.

        ValueError names what is wrong.
        """
        if raw is None:
            return cls()
        if not isinstance(raw, dict):
            raise ValueError(f"function configuration {name!r} must be a JSON object or null, not {raw!r:.80}")  # noqa: TRY004 - officially
        given = raw.get("DurableConfig")
        if given is None:
            return cls()
        if not isinstance(given, dict):
            raise ValueError(f"DurableConfig of {name!r} must be a JSON object, not {given!r:.80}")  # noqa: TRY004
        timeout_s = given.get("ExecutionTimeout", cls.execution_timeout_seconds)
        retention_days = given.get("RetentionPeriodInDays", cls.retention_period_days)
        for what, value in (("ExecutionTimeout", timeout_s), ("RetentionPeriodInDays", retention_days)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{what} of {name!r} must be a whole number from 1, not {value!r:.80}")
        return cls(True, timeout_s, retention_days)


@dataclass(frozen=True)
class FunctionConfigs:
    """The functions that a durable function may invoke, by name."""

    by_name: Mapping[str, FunctionConfig]

    @classmethod
    def from_value(cls, value: str) -> "FunctionConfigs":
        """Read JSON, or the file that `file://PATH` names. ValueError if it is no object of configurations."""
        if value.startswith(FILE_PREFIX):
            value = Path(value.removeprefix(FILE_PREFIX)).read_text("utf-8")
        raw = json.loads(value)
        if not isinstance(raw, dict):
            raise ValueError(f"function configurations must be an object by function name, not {raw!r:.80}")  # noqa: TRY004
        return cls.from_dict(raw)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "FunctionConfigs":
        return cls({name: FunctionConfig.from_dict(name, entry) for name, entry in raw.items()})

    def lookup(self, name: str) -> FunctionConfig | None:
        """The configuration of a function; None if it has none."""
        return self.by_name.get(name)


@dataclass(frozen=True)
class WebRunnerConfig:
    """What a WebRunner serves. Handlers are invoked at `lambda_endpoint`; ARNs have `local_runner_region`.

    `store_path` is the folder or file of a store that is not in memory. With `skip_time` the clock moves on as soon as
    nothing runs. `local_runner_endpoint` and `local_runner_mode` are what handlers are told elsewhere; the server
    itself has no use for them.
    """

    web_service: WebServiceConfig = field(default_factory=WebServiceConfig)
    lambda_endpoint: str = "http://127.0.0.1:3001"
    local_runner_endpoint: str = "http://0.0.0.0:5000"
    local_runner_region: str = "us-west-2"
    local_runner_mode: str = "local"
    store_type: StoreType = StoreType.MEMORY
    store_path: str | None = None
    invocation_timeout_seconds: int = 900
    skip_time: bool = False
    max_invocation_page_bytes: int | None = None
    function_configs: FunctionConfigs | None = None


class WebRunner:
    """Serves from `start` to `stop`, and can then be started again."""

    def __init__(self, config: WebRunnerConfig) -> None:
        self._config = config
        self._node: Node | None = None
        self._skipping: Skipping | None = None
        self._level = logging.NOTSET
        self._has_served = False
        self._stopped = threading.Event()

    @property
    def url(self) -> str:
        """Where it serves, `http://HOST:PORT`. DurableFunctionsLocalRunnerError before it was started."""
        return self._started().url

    def start(self) -> None:
        """Serve; returns when requests are taken. DurableFunctionsLocalRunnerError if it serves already."""
        if self._node is not None:
            raise DurableFunctionsLocalRunnerError(f"the server is already running at {self._node.url}")
        node = self._made()
        try:
            node.start()
        except BaseException:
            node.stop()
            raise
        self._node = node
        self._has_served = True
        self._level = _log.level
        _log.setLevel(self._config.web_service.log_level)
        self._stopped.clear()
        if self._skipping is not None:
            self._skipping.start(node)

    def serve_forever(self) -> None:
        """Return when the server is stopped, by another thread or ^C. It must have been started."""
        if not self._has_served:
            self._started()
        self._stopped.wait()

    def stop(self) -> None:
        """Serve no more. Nothing happens if it does not serve."""
        node, self._node = self._node, None
        skipping, self._skipping = self._skipping, None
        if skipping is not None:
            skipping.stop()
        if node is not None:
            node.stop()
            _log.setLevel(self._level)
            self._stopped.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _started(self) -> "Node":
        if self._node is None:
            raise DurableFunctionsLocalRunnerError("the server has not been started; call start(), or use `with`")
        return self._node

    def _made(self) -> "Node":
        from msgspec.structs import replace

        from perdure.engine.terms import Limits, RetryPolicy, Terms
        from perdure.model.ids import Home
        from perdure.server.node import Node, Settings
        from perdure.testing.clock import VirtualClock
        from perdure.testing.skipping import Skipping

        config = self._config
        clock = VirtualClock() if config.skip_time else None
        self._skipping = Skipping(clock) if clock is not None else None
        settings = Settings(
            host=config.web_service.host,
            port=config.web_service.port,
            home=Home(region=config.local_runner_region),
            terms=Terms(limits=Limits.aws(), retries=RetryPolicy.emulator()),
            lambda_endpoint=config.lambda_endpoint,
            endpoint_timeout_s=config.invocation_timeout_seconds,
            takes_unqualified=True,
        )
        if config.max_invocation_page_bytes is not None:
            settings = replace(settings, endpoint_page_bytes=config.max_invocation_page_bytes)
        node = Node(self._store(), settings, clock=clock)
        for name, function in (config.function_configs or FunctionConfigs({})).by_name.items():
            self._register(node, name, function)
        return node

    def _store(self) -> "Store":
        from perdure.store.memory import MemoryStore
        from perdure.store.sqlite.store import SqliteStore

        config = self._config
        if config.store_type is StoreType.MEMORY:
            return MemoryStore()
        if config.store_type is StoreType.SQLITE:
            return SqliteStore(Path(config.store_path or DATABASE))
        folder = Path(config.store_path or FOLDER)
        folder.mkdir(parents=True, exist_ok=True)
        return SqliteStore(folder / DATABASE)

    def _register(self, node: "Node", name: str, function: FunctionConfig) -> None:
        from perdure.model.execution import DurableConfig
        from perdure.model.function import FunctionVersion, Host, endpoint_url

        durable = None
        if function.is_durable:
            durable = DurableConfig(function.execution_timeout_seconds, function.retention_period_days)
        node.registry.register_endpoint(
            FunctionVersion(
                function=name,
                host=Host.ENDPOINT,
                durable=durable,
                endpoint=endpoint_url(self._config.lambda_endpoint),
                timeout_s=self._config.invocation_timeout_seconds,
            )
        )
