"""History snapshots: what an execution did, kept as a text beside the test, compared at every run.

The text has no times, ids or stack traces, so that it is the same at every run of the same code.
"""

import inspect
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from perdure.lambda_service import OperationStatus, OperationType
from perdure.testing.assertions import diff
from perdure.testing.exceptions import UnknownValue
from perdure.testing.operations import InvokeOperation, Operation, WaitOperation
from perdure.testing.tree import describe_batch, human, kind

if TYPE_CHECKING:
    from perdure.testing.result import Result

FOLDER: Final = "__snapshots__"
UPDATE_VARIABLE: Final = "PERDURE_UPDATE"

is_updating = False
"""Whether snapshots are written rather than compared: `--perdure-update` of the pytest plugin sets it."""


def snapshot_text(result: "Result") -> str:
    """The execution, normalised: the outcome, and a line for each operation with its status, attempts and value."""
    lines = [str(result.execution_status)]
    if result.error is not None:
        lines.append(f"error: {_line(str(result.error))}")
    elif result.raw_result is not None:
        lines.append(f"result: {_line(result.raw_result)}")
    lines += ["  " * (operation.depth + 1) + _described(operation) for operation in result.all_operations]
    return "\n".join(lines) + "\n"


def _described(operation: Operation) -> str:
    parts = [operation.display_name, f"[{kind(operation)}]", str(operation.status)]
    attempts = operation.attempts
    if len(attempts) > 1:
        parts.append(f"in {len(attempts)} attempts")
    if isinstance(operation, WaitOperation) and operation.scheduled_end_timestamp and operation.start_timestamp:
        parts.append(f"for {human(operation.scheduled_end_timestamp - operation.start_timestamp)}")
    if isinstance(operation, InvokeOperation):
        parts.append(f"of {operation.function_name}")
    error = getattr(operation, "error", None)
    if error is not None:
        parts.append(f"error: {_line(str(error))}")
    elif operation.status is OperationStatus.SUCCEEDED and operation.operation_type is not OperationType.WAIT:
        parts.append(f"= {_value(operation)}")
    return " ".join(parts)


def _value(operation: Operation) -> str:
    try:
        value = operation.value
    except UnknownValue:
        return _line(str(getattr(operation, "result", None)))
    return describe_batch(value) or _line(_ADDRESS.sub("", repr(value)))


_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


def _line(text: str) -> str:
    return text.replace("\n", "\\n")


def snapshot(
    result: "Result",
    name: str | None = None,
    *,
    path: "str | os.PathLike[str] | None" = None,
    update: bool | None = None,
) -> None:
    """Compare what the execution did with what is kept of it; AssertionError shows the difference.

    It is kept in `__snapshots__/` beside the file of the caller, under the name of the running pytest test or of the
    calling function and `name`; or at `path`. With `update` (or `--perdure-update`, or PERDURE_UPDATE=1) it is written.
    """
    caller = inspect.stack()[1] if path is None else None
    home = Path(path) if path is not None else _home(caller, name)
    text = snapshot_text(result)
    if update is None:
        update = is_updating or os.environ.get(UPDATE_VARIABLE, "") not in ("", "0")
    if update:
        home.parent.mkdir(parents=True, exist_ok=True)
        home.write_text(text, encoding="utf-8")
        return
    if not home.exists():
        raise AssertionError(
            f"there is no snapshot {home}; look at what would be kept, then run with --perdure-update\n\n{text}"
        )
    kept = home.read_text("utf-8")
    if kept != text:
        raise AssertionError(
            f"the execution did not do what {home} says; if the change is meant, run with --perdure-update\n\n"
            f"{diff(kept, text)}\n\n{result.tree()}"
        )


def _home(caller: "inspect.FrameInfo | None", name: str | None) -> Path:
    assert caller is not None
    current = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0].rpartition("::")[2]
    parts = [Path(caller.filename).stem, current or caller.function, *([name] if name else [])]
    return Path(caller.filename).parent / FOLDER / (re.sub(r"[^\w.-]+", "-", ".".join(parts)).strip("-") + ".txt")
