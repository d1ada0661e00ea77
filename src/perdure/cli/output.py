"""Data on stdout: a table, a summary, JSON, JSON lines, or tab-separated values."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click
import msgspec

from perdure.cli.exits import CliError, Exit
from perdure.cli.settings import Settings

T = TypeVar("T")


class Column(msgspec.Struct, frozen=True):
    """A column of a table: its title, and the cell of a row."""

    title: str
    cell: Callable[[Any], str]
    is_right: bool = False
    style: Callable[[Any], str] | None = None
    can_wrap: bool = False


STATUS_STYLES = {
    "RUNNING": "cyan",
    "SUCCEEDED": "green",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "STOPPED": "yellow",
    "PAUSED": "yellow",
    "PAUSING": "yellow",
    "PENDING": "yellow",
}


def dumps(document: Any, *, is_pretty: bool = True) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2 if is_pretty else None)


def write_document(options: Settings, document: Any, summary: Callable[[], str]) -> None:
    """One thing: its summary for people, or its JSON."""
    match options.form("summary"):
        case "json":
            click.echo(dumps(document))
        case "jsonl":
            click.echo(dumps(document, is_pretty=False))
        case "tsv":
            for name, value in document.items():
                click.echo(f"{name}\t{value if isinstance(value, str) else dumps(value, is_pretty=False)}")
        case _:
            click.echo(summary())


def write_rows(
    options: Settings,
    rows: Iterable[T],
    columns: Sequence[Column],
    *,
    key: str,
    document: Callable[[T], Any],
    empty: str,
    human: str = "table",
) -> None:
    """Many things: a table, or one JSON document with the list under `key`, or one line each."""
    form = options.form(human)
    if form == "jsonl":
        for row in rows:
            click.echo(dumps(document(row), is_pretty=False))
    elif form == "json":
        click.echo(dumps({key: [document(row) for row in rows]}))
    elif form == "tsv":
        click.echo("\t".join(column.title for column in columns))
        for row in rows:
            click.echo("\t".join(_flat(column.cell(row)) for column in columns))
    else:
        _write_table(list(rows), columns, empty)


def _flat(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def _write_table(rows: Sequence[Any], columns: Sequence[Column], empty: str) -> None:
    if not rows:
        click.echo(empty, err=True)
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.is_right else "left",
            no_wrap=not column.can_wrap,
            overflow="fold" if column.can_wrap else "ellipsis",
        )
    for row in rows:
        table.add_row(*(Text(column.cell(row), column.style(row) if column.style else "") for column in columns))
    console().print(table)


def console(*, is_error: bool = False) -> Any:
    """The terminal, or what stands in its place."""
    from rich.console import Console

    made = Console(stderr=is_error, highlight=False, soft_wrap=False, emoji=False)
    if not made.is_terminal:
        made.width = 200
    return made


def table_to_text(pairs: Iterable[tuple[str, str | None]]) -> str:
    """A summary: names in one column, values in another; what is None is left out."""
    present = [(name, value) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in present), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in present)


def read_text(given: str, what: str) -> str:
    """A text as it is, `@FILE` the content of a file, `-` all of stdin."""
    if given == "-":
        return sys.stdin.read()
    if not given.startswith("@"):
        return given
    from pathlib import Path

    path = Path(given[1:])
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise CliError(f"the {what} file {path} is no UTF-8 text", Exit.USAGE) from None
    except OSError as error:
        raise CliError(f"the {what} file {path} can't be read: {error.strerror}", Exit.USAGE) from None


def one_line(text: str | None, length: int = 100) -> str:
    """A payload as far as it fits."""
    if text is None:
        return ""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else f"{flat[: length - 1]}…"
