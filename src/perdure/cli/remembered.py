"""What was last started from a folder at a server: for `@last`, on servers that many use."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Final

KEPT_MAX: Final = 200


def last(endpoint: str) -> str | None:
    """The ARN of the execution that was last started from this folder; None if none was, or nobody knows."""
    found = _read().get(_key(endpoint))
    return found if isinstance(found, str) else None


def remember(endpoint: str, arn: str) -> None:
    """Keep that an execution was started from this folder. That it can't be kept is no error."""
    kept = _read()
    kept.pop(_key(endpoint), None)
    kept[_key(endpoint)] = arn
    path = _path()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(dict(list(kept.items())[-KEPT_MAX:]), indent=1), "utf-8")
        fresh.replace(path)


def _key(endpoint: str) -> str:
    return f"{endpoint} {Path.cwd()}"


def _path() -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "perdure" / "last.json"


def _read() -> dict[str, Any]:
    try:
        found = json.loads(_path().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
