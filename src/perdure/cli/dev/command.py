"""The command `perdure dev`."""

import contextlib
import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from perdure.cli.exits import Exit
from perdure.cli.settings import Command, Settings, settings

if TYPE_CHECKING:
    from perdure.cli.dev.live import Live
    from perdure.cli.dev.source import Shown, Source, State
    from perdure.server.node import Node

log: Final = logging.getLogger("perdure.cli")

PORT: Final = 9014
LOOK_S: Final = 0.5
LOOK_SHARE: Final = 20
"""Between two looks at the files passes at least so many times what a look takes."""
SETTLE_S: Final = 0.05
"""Files are looked at again after this until nothing changes any more: who saves ten files saves them one by one."""
SETTLES_MAX: Final = 40
STOP_S: Final = 3.0


def _pairs(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """`Key=Value` texts, one or several in each, as SAM takes them."""
    found: dict[str, str] = {}
    for text in given:
        for word in shlex.split(text):
            name, equals, value = word.partition("=")
            if not equals or not name:
                raise click.BadParameter(f"write Name=Value, not {word!r}")
            found[name] = value
    return found


@click.command(cls=Command)
@click.argument("app", metavar="[APP|TEMPLATE]", required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--reload/--no-reload", "reloads", default=True, help="Take up what is changed in the files.")
@click.option(
    "--parameter-overrides",
    "overrides",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_pairs,
    help="The value of a template's parameter.",
)
def dev(app: str | None, host: str, port: int, reloads: bool, overrides: dict[str, str]) -> int:
    """Serve the functions of a module or of a SAM template while they are written.

    \b
        perdure dev orders.py               durable functions, and a plain `handler`, in this process
        perdure dev orders.py:order,charge  these functions
        perdure dev template.yaml           functions in Lambda's runtimes, from their CodeUri
        perdure dev                         template.yaml, or app in [tool.perdure] of pyproject.toml

    boto3, the AWS CLI and SAM use it as they use AWS. What is saved is taken up at once: open executions go on with the
    new code.
    """
    from perdure.cli.dev.live import Live, listen
    from perdure.cli.dev.source import find_source
    from perdure.sdk import strictness
    from perdure.sdk.strictness import Strict, strict, stricter
    from perdure.server.node import Node, Settings as NodeSettings
    from perdure.store.open import open_store

    options = settings()
    node_settings = NodeSettings(host=host, port=port)
    with contextlib.redirect_stdout(sys.stderr):
        source = find_source(app, Path(), overrides, node_settings.home)
        handlers = source.handlers()
    store = open_store(options.store_url)
    try:
        node = Node(store, node_settings, handlers)
    except BaseException:
        store.close()
        raise
    stdout, stderr = sys.stdout, sys.stderr
    live = Live(stderr, verbosity=options.verbosity, is_quiet=options.is_quiet, is_utc=options.is_utc)
    stopped = _stopped_by_signals()
    listen(live, options.verbosity)
    node.service.watch_all(live.see)
    try:
        with strict(stricter(strictness.mode, Strict.WARN)):
            _serve(node, source, live, stopped, options, lambda: click.echo(node.url, file=stdout), reloads=reloads)
    finally:
        live.close()
        sys.stdout, sys.stderr = stdout, stderr
    return Exit.OK


def _serve(
    node: "Node",
    source: "Source",
    live: "Live",
    stopped: threading.Event,
    options: Settings,
    say_url: Callable[[], None],
    *,
    reloads: bool,
) -> None:
    """From the first deployment until it is stopped."""
    try:
        source.deploy(node, live)
        state = source.look() if reloads else {}
        node.start()
        say_url()
        if not options.is_quiet:
            for line in welcome(source.title, node.url, options.store_url, source.shown(), node):
                live.text(line)
        if reloads:
            _watch(node, source, live, stopped, state)
        else:
            stopped.wait()
        live.happened("stopping: what runs is handed back at its next checkpoint")
    finally:
        node.stop(STOP_S)


def _stopped_by_signals() -> threading.Event:
    """Set by the first Ctrl-C or SIGTERM; the second ends the process as it would without us."""
    stopped = threading.Event()

    def stop(number: int, _frame: Any) -> None:
        stopped.set()
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopped


# --- files -------------------------------------------------------------------------------------------------------


def _watch(node: "Node", source: "Source", live: "Live", stopped: threading.Event, state: "State") -> None:
    """Look at the files now and then, and have what has changed taken up."""
    from perdure.model.error import ServiceError

    delay_s = LOOK_S
    trouble = ""
    while not stopped.wait(delay_s):
        began = time.monotonic()
        try:
            found = _settled(source, state, stopped)
            trouble = ""
        except ServiceError as error:
            if error.message != trouble:
                live.trouble(error.message)
            trouble = error.message
            continue
        finally:
            delay_s = max(LOOK_S, LOOK_SHARE * (time.monotonic() - began))
        if found != state:
            state = found
            try:
                source.renew(node, live)
                state = _still(source.look(), found)
            except ServiceError as error:
                live.trouble(error.message)
            except Exception:
                log.exception("what was changed could not be taken up")


def _still(now: "State", taken: "State") -> "State":
    """The state that is known: of files that were looked at before they were taken up, what they were then."""
    return {name: taken.get(name, state) for name, state in now.items()}


def _settled(source: "Source", state: "State", stopped: threading.Event) -> "State":
    """The state of the files once they have stopped changing."""
    found = source.look()
    if found == state:
        return found
    for _ in range(SETTLES_MAX):
        if stopped.wait(SETTLE_S):
            break
        again = source.look()
        if again == found:
            break
        found = again
    return found


# --- what is said first ------------------------------------------------------------------------------------------


def welcome(title: str, url: str, store: str, functions: "list[Shown]", node: "Node") -> list[str]:
    """The functions, the environment to set, and commands to begin with."""
    arn_of = node.settings.home.function_arn
    rows = [("FUNCTION", "RUNS IN", "ARN")]
    rows += [
        (each.name, f"{each.runs}{', durable' if each.is_durable else ''}", arn_of(each.name, each.qualifier))
        for each in functions
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    table = [f"  {name:<{widths[0]}}  {runs:<{widths[1]}}  {arn}" for name, runs, arn in rows]
    first = next((each for each in functions if each.is_durable), functions[0] if functions else None)
    lines = [click.style(f"{title} is served at {url}, on {store}", bold=True), "", *table, ""]
    lines.append(f"  export AWS_ENDPOINT_URL_LAMBDA={url} PERDURE_ENDPOINT={url}")
    if not (os.environ.get("AWS_DEFAULT_REGION") or (Path.home() / ".aws").exists()):
        lines.append(
            "  export AWS_DEFAULT_REGION=us-east-1 AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local"
            "   # anybody may call without keys"
        )
    if first is not None:
        target = f"{first.name}:{first.qualifier}" if first.qualifier else first.name
        lines.append(f"  perdure invoke {first.name} -e '{{}}'")
        lines.append(f"  aws lambda invoke --function-name {shlex.quote(target)} /dev/stdout")
        if first.is_durable:
            lines.append(f"  aws lambda list-durable-executions-by-function --function-name {shlex.quote(target)}")
    return [*lines, ""]
