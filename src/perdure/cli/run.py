"""`perdure run`: one execution, in this process, on a store file; what is cut off goes on with the same command."""

import contextlib
import hashlib
import json
import logging
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import click

from perdure.cli.ending import finish
from perdure.cli.exits import CliError, Exit
from perdure.cli.given import event_text
from perdure.cli.progress import Follower, Left
from perdure.cli.running import quiet_stdout
from perdure.cli.settings import Command, Settings, settings
from perdure.model.execution import ENDED, OPEN, ExecutionRow
from perdure.model.ids import EXECUTION_NAME
from perdure.model.view import Changes, ExecutionView
from perdure.service.clock import SystemClock
from perdure.service.service import Service
from perdure.store.open import open_store, sqlite_path
from perdure.store.protocol import Query
from perdure.store.sqlite import Mode
from perdure.worker.embedded import Execution, open as open_perdure
from perdure.worker.loading import Loaded, NotLoaded, load_handler

CLOSE_S = 3.0


@click.command(cls=Command)
@click.argument("handler", metavar="MODULE_OR_FILE[:HANDLER]")
@click.option("-e", "--event", default="{}", metavar="JSON|@FILE|-", help="The input; {} if not given.")
@click.option("--name", metavar="NAME", help="The execution's name: with it, it is begun once.")
@click.option("--new", "is_new", is_flag=True, help="Begin anew even if an earlier run has not ended.")
@click.option(
    "--wait/--no-wait",
    default=None,
    help="Stay until a callback is answered, or leave there with exit code 7. Stays where there is a terminal.",
)
@click.option("--show-history", is_flag=True, help="Print the history at the end, on stderr.")
def run(handler: str, event: str, name: str | None, is_new: bool, wait: bool | None, show_history: bool) -> int:
    """Run a durable function here and print its result.

    Progress goes to stderr, the result to stdout. Ctrl-C, a crash or a power cut leave the execution as it is after its
    last checkpoint: the same command goes on with it. Unfinished executions of the same module go on, too.
    """
    options = settings()
    with quiet_stdout() as stdout:
        loaded = _load(handler)
        text = event_text(event)
        if name is not None and not EXECUTION_NAME.fullmatch(name):
            raise click.BadParameter("a name is 1 to 64 of the characters a-z, A-Z, 0-9, '-' and '_'")
        _log_to_stderr(options)
        must_wait = wait if wait is not None else sys.stdin.isatty() and sys.stderr.isatty()
        again = shlex.join(["perdure", *sys.argv[1:]])
        view = _run(options, loaded, text, name, again, is_new=is_new, must_wait=must_wait, show_history=show_history)
    with contextlib.redirect_stdout(stdout):
        return finish(options, view)


def _load(reference: str) -> Loaded:
    try:
        return load_handler(reference)
    except NotLoaded as error:
        raise CliError(str(error), Exit.USAGE, hint=error.hint, kind="HandlerNotLoaded") from error


def _run(
    options: Settings,
    loaded: Loaded,
    text: str,
    name: str | None,
    again: str,
    *,
    is_new: bool,
    must_wait: bool,
    show_history: bool,
) -> ExecutionView:
    """Run the execution until it ends; raises CliError where it is left before."""
    prefix = f"run-{hashlib.sha256(f'{loaded.name} {text}'.encode()).hexdigest()[:10]}-"
    last, others = _left_before(options, loaded, prefix)
    app = open_perdure(options.store_url, loaded.functions)
    try:
        with _terminate_as_interrupt():
            execution = app.start(loaded.name, json.loads(text), name=name or _run_name(prefix, last, is_new=is_new))
            _announce(options, execution, others)
            source = _Watched(app.service, execution.id)
            follower = Follower(options, source, is_from_start=execution.is_new)
            left = follower.until(lambda _picture: not must_wait)
            if left is not Left.ENDED:
                raise _left_at(execution, left, again)
            view = execution.describe()
            if show_history:
                _show_history(options, execution, view)
            return view
    except KeyboardInterrupt:
        app.close(CLOSE_S)
        raise CliError(
            "interrupted; what was checkpointed is kept",
            Exit.INTERRUPTED,
            hint=f"go on with: {again}",
            kind="Interrupted",
        ) from None
    finally:
        app.close(CLOSE_S)


def _left_before(options: Settings, loaded: Loaded, prefix: str) -> tuple[ExecutionRow | None, list[str]]:
    """The last run whose name begins so, and the unfinished executions of the same functions.

    As they are before anything of them goes on: a run that is gone on with may end at once.
    """
    path = sqlite_path(options.store_url)
    if path is None or not path.exists():
        return None, []
    with contextlib.closing(open_store(options.store_url, Mode.READ)) as store:
        now_ms = SystemClock().now_ms()
        last = store.search(Query(now_ms=now_ms, function=loaded.name, name_prefix=prefix, limit=1)).rows
        running = store.search(Query(now_ms=now_ms, statuses=OPEN)).rows
    return (last[0] if last else None), [row.execution_id for row in running if row.function in loaded.functions]


def _run_name(prefix: str, last: ExecutionRow | None, *, is_new: bool) -> str:
    """The name of the unfinished run of the same function with the same input, or a new one."""
    if last is None:
        return f"{prefix}1"
    if last.status not in ENDED and not is_new:
        return last.shown_name
    number = last.shown_name.removeprefix(prefix)
    return f"{prefix}{int(number) + 1 if number.isdecimal() else 1}"


def _announce(options: Settings, execution: Execution, others: list[str]) -> None:
    if options.is_quiet:
        return
    view = execution.describe()
    if not execution.is_new:
        is_over = view.end_ms is not None and execution.id not in others
        state = f"has ended {view.status}" if is_over else f"goes on after {view.operations} operations"
        click.echo(f"{view.function}/{view.name} {state}", err=True)
    more = [other for other in others if other != execution.id]
    if more:
        click.echo(f"unfinished executions of the same functions go on, too: {len(more)}", err=True)


class _Watched:
    """The news of an execution that this process runs."""

    def __init__(self, service: Service, execution_id: str) -> None:
        self._service = service
        self._execution_id = execution_id
        self._has_moved = threading.Event()
        service.watch(execution_id, lambda _state, _events: self._has_moved.set())

    def changes(self, after: str | None, wait_s: float) -> Changes:
        self._has_moved.clear()
        found = self._service.changes(self._execution_id, after)
        if found.position == after and found.view.end_ms is None and self._has_moved.wait(wait_s):
            found = self._service.changes(self._execution_id, after)
        return found


def _left_at(execution: Execution, reason: Left, again: str) -> CliError:
    view = execution.describe()
    if reason is Left.TIMEOUT:
        return CliError(
            f"{view.function}/{view.name} has not ended in time",
            Exit.GAVE_UP,
            hint=f"go on with: {again}",
            kind="GaveUp",
        )
    ids = [handle.id for handle in execution.callbacks()]
    answers = "; ".join(f"perdure callback succeed {callback_id} -r TEXT" for callback_id in ids[:3])
    return CliError(
        f"{view.function}/{view.name} waits for an answer",
        Exit.INPUT_NEEDED,
        hint=f"answer with: {answers}; then go on with: {again}",
        kind="InputNeeded",
    )


def _show_history(options: Settings, execution: Execution, view: ExecutionView) -> None:
    """The history table, on stderr: stdout belongs to the result."""
    from perdure.cli.execution import write_history

    shown = Settings(output="table", is_utc=options.is_utc)
    write_history(shown, view, execution.history(), is_full=False)


# --- the surroundings of a handler --------------------------------------------------------------------------------


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM leaves as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _ToStderr(logging.StreamHandler[Any]):
    """Writes to what is stderr now: the live display puts itself in its place."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, _value: Any) -> None:
        pass


def _log_to_stderr(options: Settings) -> None:
    """Show what handlers log; of Perdure itself, warnings unless -v asks for more."""
    handler = _ToStderr()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.WARNING if options.is_quiet else logging.INFO)
    level = {0: logging.WARNING, 1: logging.INFO}.get(options.verbosity, logging.DEBUG)
    logging.getLogger("perdure").setLevel(logging.ERROR if options.is_quiet else level)
