"""The command `perdure`: finds the command that was typed, and turns whatever happens into an exit code."""

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from perdure.__about__ import __version__
from perdure.cli.exits import Exit, explain, report
from perdure.cli.settings import Group, Settings

root = Group(
    "perdure",
    help="Durable functions on your own machine: they survive crashes, wait a year without running, and go on.",
    lazy={
        "run": ("perdure.cli.run:run", "Run a durable function here, or go on with a run that was cut off."),
        "crash-test": ("perdure.cli.crash_test:crash_test", "Let a run's process die at every point, and compare."),
        "dev": ("perdure.cli.dev.command:dev", "Serve functions while they are written: a module, or a SAM template."),
        "serve": ("perdure.cli.serve:serve", "Serve the Lambda API: for boto3, the AWS CLI, SAM and official SDKs."),
        "worker": ("perdure.cli.worker:worker", "Run the functions of some modules for a server."),
        "invoke": ("perdure.cli.invoke:invoke", "Call a function of a server; see its execution through."),
        "replay": (
            "perdure.cli.replay:replay",
            "Would this code go on with stored executions? A gate for deployments.",
        ),
        "debug": ("perdure.cli.debug:debug", "Go back to an event of an execution, and stop in the code there."),
        "execution": ("perdure.cli.execution:execution", "See, stop, hold, and remove executions."),
        "callback": ("perdure.cli.callback:callback", "See and answer what executions wait for."),
        "function": ("perdure.cli.function:function", "Deploy, list and remove functions of a server."),
        "local": ("perdure.cli.sam:local", "SAM's `sam local` for durable functions: no containers."),
        "remote": ("perdure.cli.sam:remote", "SAM's `sam remote` for durable functions."),
        "logs": ("perdure.cli.logs:function_logs", "What a function has printed, and what it prints."),
        "keys": ("perdure.cli.keys:keys", "Access keys: make, list, disable, remove them."),
        "roles": ("perdure.cli.roles:roles", "What functions may do beside moving their own executions on."),
        "audit": ("perdure.cli.audit:audit", "Who has done what."),
        "ls": ("perdure.cli.execution:list_executions", "The same as `execution list`."),
        "completion": ("perdure.cli.completion:completion", "Completion of commands and ids for your shell."),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
root.params.append(
    click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=lambda context, _parameter, value: _version(context) if value else None,
        help="Show the version and leave.",
    )
)


def _version(context: click.Context) -> None:
    click.echo(f"perdure {__version__}")
    context.exit()


def main() -> NoReturn:
    """The console script."""
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors are reported on stderr."""
    options = Settings()
    try:
        answer = root.main(list(arguments), prog_name="perdure", standalone_mode=False, obj=options)
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return Exit.USAGE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever it is becomes an exit code
        explained = explain(error)
        if options.verbosity >= 2:
            traceback.print_exception(error)
        report(explained, is_json=options.is_json or "--json" in arguments)
        return explained.exit_code
    return answer if isinstance(answer, int) else Exit.OK
