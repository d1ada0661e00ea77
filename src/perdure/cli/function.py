"""`perdure function …`: the functions of a server, their versions and aliases."""

import threading
import time
from itertools import islice
from typing import Any, Final

import click

from perdure.cli import completion
from perdure.cli.deploy import configuration_text, set_alias
from perdure.cli.execution import confirm
from perdure.cli.exits import CliError, Exit
from perdure.cli.moments import Seconds
from perdure.cli.output import Column, Fit, table_to_text, write_document, write_rows
from perdure.cli.place import connected
from perdure.cli.server_desk import ServerDesk
from perdure.cli.settings import Group, Settings, settings
from perdure.client.client import Client
from perdure.model.execution import OPEN
from perdure.model.ids import FunctionReference
from perdure.store.protocol import Query
from perdure.wire.table import Json

LOOK_S: Final = 1.0
LOOK_S_MAX: Final = 5.0
SHOWN_MAX: Final = 100


@click.group(
    cls=Group,
    help="The functions of a server.",
    lazy={
        "deploy": ("perdure.cli.deploy:deploy", "Make a function of code, or bring it up to date."),
        "logs": ("perdure.cli.logs:function_logs", "What a function has printed."),
    },
)
def function() -> None:
    pass


_FUNCTION = click.argument("function", metavar="FUNCTION", shell_complete=completion.functions)
_QUALIFIED = click.argument("function", metavar="FUNCTION[:QUALIFIER]", shell_complete=completion.functions)


def _parts(function: str) -> Json:
    """The name and the qualifier, as members of a request."""
    reference = FunctionReference.parse(function)
    return {"FunctionName": reference.name, **({"Qualifier": reference.qualifier} if reference.qualifier else {})}


# --- looking ------------------------------------------------------------------------------------------------------


@function.command("list")
@click.option("--all-versions", is_flag=True, help="With all their versions.")
def list_functions(all_versions: bool) -> None:
    """List the functions."""
    options = settings()
    with connected(options) as client:
        found = client.paginate("ListFunctions", "Functions", FunctionVersion="ALL" if all_versions else None)
        write_rows(
            options,
            found,
            [
                Column("name", _of("FunctionName"), fit=Fit.SHRINK),
                *([Column("version", _of("Version"))] if all_versions else []),
                Column("durable", lambda item: "yes" if item.get("DurableConfig") else "no"),
                Column("runtime", _of("Runtime")),
                Column("handler", _of("Handler"), fit=Fit.SHRINK),
                Column("state", _of("State")),
                Column("modified", _of("LastModified")),
            ],
            key="Functions",
            document=lambda item: item,
            empty="no functions; `perdure function deploy` makes one",
        )


function.add_command(list_functions, "ls")


def _of(key: str) -> Any:
    return lambda item: str(item.get(key) or "")


@function.command()
@_QUALIFIED
def get(function: str) -> None:
    """Show a function, or one of its versions."""
    options = settings()
    with connected(options) as client:
        found = client.call("GetFunction", **_parts(function))

        def text() -> str:
            tags, concurrency = found.get("Tags"), found.get("Concurrency")
            more = [
                ("Tags", ", ".join(f"{key}={value}" for key, value in tags.items()) if tags else None),
                ("Concurrency", str(concurrency["ReservedConcurrentExecutions"]) if concurrency else None),
            ]
            return f"{configuration_text(found['Configuration'])}\n{table_to_text(more)}".rstrip()

        write_document(options, found, text)


@function.command()
@_FUNCTION
def versions(function: str) -> None:
    """List the versions of a function, with the aliases that name them."""
    options = settings()
    with connected(options) as client:
        named: dict[str, list[str]] = {}
        for alias in client.paginate("ListAliases", "Aliases", FunctionName=function):
            named.setdefault(alias["FunctionVersion"], []).append(alias["Name"])
        write_rows(
            options,
            client.paginate("ListVersionsByFunction", "Versions", FunctionName=function),
            [
                Column("version", _of("Version")),
                Column("aliases", lambda item: ", ".join(named.get(item["Version"], ()))),
                Column("state", _of("State")),
                Column("runtime", _of("Runtime")),
                Column("modified", _of("LastModified")),
                Column("code", lambda item: str(item.get("CodeSha256") or "")[:12]),
                Column("description", _of("Description"), fit=Fit.SHRINK),
            ],
            key="Versions",
            document=lambda item: item,
            empty="no versions",
        )


# --- changing -----------------------------------------------------------------------------------------------------


@function.command()
@_FUNCTION
@click.option("--description")
def publish(function: str, description: str | None) -> None:
    """Make a version of what $LATEST is now; without a change since the last one, it is that."""
    options = settings()
    with connected(options) as client:
        made = client.call("PublishVersion", FunctionName=function, Description=description)
        write_document(options, made, lambda: f"{made['FunctionName']}:{made['Version']}")


@function.command()
@_FUNCTION
@click.argument("name", metavar="ALIAS", required=False)
@click.argument("version", metavar="VERSION", required=False)
@click.option("--weight", "weights", multiple=True, metavar="VERSION=SHARE", help="A share of another version: 3=0.1.")
@click.option("--description")
@click.option("--delete", "is_deleted", is_flag=True, help="Remove the alias.")
def alias(
    function: str,
    name: str | None,
    version: str | None,
    weights: tuple[str, ...],
    description: str | None,
    is_deleted: bool,
) -> None:
    """List the aliases of a function, show one, or let it name a version."""
    options = settings()
    with connected(options) as client:
        if name is None:
            _list_aliases(options, client, function)
        elif is_deleted:
            client.call("DeleteAlias", FunctionName=function, Name=name)
            _say(options, f"{name} is removed")
        elif version is None and not weights and description is None:
            found = client.call("GetAlias", FunctionName=function, Name=name)
            write_document(options, found, lambda: _alias_text(found))
        else:
            before = client.call("GetAlias", FunctionName=function, Name=name) if version is None else {}
            routing = before.get("RoutingConfig") or {"AdditionalVersionWeights": {}}
            if weights:
                routing = {"AdditionalVersionWeights": _weights(weights)}
            named = version if version is not None else str(before["FunctionVersion"])
            made = set_alias(client, function, name, named, RoutingConfig=routing, Description=description)
            write_document(options, made, lambda: _alias_text(made))


def _weights(given: tuple[str, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in given:
        version, _, share = text.partition("=")
        try:
            found[version] = float(share)
        except ValueError:
            raise click.BadParameter(f"{text!r} is not VERSION=SHARE, as 3=0.1", param_hint="--weight") from None
    return found


def _list_aliases(options: Settings, client: Client, function: str) -> None:
    write_rows(
        options,
        client.paginate("ListAliases", "Aliases", FunctionName=function),
        [
            Column("alias", _of("Name")),
            Column("version", _of("FunctionVersion")),
            Column("others", _shares),
            Column("description", _of("Description"), fit=Fit.SHRINK),
        ],
        key="Aliases",
        document=lambda item: item,
        empty="no aliases",
    )


def _shares(alias: Json) -> str:
    weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    return ", ".join(f"{version} ({share:.0%})" for version, share in weights.items())


def _alias_text(alias: Json) -> str:
    others = _shares(alias)
    return f"{alias['Name']}: version {alias['FunctionVersion']}" + (f", and {others}" if others else "")


@function.command("invoke-config")
@_QUALIFIED
@click.option("--retries", type=click.IntRange(0, 2), help="How often a failed event is tried again.")
@click.option("--max-age", type=Seconds(), help="For how long: 60s to 6h.")
@click.option("--on-success", metavar="ARN", help="Where events go that succeeded.")
@click.option("--on-failure", metavar="ARN", help="Where events go that failed for good.")
@click.option("--delete", "is_deleted", is_flag=True, help="Take all of it back.")
def invoke_config(
    function: str,
    retries: int | None,
    max_age: float | None,
    on_success: str | None,
    on_failure: str | None,
    is_deleted: bool,
) -> None:
    """Show or set how events of a plain function are tried again."""
    options = settings()
    parts = _parts(function)
    destinations = {"OnSuccess": on_success, "OnFailure": on_failure}
    config: Json = {
        "MaximumRetryAttempts": retries,
        "MaximumEventAgeInSeconds": None if max_age is None else int(max_age),
        "DestinationConfig": {name: {"Destination": arn} for name, arn in destinations.items() if arn} or None,
    }
    config = {name: value for name, value in config.items() if value is not None}
    with connected(options) as client:
        if is_deleted:
            client.call("DeleteFunctionEventInvokeConfig", **parts)
            _say(options, f"{function}: events are tried again as by default")
            return
        operation = "PutFunctionEventInvokeConfig" if config else "GetFunctionEventInvokeConfig"
        found = client.call(operation, **parts, **config)
        pairs = [
            ("Retries", str(found["MaximumRetryAttempts"]) if "MaximumRetryAttempts" in found else None),
            ("Max age", f"{found['MaximumEventAgeInSeconds']} s" if "MaximumEventAgeInSeconds" in found else None),
        ]
        write_document(options, found, lambda: table_to_text(pairs) or f"{function}: as by default")


@function.command()
@_QUALIFIED
def delete(function: str) -> None:
    """Remove a function with all its versions, or one version; one with open executions goes when they have ended."""
    options = settings()
    confirm(options, f"Delete {function}?")
    with connected(options) as client:
        answer = client.call("DeleteFunction", **_parts(function))
    is_waiting = answer.get("StatusCode") == 202
    _say(options, f"{function} is removed" + (" as soon as its open executions have ended" if is_waiting else ""))


def _say(options: Settings, line: str) -> None:
    if not options.is_quiet:
        click.echo(line, err=True)


# --- draining -----------------------------------------------------------------------------------------------------


@function.command()
@_QUALIFIED
def drain(function: str) -> None:
    """Wait until no execution of a function, or of one of its versions, is open; --timeout says for how long."""
    options = settings()
    deadline = time.monotonic() + options.timeout_s if options.timeout_s is not None else None
    with connected(options) as client:
        desk = ServerDesk(client)
        parts = _parts(function)
        version = client.call("GetFunctionConfiguration", **parts)["Version"] if "Qualifier" in parts else None
        name = parts["FunctionName"]
        pause_s, before = LOOK_S, -1
        while True:
            query = Query(now_ms=desk.now_ms(), function=name, version=version, statuses=OPEN, limit=SHOWN_MAX)
            count = sum(1 for _ in islice(desk.rows(query), SHOWN_MAX))
            if count == 0:
                _say(options, f"{function} has no open execution")
                return
            shown = f"{count} or more" if count == SHOWN_MAX else str(count)
            if count != before:
                _say(options, f"{function}: open executions: {shown}")
            pause_s, before = LOOK_S if count != before else min(pause_s * 1.5, LOOK_S_MAX), count
            left_s = pause_s if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                raise CliError(
                    f"open executions of {function} are left: {shown}",
                    Exit.GAVE_UP,
                    hint=f"`perdure execution list {name} --status RUNNING` shows them",
                    kind="GaveUp",
                )
            threading.Event().wait(min(pause_s, left_s))
