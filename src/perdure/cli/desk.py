"""A store as operators open it: to look and to act, beside the process that runs its functions or without one."""

import contextlib
from collections.abc import Iterator

from perdure.cli.exits import CliError, Exit
from perdure.cli.settings import Settings
from perdure.model.error import NotAStore
from perdure.model.ids import Home
from perdure.service.functions import LoadedFunctions
from perdure.service.invocation import Call, Invocation
from perdure.service.service import Service
from perdure.store.open import open_store, sqlite_path
from perdure.store.protocol import Store
from perdure.store.sqlite import Mode


class _NoWorker:
    """Runs nothing: what becomes runnable waits for a process that has the functions."""

    def reserve(self, target: str) -> bool:
        return False

    has_backlog = False

    def release(self, target: str) -> None:
        raise AssertionError("no place was reserved")

    def run(self, invocation: Invocation) -> None:
        raise AssertionError("no place was reserved")

    def call(self, call: Call) -> None:
        """Leave it owed: an answer made up here would be taken for the function's own."""


@contextlib.contextmanager
def opened_store(options: Settings, mode: Mode = Mode.READ, *, may_make: bool = False) -> Iterator[Store]:
    """The store of the settings; it must exist, unless it may be made."""
    url = options.store_url
    path = sqlite_path(url)
    if path is not None and not path.exists() and may_make:
        mode = Mode.OWN
    elif path is not None and not path.exists():
        raise CliError(
            f"there is no store at {path}",
            Exit.NOT_FOUND,
            hint="`perdure run` makes one; --store or PERDURE_STORE names another",
            kind="StoreNotFound",
        )
    if url == "memory://":
        raise NotAStore("memory:// lives and ends with the process that made it", hint="name a file with --store")
    store = open_store(url, mode)
    try:
        yield store
    finally:
        store.close()


@contextlib.contextmanager
def opened(options: Settings, mode: Mode = Mode.READ) -> Iterator[Service]:
    """The service over the store of the settings; it must exist."""
    with opened_store(options, mode) as store:
        yield Service(store, LoadedFunctions({}, Home()), _NoWorker())
