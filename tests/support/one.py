"""One execution on the bare engine: commands go in, events are applied and kept, time moves when it is told to."""

from typing import Any

from perdure.engine import ExecutionState, apply, commands as cmd, decide
from perdure.engine.adopt import adopt
from perdure.engine.terms import Terms
from perdure.model import event as ev
from perdure.model.operation import (
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
)
from support.ids import SeededIds

T0 = 1_764_547_200_000


def no_targets(update: OperationUpdate) -> cmd.Target:
    raise AssertionError(f"nobody invokes {update.function_name} in this test")


class One:
    """An execution named as one likes; `token` is always the one that may write."""

    def __init__(self, *, terms: Terms | None = None, invoke: bool = True, seed: int = 0, **start: Any) -> None:
        self.ids = SeededIds(seed)
        self.terms = terms or Terms()
        self.now_ms = T0
        self.journal: list[ev.Event] = []
        self.effects: list[cmd.Effect] = []
        self.answer: cmd.Decision | None = None
        self.live: ExecutionState | None = None
        self.resolve: cmd.Resolve = no_targets
        start = {"execution_id": self.ids.execution_id(T0), "function": "fn", "version": "$LATEST", **start}
        self.do(cmd.Start(invoker="me" if invoke else None, **start))

    @property
    def state(self) -> ExecutionState:
        assert self.live is not None
        return self.live

    @property
    def head(self) -> Any:
        return self.state.head

    @property
    def token(self) -> cmd.Token:
        now = self.head.in_flight
        assert now is not None, "no invocation is in flight"
        return cmd.Token(now.epoch, now.count)

    def do(self, command: cmd.Command) -> cmd.Decision:
        """Decide and apply; raises what the decision refuses, after applying what happened anyway."""
        decision = decide(self.live, command, self.now_ms, self.ids, self.terms)
        if self.live is None:
            self.live = apply(None, decision.events[0])
        if decision.draft is not None:
            adopt(self.live, decision.draft)
        else:
            for event in decision.events:
                apply(self.live, event)
        self.journal += decision.events
        self.effects = list(decision.effects)
        self.answer = decision
        if decision.refusal is not None:
            raise decision.refusal
        return decision

    def checkpoint(self, *updates: OperationUpdate, token: cmd.Token | None = None, **more: Any) -> cmd.Decision:
        return self.do(cmd.Checkpoint(token=token or self.token, updates=updates, resolve=self.resolve, **more))

    def end(self, outcome: cmd.Outcome | None = None, *updates: OperationUpdate, invoke: bool = False) -> cmd.Decision:
        return self.do(
            cmd.EndInvocation(
                token=self.token,
                outcome=outcome or cmd.Pending(),
                updates=updates,
                resolve=self.resolve,
                invoker="me" if invoke else None,
            )
        )

    def wake(self, *, invoke: bool = True) -> cmd.Decision:
        return self.do(cmd.Wake(invoker="me" if invoke else None))

    def after(self, seconds: float, *, invoke: bool = True) -> cmd.Decision:
        """Let time pass and somebody look."""
        self.now_ms += int(seconds * 1000)
        return self.wake(invoke=invoke)

    def op(self, operation_id: str) -> Any:
        return self.state.operations[operation_id]

    def status(self, operation_id: str) -> OperationStatus:
        operation: Operation = self.state.operations[operation_id]
        return operation.status

    def shown(self) -> list[str]:
        """The history's event types, as operators see them."""
        return [type(event).__name__ for event in self.journal if event.is_shown]


def update(operation_id: str, kind: str, action: str, **more: Any) -> OperationUpdate:
    return OperationUpdate(operation_id, OperationType(kind), OperationAction(action), **more)


def step(operation_id: str, action: str, **more: Any) -> OperationUpdate:
    return update(operation_id, "STEP", action, **more)


def context(operation_id: str, action: str, **more: Any) -> OperationUpdate:
    return update(operation_id, "CONTEXT", action, **more)


def wait(operation_id: str, seconds: int = 60, **more: Any) -> OperationUpdate:
    return update(operation_id, "WAIT", "START", wait_s=seconds, **more)


def callback(operation_id: str, **more: Any) -> OperationUpdate:
    return update(operation_id, "CALLBACK", "START", **more)


def invoke(operation_id: str, function: str, **more: Any) -> OperationUpdate:
    return update(operation_id, "CHAINED_INVOKE", "START", function_name=function, **more)
