"""Named queries: SQL lives in `.sql` files, one query after a line `-- name: the_name`."""

import re
from importlib import resources
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(package: str, file: str = "queries.sql") -> dict[str, str]:
    """The queries of a file by their names, without comments."""
    parts = _NAME.split(resources.files(package).joinpath(file).read_text("utf-8"))
    return {name: _without_comments(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def _without_comments(text: str) -> str:
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")
