"""Signatures of requests, to make and to check: AWS Signature Version 4 in headers, or in the query of a presigned URL.

A request is signed as it is sent: the path and the query are taken raw, with their percent signs. The path is encoded
once more, as for every service but S3.

Source: AWS Signature Version 4 for API requests (IAM User Guide), and what botocore does where that text is silent.
"""

import contextlib
import hashlib
import hmac
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote, unquote_to_bytes

import msgspec

from perdure.model.error import IncompleteSignature, InvalidSignature

ALGORITHM: Final = "AWS4-HMAC-SHA256"
SERVICE: Final = "lambda"
UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
PRESIGNED_EXPIRES_S_MAX: Final = 604_800

_TIME_FORM: Final = "%Y%m%dT%H%M%SZ"
_TIME: Final = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII)
_KEY_ID: Final = re.compile(r"\w{1,128}", re.ASCII)
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")
_ADDED_ON_THE_WAY: Final = frozenset({"x-amz-cf-id", "x-amz-user-agent"})
"""Headers that proxies and browsers add behind the signer's back, and that mean nothing here."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What a request says of who signed it; nothing of it has been checked.

    `expires_s` is how long a presigned URL is good for, from `signed_ms` on; None for a request signed in its headers.
    """

    key_id: str
    day: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    time_text: str
    signed_ms: int
    token: str | None = None
    expires_s: int | None = None

    @property
    def scope(self) -> str:
        return f"{self.day}/{self.region}/{self.service}/aws4_request"


class Sent(msgspec.Struct, frozen=True, gc=False):
    """A request as it was sent: path and query raw, header names in lower case, the body as the hex of its SHA-256."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body_sha256: str = EMPTY_SHA256


def header_map(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers of an ASGI request; values of a name that is repeated are joined by commas."""
    found: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


# --- what a request claims ----------------------------------------------------------------------------------------


def read_claim(sent: Sent) -> Claim | None:
    """Who a request says has signed it; None if it is not signed at all, IncompleteSignature if that can't be read."""
    authorization = sent.headers.get("authorization")
    if authorization is not None:
        return _claim_of_headers(authorization, sent.headers)
    if "X-Amz-Algorithm=" in sent.query or "X-Amz-Signature=" in sent.query:
        return _claim_of_query(sent.query)
    return None


def _claim_of_headers(authorization: str, headers: Mapping[str, str]) -> Claim:
    algorithm, _, rest = authorization.strip().partition(" ")
    _check_algorithm(algorithm)
    parts = {name: value for name, _, value in (part.strip().partition("=") for part in rest.split(","))}
    time_text = headers.get("x-amz-date") or _from_date(headers.get("date"))
    return _claim(
        credential=parts.get("Credential"),
        signed_headers=parts.get("SignedHeaders"),
        signature=parts.get("Signature"),
        time_text=time_text,
        token=headers.get("x-amz-security-token"),
        expires_s=None,
    )


def _claim_of_query(query: str) -> Claim:
    given = {unquote(name): unquote(value) for name, value in _pairs(query)}
    _check_algorithm(given.get("X-Amz-Algorithm", ""))
    expires = given.get("X-Amz-Expires", "")
    if not (expires.isascii() and expires.isdigit() and 1 <= int(expires[:9]) <= PRESIGNED_EXPIRES_S_MAX):
        raise IncompleteSignature(f"X-Amz-Expires must be from 1 to {PRESIGNED_EXPIRES_S_MAX}, not {expires[:20]!r}")
    return _claim(
        credential=given.get("X-Amz-Credential"),
        signed_headers=given.get("X-Amz-SignedHeaders"),
        signature=given.get("X-Amz-Signature"),
        time_text=given.get("X-Amz-Date"),
        token=given.get("X-Amz-Security-Token"),
        expires_s=int(expires[:9]),
    )


def _claim(
    *,
    credential: str | None,
    signed_headers: str | None,
    signature: str | None,
    time_text: str | None,
    token: str | None,
    expires_s: int | None,
) -> Claim:
    needed = (("Credential", credential), ("SignedHeaders", signed_headers), ("Signature", signature))
    missing = [name for name, value in needed if not value]
    if missing or not credential or not signed_headers or not signature:
        raise IncompleteSignature(f"the signature has no {', '.join(missing)}")
    if not time_text:
        raise IncompleteSignature("the request is signed and has no X-Amz-Date and no Date")
    scope = credential.rsplit("/", 4)
    if len(scope) != 5 or scope[4] != "aws4_request":
        raise IncompleteSignature(f"Credential must be KEY/DAY/REGION/SERVICE/aws4_request, not {credential[:120]!r}")
    key_id, day, region, service, _ = scope
    if not _KEY_ID.fullmatch(key_id):
        raise IncompleteSignature(f"the key in Credential must be letters and digits, not {key_id[:40]!r}")
    if service != SERVICE:
        raise IncompleteSignature(f"Credential should be scoped to the service '{SERVICE}', not {service[:40]!r}")
    if not _SIGNATURE.fullmatch(signature):
        raise IncompleteSignature("Signature must be 64 hexadecimal digits in lower case")
    signed_ms = read_time(time_text)
    if day != time_text[:8]:
        raise IncompleteSignature(f"the day in Credential, {day[:20]!r}, is not that of the request, {time_text[:8]!r}")
    names = tuple(signed_headers.split(";"))
    if "host" not in names or len(set(names)) != len(names):
        raise IncompleteSignature("'host' must be one of SignedHeaders, and no name may be there twice")
    return Claim(key_id, day, region, service, names, signature, time_text, signed_ms, token, expires_s)


def _check_algorithm(algorithm: str) -> None:
    if algorithm != ALGORITHM:
        raise IncompleteSignature(f"requests are signed with {ALGORITHM}, not {algorithm[:40]!r}")


def _from_date(date: str | None) -> str | None:
    if date is None:
        return None
    try:
        return parsedate_to_datetime(date).strftime(_TIME_FORM)
    except ValueError:
        raise IncompleteSignature(f"Date must be a time, not {date[:40]!r}") from None


def read_time(text: str) -> int:
    """The milliseconds of `20260131T120000Z`; IncompleteSignature if it is not written so."""
    found = _TIME.fullmatch(text)
    if found is not None:
        year, month, day, hour, minute, second = map(int, found.groups())
        with contextlib.suppress(ValueError):
            return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * 1000
    raise IncompleteSignature(f"X-Amz-Date must be as 20260131T120000Z, not {text[:40]!r}")


def write_time(at_ms: int) -> str:
    return time.strftime(_TIME_FORM, time.gmtime(at_ms // 1000))


# --- checking -----------------------------------------------------------------------------------------------------


def check_signature(claim: Claim, sent: Sent, secret: str, *, may_omit_payload: bool = False) -> None:
    """Return if whoever has `secret` has signed exactly this request; InvalidSignature otherwise.

    Whether the time of the signature is now is another question. `may_omit_payload` allows UNSIGNED-PAYLOAD, which is
    sensible where nobody on the way can change the body: on loopback, and under TLS.
    """
    unsigned = sorted(
        name
        for name in sent.headers
        if name.startswith("x-amz-") and name not in claim.signed_headers and name not in _ADDED_ON_THE_WAY
    )
    if unsigned:
        raise InvalidSignature(f"there were headers in the request which were not signed: {', '.join(unsigned)}")
    if any(name not in sent.headers for name in claim.signed_headers):
        raise _mismatch()
    declared = sent.headers.get("x-amz-content-sha256")
    if declared == UNSIGNED_PAYLOAD and not may_omit_payload:
        raise InvalidSignature(
            "UNSIGNED-PAYLOAD is taken on loopback and under TLS only", hint="sign the payload, or use https"
        )
    if declared not in (None, UNSIGNED_PAYLOAD, sent.body_sha256):
        raise InvalidSignature("The provided 'x-amz-content-sha256' header does not match what was computed.")
    payload = declared or sent.body_sha256
    signing_key = _signing_key(secret, claim.day, claim.region, claim.service)
    for query in _canonical_queries(sent.query, is_presigned=claim.expires_s is not None):
        request = _canonical_request(sent.method, sent.path, query, sent.headers, claim.signed_headers, payload)
        expected = _signature(signing_key, claim.time_text, claim.scope, request)
        if hmac.compare_digest(expected, claim.signature):
            return
    raise _mismatch()


def _mismatch() -> InvalidSignature:
    return InvalidSignature(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
        "Key and signing method. Consult the service documentation for details."
    )


# --- signing ------------------------------------------------------------------------------------------------------


class Signer:
    """Signs the requests of one client. `token` is the session token of temporary credentials."""

    def __init__(self, key_id: str, secret: str, *, region: str, token: str | None = None) -> None:
        self._key_id = key_id
        self._secret = secret
        self._region = region
        self._token = token

    def sign(self, sent: Sent, now_ms: int) -> dict[str, str]:
        """The headers to add to a request; its own must hold `host`, and all of them are signed."""
        time_text = write_time(now_ms)
        added = {"x-amz-date": time_text}
        if self._token is not None:
            added["x-amz-security-token"] = self._token
        headers = {**sent.headers, **added}
        names = tuple(sorted(headers))
        query = next(_canonical_queries(sent.query, is_presigned=False))
        payload = headers.get("x-amz-content-sha256", sent.body_sha256)
        request = _canonical_request(sent.method, sent.path, query, headers, names, payload)
        scope = f"{time_text[:8]}/{self._region}/{SERVICE}/aws4_request"
        signing_key = _signing_key(self._secret, time_text[:8], self._region, SERVICE)
        signature = _signature(signing_key, time_text, scope, request)
        added["authorization"] = (
            f"{ALGORITHM} Credential={self._key_id}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        return added


# --- the canonical request ----------------------------------------------------------------------------------------


def _canonical_request(
    method: str, path: str, query: str, headers: Mapping[str, str], signed_headers: Iterable[str], payload: str
) -> bytes:
    names = sorted(signed_headers)
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names)
    return f"{method.upper()}\n{canonical_path(path)}\n{query}\n{lines}\n{';'.join(names)}\n{payload}".encode()


@lru_cache(maxsize=4096)
def canonical_path(path: str) -> str:
    """A raw path without empty segments and dots, encoded once more."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    tail = "/" if kept and path.endswith("/") else ""
    return quote(f"/{'/'.join(kept)}{tail}", safe="/~")


def _canonical_queries(query: str, *, is_presigned: bool) -> Iterator[str]:
    """The raw query in order; then, if that is another one, as the documentation writes it.

    AWS SDKs sign the query as they send it. Other clients (curl) sign it as it would be if they had encoded it well.
    """
    if not query:
        yield ""
        return
    pairs = [pair for pair in _pairs(query) if not (is_presigned and pair[0] == "X-Amz-Signature")]
    raw = _joined(pairs)
    yield raw
    if "+" not in query:  # which means a space to some and itself to others
        well = _joined([(_encoded(name), _encoded(value)) for name, value in pairs])
        if well != raw:
            yield well


def _pairs(query: str) -> list[tuple[str, str]]:
    found = (pair.partition("=") for pair in query.split("&"))
    return [(name, value) for name, _, value in found]


def _joined(pairs: list[tuple[str, str]]) -> str:
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _encoded(text: str) -> str:
    return quote(unquote_to_bytes(text), safe="-_.~")


@lru_cache(maxsize=1024)
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _signature(signing_key: bytes, time_text: str, scope: str, request: bytes) -> str:
    text = f"{ALGORITHM}\n{time_text}\n{scope}\n{hashlib.sha256(request).hexdigest()}"
    return hmac.digest(signing_key, text.encode(), "sha256").hex()
