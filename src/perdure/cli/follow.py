"""`perdure execution follow`: an execution as it goes on, until it ends."""

import sys

import click

from perdure.cli.desk import Desk, opened
from perdure.cli.ending import ended_badly
from perdure.cli.execution import one_execution
from perdure.cli.exits import CliError, Exit
from perdure.cli.naming import find_execution
from perdure.cli.output import dumps, write_document
from perdure.cli.progress import Follower, Left, Picture
from perdure.cli.settings import Command, Settings, settings
from perdure.model.execution import ExecutionStatus
from perdure.model.ids import ExecutionArn, Home
from perdure.model.view import Changes, ExecutionView
from perdure.wire.events import About, write_event
from perdure.wire.executions import write_execution
from perdure.wire.forms import PEOPLE


@click.command("follow", cls=Command)
@one_execution
def follow_execution(execution: str) -> int:
    """Show an execution as it goes on, until it ends.

    On a terminal, a tree that changes; elsewhere each event is a line of JSON on stdout. The exit code is 1 if it ends
    FAILED, TIMED_OUT or STOPPED, and 6 if --timeout is reached before.
    """
    options = settings()
    with opened(options) as desk:
        found = find_execution(desk, execution)
        show = event_lines if options.form("summary") == "jsonl" or is_piped(options) else None
        follower = Follower(options, desk.source(found, is_with_data=show is not None), is_from_start=True, show=show)
        try:
            left = follower.until(lambda _picture: False)
        except KeyboardInterrupt:
            raise detached(follower.picture.view.arn) from None
        if left is Left.TIMEOUT:
            raise gave_up(follower.picture.view)
        return _ended(options, desk, found, is_shown=show is None)


def _ended(options: Settings, desk: Desk, execution: str, *, is_shown: bool) -> int:
    view = desk.get(execution)
    if is_shown and options.output is not None:
        write_document(options, write_execution(view, PEOPLE), lambda: f"{view.function}/{view.name} {view.status}")
    if view.status is ExecutionStatus.SUCCEEDED:
        return Exit.OK
    raise ended_badly(view)


def is_piped(options: Settings) -> bool:
    """Whether somebody reads stdout who is no person, and nothing else was asked for."""
    return options.output is None and not sys.stdout.isatty()


def event_lines(picture: Picture, news: Changes) -> None:
    """Each event as a line of JSON on stdout."""
    view = picture.view
    arn = ExecutionArn.parse(view.arn)
    about = About(view.execution_id, view.name, Home(arn.partition, arn.region, arn.account))
    for event in news.events:
        click.echo(dumps(write_event(event, about, PEOPLE), is_pretty=False))


def detached(arn: str) -> CliError:
    """Ctrl-C leaves an execution as it is."""
    execution = ExecutionArn.parse(arn)
    return CliError(
        f"interrupted; {execution.function}/{execution.name} ({execution.execution_id}) goes on",
        Exit.INTERRUPTED,
        hint=f"see it again with: perdure execution follow {execution.execution_id}",
        kind="Interrupted",
    )


def gave_up(view: ExecutionView) -> CliError:
    return CliError(
        f"{view.function}/{view.name} has not ended in time",
        Exit.GAVE_UP,
        hint=f"it goes on; see it with: perdure execution follow {view.execution_id}",
        kind="GaveUp",
    )
