"""A runner whose executions run at a real server, in a real worker, over HTTP; all of it in this process.

    with ServerRunner(handler) as runner:
        runner.run({"sku": "tea"}).assert_succeeded()
        runner.boto3().list_functions()

Time jumps here as in a LocalRunner.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from perdure.exceptions import ValidationError
from perdure.execution import default_name, definition_of, durable_execution
from perdure.model.error import ErrorObject
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import Operation
from perdure.sdk.drivers.hands import HANDS
from perdure.serdes import watched
from perdure.store.protocol import TIME_MS_MAX
from perdure.testing.backend import WallTimeout
from perdure.testing.calling import Calling
from perdure.testing.desk import who_acts
from perdure.testing.facts import Facts
from perdure.testing.local import id_of
from perdure.testing.local_runner import LocalRunner
from perdure.testing.logs import Logs, listened
from perdure.testing.runner import Handler, as_durable
from perdure.testing.skipping import NodeTime
from perdure.testing.tree import tree_of
from perdure.testing.values import RESULT

if TYPE_CHECKING:
    from perdure.client.client import Client
    from perdure.engine.terms import Ids, Terms
    from perdure.model.event import HistoryEvent
    from perdure.model.execution import DurableConfig
    from perdure.model.ids import Home
    from perdure.sdk.invocation import DriverOf
    from perdure.store.protocol import Store
    from perdure.testing.clock import VirtualClock
    from perdure.testing.faults import Plan
    from perdure.worker.remote import RemoteWorker

log: Final = logging.getLogger("perdure.testing")

CLOSE_S: Final = 0.6
"""So long may handlers run on when their test has ended."""
STOP_S: Final = 0.3


class ServerBackend:
    """A node, which serves HTTP on this machine, and workers of it in this process.

    Executions are begun, answered, stopped and shown over HTTP; that something has happened is heard in process.
    """

    def __init__(
        self,
        *,
        clock: "VirtualClock",
        store: "Store",
        plan: "Plan",
        terms: "Terms",
        home: "Home",
        config: "DurableConfig",
        invocation_timeout_s: float,
        ids: "Ids | None" = None,
        driver_of: "DriverOf | None" = None,
        port: int = 0,
    ) -> None:
        from perdure.client.client import Client
        from perdure.server.node import Node, Settings

        self._clock = clock
        self._plan = plan
        self._driver_of = driver_of
        self._config = config
        self._invocation_timeout_s = invocation_timeout_s
        settings = Settings(port=port, home=home, terms=terms, takes_unqualified=True)
        try:
            self.node = Node(store, settings, clock=clock, ids=ids)
        except BaseException:
            store.close()
            raise
        self._time = NodeTime(self.node, clock)
        self.node.start()
        self.client: Client = Client(self.node.url, region=home.region)
        self._calling = Calling(self.client)
        self._workers: dict[str, RemoteWorker] = {}
        self._handlers: dict[str, Handler] = {}
        self._logs = Logs(list)
        self._began: dict[str, float] = {}
        self._got: dict[str, tuple[str, object]] = {}
        self._is_closed = False

    @property
    def clock(self) -> "VirtualClock | None":
        return self._clock

    # --- functions -----------------------------------------------------------------------------------------------

    def put(self, name: str, handler: Handler, config: "DurableConfig | None" = None) -> None:
        """Have a function run under this name, in a worker of its own, from its next invocation on."""
        from perdure.sdk.connection import Endpoint
        from perdure.testing.tested_worker import TestedWorker
        from perdure.worker.code import Code

        handler = self._handlers[name] = listened(handler, self._logs)
        worker = self._workers.get(name)
        if worker is not None:
            worker.take({name: handler})
            return
        worker = TestedWorker(
            Endpoint(self.node.url),
            {name: handler},
            Code(hashlib.sha256(name.encode()).hexdigest(), 0, 0),
            plan=self._plan,
            given_driver_of=self._driver_of,
            name=f"test-{name}",
            config=config or self._config,
            timeout_s=max(1, round(self._invocation_timeout_s)),
        )
        worker.start()
        self._workers[name] = worker

    def has(self, name: str) -> bool:
        return name in self._workers

    # --- executions ----------------------------------------------------------------------------------------------

    def start(
        self,
        function: str,
        payload: str | None,
        *,
        name: str | None = None,
        tenant_id: str | None = None,
        execution_timeout_s: int | None = None,
    ) -> str:
        started_s = time.monotonic()
        arn = self._calling.start(
            function, payload, name=name, tenant_id=tenant_id, execution_timeout_s=execution_timeout_s
        )
        self._began.setdefault(arn, started_s)
        return arn

    def status(self, arn: str) -> ExecutionStatus:
        return self.node.service.get(id_of(arn)).status

    def operations(self, arn: str) -> Sequence[Operation]:
        return self.node.service.operations(id_of(arn))

    def history(self, arn: str) -> "Sequence[HistoryEvent]":
        return self._calling.history(arn).events

    def invocations(self, arn: str) -> int:
        return self.node.service.get(id_of(arn)).invocations

    def facts(self, arn: str) -> Facts:
        from msgspec.structs import replace

        now_s = time.monotonic()
        found = self._calling.facts(arn)
        definition = definition_of(self._handlers.get(found.function))
        own = definition.output_serdes if definition is not None else None
        values = {**watched.get(arn, {}), **({RESULT: own} if own is not None else {})}
        wall_s = now_s - self._began.get(arn, now_s)
        return replace(found, values=values, logs=list(self._logs.get(arn, ())), wall_s=wall_s)

    def fork(self, arn: str, operation_id: str, *, name: str | None = None) -> str:
        """Begin an execution with the past of another one, up to where an operation began; return its ARN."""
        started_s = time.monotonic()
        started = self.node.service.fork(id_of(arn), operation_id, name=name)
        self._began[started.arn] = started_s
        values = watched.setdefault(started.arn, {})
        for known, serdes in dict(watched.get(arn, {})).items():
            values.setdefault(known, serdes)
        return started.arn

    def succeed_callback(self, callback_id: str, result: str | None) -> None:
        self._calling.succeed(callback_id, result)

    def fail_callback(self, callback_id: str, error: ErrorObject | None) -> None:
        self._calling.fail(callback_id, error)

    def heartbeat_callback(self, callback_id: str) -> None:
        self._calling.heartbeat(callback_id)

    def stop(self, arn: str, error: ErrorObject | None) -> None:
        self._calling.stop(arn, error)

    def pause(self, arn: str) -> None:
        self._calling.pause(arn)

    def resume(self, arn: str) -> None:
        self._calling.resume(arn)

    def first_due(self) -> tuple[int, str] | None:
        """What is due first, the end of an execution not left out: the moment, and the execution."""
        found = self.node.store.due(TIME_MS_MAX, None, 1)
        return (found[0].wake_at_ms, found[0].execution_id) if found else None

    def got(self, arn: str, callback_id: str) -> None:
        """Whoever asks knows a callback, and may answer it."""
        self._got[callback_id] = (id_of(arn), who_acts())

    def let_go(self, arn: str, *, is_last: bool = False) -> bool:
        """Nothing is kept back here."""
        return False

    # --- waiting -------------------------------------------------------------------------------------------------

    def until(
        self, is_true: Callable[[], bool], *, wall_s: float, what: str, arn: str | None = None, settles: bool = False
    ) -> None:
        end_s = time.monotonic() + wall_s
        found = self._time
        while True:
            seen = found.version
            if is_true() and not (settles and arn is not None and self._is_busy(arn)):
                return
            if found.jump(seen, only_to=self._is_free):
                continue
            left_s = end_s - time.monotonic()
            if left_s <= 0 or found.is_vain(seen):
                raise WallTimeout(self._complaint(what, arn, wall_s if left_s <= 0 else None))
            found.wait(seen, left_s, settles=settles)

    def _is_busy(self, arn: str) -> bool:
        """Whether an invocation of this execution runs, and is not merely held up by a body of the author's."""
        execution_id = id_of(arn)
        is_running = any(each == execution_id for each, _due_ms in self.node.service.running())
        return is_running and not self._time.is_quiet

    def _is_free(self, due_ms: int) -> bool:
        """Whether no callback would time out by then that somebody else has got and may still answer."""
        me = who_acts()
        service = self.node.service
        return not any(
            moment is not None and moment <= due_ms
            for callback_id, (execution_id, who) in list(self._got.items())
            if who is not me
            for each in service.open_callbacks(execution_id)
            if each.callback_id == callback_id
            for moment in (each.timeout_ms, each.heartbeat_ms)
        )

    def _complaint(self, what: str, arn: str | None, wall_s: float | None) -> str:
        """What was waited for in vain, and what there is to wait for."""
        if wall_s is not None:
            text = f"waiting for {what}: waited {wall_s:g} s (wall_timeout) in vain"
        else:
            text = f"waiting for {what}: it is in vain to wait: nothing runs, and nothing will happen by itself"
        if not self._clock.auto:
            text += "; the clock is frozen, and no timer fires before clock.advance has moved it"
        return text if arn is None else f"{text}\n{tree_of(self.facts(arn), now_ms=self._clock.now_ms())}"

    # --- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self.node.service.close()
        end_s = time.monotonic() + (CLOSE_S if self.node.service.running() else 0.0)
        for worker in self._workers.values():
            if not worker.stop(max(0.0, end_s - time.monotonic())):
                log.warning("a handler was still running when its test ended; its thread is left behind")
        self._calling.close()
        self.node.stop(STOP_S)
        HANDS.dismiss()
        for arn in self._began:
            watched.pop(arn, None)


class ServerRunner(LocalRunner):
    """Runs durable functions at a real server on this machine, at `port` or a free one.

    `app` is a handler, handlers by the names of their functions, or a module or file (`orders.py`, `shop.orders:order`)
    whose durable functions are served, or `{}`; the first function is the one that `run` begins. What else can be given
    is what a LocalRunner takes. `store` may be `sqlite:///FILE`; without one the executions are in memory.

    An invocation's time-out is real here, of at least a second; everything else that has to do with time is modelled.
    """

    def __init__(self, app: "Handler | Mapping[str, Handler] | str", port: int = 0, **options: Any) -> None:
        functions = functions_of(app)
        super().__init__(next(iter(functions.values()), _nobody), **options)
        self._port = port
        self._clients: list[Any] = []
        self._functions = {name: (handler, None) for name, handler in functions.items()}

    @property
    def function(self) -> str:
        """The function that `run` begins: the first one. ValidationError if there is none yet."""
        if not self._functions:
            raise ValidationError("the server has no function yet; register_durable_function adds one")
        return next(iter(self._functions))

    @property
    def url(self) -> str:
        """Where the server is: `http://127.0.0.1:PORT`."""
        return str(self.backend.node.url)

    @property
    def console_url(self) -> str:
        """Where the server's web console is."""
        return f"{self.url}/console"

    @property
    def client(self) -> "Client":
        """A client of the server: `client.call("GetFunction", FunctionName=…)`."""
        found: Client = self.backend.client
        return found

    def boto3(self, service: str = "lambda", **options: Any) -> Any:
        """boto3's client of the server, which is closed with the runner; `options` are those of `boto3.client`.

        ModuleNotFoundError without boto3.
        """
        client = boto3_client(service, self.url, self.backend.node.settings.home.region, options)
        self._clients.append(client)
        return client

    def close(self) -> None:
        while self._clients:
            self._clients.pop().close()
        super().close()

    def deploy(self, new_handler: Handler) -> Self:
        name = self.function
        self._functions[name] = (as_durable(new_handler), self._functions[name][1])
        if self._local is not None:
            self._local.put(name, *self._functions[name])
        return self

    def invoke_once(self, input: Any = None, **how: Any) -> Any:  # noqa: A002
        raise ValidationError("a server keeps no invocation back; invoke_once is for a LocalRunner")

    def duplicate_checkpoint(self, operation: str, *, times: int = 1) -> Any:
        raise ValidationError("a worker sends each checkpoint once; duplicate_checkpoint is for a LocalRunner")

    def delay(self, seconds: float) -> None:
        raise ValidationError("checkpoints take real time at a server; delay is for a LocalRunner")

    def _put_functions(self, local: Any) -> None:
        for name, (handler, config) in self._functions.items():
            local.put(name, handler, config)

    def _backend_type(self) -> Any:
        from functools import partial

        return partial(ServerBackend, port=self._port)


def boto3_client(service: str, url: str, region: str, options: Mapping[str, Any]) -> Any:
    """boto3's client of a server on this machine, with an access key of no meaning and little patience."""
    try:
        import boto3
        from botocore.config import Config
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"boto3() needs the package boto3, which is not installed ({error}); `pip install boto3`, or use .client",
            name=error.name,
        ) from None
    given = {
        "endpoint_url": url,
        "region_name": region,
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
        "config": Config(retries={"total_max_attempts": 2, "mode": "standard"}),
        **options,
    }
    return boto3.client(service, **given)


@durable_execution(name="nobody")
def _nobody(event: Any, context: Any) -> None:
    """In the place of a server's first function, as long as there is none."""


def functions_of(app: "Handler | Mapping[str, Handler] | str") -> dict[str, Handler]:
    """The functions of an application by their names; ValidationError if it can't be one."""
    if isinstance(app, str):
        from perdure.worker.loading import load_functions

        return load_functions(app).functions
    if isinstance(app, Mapping):
        found = dict(app)
    elif callable(app):
        definition = definition_of(app)
        found = {definition.name if definition is not None else default_name(app): app}
    else:
        found = {}
    if (not found and app != {}) or not all(map(callable, found.values())):
        raise ValidationError(
            f"a server's app must be a handler, handlers by name, or a module's or file's name, not {app!r:.200}"
        )
    return found
