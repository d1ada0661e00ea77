"""From the URL of a store to the store."""

from pathlib import Path
from typing import Final

from perdure.model.error import InvalidParameterValue
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Store
from perdure.store.sqlite import Mode, SqliteStore

DEFAULT_URL: Final = "sqlite:///perdure.db"
"""One visible file in the current folder."""


def sqlite_path(url: str) -> Path | None:
    """The file that a URL or a plain path means; None if it means a database of another kind.

    `sqlite:///orders.db` is relative to the current folder, `sqlite:////var/lib/orders.db` absolute, as elsewhere.
    """
    if "://" not in url:
        return Path(url)
    scheme, _, rest = url.partition("://")
    if scheme != "sqlite":
        return None
    if not rest.startswith("/") or len(rest) < 2:
        raise InvalidParameterValue(f"the store {url!r} names no file", hint="write sqlite:///orders.db")
    return Path(rest[1:])


def open_store(url: str, mode: Mode = Mode.OWN) -> Store:
    """Open the store that `url` names: `sqlite:///FILE`, a path, or `memory://`."""
    if url == "memory://":
        return MemoryStore()
    path = sqlite_path(url)
    if path is None:
        scheme = url.partition("://")[0]
        raise InvalidParameterValue(
            f"there is no store of the kind {scheme!r}",
            hint="write sqlite:///orders.db, a path to a file, or memory://",
        )
    return SqliteStore(path, mode)
