"""The client of one invocation in a test: it can be dead, late, and tell of its end."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from perdure.engine import commands as cmd
from perdure.model.error import ErrorObject, ServiceError
from perdure.model.function import target_of
from perdure.model.operation import Operation, OperationUpdate
from perdure.sdk.client import Answer
from perdure.service.invocation import Invocation
from perdure.testing.driving import ProcessDied
from perdure.worker.client import InProcessClient, as_checkpoint_error

if TYPE_CHECKING:
    from perdure.testing.faults import Script
    from perdure.testing.local import LocalBackend


class LocalClient(InProcessClient):
    """`is_dead` says that the process of the invocation is; `is_lost` that the service knows. `number` counts the
    checkpoints with updates.
    """

    def __init__(self, backend: "LocalBackend", invocation: Invocation) -> None:
        super().__init__(backend.service, invocation)
        self._backend = backend
        self._clock = backend.own_clock
        self.invocation = invocation
        self.is_dead = False
        self.is_lost = False
        self.cause = "its process died"
        self.number = 0
        self.script: Script | None = None

    def checkpoint(self, updates: Sequence[OperationUpdate]) -> Answer:
        if self.is_dead:
            raise ProcessDied(self.cause)
        if updates:
            self.number += 1
        delay_s = self._backend.plan.delay_s
        if delay_s:
            self._backend.pace.let_pass(delay_s)
            if self.is_dead:
                raise ProcessDied(self.cause)
        updates = self._on_our_clock(updates)
        if self.script is not None:
            token = f"{self.invocation.epoch}-{self.number}"
            return self.script.checkpoint(updates, self.number, self._send, token)
        return super().checkpoint(updates)

    def recorded(self) -> Sequence[Operation]:
        """The operations of the execution as they are on disk."""
        return self._service.operations(self.invocation.execution_id)

    def _send(self, updates: Sequence[OperationUpdate], client_token: str, *, is_first: bool = False) -> Answer:
        """Send updates as a client does that can send them again; `is_first`: it will."""
        try:
            answer = self._service.checkpoint(self.invocation.execution_id, self.token, updates, client_token)
        except ServiceError as error:
            raise as_checkpoint_error(error) from error
        if answer.token is None:
            return Answer(answer.operations, may_go_on=False)
        if not is_first:
            self.token = answer.token
        return Answer(answer.operations, may_go_on=not self.is_closing)

    def _on_our_clock(self, updates: Sequence[OperationUpdate]) -> Sequence[OperationUpdate]:
        """What happened, happened now: the handler knows the machine's clock, which is not the runner's."""
        if self._clock.is_real or self._clock.now_ms() == self.invocation.start_ms:
            return updates
        return [replace(update, at_ms=None) for update in updates]

    def end(self, outcome: cmd.Outcome, updates: Sequence[OperationUpdate]) -> None:
        backend, invocation = self._backend, self.invocation
        try:
            self._die_if_due(outcome, updates)
            if not self.is_dead:
                super().end(outcome, self._on_our_clock(updates))
                return
            if not self.is_lost:
                self.is_lost = True
                backend.service.lose_invocation(invocation, ErrorObject(self.cause, "Runtime.ExitError"))
            backend.release(target_of(invocation.function, invocation.version))
            backend.service.fill_places()
        finally:
            backend.desk.end(invocation)

    def _die_if_due(self, outcome: cmd.Outcome, updates: Sequence[OperationUpdate]) -> None:
        if self.script is not None:
            try:
                self.script.ending(outcome, updates)
            except ProcessDied:
                self.is_dead = True

    def die(self, cause: str) -> None:
        """The process is dead from here on. Raises ProcessDied."""
        self.is_dead = True
        self.cause = f"the process died, as the test wanted it: {cause}"
        raise ProcessDied(self.cause)
