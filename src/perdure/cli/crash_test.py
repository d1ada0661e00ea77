"""`perdure crash-test`: a durable function comes to the same end wherever its process dies, or it is said where not."""

import contextlib
import json
import shlex
import sys
from typing import Any

import click

from perdure.cli.exits import CliError, Exit
from perdure.cli.given import event_text
from perdure.cli.output import write_document
from perdure.cli.settings import Command, settings
from perdure.worker.loading import Loaded, NotLoaded, load_handler

POINTS_OF_PROCESSES = 20


@click.command(cls=Command)
@click.argument("handler", metavar="MODULE_OR_FILE[:HANDLER]")
@click.option("-e", "--event", default="{}", metavar="JSON|@FILE|-", help="The input; {} if not given.")
@click.option(
    "--points",
    metavar="all|N",
    help="At which points: all of them, or N drawn by the seed. With --process 20, else all.",
)
@click.option("--point", "named", multiple=True, metavar="POINT", help="At this one: 'after checkpoint 3'. Repeatable.")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws points, and the order of branches.")
@click.option("--pairs", is_flag=True, help="Two points at a time, too.")
@click.option("--sequences", type=click.IntRange(0), default=0, metavar="N", help="N random sequences of points, too.")
@click.option("--callback", "callbacks", multiple=True, metavar="NAME=JSON", help="Answer this callback. Repeatable.")
@click.option("--process", is_flag=True, help="Kill a real process with SIGKILL, on a store file: slower.")
def crash_test(
    handler: str,
    event: str,
    points: str | None,
    named: tuple[str, ...],
    seed: int,
    pairs: bool,
    sequences: int,
    callbacks: tuple[str, ...],
    process: bool,
) -> int:
    """Run a durable function, then once for every point at which its process may die.

    Each run must come to the same end, with the same operations. What runs, runs: bodies are called again and again.
    Exit code 1 if a run comes to another end; the report says at which point, why, and how to see it again.
    """
    options = settings()
    try:
        loaded = load_handler(handler)
    except NotLoaded as error:
        raise CliError(str(error), Exit.USAGE, hint=error.hint, kind="HandlerNotLoaded") from error
    given = json.loads(event_text(event))
    answers = dict(_answer(text) for text in callbacks)
    wanted = list(named) if named else _points(points or (str(POINTS_OF_PROCESSES) if process else "all"))
    words = ["perdure", "crash-test", handler, "-e", event, "--seed", str(seed)]
    words += [word for text in callbacks for word in ("--callback", text)] + (["--process"] if process else [])
    command = shlex.join(words)
    with contextlib.redirect_stdout(sys.stderr):
        if process:
            if pairs or sequences:
                raise click.UsageError("--process takes one point at a time: not --pairs, not --sequences")
            from perdure.testing.crashing.process import check_process_crashes

            report = check_process_crashes(
                handler, given, points=wanted, seed=seed, callbacks=answers, raises=False, command=command
            )
        else:
            from perdure.testing.crashing.check import check_crashes

            report = check_crashes(
                loaded.handler,
                given,
                points=wanted,
                seed=seed,
                pairs=pairs,
                sequences=sequences,
                setup=lambda runner: _prepare(runner, loaded, answers),
                raises=False,
                command=command,
                wall_timeout=options.timeout_s or 30.0,
            )
    matrix = f"{report.matrix()}\n" if options.verbosity else ""
    write_document(options, report.to_json(), lambda: f"{matrix}{report}")
    return Exit.OK if report.passed else Exit.ENDED


def _points(text: str) -> str | int:
    if text == "all":
        return text
    if not text.isdecimal():
        raise click.BadParameter(f"--points is 'all' or a number, not {text!r}; --point names one")
    return int(text)


def _answer(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        return name, json.loads(value) if equals else None
    except ValueError:
        return name, value


def _prepare(runner: Any, loaded: Loaded, answers: dict[str, Any]) -> None:
    """The functions of the module that others invoke, and who answers."""
    for name, function in loaded.functions.items():
        if name != loaded.name:
            runner.register_durable_function(name, function)
    for name, answer in answers.items():
        runner.auto_callback(name, answer)
