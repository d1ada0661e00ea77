"""The input of a function as it is given to a command."""

import json
from typing import Any

from perdure.cli.exits import CliError, Exit
from perdure.cli.output import read_text


def event_text(given: str) -> str:
    """The event as the JSON that is stored: `given` is JSON, `@FILE`, or `-` for stdin."""
    text = read_text(given, "event")
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        where = {"-": "stdin"}.get(given, given if given.startswith("@") else "--event")
        raise CliError(
            f"the event in {where} is not JSON: {error}",
            Exit.USAGE,
            hint="write JSON, e.g. -e '{\"order\": 7}', @FILE for a file, or - for stdin",
            kind="EventNotJson",
        ) from None
    from perdure.engine.terms import Limits

    stored = json.dumps(value)
    size, most = len(stored.encode()), Limits().input_bytes_max
    if size > most:
        raise CliError(
            f"the event has {size} bytes; at most {most} are possible",
            Exit.USAGE,
            hint="store it elsewhere and pass where it is",
            kind="RequestTooLargeException",
        )
    return stored


def at_file(file: str | None) -> str:
    """What `event_text` takes, from an option that names a file, or is not given."""
    return "{}" if file is None else "-" if file == "-" else f"@{file}"


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
