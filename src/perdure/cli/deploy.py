"""`perdure function deploy`: code becomes a function of a server, or its next version."""

import base64
import hashlib
from typing import Any, Final

import click

from perdure.cli.exits import CliError, Exit
from perdure.cli.moments import Seconds, duration_text
from perdure.cli.output import table_to_text, write_document
from perdure.cli.place import connected
from perdure.cli.settings import Command, Settings, settings
from perdure.cli.source import Source, read_source
from perdure.client.client import Client
from perdure.client.errors import ApiError
from perdure.model.error import ResourceNotFound
from perdure.wire.table import Json

ROLE: Final = "arn:aws:iam::000000000000:role/default"
"""Of a role's ARN, the last part counts."""
UPLOAD_S: Final = 300.0


@click.command(cls=Command)
@click.argument("code", metavar="CODE[:HANDLER]")
@click.option("--name", help="The function's name; without it, what the code says, or its file and function.")
@click.option("--handler", metavar="MODULE.FUNCTION", help="As AWS writes it; without it, the only durable function.")
@click.option("--runtime", help="python3.13, nodejs22.x, …; without it, that of the code's language.")
@click.option(
    "--durable/--plain", "is_durable", default=None, help="Whether it is durable, where the code does not say."
)
@click.option("--timeout", type=Seconds(), help="An invocation's limit: 30s, 5m. A new function has 15m.")
@click.option("--memory", type=click.IntRange(128, 10_240), metavar="MB", help="Memory of an invocation.")
@click.option(
    "--env", "variables", multiple=True, metavar="KEY=VALUE", help="A variable; those given are all there are."
)
@click.option("--execution-timeout", type=Seconds(), help="An execution's limit, waits included: 1h, 90d.")
@click.option("--retention-days", type=click.IntRange(1, 90), help="How long executions are kept after their end.")
@click.option("--role", metavar="NAME|ARN", help="What the code may do: see `perdure roles`.")
@click.option("--description")
@click.option("--publish", "is_published", is_flag=True, help="Make a version that does not change any more.")
@click.option("--alias", metavar="NAME", help="Publish, and let this alias name the new version.")
@click.option("--check", "is_checked", is_flag=True, help="First see whether open executions can go on with the code.")
def deploy(
    code: str,
    name: str | None,
    handler: str | None,
    alias: str | None,
    is_published: bool,
    is_checked: bool,
    **given: Any,
) -> None:
    """Deploy a function: make it, or bring it up to date.

    CODE is a folder, a file, a module, or a zip file. A file is packed with the folder that it is in. The same files
    make the same package, and code that has not changed is not sent again.
    """
    options = settings()
    source = read_source(code, handler)
    function = name or source.name
    if function is None:
        raise CliError(f"what shall {code} be called?", Exit.USAGE, hint="name it with --name", kind="NameMissing")
    wanted = _wanted(source, **given)
    with connected(options) as client:
        if is_checked:
            from perdure.cli.replay import check_open

            check_open(client, function, _python_of(source, code))
        before = _configuration(client, function)
        package = _packed(options, source)
        made = _create(client, function, source, wanted, package) if before is None else before
        if before is not None:
            made = _update(options, client, before, source, wanted, package)
        if is_published or alias is not None:
            made = client.call("PublishVersion", FunctionName=function)
        if alias is not None:
            set_alias(client, function, alias, str(made["Version"]))
    if not options.is_quiet:
        done = "made" if before is None else "up to date"
        named = f", which {alias} names" if alias is not None else ""
        click.echo(f"{function} is {done}: version {made['Version']}{named}", err=True)
    if options.output is not None or options.query is not None:
        write_document(options, made, lambda: configuration_text(made))


def _python_of(source: Source, code: str) -> str:
    """The file and the function of a handler in Python, which can be run here."""
    module, _, function = (source.handler or "").rpartition(".")
    file = source.code.joinpath(*module.split(".")).with_suffix(".py") if module else source.code
    if not source.code.is_dir() or not file.is_file():
        raise CliError(
            f"--check runs the code here, and {code} is no Python code in a folder",
            Exit.USAGE,
            hint="deploy without --check, or try the code with `perdure replay`",
            kind="CodeNotRead",
        )
    return f"{file}:{function}"


def _wanted(
    source: Source,
    *,
    runtime: str | None,
    is_durable: bool | None,
    timeout: float | None,
    memory: int | None,
    variables: tuple[str, ...],
    execution_timeout: float | None,
    retention_days: int | None,
    role: str | None,
    description: str | None,
) -> Json:
    """The members of the configuration that the options and the code name."""
    if is_durable is None:
        is_durable = source.is_durable
    durable: Json = {
        "ExecutionTimeout": None if execution_timeout is None else int(execution_timeout),
        "RetentionPeriodInDays": retention_days,
    }
    durable = {key: value for key, value in durable.items() if value is not None}
    if durable and is_durable is False:
        raise click.UsageError("--execution-timeout and --retention-days are for durable functions")
    wanted: Json = {
        "Runtime": runtime or source.runtime,
        "Handler": source.handler,
        "Timeout": None if timeout is None else int(timeout),
        "MemorySize": memory,
        "Environment": {"Variables": _variables(variables)} if variables else None,
        "Role": role if role is None or role.startswith("arn:") else ROLE.replace("default", role),
        "Description": description,
        "DurableConfig": durable if is_durable or durable else None,
    }
    return {key: value for key, value in wanted.items() if value is not None}


def _variables(given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--env")
        found[key] = value
    return found


def _configuration(client: Client, function: str) -> Json | None:
    try:
        return client.call("GetFunctionConfiguration", FunctionName=function)
    except ApiError as error:
        if error.code != ResourceNotFound.code:
            raise
        return None


def _packed(options: Settings, source: Source) -> bytes:
    from perdure.runtimes.packing import pack

    package = pack(source.code)
    if options.verbosity:
        click.echo(f"packed {source.code.resolve()}: {len(package)} bytes", err=True)
    return package


def _create(client: Client, function: str, source: Source, wanted: Json, package: bytes) -> Json:
    missing = [option for option, key in (("--handler", "Handler"), ("--runtime", "Runtime")) if key not in wanted]
    if missing:
        raise CliError(f"{source.code} does not say which {' and '.join(missing)} it has", Exit.USAGE, hint="give them")
    if "DurableConfig" not in wanted and source.is_durable is None and not _is_plain():
        raise CliError(
            f"{source.code} does not show whether {function} is durable", Exit.USAGE, hint="say --durable or --plain"
        )
    members = {"Role": ROLE, "Timeout": 900, **wanted}
    return client.call(
        "CreateFunction", timeout_s=UPLOAD_S, FunctionName=function, Code={"ZipFile": package}, **members
    )


def _is_plain() -> bool:
    return click.get_current_context().params["is_durable"] is False


def _update(options: Settings, client: Client, before: Json, source: Source, wanted: Json, package: bytes) -> Json:
    """Code first: a configuration that names a handler which is not there yet would not work."""
    function = str(before["FunctionName"])
    if _is_plain() and "DurableConfig" in before:
        raise CliError(f"{function} is durable, and stays so", Exit.CONFLICT, hint="deploy under another --name")
    if "DurableConfig" in before and source.is_durable is False and "DurableConfig" not in wanted:
        raise CliError(
            f"{function} is durable, and {source.handler} is not", Exit.CONFLICT, hint="deploy under another --name"
        )
    made = before
    if base64.b64encode(hashlib.sha256(package).digest()).decode() != before.get("CodeSha256"):
        made = client.call("UpdateFunctionCode", timeout_s=UPLOAD_S, FunctionName=function, ZipFile=package)
    elif not options.is_quiet:
        click.echo("the code has not changed", err=True)
    changed = {key: value for key, value in wanted.items() if not _is_said(value, before.get(key))}
    if changed:
        made = client.call("UpdateFunctionConfiguration", FunctionName=function, **changed)
    return made


def _is_said(value: Any, before: Any) -> bool:
    """Whether a configuration says this already."""
    if isinstance(value, dict) and isinstance(before, dict):
        if "Variables" in value:
            return bool(value == before)
        return all(before.get(key) == inner for key, inner in value.items())
    return bool(value == before)


def set_alias(client: Client, function: str, alias: str, version: str, **more: Any) -> Json:
    """Let an alias name a version, made or changed; shares of other versions go unless they are given."""
    members = {"FunctionName": function, "Name": alias, "FunctionVersion": version, **more}
    members.setdefault("RoutingConfig", {"AdditionalVersionWeights": {}})
    try:
        return client.call("UpdateAlias", **members)
    except ApiError as error:
        if error.code != ResourceNotFound.code:
            raise
        return client.call("CreateAlias", **members)


def _durable_text(durable: Json) -> str:
    ends_s, kept_days = durable.get("ExecutionTimeout"), durable.get("RetentionPeriodInDays")
    return f"executions end after {duration_text((ends_s or 0) * 1000)} and are kept for {kept_days} days"


def configuration_text(found: Json) -> str:
    """A function's configuration for people."""
    durable = found.get("DurableConfig")
    variables = found.get("Environment", {}).get("Variables") or {}
    pairs: list[tuple[str, Any]] = [
        ("Function", f"{found['FunctionName']}:{found['Version']}"),
        ("ARN", found.get("FunctionArn")),
        ("State", " ".join(filter(None, (found.get("State"), found.get("StateReason"))))),
        ("Durable", "no" if durable is None else _durable_text(durable)),
        ("Runtime", found.get("Runtime")),
        ("Handler", found.get("Handler")),
        ("Time-out", f"{found.get('Timeout')} s"),
        ("Memory", f"{found.get('MemorySize')} MB"),
        ("Role", found.get("Role")),
        ("Variables", ", ".join(sorted(variables)) or None),
        ("Code", f"{found.get('CodeSize')} bytes, {found.get('CodeSha256')}" if found.get("CodeSha256") else None),
        ("Modified", found.get("LastModified")),
        ("Description", found.get("Description") or None),
    ]
    return table_to_text((name, None if value is None else str(value)) for name, value in pairs)
