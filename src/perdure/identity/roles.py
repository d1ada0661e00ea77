"""Roles of functions: temporary credentials for the code of a function, and what it may do with them.

The credentials are not kept: the session token holds, under a seal, whose they are and until when; id and secret are
made from it. So every process that has the store can check what another one has given out.
"""

import base64
import binascii
import hmac
import os
import re
import threading
from typing import Any, Final

import msgspec

from perdure.identity import sealing
from perdure.identity.policies import Policy, named_or_own, policy_of
from perdure.model.error import ExpiredToken, ResourceNotFound, UnrecognizedClient
from perdure.model.function import FunctionVersion
from perdure.model.ids import Home, check
from perdure.store.protocol import PAGE_MAX, Change, Record, Store

KIND: Final = "role"
LIFETIME_MS: Final = 12 * 3_600_000
"""How long credentials are good for, as on AWS."""
RENEW_MS: Final = LIFETIME_MS // 2
"""What is given out is good for this long at least."""
NO_ROLE: Final = "default"
"""The role of functions that name none."""
ROLE_NAME: Final = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)

_SEAL_BYTES: Final = 16


class Credentials(msgspec.Struct, frozen=True):
    """Temporary credentials, as the AWS SDKs take them. Whoever works for longer asks again before `expires_ms`."""

    key_id: str
    secret: str
    token: str
    expires_ms: int


class Session(msgspec.Struct, frozen=True, array_like=True):
    """What a session token says: the function whose code it is for, that function's role, and the end."""

    function: str
    role: str
    expires_ms: int
    nonce: bytes


class Role(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What functions with this role may do beside what every function may."""

    name: str
    policies: tuple[str | dict[str, Any], ...] = ()


# --- credentials --------------------------------------------------------------------------------------------------


class Credentialing:
    """Gives out the credentials of functions, the same ones for as long as they are good."""

    def __init__(self, store_secret: bytes) -> None:
        self._secret = store_secret
        self._lock = threading.Lock()
        self._given: dict[tuple[str, str], Credentials] = {}

    def credentials_for(self, function: FunctionVersion, now_ms: int) -> Credentials:
        """Credentials of the function's role that are good for six hours at least."""
        whose = function.function, role_name(function.role)
        with self._lock:
            given = self._given.get(whose)
            if given is None or given.expires_ms - now_ms < RENEW_MS:
                session = Session(*whose, now_ms + LIFETIME_MS, os.urandom(12))
                given = self._given[whose] = issue(self._secret, session)
            return given


def issue(store_secret: bytes, session: Session) -> Credentials:
    """The credentials of a session."""
    body = msgspec.msgpack.encode(session)
    sealed = body + _seal(store_secret, body)
    key_id, secret = _pair(store_secret, body)
    return Credentials(key_id, secret, base64.b64encode(sealed).decode(), session.expires_ms)


def open_session(store_secret: bytes, key_id: str, token: str) -> tuple[Session, str]:
    """What a token says, and the secret that belongs to it; UnrecognizedClient if it was not given out here."""
    try:
        sealed = base64.b64decode(token, validate=True)
    except (binascii.Error, ValueError):
        raise _unknown() from None
    body, seal = sealed[:-_SEAL_BYTES], sealed[-_SEAL_BYTES:]
    if not hmac.compare_digest(seal, _seal(store_secret, body)):
        raise _unknown()
    expected_id, secret = _pair(store_secret, body)
    if key_id != expected_id:
        raise _unknown()
    return msgspec.msgpack.decode(body, type=Session), secret


def check_end(expires_ms: int | None, now_ms: int) -> None:
    if expires_ms is not None and expires_ms <= now_ms:
        raise ExpiredToken("The security token included in the request is expired")


def _pair(store_secret: bytes, body: bytes) -> tuple[str, str]:
    key_id = sealing.key_id("ASIA", sealing.digest(store_secret, "session id 1", body))
    return key_id, sealing.secret_text(store_secret, "session key 1", body)


def _seal(store_secret: bytes, body: bytes) -> bytes:
    return sealing.digest(store_secret, "session token 1", body)[:_SEAL_BYTES]


def _unknown() -> UnrecognizedClient:
    return UnrecognizedClient("The security token included in the request is invalid.")


# --- what a role may do -------------------------------------------------------------------------------------------


def role_name(role: str) -> str:
    """The name at the end of `arn:aws:iam::000000000000:role/service-role/NAME`; of another text, all of it."""
    return role.rpartition("/")[2] or NO_ROLE


def own_policy(home: Home, function: str) -> Policy:
    """What every function may: move its own executions on."""
    return policy_of(
        {
            "Statement": {
                "Effect": "Allow",
                "Action": ["lambda:CheckpointDurableExecution", "lambda:GetDurableExecutionState"],
                "Resource": f"{home.function_arn(function, '*')}/durable-execution/*/*",
            }
        }
    )


def unconfigured_policy(home: Home) -> Policy:
    """What a role may of which nobody has said anything: invoke functions of this account."""
    return policy_of(
        {
            "Statement": {
                "Effect": "Allow",
                "Action": "lambda:InvokeFunction",
                "Resource": home.function_arn("*"),
            }
        }
    )


def read_role(record: Record) -> Role:
    return msgspec.json.decode(record.data, type=Role)


def put_role(store: Store, name: str, policies: tuple[str | dict[str, Any], ...]) -> Role:
    """Say what a role may do; none at all is a choice, too. InvalidParameterValue for a policy that can't be read."""
    check(ROLE_NAME, name, "a role's name", "1 to 64 letters, digits, or one of _+=,.@-")
    for policy in policies:
        named_or_own(policy)
    role = Role(name=name, policies=policies)
    store.change([Change(KIND, name, msgspec.json.encode(role))])
    return role


def all_roles(store: Store) -> list[Role]:
    """The roles of which something has been said, by name."""
    found: list[Role] = []
    while page := store.records(KIND, after=found[-1].name if found else None, limit=PAGE_MAX):
        found += map(read_role, page)
    return found


def delete_role(store: Store, name: str) -> None:
    """Forget what was said of a role; ResourceNotFound if it was nothing."""
    record = store.record(KIND, name) if name else None
    if record is None:
        raise ResourceNotFound(
            f"nothing is configured for a role {name[:60]!r}", hint="`perdure roles list` shows them"
        )
    store.change([Change(KIND, name, None)])
