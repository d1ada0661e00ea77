"""`perdure replay`: would this code go on with what is stored? A gate before a deployment."""

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click

from perdure.cli import completion
from perdure.cli.desk import Desk, opened
from perdure.cli.exits import CliError, Exit
from perdure.cli.export import write_text
from perdure.cli.moments import Moment
from perdure.cli.output import Column, Fit, dumps, write_data, write_rows
from perdure.cli.running import handlers_of, quiet_stdout
from perdure.cli.settings import Command, Settings, settings
from perdure.client.client import Client
from perdure.client.errors import ApiError
from perdure.execution import definition_of
from perdure.model.execution import ENDED, OPEN, ExecutionStatus
from perdure.model.ids import LATEST, ExecutionArn
from perdure.store.protocol import PAGE_MAX, Query
from perdure.testing.histories import UNKNOWN, History, find_histories, history_from
from perdure.testing.replaying.judging import Verdict
from perdure.testing.replaying.replayer import Replayer, ReplayResult, ReplaySummary, load_all
from perdure.testing.replaying.reports import junit, result_document, summary_document

LIMIT: Final = 100
EVERY: Final = 25
"""So often is the progress told, in histories."""
STYLES: Final = {
    Verdict.COMPATIBLE: "green",
    Verdict.WARNINGS: "yellow",
    Verdict.NEEDS_NEW_OPERATION: "red",
    Verdict.INCOMPATIBLE: "red",
}


@click.command(cls=Command)
@click.argument("handler", metavar="MODULE_OR_FILE[:HANDLER]")
@click.option(
    "--histories",
    "folders",
    multiple=True,
    metavar="DIR|FILE",
    type=click.Path(exists=True, path_type=Path),
    help="Stored histories, as `perdure execution export` writes them; may be repeated.",
)
@click.option("--from-endpoint", is_flag=True, help="The executions of the server, even if there is a store here.")
@click.option("--function", metavar="NAME", shell_complete=completion.functions, help="What the function is called.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([str(status) for status in ExecutionStatus], case_sensitive=False),
    help="Only executions with this status; may be repeated.",
)
@click.option("--limit", type=click.IntRange(min=1), help=f"At most so many of each status; {LIMIT} of those ended.")
@click.option("--since", type=Moment(), help="Started after: 30m, 2h, 7d, or a time.")
@click.option("--version", metavar="N", help="Only executions of this version, as it is in their ARNs.")
@click.option("--all", "is_all", is_flag=True, help="Every history, also those whose operations are like another's.")
@click.option("--allow-new", is_flag=True, help="Let code pass that needs a new operation before it can be judged.")
@click.option("--json-report", metavar="FILE", type=click.Path(path_type=Path), help="Write the results as JSON.")
@click.option("--junit", "junit_file", metavar="FILE", type=click.Path(path_type=Path), help="Write JUnit's XML.")
def replay(
    handler: str,
    folders: tuple[Path, ...],
    from_endpoint: bool,
    function: str | None,
    statuses: tuple[str, ...],
    limit: int | None,
    since: int | None,
    version: str | None,
    is_all: bool,
    allow_new: bool,
    json_report: Path | None,
    junit_file: Path | None,
) -> int:
    """Try code on stored executions, without running a step, and say where it would not go on.

    Without --histories these are executions of the store or the server that other commands work on: all open ones, and
    of the ended ones the last of each status, one for each sequence of operations. Open executions of a published
    version are left out: they end on its code. Nothing is written there. The exit code is 8 if an execution can't go on
    with the code.
    """
    options = settings()
    if from_endpoint and (options.store or folders):
        raise click.UsageError("--from-endpoint goes neither with --store nor with --histories")
    wanted = tuple(ExecutionStatus(word.upper()) for word in statuses)
    with quiet_stdout():
        handlers = _durable(handler)
        names = [function] if function is not None else list(handlers)
        replayer = Replayer(next(iter(handlers.values())) if len(handlers) == 1 else handlers)
        progress = _Progress(options)
        if folders:
            histories = _from_files(folders, names, wanted, since, version)
            summary = replayer.replay_many(histories, is_distinct=not is_all, told=progress.told)
        else:
            with opened(_at_server(options) if from_endpoint else options) as desk:
                histories = _population(desk, names, wanted, limit, since, version)
                summary = replayer.replay_many(histories, is_distinct=not is_all, told=progress.told)
        progress.end()
    _report(options, summary, json_report, junit_file)
    if not summary and not options.is_quiet:
        click.echo(f"no stored execution of {' or '.join(names)} was found: nothing has been tried", err=True)
        click.echo("executions of another function are tried with --function NAME", err=True)
    is_good = all(result.is_compatible or (allow_new and _is_new(result)) for result in summary)
    return Exit.OK if is_good else Exit.DIVERGED


def _is_new(result: ReplayResult) -> bool:
    return result.verdict is Verdict.NEEDS_NEW_OPERATION


def _durable(reference: str) -> dict[str, Callable[..., Any]]:
    """The durable functions that are meant, by name."""
    found = handlers_of(reference).functions
    durable = {name: handler for name, handler in found.items() if definition_of(handler) is not None}
    if not durable:
        raise CliError(
            f"{reference} is not durable", Exit.USAGE, hint="mark it with @durable_execution", kind="HandlerNotLoaded"
        )
    return durable


def _at_server(options: Settings) -> Settings:
    from dataclasses import replace

    from perdure.cli.place import server_of

    return replace(options, endpoint=server_of(options).endpoint)


# --- where histories are ------------------------------------------------------------------------------------------


def _from_files(
    folders: Iterable[Path],
    names: list[str],
    statuses: tuple[ExecutionStatus, ...],
    since: int | None,
    version: str | None,
) -> Iterator[History]:
    """The histories in these files and folders that are of the functions; of any, if their function is not known."""
    paths = [path for folder in folders for path in find_histories(folder)]
    if not paths:
        raise CliError(
            f"there is no history in {', '.join(map(str, folders))}",
            Exit.NOT_FOUND,
            hint="`perdure execution export EXECUTION FILE.history.json` writes one",
            kind="NoHistory",
        )
    others: set[str] = set()
    is_any = False
    for history in load_all(paths):
        view = history.view
        if view.function not in (*names, UNKNOWN):
            others.add(view.function)
        elif version in (None, view.version) and (since is None or view.start_ms >= since):
            is_any = True
            if not statuses or view.status in statuses:
                yield history
    if others and not is_any:
        raise CliError(
            f"no history is of {', '.join(names)}; there are histories of {', '.join(sorted(others))}",
            Exit.NOT_FOUND,
            hint="--function names the one to take",
            kind="NoHistory",
        )


def _population(
    desk: Desk,
    names: list[str],
    statuses: tuple[ExecutionStatus, ...] = (),
    limit: int | None = None,
    since: int | None = None,
    version: str | None = None,
) -> Iterator[History]:
    """Open executions, then those that have ended, the newest first."""
    chosen = statuses or tuple(sorted(ExecutionStatus, key=lambda status: status in ENDED))
    for name in names:
        for status in chosen:
            most = limit if limit is not None else LIMIT if status in ENDED else None
            found = (
                execution
                for execution, of_version in _executions(desk, name, status, most, since)
                if of_version == version or (version is None and (status in ENDED or of_version == LATEST))
            )
            for execution in islice(found, most):
                yield history_from(partial(desk.get, execution), partial(desk.events, execution))


def _executions(
    desk: Desk, function: str, status: ExecutionStatus, most: int | None, since: int | None
) -> Iterator[tuple[str, str]]:
    """A function's executions and their versions; a server that has only AWS's operations is asked by those."""
    query = Query(
        now_ms=desk.now_ms(),
        function=function,
        statuses=(status,),
        started_from_ms=since,
        limit=min(most or PAGE_MAX, PAGE_MAX),
    )
    try:
        for row in desk.rows(query):
            yield row.execution_id, row.version
    except ApiError as error:
        listed = getattr(desk, "executions_of", None)
        if error.status not in (403, 404) or listed is None:
            raise
        for arn in listed(function, status, since):
            yield arn, ExecutionArn.parse(arn).version


def check_open(client: Client, function: str, reference: str) -> None:
    """Raise CliError unless the executions that would go on with this code, when it is deployed, can do so.

    Those are the open ones that run $LATEST: executions of a published version end on that.
    """
    from perdure.cli.server_desk import ServerDesk

    with quiet_stdout():
        (handler,) = _durable(reference).values()
        summary = Replayer(handler).replay_many(_population(ServerDesk(client), [function], OPEN))
    bad = summary.incompatible
    if bad:
        first = bad[0].divergence
        raise CliError(
            f"{function} was not deployed: {len(bad)} of {len(summary)} open executions can't go on with this code; "
            f"{bad[0].label}: {first.message if first is not None else 'it differs'}",
            Exit.DIVERGED,
            hint="`perdure replay` shows them all; a change behind context.patched(…) would do",
            kind="Incompatible",
        )


# --- what came of it ----------------------------------------------------------------------------------------------


class _Progress:
    """Tells on a terminal how many histories have been looked at."""

    def __init__(self, options: Settings) -> None:
        self._is_told = sys.stderr.isatty() and not options.is_quiet
        self._count = 0
        self._bad = 0

    def told(self, result: ReplayResult) -> None:
        self._count += 1
        self._bad += not result.is_compatible
        if self._is_told and self._count % EVERY == 0:
            click.echo(f"\r{self._count} replayed, {self._bad} incompatible", nl=False, err=True)

    def end(self) -> None:
        if self._is_told and self._count >= EVERY:
            click.echo("\r\x1b[K", nl=False, err=True)


def _report(options: Settings, summary: ReplaySummary, json_report: Path | None, junit_file: Path | None) -> None:
    document = summary_document(summary)
    if json_report is not None:
        write_text(str(json_report), dumps(document) + "\n")
    if junit_file is not None:
        write_text(str(junit_file), junit(summary))
    form = options.form("table")
    if options.query is not None or form in ("json", "yaml"):
        write_data(options, document, form)
        return
    told = list(summary) if form != "table" or options.verbosity else [each for each in summary if _has_words(each)]
    columns = [
        Column("execution", lambda each: each.label, fit=Fit.SHRINK),
        Column("status", lambda each: each.status),
        Column("operations", lambda each: str(each.operations), is_right=True),
        Column("verdict", lambda each: each.verdict.lower().replace("_", " "), style=lambda each: STYLES[each.verdict]),
        Column("why", _why, fit=Fit.SHRINK),
    ]
    if told or form != "table":
        write_rows(options, told, columns, key="Results", document=result_document, empty="")
    if form in ("table", "summary"):
        for result in summary.incompatible:
            click.echo(f"\n{result.label}\n" + "\n".join(f"  {line}" for line in str(result.divergence).splitlines()))
        click.echo(_total(summary))


def _has_words(result: ReplayResult) -> bool:
    return result.verdict is not Verdict.COMPATIBLE


def _why(result: ReplayResult) -> str:
    return result.divergence.message if result.divergence is not None else "; ".join(result.warnings)


def _total(summary: ReplaySummary) -> str:
    if not summary:
        return "nothing to replay"
    counts = [(verdict, summary.count(verdict)) for verdict in Verdict]
    told = ", ".join(f"{count} {verdict.lower().replace('_', ' ')}" for verdict, count in counts if count)
    like = f"; {summary.skipped} more like one of these" if summary.skipped else ""
    return f"{len(summary)} replayed: {told}{like}"
