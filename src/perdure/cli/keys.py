"""`perdure keys …`: make, list, disable and remove the access keys of a store."""

from typing import Any

import click

from perdure.cli.desk import opened_store
from perdure.cli.execution import confirm
from perdure.cli.moments import Span, date_text
from perdure.cli.output import Column, Fit, dumps, read_text, table_to_text, write_document, write_rows
from perdure.cli.recording import note
from perdure.cli.settings import Group, Settings, settings
from perdure.identity import keys as store_keys
from perdure.identity.keys import Key
from perdure.identity.policies import BUILT_IN
from perdure.model.ids import Home
from perdure.service.clock import SystemClock
from perdure.store.sqlite import Mode
from perdure.wire.forms import PEOPLE


@click.group(cls=Group, help="Access keys: make, list, disable, remove them.")
def keys() -> None:
    pass


POLICIES = click.option(
    "--policy",
    "policies",
    multiple=True,
    required=True,
    metavar="|".join((*BUILT_IN, "FILE")),
    help="A built-in policy, or a file with an IAM JSON policy; may be repeated.",
)
_ID = click.argument("key_id", metavar="ID")


@keys.command()
@click.option("--user", required=True, help="Whose key it is: the name in policies and in the audit record.")
@POLICIES
@click.option("--expires", type=Span(), help="The key ends after: 12h, 90d. Without it: never.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("env", "profile", "json")),
    help="How it is written: lines for a shell, a profile for ~/.aws/credentials, or JSON.",
)
def create(user: str, policies: tuple[str, ...], expires: float | None, form: str | None) -> None:
    """Make an access key, and show its secret this once.

    With the first key the store is closed: every request has to be signed from then on.
    """
    options = settings()
    now_ms = SystemClock().now_ms()
    ends_ms = None if expires is None else now_ms + round(expires * 1000)
    documents = tuple(map(read_policy_option, policies))
    with opened_store(options, Mode.OPERATE, may_make=True) as store:
        is_first = not store.records(store_keys.KIND, limit=1)
        key, secret = store_keys.create_key(store, user, documents, now_ms, ends_ms)
        note(store, "CreateKey", key.key_id, {"User": user, "Policies": _names(key), "Expires": ends_ms})
    _write_secret(options, key, secret, form)
    if is_first and not options.is_quiet:
        click.echo(
            "this is the store's first key: from now on every request to a server of it must be signed", err=True
        )


def read_policy_option(given: str) -> str | dict[str, Any]:
    """A built-in policy by its name, or the document in a file."""
    if given in BUILT_IN:
        return given
    import json

    from perdure.identity.policies import read_policy

    text = read_text(given if given == "-" else f"@{given.removeprefix('@')}", "policy")
    read_policy(text)
    document: dict[str, Any] = json.loads(text)
    return document


def _write_secret(options: Settings, key: Key, secret: str, form: str | None) -> None:
    region = Home().region
    if form == "env":
        click.echo(f"export AWS_ACCESS_KEY_ID={key.key_id}")
        click.echo(f"export AWS_SECRET_ACCESS_KEY={secret}")
        click.echo(f"export AWS_DEFAULT_REGION={region}")
    elif form == "profile":
        click.echo("[perdure]")
        click.echo(f"aws_access_key_id = {key.key_id}")
        click.echo(f"aws_secret_access_key = {secret}")
        click.echo(f"region = {region}")
    else:
        document = {"AccessKeyId": key.key_id, "SecretAccessKey": secret, **_document(key)}
        if form == "json":
            click.echo(dumps(document))
        else:
            write_document(options, document, lambda: _summary(options, key, secret))


def _summary(options: Settings, key: Key, secret: str) -> str:
    return table_to_text(
        [
            ("Access key", key.key_id),
            ("Secret", f"{secret}   (shown this once)"),
            ("User", key.user),
            ("Policies", ", ".join(_names(key))),
            ("Expires", None if key.expires_ms is None else date_text(key.expires_ms, is_utc=options.is_utc)),
        ]
    )


def _names(key: Key) -> list[str]:
    return [policy if isinstance(policy, str) else "(own)" for policy in key.policies]


def _document(key: Key) -> dict[str, Any]:
    times = {"CreateDate": key.created_ms, "Expires": key.expires_ms}
    return {
        "AccessKeyId": key.key_id,
        "UserName": key.user,
        "Status": "Inactive" if key.is_disabled else "Active",
        **{name: PEOPLE.times.write(at_ms) for name, at_ms in times.items() if at_ms is not None},
        "Policies": list(key.policies),
    }


@keys.command("list")
def list_keys() -> None:
    """List the keys in the order in which they were made; secrets are kept nowhere and not shown."""
    options = settings()
    now_ms = SystemClock().now_ms()

    def status(key: Key) -> str:
        return "disabled" if key.is_disabled else "expired" if key.is_over(now_ms) else "active"

    def date(at_ms: int | None) -> str:
        return "never" if at_ms is None else date_text(at_ms, is_utc=options.is_utc)

    with opened_store(options) as store:
        write_rows(
            options,
            store_keys.all_keys(store),
            [
                Column("id", lambda key: key.key_id),
                Column("user", lambda key: key.user, fit=Fit.SHRINK),
                Column("status", status),
                Column("policies", lambda key: ", ".join(_names(key)), fit=Fit.SHRINK),
                Column("created", lambda key: date(key.created_ms)),
                Column("expires", lambda key: date(key.expires_ms)),
            ],
            key="AccessKeys",
            document=_document,
            empty="there are no keys: a server of this store serves this machine only, unsigned",
        )


@keys.command()
@_ID
def disable(key_id: str) -> None:
    """Switch a key off; it is refused from the next request on."""
    _switch(key_id, is_disabled=True)


@keys.command()
@_ID
def enable(key_id: str) -> None:
    """Switch a key on again."""
    _switch(key_id, is_disabled=False)


def _switch(key_id: str, *, is_disabled: bool) -> None:
    options = settings()
    with opened_store(options, Mode.OPERATE) as store:
        key = store_keys.disable_key(store, key_id, is_disabled=is_disabled)
        note(store, "DisableKey" if is_disabled else "EnableKey", key_id, {"User": key.user})
    _said(options, "disabled" if is_disabled else "enabled", key)


@keys.command()
@_ID
def delete(key_id: str) -> None:
    """Remove a key for good. Without any key, this machine may do everything again, unsigned."""
    options = settings()
    with opened_store(options, Mode.OPERATE) as store:
        key = store_keys.get_key(store, key_id)
        confirm(options, f"Remove the key {key_id} of {key.user}?")
        store_keys.delete_key(store, key_id)
        note(store, "DeleteKey", key_id, {"User": key.user})
        is_open = not store.records(store_keys.KIND, limit=1)
    _said(options, "removed", key)
    if is_open and not options.is_quiet:
        click.echo("this was the last key: a server of this store serves this machine only again, unsigned", err=True)


def _said(options: Settings, done: str, key: Key) -> None:
    if options.is_json:
        click.echo(dumps({"AccessKeyId": key.key_id}, is_pretty=options.output == "json"))
    elif not options.is_quiet:
        click.echo(f"{done}: {key.key_id} of {key.user}", err=True)
