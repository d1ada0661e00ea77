"""`perdure local …` and `perdure remote …`: SAM's commands for durable functions, at a server.

Both work at the same server, which SAM would have as an emulator or in the cloud. Options of SAM that have no meaning
without containers, templates and stacks are taken, and said to be ignored.

Source: SAM CLI, commands `sam local` and `sam remote`.
"""

import os
from collections.abc import Callable
from typing import Any, Final

import click
from msgspec.structs import replace

from perdure.cli import completion
from perdure.cli.ending import ended_badly, write_result
from perdure.cli.execution import error_from, error_options
from perdure.cli.exits import Exit
from perdure.cli.given import at_file, event_text
from perdure.cli.invoke import Wish, call_plain, known, start, watched
from perdure.cli.naming import find_execution
from perdure.cli.output import write_data
from perdure.cli.place import connected
from perdure.cli.sam_forms import history_of, next_commands, said, summary_of
from perdure.cli.server_desk import ServerDesk
from perdure.cli.settings import Group, Settings, settings
from perdure.client.client import Client
from perdure.model.execution import ExecutionStatus
from perdure.model.ids import ExecutionArn, Home
from perdure.wire.events import About, write_event
from perdure.wire.executions import write_execution
from perdure.wire.forms import PEOPLE

LOCAL: Final = "local"
REMOTE: Final = "remote"
_IGNORED: Final = "perdure.ignored"
PORTS: Final = ("DURABLE_EXECUTIONS_EXTERNAL_EMULATOR_PORT", "DURABLE_EXECUTIONS_EMULATOR_PORT")

local = Group(LOCAL, help="SAM's `sam local` for durable functions, at a server: no containers.")
remote = Group(REMOTE, help="SAM's `sam remote` for durable functions, at a server.")


def _tree() -> str:
    return click.get_current_context().command_path.split()[1]


def at_server(options: Settings) -> Client:
    """The client; for `local`, SAM's variables may name the port of the emulator."""
    if not options.is_quiet:
        for option in click.get_current_context().meta.get(_IGNORED, ()):
            click.echo(f"{option} has no meaning here and is ignored", err=True)
    is_local = _tree() == LOCAL
    port = next((os.environ[name] for name in PORTS if os.environ.get(name)), None)
    if is_local and port is not None and options.endpoint is None:
        options.endpoint = f"http://127.0.0.1:{port}"
    return connected(options)


# --- options that mean something to SAM only ----------------------------------------------------------------------

_CONFIGURATION: Final = (("--config-file",), ("--config-env",))
_TEMPLATE: Final = (
    *(("-t", "--template", "--template-file"), ("--hook-name",), ("--terraform-plan-file",)),
    *(("--env-vars", "-n"), ("--container-env-vars",), ("--runtime",), ("--add-host",), ("--container-dns",)),
    *(("--debug-port", "-d"), ("--debugger-path",), ("--debug-args",), ("--docker-volume-basedir", "-v")),
    *(("--docker-network",), ("--log-file", "-l"), ("--layer-cache-basedir",), ("--parameter-overrides",)),
    *(("--container-host",), ("--container-host-interface",), ("--invoke-image", "-ii"), ("--mount-symlinks",)),
)
_TEMPLATE_FLAGS: Final = (
    *("--skip-pull-image", "--force-image-build", "--shutdown", "--no-event", "--skip-prepare-infra"),
    *("--no-memory-limit", "--beta-features", "--no-beta-features"),
)


def _ignored(*options: tuple[str, ...], flags: tuple[str, ...] = ()) -> Callable[[Callable[..., Any]], Any]:
    """Takes options that have no meaning here; `at_server` says so if they are used."""

    def note(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        is_given = context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
        if is_given and value:
            context.meta.setdefault(_IGNORED, []).append(parameter.opts[0])

    def decorate(function: Callable[..., Any]) -> Any:
        for names in options:
            function = click.option(*names, multiple=True, hidden=True, expose_value=False, callback=note)(function)
        for name in flags:
            function = click.option(name, is_flag=True, hidden=True, expose_value=False, callback=note)(function)
        return function

    return decorate


def _common(function: Callable[..., Any]) -> Any:
    return _ignored(*_CONFIGURATION, flags=("--save-params", "--debug"))(function)


# --- execution ----------------------------------------------------------------------------------------------------

execution = Group("execution", help="See and stop durable executions.")
_ARN = click.argument("durable_execution_arn", metavar="ARN", shell_complete=completion.executions)


@execution.command()
@_ARN
@click.option("--format", "form", type=click.Choice(("summary", "json")), default="summary", show_default=True)
@_common
def get(durable_execution_arn: str, form: str) -> None:
    """Show an execution."""
    options = settings()
    with at_server(options) as client:
        desk = ServerDesk(client)
        view = desk.get(find_execution(desk, durable_execution_arn))
        if form == "json" or options.is_json or options.query is not None:
            write_data(options, write_execution(view, PEOPLE))
        else:
            click.echo(summary_of(view))


@execution.command()
@_ARN
@click.option("--format", "form", type=click.Choice(("table", "json")), default="table", show_default=True)
@_common
def history(durable_execution_arn: str, form: str) -> None:
    """Show every event of an execution."""
    options = settings()
    with at_server(options) as client:
        desk = ServerDesk(client)
        view = desk.get(find_execution(desk, durable_execution_arn))
        events = desk.events(view.arn)
        if form == "json" or options.is_json or options.query is not None:
            arn = ExecutionArn.parse(view.arn)
            about = About(view.execution_id, view.name, Home(arn.partition, arn.region, arn.account))
            write_data(options, {"Events": [write_event(event, about, PEOPLE) for event in events]})
        else:
            command = f"perdure {_tree()} execution history {view.arn} --format json"
            click.echo(history_of(view, events, command, is_utc=options.is_utc))


@execution.command()
@_ARN
@error_options
@_common
def stop(
    durable_execution_arn: str,
    error_message: str | None,
    error_type: str | None,
    error_data: str | None,
    stack_trace: tuple[str, ...],
) -> None:
    """End an execution at once: STOPPED."""
    options = settings()
    error = error_from(error_message, error_type, error_data, stack_trace)
    with at_server(options) as client:
        desk = ServerDesk(client)
        arn = desk.get(find_execution(desk, durable_execution_arn)).arn
        desk.stop(arn, error)
    _say(options, {"DurableExecutionArn": arn}, said("🛑", f"Execution stopped: {arn}", error))


def _say(options: Settings, document: dict[str, Any], line: str) -> None:
    if options.is_json or options.query is not None:
        write_data(options, document)
    elif not options.is_quiet:
        click.echo(line)


# --- callback -----------------------------------------------------------------------------------------------------

callback = Group("callback", help="Answer what executions wait for.")
_CALLBACK = click.argument("callback_id", metavar="ID", shell_complete=completion.callbacks)


@callback.command()
@_CALLBACK
@click.option("-r", "--result", metavar="TEXT", help="The answer.")
@_common
def succeed(callback_id: str, result: str | None) -> None:
    """Answer a callback."""
    options = settings()
    with at_server(options) as client:
        ServerDesk(client).succeed_callback(callback_id, result)
    line = said("✅", f"Callback success sent for ID: {callback_id}") + (f"\nResult: {result}" if result else "")
    _say(options, {"CallbackId": callback_id}, line)


@callback.command()
@_CALLBACK
@error_options
@_common
def fail(
    callback_id: str,
    error_message: str | None,
    error_type: str | None,
    error_data: str | None,
    stack_trace: tuple[str, ...],
) -> None:
    """Answer a callback with a failure."""
    options = settings()
    error = error_from(error_message, error_type, error_data, stack_trace)
    with at_server(options) as client:
        ServerDesk(client).fail_callback(callback_id, error)
    _say(options, {"CallbackId": callback_id}, said("❌", f"Callback failure sent for ID: {callback_id}", error))


@callback.command()
@_CALLBACK
@_common
def heartbeat(callback_id: str) -> None:
    """Say that work on a callback goes on."""
    options = settings()
    with at_server(options) as client:
        ServerDesk(client).heartbeat_callback(callback_id)
    _say(options, {"CallbackId": callback_id}, said("💓", f"Callback heartbeat sent for ID: {callback_id}"))


# --- invoke -------------------------------------------------------------------------------------------------------

_NAME = click.option("--durable-execution-name", "name", metavar="NAME", help="With it, the execution is begun once.")
_TENANT = click.option("--tenant-id", "tenant", help="For functions that keep their tenants apart.")


@local.command("invoke")
@click.argument("function", required=False, shell_complete=completion.functions)
@click.option("-e", "--event", metavar="FILE|-", help="The file with the event, or - for stdin; {} if not given.")
@_NAME
@_TENANT
@_ignored(*_TEMPLATE, flags=_TEMPLATE_FLAGS)
@_common
def invoke_local(function: str | None, event: str | None, name: str | None, tenant: str | None) -> int:
    """Call a function; without FUNCTION, the only one there is."""
    options = settings()
    text = event_text(at_file(event))
    with at_server(options) as client:
        return _invoked(options, client, Wish(function=_named(client, function), event=text, name=name, tenant=tenant))


_PARAMETERS: Final = {
    "InvocationType": "kind",
    "Qualifier": "qualifier",
    "DurableExecutionName": "name",
    "TenantId": "tenant",
    "ClientContext": "client_context",
}


@remote.command("invoke")
@click.argument("resource", required=False, shell_complete=completion.functions)
@click.option("--stack-name", help="A server has no stacks: RESOURCE is the function's name.")
@click.option("-e", "--event", metavar="JSON", help="The event.")
@click.option("--event-file", metavar="FILE|-", help="The file with the event.")
@click.option("--test-event-name", hidden=True)
@_NAME
@_TENANT
@click.option("--parameter", "parameters", multiple=True, metavar="KEY=VALUE", help="Of Invoke; may be repeated.")
@click.option("-o", "--output", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@_common
def invoke_remote(
    resource: str | None,
    stack_name: str | None,
    event: str | None,
    event_file: str | None,
    test_event_name: str | None,
    name: str | None,
    tenant: str | None,
    parameters: tuple[str, ...],
    form: str,
) -> int:
    """Call a function, and print what it returned."""
    options = settings()
    if test_event_name is not None:
        raise click.UsageError("events that are kept in AWS can't be had here; give --event or --event-file")
    if resource is None and stack_name is None:
        raise click.UsageError("give a RESOURCE or a --stack-name")
    if event is not None and event_file is not None:
        raise click.UsageError("--event and --event-file can't both be given")
    text = event_text(event if event is not None else at_file(event_file))
    with at_server(options) as client:
        wish = Wish(function=_named(client, resource), event=text, name=name, tenant=tenant)
        wish, has_log = _with_parameters(wish, parameters)
        if form == "json":
            options.output = "json"
        return _invoked(options, client, replace(wish, has_log=has_log))


def _with_parameters(wish: Wish, parameters: tuple[str, ...]) -> tuple[Wish, bool]:
    has_log = True
    for parameter in parameters:
        key, sign, value = parameter.partition("=")
        if not sign:
            raise click.BadParameter(f"{parameter!r} is not KEY=VALUE", param_hint="--parameter")
        if key == "LogType":
            has_log = value == "Tail"
        elif key in _PARAMETERS:
            wish = replace(wish, **{_PARAMETERS[key]: value})
        else:
            known_keys = ", ".join((*_PARAMETERS, "LogType"))
            raise click.BadParameter(f"Invoke has no parameter {key!r}; it has {known_keys}", param_hint="--parameter")
    return wish, has_log


def _named(client: Client, function: str | None) -> str:
    """The function, or the only one that the server has."""
    if function is not None:
        return function
    names = [str(found["FunctionName"]) for found in client.paginate("ListFunctions", "Functions")]
    if len(names) != 1:
        raise click.UsageError(f"which function? There are {', '.join(sorted(names)[:20]) or 'none'}")
    return names[0]


def _invoked(options: Settings, client: Client, wish: Wish) -> int:
    """As `perdure invoke`, and with SAM's words at the end."""
    wish, is_durable = known(client, wish)
    if wish.kind == "DryRun" or not is_durable:
        return call_plain(options, client, wish)
    arn = start(client, wish)
    if wish.kind == "Event":
        _say(options, {"StatusCode": 202, "DurableExecutionArn": arn}, f"Durable execution started: {arn}")
        return Exit.OK
    view = watched(options, ServerDesk(client), arn, waits=None)
    if not options.is_quiet:
        click.echo(click.style(summary_of(view), fg="yellow"), err=True)
        click.echo(next_commands(_tree(), arn), err=True)
    if options.is_json:
        payload = view.result if view.error is None else str(view.error)
        facts = {"StatusCode": 200, "DurableExecutionArn": arn, "ExecutedVersion": view.version, "Payload": payload}
        write_data(options, facts if view.error is None else {**facts, "FunctionError": "Unhandled"})
    elif view.status is ExecutionStatus.SUCCEEDED:
        write_result(view.result)
    if view.status is not ExecutionStatus.SUCCEEDED:
        raise ended_badly(view)
    return Exit.OK


for _group in (local, remote):
    _group.add_command(execution)
    _group.add_command(callback)
