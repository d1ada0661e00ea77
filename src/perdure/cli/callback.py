"""`perdure callback …`: see and answer what executions wait for."""

import click

from perdure.cli import completion
from perdure.cli.desk import opened
from perdure.cli.execution import error_from, error_options
from perdure.cli.moments import Moment, Span, countdown, duration_text
from perdure.cli.output import Column, Fit, read_text, write_data, write_rows
from perdure.cli.settings import Group, settings
from perdure.model.view import OpenCallback
from perdure.wire.executions import write_open_callback
from perdure.wire.forms import PEOPLE


@click.group(cls=Group, help="See and answer what executions wait for.")
def callback() -> None:
    pass


_ID = click.argument("callback_id", metavar="ID", shell_complete=completion.callbacks)


@callback.command("list")
@click.option("--function", help="Only those of this function's executions.", shell_complete=completion.functions)
@click.option("--since", type=Moment(), help="Begun after: 30m, 2h, 7d, or a time.")
@click.option("--expiring", type=Span(), help="Only those that time out within: 10m, 1h.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="How many at most.")
def list_callbacks(function: str | None, since: int | None, expiring: float | None, limit: int) -> None:
    """List the open callbacks, those of the oldest executions first."""
    options = settings()
    with opened(options) as desk:
        now_ms = desk.now_ms()

        def fits(found: OpenCallback) -> bool:
            ends = [ms for ms in (found.timeout_ms, found.heartbeat_ms) if ms is not None]
            is_near = expiring is None or (bool(ends) and min(ends) <= now_ms + expiring * 1000)
            return is_near and function in (None, found.function) and (since is None or found.start_ms >= since)

        write_rows(
            options,
            [found for found in desk.open_callbacks(limit=limit) if fits(found)],
            [
                Column("id", lambda found: found.callback_id, fit=Fit.FOLD),
                Column("execution", lambda found: f"{found.function}/{found.execution_name}", fit=Fit.SHRINK),
                Column("name", lambda found: found.name or ""),
                Column("age", lambda found: duration_text(now_ms - found.start_ms), is_right=True),
                Column("times out in", lambda found: _left(found, now_ms), is_right=True),
            ],
            key="Callbacks",
            document=lambda found: write_open_callback(found, PEOPLE),
            empty="no callback is open",
        )


def _left(found: OpenCallback, now_ms: int) -> str:
    ends = [ms for ms in (found.timeout_ms, found.heartbeat_ms) if ms is not None]
    return countdown(min(ends) - now_ms) if ends else "never"


@callback.command()
@_ID
@click.option("-r", "--result", metavar="TEXT|@FILE|-", help="The answer: a text, a file, or stdin. Without it: none.")
def succeed(callback_id: str, result: str | None) -> None:
    """Answer a callback."""
    text = None if result is None else read_text(result, "result")
    with opened(settings(), may_write=True) as desk:
        desk.succeed_callback(callback_id, text)
    _said("answered", callback_id)


@callback.command()
@_ID
@error_options
def fail(
    callback_id: str,
    error_message: str | None,
    error_type: str | None,
    error_data: str | None,
    stack_trace: tuple[str, ...],
) -> None:
    """Answer a callback with a failure."""
    with opened(settings(), may_write=True) as desk:
        desk.fail_callback(callback_id, error_from(error_message, error_type, error_data, stack_trace))
    _said("answered with a failure", callback_id)


@callback.command()
@_ID
@click.option("--every", type=Span(), help="Go on saying so, at this interval, until the callback is closed.")
def heartbeat(callback_id: str, every: float | None) -> None:
    """Say that work on a callback goes on: its heartbeat time-out begins anew."""
    from threading import Event

    from perdure.model.error import CallbackTimeout

    with opened(settings(), may_write=True) as desk:
        desk.heartbeat_callback(callback_id)
        _said("kept alive", callback_id)
        while every is not None and not Event().wait(every):
            try:
                desk.heartbeat_callback(callback_id)
            except CallbackTimeout:
                return


def _said(done: str, callback_id: str) -> None:
    options = settings()
    if options.is_json:
        write_data(options, {"CallbackId": callback_id})
    elif not options.is_quiet:
        click.echo(f"{done}: {callback_id}", err=True)
