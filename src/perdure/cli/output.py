"""Data on stdout: a table, a summary, JSON, JSON lines, or tab-separated values."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, TypeVar

import click
import msgspec

from perdure.cli.exits import CliError, Exit
from perdure.cli.settings import Settings

WIDE = 140
T = TypeVar("T")


class Fit(Enum):
    """What becomes of a cell that is too wide for the terminal."""

    KEEP = "keep"
    SHRINK = "shrink"
    FOLD = "fold"


class Column(msgspec.Struct, frozen=True):
    """A column of a table: its title, and the cell of a row. `is_extra` is left out where there is little room."""

    title: str
    cell: Callable[[Any], str]
    is_right: bool = False
    style: Callable[[Any], str] | None = None
    fit: Fit = Fit.KEEP
    is_extra: bool = False


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


def write_data(options: Settings, document: Any, form: str | None = None) -> None:
    """A document for programs: JSON, JSON lines, YAML, or values between tabs; the part of it that --query asks for."""
    form = form if form is not None else options.form("json")
    if options.query is not None:
        document = _part(document, options.query)
    match form:
        case "jsonl":
            for line in document if isinstance(document, list) else [document]:
                click.echo(dumps(line, is_pretty=False))
        case "yaml":
            import yaml

            click.echo(yaml.safe_dump(document, allow_unicode=True, sort_keys=False, width=10**9), nl=False)
        case "tsv":
            for line in document if isinstance(document, list) else [document]:
                cells = line if isinstance(line, list) else line.values() if isinstance(line, dict) else [line]
                click.echo("\t".join(_cell(cell) for cell in cells))
        case _:
            click.echo(dumps(document))


def _part(document: Any, query: str) -> Any:
    """What a JMESPath finds. The package for that comes with boto3 and the AWS command line; Perdure does without."""
    try:
        import jmespath
        from jmespath.exceptions import JMESPathError
    except ImportError:
        raise CliError("--query needs the package jmespath", Exit.USAGE, hint="pip install jmespath") from None
    try:
        return jmespath.search(query, document)
    except JMESPathError as error:
        raise CliError(f"--query {query!r} can't be: {error}", Exit.USAGE, kind="InvalidQuery") from None


def _cell(value: Any) -> str:
    return _flat(value if isinstance(value, str) else dumps(value, is_pretty=False))


def write_document(options: Settings, document: Any, summary: Callable[[], str]) -> None:
    """One thing: its summary for people, or its data."""
    form = options.form("summary")
    if options.query is not None or form in ("json", "jsonl", "yaml"):
        write_data(options, document, form)
    elif form == "tsv":
        for name, value in document.items():
            click.echo(f"{name}\t{value if isinstance(value, str) else dumps(value, is_pretty=False)}")
    else:
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
    """Many things: a table, or one document with the list under `key`, or one line each."""
    form = options.form(human)
    if options.query is None and form == "jsonl":
        for row in rows:
            click.echo(dumps(document(row), is_pretty=False))
    elif options.query is not None or form in ("json", "yaml"):
        write_data(options, {key: [document(row) for row in rows]}, form)
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

    out = console()
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    filled: list[tuple[Column, list[str]]] = []
    for column in columns:
        cells = [column.cell(row) for row in rows]
        if any(cells) and (not column.is_extra or out.width >= WIDE):
            filled.append((column, cells))
            table.add_column(
                column.title,
                justify="right" if column.is_right else "left",
                no_wrap=column.fit is Fit.KEEP,
                overflow="fold",
            )
    for number, row in enumerate(rows):
        table.add_row(*(_text(column, cells[number], row) for column, cells in filled))
    out.print(table)


def _text(column: Column, cell: str, row: Any) -> Any:
    from rich.text import Text

    is_shrunk = column.fit is Fit.SHRINK
    return Text(
        cell,
        column.style(row) if column.style else "",
        no_wrap=is_shrunk or None,
        overflow="ellipsis" if is_shrunk else None,
    )


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


def readable(payload: str | None) -> str | None:
    """A payload for people: without the type marks of the format in which steps keep what JSON has no types for."""
    if payload is None or not payload.startswith('{"t":"'):
        return payload
    from perdure.exceptions import SerDesError
    from perdure.serdes import decode

    try:
        return json.dumps(decode(payload), ensure_ascii=False, default=str)
    except (SerDesError, ValueError, TypeError):
        return payload
