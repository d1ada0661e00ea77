"""`perdure execution export` and `to-test`: an execution as a file, for replays, or as a test."""

from pathlib import Path

import click

from perdure.cli import completion
from perdure.cli.desk import Desk, opened
from perdure.cli.execution import one_execution
from perdure.cli.exits import CliError, Exit
from perdure.cli.naming import find_execution
from perdure.cli.output import dumps
from perdure.cli.running import handlers_of, quiet_stdout
from perdure.cli.settings import Command, Settings, settings
from perdure.cli.source import find_durable
from perdure.testing.histories import History, history_from, load_history, write_history
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


@click.command("to-test", cls=Command)
@click.argument("execution", metavar="EXECUTION|FILE", shell_complete=completion.executions)
@click.argument("file", metavar="[TEST_FILE|-]", default="-", type=click.Path(allow_dash=True))
@click.option("--handler", metavar="MODULE_OR_FILE:HANDLER", help="The code; without it, it is looked for here.")
def execution_to_test(execution: str, file: str, handler: str | None) -> None:
    """Write a pytest file that reproduces an execution that has ended.

    Mocks give what the bodies of its steps came to, callbacks are answered and functions return as they did; its
    result and its operations are asserted. Without a TEST_FILE, or for -, it goes to stdout.
    """
    from perdure.testing.reproducing import write_test

    options = settings()
    history = history_at(options, execution)
    reference = handler_of(handler, history)
    module, attribute = named_handler(reference, history.view.function)
    write_text(file, write_test(history, module, attribute))
    if file != "-" and not options.is_quiet:
        click.echo(f"{history.label}: a test in {file}", err=True)


def history_at(options: Settings, execution: str) -> History:
    """The history of an execution that is named, or of one in a file."""
    path = Path(execution)
    if path.suffix == ".json" and path.is_file():
        return load_history(path)
    with opened(options) as desk:
        return stored_history(desk, execution)


def handler_of(handler: str | None, history: History) -> str:
    """The code of an execution: as named, or the durable function of that name in this folder."""
    function = history.view.function
    reference = handler if handler is not None else find_durable(Path(), function)
    if reference is None:
        raise CliError(
            f"no file in this folder has a durable function {function!r}",
            Exit.NOT_FOUND,
            hint="--handler MODULE:HANDLER names the code",
            kind="HandlerNotFound",
        )
    return reference


def named_handler(reference: str, function: str) -> tuple[str, str]:
    """The module and the attribute of the handler for a function, as an import says them."""
    with quiet_stdout():
        loaded = handlers_of(reference)
    source, _, _ = reference.rpartition(":") if ":" in reference[2:] else (reference, "", "")
    module = ".".join(Path(source.removesuffix(".py")).parts) if source.endswith(".py") else source
    handlers = loaded.functions
    chosen = handlers.get(function) or (next(iter(handlers.values())) if len(handlers) == 1 else None)
    for attribute, value in vars(loaded.module).items():
        if chosen is not None and value is chosen:
            return module, attribute
    raise CliError(
        f"{reference} has no durable function {function!r}, but {', '.join(handlers)}",
        Exit.USAGE,
        hint="--handler MODULE:HANDLER names one",
        kind="HandlerNotLoaded",
    )


def stored_history(desk: Desk, execution: str) -> History:
    """The history of the execution that is meant, with its data."""
    found = find_execution(desk, execution)
    return history_from(lambda: desk.get(found), lambda: desk.events(found))


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
