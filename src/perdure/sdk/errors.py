"""Errors as they are recorded, and records as errors again."""

import os
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

from perdure.exceptions import (
    DurableOperationError,
    InterruptedStepError,
    SerDesError,
    StepError,
    StepInterruptedError,
    is_recorded_as,
    qualified_name,
)
from perdure.model.error import ErrorObject

if TYPE_CHECKING:
    from types import CodeType, TracebackType

FRAMES_MAX: Final = 20
STACK_BYTES_MAX: Final = 8 * 1024
_OWN: Final = os.path.dirname(os.path.dirname(__file__)) + os.sep  # noqa: PTH120 - pathlib takes 4 ms to load

E = TypeVar("E", bound=DurableOperationError)


def error_object(error: BaseException) -> ErrorObject:
    """What is recorded of an error: message, qualified type, and where in the author's code it came from."""
    if isinstance(error, (DurableOperationError, SerDesError)):
        kind = _recorded_kind(error)
        stack = tuple(error.stack_trace) if error.stack_trace else stack_of(error.__traceback__)
        return ErrorObject(str(error), qualified_name(kind), error.data, stack)
    return ErrorObject(_text_of(error), qualified_name(type(error)), None, stack_of(error.__traceback__))


def _recorded_kind(error: BaseException) -> type[BaseException]:
    """The class under whose name an error is recorded: one that the other SDKs know."""
    if isinstance(error, SerDesError):
        return SerDesError
    return StepError if isinstance(error, InterruptedStepError) else type(error)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an error that can't say what it is must not hide that it happened
        return "(the error's own text could not be made)"


def stack_of(trace: "TracebackType | None") -> tuple[str, ...] | None:
    """The last frames of a traceback, outermost first, from the author's first frame on; at most 8 KiB."""
    if trace is None:
        return None
    import linecache  # what formats tracebacks parses each line again, for marks that are not recorded

    frames: deque[tuple[CodeType, int]] = deque(maxlen=FRAMES_MAX)
    while trace is not None:
        code = trace.tb_frame.f_code
        if frames or not code.co_filename.startswith(_OWN):
            frames.append((code, trace.tb_lineno))
        trace = trace.tb_next
    lines = []
    for code, number in frames:
        source = linecache.getline(code.co_filename, number).strip()
        called = f'  File "{code.co_filename}", line {number}, in {code.co_name}'
        lines.append(f"{called}\n    {source}" if source else called)
    while lines and sum(len(line.encode()) for line in lines) > STACK_BYTES_MAX:
        lines.pop(0)
    return tuple(lines) or None


def rebuild(kind: type[E], error: ErrorObject | None, default: str) -> E:
    """The error of an operation, made from what is recorded of it."""
    if error is None:
        return kind(default)
    made = kind(error.message or default, error.type, error.data, error.stack_trace)
    if made.__cause__ is None and error.type is not None:
        fields = (error.type, made.message, error.data, error.stack_trace)
        made.__cause__ = DurableOperationError.from_error_fields(*fields)
    return made


def rebuild_step(kind: type[DurableOperationError], error: ErrorObject | None, default: str) -> Exception:
    """The error of a failed step or child: serialization failures and interruptions keep their own class."""
    if error is not None and is_recorded_as(error.type, SerDesError):
        failed = SerDesError(error.message, None, error.data, error.stack_trace)
        failed.__cause__ = DurableOperationError.from_error_fields(
            failed.error_type, error.message, error.data, error.stack_trace
        )
        return failed
    if kind is StepError and error is not None and is_recorded_as(error.type, StepInterruptedError):
        return rebuild(InterruptedStepError, error, default)
    return rebuild(kind, error, default)
