"""Where a command works: on a store file, or at the endpoint of a server.

The first of these decides: `--store` or `--endpoint`; the endpoint of `--profile`; PERDURE_ENDPOINT; PERDURE_STORE; the
endpoint of the configuration; a file `perdure.db` in this folder; the server of this machine.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from perdure.cli.exits import CliError, Exit
from perdure.cli.settings import Settings

if TYPE_CHECKING:
    from perdure.client.client import Client
    from perdure.client.credentials import Credentials

ENDPOINT: Final = "http://127.0.0.1:9014"
STORE: Final = "perdure.db"
REGION: Final = "us-east-1"
DEFAULT: Final = "default"
BACKOFF_S: Final = 0.2
"""Somebody waits."""
_TABLE: Final = b"[tool.perdure"


class StorePlace(msgspec.Struct, frozen=True):
    url: str


class ServerPlace(msgspec.Struct, frozen=True):
    endpoint: str
    region: str


def place_of(options: Settings) -> StorePlace | ServerPlace:
    """Where a command works that takes both."""
    if options.store and options.endpoint:
        raise click.UsageError("--store and --endpoint can't both be given: a command works on a file, or at a server")
    if options.store:
        return StorePlace(options.store)
    has_endpoint = "endpoint" in configured(options.profile)
    if options.endpoint or (options.profile and has_endpoint) or os.environ.get("PERDURE_ENDPOINT"):
        return server_of(options)
    if store := os.environ.get("PERDURE_STORE"):
        return StorePlace(store)
    return server_of(options) if has_endpoint or not Path(STORE).exists() else StorePlace(options.store_url)


def server_of(options: Settings) -> ServerPlace:
    """The server of a command that works at a server only."""
    environ, facts = os.environ, configured(options.profile)
    of_profile = facts.get("endpoint") if options.profile else None
    endpoint = options.endpoint or of_profile or environ.get("PERDURE_ENDPOINT") or facts.get("endpoint") or ENDPOINT
    region = options.region or environ.get("PERDURE_REGION") or facts.get("region") or environ.get("AWS_REGION")
    return ServerPlace(endpoint, region or environ.get("AWS_DEFAULT_REGION") or REGION)


def connected(options: Settings, **more: Any) -> "Client":
    """The client of the server; nothing is sent yet."""
    if options.store:
        raise click.UsageError("this command works at a server, which --endpoint names; --store means nothing to it")
    from perdure.client.client import Client

    place = server_of(options)
    return Client(
        place.endpoint,
        credentials_of(options),
        region=place.region,
        ca_file=os.environ.get("AWS_CA_BUNDLE") or None,
        **{"backoff_s": BACKOFF_S, **more},
    )


def credentials_of(options: Settings) -> "Credentials | None":
    """The access key of `--profile`, of the environment, of the configuration, or of the AWS tools' file."""
    from perdure.client.credentials import FAMILIES, Credentials, find_credentials, of_profile

    environ, facts = os.environ, configured(options.profile)
    given = facts.get("access_key_id"), facts.get("secret_access_key")
    own = Credentials(given[0], given[1], facts.get("session_token")) if given[0] and given[1] else None
    if options.profile:
        found = own or of_profile(environ, options.profile)
        if found is None and not facts:
            raise CliError(
                f"there is no profile {options.profile!r}",
                Exit.USAGE,
                hint=f"it is a section of {user_file()}, of [tool.perdure] in pyproject.toml, or of ~/.aws/credentials",
                kind="ProfileNotFound",
            )
        return found or find_credentials(environ)
    is_in_environment = any(environ.get(name) for names in FAMILIES for name in names[:2])
    return own if own is not None and not is_in_environment else find_credentials(environ)


# --- configuration ------------------------------------------------------------------------------------------------


def configured(profile: str | None) -> dict[str, str]:
    """What the configuration says for a profile: that of the project goes before that of the user."""
    name = profile or os.environ.get("PERDURE_PROFILE") or DEFAULT
    user = _table(user_file())
    facts = _texts(user.get(name))
    project = _project()
    if project is not None:
        if name == DEFAULT:
            facts |= _texts(project)
        facts |= _texts(project.get(name))
    return facts


def user_file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "perdure" / "config.toml"


def _texts(table: Any) -> dict[str, str]:
    return {key: value for key, value in table.items() if isinstance(value, str)} if isinstance(table, Mapping) else {}


def _project() -> Mapping[str, Any] | None:
    """`[tool.perdure]` of the nearest pyproject.toml, in this folder or above."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the folder has been removed under the shell
        return None
    for folder in (here, *here.parents):
        path = folder / "pyproject.toml"
        if path.is_file():
            if _TABLE not in path.read_bytes():
                return None
            found = _table(path).get("tool", {}).get("perdure")
            return found if isinstance(found, Mapping) else None
    return None


def _table(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    import tomllib

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CliError(f"the configuration in {path} can't be read: {error}", Exit.USAGE) from None
