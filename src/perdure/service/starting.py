"""Beginning executions: idempotent by name, many at once, all on disk together."""

from collections.abc import Sequence

import msgspec

from perdure.engine import commands as cmd
from perdure.engine.forking import forked
from perdure.engine.state import ExecutionState
from perdure.model.error import ExecutionAlreadyStarted, ResourceNotFound, ServiceError
from perdure.model.execution import DurableConfig, ParentLink
from perdure.model.function import FunctionVersion
from perdure.model.ids import EXECUTION_NAME, NAME_RULE, check
from perdure.service.functions import Functions
from perdure.service.ledger import Ledger
from perdure.service.loop import Loop, starts_invocation
from perdure.store.packing import unpack
from perdure.store.protocol import Commit


class StartRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What an execution begins with; `input` is JSON text. `execution_id` is given for a child that has its id already.

    `version` is `$LATEST` or a number, never an alias; only functions of one version can go without. Without a `config`
    the version's own holds.
    """

    function: str
    version: str | None = None
    input: str | None = None
    name: str | None = None
    config: DurableConfig | None = None
    parent: ParentLink | None = None
    execution_id: str | None = None
    tenant_id: str | None = None
    trace_header: str | None = None


class Started(msgspec.Struct, frozen=True):
    """A start's answer; `is_new` is False if the execution was there already, with the same name and input."""

    execution_id: str
    arn: str
    is_new: bool


class Starter:
    """Begins executions in a ledger and has the loop act on it."""

    def __init__(self, ledger: Ledger, loop: Loop, functions: Functions) -> None:
        self._ledger = ledger
        self._loop = loop
        self._functions = functions

    def start(self, requests: Sequence[StartRequest]) -> list[Started]:
        """Begin executions, in one commit; those that exist with the same name and input are returned.

        Raises ExecutionAlreadyStarted if a name is taken with another input; then none is begun.
        """
        versions = [self._functions.durable(request.function, request.version) for request in requests]
        found = [self._existing(request) for request in requests]
        missing = [
            (request, version)
            for request, version, started in zip(requests, versions, found, strict=True)
            if started is None
        ]
        begun = iter(self._begin(missing))
        return [started or next(begun) for started in found]

    def begin_child(self, effect: cmd.StartChild, parent: ParentLink) -> None:
        """Begin the execution that a chained invoke waits for; it may be there already."""
        request = StartRequest(
            function=effect.function,
            version=effect.version,
            input=effect.input,
            parent=parent,
            execution_id=effect.execution_id,
            tenant_id=effect.tenant_id,
            trace_header=effect.trace_header,
        )
        self.start([request])

    def fork(self, execution_id: str, operation_id: str, name: str | None) -> Started:
        """Begin an execution with the past of another one, up to where an operation began."""
        if name is not None:
            check(EXECUTION_NAME, name, "the execution's name", NAME_RULE)
        ledger = self._ledger
        now_ms = ledger.clock.now_ms()
        new_id = ledger.ids.execution_id(now_ms)
        rows = ledger.read(execution_id, lambda _state: ledger.store.read(execution_id))
        events = forked(
            [event for seq, row in enumerate(rows, 1) for event in unpack(row, execution_id=execution_id, seq=seq)],
            operation_id,
            execution_id=new_id,
            name=name,
            now_ms=now_ms,
            new_callback_id=lambda: ledger.ids.callback_id(new_id),
        )
        state, commit = ledger.think_past(events)
        if not ledger.store.append([commit])[0]:
            taken = ledger.store.find(state.head.function, name or "") or new_id
            arn = ledger.read(taken, self._loop.arn_of)
            raise ExecutionAlreadyStarted(f"the name {name!r} is taken", arn=arn, hint="use another name")
        ledger.enter(state, events)
        self._loop.do_with_place(new_id, cmd.Wake())
        return Started(new_id, self._loop.arn_of(state), is_new=True)

    def _begin(self, requests: Sequence[tuple[StartRequest, FunctionVersion]]) -> list[Started]:
        """Begin executions that did not exist a moment ago."""
        thoughts: list[tuple[ExecutionState, cmd.Decision]] = []
        commits: list[Commit] = []
        try:
            for request, version in requests:
                state, decision, commit = self._think(request, version)
                thoughts.append((state, decision))
                commits.append(commit)
                self._loop.expect(state)
            kept = self._ledger.store.append(commits) if commits else []
        except BaseException:
            for state, decision in thoughts:
                self._give_back(state, decision)
                self._loop.unsure(state, decision.events)
            self._loop.fill_places()
            raise
        try:
            return [
                self._begun(request, state, decision, is_kept=is_kept)
                for (request, _), (state, decision), is_kept in zip(requests, thoughts, kept, strict=True)
            ]
        finally:
            self._loop.fill_places()

    def _think(self, request: StartRequest, version: FunctionVersion) -> tuple[ExecutionState, cmd.Decision, Commit]:
        """Decide a start, with a place for it if there is one."""
        config = request.config or version.durable
        assert config is not None
        ledger = self._ledger
        target = version.target
        has_place = self._loop.reserve(target)
        try:
            return ledger.think_start(
                cmd.Start(
                    execution_id=request.execution_id or ledger.ids.execution_id(ledger.clock.now_ms()),
                    function=request.function,
                    version=version.version,
                    name=request.name,
                    input=request.input,
                    config=config,
                    parent=request.parent,
                    tenant_id=request.tenant_id,
                    trace_header=request.trace_header,
                    invoker=self._loop.owner if has_place else None,
                )
            )
        except BaseException:
            if has_place:
                self._loop.release(target)
            raise

    def _begun(self, request: StartRequest, state: ExecutionState, decision: cmd.Decision, *, is_kept: bool) -> Started:
        head = state.head
        if not is_kept:
            self._give_back(state, decision)
            existing = self._existing(request)
            if existing is None:
                raise ServiceError(f"execution {head.execution_id} could not be begun", hint="try again")
            return existing
        started = Started(head.execution_id, self._loop.arn_of(state), is_new=True)
        invocation = self._loop.invocation_of(state, decision)
        self._ledger.enter(state, decision.events)
        if invocation is None:
            self._loop.note_ready(state)
        else:
            self._loop.act(started.execution_id, head.target, decision.effects, invocation)
        return started

    def _give_back(self, state: ExecutionState, decision: cmd.Decision) -> None:
        if starts_invocation(decision):
            self._loop.ours.pop(state.head.execution_id, None)
            self._loop.release(state.head.target)

    def _existing(self, request: StartRequest) -> Started | None:
        """The execution that this start would repeat; None if there is none, or it is past its retention."""
        execution_id = request.execution_id
        if request.name is not None:
            execution_id = self._ledger.store.find(request.function, request.name)
        if execution_id is None:
            return None
        try:
            arn, given = self._ledger.read(execution_id, lambda state: (self._loop.arn_of(state), state.head.input))
        except ResourceNotFound:
            if request.name is not None:
                self._ledger.store.delete([execution_id])
            return None
        if given != request.input:
            raise ExecutionAlreadyStarted(
                f"the name {request.name!r} is taken by an execution of {request.function!r} with another input",
                arn=arn,
                hint="use another name, or start with the same input to get the same execution",
            )
        return Started(execution_id, arn, is_new=False)
