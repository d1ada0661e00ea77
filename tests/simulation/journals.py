"""What every journal must be, whatever the program: read once, from its first event to its last.

The rules are written down here a second time, on purpose, from the specification and not from the engine.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from perdure.model import event as ev
from perdure.model.execution import ExecutionStatus, ParentLink
from perdure.store.packing import unpack


class Violation(BaseException):
    """Something has happened that must never happen. Nothing on its way up may take it for an error of a program."""


class Logged(NamedTuple):
    """A commit of an execution: its number among all commits, the true time, and who made it."""

    number: int
    at_ms: int
    actor: str


Log = Sequence[Logged]
Leases = Sequence[tuple[int, int, int]]
"""When the right to run was given or renewed, by the true clock, until when, and to which invocation."""


class Op:
    """What is known of an operation."""

    __slots__ = (
        "child",
        "due_ms",
        "heartbeat_ms",
        "heartbeat_s",
        "is_compound",
        "is_over",
        "kind",
        "name",
        "outcome",
        "status",
    )

    def __init__(self, kind: str, name: str | None) -> None:
        self.kind = kind
        self.name = name
        self.status = "STARTED"
        self.is_over = False
        self.due_ms: int | None = None
        self.heartbeat_ms: int | None = None
        self.heartbeat_s = 0
        self.is_compound = False
        self.child: str | None = None
        self.outcome: tuple[str, Any] | None = None

    @property
    def times_out_ms(self) -> int | None:
        """When a callback that nobody answers is over."""
        return min((each for each in (self.due_ms, self.heartbeat_ms) if each is not None), default=None)


class Reading:
    """One journal, read. Raises Violation at the first event that must not be there."""

    def __init__(
        self,
        execution: str,
        rows: Sequence[bytes],
        log: Log,
        leases: Leases,
        slack_ms: int,
        late_ms: int,
        exact_until: int,
    ) -> None:
        """`slack_ms` is how far clocks may be off, `late_ms` how late a time-out may be up to the commit `exact_until`;
        how late it may be afterwards can't be said."""
        self.late_ms = late_ms
        self.exact_until = exact_until
        self.leases = leases
        self.execution = execution
        self.slack_ms = slack_ms
        self.operations: dict[str, Op] = {}
        self.ended_by_name: dict[str, int] = {}
        """The commit with which the operation of a name was over; 0 while it is not."""
        self.parent: ParentLink | None = None
        self.status = ExecutionStatus.RUNNING
        self.end_status = ExecutionStatus.RUNNING
        self.result: str | None = None
        self.error: Any = None
        self.ended_at = 0
        self.end_ms = 0
        self.start_ms = 0
        self.deadline_ms = 0
        self.retention_days = 0
        self.owes_parent = False
        self.in_flight: ev.InvocationStarted | None = None
        self.is_revoked = False
        self.epoch = 0
        self.count = 0
        self.superseded: dict[int, int] = {}
        self.answers: dict[str, int] = {}
        self.pauses: list[int] = []
        self.deleted_at: int | None = None
        self.shown = 0
        self.metered = 0
        self.commit: Logged = Logged(0, 0, "")
        if len(rows) != len(log):
            raise Violation(f"the journal of {execution} has {len(rows)} rows, {len(log)} were written")
        for seq, data in enumerate(rows, 1):
            self.commit = log[seq - 1]
            for event in unpack(data, execution_id=execution, seq=seq):
                self._read(event)

    def _read(self, event: ev.Event) -> None:
        kind = type(event)
        if self.ended_at and kind not in _AFTER_THE_END:
            self._fail(event, f"after its end ({self.status})")
        _READERS[kind](self, event)
        self.shown += event.is_shown

    def _fail(self, event: ev.Event, why: str) -> None:
        raise Violation(f"the journal of {self.execution} has {event} at commit {self.commit.number}: {why}")

    # --- asked afterwards --------------------------------------------------------------------------------------

    def is_superseded(self, epoch: int, commits: int) -> bool:
        """Whether the invocation had lost the right to write when so many commits had been made."""
        at = self.superseded.get(epoch)
        return at is not None and at <= commits

    def promised_at(self, what: str) -> int | None:
        match what:
            case "ended":
                return self.ended_at or None
            case "deleted":
                return self.deleted_at
            case "paused":
                return self.pauses[0] if self.pauses else None
            case _:
                raise AssertionError(what)

    def answered_at(self, answer: str) -> int | None:
        return self.answers.get(answer)

    # --- the execution -----------------------------------------------------------------------------------------

    def started(self, event: ev.ExecutionStarted) -> None:
        if self.start_ms:
            self._fail(event, "it had begun")
        self.start_ms = event.at_ms
        self.deadline_ms = event.at_ms + event.execution_timeout_s * 1000
        self.retention_days = event.retention_days
        self.parent = event.parent
        self.metered += 1

    def end(self, event: Any) -> None:
        self.status = self.end_status = _ENDS[type(event)]
        self.ended_at = self.commit.number
        self.end_ms = self.commit.at_ms
        self.result = getattr(event, "result", None)
        self.error = getattr(event, "error", None)
        self.owes_parent = self.parent is not None
        if type(event) in (ev.ExecutionSucceeded, ev.ExecutionFailed):
            self.superseded.setdefault(self.epoch, self.commit.number)
        if type(event) is ev.ExecutionTimedOut:
            self._not_before(event, self.deadline_ms)  # a pause may have moved it

    def _not_before(self, event: ev.Event, due_ms: int) -> None:
        early_ms = due_ms - self.commit.at_ms - self.slack_ms
        if early_ms > 0:
            self._fail(event, f"{early_ms} ms early")

    def _on_time(self, event: ev.Event, due_ms: int) -> None:
        self._not_before(event, due_ms)
        if self.commit.number <= self.exact_until and self.commit.at_ms > due_ms + self.late_ms:
            self._fail(event, f"{self.commit.at_ms - due_ms} ms late")

    def _not_after(self, event: Any, operation: "Op") -> None:
        """What is due comes first: nobody finds a callback open whose time is over."""
        due_ms = operation.times_out_ms
        if due_ms is not None and event.at_ms >= due_ms + self.slack_ms:
            self._fail(event, f"its time was over at {due_ms}")

    def paused(self, event: ev.ExecutionPaused) -> None:
        if self.status not in (ExecutionStatus.RUNNING, ExecutionStatus.PAUSING):
            self._fail(event, f"it was {self.status}")
        self.status = ExecutionStatus.PAUSED
        self.pauses.append(self.commit.number)
        self.is_revoked = True
        self.superseded.setdefault(self.epoch, self.commit.number)

    def pause_requested(self, event: ev.PauseRequested) -> None:
        if self.status is not ExecutionStatus.RUNNING or self.in_flight is None:
            self._fail(event, f"it was {self.status}")
        self.status = ExecutionStatus.PAUSING
        self.pauses.append(self.commit.number)

    def withdrawn(self, event: ev.PauseWithdrawn) -> None:
        if self.status is not ExecutionStatus.PAUSING:
            self._fail(event, f"it was {self.status}")
        self.status = ExecutionStatus.RUNNING

    def resumed(self, event: ev.ExecutionResumed) -> None:
        if self.status is not ExecutionStatus.PAUSED:
            self._fail(event, f"it was {self.status}")
        self.status = ExecutionStatus.RUNNING

    def deleted(self, event: ev.DeleteRequested) -> None:
        if not self.ended_at or self.owes_parent:
            self._fail(event, "it had not ended, or its parent had not been told")
        self.status = ExecutionStatus.DELETING
        self.deleted_at = self.commit.number

    def parent_told(self, event: ev.ParentTold) -> None:
        if not self.owes_parent:
            self._fail(event, "there was nothing to tell")
        self.owes_parent = False

    # --- invocations -------------------------------------------------------------------------------------------

    def invoked(self, event: ev.InvocationStarted) -> None:
        if self.in_flight is not None:
            self._fail(event, f"invocation {self.in_flight.epoch} was in flight")
        if event.epoch != self.epoch + 1:
            self._fail(event, f"the one before was {self.epoch}")
        if self.status is not ExecutionStatus.RUNNING:
            self._fail(event, f"it was {self.status}")
        self.in_flight = event
        self.epoch = event.epoch
        self.count = 0
        self.is_revoked = False

    def invocation_ended(self, event: ev.InvocationCompleted) -> None:
        now, commit = self.in_flight, self.commit
        if now is None or now.epoch != event.epoch:
            self._fail(event, f"in flight was {now}")
            return
        if event.end is ev.InvocationEnd.LOST and commit.actor != now.owner:
            self._check_lease(event)
        self.in_flight = None
        self.superseded.setdefault(event.epoch, commit.number)
        self.metered += event.error is not None

    def _check_lease(self, event: ev.InvocationCompleted) -> None:
        """Who takes an invocation over must have seen that its lease was over."""
        seen_ms = event.at_ms - self.slack_ms
        given = [(at_ms, until_ms) for at_ms, until_ms, epoch in self.leases if epoch == event.epoch]
        before = [until_ms for at_ms, until_ms in given if at_ms < seen_ms]
        known = [*before[-1:], *(until_ms for at_ms, until_ms in given if seen_ms <= at_ms <= event.at_ms)]
        if before and min(known) > event.at_ms + self.slack_ms:
            self._fail(event, f"its owner has the right to run until {min(known)}")

    def accepted(self, event: ev.CheckpointAccepted) -> None:
        self._needs_right(event)
        if event.count != self.count + 1:
            self._fail(event, f"the one before was {self.count}")
        self.count = event.count

    def _needs_right(self, event: ev.Event) -> None:
        """Only the invocation in flight may write, and only while it is not paused."""
        if self.in_flight is None or self.is_revoked:
            self._fail(event, "nobody had the right to write")

    # --- operations --------------------------------------------------------------------------------------------

    def _new(self, event: Any, kind: str) -> Op:
        self._needs_right(event)
        operation = self.operations.get(event.operation_id)
        if operation is not None:
            self._fail(event, "it had begun")
        if event.parent_id is not None:
            parent = self.operations.get(event.parent_id)
            if parent is None or parent.kind != "CONTEXT":
                self._fail(event, "its parent is not there")
        operation = self.operations[event.operation_id] = Op(kind, event.name)
        if event.name is not None:
            self.ended_by_name[event.name] = 0
        return operation

    def _open(self, event: Any, kind: str, *statuses: str) -> Op:
        operation = self.operations.get(event.operation_id)
        if operation is None:
            raise Violation(f"the journal of {self.execution} has {event}, of an operation that never began")
        if operation.kind != kind or operation.is_over or (statuses and operation.status not in statuses):
            self._fail(event, f"the operation is a {operation.kind} {operation.status}, over: {operation.is_over}")
        return operation

    def _over(self, operation: Op, status: str) -> None:
        operation.status = status
        operation.is_over = True
        if operation.name is not None:
            self.ended_by_name[operation.name] = self.commit.number

    def step_started(self, event: ev.StepStarted) -> None:
        if event.operation_id in self.operations:
            self._needs_right(event)
            self._open(event, "STEP", "READY").status = "STARTED"
        else:
            self._new(event, "STEP")

    def step_ended(self, event: Any) -> None:
        self.metered += 1
        if event.operation_id in self.operations:
            self._needs_right(event)
            operation = self._open(event, "STEP", "STARTED", "READY")
        else:
            operation = self._new(event, "STEP")
        if event.next_attempt_delay_s is None:
            self._over(operation, "SUCCEEDED" if type(event) is ev.StepSucceeded else "FAILED")
        else:
            operation.status = "PENDING"
            operation.due_ms = event.at_ms + event.next_attempt_delay_s * 1000

    def step_ready(self, event: ev.StepReady) -> None:
        operation = self._open(event, "STEP", "PENDING")
        assert operation.due_ms is not None
        self._not_before(event, operation.due_ms)
        operation.status = "READY"

    def context_started(self, event: ev.ContextStarted) -> None:
        operation = self._new(event, "CONTEXT")
        operation.is_compound = event.sub_type in _COMPOUND
        self.metered += operation.is_compound

    def context_ended(self, event: Any) -> None:
        if event.operation_id in self.operations:
            self._needs_right(event)
            operation = self._open(event, "CONTEXT")
        else:
            operation = self._new(event, "CONTEXT")
        self.metered += not operation.is_compound
        self._over(operation, "SUCCEEDED" if type(event) is ev.ContextSucceeded else "FAILED")

    def wait_started(self, event: ev.WaitStarted) -> None:
        operation = self._new(event, "WAIT")
        operation.due_ms = event.at_ms + event.duration_s * 1000
        self.metered += 1

    def wait_over(self, event: ev.WaitSucceeded) -> None:
        operation = self._open(event, "WAIT")
        assert operation.due_ms is not None
        self._not_before(event, operation.due_ms)
        self._over(operation, "SUCCEEDED")

    def wait_cancelled(self, event: ev.WaitCancelled) -> None:
        self._needs_right(event)
        self._over(self._open(event, "WAIT"), "CANCELLED")

    def callback_started(self, event: ev.CallbackStarted) -> None:
        operation = self._new(event, "CALLBACK")
        operation.due_ms = event.at_ms + event.timeout_s * 1000 if event.timeout_s else None
        operation.heartbeat_s = event.heartbeat_timeout_s
        if event.heartbeat_timeout_s:
            operation.heartbeat_ms = event.at_ms + event.heartbeat_timeout_s * 1000
        self.metered += 1

    def heartbeat(self, event: ev.CallbackHeartbeat) -> None:
        operation = self._open(event, "CALLBACK")
        self._not_after(event, operation)
        operation.heartbeat_ms = event.at_ms + operation.heartbeat_s * 1000

    def answered(self, event: Any) -> None:
        is_good = type(event) is ev.CallbackSucceeded
        operation = self._open(event, "CALLBACK")
        self._not_after(event, operation)
        self._over(operation, "SUCCEEDED" if is_good else "FAILED")
        self.answers[event.result if is_good else event.error.message] = self.commit.number

    def timed_out(self, event: ev.CallbackTimedOut) -> None:
        operation = self._open(event, "CALLBACK")
        due_ms = operation.times_out_ms
        if due_ms is None:
            self._fail(event, "it has no time-out")
        else:
            self._on_time(event, due_ms)
        self._over(operation, "TIMED_OUT")

    def invoke_started(self, event: ev.ChainedInvokeStarted) -> None:
        self._new(event, "CHAINED_INVOKE").child = event.execution_id
        self.metered += 1

    def invoke_ended(self, event: Any) -> None:
        operation = self._open(event, "CHAINED_INVOKE")
        status = _INVOKES[type(event)]
        operation.outcome = (status, getattr(event, "result", None))
        self._over(operation, status)

    def child_started(self, event: ev.ChildStarted) -> None:
        operation = self.operations.get(event.operation_id)
        if operation is None or operation.child is None:
            self._fail(event, "there was none to be started")


_COMPOUND: Final = frozenset({"Map", "MapIteration", "Parallel", "ParallelBranch", "WaitForCallback"})
_AFTER_THE_END: Final = frozenset({ev.InvocationCompleted, ev.DeleteRequested, ev.ParentTold})
_ENDS: Final[dict[type[ev.Event], ExecutionStatus]] = {
    ev.ExecutionSucceeded: ExecutionStatus.SUCCEEDED,
    ev.ExecutionFailed: ExecutionStatus.FAILED,
    ev.ExecutionTimedOut: ExecutionStatus.TIMED_OUT,
    ev.ExecutionStopped: ExecutionStatus.STOPPED,
}
_INVOKES: Final[dict[type[ev.Event], str]] = {
    ev.ChainedInvokeSucceeded: "SUCCEEDED",
    ev.ChainedInvokeFailed: "FAILED",
    ev.ChainedInvokeTimedOut: "TIMED_OUT",
    ev.ChainedInvokeStopped: "STOPPED",
}
_READERS: Final[dict[type[ev.Event], Callable[[Reading, Any], None]]] = {
    ev.ExecutionStarted: Reading.started,
    **dict.fromkeys(_ENDS, Reading.end),
    ev.ExecutionPaused: Reading.paused,
    ev.ExecutionResumed: Reading.resumed,
    ev.PauseRequested: Reading.pause_requested,
    ev.PauseWithdrawn: Reading.withdrawn,
    ev.DeleteRequested: Reading.deleted,
    ev.ParentTold: Reading.parent_told,
    ev.InvocationStarted: Reading.invoked,
    ev.InvocationCompleted: Reading.invocation_ended,
    ev.CheckpointAccepted: Reading.accepted,
    ev.StepStarted: Reading.step_started,
    ev.StepSucceeded: Reading.step_ended,
    ev.StepFailed: Reading.step_ended,
    ev.StepReady: Reading.step_ready,
    ev.ContextStarted: Reading.context_started,
    ev.ContextSucceeded: Reading.context_ended,
    ev.ContextFailed: Reading.context_ended,
    ev.WaitStarted: Reading.wait_started,
    ev.WaitSucceeded: Reading.wait_over,
    ev.WaitCancelled: Reading.wait_cancelled,
    ev.CallbackStarted: Reading.callback_started,
    ev.CallbackHeartbeat: Reading.heartbeat,
    ev.CallbackSucceeded: Reading.answered,
    ev.CallbackFailed: Reading.answered,
    ev.CallbackTimedOut: Reading.timed_out,
    ev.ChainedInvokeStarted: Reading.invoke_started,
    **dict.fromkeys(_INVOKES, Reading.invoke_ended),
    ev.ChildStarted: Reading.child_started,
}
