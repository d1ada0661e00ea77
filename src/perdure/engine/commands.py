"""What the engine can be asked (commands), and what it answers (decisions with effects)."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from perdure.engine.draft import Draft
from perdure.model.error import ErrorObject, ServiceError
from perdure.model.event import Event
from perdure.model.execution import DurableConfig, ParentLink
from perdure.model.operation import Operation, OperationUpdate


class Target(msgspec.Struct, frozen=True):
    """What a chained invoke was resolved to: a function of this service, or the error that says why not."""

    name: str
    version: str
    config: DurableConfig | None = None
    refusal: ErrorObject | None = None

    @property
    def is_durable(self) -> bool:
        return self.config is not None


Resolve: TypeAlias = Callable[[OperationUpdate], Target]
"""Look the target of a CHAINED_INVOKE START up; InvalidParameterValue if the reference can't be read."""


class Token(msgspec.Struct, frozen=True):
    """What a checkpoint token says: the invocation it belongs to, and how many checkpoints came before."""

    epoch: int
    count: int


# --- how an invocation can end -----------------------------------------------------------------------------------


class Succeeded(msgspec.Struct, frozen=True):
    """The handler returned; `result` is JSON text, or None for no payload."""

    result: str | None = None


class Failed(msgspec.Struct, frozen=True):
    """The handler's answer is that the execution has failed."""

    error: ErrorObject | None = None


class Pending(msgspec.Struct, frozen=True):
    """The handler can't go on until something happens."""


class Crashed(msgspec.Struct, frozen=True):
    """No valid answer: it raised, its process ended (`is_lost`), or its time ran out. It is tried again."""

    error: ErrorObject
    is_lost: bool = False


class Released(msgspec.Struct, frozen=True):
    """The worker is closing and hands the execution back at a clean point."""


Outcome: TypeAlias = Succeeded | Failed | Pending | Crashed | Released


# --- commands ----------------------------------------------------------------------------------------------------


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """`invoker` is the owner that has a free place for an invocation of this execution, None if nobody has."""

    invoker: str | None = None


class Start(Command, frozen=True, kw_only=True):
    """Begin an execution. The only command for an execution that does not exist yet."""

    execution_id: str
    function: str
    version: str
    name: str | None = None
    input: str | None = None
    config: DurableConfig = DurableConfig()
    parent: ParentLink | None = None
    tenant_id: str | None = None
    trace_header: str | None = None


class Checkpoint(Command, frozen=True, kw_only=True):
    token: Token
    updates: Sequence[OperationUpdate]
    resolve: Resolve
    client_token: str | None = None


class EndInvocation(Command, frozen=True, kw_only=True):
    """An invocation has ended. `updates` are what it had not sent yet; they are applied before its end."""

    token: Token
    outcome: Outcome
    resolve: Resolve
    updates: Sequence[OperationUpdate] = ()


class LoseInvocation(Command, frozen=True, kw_only=True):
    """The worker of the invocation with this epoch is gone, or its lease has run out."""

    epoch: int
    error: ErrorObject


class Wake(Command, frozen=True, kw_only=True):
    """Somebody looks at the execution: what is due happens, what is owed is done, and it is invoked if it can go on."""


class CompleteCallback(Command, frozen=True, kw_only=True):
    """`error` None means success; a success without a `result` leaves the result absent."""

    callback_id: str
    result: str | None = None
    error: ErrorObject | None = None
    is_failure: bool = False


class HeartbeatCallback(Command, frozen=True, kw_only=True):
    callback_id: str


class EndChainedInvoke(Command, frozen=True, kw_only=True):
    """The target has ended. `child_id` is that of a durable target, and must be the one that was started."""

    operation_id: str
    outcome: "ChildOutcome"
    child_id: str | None = None


class ConfirmChild(Command, frozen=True, kw_only=True):
    """The child execution of this operation is on disk."""

    operation_id: str


class ConfirmParentTold(Command, frozen=True, kw_only=True):
    """The parent has recorded this execution's outcome, or is gone."""


class Stop(Command, frozen=True, kw_only=True):
    error: ErrorObject | None = None


class Pause(Command, frozen=True, kw_only=True):
    reason: str | None = None
    is_timeout_paused: bool = True
    client_token: str | None = None


class Resume(Command, frozen=True, kw_only=True):
    reason: str | None = None
    client_token: str | None = None


class Delete(Command, frozen=True, kw_only=True):
    pass


# --- effects -----------------------------------------------------------------------------------------------------


class StartInvocation(msgspec.Struct, frozen=True):
    """Run the handler; the right to do so is recorded under this epoch."""

    epoch: int


class StartChild(msgspec.Struct, frozen=True):
    """Begin the child execution of a chained invoke; doing so twice is harmless, its id is fixed."""

    operation_id: str
    execution_id: str
    function: str
    version: str
    input: str | None
    tenant_id: str | None = None
    trace_header: str | None = None


class CallFunction(msgspec.Struct, frozen=True):
    """Call a function that is not durable, for a chained invoke."""

    operation_id: str
    function: str
    version: str
    input: str | None


class ChildOutcome(msgspec.Struct, frozen=True):
    """How a chained invoke's target ended: the terminal operation status it leads to, and with what."""

    status: str
    result: str | None = None
    error: ErrorObject | None = None


class TellParent(msgspec.Struct, frozen=True):
    """The parent's chained invoke has its outcome."""

    parent: ParentLink
    outcome: ChildOutcome


class ExecutionEnded(msgspec.Struct, frozen=True):
    """Whoever waits for the result can have it."""


Effect: TypeAlias = StartInvocation | StartChild | CallFunction | TellParent | ExecutionEnded


class Decision(msgspec.Struct, frozen=True):
    """What happened, what to do once it is on disk, and what to tell the asker.

    `refusal` is raised to the asker after the events (what was due anyway) are kept. `repeated` is the stored answer of
    a checkpoint that is asked for a second time. `is_token_withheld` means that the asker may not write again.
    """

    events: Sequence[Event] = ()
    effects: Sequence[Effect] = ()
    refusal: ServiceError | None = None
    repeated: tuple[Operation, ...] | None = None
    is_token_withheld: bool = False
    draft: Draft | None = None
    """The state as the events make it, for `adopt`; None if there were too few to be worth one."""
