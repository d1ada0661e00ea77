"""What may be asked of every durable test beside what it says: kept histories go on, and crashes change nothing."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.execution import definition_of
from perdure.model.execution import ENDED, ExecutionStatus
from perdure.model.operation import Callback, OperationStatus
from perdure.testing.exceptions import recorded

if TYPE_CHECKING:
    from perdure.testing.facts import Facts
    from perdure.testing.histories import History
    from perdure.testing.local_runner import LocalRunner

_replayed: set[tuple[int, Path]] = set()


def check_histories(handler: Callable[..., Any], folder: Path) -> None:
    """Replay the histories of a function in a folder with its code, once in a process.

    Raises IncompatibleError, which says where code and history part.
    """
    definition = definition_of(handler)
    if definition is None or (id(handler), folder) in _replayed:
        return
    _replayed.add((id(handler), folder))
    found = [history for history in _histories(folder) if history.view.function == definition.name]
    if found:
        from perdure.testing.replaying.replayer import Replayer

        Replayer(handler).replay_many(found).assert_compatible()


@lru_cache(maxsize=8)
def _histories(folder: Path) -> "Sequence[History]":
    from perdure.testing.histories import find_histories, load_history

    return [load_history(path) for path in find_histories(folder)]


def check_all_crashes(runner: "LocalRunner", handler: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Run each execution of a runner again, from the same input and with the same answers, with a crash at every point.

    Those that were stopped or have no end, and those with callbacks that have no name to be answered by, are left out.
    Raises CrashCheckFailed with the report.
    """
    from perdure.testing.crashing.check import check_crashes

    kept = {name: value for name, value in options.items() if name != "clock"}
    seen: set[tuple[str | None, str]] = set()
    for execution in runner.executions:
        facts = runner.backend.facts(execution)
        answers = _answers(facts)
        key = (facts.input, repr(answers))
        if facts.status not in ENDED or facts.status is ExecutionStatus.STOPPED or answers is None or key in seen:
            continue
        seen.add(key)
        check_crashes(
            handler,
            json.loads(facts.input) if facts.input else None,
            setup=lambda again, answers=answers: _prepare(again, runner, answers),  # type: ignore[misc]
            **kept,
        )


Answer = tuple[str | None, Any]
"""What a callback was answered with: a text, or an error."""


def _answers(facts: "Facts") -> dict[str, list[Answer]] | None:
    """What the callbacks of an execution were answered with, by name; None if one has no name."""
    parents = {operation.id: operation for operation in facts.operations}
    found: dict[str, list[Answer]] = defaultdict(list)
    for operation in facts.operations:
        if not isinstance(operation, Callback) or operation.status is OperationStatus.TIMED_OUT:
            continue
        parent = parents.get(operation.parent_id or "")
        is_within = parent is not None and parent.sub_type == "WaitForCallback"
        name = parent.name if is_within and parent is not None else operation.name
        if name is None:
            return None
        found[name].append((operation.result, operation.error))
    return found


def _prepare(again: "LocalRunner", runner: "LocalRunner", answers: Mapping[str, Sequence[Answer]]) -> None:
    again.prepare_as(runner)
    known = set(again.answered_callbacks)
    for name, given in answers.items():
        if name not in known:
            again.auto_callback(name, _answering(iter(given)))


def _answering(left: Iterator[Answer]) -> Callable[[str], Any]:
    def answer(_callback_id: str) -> str | None:
        text, error = next(left)
        if error is not None:
            found = recorded(error)
            assert found is not None
            raise found.exception()
        return text

    return answer
