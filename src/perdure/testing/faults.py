"""Faults that a test wants: processes that die, checkpoints that are lost, come twice, are refused or are slow."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from perdure.engine import commands as cmd
from perdure.exceptions import CheckpointError, DurableApiErrorCategory
from perdure.model.operation import Operation, OperationAction, OperationUpdate
from perdure.sdk.client import Answer
from perdure.testing.driving import Places, ProcessDied
from perdure.testing.mocks import Mock

Lost = Literal["answer", "request"]

_ENDS: Final = frozenset({OperationAction.SUCCEED, OperationAction.FAIL, OperationAction.RETRY})
_THROTTLED: Final = "TooManyRequestsException"


class Fault:
    """One fault, and how many times it is still to happen."""

    def __init__(self, kind: str, path: str = "", *, at_checkpoint: int = 0, times: int = 1, lost: str = "") -> None:
        self.kind = kind
        self.path = path
        self.at_checkpoint = at_checkpoint
        self.left = times
        self.lost = lost
        self.happened = 0

    def __repr__(self) -> str:
        what = f" {self.path!r}" if self.path else f" at checkpoint {self.at_checkpoint}" if self.at_checkpoint else ""
        return f"<{self.kind}{what}: happened {self.happened} times, {self.left} left>"


class Plan:
    """The mocks and faults of a runner."""

    def __init__(self) -> None:
        self.mocks: list[Mock] = []
        self.faults: list[Fault] = []
        self.delay_s = 0.0
        self.is_always_replaying = False
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self.mocks or self.faults or self.is_always_replaying)

    def take(self, kind: str, is_meant: Callable[[Fault], bool]) -> Fault | None:
        """The fault of this kind that happens now; it is to happen once less."""
        with self._lock:
            for fault in self.faults:
                if fault.kind == kind and fault.left > 0 and is_meant(fault):
                    fault.left -= 1
                    fault.happened += 1
                    return fault
        return None

    def has(self, kind: str) -> bool:
        return any(fault.kind == kind and fault.left > 0 for fault in self.faults)

    def script(self, client: Any) -> "Script":
        """What happens to the invocation of this client."""
        return Script(self, client)


class Script:
    """What happens to one invocation: the hooks of its driver, and of its client. `die` has its process die."""

    def __init__(self, plan: Plan, client: Any) -> None:
        self._plan = plan
        self._client = client
        self.bind({})

    def bind(self, records: dict[str, Operation]) -> dict[str, Operation]:
        """Give it what the invocation knows of earlier operations; return what that is to use."""
        self.records = records
        self.places = Places(records)
        return records

    # --- the driver ----------------------------------------------------------------------------------------------

    def starting(self, update: OperationUpdate) -> None:
        self.check()
        self.places.begin(update)
        self._die_if("crash before", update.id)

    def ended(self, operation_id: str) -> None:
        self.check()
        self._die_if("crash after", operation_id)

    def has_to_record(self, operation_id: str) -> bool:
        return any(
            fault.kind == "crash after" and fault.left > 0 and self.places.matches(fault.path, operation_id)
            for fault in self._plan.faults
        )

    def instead(
        self, operation_id: str, attempt: int, body: Callable[[], Any], function: Callable[..., Any]
    ) -> tuple[Callable[[], Any], Callable[..., Any]]:
        self.check()
        for mock in self._plan.mocks:
            if self.places.matches(mock.path, operation_id):
                return mock.body(operation_id, attempt, body, function)
        return body, function

    def _die_if(self, kind: str, operation_id: str) -> None:
        fault = self._plan.take(kind, lambda each: self.places.matches(each.path, operation_id))
        if fault is not None:
            self._client.die(f"{kind} {fault.path!r}")

    def check(self) -> None:
        """Nothing happens in a dead process; one that is to die after something that ended elsewhere dies now."""
        if self._client.is_dead:
            raise ProcessDied("its process is dead")
        if self._plan.has("crash after"):
            for record in list(self.records.values()):
                if record.is_terminal:
                    self._die_if("crash after", record.id)

    def ending(self, outcome: cmd.Outcome, updates: Sequence[OperationUpdate]) -> None:
        """The handler has returned, or can't go on; that, and the updates, are about to be recorded."""
        self.check()

    # --- the client ----------------------------------------------------------------------------------------------

    def checkpoint(
        self, updates: Sequence[OperationUpdate], number: int, send: Callable[..., Answer], client_token: str
    ) -> Answer:
        """A checkpoint with what befalls it; `send` sends it, `number` counts those with updates, from 1."""
        plan = self._plan
        if plan.is_always_replaying and any(update.action in _ENDS for update in updates):
            self._client.is_closing = True  # the worker hands the invocation back, and gets the next one
        if plan.take("crash", lambda fault: fault.at_checkpoint == number) is not None:
            self._client.die(f"crash at checkpoint {number}")
        if plan.take("throttle", lambda _: True) is not None:
            raise CheckpointError(
                "Rate exceeded", DurableApiErrorCategory.INVOCATION, {"Code": _THROTTLED, "Message": "Rate exceeded"}
            )
        lost = self._befalls("lose", updates)
        if lost is not None:
            if lost.lost == "answer":
                send(updates, client_token)
            text = f"the {lost.lost} of a checkpoint was lost, as the test wanted it"
            raise CheckpointError(text, DurableApiErrorCategory.INVOCATION, {"Code": "ServiceException"})
        if self._befalls("duplicate", updates) is not None:
            first = send(updates, client_token, is_first=True)
            again = send(updates, client_token)
            assert {each.id for each in again.operations} == {each.id for each in first.operations}
            return again
        return send(updates, client_token)

    def _befalls(self, kind: str, updates: Sequence[OperationUpdate]) -> Fault | None:
        return self._plan.take(
            kind, lambda fault: any(self.places.matches(fault.path, update.id) for update in updates)
        )
