"""What a run over records amounts to: may the code go on with this execution, and if not, where do they part?"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from perdure.model.error import ErrorObject
from perdure.model.operation import Operation, OperationType
from perdure.model.word import Word
from perdure.sdk.errors import error_object
from perdure.sdk.invocation import InvocationStatus
from perdure.sdk.scope import Scope
from perdure.testing.histories import MARKERS
from perdure.testing.replaying.asking import Asked, Rerun, Where, is_authors, places_after

BATCHES: Final = frozenset({"Map", "Parallel"})
BRANCHES: Final = frozenset({"MapIteration", "ParallelBranch"})
AROUND: Final = 3
"""So many operations are shown before and after the one where code and record part."""
GAPS_MAX: Final = 16
"""So many contexts that record nothing may lie between two operations."""


class Verdict(Word):
    """What can be said of code and a stored history.

    NEEDS_NEW_OPERATION: the code would run something new first; what it asks for afterwards, nobody can tell.
    """

    COMPATIBLE = "COMPATIBLE"
    WARNINGS = "COMPATIBLE_WITH_WARNINGS"
    NEEDS_NEW_OPERATION = "NEEDS_NEW_OPERATION"
    INCOMPATIBLE = "INCOMPATIBLE"


class Difference(Word):
    """How the code differs from what is recorded, as far as the first difference tells."""

    RENAMED = "renamed"
    RETYPED = "retyped"
    REMOVED = "removed"
    MOVED = "removed or moved"
    REPLACED = "inserted or replaced"
    ADDED = "added"
    RAISES = "raises"
    OTHER = "other"


class Divergence(msgspec.Struct, frozen=True):
    """The first place where the code and the record part.

    `expected` and `actual` are the recorded operation and the one that the code asks for, in words. `number` is that of
    the recorded operation, counted from 1 in the order of starting; `after_event` the event up to which the history was
    taken. `diff` shows the operations around, one a line, those that differ after `-` and `+`.
    """

    difference: Difference
    message: str
    expected: str | None
    actual: str | None
    number: int | None
    path: str | None
    where: Where | None
    after_event: int
    diff: tuple[str, ...] = ()
    suggestion: str = ""

    def __str__(self) -> str:
        lines = [self.message]
        if self.where is not None:
            lines.append(f"  at {self.where}" + (f": {self.where.text}" if self.where.text else ""))
        lines += [f"  {line}" for line in self.diff]
        if self.suggestion:
            lines.append(f"  {self.suggestion}")
        return "\n".join(lines)


class Judgement(msgspec.Struct, frozen=True):
    """What one run says: where it diverged, what it needs first, what is worth a word."""

    divergence: Divergence | None = None
    needs: Divergence | None = None
    warnings: tuple[str, ...] = ()


_GATE: Final = (
    'Put the change behind a version gate: `if context.patched("…"): new code, else: the code as it was`; or publish '
    "it as a new version, and let open executions end on theirs."
)


class Judge:
    """Judges runs over the operations of one history, as they were after its event `after_event`.

    `everything` are the operations that there were in the end: they tell what has become of one that is missed.
    """

    def __init__(self, everything: Sequence[Operation], after_event: int) -> None:
        self.everything = everything
        self._records = {operation.id: operation for operation in everything}
        self._after_event = after_event

    # --- the whole -----------------------------------------------------------------------------------------------

    def of_open(self, run: Rerun, *, may_fail: bool = False) -> Judgement:
        """Whether the code can go on from here; the execution has not ended, or `may_fail` later on, and now."""
        return (
            self._diverged(run)
            or (None if may_fail else self._raised(run, "the execution would fail"))
            or self._removed(run)
            or self._needs(run)
            or Judgement(warnings=tuple(self._unasked(run)))
        )

    def of_ended(
        self, run: Rerun, status: str, result: str | None, error: ErrorObject | None, *, compares: bool = True
    ) -> Judgement:
        """Whether the code asks for all that is recorded of an execution that has ended, and `compares` results."""
        if status not in ("SUCCEEDED", "FAILED"):
            return self.of_open(run)
        found = self._diverged(run) or self._removed(run) or self._needs(run)
        if found is None and status == "SUCCEEDED":
            found = self._raised(run, f"the execution has ended {status}")
        otherwise = self._ends_otherwise(run, status, result, error) if compares else ()
        return found or Judgement(warnings=(*self._unasked(run), *otherwise))

    # --- divergences ---------------------------------------------------------------------------------------------

    def _diverged(self, run: Rerun) -> Judgement | None:
        divergence = run.divergence
        if divergence is None:
            return None
        asked = run.journal.diverged
        if asked is None or asked.record is None:
            record = self._records.get(divergence.step_id or "")
            text, _, rest = str(divergence).partition(". ")
            suggestion = rest or _GATE
            return self._found(Difference.OTHER, text.partition("diverged at ")[2] or text, record, None, suggestion)
        record, difference = asked.record, self._difference(asked)
        message = f"operation {record.number} is recorded as {called(record)}; the code asks for {_asked_called(asked)}"
        if difference is Difference.MOVED:
            message += f", which is recorded as operation {self._later(asked).number}"
        return self._found(difference, message, record, asked, _GATE)

    def _difference(self, asked: Asked) -> Difference:
        record = asked.record
        assert record is not None
        same_name = (record.name or None) == asked.name
        if same_name and asked.name is not None:
            return Difference.RETYPED
        if self._find_later(asked) is not None:
            return Difference.MOVED
        if same_name:
            return Difference.RETYPED
        return Difference.REPLACED

    def _find_later(self, asked: Asked) -> Operation | None:
        """The operation that was asked for, where it is recorded at a later place of the same context."""
        assert asked.record is not None
        wanted = (asked.type, asked.sub_type, asked.name, asked.parent_id)
        later = [each for each in self._records.values() if each.number > asked.record.number]
        return next((each for each in later if _identity(each) == wanted), None)

    def _later(self, asked: Asked) -> Operation:
        found = self._find_later(asked)
        assert found is not None
        return found

    def _raised(self, run: Rerun, otherwise: str) -> Judgement | None:
        error = _error_of(run)
        if error is None:
            return None
        where = _where_raised(error)
        kind = (error.type or "an error").rpartition(".")[2]
        message = f"the code raises {kind}: {error.message or ''}".rstrip(": ") + f"; {otherwise}"
        suggestion = "Nothing of what runs between operations may fail where it did not fail before."
        divergence = Divergence(
            Difference.RAISES, message, None, None, None, None, where, self._after_event, (), suggestion
        )
        return Judgement(divergence)

    def _removed(self, run: Rerun) -> Judgement | None:
        """Recorded operations that the code of a context has not asked for, and never will: it has ended."""
        for scope in _ended_scopes(run):
            left = self._left_over(run, scope)
            if left is not None:
                message = f"operation {left.number}, {called(left)}, is recorded, and the code does not ask for it"
                return self._found(Difference.REMOVED, message, left, None, _GATE, last=run.journal.latest.get(scope))
        return None

    def _needs(self, run: Rerun) -> Judgement | None:
        """New operations that the code would run first, although later ones are recorded."""
        for scope, called_as, where in _new_operations(run):
            left = self._left_over(run, scope)
            if left is not None:
                message = (
                    f"the code first needs a new operation, {called_as}; operation {left.number}, {called(left)}, "
                )
                message += "is recorded, and whether the code asks for it then can't be told"
                suggestion = "A step with an `id` of its own may be inserted: it runs, and the code goes on. " + _GATE
                diff = (f"+ {called_as}", f"  {left.number}. {called(left)}")
                return Judgement(
                    needs=Divergence(
                        Difference.ADDED, message, called(left), called_as, left.number, path_of(left, self._records),
                        where, self._after_event, diff, suggestion,
                    )
                )  # fmt: skip
        return None

    def _left_over(self, run: Rerun, scope: Scope) -> Operation | None:
        """The first of the next places of a scope at which something is recorded that was not asked for."""
        possible = [
            each
            for each in run.journal.records.values()
            if (each.parent_id or None) == scope.parent_id and each.id not in run.asked
        ]
        if not possible:
            return None
        for place in places_after(scope, len(possible) + GAPS_MAX):
            found = run.journal.records.get(place)
            if found is not None and found.id not in run.asked:
                return found
        return None

    def _found(
        self,
        difference: Difference,
        message: str,
        record: Operation | None,
        asked: Asked | None,
        suggestion: str,
        *,
        last: Asked | None = None,
    ) -> Judgement:
        where = asked.where if asked is not None else last.where if last is not None else None
        return Judgement(
            Divergence(
                difference,
                message,
                called(record) if record is not None else None,
                _asked_called(asked) if asked is not None else None,
                record.number if record is not None else None,
                path_of(record, self._records) if record is not None else None,
                where,
                self._after_event,
                tuple(self._diff(record, asked)) if record is not None else (),
                suggestion,
            )
        )

    def _diff(self, record: Operation, asked: Asked | None) -> Iterator[str]:
        """The recorded operations of a context around one, and what the code asks for in its place."""
        siblings = [
            each
            for each in self._records.values()
            if (each.parent_id or None) == (record.parent_id or None) and each.sub_type not in MARKERS
        ]
        at = siblings.index(record) if record in siblings else 0
        for each in siblings[max(0, at - AROUND) : at]:
            yield f"  {each.number}. {called(each)}"
        yield f"- {record.number}. {called(record)}"
        if asked is not None:
            yield f"+ {record.number}. {_asked_called(asked)}"
        for each in siblings[at + 1 : at + 1 + AROUND]:
            yield f"  {each.number}. {called(each)}"

    # --- words ---------------------------------------------------------------------------------------------------

    def _unasked(self, run: Rerun) -> Iterator[str]:
        """Steps with an id of their own that are not asked for any more: nothing stops because of that."""
        if run.top not in _ended_scopes(run):
            return
        for each in run.journal.records.values():
            is_top = each.parent_id is None and each.sub_type not in MARKERS
            if is_top and each.id not in run.asked and each.type is not OperationType.EXECUTION:
                yield f"operation {each.number}, {called(each)}, is recorded and not asked for any more"

    def _ends_otherwise(self, run: Rerun, status: str, result: str | None, error: ErrorObject | None) -> Iterator[str]:
        answer = run.answer
        if answer is None:
            return
        if answer.status is InvocationStatus.PENDING:
            new = next(iter(_new_operations(run)), None)
            waits = f"with {new[1]}" if new is not None else "waiting for something that had not ended"
            yield f"the execution has ended {status}; the code would go on {waits}"
        elif answer.status is InvocationStatus.FAILED:
            now = answer.error or ErrorObject()
            if error is None or (now.type, now.message) != (error.type, error.message):
                yield f"the execution failed with {_short(error)}; the code fails with {_short(now)}"
        elif status == "FAILED":
            yield f"the execution failed with {_short(error)}; the code returns {_cut(answer.result)}"
        elif not is_same_json(answer.result, result):
            yield f"the execution returned {_cut(result)}; the code returns {_cut(answer.result)}"


def _ended_scopes(run: Rerun) -> list[Scope]:
    """The scopes whose functions have come to their end, the handler's last; not those that batches are made of."""
    ended = [
        inner
        for _scope, update, inner in run.left
        if inner is not None and update.sub_type not in BATCHES and update.type is OperationType.CONTEXT
    ]
    answer = run.answer
    if run.top is not None and answer is not None and answer.status is not InvocationStatus.PENDING:
        ended.append(run.top)
    return ended


def _new_operations(run: Rerun) -> Iterator[tuple[Scope, str, Where | None]]:
    """What the code would begin next: the scope, the operation in words, the line."""
    seen: set[str] = set()
    for asked in run.asked.values():
        if asked.record is None and asked.sub_type not in BRANCHES:
            seen.add(asked.place)
            yield asked.scope, _asked_called(asked), asked.where
    for scope, update, _ in run.left:
        if update.id not in run.journal.records and update.id not in seen:
            yield scope, call(update.type, update.sub_type, update.name), None


def _error_of(run: Rerun) -> ErrorObject | None:
    if run.raised is not None:
        return error_object(run.raised)
    answer = run.answer
    if answer is not None and answer.status is InvocationStatus.FAILED:
        return answer.error or ErrorObject()
    return None


_FRAME: Final = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>[^\n]+)')


def _where_raised(error: ErrorObject) -> Where | None:
    """The innermost of the author's frames in an error's stack."""
    found = [_FRAME.search(line) for line in reversed(error.stack_trace or ())]
    for frame in found:
        if frame is not None and is_authors(frame["file"]):
            return Where(frame["file"], int(frame["line"]), frame["function"])
    return None


# --- words --------------------------------------------------------------------------------------------------------


def call(kind: OperationType, sub_type: str | None, name: str | None) -> str:
    """`STEP 'charge'`, `CONTEXT (Map) 'orders'`, `WAIT without a name`."""
    plain = {"Step", "Wait", "Callback", "ChainedInvoke", ""}
    kind_text = str(kind) if (sub_type or "") in plain else f"{kind} ({sub_type})"
    return f"{kind_text} '{name}'" if name else f"{kind_text} without a name"


def called(record: Operation) -> str:
    return call(record.type, record.sub_type, record.name)


def _asked_called(asked: Asked) -> str:
    return call(asked.type, asked.sub_type, asked.name)


def _identity(record: Operation) -> tuple[Any, ...]:
    return record.type, record.sub_type or "", record.name or None, record.parent_id or None


def path_of(record: Operation, records: Mapping[str, Operation]) -> str:
    """The names from the top to an operation, with a slash between them."""
    names: list[str] = []
    at: Operation | None = record
    while at is not None:
        names.append(at.name or str(at.type).lower())
        at = records.get(at.parent_id or "")
    return "/".join(reversed(names))


def is_same_json(one: str | None, other: str | None) -> bool:
    """Whether two payloads are the same, whatever their blanks and the order of their keys."""
    if one == other:
        return True
    try:
        first, second = (msgspec.json.decode(text) if text else None for text in (one, other))
    except msgspec.DecodeError:
        return False
    return bool(first == second)


def _short(error: ErrorObject | None) -> str:
    return "nothing" if error is None else _cut(f"{(error.type or 'error').rpartition('.')[2]}: {error.message or ''}")


def _cut(text: str | None) -> str:
    if text is None:
        return "nothing"
    return text if len(text) <= 100 else f"{text[:99]}…"
