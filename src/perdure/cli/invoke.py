"""`perdure invoke`: call a function of a server; if it is durable, see its execution through."""

import base64
import binascii
import json
import sys
from typing import Any, Final

import click
import msgspec
from msgspec.structs import replace

from perdure.cli import completion, remembered
from perdure.cli.desk import Desk
from perdure.cli.ending import ended_badly, finish, write_result
from perdure.cli.exits import CliError, Exit
from perdure.cli.follow import detached, event_lines, gave_up
from perdure.cli.given import at_file, event_text
from perdure.cli.menu import ask
from perdure.cli.output import read_text, write_document
from perdure.cli.place import connected
from perdure.cli.progress import Follower, Left, Picture
from perdure.cli.server_desk import ServerDesk
from perdure.cli.settings import Command, Settings, settings
from perdure.client.client import Client
from perdure.client.errors import ApiError, TooLate
from perdure.model.execution import ExecutionStatus
from perdure.model.ids import LATEST, FunctionReference
from perdure.model.view import ExecutionView
from perdure.wire.table import Json

EVENT_BYTES_MAX: Final = 1024 * 1024
"""An event of an asynchronous invoke (Lambda API, Invoke)."""
SYNC_S: Final = 930.0
"""A little longer than a server lets a caller wait."""
TYPES: Final = ("RequestResponse", "Event", "DryRun")


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be called, and how. `waits` None means: as long as somebody can answer a callback."""

    function: str
    qualifier: str | None = None
    event: str = "{}"
    name: str | None = None
    kind: str = "RequestResponse"
    waits: bool | None = None
    is_followed: bool = False
    tenant: str | None = None
    client_context: str | None = None
    has_log: bool = False

    def members(self) -> Json:
        """The request's members, but for the type of the invocation."""
        return {
            "FunctionName": self.function,
            "Qualifier": self.qualifier,
            "Payload": self.event.encode(),
            "DurableExecutionName": self.name,
            "TenantId": self.tenant,
            "ClientContext": self.client_context,
        }


@click.command(cls=Command)
@click.argument("function", metavar="FUNCTION[:QUALIFIER]", shell_complete=completion.functions)
@click.option("-e", "--event", metavar="JSON|@FILE|-", help="The input; {} if not given.")
@click.option("--event-file", metavar="FILE|-", help="The file with the input.")
@click.option("-n", "--durable-execution-name", "--name", "name", metavar="NAME", help="With it, it is begun once.")
@click.option("--qualifier", help="A version, an alias or $LATEST, which is what durable functions run without one.")
@click.option("--invocation-type", "kind", type=click.Choice(TYPES), default=TYPES[0], show_default=True)
@click.option("--async", "is_async", is_flag=True, help="Begin it, print its ARN, and leave.")
@click.option(
    "--wait/--no-wait",
    "waits",
    default=None,
    help="Stay until a callback is answered, or leave there with exit code 7. On a terminal, it asks.",
)
@click.option("--follow", "is_followed", is_flag=True, help="Write each event to stdout, as a line of JSON.")
@click.option("--tenant-id", "tenant", help="For functions that keep their tenants apart.")
@click.option("--client-context", metavar="JSON|@FILE|-", help="For functions that are not durable.")
@click.option(
    "--log", "log", type=click.Choice(["none", "tail"]), default="none", help="The end of a plain function's log."
)
def invoke(event: str | None, event_file: str | None, is_async: bool, log: str, **given: Any) -> int:
    """Call a function of a server and print its result.

    If the function is durable, its execution is shown while it goes on, and goes on when this command is left: Ctrl-C
    prints how to see it again. What the function returned goes to stdout, everything else to stderr.
    """
    options = settings()
    if event is not None and event_file is not None:
        raise click.UsageError("--event and --event-file can't both be given")
    if is_async:
        given["kind"] = "Event"
    context = given.pop("client_context")
    wish = Wish(
        event=event_text(event if event is not None else at_file(event_file)),
        client_context=_encoded_context(context) if context is not None else None,
        has_log=log == "tail",
        **given,
    )
    with connected(options) as client:
        return carried_out(options, client, wish)


def _encoded_context(given: str) -> str:
    text = read_text(given, "client context")
    try:
        is_object = isinstance(json.loads(text), dict)
    except ValueError:
        is_object = False
    if not is_object:
        raise click.BadParameter("the client context must be a JSON object", param_hint="--client-context")
    return base64.b64encode(text.encode()).decode()


def carried_out(options: Settings, client: Client, wish: Wish) -> int:
    """Call the function, as it is: durable or not."""
    wish, is_durable = known(client, wish)
    is_large = len(wish.event.encode()) > EVENT_BYTES_MAX  # only a caller who waits may send as much
    if wish.kind == "DryRun" or not is_durable or (is_large and wish.kind != "Event"):
        return call_plain(options, client, wish)
    arn = start(client, wish)
    if wish.kind == "Event" and not wish.is_followed:
        _write_arn(options, arn)
        return Exit.OK
    view = watched(options, ServerDesk(client), arn, waits=wish.waits, is_followed=wish.is_followed)
    if not wish.is_followed:
        return finish(options, view)
    if view.status is not ExecutionStatus.SUCCEEDED:
        raise ended_badly(view)
    return Exit.OK


def known(client: Client, wish: Wish) -> tuple[Wish, bool]:
    """Whether the function is durable; then it has a qualifier, `$LATEST` if none was given.

    Who may invoke a function and not look at it is told by what comes back.
    """
    try:
        found = client.call("GetFunctionConfiguration", FunctionName=wish.function, Qualifier=wish.qualifier)
    except ApiError as error:
        if error.status != 403:
            raise
        return wish, False
    is_durable = bool(found.get("DurableConfig"))
    is_qualified = wish.qualifier is not None or FunctionReference.parse(wish.function).qualifier is not None
    return (wish if is_qualified or not is_durable else replace(wish, qualifier=LATEST)), is_durable


# --- functions that are not durable -------------------------------------------------------------------------------


def call_plain(options: Settings, client: Client, wish: Wish) -> int:
    """Call a function and wait for what it returns, or try whether it could be called."""
    if wish.kind == "DryRun":
        client.call("Invoke", InvocationType="DryRun", **wish.members())
        if not options.is_quiet:
            click.echo(f"{wish.function} could be invoked so", err=True)
        return Exit.OK
    timeout_s = options.timeout_s if options.timeout_s is not None else SYNC_S
    log_type = "Tail" if wish.has_log and wish.kind == TYPES[0] else None
    try:
        answer = client.call(
            "Invoke", timeout_s=timeout_s, InvocationType=wish.kind, LogType=log_type, **wish.members()
        )
    except TooLate as error:
        raise CliError(f"{wish.function} has not answered: {error.reason}", Exit.GAVE_UP, kind="GaveUp") from None
    payload: bytes = answer.get("Payload") or b""
    _show_log(answer.get("LogResult"))
    if options.output is not None:
        document = {name: value for name, value in answer.items() if name != "LogResult"}
        document["Payload"] = _json_or_text(payload)
        write_document(options, document, lambda: payload.decode("utf-8", "replace"))
    elif wish.kind == "Event":
        click.echo(f"accepted: {wish.function}", err=True)
    elif not answer.get("FunctionError"):
        write_result(payload.decode("utf-8", "replace"))
    if not answer.get("FunctionError"):
        return Exit.OK
    said = _json_or_text(payload)
    facts = said if isinstance(said, dict) else {}
    kind = str(facts.get("errorType") or answer["FunctionError"])
    raise CliError(
        f"{wish.function} failed: {kind}: {facts.get('errorMessage', said)}",
        Exit.ENDED,
        hint="--log tail shows the end of its log",
        kind=kind,
    )


def _show_log(encoded: str | None) -> None:
    if encoded:
        try:
            click.echo(base64.b64decode(encoded).decode("utf-8", "replace").rstrip("\n"), err=True)
        except binascii.Error:
            click.echo(encoded, err=True)


def _json_or_text(payload: bytes) -> Any:
    try:
        return json.loads(payload) if payload else None
    except ValueError:
        return payload.decode("utf-8", "replace")


# --- durable functions --------------------------------------------------------------------------------------------


def start(client: Client, wish: Wish) -> str:
    """Begin an execution; it is what `@last` means in this folder from now on."""
    answer = client.call("Invoke", InvocationType="Event", **wish.members())
    arn = str(answer["DurableExecutionArn"])
    remembered.remember(client.endpoint, arn)
    return arn


def _write_arn(options: Settings, arn: str) -> None:
    if options.output is None:
        click.echo(arn)
    else:
        write_document(options, {"StatusCode": 202, "DurableExecutionArn": arn}, lambda: arn)


def watched(options: Settings, desk: Desk, arn: str, *, waits: bool | None, is_followed: bool = False) -> ExecutionView:
    """Show an execution until it ends, as it is then; have its callbacks answered, if somebody sits at a terminal."""
    is_asked = waits is None and sys.stdin.isatty() and sys.stderr.isatty()
    waited_for: set[str] = set()

    def leaves(picture: Picture) -> bool:
        return not waits and any(callback.callback_id not in waited_for for callback in picture.open_callbacks())

    try:
        show = event_lines if is_followed else None
        follower = Follower(options, desk.source(arn, is_with_data=is_followed), is_from_start=True, show=show)
        while (left := follower.until(leaves)) is Left.CALLBACK:
            picture = follower.picture
            callback = next(found for found in picture.open_callbacks() if found.callback_id not in waited_for)
            if not is_asked:
                raise _input_needed(picture)
            if not ask(desk, picture.view, callback):
                waited_for.add(callback.callback_id)
    except (KeyboardInterrupt, click.Abort):
        raise detached(arn) from None
    if left is Left.TIMEOUT:
        raise gave_up(follower.picture.view)
    return desk.get(arn)


def _input_needed(picture: Picture) -> CliError:
    view = picture.view
    answers = "; ".join(
        f"perdure callback succeed {found.callback_id} -r TEXT" for found in picture.open_callbacks()[:3]
    )
    return CliError(
        f"{view.function}/{view.name} waits for an answer",
        Exit.INPUT_NEEDED,
        hint=f"answer with: {answers}; then see it again with: perdure execution follow {view.execution_id}",
        kind="InputNeeded",
    )
