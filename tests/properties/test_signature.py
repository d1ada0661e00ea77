"""Whatever botocore signs is taken, and nothing that was changed afterwards; and what we sign, botocore signs alike."""

import hashlib
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import assume, given, strategies as st

from perdure.model.error import IncompleteSignature, InvalidSignature, ServiceError
from perdure.wire.signature import Claim, Sent, Signer, canonical_path, check_signature, header_map, read_claim

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOW = datetime(2026, 1, 31, 12, 0, 5, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
HOST = "127.0.0.1:9014"

ARN = "arn:aws:lambda:us-east-1:123456789012:function:fn:$LATEST/durable-execution/a b/c+d=="
SEGMENTS = st.sampled_from(["functions", "fn:prod", ARN, "ab+/cd==", "%41", "ü~", "a.b-c_d", "$LATEST"]) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8
)
PATHS = st.lists(SEGMENTS.map(lambda text: quote(text, safe="")), max_size=4).map(lambda parts: "/" + "/".join(parts))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
QUERIES = st.lists(st.tuples(st.sampled_from(["Statuses", "Marker", "a", "ä b"]) | TEXTS, TEXTS), max_size=4).map(
    lambda pairs: "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
)
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Type", "X-Amz-Invocation-Type", "X-Amz-Tenant-Id", "X-Custom", "User-Agent"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
    max_size=4,
)
TOKENS = st.none() | st.text("abcDEF012+/=", min_size=1, max_size=30)
METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE"])


def by_botocore(
    method: str, path: str, query: str, headers: dict[str, str], body: bytes, token: str | None, *, presigned: bool
) -> Sent:
    """The request as botocore would send it."""
    url = f"http://{HOST}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, headers=dict(headers), data=None if presigned else body)
    kind = SigV4QueryAuth if presigned else SigV4Auth
    with patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        kind(Credentials("AKIAEXAMPLE", SECRET, token), "lambda", "eu-west-1").add_auth(request)
    parts = urlsplit(request.url)
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in request.headers.items()]
    sent_body = b"" if presigned else body
    return Sent(
        method,
        parts.path,
        parts.query,
        {"host": HOST, **header_map(pairs)},
        hashlib.sha256(sent_body).hexdigest(),
    )


def claimed(sent: Sent) -> Claim:
    claim = read_claim(sent)
    assert claim is not None
    return claim


REQUESTS = st.builds(
    by_botocore, METHODS, PATHS, QUERIES, HEADERS, st.binary(max_size=20), TOKENS, presigned=st.just(False)
)
PRESIGNED = st.builds(
    by_botocore,
    METHODS,
    PATHS,
    st.sampled_from(["", "Qualifier=prod", "Marker=a%2Fb%20c"]),
    st.just({}),
    st.just(b""),
    TOKENS,
    presigned=st.just(True),
)


@given(sent=REQUESTS)
def test_what_botocore_signs_is_taken(sent: Sent) -> None:
    claim = claimed(sent)
    check_signature(claim, sent, SECRET)
    assert (claim.key_id, claim.region, claim.signed_ms) == ("AKIAEXAMPLE", "eu-west-1", NOW_MS)
    assert claim.token == sent.headers.get("x-amz-security-token")


@given(sent=PRESIGNED)
def test_what_botocore_presigns_is_taken(sent: Sent) -> None:
    claim = claimed(sent)
    check_signature(claim, sent, SECRET)
    assert claim.expires_s == 3600


def meaning(sent: Sent) -> tuple[Any, ...]:
    """What two requests have in common that mean the same to a server."""
    query = sorted(parse_qsl(sent.query, keep_blank_values=True)) if "+" not in sent.query else sent.query
    values = {name: " ".join(value.split()) for name, value in sent.headers.items()}
    return sent.method.upper(), canonical_path(sent.path), query, values, sent.body_sha256


def flipped(text: str, at: int) -> str:
    at %= len(text)
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


@given(sent=REQUESTS | PRESIGNED, at=st.integers(0, 500), place=st.integers(0, 9))
def test_a_request_with_a_changed_byte_is_refused(sent: Sent, at: int, place: int) -> None:
    claim = claimed(sent)
    fields = ["method", "path", "query", "body_sha256"]
    names = [*fields, *claim.signed_headers, "authorization"]
    name = names[place % len(names)]
    if name in fields:
        changed = _replaced(sent, name, flipped(getattr(sent, name), at) if getattr(sent, name) else "A")
    else:
        value = sent.headers.get(name, "")
        changed = _replaced(sent, "headers", {**sent.headers, name: flipped(value, at) if value else "A"})
    assume(meaning(changed) != meaning(sent))
    with pytest.raises(ServiceError):
        check_signature(claimed(changed), changed, SECRET)
        refused_elsewhere(claimed(changed), claim)


def refused_elsewhere(changed: Claim, claim: Claim) -> None:
    """The key id is signed by nobody: another one leads to another secret."""
    if changed.key_id != claim.key_id:
        raise InvalidSignature("another key has another secret")


def _replaced(sent: Sent, name: str, value: Any) -> Sent:
    facts = {field: getattr(sent, field) for field in sent.__struct_fields__}
    return Sent(**{**facts, name: value})


@given(method=METHODS, path=PATHS, query=QUERIES, headers=HEADERS, body=st.binary(max_size=20), token=TOKENS)
def test_our_signature_is_the_one_that_botocore_makes(
    method: str, path: str, query: str, headers: dict[str, str], body: bytes, token: str | None
) -> None:
    headers.pop("User-Agent", None)  # which botocore leaves out
    theirs = by_botocore(method, path, query, headers, body, token, presigned=False)
    plain = {"host": HOST, **{name.lower(): value for name, value in headers.items()}}
    unsigned = Sent(method, path, query, plain, hashlib.sha256(body).hexdigest())
    added = Signer("AKIAEXAMPLE", SECRET, region="eu-west-1", token=token).sign(unsigned, NOW_MS)
    assert added["authorization"] == theirs.headers["authorization"]


# --- the corners --------------------------------------------------------------------------------------------------


def signed(**changes: Any) -> Sent:
    facts: dict[str, Any] = {
        "method": "POST",
        "path": "/2015-03-31/functions/fn/invocations",
        "query": "",
        "headers": {},
        "body": b"{}",
        "token": None,
        "presigned": False,
    }
    return by_botocore(**{**facts, **changes})


def test_a_query_that_was_signed_as_the_documentation_writes_it_is_taken() -> None:
    sent = signed(query="StartedAfter=2025-12-01T00%3A00%3A00Z&a=%2F")
    check_signature(claimed(sent), as_sent := _replaced(sent, "query", "a=/&StartedAfter=2025-12-01T00:00:00Z"), SECRET)
    assert as_sent.query != sent.query


def test_a_header_of_amazons_that_was_added_after_signing_is_refused() -> None:
    sent = signed()
    changed = _replaced(sent, "headers", {**sent.headers, "x-amz-invocation-type": "Event"})
    with pytest.raises(InvalidSignature, match="not signed: x-amz-invocation-type"):
        check_signature(claimed(changed), changed, SECRET)


def test_headers_that_proxies_and_clients_add_do_no_harm() -> None:
    sent = signed()
    added = {"amz-sdk-request": "attempt=1", "user-agent": "x", "x-amzn-trace-id": "Root=1", "x-amz-cf-id": "1"}
    check_signature(claimed(sent), _replaced(sent, "headers", {**sent.headers, **added}), SECRET)


def test_an_unsigned_payload_is_taken_only_where_nobody_can_change_it() -> None:
    sent = signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    changed = _replaced(sent, "body_sha256", "0" * 64)
    check_signature(claimed(sent), changed, SECRET, may_omit_payload=True)
    with pytest.raises(InvalidSignature, match="UNSIGNED-PAYLOAD"):
        check_signature(claimed(sent), changed, SECRET)


def test_a_declared_hash_of_the_body_must_be_that_of_the_body() -> None:
    sent = signed(headers={"X-Amz-Content-SHA256": hashlib.sha256(b"{}").hexdigest()})
    check_signature(claimed(sent), sent, SECRET)
    with pytest.raises(InvalidSignature, match="x-amz-content-sha256"):
        check_signature(claimed(sent), _replaced(sent, "body_sha256", "0" * 64), SECRET)


def test_a_date_header_will_do() -> None:
    sent = signed(headers={"Date": "now"})
    assert "x-amz-date" not in sent.headers
    claim = claimed(sent)
    check_signature(claim, sent, SECRET)
    assert claim.signed_ms == NOW_MS


def test_a_repeated_header_is_signed_as_a_list() -> None:
    assert header_map([(b"X-A", b"1"), (b"x-a", b"2")]) == {"x-a": "1,2"}


def test_what_is_not_signed_claims_nothing() -> None:
    assert read_claim(Sent("GET", "/", "a=b", {"host": HOST})) is None


@pytest.mark.parametrize(
    ("authorization", "said"),
    [
        ("Bearer abc", "signed with AWS4-HMAC-SHA256, not 'Bearer'"),
        ("AWS4-HMAC-SHA256", "no Credential, SignedHeaders, Signature"),
        ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0", "must be KEY/DAY/REGION/SERVICE"),
        ("AWS4-HMAC-SHA256 Credential=K/20260131/r/s3/aws4_request, SignedHeaders=host, Signature=0", "the service"),
        ("AWS4-HMAC-SHA256 Credential=K/20260131/r/lambda/aws4_request, SignedHeaders=host, Signature=0", "64 hexa"),
        (
            f"AWS4-HMAC-SHA256 Credential=K/20260130/r/lambda/aws4_request, SignedHeaders=host, Signature={'0' * 64}",
            "day",
        ),
        (
            f"AWS4-HMAC-SHA256 Credential=K/20260131/r/lambda/aws4_request, SignedHeaders=a, Signature={'0' * 64}",
            "'host'",
        ),
    ],
)
def test_a_signature_that_cannot_be_read_is_refused_with_the_reason(authorization: str, said: str) -> None:
    sent = Sent("GET", "/", "", {"host": HOST, "x-amz-date": "20260131T120005Z", "authorization": authorization})
    with pytest.raises(IncompleteSignature, match=said):
        read_claim(sent)


@pytest.mark.parametrize("time", ["", "yesterday", "20261331T120005Z"])
def test_a_time_that_is_none_is_refused(time: str) -> None:
    authorization = (
        f"AWS4-HMAC-SHA256 Credential=K/{time[:8]}/r/lambda/aws4_request, SignedHeaders=host, Signature={'0' * 64}"
    )
    with pytest.raises(IncompleteSignature, match="Date"):
        read_claim(Sent("GET", "/", "", {"host": HOST, "x-amz-date": time, "authorization": authorization}))


@pytest.mark.parametrize("expires", ["0", "604801", "x", ""])
def test_a_presigned_url_lives_a_week_at_most(expires: str) -> None:
    with pytest.raises(IncompleteSignature, match="X-Amz-Expires must be from 1 to 604800"):
        read_claim(Sent("GET", "/", f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires={expires}", {"host": HOST}))


@given(text=st.text(max_size=60))
def test_a_signature_that_is_noise_is_refused_and_breaks_nothing(text: str) -> None:
    for sent in (
        Sent("GET", "/", "", {"host": HOST, "authorization": text}),
        Sent("GET", "/", "", {"host": HOST, "authorization": f"AWS4-HMAC-SHA256 {text}", "date": text}),
        Sent("GET", "/", f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=60&X-Amz-Credential={text}", {"host": HOST}),
    ):
        with pytest.raises(IncompleteSignature):
            read_claim(sent)
