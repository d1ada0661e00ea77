"""`perdure worker`: a process that runs functions for a server, until it is told to stop."""

import logging
import signal
import threading
from typing import TYPE_CHECKING, Any

import click

from perdure.cli.exits import CliError, Exit
from perdure.cli.place import credentials_of, server_of
from perdure.cli.settings import Command, Settings, settings
from perdure.model.execution import EXECUTION_TIMEOUT_S_MAX
from perdure.worker.loading import Handler, NotLoaded, load_functions

if TYPE_CHECKING:
    from types import ModuleType

    from perdure.sdk.connection import Endpoint

DAY_S = 86_400


@click.command(cls=Command)
@click.argument("handlers", nargs=-1, required=True, metavar="MODULE_OR_FILE[:HANDLERS]...")
@click.option("--concurrency", default=64, show_default=True, type=click.IntRange(1, 10_000), help="Handlers at once.")
@click.option("--functions", metavar="NAMES", help="Only these of the functions; names with commas between them.")
@click.option("--name", metavar="NAME", default="", help="What the worker is called.  [HOST-PID]")
@click.option(
    "--function-timeout",
    default=900,
    show_default=True,
    type=click.IntRange(1, DAY_S),
    help="Seconds that one invocation may take.",
)
@click.option(
    "--execution-timeout",
    default=EXECUTION_TIMEOUT_S_MAX,
    show_default=True,
    type=click.IntRange(1, EXECUTION_TIMEOUT_S_MAX),
    help="Seconds that an execution may take, waits included.",
)
@click.option(
    "--retention-days",
    default=14,
    show_default=True,
    type=click.IntRange(1, 90),
    help="For how long an execution is kept after its end.",
)
@click.option(
    "--grace",
    default=8.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds in which handlers may come to a checkpoint when the worker is stopped.",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def worker(handlers: tuple[str, ...], **given: Any) -> int:
    """Run functions for a server: it is asked for work, and never connects to here.

    \b
        perdure worker orders.py
        perdure worker shop.orders:order,refund shop.mails --endpoint https://durable.example.org

    All durable functions of a module, or the handlers that are named, plain ones too. Their code has a version of its
    own at the server: executions stay with the code they began on. SIGTERM lets what runs come to its next checkpoint;
    another worker goes on with it.
    """
    from perdure.model.execution import DurableConfig
    from perdure.server.lines import log_to_stderr
    from perdure.worker.code import code_of
    from perdure.worker.remote import RemoteWorker

    options = settings()
    try:
        functions, modules = _load(handlers, given["functions"])
        code = code_of(modules)
    except NotLoaded as error:
        raise CliError(str(error), Exit.USAGE, hint=error.hint, kind="HandlerNotLoaded") from error
    level = logging.WARNING if options.is_quiet else logging.DEBUG if options.verbosity else logging.INFO
    log_to_stderr(level=level, is_json=given["log_format"] == "json")
    working = RemoteWorker(
        _endpoint(options),
        functions,
        code,
        name=given["name"],
        threads=given["concurrency"],
        config=DurableConfig(given["execution_timeout"], given["retention_days"]),
        timeout_s=given["function_timeout"],
    )
    return _work(working, given["grace"])


def _load(references: tuple[str, ...], only: str | None) -> "tuple[dict[str, Handler], list[ModuleType]]":
    functions: dict[str, Handler] = {}
    modules: list[ModuleType] = []
    for reference in references:
        found = load_functions(reference)
        modules.append(found.module)
        for name, handler in found.functions.items():
            if functions.setdefault(name, handler) is not handler:
                raise NotLoaded(f"two handlers are called {name!r}", "name them: @durable_execution(name=…)")
    if only is None:
        return functions, modules
    wanted = [name.strip() for name in only.split(",")]
    for name in wanted:
        if name not in functions:
            raise NotLoaded(f"there is no function {name!r}", f"there are {', '.join(functions)}")
    return {name: functions[name] for name in wanted}, modules


def _endpoint(options: Settings) -> "Endpoint":
    import os

    from perdure.sdk.connection import Endpoint
    from perdure.wire.signature import Signer

    place, key = server_of(options), credentials_of(options)
    signer = Signer(key.key_id, key.secret, region=place.region, token=key.token) if key is not None else None
    try:
        return Endpoint(place.endpoint, signer, ca_file=os.environ.get("AWS_CA_BUNDLE") or None)
    except ValueError as error:
        raise CliError(str(error), Exit.USAGE, kind="EndpointInvalid") from None


def _work(working: Any, grace_s: float) -> int:
    """Work until a signal comes; a second one ends the process at once."""
    from perdure.worker.requests import Refusal

    stopped = threading.Event()

    def on_signal(_number: int, _frame: Any) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    try:
        working.start(stopped.is_set)
    except Refusal as refusal:
        raise _refused(refusal) from refusal
    stopped.wait()
    if not working.stop(grace_s):
        click.echo("some handlers had not come to a checkpoint; others go on from their last one", err=True)
    return Exit.OK


def _refused(refusal: Any) -> CliError:
    exits = {401: Exit.DENIED, 403: Exit.DENIED, 409: Exit.CONFLICT, 404: Exit.NOT_FOUND}
    hints = {
        403: "a worker needs an access key with the policy `worker`: perdure keys create",
        404: "is it a Perdure server? `perdure serve` starts one",
    }
    exit_code = exits.get(refusal.status, Exit.USAGE)
    text = f"the server does not take this worker: {refusal.message or refusal.code}"
    return CliError(text, exit_code, hint=hints.get(refusal.status), kind=refusal.code)
