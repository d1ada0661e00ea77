"""What holds for the engine whatever it is asked, in any order."""

from copy import copy
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from perdure.engine import ExecutionState, commands as cmd, decide, fold
from perdure.engine.fold import is_true
from perdure.engine.metering import COMPOUND, error_bytes
from perdure.engine.terms import Limits, RetryPolicy, Terms
from perdure.model import event as ev
from perdure.model.error import ErrorObject, ServiceError
from perdure.model.execution import ENDED, DurableConfig, ParentLink
from perdure.model.operation import (
    TERMINAL,
    Operation,
    OperationAction,
    OperationType,
    OperationUpdate,
    payload_bytes,
)
from perdure.store.packing import pack, unpack
from support.one import One

TYPES = list(OperationType)
IDS = ["a", "b", "c", "d"]
TERMS = Terms(limits=Limits(operations_max=40), retries=RetryPolicy(quarantine_after=3))

updates = st.builds(
    OperationUpdate,
    id=st.sampled_from(IDS),
    type=st.sampled_from([*TYPES, OperationType.STEP, OperationType.STEP, OperationType.CONTEXT]),
    action=st.sampled_from(OperationAction),
    name=st.sampled_from([None, "n"]),
    sub_type=st.sampled_from([None, None, "Map", "WaitForCallback"]),
    parent_id=st.sampled_from([None, None, None, "a"]),
    payload=st.sampled_from([None, '"p"', '"é"']),
    error=st.sampled_from([None, None, ErrorObject("e", "T")]),
    replay_children=st.sampled_from([None, True]),
    next_attempt_delay_s=st.sampled_from([None, 1, 5]),
    wait_s=st.sampled_from([None, 1, 5]),
    timeout_s=st.sampled_from([None, 3]),
    heartbeat_timeout_s=st.sampled_from([None, 2]),
    function_name=st.sampled_from([None, "durable", "plain", "nobody"]),
)


def resolve(update: OperationUpdate) -> cmd.Target:
    name = update.function_name or ""
    if name == "nobody":
        return cmd.Target(name, "$LATEST", refusal=ErrorObject("no such function", "ResourceNotFoundException"))
    return cmd.Target(name, "$LATEST", DurableConfig() if name == "durable" else None)


outcomes = st.one_of(
    st.builds(cmd.Succeeded, st.sampled_from([None, '"r"'])),
    st.builds(cmd.Failed, st.sampled_from([None, ErrorObject("f")])),
    st.just(cmd.Pending()),
    st.just(cmd.Pending()),
    st.builds(cmd.Crashed, st.just(ErrorObject("c", "E")), st.booleans()),
    st.just(cmd.Released()),
)


def seen(state: ExecutionState) -> Any:
    """Everything of a state that means anything: timers that are not true any more mean nothing."""
    timers = sorted({entry for entry in state.timers if is_true(state, entry[0], entry[2])})
    return (
        copy(state.head),
        dict(state.operations),
        timers,
        dict(state.callback_ids),
        list(state.unseen),
        list(state.touched),
        state.updated_ids,
        list(state.owed),
        state.delivered,
    )


class Engine(RuleBasedStateMachine):
    """One execution, asked anything at any time, also with tokens and ids that are not good any more."""

    tokens: Bundle[cmd.Token] = Bundle("tokens")

    @initialize(target=tokens, invoke=st.booleans(), chained=st.booleans(), seed=st.integers(0, 1000))
    def start(self, *, invoke: bool, chained: bool, seed: int) -> cmd.Token:
        parent = ParentLink("p", "o") if chained else None
        config = DurableConfig(execution_timeout_s=60)
        self.one = One(terms=TERMS, invoke=invoke, parent=parent, config=config, input='"in"', seed=seed)
        self.one.resolve = resolve
        return cmd.Token(1, 0)

    def ask(self, command: cmd.Command) -> cmd.Decision | None:
        """Have a command decided, and check what must hold of every decision."""
        before, events = seen(self.one.state), len(self.one.journal)
        frozen = fold(self.one.journal)
        ended = self.one.head.has_ended
        status = self.one.head.status
        terminal = {key: op for key, op in self.one.state.operations.items() if op.status in TERMINAL}
        try:
            decision = self.one.do(command)
        except ServiceError:
            decision = None
            if len(self.one.journal) == events:
                assert seen(self.one.state) == before, "a refusal changes nothing"
        assert seen(frozen) == before
        for key, operation in terminal.items():
            assert self.one.state.operations[key] is operation, "what is terminal never changes"
        if ended and not isinstance(command, cmd.Delete):
            assert self.one.head.status is status, "an execution ends once"
        return decision

    @rule(target=tokens, token=tokens, batch=st.lists(updates, max_size=4), client_token=st.sampled_from([None, "t"]))
    def checkpoint(self, token: cmd.Token, batch: list[OperationUpdate], client_token: str | None) -> cmd.Token:
        good = self.one.head.in_flight is not None and token == self.one.token
        events = len(self.one.journal)
        decision = self.ask(cmd.Checkpoint(token=token, updates=batch, resolve=resolve, client_token=client_token))
        if decision is not None and decision.repeated is None:
            assert good, "only the current token writes"
        if decision is not None and decision.repeated is not None:
            assert len(self.one.journal) == events, "a repetition changes nothing"
        now = self.one.head.in_flight
        return cmd.Token(now.epoch, now.count) if now is not None else token

    @rule(token=tokens, outcome=outcomes, batch=st.lists(updates, max_size=2), invoke=st.booleans())
    def end(self, token: cmd.Token, outcome: cmd.Outcome, batch: list[OperationUpdate], *, invoke: bool) -> None:
        invoker = "me" if invoke else None
        self.ask(cmd.EndInvocation(token=token, outcome=outcome, updates=batch, resolve=resolve, invoker=invoker))

    @rule(target=tokens, invoke=st.booleans())
    def wake(self, *, invoke: bool) -> cmd.Token:
        self.ask(cmd.Wake(invoker="me" if invoke else None))
        now = self.one.head.in_flight
        return cmd.Token(now.epoch, now.count) if now is not None else cmd.Token(0, 0)

    @rule(epoch=st.integers(0, 5), invoke=st.booleans())
    def lose(self, epoch: int, *, invoke: bool) -> None:
        self.ask(cmd.LoseInvocation(epoch=epoch, error=ErrorObject("gone"), invoker="me" if invoke else None))

    @rule(milliseconds=st.sampled_from([1, 500, 1_000, 3_000, 20_000]))
    def pass_time(self, milliseconds: int) -> None:
        self.one.now_ms += milliseconds

    @precondition(lambda self: self.one.state.callback_ids)
    @rule(data=st.data(), is_failure=st.booleans())
    def complete_callback(self, data: st.DataObject, *, is_failure: bool) -> None:
        callback_id = data.draw(st.sampled_from(sorted(self.one.state.callback_ids)))
        self.ask(cmd.CompleteCallback(callback_id=callback_id, result='"cb"', is_failure=is_failure, invoker="me"))

    @precondition(lambda self: self.one.state.callback_ids)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        callback_id = data.draw(st.sampled_from(sorted(self.one.state.callback_ids)))
        self.ask(cmd.HeartbeatCallback(callback_id=callback_id))

    @rule(operation_id=st.sampled_from(IDS), status=st.sampled_from(["SUCCEEDED", "FAILED", "TIMED_OUT", "STOPPED"]))
    def end_invoke(self, operation_id: str, status: str) -> None:
        operation = self.one.state.operations.get(operation_id)
        child = getattr(operation, "execution_id", None)
        outcome = cmd.ChildOutcome(status, '"child"' if status == "SUCCEEDED" else None)
        self.ask(cmd.EndChainedInvoke(operation_id=operation_id, outcome=outcome, child_id=child, invoker="me"))

    @rule(operation_id=st.sampled_from(IDS))
    def confirm(self, operation_id: str) -> None:
        self.ask(cmd.ConfirmChild(operation_id=operation_id))
        self.ask(cmd.ConfirmParentTold())

    @rule(
        command=st.sampled_from(
            [
                cmd.Stop(),
                cmd.Pause(reason="r"),
                cmd.Pause(client_token="p", is_timeout_paused=False),
                cmd.Resume(invoker="me"),
                cmd.Resume(client_token="r"),
                cmd.Delete(),
            ]
        )
    )
    def operate(self, command: cmd.Command) -> None:
        self.ask(command)

    # --- what always holds -----------------------------------------------------------------------------------

    @invariant()
    def the_fold_of_the_journal_is_the_state(self) -> None:
        if hasattr(self, "one"):
            assert seen(fold(self.one.journal)) == seen(self.one.state)

    @invariant()
    def the_journal_survives_the_disk(self) -> None:
        if hasattr(self, "one"):
            assert unpack(pack(self.one.journal), execution_id="x", seq=1) == self.one.journal

    @invariant()
    def the_counts_are_those_of_the_operations(self) -> None:
        if not hasattr(self, "one"):
            return
        head, operations = self.one.head, self.one.state.operations.values()
        assert head.operation_count == len(operations)
        assert head.waits == _count(operations, OperationType.WAIT, "STARTED")
        assert head.retries == _count(operations, OperationType.STEP, "PENDING")
        assert head.open_callbacks == _count(operations, OperationType.CALLBACK, "STARTED")
        assert head.invokes == _count(operations, OperationType.CHAINED_INVOKE, "STARTED")
        assert head.unseen == len(self.one.state.unseen)
        assert bool(head.owed) == bool(self.one.state.owed)
        assert [operation.number for operation in operations] == list(range(1, len(operations) + 1))
        assert head.event_count == sum(event.is_shown for event in self.one.journal)

    @invariant()
    def the_metering_is_that_of_the_table(self) -> None:
        if hasattr(self, "one"):
            assert (self.one.head.metered_operations, self.one.head.written_bytes) == metered(self.one.journal)

    @invariant()
    def an_end_has_a_time_and_nothing_else_has(self) -> None:
        if not hasattr(self, "one"):
            return
        assert (self.one.head.end_ms is not None) == (self.one.head.status in ENDED)
        for operation in self.one.state.operations.values():
            assert (operation.end_ms is not None) == operation.is_terminal

    @invariant()
    def nothing_follows_the_end_but_what_ends_the_invocation(self) -> None:
        if not hasattr(self, "one"):
            return
        names = [type(event).__name__ for event in self.one.journal]
        ends = [
            index
            for index, name in enumerate(names)
            if name in ("ExecutionSucceeded", "ExecutionFailed", "ExecutionTimedOut", "ExecutionStopped")
        ]
        assert len(ends) <= 1
        if ends:
            assert set(names[ends[0] + 1 :]) <= {"InvocationCompleted", "ParentTold", "DeleteRequested"}


def _count(operations: Any, kind: OperationType, status: str) -> int:
    return sum(operation.type is kind and operation.status == status for operation in operations)


def metered(journal: list[ev.Event]) -> tuple[int, int]:
    """The published metering table, told a second time and from the operations' side."""
    count, size = 0, 0
    kinds: dict[str, str | None] = {}
    for event in journal:
        payload = getattr(event, "result", None)
        if isinstance(event, ev.ExecutionStarted):
            count, payload = count + 1, event.input
        elif isinstance(event, ev.StepSucceeded | ev.StepFailed | ev.WaitStarted | ev.CallbackStarted):
            count += 1
        elif isinstance(event, ev.ContextStarted):
            kinds[event.operation_id] = event.sub_type
            count += event.sub_type in COMPOUND
        elif isinstance(event, ev.ContextSucceeded | ev.ContextFailed):
            count += kinds.get(event.operation_id) not in COMPOUND
        elif isinstance(event, ev.ChainedInvokeStarted):
            count, payload = count + 1, event.input
        elif isinstance(event, ev.InvocationCompleted):
            count += event.error is not None
        elif isinstance(event, ev.WaitCancelled):
            continue
        size += payload_bytes(payload) + error_bytes(getattr(event, "error", None))
    return count, size


Engine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestEngine = Engine.TestCase


@given(batch=st.lists(updates, max_size=5))
@settings(max_examples=300, deadline=None)
def test_a_batch_happens_whole_or_not_at_all(batch: list[OperationUpdate]) -> None:
    one = One(terms=TERMS)
    one.resolve = resolve
    before = seen(one.state)
    command = cmd.Checkpoint(token=one.token, updates=batch, resolve=resolve)
    try:
        decision = decide(one.state, command, one.now_ms, one.ids, one.terms)
    except ServiceError:
        assert seen(one.state) == before
        return
    assert seen(one.state) == before, "deciding changes nothing"
    touched = {event.operation_id for event in decision.events if isinstance(event, ev.OperationEvent)}
    assert touched == {update.id for update in batch if update.type is not OperationType.EXECUTION}


@given(moments=st.lists(st.integers(1, 50), min_size=1, max_size=30), looks=st.lists(st.integers(0, 60), max_size=20))
@settings(max_examples=200, deadline=None)
def test_no_timer_fires_early_and_none_is_forgotten(moments: list[int], looks: list[int]) -> None:
    one = One(terms=Terms())
    batch = [
        OperationUpdate(f"w{number}", OperationType.WAIT, OperationAction.START, wait_s=seconds)
        for number, seconds in enumerate(moments)
    ]
    one.checkpoint(*batch)
    one.end()
    start_ms = one.now_ms
    for second in sorted({*looks, 50}):
        one.now_ms = start_ms + second * 1000
        one.wake(invoke=False)
        for number, seconds in enumerate(moments):
            operation: Operation = one.op(f"w{number}")
            assert operation.is_terminal == (seconds <= second)
