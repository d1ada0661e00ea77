"""A runner of functions that are deployed elsewhere: at a Perdure server, or on AWS Lambda."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from perdure.client.errors import ClientError
from perdure.model.error import ErrorObject
from perdure.model.execution import ExecutionStatus
from perdure.model.operation import Operation
from perdure.testing.backend import WallTimeout
from perdure.testing.calling import Calling, client_at, place_of
from perdure.testing.facts import Facts
from perdure.testing.handles import Execution
from perdure.testing.histories import fold_operations
from perdure.testing.runner import WALL_TIMEOUT_S, Runner
from perdure.testing.tree import tree_of

if TYPE_CHECKING:
    from perdure.client.client import Client
    from perdure.model.event import HistoryEvent
    from perdure.testing.result import DurableFunctionTestResult, Result

POLL_S: Final = 0.2
POLL_S_MAX: Final = 2.0
NEWS_S: Final = 2
"""So long, in whole seconds, a server may keep the question whether something has happened."""


class RemoteBackend:
    """Executions at a server, which are looked at again and again: more seldom the longer nothing happens.

    A Perdure server is asked to answer when something has happened, and does at once.
    """

    clock = None

    def __init__(
        self,
        client: "Client",
        *,
        qualifier: str | None = None,
        poll_s: float = POLL_S,
        poll_s_max: float = POLL_S_MAX,
    ) -> None:
        self.calling = Calling(client, qualifier=qualifier)
        self._poll_s = poll_s
        self._poll_s_max = max(poll_s, poll_s_max)
        self._began: dict[str, float] = {}
        self._closed = threading.Event()

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
        arn = self.calling.start(
            function, payload, name=name, tenant_id=tenant_id, execution_timeout_s=execution_timeout_s
        )
        self._began.setdefault(arn, started_s)
        return arn

    def status(self, arn: str) -> ExecutionStatus:
        return self.calling.status(arn)

    def facts(self, arn: str) -> Facts:
        now_s = time.monotonic()
        return msgspec.structs.replace(self.calling.facts(arn), wall_s=now_s - self._began.get(arn, now_s))

    def operations(self, arn: str) -> Sequence[Operation]:
        return fold_operations(self.history(arn))

    def history(self, arn: str) -> "Sequence[HistoryEvent]":
        return self.calling.history(arn).events

    def invocations(self, arn: str) -> int:
        return sum(event["EventType"] == "InvocationCompleted" for event in self.calling.events(arn))

    def until(
        self, is_true: Callable[[], bool], *, wall_s: float, what: str, arn: str | None = None, settles: bool = False
    ) -> None:
        end_s = time.monotonic() + wall_s
        pause_s = self._poll_s
        position = self.calling.wait_for_news(arn, None, 0) if arn is not None else None
        while not is_true():
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise WallTimeout(self._complaint(what, arn, wall_s))
            if arn is not None and position is not None:
                position = self.calling.wait_for_news(arn, position, max(1, min(NEWS_S, int(left_s))))
            else:
                self._closed.wait(min(pause_s, left_s))
                pause_s = min(pause_s * 1.5, self._poll_s_max)
        if settles and arn is not None:
            self._settle(arn, end_s)

    def _settle(self, arn: str, end_s: float) -> None:
        """Return once the invocation has ended that did what was waited for, or goes on without a word."""
        while time.monotonic() < end_s:
            count = len(self.calling.events(arn, is_with_data=False))
            view = self.calling.view(arn)
            if not view.is_running:
                return
            self._closed.wait(self._poll_s)
            if len(self.calling.events(arn, is_with_data=False)) == count:
                return

    def _complaint(self, what: str, arn: str | None, wall_s: float) -> str:
        text = f"waiting for {what} at {self.calling.client.endpoint}: waited {wall_s:g} s (wall_timeout) in vain"
        if arn is None:
            return text
        try:
            found = self.facts(arn)
        except ClientError as error:
            return f"{text}; what {arn} waits for can't be seen: {error}"
        return f"{text}\n{tree_of(found, now_ms=time.time_ns() // 1_000_000)}"

    def succeed_callback(self, callback_id: str, result: str | None) -> None:
        self.calling.succeed(callback_id, result)

    def fail_callback(self, callback_id: str, error: ErrorObject | None) -> None:
        self.calling.fail(callback_id, error)

    def heartbeat_callback(self, callback_id: str) -> None:
        self.calling.heartbeat(callback_id)

    def stop(self, arn: str, error: ErrorObject | None) -> None:
        self.calling.stop(arn, error)

    def pause(self, arn: str) -> None:
        self.calling.pause(arn)

    def resume(self, arn: str) -> None:
        self.calling.resume(arn)

    def close(self) -> None:
        self._closed.set()
        self.calling.close()


class RemoteRunner(Runner):
    """Runs a function that is deployed at a Perdure server or on AWS Lambda, in real time.

    `function` is its name or ARN; `qualifier` a version or an alias, `$LATEST` unless the name has one. `endpoint` is
    the server's URL, or else PERDURE_ENDPOINT, AWS_ENDPOINT_URL_LAMBDA, AWS_ENDPOINT_URL, or AWS Lambda in `region`.
    Requests are signed with the access key of the environment, if there is one: PERDURE_ACCESS_KEY_ID or
    AWS_ACCESS_KEY_ID and what belongs to it, or that of AWS_PROFILE.

    A server that can't be reached raises ClientError, what it refuses ServiceError.
    """

    def __init__(
        self,
        function: str,
        *,
        endpoint: str | None = None,
        qualifier: str | None = None,
        region: str | None = None,
        wall_timeout: float = WALL_TIMEOUT_S,
        poll_interval: float = POLL_S,
    ) -> None:
        super().__init__(wall_timeout)
        self._function = function
        self._backend = RemoteBackend(
            client_at(place_of(endpoint, region, os.environ)), qualifier=qualifier, poll_s=poll_interval
        )

    @property
    def backend(self) -> RemoteBackend:
        return self._backend

    @property
    def function(self) -> str:
        return self._function

    @property
    def client(self) -> "Client":
        """The client that asks the server."""
        return self._backend.calling.client

    def close(self) -> None:
        self._backend.close()


class DurableFunctionCloudTestRunner(RemoteRunner):
    """The same under its official name, with the official calls. Results are texts: `json.loads(result.result)`.

    Source of the names and defaults: aws-durable-execution-sdk-python-testing 1.4.
    """

    def __init__(
        self,
        function_name: str,
        region: str = "us-west-2",
        lambda_endpoint: str | None = None,
        poll_interval: float = 1.0,
    ) -> None:
        super().__init__(function_name, endpoint=lambda_endpoint, region=region, poll_interval=poll_interval)

    @property
    def result_class(self) -> "type[Result]":
        from perdure.testing.result import DurableFunctionTestResult

        return DurableFunctionTestResult

    def run(  # type: ignore[override]
        self,
        input: Any = None,  # noqa: A002 - the official name
        timeout: float = 60,
    ) -> "DurableFunctionTestResult":
        """Begin an execution and return its result. TimeoutError if it has not ended after `timeout` seconds."""
        return cast("DurableFunctionTestResult", self.finish(self.start(input), wall_timeout=timeout))

    def run_async(self, input: Any = None, timeout: float = 60) -> Execution:  # type: ignore[override]  # noqa: A002
        """Begin an execution and return its ARN."""
        return self.start(input)

    def pause_execution(self, execution_arn: str, timeout: float = 60) -> None:
        """Officially not offered here, and so not here. `start(…).pause()` of a RemoteRunner is."""
        raise NotImplementedError("the cloud runner can't pause an execution; RemoteRunner's start(...).pause() can")

    def resume_execution(self, execution_arn: str) -> None:
        """As `pause_execution`."""
        raise NotImplementedError("the cloud runner can't resume an execution; RemoteRunner's start(...).resume() can")
