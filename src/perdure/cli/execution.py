"""`perdure execution …`: see executions, and stop, hold, free and remove them."""

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

import click

from perdure.cli import completion
from perdure.cli.desk import Desk, opened
from perdure.cli.happenings import details, error_of, payload_of
from perdure.cli.lines import error_line, in_order, line_of, plain_tree
from perdure.cli.moments import Moment, clock_text, date_text, duration_text, local
from perdure.cli.naming import FORMS, SHORT, find_execution
from perdure.cli.output import (
    STATUS_STYLES,
    Column,
    Fit,
    console,
    one_line,
    readable,
    table_to_text,
    write_data,
    write_document,
    write_rows,
)
from perdure.cli.settings import Command, Group, Settings, settings
from perdure.model.error import ErrorObject
from perdure.model.event import HistoryEvent
from perdure.model.execution import ExecutionRow, ExecutionStatus, WaitingOn
from perdure.model.ids import ExecutionArn, Home
from perdure.model.operation import Operation
from perdure.model.view import ExecutionView
from perdure.store.protocol import PAGE_DEFAULT, PAGE_MAX, Query
from perdure.wire.events import About, write_event
from perdure.wire.executions import write_execution, write_summary
from perdure.wire.forms import PEOPLE
from perdure.wire.operations import SHOWN, write_operation

PAYLOAD_CHARS = 100


@click.group(
    cls=Group,
    help="See executions, and stop, hold, free and remove them.",
    lazy={
        "export": ("perdure.cli.export:export_execution", "Write an execution and its history to a file."),
        "follow": ("perdure.cli.follow:follow_execution", "Show an execution as it goes on, until it ends."),
        "logs": ("perdure.cli.logs:execution_logs", "What an execution's invocations have printed."),
        "to-test": ("perdure.cli.export:execution_to_test", "Write a pytest file that reproduces an execution."),
        "tail": ("perdure.cli.follow:follow_execution", "The same as `follow`."),
    },
)
def execution() -> None:
    pass


def one_execution(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument that names one execution."""
    return click.argument("execution", metavar="EXECUTION", shell_complete=completion.executions)(function)


def _several(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.argument(
        "executions", metavar="EXECUTION...", nargs=-1, required=True, shell_complete=completion.executions
    )(function)


# --- list ---------------------------------------------------------------------------------------------------------


@click.command("list", cls=Command)
@click.argument("function", required=False, shell_complete=completion.functions)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([str(status) for status in ExecutionStatus], case_sensitive=False),
    help="Only these; may be repeated.",
)
@click.option("--name", metavar="GLOB", help="Only names that fit: 'order-*'.")
@click.option("--since", type=Moment(), help="Started after: 30m, 2h, 7d, or a time.")
@click.option("--until", type=Moment(), help="Started before.")
@click.option("--waiting-on", type=click.Choice([str(word) for word in WaitingOn]), help="Only what waits for this.")
@click.option("--error", "error_text", metavar="TEXT", help="Only those whose error's type has this in it.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
@click.option("--all", "is_all", is_flag=True, help="All of them.")
@click.option("--reverse", is_flag=True, help="Oldest first.")
def list_executions(
    function: str | None,
    statuses: tuple[str, ...],
    name: str | None,
    since: int | None,
    until: int | None,
    waiting_on: str | None,
    error_text: str | None,
    limit: int,
    is_all: bool,
    reverse: bool,
) -> None:
    """List executions, the newest first."""
    options = settings()
    with opened(options) as desk:
        has_glob = name is not None and any(sign in name for sign in "*?[")
        query = Query(
            now_ms=desk.now_ms(),
            function=function,
            name=None if has_glob else name,
            name_prefix=_before_sign(name) if has_glob and name is not None else None,
            statuses=tuple(ExecutionStatus(word.upper()) for word in statuses),
            waiting_on=WaitingOn(waiting_on) if waiting_on else None,
            started_from_ms=since,
            started_until_ms=until,
            is_oldest_first=reverse,
            limit=PAGE_DEFAULT if is_all or has_glob or error_text else min(limit, PAGE_MAX),
        )

        def fits(row: ExecutionRow) -> bool:
            is_named = not has_glob or fnmatchcase(row.shown_name, name or "")
            return is_named and (error_text is None or error_text.lower() in (row.error_type or "").lower())

        rows = islice(filter(fits, desk.rows(query)), None if is_all else limit)
        now_ms = desk.now_ms()
        write_rows(
            options,
            rows,
            _columns(options, now_ms),
            key="DurableExecutions",
            document=lambda row: write_summary(row, desk.home, PEOPLE),
            empty="no executions"
            + (" fit" if query != Query(now_ms=query.now_ms, limit=query.limit) or error_text else ""),
        )


execution.add_command(list_executions)
execution.add_command(list_executions, "ls")


def _before_sign(glob: str) -> str | None:
    prefix = glob[: min(at for at in (glob.find(sign) for sign in "*?[") if at >= 0)]
    return prefix or None


def _columns(options: Settings, now_ms: int) -> list[Column]:
    def started(row: ExecutionRow) -> str:
        return date_text(row.start_ms, is_utc=options.is_utc)

    return [
        Column("id", lambda row: row.execution_id if options.form("table") == "tsv" else row.execution_id[:SHORT]),
        Column("name", lambda row: row.name or "-", fit=Fit.SHRINK),
        Column("function:version", lambda row: f"{row.function}:{row.version}", fit=Fit.SHRINK),
        Column("status", lambda row: str(row.status), style=lambda row: STATUS_STYLES.get(row.status, "")),
        Column("started", started),
        Column("duration", lambda row: duration_text((row.end_ms or now_ms) - row.start_ms), is_right=True),
        Column("waiting on", lambda row: ", ".join(row.waiting_on)),
        Column("operations", lambda row: str(row.operations), is_right=True),
    ]


# --- get ----------------------------------------------------------------------------------------------------------


@execution.command()
@one_execution
@click.option("--no-data", is_flag=True, help="Without input, result and errors.")
def get(execution: str, no_data: bool) -> None:
    """Show one execution: its state, its input and result, and what it waits for."""
    options = settings()
    with opened(options) as desk:
        found = find_execution(desk, execution)
        view = desk.get(found)
        form = PEOPLE.without_data() if no_data else PEOPLE
        write_document(
            options,
            write_execution(view, form),
            lambda: _summary(view, desk.operations(found), desk.now_ms(), options, no_data=no_data),
        )


def _summary(view: ExecutionView, operations: list[Operation], now_ms: int, options: Settings, *, no_data: bool) -> str:
    def at(ms: int | None) -> str | None:
        return None if ms is None else f"{date_text(ms, is_utc=options.is_utc)}{local(ms, is_utc=options.is_utc):%z}"

    end_ms = view.end_ms if view.end_ms is not None else now_ms
    pause = view.pause
    failures = f"{view.failures} in a row" if view.failures else None
    pending = [line_of(op, 0, now_ms) for _, op in in_order(operations) if not op.is_terminal]
    pairs = [
        ("ARN", view.arn),
        ("Name", view.name),
        ("Function", f"{view.function}:{view.version}"),
        ("Status", str(view.status) + (", an invocation is running" if view.is_running else "")),
        ("Started", at(view.start_ms)),
        ("Ended", at(view.end_ms)),
        ("Duration", duration_text(end_ms - view.start_ms)),
        ("Times out", at(view.deadline_ms)),
        ("Invocations", str(view.invocations)),
        ("Operations", str(view.operations)),
        ("Bytes written", str(view.written_bytes)),
        ("Invoked by", view.parent.execution_id if view.parent else None),
        ("Tenant", view.tenant_id),
        ("Waiting on", ", ".join(view.waiting_on) or view.waiting_reason),
        ("Paused", None if pause is None else f"{at(pause.requested_ms)}  {pause.reason or ''}".rstrip()),
        ("Failed invocations", failures),
        ("Last failure", error_line(view.last_failure) if view.last_failure and not no_data else None),
        ("Input", None if no_data else view.input),
        ("Result", None if no_data else view.result),
        ("Error", str(view.error) if view.error and not no_data else None),
    ]
    text = table_to_text(pairs)
    if pending:
        text += "\nPending\n" + "\n".join(f"  {line.sign} {line.label}  {line.detail}" for line in pending[:50])
    return text


# --- history ------------------------------------------------------------------------------------------------------


@execution.command()
@one_execution
@click.option("--no-data", is_flag=True, help="Without payloads and errors.")
@click.option("--reverse", is_flag=True, help="Newest event first.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only events of this type; may be repeated.")
@click.option("--full", is_flag=True, help="Cut nothing.")
def history(execution: str, no_data: bool, reverse: bool, types: tuple[str, ...], full: bool) -> None:
    """Show every event of an execution."""
    options = settings()
    with opened(options) as desk:
        found = find_execution(desk, execution)
        view = desk.get(found)
        wanted = _event_types(types)
        events = (event for event in desk.events(found, is_reversed=reverse) if not wanted or event.type in wanted)
        write_history(options, view, events, no_data=no_data, is_full=full)


def write_history(
    options: Settings,
    view: ExecutionView,
    events: Iterator[HistoryEvent],
    *,
    no_data: bool = False,
    is_full: bool = True,
) -> None:
    """The table that SAM shows, with dates where the execution was longer than a day."""
    arn = ExecutionArn.parse(view.arn)
    about = About(view.execution_id, view.name, Home(arn.partition, arn.region, arn.account))
    form = PEOPLE.without_data() if no_data else PEOPLE
    has_days = (view.end_ms or view.start_ms) - view.start_ms > 12 * 3_600_000 or (
        local(view.start_ms, is_utc=options.is_utc).date()
        != local(view.end_ms or view.start_ms, is_utc=options.is_utc).date()
    )
    cut = Fit.FOLD if is_full else Fit.SHRINK
    length = 10**9 if is_full or options.form("table") == "tsv" else PAYLOAD_CHARS

    def at(shown: HistoryEvent) -> str:
        clock = clock_text(shown.event.at_ms, is_utc=options.is_utc)
        return f"{local(shown.event.at_ms, is_utc=options.is_utc):%Y-%m-%d} {clock}" if has_days else clock

    def error(shown: HistoryEvent) -> str:
        found = error_of(shown.event)
        return "" if found is None else str(found) if is_full else error_line(found)

    columns = [
        Column("id", lambda shown: str(shown.event_id), is_right=True),
        Column("event", lambda shown: shown.type, style=lambda shown: _event_style(shown.type)),
        Column("subtype", lambda shown: shown.sub_type or "", is_extra=True),
        Column("name", lambda shown: shown.name or "", fit=Fit.SHRINK),
        Column("time", at),
        Column("details", lambda shown: details(shown.event), fit=Fit.SHRINK),
    ]
    if not no_data:
        columns.append(Column("payload", lambda shown: one_line(readable(payload_of(shown.event)), length), fit=cut))
        columns.append(Column("error", error, fit=cut))
    write_rows(
        options,
        events,
        columns,
        key="Events",
        document=lambda shown: write_event(shown, about, form),
        empty="no events",
    )


def _event_style(kind: str) -> str:
    endings = {"Succeeded": "green", "Failed": "red", "TimedOut": "red", "Stopped": "yellow"}
    return next((style for ending, style in endings.items() if kind.endswith(ending)), "")


def _event_types(types: tuple[str, ...]) -> set[str]:
    from perdure.wire.events import DETAILS

    known = {kind.__name__.lower(): kind.__name__ for kind in DETAILS}
    for word in types:
        if word.lower() not in known:
            raise click.BadParameter(f"{word!r} is no type of event; there are {', '.join(known.values())}")
    return {known[word.lower()] for word in types}


# --- tree ---------------------------------------------------------------------------------------------------------


@execution.command()
@one_execution
@click.option("--depth", type=click.IntRange(min=1), help="Only so many levels.")
@click.option("--timeline", is_flag=True, help="Draw when each operation ran.")
def tree(execution: str, depth: int | None, timeline: bool) -> None:
    """Show the operations of an execution below each other, with attempts and times."""
    options = settings()
    with opened(options) as desk:
        found = find_execution(desk, execution)
        view = desk.get(found)
        operations = desk.operations(found)
        now_ms = desk.now_ms()
        form = options.form("summary")
        if form in ("json", "jsonl", "tsv"):
            write_rows(
                options,
                [(level, op) for level, op in in_order(operations) if depth is None or level < depth],
                [
                    Column("depth", lambda item: str(item[0])),
                    Column("id", lambda item: item[1].id),
                    Column("type", lambda item: str(item[1].type)),
                    Column("name", lambda item: item[1].name or ""),
                    Column("status", lambda item: str(item[1].status)),
                    Column("detail", lambda item: line_of(item[1], 0, now_ms).detail),
                ],
                key="Operations",
                document=lambda item: write_operation(item[1], PEOPLE, SHOWN),
                empty="no operations",
            )
            return
        duration = duration_text((view.end_ms or now_ms) - view.start_ms)
        click.echo(f"{view.function}/{view.name}  {view.status}  {duration}")
        if timeline:
            _draw_timeline(view, operations, now_ms, depth)
            return
        for line in plain_tree(operations, now_ms, depth):
            click.echo(f"  {line}")


def _draw_timeline(view: ExecutionView, operations: list[Operation], now_ms: int, depth_max: int | None) -> None:
    """One bar for each operation, over the whole time of the execution."""
    from rich.table import Table
    from rich.text import Text

    end_ms = max(view.end_ms or now_ms, view.start_ms + 1)
    out = console()
    width = max(10, min(80, out.width - 64))
    table = Table.grid(padding=(0, 2))
    table.add_column(max_width=32)
    table.add_column(width=width)
    table.add_column()
    for depth, operation in in_order(operations):
        if depth_max is not None and depth >= depth_max:
            continue
        line = line_of(operation, depth, now_ms)
        first = int((operation.start_ms - view.start_ms) / (end_ms - view.start_ms) * width)
        last = int(((operation.end_ms or end_ms) - view.start_ms) / (end_ms - view.start_ms) * width)
        bar = Text(" " * first + "━" * max(1, last - first), style=line.style)
        label = Text(f"{'  ' * depth}{line.sign} {line.label}", no_wrap=True, overflow="ellipsis")
        table.add_row(label, bar, Text(line.detail, no_wrap=True, overflow="ellipsis"))
    out.print(table)


# --- acting -------------------------------------------------------------------------------------------------------


def error_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """SAM's four options that make an error."""
    for option in (
        click.option("--stack-trace", "stack_trace", multiple=True, metavar="TEXT", help="A frame; may be repeated."),
        click.option("--error-data", metavar="TEXT", help="Anything more about the error."),
        click.option("--error-type", metavar="TEXT", help="The error's type."),
        click.option("--error-message", metavar="TEXT", help="The error's message."),
    ):
        function = option(function)
    return function


def error_from(
    error_message: str | None, error_type: str | None, error_data: str | None, stack_trace: tuple[str, ...]
) -> ErrorObject | None:
    """The error that the four options make; None if none was given."""
    if not (error_message or error_type or error_data or stack_trace):
        return None
    return ErrorObject(error_message, error_type, error_data, stack_trace or None)


def _act(executions: tuple[str, ...], done: str, act: Callable[[Desk, str], None], question: str | None) -> None:
    """Do something to each of the executions: find all first, ask once, then act."""
    options = settings()
    with opened(options, may_write=True) as desk:
        views = {view.execution_id: view for view in (desk.get(find_execution(desk, word)) for word in executions)}
        if question is not None:
            confirm(options, f"{question} {', '.join(f'{view.function}/{view.name}' for view in views.values())}?")
        documents = []
        for view in views.values():
            act(desk, view.arn)
            if not options.is_json and not options.is_quiet:
                is_late = done == "stopped" and view.end_ms is not None
                said = f"{view.status} before, and stays so:" if is_late else done
                click.echo(f"{said} {view.function}/{view.name} ({view.execution_id})", err=True)
            if done != "deleted":
                documents.append(write_execution(desk.get(view.arn), PEOPLE.without_data()))
        if documents and (options.is_json or options.query is not None):
            write_data(options, documents[0] if len(views) == 1 else documents)


def confirm(options: Settings, question: str) -> None:
    """Ask on the terminal; where nobody can be asked, `-y` has to be given."""
    import sys

    if options.is_sure:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to ask on: give -y to say yes.")
    if not click.confirm(question, err=True):
        raise click.Abort


@execution.command()
@_several
@error_options
def stop(
    executions: tuple[str, ...],
    error_message: str | None,
    error_type: str | None,
    error_data: str | None,
    stack_trace: tuple[str, ...],
) -> None:
    """End executions at once: STOPPED. What runs of them can't record anything any more."""
    error = error_from(error_message, error_type, error_data, stack_trace)
    _act(executions, "stopped", lambda desk, arn: desk.stop(arn, error), "Stop")


@execution.command()
@_several
@click.option("--reason", metavar="TEXT", help="Why; it stands in the history.")
@click.option("--keep-clock", is_flag=True, help="Let the execution's time-out go on.")
def pause(executions: tuple[str, ...], reason: str | None, keep_clock: bool) -> None:
    """Hold executions: timers and answers are recorded, nothing is run until `resume`."""
    _act(executions, "paused", lambda desk, arn: desk.pause(arn, reason, is_timeout_paused=not keep_clock), None)


@execution.command()
@_several
@click.option("--reason", metavar="TEXT", help="Why; it stands in the history.")
def resume(executions: tuple[str, ...], reason: str | None) -> None:
    """Let held executions go on."""
    _act(executions, "resumed", lambda desk, arn: desk.resume(arn, reason), None)


@execution.command()
@_several
def delete(executions: tuple[str, ...]) -> None:
    """Remove executions that have ended, with their histories."""
    _act(executions, "deleted", lambda desk, arn: desk.delete(arn), "Delete")


for _command in (get, history, tree, stop, pause, resume, delete):
    for _parameter in _command.params:
        if _parameter.name in ("execution", "executions") and isinstance(_parameter, click.Argument):
            _command.epilog = f"EXECUTION is {FORMS}."
