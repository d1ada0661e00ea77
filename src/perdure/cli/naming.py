"""Which execution is meant: an ARN, an id, the beginning of an id, function/name, a name, @last, @last-failed."""

import re
from itertools import islice
from typing import Final

from perdure.cli.desk import Desk
from perdure.cli.exits import CliError, Exit
from perdure.model.execution import ExecutionRow, ExecutionStatus
from perdure.model.ids import EXECUTION_NAME, ExecutionArn
from perdure.store.protocol import Query

PREFIX_MIN: Final = 6
SHORT: Final = 18
"""So much of an id is shown in tables: the millisecond of the start and twelve random bits."""

_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PREFIX: Final = re.compile(r"[0-9a-f-]+")
_SHOWN: Final = 6
_FAILED: Final = (ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT)
FORMS: Final = "an ARN, an id, the first 6 or more characters of one, function/name, a name, @last or @last-failed"


def find_execution(desk: Desk, word: str) -> str:
    """The id or the ARN of the execution that `word` means."""
    if word.startswith("arn:"):
        ExecutionArn.parse(word)
        return word
    lowered = word.lower()
    if _ID.fullmatch(lowered):
        return lowered
    if word.startswith("@"):
        return _last(desk, word)
    now_ms = desk.now_ms()
    function, slash, name = word.partition("/")
    if slash:
        for row in desk.rows(Query(now_ms=now_ms, function=function, name=name, limit=1)):
            return row.execution_id
        raise _missing(f"function {function!r} has no execution named {name!r}", desk)
    candidates: list[ExecutionRow] = []
    if _PREFIX.fullmatch(lowered) and len(word) >= PREFIX_MIN:
        candidates += islice(desk.rows(Query(now_ms=now_ms, id_prefix=lowered, limit=_SHOWN)), _SHOWN)
    if EXECUTION_NAME.fullmatch(word):
        named = islice(desk.rows(Query(now_ms=now_ms, name=word, limit=_SHOWN)), _SHOWN)
        candidates += [row for row in named if row.execution_id not in {other.execution_id for other in candidates}]
    if len(candidates) == 1:
        return candidates[0].execution_id
    if candidates:
        shown = ", ".join(f"{row.execution_id} ({row.function}/{row.shown_name})" for row in candidates[:5])
        raise CliError(f"{word!r} means more than one execution: {shown}", Exit.USAGE, hint="give more of the id")
    if _PREFIX.fullmatch(lowered) and len(word) < PREFIX_MIN:
        raise CliError(f"{word!r} is too short for the beginning of an id", Exit.USAGE, hint=f"give {FORMS}")
    raise _missing(f"there is no execution {word!r}", desk)


def _last(desk: Desk, word: str) -> str:
    statuses = {"@last": (), "@last-failed": _FAILED}.get(word)
    if statuses is None:
        raise CliError(f"{word!r} is neither @last nor @last-failed", Exit.USAGE, hint=f"give {FORMS}")
    if not statuses and (found := desk.last_started()) is not None:
        return found
    for row in desk.rows(Query(now_ms=desk.now_ms(), statuses=statuses)):
        if row.parent is None or statuses:
            return row.execution_id
    raise _missing("no execution has failed" if statuses else "nothing has been started", desk)


def _missing(message: str, desk: Desk) -> CliError:
    return CliError(
        f"{message} {desk.where}",
        Exit.NOT_FOUND,
        hint="`perdure execution list` shows which there are; --store and --endpoint say where",
        kind="NotFound",
    )
