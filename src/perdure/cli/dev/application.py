"""An application whose functions run in the node's own process: a module, or a file."""

import inspect
import threading
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from perdure.cli.dev.live import MUTED, Live, end_line, speaking
from perdure.cli.dev.source import Shown, State
from perdure.cli.exits import CliError, Exit
from perdure.cli.naming import SHORT
from perdure.execution import definition_of
from perdure.model.error import ErrorObject, ServiceError
from perdure.model.execution import OPEN, ExecutionRow
from perdure.model.ids import LATEST
from perdure.sdk.invocation import InvocationInput
from perdure.sdk.rehearsal import rehearse
from perdure.server.node import Node
from perdure.store.protocol import Query
from perdure.worker.apps import App, AppLoader
from perdure.worker.loading import NotLoaded

Handler = Callable[..., Any]
REHEARSALS_MAX: Final = 200


class AppSource:
    """The functions of `module`, `file.py` or one of them with `:names`."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        try:
            self._loader = AppLoader(reference)
            self._app = self._loader.load()
        except NotLoaded as error:
            raise CliError(str(error), Exit.USAGE, hint=error.hint, kind="AppNotLoaded") from error

    @property
    def title(self) -> str:
        return self._reference

    def handlers(self) -> Mapping[str, Handler]:
        return {name: spoken(name, handler) for name, handler in self._app.functions.items()}

    def deploy(self, node: Node, live: Live) -> None:
        """The node has registered them."""

    def look(self) -> State:
        return {str(file): _stamp(file) for file in self._loader.files}

    def renew(self, node: Node, live: Live) -> None:
        before = self._app
        try:
            self._app = self._loader.load()
        except NotLoaded as error:
            live.trouble(f"{error}; the code before it runs on")
            return
        node.take(self.handlers())
        live.happened(f"{self._reference} was loaded anew: {_what_changed(before, self._app)}", "cyan")
        threading.Thread(
            target=_rehearse_all, args=(node, self._app.functions, live), name="perdure-rehearsal", daemon=True
        ).start()

    def shown(self) -> list[Shown]:
        found: list[Shown] = []
        for name, handler in self._app.functions.items():
            is_durable = definition_of(handler) is not None
            found.append(Shown(name, "this process", LATEST if is_durable else None, is_durable))
        return found


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _what_changed(before: App, after: App) -> str:
    parts = [f"functions {', '.join(after.functions)}"]
    gone = before.functions.keys() - after.functions.keys()
    if gone:
        parts.append(f"without {', '.join(sorted(gone))}, whose executions wait until they are back")
    return "; ".join(parts)


# --- who speaks --------------------------------------------------------------------------------------------------


def spoken(name: str, handler: Handler) -> Handler:
    """The same handler; what it prints while it runs is known to be its own."""
    definition = definition_of(handler)
    if definition is None:
        return _within(name, handler)
    named = replace(definition, handler=_within(name, definition.handler))

    def invoked(event: Any, lambda_context: Any = None) -> Any:
        return handler(event, lambda_context)

    invoked.__perdure__ = named  # type: ignore[attr-defined]
    return invoked


def _within(name: str, function: Handler) -> Handler:
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def run_async(*args: Any) -> Any:
            speaking.set(name)
            try:
                return await function(*args)
            finally:
                end_line()

        return run_async

    @wraps(function)
    def run(*args: Any) -> Any:
        token = speaking.set(name)
        try:
            return function(*args)
        finally:
            end_line()
            speaking.reset(token)

    return run


# --- open executions and the new code ----------------------------------------------------------------------------


def _rehearse_all(node: Node, functions: Mapping[str, Handler], live: Live) -> None:
    """Say of each open execution that waits whether the new code can go on with it."""
    speaking.set(MUTED)
    for name, handler in functions.items():
        definition = definition_of(handler)
        if definition is None:
            continue
        query = Query(
            now_ms=node.service.clock.now_ms(), function=name, version=LATEST, statuses=OPEN, limit=REHEARSALS_MAX
        )
        good = 0
        try:
            for row in node.service.search(query).rows:
                given = _waiting(node, row)
                if given is None:
                    continue
                error = rehearse(definition, given)
                if error is None:
                    good += 1
                    continue
                shown = row.shown_name if row.name else row.execution_id[:SHORT]
                live.trouble(f"[{name}] {shown}: can't go on with the new code: {_first_sentence(error)}")
        except ServiceError:
            return  # the node is being stopped
        if good:
            executions = "one open execution can" if good == 1 else f"{good} open executions can"
            live.happened(f"[{name}] {executions} go on with the new code", "green")


def _first_sentence(error: ErrorObject) -> str:
    kind = (error.type or "Error").rpartition(".")[2]
    message = " ".join((error.message or "").split()).partition(". ")[0]
    return message if kind == "NonDeterministicExecutionError" else f"{kind}: {message}"


def _waiting(node: Node, row: ExecutionRow) -> InvocationInput | None:
    """What the next invocation of an execution will be given as things stand; None if one is under way."""
    view = node.service.get(row.execution_id)
    if view.end_ms is not None or view.is_running:
        return None
    operations = node.service.operations(row.execution_id)
    return InvocationInput(view.arn, view.execution_id, view.name, view.input, operations, start_ms=view.start_ms)
