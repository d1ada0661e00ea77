"""`perdure audit`: who has done what."""

from itertools import islice

import click

from perdure.cli.desk import opened_store
from perdure.cli.moments import Moment, date_text
from perdure.cli.output import Column, Fit, dumps, write_rows
from perdure.cli.settings import Command, settings
from perdure.identity.audit import OK, Entry, Wanted, entries
from perdure.wire.forms import PEOPLE


@click.command(cls=Command)
@click.option("--since", type=Moment(), help="After: 30m, 2h, 7d, or a time.")
@click.option("--until", type=Moment(), help="Before.")
@click.option("--user", help="Only by callers whose name or ARN has this in it.")
@click.option("--operation", help="Only operations whose name has this in it: Stop, Key.")
@click.option("--resource", help="Only on resources whose ARN has this in it.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many at most.")
def audit(
    since: int | None, until: int | None, user: str | None, operation: str | None, resource: str | None, limit: int
) -> None:
    """List what was done by somebody's will, the newest first."""
    options = settings()
    wanted = Wanted(since_ms=since, until_ms=until, caller=user, operation=operation, resource=resource)
    with opened_store(options) as store:
        write_rows(
            options,
            islice(entries(store, wanted), limit),
            [
                Column("time", lambda entry: date_text(entry.at_ms, is_utc=options.is_utc)),
                Column("caller", _caller, fit=Fit.SHRINK),
                Column("from", lambda entry: entry.source or "", is_extra=True),
                Column("operation", lambda entry: entry.operation),
                Column("resource", lambda entry: entry.resource, fit=Fit.FOLD),
                Column(
                    "outcome", lambda entry: entry.outcome, style=lambda entry: "" if entry.outcome == OK else "red"
                ),
                Column("parameters", lambda entry: _facts(entry), fit=Fit.SHRINK, is_extra=True),
            ],
            key="Entries",
            document=_document,
            empty="nothing is on record" + (" that fits" if wanted != Wanted() else ""),
        )


def _caller(entry: Entry) -> str:
    """The last part of an ARN says enough for people."""
    return entry.caller.rpartition(":")[2] if entry.caller.startswith("arn:") else entry.caller


def _facts(entry: Entry) -> str:
    return dumps(entry.parameters, is_pretty=False) if entry.parameters else ""


def _document(entry: Entry) -> dict[str, object]:
    facts = {
        "EventTime": PEOPLE.times.write(entry.at_ms),
        "Caller": entry.caller,
        "AccessKeyId": entry.key_id,
        "SourceIPAddress": entry.source,
        "EventName": entry.operation,
        "Resource": entry.resource,
        "Outcome": entry.outcome,
        "RequestId": entry.request_id,
        "RequestParameters": entry.parameters or None,
    }
    return {name: value for name, value in facts.items() if value is not None}
