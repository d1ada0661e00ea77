"""Where the access key comes from that requests are signed with: the environment, or a profile of the AWS tools.

Source of names and of the file's form: AWS CLI User Guide, configuration and credential file settings.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from perdure.client.errors import ClientError

FAMILIES = (
    ("PERDURE_ACCESS_KEY_ID", "PERDURE_SECRET_ACCESS_KEY", "PERDURE_SESSION_TOKEN"),
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)
DEFAULT_PROFILE = "default"


class Credentials(msgspec.Struct, frozen=True):
    """An access key; `token` belongs to temporary ones."""

    key_id: str
    secret: str
    token: str | None = None

    def __repr__(self) -> str:
        return f"Credentials({self.key_id!r})"


def find_credentials(environ: Mapping[str, str], profile: str | None = None) -> Credentials | None:
    """The access key to sign with; None if there is none.

    `profile` is one that was asked for: it goes before the environment. ClientError if half a key is set.
    """
    if profile is not None:
        return of_profile(environ, profile)
    for names in FAMILIES:
        found = _of_environment(environ, names)
        if found is not None:
            return found
    return of_profile(environ, environ.get("AWS_PROFILE") or DEFAULT_PROFILE)


def _of_environment(environ: Mapping[str, str], names: tuple[str, str, str]) -> Credentials | None:
    key_id, secret, token = (environ.get(name) or None for name in names)
    if key_id is None and secret is None:
        return None
    if key_id is None or secret is None:
        there, missing = (names[0], names[1]) if key_id is not None else (names[1], names[0])
        raise ClientError(f"{there} is set and {missing} is not", hint="set both, or neither")
    return Credentials(key_id, secret, token)


def of_profile(environ: Mapping[str, str], profile: str) -> Credentials | None:
    """The access key of a profile in `~/.aws/credentials`; None if the file has no such profile, or it has no key."""
    path = credentials_path(environ)
    if not path.is_file():
        return None
    from configparser import Error, RawConfigParser

    parser = RawConfigParser(strict=False)
    try:
        parser.read_string(path.read_text("utf-8"), str(path))
    except (Error, OSError, UnicodeDecodeError) as error:
        raise ClientError(f"the credentials in {path} can't be read: {error}") from None
    if not parser.has_section(profile):
        return None
    section = parser[profile]
    key_id, secret = section.get("aws_access_key_id"), section.get("aws_secret_access_key")
    return Credentials(key_id, secret, section.get("aws_session_token")) if key_id and secret else None


def credentials_path(environ: Mapping[str, str]) -> Path:
    given = environ.get("AWS_SHARED_CREDENTIALS_FILE")
    return Path(given).expanduser() if given else Path.home() / ".aws" / "credentials"
