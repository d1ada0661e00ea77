"""Two SDKs on one ground: one source, run by the official SDK or by Perdure's, over the real service."""

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final
from unittest.mock import patch

import aws_durable_execution_sdk_python.state as official_state

from perdure.engine import commands as cmd
from perdure.model.error import ErrorObject
from perdure.sdk import entry
from perdure.sdk.errors import error_object
from perdure.service.invocation import Call, Invocation
from support.local import Local, Outcome
from support.remote import Json, WireService, outcome_of, over_json

OFFICIAL_ROOT: Final = "aws_durable_execution_sdk_python"
IN_2100_MS: Final = 4_102_444_800_000
"""Where the ground's clock begins: what is due is in the future for whoever looks at the machine's clock, so that an
SDK that would look for itself whether something is due never does: only the ground's clock decides."""
OFFICIAL_POLL_S: Final = 0.005
"""So often the official SDK looks whether it may stop; 0.1 by itself, which every invocation has to wait out (2.4)."""


class Sdk:
    """One of the two: its import root."""

    def __init__(self, root: str) -> None:
        self.root = root

    def __repr__(self) -> str:
        return self.root

    def module(self, name: str) -> Any:
        return importlib.import_module(f"{self.root}.{name}")

    def load(self, source: str, name: str, **given: Any) -> dict[str, Any]:
        """What a source defines that is written for the official import root, executed with this root instead.

        `given` are names that the source finds defined.
        """
        text = re.sub(rf"\b{OFFICIAL_ROOT}\b", self.root, source)
        names: dict[str, Any] = {"__name__": name, **given}
        exec(compile(text, f"{name}.py", "exec"), names)
        return names

    def invoke(self, handler: Callable[[Any, Any], Any], event: Json, boto3: Any) -> Json:
        """One invocation, with a client of this SDK's own over something like boto3."""
        execution, service = self.module("execution"), self.module("lambda_service")
        given = execution.DurableExecutionInvocationInput.from_json_dict(event)
        with_client = execution.DurableExecutionInvocationInputWithClient.from_durable_execution_invocation_input(
            given, service.LambdaClient(boto3)
        )
        with patch.object(entry, "_linger", lambda: None):
            return over_json(handler(with_client, None))


OFFICIAL: Final = Sdk(OFFICIAL_ROOT)
PERDURE: Final = Sdk("perdure")


@contextmanager
def quick_official_sdk() -> Iterator[None]:
    """The official SDK without the tenth of a second at the end of each invocation."""
    with patch.object(official_state, "_STOP_SIGNAL_POLL_SECONDS", OFFICIAL_POLL_S):
        yield


class Death(ConnectionError):
    """What a process sees of its own death: none of its calls arrives any more."""


class Boto3:
    """boto3's Lambda client for one process, which dies once `updates_max` updates are recorded.

    A process whose `hears_answer` dies when it wants to record one more; another one before it hears of the last.
    What came in the same call is recorded up to there: it might as well have been sent in calls of its own.
    """

    def __init__(self, wire: WireService, updates_max: int | None, *, hears_answer: bool) -> None:
        self.wire = wire
        self.left = updates_max
        self.hears_answer = hears_answer
        self.updates: list[Json] = []
        self.is_dead = False

    def checkpoint_durable_execution(self, **parameters: Any) -> Json:
        self._live()
        body = over_json(parameters)
        wanted: list[Json] = body.get("Updates") or []
        allowed = wanted if self.left is None else wanted[: self.left]
        is_last = self.left is not None and bool(wanted) and len(wanted) > self.left
        if self.left is not None and wanted:
            is_last = is_last or (len(wanted) == self.left and not self.hears_answer)
            self.left -= len(allowed)
        body["Updates"] = allowed
        answer: Json = {}
        if allowed or not wanted:
            answer = self.wire.checkpoint(body.pop("DurableExecutionArn"), body)
            self.updates += allowed
        if is_last:
            self.is_dead = True
        self._live()
        return dict(with_moments(answer))

    def get_durable_execution_state(self, **parameters: Any) -> Json:
        self._live()
        arn, token = parameters["DurableExecutionArn"], parameters["CheckpointToken"]
        return dict(with_moments(self.wire.state(arn, token, parameters["Marker"], parameters["MaxItems"])))

    def _live(self) -> None:
        if self.is_dead:
            raise Death("this process is dead")


def with_moments(value: Any, key: str = "") -> Any:
    """An answer with its times as boto3 has them."""
    if isinstance(value, dict):
        return {name: with_moments(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [with_moments(one) for one in value]
    if key.endswith("Timestamp") and isinstance(value, (int, float)):
        return datetime.fromtimestamp(value, tz=UTC)
    return value


class Ground(Local):
    """The function `main` of a source, among other functions, run by one SDK or by both in turn.

    `crashes` are the numbers of updates of `main`'s executions, over all, after which its process dies. `sdk_of` says
    which SDK runs the invocation of this number, from 1.
    """

    def __init__(
        self,
        sources: Mapping[Sdk, Mapping[str, Callable[..., Any]]],
        sdk_of: "Callable[[Ground], Sdk] | Sdk",
        *,
        crashes: Mapping[int, bool] | None = None,
        page: int = 1000,
        **more: Any,
    ) -> None:
        super().__init__(functions=sources[PERDURE], **more)
        self.clock.now = IN_2100_MS
        self.sources = sources
        self.sdk_of = sdk_of
        self.crashes = dict(crashes or {})
        self.updates = 0
        self.deaths = 0
        self.wire = WireService(self.service, page)
        self.answers: list[Json] = []
        self.ran_by: list[Sdk] = []

    def sdk(self) -> Sdk:
        return self.sdk_of if isinstance(self.sdk_of, Sdk) else self.sdk_of(self)

    def pump_one(self) -> None:
        work = self.queue.work[0]
        if isinstance(work, Call):
            super().pump_one()
            return
        self.queue.work.popleft()
        self.invocations += 1
        sdk = self.sdk()
        self.ran_by.append(sdk)
        boto3 = self._process(work)
        outcome = self._outcome(sdk, work, boto3)
        if work.function == "main":
            self.updates += len(boto3.updates)
        self.deaths += boto3.is_dead
        self.service.end_invocation(work, self.wire.tokens[work.execution_id], outcome)

    def _process(self, work: Invocation) -> Boto3:
        upcoming = [number for number in self.crashes if number > self.updates]
        if work.function != "main" or not upcoming:
            return Boto3(self.wire, None, hears_answer=True)
        number = min(upcoming)
        return Boto3(self.wire, number - self.updates, hears_answer=self.crashes[number])

    def _outcome(self, sdk: Sdk, work: Invocation, boto3: Boto3) -> cmd.Outcome:
        event = over_json(self.wire.event_of(work))
        try:
            answer = sdk.invoke(self.sources[sdk][work.function], event, boto3)
        except Exception as error:
            return cmd.Crashed(_DEATH if boto3.is_dead else error_object(error))
        if boto3.is_dead:
            return cmd.Crashed(_DEATH)
        self.answers.append(answer)
        return outcome_of(answer)

    def run_answering(self, event: Any, answer: "Callable[[Ground, Any], bool]", *, name: str = "run") -> Outcome:
        """Run an execution over its waits to its end; `answer(ground, callback)` completes open callbacks, or not.

        It says whether it did. What nobody answers waits for its time-out.
        """
        execution_id = self.start(event, name=name, function="main")
        while True:
            self.pump()
            answered = [answer(self, callback) for callback in self.service.open_callbacks(execution_id)]
            if any(answered):
                continue
            due_ms = [due_ms for one in self.wire.tokens if (due_ms := self.next_due_ms(one)) is not None]
            if self.service.get(execution_id).end_ms is not None or not due_ms:
                return Outcome(self, execution_id)
            self.clock.now = max(self.clock.now, min(due_ms))
            self.service.tick()


_DEATH: Final = ErrorObject("the process died", "Death")


def load_both(source: str, name: str, **given: Any) -> dict[Sdk, dict[str, Callable[..., Any]]]:
    """The functions of a source, for a `Ground`: those that it marks as durable, and its dictionary `FUNCTIONS`."""
    found: dict[Sdk, dict[str, Callable[..., Any]]] = {}
    for sdk in (OFFICIAL, PERDURE):
        names = sdk.load(source, name, **given)
        found[sdk] = {"main": names["handler"], **names.get("FUNCTIONS", {})}
    return found
