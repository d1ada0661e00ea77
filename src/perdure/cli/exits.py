"""How a command ends: its exit code, and an error in one line with the way out."""

import json
import os
from enum import IntEnum
from typing import Final

import click

from perdure.client import errors as far
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


_FAR_EXITS: Final = {
    401: Exit.DENIED,
    403: Exit.DENIED,
    404: Exit.NOT_FOUND,
    409: Exit.CONFLICT,
    412: Exit.CONFLICT,
    429: Exit.CONFLICT,
}
"""What an error of a server means, by its HTTP status; any other refusal is a command that can't be."""
_NO_SUCH_ROUTE: Final = frozenset({err.UnknownOperation.code, "HTTP 404"})
_HOW_TO_SIGN: Final = (
    "set PERDURE_ACCESS_KEY_ID and PERDURE_SECRET_ACCESS_KEY, or name a profile with --profile; "
    "`perdure keys create` makes a key"
)


def _explain_far(error: far.ClientError) -> CliError:
    """What an error of a server, or on the way to it, means."""
    match error:
        case far.ApiError(code=code) if code in _NO_SUCH_ROUTE:
            return CliError(
                f"the server does not know what was asked of it: {error.message}",
                Exit.UNREACHABLE,
                hint="it may be older than this command, or none of Perdure's",
                kind=code,
            )
        case far.ApiError(code=err.CallbackTimeout.code):
            return CliError(error.message, Exit.CONFLICT, hint=error.hint, kind=error.code)
        case far.ApiError(code=err.MissingAuthentication.code | err.UnrecognizedClient.code):
            return CliError(error.message, Exit.DENIED, hint=_HOW_TO_SIGN, kind=error.code)
        case far.ApiError(status=status):
            exit_code = _FAR_EXITS.get(status, Exit.USAGE if status < 500 else Exit.INTERNAL)
            hint = error.hint or (f"the server's log has {error.request_id}" if status >= 500 else None)
            return CliError(error.message, exit_code, hint=hint, kind=error.code)
        case far.Unreachable():
            return CliError(
                error.message,
                Exit.UNREACHABLE,
                hint="`perdure serve` starts a server; --endpoint names another one, --store a store file",
                kind="Unreachable",
            )
        case far.NotUnderstood():
            return CliError(error.message, Exit.UNREACHABLE, hint=error.hint, kind="NotUnderstood")
    return CliError(error.message, Exit.USAGE, hint=error.hint, kind="ClientError")


def explain(error: BaseException) -> CliError:
    """What an error that reached the top means for whoever typed the command."""
    from perdure.exceptions import DurableExecutionsError

    match error:
        case CliError():
            return error
        case err.ServiceError():
            code = next((code for kind, code in _EXITS if isinstance(error, kind)), Exit.INTERNAL)
            return CliError(error.message, code, hint=error.hint, kind=error.code)
        case far.ClientError():
            return _explain_far(error)
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
