"""The gate: who sent a request, and whether they may do what it asks for.

While the store has no access keys, this machine may do everything and nobody else anything. As soon as there is one,
every request must be signed, from this machine as well.
"""

import contextlib
import hashlib
import ipaddress
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Final
from urllib.parse import urlsplit

import msgspec

from perdure.identity import conditions, keys, roles
from perdure.identity.callers import Caller, CallerKind
from perdure.identity.policies import BUILT_IN, Asked, Policy, Verdict, decide, named_or_own, policy_of
from perdure.identity.remembered import Remembered
from perdure.model.error import AccessDenied, InvalidSignature, MissingAuthentication, UnrecognizedClient
from perdure.model.ids import Home
from perdure.store.protocol import Record, Store
from perdure.wire.signature import Claim, Sent, check_signature, read_claim, write_time

SKEW_MS: Final = 5 * 60_000
"""How far the clock of a caller may be off."""
PRESIGNED_AHEAD_MS: Final = 15 * 60_000
"""How far in the future a presigned URL may begin."""

_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_HOSTS_OF_CONTAINERS: Final = frozenset({"host.docker.internal", "gateway.docker.internal", "host.containers.internal"})
_ADMIN: Final = policy_of(BUILT_IN["admin"])


class _Holder(msgspec.Struct, frozen=True):
    key: keys.Key
    policies: tuple[Policy, ...]


class Gate:
    """One for a server; from any thread. Changes of keys and roles count from the next request on."""

    def __init__(self, store: Store, home: Home, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._home = home
        self._now_ms = now_ms
        self._keys = Remembered(store, keys.KIND, _holder)
        self._roles = Remembered(store, roles.KIND, _policies_of_role)
        self._secrets = lru_cache(maxsize=4096)(partial(keys.secret_of, store))
        self._sessions = lru_cache(maxsize=4096)(partial(roles.open_session, store.secret))
        self._own = lru_cache(maxsize=4096)(partial(roles.own_policy, home))
        self._unconfigured = (roles.unconfigured_policy(home),)

    def is_open(self) -> bool:
        """Whether there are no access keys, so that this machine is served unsigned and nobody else at all."""
        return self._keys.is_empty()

    # --- who ------------------------------------------------------------------------------------------------------

    def authenticate(
        self,
        method: str,
        raw_path: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        peer: str | None,
        is_secure: bool = False,
    ) -> Caller:
        """Who has sent a request.

        Path and query are raw; `headers` have names in lower case. `peer` is the address of the connection, None for a
        Unix socket, whose file says who may use it; `is_secure` says that it came under TLS.

        Raises MissingAuthentication, IncompleteSignature, UnrecognizedClient, InvalidSignature or ExpiredToken.
        """
        if self.is_open():
            check_local(peer, headers)
            return Caller(
                kind=CallerKind.ANONYMOUS, name=CallerKind.ANONYMOUS, source=peer, policies=(_ADMIN,), facts={}
            )
        sent = Sent(method, raw_path, query, headers, hashlib.sha256(body).hexdigest())
        claim = read_claim(sent)
        if claim is None:
            raise MissingAuthentication(
                "Missing Authentication Token",
                hint="sign it with an access key (AWS Signature Version 4); `perdure keys create` makes one",
            )
        may_omit_payload = is_secure or is_loopback(peer)
        facts = {conditions.SECURE_TRANSPORT: "true" if is_secure else "false"}
        if peer is not None:
            facts[conditions.SOURCE_IP] = plain_address(peer)
        now_ms = self._now_ms()
        if claim.token is not None:
            session, secret = self._sessions(claim.key_id, claim.token)
            check_signature(claim, sent, secret, may_omit_payload=may_omit_payload)
            check_time(claim, now_ms)
            roles.check_end(session.expires_ms, now_ms)
            return self._function(session, claim.key_id, peer, facts)
        holder = self._keys.get(claim.key_id)
        if holder is None or holder.key.is_disabled:
            raise UnrecognizedClient("The security token included in the request is invalid.")
        check_signature(claim, sent, self._secrets(claim.key_id), may_omit_payload=may_omit_payload)
        check_time(claim, now_ms)
        roles.check_end(holder.key.expires_ms, now_ms)
        return self._user(holder, peer, facts)

    def _user(self, holder: _Holder, peer: str | None, facts: dict[str, str]) -> Caller:
        user = holder.key.user
        arn = f"arn:{self._home.partition}:iam::{self._home.account}:user/{user}"
        return Caller(
            kind=CallerKind.USER,
            name=user,
            arns=(arn,),
            key_id=holder.key.key_id,
            source=peer,
            policies=holder.policies,
            facts=facts
            | {
                conditions.USERNAME: user,
                conditions.PRINCIPAL_ARN: arn,
                conditions.PRINCIPAL_ACCOUNT: self._home.account,
            },
        )

    def _function(self, session: roles.Session, key_id: str, peer: str | None, facts: dict[str, str]) -> Caller:
        home, role = self._home, session.role
        role_arn = f"arn:{home.partition}:iam::{home.account}:role/{role}"
        configured = self._roles.get(role)
        return Caller(
            kind=CallerKind.ROLE,
            name=session.function,
            arns=(f"arn:{home.partition}:sts::{home.account}:assumed-role/{role}/{session.function}", role_arn),
            key_id=key_id,
            source=peer,
            policies=(self._own(session.function), *(self._unconfigured if configured is None else configured)),
            facts=facts | {conditions.PRINCIPAL_ARN: role_arn, conditions.PRINCIPAL_ACCOUNT: home.account},
        )

    # --- may they -------------------------------------------------------------------------------------------------

    def authorize(self, caller: Caller, action: str, resource: str, resource_policy: Policy | None = None) -> None:
        """Return if the caller may; AccessDenied otherwise. `resource_policy` is what the resource says of callers."""
        asked = Asked(action, resource, caller.arns, caller.facts)
        own = decide(caller.policies, asked)
        of_resource = Verdict.NOT_ALLOWED if resource_policy is None else decide([resource_policy], asked)
        if Verdict.DENIED in (own, of_resource):
            kind = "identity" if own is Verdict.DENIED else "resource"
            raise _denied(caller, action, resource, f"with an explicit deny in {_a(kind)}-based policy")
        if Verdict.ALLOWED not in (own, of_resource):
            raise _denied(caller, action, resource, f"because no identity-based policy allows the {action} action")


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "identity" else f"a {kind}"


def _denied(caller: Caller, action: str, resource: str, why: str) -> AccessDenied:
    hint = (
        "functions may move their own executions on and invoke; `perdure roles set` allows more"
        if caller.kind is CallerKind.ROLE
        else "`perdure keys list` shows the policies of keys"
    )
    return AccessDenied(
        f"User: {caller.shown} is not authorized to perform: {action} on resource: {resource} {why}", hint=hint
    )


def _holder(record: Record) -> _Holder:
    key = keys.read_key(record)
    return _Holder(key, tuple(map(named_or_own, key.policies)))


def _policies_of_role(record: Record) -> tuple[Policy, ...]:
    return tuple(map(named_or_own, roles.read_role(record).policies))


# --- when ---------------------------------------------------------------------------------------------------------


def check_time(claim: Claim, now_ms: int) -> None:
    """Return if the signature is good at `now_ms`; InvalidSignature, in the words of AWS, otherwise."""
    ahead_ms = SKEW_MS if claim.expires_s is None else PRESIGNED_AHEAD_MS
    if claim.signed_ms > now_ms + ahead_ms:
        raise InvalidSignature(
            f"Signature not yet current: {claim.time_text} is still later than {write_time(now_ms + ahead_ms)} "
            f"({write_time(now_ms)} + {ahead_ms // 60_000} min.)",
            hint="check the clocks of both machines",
        )
    if claim.expires_s is not None:
        if claim.signed_ms + claim.expires_s * 1000 < now_ms:
            raise InvalidSignature(f"Signature expired: {claim.time_text} was good for {claim.expires_s} seconds")
    elif claim.signed_ms < now_ms - SKEW_MS:
        raise InvalidSignature(
            f"Signature expired: {claim.time_text} is now earlier than {write_time(now_ms - SKEW_MS)} "
            f"({write_time(now_ms)} - {SKEW_MS // 60_000} min.)",
            hint="check the clocks of both machines",
        )


# --- from where ---------------------------------------------------------------------------------------------------


def check_local(peer: str | None, headers: Mapping[str, str]) -> None:
    """Return if a request comes from this machine by the will of who sits at it; MissingAuthentication otherwise.

    A browser on this machine sends what any page in it asks for: a page of another origin, or a name of the attacker's
    that leads here, is told by Origin and Host. A proxy on this machine speaks for others.
    """
    forwarded = next((name for name in _FORWARDED if name in headers), None)
    host = headers.get("host", "")
    if not is_loopback(peer):
        reason = f"not {peer}"
    elif forwarded is not None:
        reason = f"not whom a proxy speaks for ({forwarded})"
    elif not is_local_host(host):
        reason = f"not under the name {host[:100]!r}"
    elif is_of_another_page(headers):
        reason = f"not the page {headers.get('origin', 'of another site')[:100]!r}"
    else:
        return
    raise MissingAuthentication(
        f"Missing Authentication Token: without access keys only this machine is served, {reason}",
        hint="`perdure keys create` makes the first key; from then on every request is signed",
    )


def is_of_another_page(headers: Mapping[str, str]) -> bool:
    """Whether a browser sends this for a page from elsewhere. Following a link to here is no such thing."""
    origin = headers.get("origin")
    if origin is not None:
        return origin.partition("://")[2] != headers.get("host")
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"


@lru_cache(maxsize=4096)
def is_loopback(peer: str | None) -> bool:
    """Whether an address is of this machine; a Unix socket is."""
    try:
        return peer is None or ipaddress.ip_address(plain_address(peer)).is_loopback
    except ValueError:
        return False


def plain_address(peer: str) -> str:
    """An address as policies write it: IPv4 within IPv6 as IPv4, and without a zone."""
    address = peer.partition("%")[0]
    return address[7:] if address.lower().startswith("::ffff:") and "." in address else address


@lru_cache(maxsize=1024)
def is_local_host(host: str) -> bool:
    """Whether a Host header is an address, or a name that always means this machine: nobody else's name leads here."""
    try:
        name = urlsplit(f"//{host}").hostname if "@" not in host else None
    except ValueError:
        return False
    if name is None:
        return False
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return name == "localhost" or name.endswith(".localhost") or name in _HOSTS_OF_CONTAINERS
