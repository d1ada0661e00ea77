"""What a command says of an execution at which it has waited, and its exit code."""

import json
import sys
from typing import Final

import click

from perdure.cli.exits import CliError, Exit
from perdure.cli.lines import error_line
from perdure.cli.output import dumps, write_document
from perdure.cli.settings import Settings
from perdure.model.execution import ExecutionStatus
from perdure.model.view import ExecutionView
from perdure.wire.executions import write_execution
from perdure.wire.forms import PEOPLE

DIVERGED: Final = "NonDeterministicExecutionError"


def finish(options: Settings, view: ExecutionView) -> int:
    """Print the result of an execution that has ended, or say how it ended."""
    if options.output is not None:
        write_document(options, write_execution(view, PEOPLE), lambda: view.result or "null")
    elif view.status is ExecutionStatus.SUCCEEDED:
        write_result(view.result)
    if view.status is ExecutionStatus.SUCCEEDED:
        return Exit.OK
    raise ended_badly(view)


def write_result(result: str | None) -> None:
    """A result as it is; on a terminal, laid out if it is JSON."""
    text = result if result is not None else "null"
    if sys.stdout.isatty():
        try:
            text = dumps(json.loads(text))
        except ValueError:
            pass
    click.echo(text)


def ended_badly(view: ExecutionView) -> CliError:
    """The error that says how an execution ended that did not succeed."""
    error = error_line(view.error) if view.error is not None else "no error was given"
    has_diverged = view.error is not None and (view.error.type or "").endswith(DIVERGED)
    return CliError(
        f"{view.function}/{view.name} ended {view.status}: {error}",
        Exit.DIVERGED if has_diverged else Exit.ENDED,
        hint=f"`perdure execution history {view.execution_id}` shows what happened",
        kind=view.error.type if view.error is not None and view.error.type else str(view.status),
    )
