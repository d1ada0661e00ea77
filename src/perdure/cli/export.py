"""`perdure execution export`: a history as a file, for replays."""

from pathlib import Path

import click

from perdure.cli.desk import Desk, opened
from perdure.cli.execution import one_execution
from perdure.cli.exits import CliError, Exit
from perdure.cli.naming import find_execution
from perdure.cli.output import dumps
from perdure.cli.settings import Command, settings
from perdure.testing.histories import History, write_history
from perdure.testing.redaction import redact as redacted


@click.command("export", cls=Command)
@one_execution
@click.argument("file", metavar="[FILE|-]", default="-", type=click.Path(allow_dash=True))
@click.option("--redact", is_flag=True, help="Put stand-ins of the same types in place of inputs, results and errors.")
@click.option("--format", "form", type=click.Choice(["history"]), default="history", help="What to write: JSON.")
def export_execution(execution: str, file: str, redact: bool, form: str) -> None:
    """Write an execution and its whole history as JSON, which `perdure replay --histories` reads.

    A FILE is best called NAME.history.json; without one, or for -, it goes to stdout.
    """
    options = settings()
    with opened(options) as desk:
        history = stored_history(desk, execution)
    if redact:
        history = redacted(history)
    write_text(file, dumps(write_history(history)) + "\n")
    if file != "-" and not options.is_quiet:
        click.echo(f"{history.label}: {len(history.events)} events to {file}", err=True)


def stored_history(desk: Desk, execution: str) -> History:
    """The history of the execution that is meant, with its data."""
    found = find_execution(desk, execution)
    view = desk.get(found)
    return History(view, tuple(desk.events(found)), view.arn)


def write_text(file: str, text: str) -> None:
    """Write a file, or stdout for `-`."""
    if file == "-":
        click.echo(text, nl=False)
        return
    path = Path(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise CliError(f"{path} can't be written: {error.strerror}", Exit.USAGE, kind="NotWritten") from None
