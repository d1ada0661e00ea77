"""Operations as lines of a tree: a sign for the status, the name, and what there is to say at this moment."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from perdure.cli.moments import countdown, duration_text
from perdure.model.error import ErrorObject
from perdure.model.operation import (
    Callback,
    ChainedInvoke,
    Operation,
    OperationStatus as Status,
    OperationType as Type,
    Step,
    Wait,
)

_SIGNS: Final = {
    Status.SUCCEEDED: ("✓", "ok", "green"),
    Status.FAILED: ("✗", "!!", "red"),
    Status.TIMED_OUT: ("✗", "!!", "red"),
    Status.STOPPED: ("■", "##", "yellow"),
    Status.CANCELLED: ("-", "--", "yellow"),
    Status.PENDING: ("↻", "..", "yellow"),
    Status.READY: ("↻", "..", "yellow"),
    Status.STARTED: ("▸", "->", "cyan"),
}
_WAITING_SIGN: Final = ("◷", "..", "cyan")


class Line(msgspec.Struct, frozen=True):
    """One operation: how deep it lies, its sign and the sign's colour, its label, its details."""

    operation: Operation
    depth: int
    sign: str
    style: str
    label: str
    detail: str


def in_order(operations: Iterable[Operation]) -> Iterator[tuple[int, Operation]]:
    """Every operation with its depth: children below their parents, siblings in the order of their start."""
    children: dict[str | None, list[Operation]] = defaultdict(list)
    known = set()
    for operation in operations:
        children[operation.parent_id].append(operation)
        known.add(operation.id)
    stack = [(0, operation) for parent, found in children.items() if parent not in known for operation in found]
    stack.sort(key=lambda item: item[1].number, reverse=True)
    while stack:
        depth, operation = stack.pop()
        yield depth, operation
        stack += [(depth + 1, child) for child in reversed(children.get(operation.id, ()))]


def line_of(operation: Operation, depth: int, now_ms: int) -> Line:
    is_waiting = operation.status is Status.STARTED and operation.type in (Type.WAIT, Type.CALLBACK)
    sign, plain, style = _WAITING_SIGN if is_waiting else _SIGNS[operation.status]
    if not speaks_unicode():
        sign = plain
    return Line(operation, depth, sign, style, label_of(operation), detail_of(operation, now_ms))


def label_of(operation: Operation) -> str:
    """The name that the author gave it, and what it is where that is not a step."""
    kind = operation.sub_type or operation.type.replace("_", " ").lower()
    if operation.name is None:
        return f"({kind})"
    return operation.name if operation.type is Type.STEP and kind == "Step" else f"{operation.name} ({kind})"


def detail_of(operation: Operation, now_ms: int) -> str:
    """What there is to say: how long, which attempt, what it waits for, which error."""
    parts: list[str] = []
    match operation:
        case Step(status=Status.PENDING, next_attempt_ms=due) if due is not None:
            parts.append(f"attempt {operation.attempt + 1} in {countdown(due - now_ms)}")
        case Step(status=Status.STARTED | Status.READY, attempt=attempt) if attempt:
            parts.append(f"attempt {attempt + 1}")
        case Step(attempt=attempt) if attempt > 1:
            parts.append(f"{attempt} attempts")
        case Wait(status=Status.STARTED, scheduled_end_ms=due) if due is not None:
            parts.append(countdown(due - now_ms))
        case Callback(status=Status.STARTED):
            parts.append("waits for an answer")
            if operation.due_ms is not None:
                parts.append(f"at most {countdown(operation.due_ms - now_ms)}")
        case ChainedInvoke():
            parts.append(operation.function)
    if operation.end_ms is not None:
        parts.append(duration_text(operation.end_ms - operation.start_ms))
    elif _is_at_work(operation) and now_ms - operation.start_ms >= 1000:
        parts.append(duration_text((now_ms - operation.start_ms) // 1000 * 1000))
    if operation.error is not None and operation.status is not Status.SUCCEEDED:
        parts.append(error_line(operation.error))
    return "  ".join(parts)


def _is_at_work(operation: Operation) -> bool:
    return operation.status is Status.STARTED and not isinstance(operation, (Wait, Callback))


def error_line(error: ErrorObject) -> str:
    """The last word of the type, and the message, on one line."""
    kind = (error.type or "Error").rpartition(".")[2]
    message = " ".join((error.message or "").split())
    return f"{kind}: {message[:160]}" if message else kind


def plain_tree(operations: Sequence[Operation], now_ms: int, depth_max: int | None = None) -> Iterator[str]:
    """The lines of the tree as text."""
    for depth, operation in in_order(operations):
        if depth_max is None or depth < depth_max:
            line = line_of(operation, depth, now_ms)
            yield f"{'  ' * depth}{line.sign} {line.label}  {line.detail}".rstrip()


def speaks_unicode() -> bool:
    """Whether the terminal can show the signs."""
    real = sys.__stdout__ or sys.stdout
    encoding = (real.encoding or "").lower().replace("-", "")
    return encoding.startswith("utf")
