"""The worker of a server in a test: it runs mocks, dies where that is wanted, and notes how values are written."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.engine import commands as cmd
from perdure.model.error import ErrorObject
from perdure.model.operation import OperationUpdate
from perdure.sdk.client import Answer, Client
from perdure.sdk.connection import Endpoint
from perdure.sdk.drivers.blocking import BlockingDriver
from perdure.sdk.drivers.linger import Linger
from perdure.sdk.invocation import DriverOf
from perdure.sdk.journal import Journal
from perdure.sdk.remote import WireLink
from perdure.serdes import watched
from perdure.service.invocation import Invocation
from perdure.testing.driving import ProcessDied, hooked
from perdure.testing.faults import Plan, Script
from perdure.wire.workers import Ended
from perdure.worker.code import Code
from perdure.worker.remote import Received, RemoteInvocationClient, RemoteWorker
from perdure.worker.threads import THREADS

if TYPE_CHECKING:
    from perdure.sdk.drivers.loop import LoopDriver

D = TypeVar("D", bound="BlockingDriver | LoopDriver")


class TestedClient(RemoteInvocationClient):
    """The client of one invocation. `is_dead` says that its process is, `number` counts checkpoints with updates."""

    __test__ = False  # pytest takes its name for that of tests

    def __init__(
        self, invocation: Received, link: WireLink, ended: Callable[[RemoteInvocationClient, Ended], None], plan: Plan
    ) -> None:
        super().__init__(invocation, link, ended)
        self.is_dead = False
        self.cause = "its process died"
        self.number = 0
        self.script = Script(plan, self) if plan else None

    def checkpoint(self, updates: Sequence[OperationUpdate]) -> Answer:
        if self.is_dead:
            raise ProcessDied(self.cause)
        if self.script is None:
            return super().checkpoint(updates)
        if updates:
            self.number += 1
        return self.script.checkpoint(updates, self.number, self._send, "")

    def _send(self, updates: Sequence[OperationUpdate], _client_token: str, *, is_first: bool = False) -> Answer:
        """Send updates; `is_first` if they will be sent again, which at this client is one request."""
        return Answer(()) if is_first else super().checkpoint(updates)

    def end(self, outcome: cmd.Outcome, updates: Sequence[OperationUpdate]) -> None:
        if self.script is not None:
            try:
                self.script.check()
            except ProcessDied:
                self.is_dead = True
        if self.is_dead:
            outcome, updates = cmd.Crashed(ErrorObject(self.cause, "Runtime.ExitError")), ()
        super().end(outcome, updates)

    def die(self, cause: str) -> None:
        """The process is dead from here on. Raises ProcessDied."""
        self.is_dead = True
        self.cause = f"the process died, as the test wanted it: {cause}"
        raise ProcessDied(self.cause)


class TestedWorker(RemoteWorker):
    """Runs handlers as any other worker does, with the mocks and faults of a plan."""

    __test__ = False

    def __init__(
        self,
        endpoint: Endpoint,
        handlers: Mapping[str, Callable[..., Any]],
        code: Code,
        *,
        plan: Plan,
        given_driver_of: DriverOf | None = None,
        **options: Any,
    ) -> None:
        self._plan = plan
        self._given_driver_of = given_driver_of or BlockingDriver
        super().__init__(
            endpoint,
            handlers,
            code,
            threads=THREADS,
            driver_of=self._driver,
            loop_driver_of=self._loop_driver,
            **options,
        )

    def _client_of(self, invocation: Invocation) -> RemoteInvocationClient:
        assert isinstance(invocation, Received)
        watched.setdefault(invocation.arn, {})
        client = TestedClient(invocation, self._link, self._ended, self._plan)
        self._clients[invocation.request_id] = client
        return client

    def _driver(self, client: Client, journal: Journal, linger: Linger | None) -> BlockingDriver:
        return _prepared(self._given_driver_of(client, journal, linger), client, journal)

    def _loop_driver(self, client: Client, journal: Journal) -> "LoopDriver":
        from perdure.sdk.drivers.loop import LoopDriver  # asyncio is not for everybody

        return _prepared(LoopDriver(client, journal), client, journal)


def _prepared(driver: D, client: Client, journal: Journal) -> D:
    script = client.script if isinstance(client, TestedClient) else None
    if script is None:
        return driver
    script.bind(journal.records)
    return hooked(driver, script)
