"""`perdure logs`: what a function has printed."""

from collections.abc import Iterator
from typing import Final

import click
import msgspec

from perdure.cli import completion
from perdure.cli.moments import Moment, date_text
from perdure.cli.place import connected
from perdure.cli.settings import Command, Settings, settings
from perdure.client.client import Client, segment
from perdure.model.ids import FunctionReference
from perdure.wire.forms import PEOPLE
from perdure.wire.table import Json

LIMIT: Final = 1_000
LIMIT_MAX: Final = 10_000


@click.command(cls=Command)
@click.argument("function", metavar="FUNCTION[:VERSION]", shell_complete=completion.functions)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is printed from now on.")
@click.option("--since", type=Moment(), help="Not what is older: 10m, 2h, or a moment.")
@click.option("--request-id", help="Of one invocation.")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=LIMIT, show_default=True, help="The newest lines.")
@click.option("--no-platform", is_flag=True, help="Without START, END and REPORT.")
def logs(function: str, follow: bool, since: int | None, request_id: str | None, limit: int, no_platform: bool) -> None:
    """Show what a function of a server has printed, the oldest line first."""
    options = settings()
    reference = FunctionReference.parse(function)
    query = [("Limit", str(limit))]
    query += [("Version", reference.qualifier)] if reference.qualifier else []
    query += [("Since", PEOPLE.times.write(since))] if since is not None else []
    query += [("RequestId", request_id)] if request_id else []
    path = f"/perdure/v1/functions/{segment(reference.name)}/logs"
    with connected(options) as client:
        for line in _lines(client, path, query, follow=follow):
            if not (no_platform and line.get("IsPlatform")):
                click.echo(_shown(options, line))


def _lines(client: Client, path: str, query: list[tuple[str, str]], *, follow: bool) -> Iterator[Json]:
    if follow:
        yield from client.lines(path, [*query, ("Follow", "true")])
    else:
        yield from client.request("GET", path, query=query)["Records"]


def _shown(options: Settings, line: Json) -> str:
    """A line for people, or as JSON if that was asked for."""
    if options.is_json:
        return msgspec.json.encode(line).decode()
    at = date_text(round(line["Timestamp"] * 1000), is_utc=options.is_utc)
    return f"{at} {line['Message']}"
