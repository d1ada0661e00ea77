"""One run that is watched: what it does, where it is to be hit, and what must never happen in it."""

import inspect
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perdure.engine import commands as cmd
from perdure.exceptions import CheckpointError, DurableApiErrorCategory
from perdure.model.operation import Operation, OperationAction, OperationType, OperationUpdate
from perdure.sdk.client import Answer
from perdure.sdk.misuse import Body, active
from perdure.testing.crashing.compare import BATCHES
from perdure.testing.crashing.effects import Effect, Ledger, Record, recording
from perdure.testing.crashing.points import BodyRun, Point, Trace, Where
from perdure.testing.faults import Plan, Script

_ENDS = frozenset({OperationAction.SUCCEED, OperationAction.FAIL, OperationAction.CANCEL})

Key = tuple[str, str]
"""An operation: its execution and its id."""


class Repeat:
    """A body that ran again, after the run before was cut off: where it is, and what both did outside."""

    def __init__(self, body: BodyRun) -> None:
        self.body = body
        self.effects: list[Any] = []


class Watch(Plan):
    """The plan of a runner: hits it where the points say, each once."""

    def __init__(self, function: str, points: Collection[Point], ledger: Ledger) -> None:
        super().__init__()
        self.function = function
        self.trace = Trace()
        self.record = Record()
        self.ledger = ledger
        self.findings: list[str] = []
        self.violations: list[str] = []
        self.repeats: list[Repeat] = []
        self.interrupted: list[BodyRun] = []
        self.hit: list[Point] = []
        self._left = set(points)
        self._counts: dict[tuple[str, str], int] = {}
        self._ended: set[Key] = set()
        self._begun: dict[Key, object] = {}
        self._open: dict[Key, BodyRun] = {}
        self._started: dict[tuple[str, str, int], int] = {}
        self._unseen: dict[str, list[Operation]] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return True

    def script(self, client: Any) -> "Probe":
        return Probe(self, client)

    @property
    def missed(self) -> list[Point]:
        """The points that the run never came to."""
        return sorted(self._left)

    def count(self, what: str, function: str) -> int:
        with self._lock:
            number = self._counts[what, function] = self._counts.get((what, function), 0) + 1
            return number

    def hits(self, where: Where, number: int, function: str, cut: int = 0) -> bool:
        """Whether something is to happen here. It happens once."""
        point = Point(where, number, cut, function)
        with self._lock:
            if point not in self._left:
                return False
            self._left.remove(point)
            self.hit.append(point)
            return True

    def cuts(self, number: int, function: str) -> list[int]:
        return [
            each.cut for each in self._left if each[:2] == (Where.IN_CHECKPOINT, number) and each.function == function
        ]

    # --- what is recorded ----------------------------------------------------------------------------------------

    def recorded(self, execution: str, updates: Sequence[OperationUpdate], by: object) -> None:
        """The service has these updates, sent by one invocation."""
        with self._lock:
            for update in updates:
                key = (execution, update.id)
                if update.action is OperationAction.START:
                    if update.type is OperationType.STEP:
                        self._begun[key] = by
                    continue
                self._begun.pop(key, None)
                self._open.pop(key, None)
                if update.action in _ENDS:
                    self._ended.add(key)

    def cut_off(self, execution: str) -> None:
        """The process of an invocation dies: what runs in it comes to nothing."""
        with self._lock:
            for key in [key for key in self._open if key[0] == execution]:
                self.interrupted.append(self._open.pop(key))

    # --- bodies --------------------------------------------------------------------------------------------------

    def body_begins(self, execution: str, body: BodyRun, by: object) -> Repeat | None:
        """A body is about to run: note what must not be, and whether it is a repetition."""
        what = f"the body of '{body.name}' ({body.where})"
        with self._lock:
            self.trace.bodies.append(body)
            key = (execution, body.operation_id)
            self._open[key] = body
            if body.is_once and self._begun.get(key) is not by:
                self.violations.append(f"{what} began in another invocation than its START, and it is at most once")
            attempt = (*key, body.attempt)
            times = self._started[attempt] = self._started.get(attempt, 0) + 1
            if key in self._ended:
                self.violations.append(f"{what} ran again, although its end is recorded")
            if body.is_once and times > 1:
                self.violations.append(f"{what} ran twice in attempt {body.attempt}, and it is at most once")
            elif times == 1 and not (body.attempt > 1 and self._was_cut_off(key, body)):
                return None
            repeat = Repeat(body)
            self.repeats.append(repeat)
            return repeat

    def _was_cut_off(self, key: Key, body: BodyRun) -> bool:
        """Whether the attempt before never came to an outcome: that of an at-most-once step is not run again itself."""
        return body.is_once and any(
            each.operation_id == body.operation_id and each.attempt == body.attempt - 1 for each in self.interrupted
        )

    # --- the path of a replay ------------------------------------------------------------------------------------

    def not_asked_for(self, execution: str, records: Sequence[Operation]) -> None:
        with self._lock:
            self._unseen[execution] = list(records)

    def check_path(self) -> None:
        """What the last invocation of each execution did not ask for, although it was recorded before."""
        for records in self._unseen.values():
            for record in records:
                self.violations.append(
                    f"the last replay did not ask for {record.type} '{record.name or record.id}', which is recorded: "
                    "it took another path"
                )


class Probe(Script):
    """What happens to one invocation of a run that is watched."""

    def __init__(self, watch: Watch, client: Any) -> None:
        super().__init__(watch, client)
        self.watch = watch
        invocation = client.invocation
        self._execution = invocation.execution_id
        self._function = "" if invocation.function == watch.function else invocation.function
        self._given: list[Operation] = []
        self._asked = Asked({})

    def bind(self, records: dict[str, Operation]) -> dict[str, Operation]:
        self._given = list(records.values())
        self._asked = Asked(super().bind(records))
        return self._asked

    # --- the client ----------------------------------------------------------------------------------------------

    def checkpoint(
        self, updates: Sequence[OperationUpdate], number: int, send: Callable[..., Answer], client_token: str
    ) -> Answer:
        if not updates:
            return super().checkpoint(updates, number, send, client_token)
        watch, function = self.watch, self._function
        number = watch.count("checkpoint", function)
        watch.trace.pass_request(function, number, [described(update) for update in updates])
        if watch.hits(Where.BEFORE_CHECKPOINT, number, function):
            self._die(f"before checkpoint {number}")
        for cut in watch.cuts(number, function):
            watch.hits(Where.IN_CHECKPOINT, number, function, cut)
            send(updates[:cut], f"{client_token}-cut")
            watch.recorded(self._execution, updates[:cut], self)
            self._die(f"in checkpoint {number}")
        if watch.hits(Where.ANSWER_LOST, number, function):
            send(updates, client_token)
            watch.recorded(self._execution, updates, self)
            text = f"the answer of checkpoint {number} was lost, as the check wanted it"
            raise CheckpointError(text, DurableApiErrorCategory.INVOCATION, {"Code": "ServiceException"})
        if watch.hits(Where.SENT_TWICE, number, function):
            send(updates, client_token, is_first=True)
        answer = super().checkpoint(updates, number, send, client_token)
        watch.recorded(self._execution, updates, self)
        if watch.hits(Where.AFTER_CHECKPOINT, number, function):
            self._die(f"after checkpoint {number}")
        return answer

    def _die(self, cause: str) -> None:
        self.watch.cut_off(self._execution)
        self._client.die(cause)

    def ending(self, outcome: cmd.Outcome, updates: Sequence[OperationUpdate]) -> None:
        super().ending(outcome, updates)
        watch = self.watch
        if isinstance(outcome, cmd.Succeeded):
            watch.not_asked_for(self._execution, self._not_asked_for())
        number = watch.count("return", self._function)
        watch.trace.pass_return(self._function, number)
        if watch.hits(Where.AT_RETURN, number, self._function):
            self._die(f"at return of invocation {number}")
        watch.recorded(self._execution, updates, self)

    def _not_asked_for(self) -> list[Operation]:
        """What was recorded before this invocation, and not looked at in it though what is around it was run again.

        Branches may be left behind by others; what is in them does not count.
        """
        closed = {record.id for record in self._given if record.is_terminal or record.sub_type in BATCHES}
        parents = {record.id: record.parent_id for record in self._given}
        return [
            record
            for record in self._given
            if record.id not in self._asked.ids and closed.isdisjoint(_outer(record.parent_id, parents))
        ]

    # --- bodies --------------------------------------------------------------------------------------------------

    def instead(
        self, operation_id: str, attempt: int, body: Callable[[], Any], function: Callable[..., Any]
    ) -> tuple[Callable[[], Any], Callable[..., Any]]:
        where = where_of(function)
        body, function = super().instead(operation_id, attempt, body, function)
        now = active.get()
        if not isinstance(now, Body):
            return body, function
        number = self.watch.count("body", self._function)
        name = now.name or f"({now.kind})"
        return self._watched(
            BodyRun(self._function, number, operation_id, name, attempt, now.is_once, where), body
        ), function

    def _watched(self, run: BodyRun, body: Callable[[], Any]) -> Callable[[], Any]:
        def watched() -> Any:
            result = None
            with self._running(run):
                try:
                    result = body()
                finally:
                    if not inspect.isawaitable(result):
                        self._returned(run)
            return self._awaited(run, result) if inspect.isawaitable(result) else result

        return watched

    async def _awaited(self, run: BodyRun, result: Any) -> Any:
        try:
            value = await result
        finally:
            self._returned(run)
        return value

    @contextmanager
    def _running(self, run: BodyRun) -> Iterator[None]:
        watch = self.watch
        watch.trace.pass_body(Where.BEFORE_BODY, run)
        if watch.hits(Where.BEFORE_BODY, run.number, run.function):
            self._die(f"before body {run.number}")
        repeat = watch.body_begins(self._execution, run, self)
        size = watch.ledger.size()
        record = _Noting(watch.record, repeat)
        token = recording.set(record)
        try:
            yield
        finally:
            recording.reset(token)
            if repeat is not None:
                repeat.effects += watch.ledger.since(size)

    def _returned(self, run: BodyRun) -> None:
        self.watch.trace.pass_body(Where.AFTER_BODY, run)
        if self.watch.hits(Where.AFTER_BODY, run.number, run.function):
            self._die(f"after body {run.number}")


class Asked(dict[str, Operation]):
    """The records of an invocation; knows which were asked for."""

    def __init__(self, records: Mapping[str, Operation]) -> None:
        super().__init__(records)
        self.ids: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.ids.add(key)
        return super().get(key, default)


def _outer(operation_id: str | None, parents: Mapping[str, str | None]) -> Iterator[str]:
    while operation_id:
        yield operation_id
        operation_id = parents.get(operation_id)


class _Noting(Record):
    """Passes effects on, and notes them with the repetition that they belong to."""

    def __init__(self, record: Record, repeat: Repeat | None) -> None:
        super().__init__()
        self._record = record
        self._repeat = repeat

    def add(self, effect: Effect) -> None:
        before = len(self._record.effects)
        self._record.add(effect)
        if self._repeat is not None:
            self._repeat.effects += self._record.effects[before:]


def described(update: OperationUpdate) -> str:
    return f"{update.action} '{update.name}'" if update.name else f"{update.action} of a {update.type}"


def where_of(function: Callable[..., Any]) -> str:
    """Where the code of a body is: `orders.py:12`."""
    function = inspect.unwrap(getattr(function, "_original_function", function))
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    if "submitter" in names:  # of wait_for_callback, which the author's function is within
        function = inspect.getclosurevars(function).nonlocals.get("submitter", function)
    elif "call" in names and function.__name__.startswith("submit"):
        function = inspect.getclosurevars(function).nonlocals["call"]
        return where_of(function)
    code = getattr(function, "__code__", None) or getattr(getattr(function, "func", None), "__code__", None)
    if code is None:
        return repr(function)
    file = Path(code.co_filename)
    here = Path.cwd()
    return f"{file.relative_to(here) if file.is_relative_to(here) else file}:{code.co_firstlineno}"
