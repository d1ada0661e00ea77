"""`Replayer`: stored histories against new code, without running a body."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from perdure.engine.history import visible_operations
from perdure.exceptions import ValidationError
from perdure.execution import definition_of
from perdure.model import event as ev
from perdure.model.error import ServiceError
from perdure.model.event import HistoryEvent
from perdure.model.execution import ENDED, ExecutionStatus
from perdure.model.operation import Operation
from perdure.sdk.invocation import Definition, InvocationInput
from perdure.testing.facts import Facts
from perdure.testing.histories import (
    History,
    apply_event,
    fold_operations,
    history_of_facts,
    load_history,
    read_history,
)
from perdure.testing.replaying.asking import rerun
from perdure.testing.replaying.judging import Difference, Divergence, Judge, Judgement, Verdict
from perdure.testing.replaying.terms import changed_terms
from perdure.testing.result import Result

BOUNDARIES_MAX: Final = 32
"""Histories with more invocations are looked at after so many of them, the first and the last among these."""

Handler = Callable[..., Any]
HistoryLike = History | Facts | Result | Mapping[str, Any] | Path | str
"""What a history may be given as: read already, the Result of a test, a JSON document, or the name of a file."""


class IncompatibleError(AssertionError):
    """Code that was replayed would not go on with an execution."""


class ReplayResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of replaying one history.

    `divergence` says where code and record part, if they do: it is there if the verdict is INCOMPATIBLE or
    NEEDS_NEW_OPERATION. `boundaries` counts the points at which the code was tried: after each invocation, and at the
    end. `source` is where the history came from.
    """

    function: str
    name: str
    arn: str
    status: str
    source: str
    verdict: Verdict
    operations: int
    events: int
    boundaries: int
    divergence: Divergence | None = None
    warnings: Sequence[str] = ()

    @property
    def is_compatible(self) -> bool:
        """Whether open executions with such a history can go on with the code, as far as can be told."""
        return self.verdict in (Verdict.COMPATIBLE, Verdict.WARNINGS)

    @property
    def label(self) -> str:
        return f"{self.function}/{self.name}"

    def assert_compatible(self) -> "ReplayResult":
        """Raise IncompatibleError, which says where code and record part, unless the code is compatible."""
        if not self.is_compatible:
            raise IncompatibleError(str(self))
        return self

    def __str__(self) -> str:
        words = self.verdict.lower().replace("_", " ")
        lines = [f"{self.label} ({self.status}): {words}"]
        if self.divergence is not None:
            lines += [f"  {line}" for line in str(self.divergence).splitlines()]
        return "\n".join([*lines, *(f"  warning: {text}" for text in self.warnings)])


class ReplaySummary(Sequence[ReplayResult]):
    """The results of many histories, in their order. `skipped` were like another one, operation by operation."""

    def __init__(self, results: Sequence[ReplayResult], skipped: int = 0) -> None:
        self.results = tuple(results)
        self.skipped = skipped

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    @property
    def is_compatible(self) -> bool:
        return all(result.is_compatible for result in self.results)

    @property
    def incompatible(self) -> list[ReplayResult]:
        return [result for result in self.results if not result.is_compatible]

    def count(self, verdict: Any) -> int:
        """How many results have this verdict."""
        return sum(result.verdict is verdict for result in self.results)

    def assert_compatible(self) -> "ReplaySummary":
        """Raise IncompatibleError, which lists where code and records part, unless all are compatible."""
        if not self.is_compatible:
            found = "\n".join(map(str, self.incompatible))
            raise IncompatibleError(f"{len(self.incompatible)} of {len(self)} histories are incompatible:\n{found}")
        return self

    def __repr__(self) -> str:
        told = ", ".join(f"{count} {verdict}" for verdict in Verdict if (count := self.count(verdict)))
        return f"<ReplaySummary of {len(self)} histories: {told or 'none'}>"


class Replayer:
    """Replays stored histories with `handlers`: one durable function, several, or a mapping from names to functions.

    A single function takes every history, whatever its function was called; of several each takes its own. No body of
    a step, check or submitter runs, and nothing is written; what handlers do between operations they do.
    """

    def __init__(self, handlers: "Handler | Iterable[Handler] | Mapping[str, Handler]") -> None:
        named: dict[str, Definition]
        if isinstance(handlers, Mapping):
            named = {str(name): _definition(handler) for name, handler in handlers.items()}
        elif callable(handlers):
            definition = _definition(handlers)
            named = {definition.name: definition}
        else:
            named = {definition.name: definition for definition in map(_definition, handlers)}
        if not named:
            raise ValidationError("Replayer needs at least one durable function")
        self._definitions = named

    def replay(self, history: HistoryLike) -> ReplayResult:
        """Try the code at every boundary between invocations, and at the end, of one history.

        Raises ValidationError if no handler is for its function, InvalidParameterValue if it is no history.
        """
        return self._replay(as_history(history))

    def replay_many(
        self,
        histories: Iterable[HistoryLike],
        *,
        is_distinct: bool = False,
        told: Callable[[ReplayResult], None] | None = None,
    ) -> ReplaySummary:
        """Replay each; with `is_distinct`, of ended executions with the same operations only the first.

        `told` hears of every result as it is there.
        """
        results: list[ReplayResult] = []
        seen: set[Any] = set()
        skipped = 0
        for history in map(as_history, histories):
            if is_distinct and history.view.status in ENDED:
                key = sequence_of(history)
                if key in seen:
                    skipped += 1
                    continue
                seen.add(key)
            result = self._replay(history)
            results.append(result)
            if told is not None:
                told(result)
        return ReplaySummary(results, skipped)

    def has_function(self, name: str) -> bool:
        """Whether one of the handlers is for this function."""
        return len(self._definitions) == 1 or name in self._definitions

    # --- one history ---------------------------------------------------------------------------------------------

    def definition(self, function: str) -> Definition:
        """The handler for a function's histories; ValidationError if there is none."""
        if len(self._definitions) == 1:
            return next(iter(self._definitions.values()))
        found = self._definitions.get(function)
        if found is None:
            known = ", ".join(sorted(self._definitions))
            raise ValidationError(f"no handler is for function {function!r}; there are handlers for {known}")
        return found

    def _replay(self, history: History) -> ReplayResult:
        definition = self.definition(history.view.function)
        tries = 0
        judgement = Judgement()
        everything = fold_operations(history.events)
        for operations, after_event, is_last in points(history):
            tries += 1
            judge = Judge(everything, after_event)
            judgement = self._judge(definition, history, operations, judge, is_last=is_last)
            if judgement.divergence is not None or judgement.needs is not None:
                break
        view = history.view
        warnings = list(judgement.warnings)
        if not history.is_whole:
            warnings.insert(0, "the history was stored without its data: results are None here")
        divergence = judgement.divergence or judgement.needs
        if divergence is not None and history.is_redacted:
            divergence = msgspec.structs.replace(divergence, suggestion=f"{divergence.suggestion} {_REDACTED}")
        return ReplayResult(
            function=view.function,
            name=view.name,
            arn=view.arn,
            status=str(view.status),
            source=history.source,
            verdict=_verdict(judgement, warnings),
            operations=len(everything),
            events=len(history.events),
            boundaries=tries,
            divergence=divergence,
            warnings=tuple(warnings),
        )

    def _judge(
        self,
        definition: Definition,
        history: History,
        operations: Sequence[Operation],
        judge: Judge,
        *,
        is_last: bool,
    ) -> Judgement:
        view = history.view
        given = invocation_of(history, operations)
        run = rerun(definition, given)
        if is_last and view.status in ENDED:
            compares = history.is_whole and not history.is_redacted
            judgement = judge.of_ended(run, view.status, view.result, view.error, compares=compares)
        else:
            judgement = judge.of_open(run, may_fail=view.status is ExecutionStatus.FAILED)
        if judgement.divergence is not None and judgement.divergence.difference is Difference.REPLACED:
            return self._renamed(definition, given, judge, judgement)
        if is_last and judgement.divergence is None:
            warnings = (*judgement.warnings, *changed_terms(run, history.events, judge.everything))
            judgement = msgspec.structs.replace(judgement, warnings=warnings)
        return judgement

    def _renamed(self, definition: Definition, given: InvocationInput, judge: Judge, judgement: Judgement) -> Judgement:
        """If all fits but names, that is what has changed. Names are compared: it is a divergence all the same."""
        found = judgement.divergence
        assert found is not None
        again = rerun(definition, given, renames=True)
        fits = judge.of_open(again)
        if not again.journal.renamed or fits.divergence is not None:
            return judgement
        message = f"operation {found.number} is renamed: it is recorded as {found.expected}, and is {found.actual} now"
        suggestion = "Give it its name back, or use the new one only where " + 'context.patched("…") says so.'
        renamed = msgspec.structs.replace(found, difference=Difference.RENAMED, message=message, suggestion=suggestion)
        return msgspec.structs.replace(judgement, divergence=renamed)


_REDACTED: Final = "The history is redacted: code that branches on results may go another way because of that."


def _verdict(judgement: Judgement, warnings: Sequence[str]) -> Verdict:
    if judgement.divergence is not None:
        return Verdict.INCOMPATIBLE
    if judgement.needs is not None:
        return Verdict.NEEDS_NEW_OPERATION
    return Verdict.WARNINGS if warnings else Verdict.COMPATIBLE


def _definition(handler: Handler) -> Definition:
    definition = definition_of(handler)
    if definition is None:
        name = getattr(handler, "__qualname__", repr(handler))
        raise ValidationError(f"{name} is not durable: mark it with @durable_execution")
    return definition


# --- histories ----------------------------------------------------------------------------------------------------


def as_history(given: HistoryLike) -> History:
    """The history that is meant. Raises InvalidParameterValue if it is none, OSError if its file can't be read."""
    if isinstance(given, History):
        return given
    if isinstance(given, (Facts, Result)):
        return history_of_facts(given if isinstance(given, Facts) else given.facts)
    if isinstance(given, (str, Path)):
        return load_history(given)
    return read_history(given)


def invocation_of(history: History, operations: Iterable[Operation]) -> InvocationInput:
    """What an invocation would be given, were these the operations so far."""
    view = history.view
    return InvocationInput(
        arn=view.arn,
        execution_id=view.execution_id,
        execution_name=view.name,
        input=view.input,
        operations=visible_operations({each.id: each for each in operations}),
        start_ms=view.start_ms,
    )


def points(history: History) -> Iterator[tuple[Sequence[Operation], int, bool]]:
    """The operations as they were when an invocation could have begun, the event that was the last one then, and
    whether that is the end of the history.

    What happens between two invocations (a wait is over, a callback is answered) is there when the second begins.
    """
    events = history.events
    ends = [at for at, shown in enumerate(events) if isinstance(shown.event, ev.InvocationCompleted)]
    starts = [_start_of_next(events, end) for end in ends]
    chosen = [at for at in starts if at < len(events) and not isinstance(events[at].event, _ANSWERED)]
    if len(chosen) > BOUNDARIES_MAX:
        step = len(chosen) / BOUNDARIES_MAX
        chosen = [chosen[int(number * step)] for number in range(BOUNDARIES_MAX)]
    operations: dict[str, Operation] = {}
    done = 0
    for at in (*chosen, len(events)):
        for shown in itertools.islice(events, done, at):
            apply_event(operations, shown)
        done = at
        yield tuple(operations.values()), events[at - 1].event_id if at else 0, at == len(events)


_ANSWERED: Final = (ev.ExecutionSucceeded, ev.ExecutionFailed)
"""Events after an invocation that was the last one."""
_OUTSIDE: Final = (
    ev.WaitSucceeded,
    ev.CallbackSucceeded,
    ev.CallbackFailed,
    ev.CallbackTimedOut,
    ev.ChainedInvokeSucceeded,
    ev.ChainedInvokeFailed,
    ev.ChainedInvokeTimedOut,
    ev.ChainedInvokeStopped,
    ev.ExecutionPaused,
    ev.ExecutionResumed,
)
"""Events that come from elsewhere than the handler."""


def _start_of_next(events: Sequence[HistoryEvent], end: int) -> int:
    """How many events there were when the invocation after the one that ended with event `end` began."""
    at = end + 1
    following = next((shown.event for shown in events[at:] if isinstance(shown.event, ev.InvocationCompleted)), None)
    until_ms = following.start_ms if following is not None else None
    while at < len(events):
        event = events[at].event
        if not isinstance(event, _OUTSIDE) or (until_ms is not None and event.at_ms > until_ms):
            break
        at += 1
    return at


def sequence_of(history: History) -> Any:
    """What makes two ended executions alike: function, status, and all operations with their places and ends."""
    return (
        history.view.function,
        history.view.status,
        tuple(
            (shown.type, shown.operation_id, shown.name, shown.sub_type)
            for shown in history.events
            if shown.operation_id is not None
        ),
    )


def load_all(paths: Iterable[Path]) -> Iterator[History]:
    """The histories of some files. Raises ServiceError, which names the file, for one that holds none."""
    for path in paths:
        try:
            yield load_history(path)
        except OSError as error:
            raise ServiceError(f"{path} can't be read: {error.strerror}") from None
