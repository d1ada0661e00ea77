"""What stands behind the API: the rooms that its handlers ask."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from perdure.model.error import ResourceNotFound
from perdure.model.function import FunctionVersion
from perdure.model.ids import Home
from perdure.service.service import Service
from perdure.store.protocol import Store

if TYPE_CHECKING:
    from perdure.api.workers import Workers
    from perdure.runtimes.logs import FunctionLogs
    from perdure.service.registry import Registry

ENDPOINT_TIMEOUT_S: Final = 900


class PlainCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a function that is not durable. `payload` is JSON, or empty; `client_context` is base64."""

    version: FunctionVersion
    request_id: str
    qualifier: str | None = None
    """By which it was invoked; settings of events are by qualifier."""
    payload: bytes = b""
    client_context: str | None = None
    tenant_id: str | None = None
    trace_header: str | None = None


class Called(msgspec.Struct, frozen=True):
    """How it ended: what the function returned, or an error's document; `log_tail` is the end of its log, if asked."""

    payload: bytes
    is_error: bool = False
    log_tail: bytes | None = None


class Calling(Protocol):
    """Calls functions that are not durable."""

    def call(self, call: PlainCall) -> "Future[Called]":
        """Begin a call; TooManyRequests if there is no capacity for it."""
        ...

    def accept(self, call: PlainCall) -> None:
        """Keep a call on disk, to be made soon; it is made again if it fails."""
        ...


class Backing:
    """The service with its registry, and all else that handlers of the API ask.

    `lambda_endpoint` is where functions are that nobody has registered; one invocation there may take
    `endpoint_timeout_s`.
    """

    def __init__(
        self,
        *,
        service: Service,
        registry: "Registry",
        store: Store,
        home: Home,
        calling: Calling,
        logs: "FunctionLogs | None" = None,
        workers: "Workers | None" = None,
        runtimes: frozenset[str] = frozenset(),
        check_package: Callable[[bytes], None] = lambda _package: None,
        sync_wait_s: float = 900.0,
        lambda_endpoint: str | None = None,
        endpoint_timeout_s: int = ENDPOINT_TIMEOUT_S,
        base_url: str = "",
    ) -> None:
        self.service = service
        self.registry = registry
        self.store = store
        self.home = home
        self.calling = calling
        self._logs = logs
        self._workers = workers
        self.runtimes = runtimes
        self.check_package = check_package
        self.sync_wait_s = sync_wait_s
        self.lambda_endpoint = lambda_endpoint
        self.endpoint_timeout_s = endpoint_timeout_s
        self.base_url = base_url
        """What paths of this server are behind, in answers."""
        self.checkpoints = 0
        """Checkpoints that are under way; only the loop changes it."""

    @property
    def logs(self) -> "FunctionLogs":
        """What functions have printed."""
        if self._logs is None:
            raise ResourceNotFound("this server keeps no logs of functions")
        return self._logs

    @property
    def workers(self) -> "Workers":
        """Who gives workers their work."""
        if self._workers is None:
            raise ResourceNotFound("this server takes no workers")
        return self._workers
