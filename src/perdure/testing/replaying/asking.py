"""What code asks for, when it is run over recorded operations: each with its place, and where in the code that was."""

import linecache
import os
import sys
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType
from typing import Any, Final

import msgspec

from perdure.async_context import AsyncDurableContext
from perdure.config import to_duration
from perdure.context import DurableContext
from perdure.exceptions import InvocationError, NonDeterministicExecutionError
from perdure.model.operation import Operation, OperationType, OperationUpdate
from perdure.sdk.calls import DEFAULT_CALLBACK, Calls
from perdure.sdk.drivers.protocol import Driver
from perdure.sdk.identity import operation_id
from perdure.sdk.invocation import Definition, InvocationAnswer, InvocationInput
from perdure.sdk.journal import Journal, Place
from perdure.sdk.operations.step import DEFAULT_RETRY
from perdure.sdk.rehearsal import Runs, run_still
from perdure.sdk.scope import Scope
from perdure.sdk.session import Session

_OWN: Final = os.path.dirname(os.path.dirname(os.path.dirname(__file__))) + os.sep  # noqa: PTH120 - for comparing texts


class Where(msgspec.Struct, frozen=True):
    """A line of the author's code."""

    file: str
    line: int
    function: str

    @property
    def text(self) -> str:
        """The line itself; nothing if it can't be read."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}, in {self.function}"


class Asked(msgspec.Struct):
    """An operation that the code has asked for. `record` is what the journal has in its place.

    `number` is its turn in its scope. `terms` are those of its conditions that histories show as well.
    """

    place: str
    type: OperationType
    sub_type: str
    name: str | None
    parent_id: str | None
    record: Operation | None
    scope: Scope
    where: Where | None
    terms: dict[str, Any] = msgspec.field(default_factory=dict)


Ask = Callable[[Asked, "AskedJournal"], None]


class AskedJournal(Journal):
    """A journal that remembers what it was asked for. With `renames`, another name is no divergence there."""

    __slots__ = ("asked", "diverged", "latest", "renamed", "renames", "told")

    def __init__(
        self, execution: str, records: Iterable[Operation], *, renames: bool = False, told: Ask | None = None
    ) -> None:
        super().__init__(execution, records)
        self.asked: dict[str, Asked] = {}
        self.latest: dict[Scope, Asked] = {}
        self.diverged: Asked | None = None
        self.renames = renames
        self.renamed: list[Asked] = []
        self.told = told

    def begin_at(self, place: str, scope: Scope, kind: OperationType, sub_type: str, name: str | None) -> Place:
        record = self.records.get(place)
        asked = Asked(place, kind, sub_type, name, scope.parent_id, record, scope, self._where(scope))
        known = self.asked.setdefault(place, asked)
        if known is not asked:
            asked.terms = known.terms  # a branch that runs once more
        self.latest[scope] = known
        if self.told is not None:
            self.told(known, self)
        if self.renames and record is not None and (record.name or None) != name and record.type is kind:
            self.renamed.append(asked)
            name = record.name or None
        return super().begin_at(place, scope, kind, sub_type, name)

    def _diverge(
        self, record: Operation, kind: OperationType, sub_type: str, name: str | None, parent_id: str | None
    ) -> None:
        if self.diverged is None and self.divergence is None:
            self.diverged = self.asked.get(record.id)
        super()._diverge(record, kind, sub_type, name, parent_id)

    def _where(self, scope: Scope) -> Where | None:
        """The author's line that is running; for what a batch or a callback does by itself, that of its call."""
        frame = author_frame(sys._getframe(2))
        if frame is not None:
            return Where(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        outer = self.asked.get(scope.prefix)
        return outer.where if outer is not None else None


def author_frame(frame: FrameType | None) -> FrameType | None:
    """The innermost frame that is neither Perdure's nor the standard library's; None if there is none."""
    while frame is not None:
        if is_authors(frame.f_code.co_filename):
            return frame
        frame = frame.f_back
    return None


def is_authors(file: str) -> bool:
    """Whether a file is neither one of Perdure's nor of the standard library's."""
    if file.startswith((_OWN, "<frozen")):
        return False
    return not file.startswith(_STANDARD) or "site-packages" in file


_STANDARD: Final = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - for comparing texts


class _Remembering(Calls):
    """Notes of an operation the terms that its history shows: how long it waits, when it times out, what it calls."""

    def _wait(self, duration: Any, name: str | None) -> Any:
        begun = super()._wait(duration, name)
        self._note(wait_s=to_duration(duration).seconds)
        return begun

    def _create_callback(self, name: str | None, config: Any) -> Any:
        begun = super()._create_callback(name, config)
        self._note_callback(config)
        return begun

    def _wait_for_callback(self, submitter: Any, name: str | None, config: Any, result_type: Any = None) -> Any:
        begun = super()._wait_for_callback(submitter, name, config, result_type)
        self._note_callback(config)
        return begun

    def _invoke(self, function: Any, payload: Any, name: str | None, config: Any, result_type: Any = None) -> Any:
        begun = super()._invoke(function, payload, name, config, result_type)
        ref = getattr(function, "invoke_ref", function)
        self._note(function=getattr(ref, "name", ref))
        return begun

    def _step(self, func: Any, name: Any, config: Any, key: str | None = None) -> Any:
        begun = super()._step(func, name, config, key)
        how = config or getattr(func, "_step_config", None)
        self._note(retry=getattr(how, "retry_strategy", None) or self._session.default_retry or DEFAULT_RETRY)
        return begun

    def _note_callback(self, config: Any) -> None:
        how = config or DEFAULT_CALLBACK
        self._note(timeout_s=how.timeout.seconds, heartbeat_timeout_s=how.heartbeat_timeout.seconds)

    def _note(self, **terms: Any) -> None:
        journal = self._session.journal
        if isinstance(journal, AskedJournal):
            journal.latest[self._scope].terms.update(terms)


class _Context(_Remembering, DurableContext):
    pass


class _AsyncContext(_Remembering, AsyncDurableContext):
    pass


class Rerun:
    """What came of running a handler over records: what it asked for, where it stopped, how it ended.

    `answer` is None if another invocation would have been wanted, `error` is what the handler raised or answered.
    `top` is the scope of the handler; `open_at` are the updates that it would have recorded next.
    """

    def __init__(self, journal: AskedJournal) -> None:
        self.journal = journal
        self.answer: InvocationAnswer | None = None
        self.raised: BaseException | None = None
        self.top: Scope | None = None
        self.left: list[tuple[Scope, OperationUpdate, Scope | None]] = []

    @property
    def asked(self) -> dict[str, Asked]:
        return self.journal.asked

    @property
    def divergence(self) -> NonDeterministicExecutionError | None:
        return self.journal.divergence


class _Watch:
    """Gives the handler's invocation the journal that remembers."""

    observer = None

    def __init__(self, journal: AskedJournal) -> None:
        self._journal = journal

    def __enter__(self) -> "_Watch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def journal(self) -> Journal:
        return self._journal

    def around(self, driver: Driver) -> Driver:
        return driver

    def ended(self, answer: InvocationAnswer) -> InvocationAnswer:
        return answer


def rerun(
    definition: Definition,
    given: InvocationInput,
    *,
    renames: bool = False,
    told: Ask | None = None,
    runs: Runs | None = None,
) -> Rerun:
    """Run the handler over the given operations; nothing happens, no body runs. `told` hears of all that is asked for,
    `runs` names steps whose bodies run all the same.

    What the handler does between its operations it does, as in every replay. KeyboardInterrupt comes through.
    """
    journal = AskedJournal(given.execution_name, given.operations, renames=renames, told=told)
    found = Rerun(journal)

    def context_of(session: Session, scope: Scope) -> Any:
        found.top = scope
        return (_AsyncContext if definition.is_async else _Context)(session, scope)

    def left(scope: Scope, update: OperationUpdate, inner: Scope | None) -> None:
        found.left.append((scope, update, inner))

    try:
        found.answer = run_still(
            definition, given, watch_of=lambda *_: _Watch(journal), context_of=context_of, left=left, runs=runs
        )
    except InvocationError:
        pass  # another invocation may do better
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the author's code raises
        found.raised = error
    return found


def places_after(scope: Scope, count: int) -> Iterable[str]:
    """The places that the code of a scope would come to next."""
    return (operation_id(scope.prefix, number) for number in range(scope.counter + 1, scope.counter + 1 + count))
