"""How a command ends: its exit code, and an error in one line with the way out."""

import json
import os
from enum import IntEnum
from typing import Final

import click

from perdure.model import error as err


class Exit(IntEnum):
    """The exit codes. ENDED is for executions that end FAILED, TIMED_OUT or STOPPED under a command that waits."""

    OK = 0
    ENDED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    CONFLICT = 5
    GAVE_UP = 6
    INPUT_NEEDED = 7
    DIVERGED = 8
    FINDINGS = 9
    DENIED = 10
    INTERNAL = 70
    INTERRUPTED = 130


class CliError(Exception):
    """Ends the command with `exit_code` and one line; `kind` is the error's type in JSON."""

    def __init__(self, message: str, exit_code: Exit, *, hint: str | None = None, kind: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.hint = hint
        self.kind = kind or exit_code.name.title().replace("_", "")


_EXITS: Final[tuple[tuple[type[Exception], Exit], ...]] = (
    (err.ResourceNotFound, Exit.NOT_FOUND),
    (err.StoreReadOnly, Exit.DENIED),
    (err.AccessDenied, Exit.DENIED),
    (err.NotAStore, Exit.USAGE),
    (err.StoreError, Exit.CONFLICT),
    (err.ExecutionAlreadyStarted, Exit.CONFLICT),
    (err.ResourceConflict, Exit.CONFLICT),
    (err.CallbackTimeout, Exit.CONFLICT),
    (err.TooManyRequests, Exit.CONFLICT),
    (err.RequestTooLarge, Exit.USAGE),
    (err.InvalidParameterValue, Exit.USAGE),
)


def explain(error: BaseException) -> CliError:
    """What an error that reached the top means for whoever typed the command."""
    from perdure.exceptions import DurableExecutionsError

    match error:
        case CliError():
            return error
        case err.ServiceError():
            code = next((code for kind, code in _EXITS if isinstance(error, kind)), Exit.INTERNAL)
            return CliError(error.message, code, hint=error.hint, kind=error.code)
        case click.UsageError():
            command = error.ctx.command_path if error.ctx is not None else "perdure"
            return CliError(
                error.format_message(), Exit.USAGE, hint=f"`{command} --help` shows what there is", kind="UsageError"
            )
        case click.ClickException():
            return CliError(error.format_message(), Exit.USAGE, kind=type(error).__name__)
        case KeyboardInterrupt() | click.Abort():
            return CliError("interrupted", Exit.INTERRUPTED, kind="Interrupted")
        case DurableExecutionsError():
            return CliError(str(error), Exit.USAGE, kind=type(error).__name__)
        case _:
            return CliError(
                f"{type(error).__name__}: {error}",
                Exit.INTERNAL,
                hint="this is a defect of perdure's; -vv shows where it happened",
                kind="InternalError",
            )


def report(error: CliError, *, is_json: bool) -> None:
    """Say on stderr what went wrong: one line, or one JSON document."""
    message = " ".join(error.message.split()).rstrip(".")
    if is_json:
        facts = {"type": error.kind, "message": message, "hint": error.hint, "exit_code": int(error.exit_code)}
        click.echo(json.dumps({"error": facts}, ensure_ascii=False), err=True)
        return
    line = f"{click.style('error:', fg='red')} {message}" + ("" if message.endswith("?") else ".")
    if error.hint:
        line += f" {click.style('Hint:', bold=True)} {error.hint.rstrip('.')}."
    click.echo(line, err=True, color=False if os.environ.get("NO_COLOR") else None)
