"""`perdure roles …`: say what functions may do beside moving their own executions on."""

import click

from perdure.cli.desk import opened_store
from perdure.cli.keys import POLICIES, read_policy_option
from perdure.cli.output import Column, Fit, dumps, write_rows
from perdure.cli.recording import note
from perdure.cli.settings import Group, Settings, settings
from perdure.identity import roles as store_roles
from perdure.identity.roles import Role
from perdure.store.sqlite import Mode


@click.group(cls=Group, help="What functions may do beside moving their own executions on.")
def roles() -> None:
    pass


_NAME = click.argument("name", metavar="NAME")


@roles.command("set")
@_NAME
@POLICIES
def set_role(name: str, policies: tuple[str, ...]) -> None:
    """Say what functions with this role may do. `default` is the role of those that name none."""
    options = settings()
    documents = tuple(map(read_policy_option, policies))
    with opened_store(options, Mode.OPERATE, may_make=True) as store:
        role = store_roles.put_role(store, name, documents)
        note(store, "PutRole", name, {"Policies": _names(role)})
    _said(options, "set", name)


@roles.command("list")
def list_roles() -> None:
    """List the roles of which something has been said; functions of all others may invoke functions."""
    options = settings()
    with opened_store(options) as store:
        write_rows(
            options,
            store_roles.all_roles(store),
            [
                Column("name", lambda role: role.name),
                Column("policies", lambda role: ", ".join(_names(role)), fit=Fit.SHRINK),
            ],
            key="Roles",
            document=lambda role: {"RoleName": role.name, "Policies": list(role.policies)},
            empty="nothing is said of any role: functions move their own executions on, and invoke functions",
        )


def _names(role: Role) -> list[str]:
    return [policy if isinstance(policy, str) else "(own)" for policy in role.policies]


@roles.command()
@_NAME
def delete(name: str) -> None:
    """Forget what was said of a role: its functions may invoke functions again, and nothing more."""
    options = settings()
    with opened_store(options, Mode.OPERATE) as store:
        store_roles.delete_role(store, name)
        note(store, "DeleteRole", name)
    _said(options, "deleted", name)


def _said(options: Settings, done: str, name: str) -> None:
    if options.is_json:
        click.echo(dumps({"RoleName": name}, is_pretty=options.output == "json"))
    elif not options.is_quiet:
        click.echo(f"{done}: {name}", err=True)
