"""What operators do with executions and callbacks, wherever these are: on a store file or at a server."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from perdure.cli.exits import CliError, Exit
from perdure.cli.place import StorePlace, connected, place_of
from perdure.cli.settings import Settings
from perdure.model.error import NotAStore

if TYPE_CHECKING:
    from perdure.cli.news import Source
    from perdure.model.error import ErrorObject
    from perdure.model.event import HistoryEvent
    from perdure.model.execution import ExecutionRow
    from perdure.model.ids import Home
    from perdure.model.operation import Operation
    from perdure.model.view import ExecutionView, OpenCallback
    from perdure.store.protocol import Query, Store
    from perdure.store.sqlite import Mode


HASTE = {"attempts": 1, "timeout_s": 0.5, "connect_timeout_s": 0.2}


class Desk(Protocol):
    """Executions are named by their ids or ARNs. `home` is known once something has been read."""

    @property
    def where(self) -> str:
        """`in perdure.db`, `at http://127.0.0.1:9014`."""
        ...

    @property
    def home(self) -> "Home": ...

    def now_ms(self) -> int: ...

    def rows(self, query: "Query") -> "Iterator[ExecutionRow]":
        """Everything that `query` finds, read page by page while one iterates."""
        ...

    def last_started(self) -> str | None:
        """The execution that was last started from this folder, if that is known."""
        ...

    def functions(self) -> Iterator[str]:
        """The names of functions, as far as they are known."""
        ...

    def get(self, execution: str) -> "ExecutionView": ...

    def operations(self, execution: str) -> "list[Operation]": ...

    def events(self, execution: str, *, is_reversed: bool = False) -> "Iterator[HistoryEvent]": ...

    def source(self, execution: str, *, is_with_data: bool = False) -> "Source":
        """The news of an execution; its payloads are among them if they are wanted."""
        ...

    def open_callbacks(self, execution: str | None = None, *, limit: int = 1000) -> "list[OpenCallback]":
        """Those of one execution, or of all, the oldest executions first."""
        ...

    def stop(self, execution: str, error: "ErrorObject | None") -> None: ...

    def pause(self, execution: str, reason: str | None, *, is_timeout_paused: bool) -> None: ...

    def resume(self, execution: str, reason: str | None) -> None: ...

    def delete(self, execution: str) -> None: ...

    def succeed_callback(self, callback_id: str, result: str | None) -> None: ...

    def fail_callback(self, callback_id: str, error: "ErrorObject | None") -> None: ...

    def heartbeat_callback(self, callback_id: str) -> None:
        """Raises CallbackTimeout if the callback is closed."""
        ...


@contextlib.contextmanager
def opened(options: Settings, *, may_write: bool = False, is_hasty: bool = False) -> Iterator[Desk]:
    """The desk where the command works. A store file must exist; a server is asked when something is wanted of it.

    Who is hasty would rather have no answer than a late one.
    """
    place = place_of(options)
    if isinstance(place, StorePlace):
        from perdure.cli.store_desk import StoreDesk
        from perdure.store.sqlite import Mode

        with opened_store(options, Mode.OPERATE if may_write else Mode.READ) as store:
            yield StoreDesk(store, place.url)
    else:
        from perdure.cli.server_desk import ServerDesk

        with connected(options, **(HASTE if is_hasty else {})) as client:
            yield ServerDesk(client)


@contextlib.contextmanager
def opened_store(options: Settings, mode: "Mode | None" = None, *, may_make: bool = False) -> "Iterator[Store]":
    """The store of the settings, to be read if no mode is given; it must exist, unless it may be made."""
    from perdure.store.open import open_store, sqlite_path
    from perdure.store.sqlite import Mode

    mode = mode if mode is not None else Mode.READ
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
