"""`perdure function logs` and `perdure execution logs`: what deployed functions have printed."""

from collections.abc import Iterable, Iterator
from typing import Final

import click

from perdure.cli import completion
from perdure.cli.execution import one_execution
from perdure.cli.moments import Moment, clock_text, date_text
from perdure.cli.naming import find_execution
from perdure.cli.output import Column, Fit, dumps, write_rows
from perdure.cli.place import connected
from perdure.cli.server_desk import ROUTE, ServerDesk
from perdure.cli.settings import Command, Settings, settings
from perdure.client.client import Client, segment
from perdure.model.ids import FunctionReference
from perdure.wire.forms import API, PEOPLE, IsoText
from perdure.wire.table import Json

LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_SAME: Final = {"WARNING": "WARN", "CRITICAL": "FATAL"}
LIMIT: Final = 1_000
LIMIT_MAX: Final = 10_000

_LEVEL = click.option(
    "--level", type=click.Choice(LEVELS, case_sensitive=False), help="Only lines of this level, or a graver one."
)


@click.command("logs", cls=Command)
@click.argument("function", metavar="FUNCTION[:VERSION]", shell_complete=completion.functions)
@click.option("--since", type=Moment(), help="Printed after: 30m, 2h, 7d, or a time.")
@click.option("--request-id", metavar="ID", help="Only those of one invocation.")
@_LEVEL
@click.option(
    "--limit", type=click.IntRange(1, LIMIT_MAX), default=LIMIT, show_default=True, help="The newest of them."
)
@click.option("-f", "--follow", "is_followed", is_flag=True, help="Go on with what comes, until Ctrl-C.")
def function_logs(
    function: str, since: int | None, request_id: str | None, level: str | None, limit: int, is_followed: bool
) -> None:
    """Show what a deployed function has printed, the oldest line first."""
    options = settings()
    reference = FunctionReference.parse(function)
    query = [("Limit", str(limit))]
    query += [("Since", IsoText().write(since))] if since is not None else []
    query += [("RequestId", request_id)] if request_id else []
    with connected(options) as client:
        if reference.qualifier is not None:
            query.append(("Version", _version(client, function)))
        path = _path(reference.name)
        if is_followed:
            for record in _fitting(client.stream(path, query=[*query, ("Follow", "true")]), level):
                _write(options, record)
        else:
            _show(options, _fitting(client.request("GET", path, query=query).get("Records") or (), level))


@click.command("logs", cls=Command)
@one_execution
@_LEVEL
def execution_logs(execution: str, level: str | None) -> None:
    """Show what the invocations of an execution have printed; at a server, of a deployed function."""
    options = settings()
    with connected(options) as client:
        desk = ServerDesk(client)
        view = desk.get(find_execution(desk, execution))
        query = [("Limit", str(LIMIT_MAX)), ("Since", IsoText().write(view.start_ms)), ("Version", view.version)]
        found = client.request("GET", _path(view.function), query=query).get("Records") or ()
        own = [record for record in found if _is_of(view.execution_id, record)]
        _show(options, _fitting(own, level))


def _version(client: Client, function: str) -> str:
    """The version that an alias names, too."""
    return str(client.call("GetFunctionConfiguration", FunctionName=function)["Version"])


def _is_of(execution_id: str, record: Json) -> bool:
    """The request ids of an execution's invocations are its id but for the last eight digits."""
    return str(record.get("RequestId", "")).startswith(execution_id[:-8])


def _path(function: str) -> str:
    return f"{ROUTE}/functions/{segment(function)}/logs"


def _fitting(records: Iterable[Json], level: str | None) -> Iterator[Json]:
    least = LEVELS.index(level.upper()) if level is not None else -1
    for record in records:
        if level is None or _rank(record) >= least:
            yield record


def _rank(record: Json) -> int:
    word = str(record.get("Level", "")).upper()
    word = _SAME.get(word, word)
    return LEVELS.index(word) if word in LEVELS else -1


def _at_ms(record: Json) -> int:
    return API.times.read(record.get("Timestamp", 0), "Timestamp")


def _document(record: Json) -> Json:
    return {**record, "Timestamp": PEOPLE.times.write(_at_ms(record))}


def _line(record: Json, *, is_utc: bool) -> str:
    return f"{clock_text(_at_ms(record), is_utc=is_utc)} {record.get('Message', '')}".rstrip()


def _write(options: Settings, record: Json) -> None:
    if options.form("table") in ("json", "jsonl", "yaml"):
        click.echo(dumps(_document(record), is_pretty=False))
    else:
        click.echo(_line(record, is_utc=options.is_utc))


def _show(options: Settings, records: Iterable[Json]) -> None:
    if options.form("lines") in ("lines", "table", "summary") and options.query is None:
        for record in records:
            click.echo(_line(record, is_utc=options.is_utc))
        return
    write_rows(
        options,
        records,
        [
            Column("time", lambda record: date_text(_at_ms(record), is_utc=options.is_utc)),
            Column("version", lambda record: str(record.get("Version", ""))),
            Column("request", lambda record: str(record.get("RequestId", ""))),
            Column("level", lambda record: str(record.get("Level", ""))),
            Column("message", lambda record: str(record.get("Message", "")), fit=Fit.FOLD),
        ],
        key="Records",
        document=_document,
        empty="no lines",
    )
