"""Requests that a fuzz test sends: members of right and wrong kinds, placed where the API's table says."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from hypothesis import strategies as st

from perdure.wire.api import Located, Operation, lambda_api

SHAPES: dict[str, dict[str, Any]] = lambda_api().shapes
Known = Mapping[str, Sequence[str]]
"""By the names of members: values that mean something to the server."""
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
DEPTH = 4
HUGE = 10**400


class Wild(msgspec.Struct, frozen=True):
    """A request as it is written to the connection."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def written(self) -> bytes:
        lines = [self.method.encode() + b" " + self.target + b" HTTP/1.1", b"Host: localhost"]
        lines += [name + b": " + value for name, value in self.headers]
        lines.append(b"Content-Length: " + str(len(self.body)).encode())
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body

    def __repr__(self) -> str:
        return repr(self.written()[:2000])


odd_text = st.one_of(
    st.sampled_from(["", " ", "\0", "a\0b", "é", "\ud800", "\udfff\ud800", "../..", "x" * 300, "$LATEST", "null", "%"]),
    st.text(st.characters(codec=None, min_codepoint=0, max_codepoint=0x10FFFF), max_size=20),
)
odd_number = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([1001, 2**31, 2**63, -(2**63), HUGE, -HUGE, 1e308, float("inf"), float("nan"), 1e-9]),
)
odd_value = st.recursive(
    st.one_of(st.none(), st.booleans(), odd_number, odd_text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(odd_text, inner, max_size=3)),
    max_leaves=4,
)


@st.composite
def value_of(draw: st.DrawFn, name: str, shape: str, known: Known, odds: int, depth: int = 0) -> Any:
    """A value for a member: once in `odds` times it is anything, otherwise one of its own kind, and often a known one.

    Where `known` has values they are the only right ones, most often.
    """
    is_odd = draw(st.integers(0, odds)) == 0
    if is_odd and draw(st.booleans()):
        return draw(odd_value)
    if name in known and not is_odd:
        return draw(st.sampled_from(known[name]))
    given = SHAPES[shape]
    match given["type"]:
        case "string":
            if given.get("enum") and not is_odd:
                return draw(st.sampled_from(given["enum"]))
            if is_odd:
                return draw(st.one_of(odd_text, st.just("y" * min(given.get("max", 99) + 1, 20_000))))
            least, most = given.get("min", 0), given.get("max", 12)
            return draw(st.text("abcXYZ019", min_size=least, max_size=max(least, min(most, 12))))
        case "integer" | "long" | "double":
            least, most = given.get("min", 0), given.get("max", 100)
            return draw(odd_number if is_odd else st.integers(least, max(least, most)))
        case "boolean":
            return draw(st.booleans())
        case "timestamp":
            return draw(st.one_of(odd_number, odd_text) if is_odd else st.sampled_from([1764547200.5, 1764547200]))
        case "blob":
            return draw(odd_text if is_odd else st.sampled_from(["", "AAAA", "UEsDBA=="]))
        case "list":
            if depth >= DEPTH:
                return []
            return draw(st.lists(value_of(name, given["member"], known, odds, depth + 1), max_size=3))
        case "map":
            keys = odd_text if is_odd else st.text("abc", min_size=1, max_size=3)
            return draw(st.dictionaries(keys, value_of(name, given["value"], known, odds, depth + 1), max_size=3))
    if depth >= DEPTH:
        return {}
    members: dict[str, Any] = {}
    for member, about in given["members"].items():
        if member in given.get("required", ()) or draw(st.integers(0, 2)) == 0:
            members[member] = draw(value_of(member, about["shape"], known, odds, depth + 1))
    return members


def text_of(value: Any) -> str:
    """A value as it stands in a path, a query or a header."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value) if not isinstance(value, int) else f"{value:d}"[:60]


def escaped(text: str) -> bytes:
    """The text as a client escapes it; what has no UTF-8 goes as the bytes that a careless one sends."""
    return quote(text.encode("utf-8", "surrogatepass"), safe="").encode()


broken_escapes = st.sampled_from([b"%", b"%zz", b"%ff%fe", b"%ed%a0%80", b"%00", b"a%2", b"%C3", b"+", b"%25%32%46"])


@st.composite
def request_of(draw: st.DrawFn, operation: Operation, known: Known) -> Wild:
    """A request of an operation, nearly right or quite wild."""
    odds = draw(st.sampled_from([3, 10, 60]))

    def drawn(at: Located) -> Any:
        value = draw(value_of(at.name, at.shape, known, odds))
        is_time = SHAPES[at.shape]["type"] == "timestamp"
        return "2025-12-01T00:00:00Z" if is_time and isinstance(value, float) else value

    def is_odd() -> bool:
        return draw(st.integers(0, odds)) == 0

    path = operation.path.encode()
    for at in operation.request.path:
        part = draw(broken_escapes) if is_odd() else escaped(text_of(drawn(at)))
        path = path.replace(b"{" + at.wire_name.encode() + b"}", part)
    pairs: list[bytes] = []
    for at in operation.request.query:
        if at.name in operation.request.required or draw(st.booleans()):
            value = drawn(at)
            for one in value if isinstance(value, list) else [value]:
                text = draw(broken_escapes) if is_odd() else escaped(text_of(one))
                pairs.append(at.wire_name.encode() + b"=" + text)
    headers: list[tuple[bytes, bytes]] = []
    for at in operation.request.headers:
        if draw(st.integers(0, 2)) == 0:
            text = text_of(drawn(at)).encode("utf-8", "replace")
            headers.append((at.wire_name.encode(), bytes(byte for byte in text if byte >= 0x20 and byte != 0x7F)))
    body = draw(broken_bodies) if is_odd() else draw(body_of(operation, known, odds))
    if is_odd():
        kinds = [b"application/json", b"text/plain", b"", b"application/json; charset=latin-1", b"\xff"]
        headers.append((b"Content-Type", draw(st.sampled_from(kinds))))
    method = draw(st.sampled_from(METHODS)) if is_odd() else operation.method
    target = path + (b"?" + b"&".join(pairs) if pairs else b"")
    return Wild(method, target, tuple(headers), body)


broken_bodies = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"{", b"[]", b"null", b'""', b"\x00", b"\xff\xfe{}", b"{}{}", b"\xef\xbb\xbf{}", b'{"a":1,"a":2}']
    ),
    st.sampled_from([b"[" * 50_000, b'{"a":' * 50_000, b'{"a": 1e999}', b'{"a": ' + b"9" * 5000 + b"}"]),
    st.sampled_from([b'"\\ud800"', b'{"\\u0000": "\\ud800"}', b'{"\xed\xa0\x80": 1}']),
)


@st.composite
def body_of(draw: st.DrawFn, operation: Operation, known: Known, odds: int) -> bytes:
    request = operation.request
    if request.payload is not None:
        shape = request.body[request.payload][1]
        if request.payload_type == "blob":
            return draw(st.sampled_from([b"", b"1", b'{"a": "b"}', b"null"]))
        value = draw(value_of(request.payload, shape, known, odds))
    elif request.body:
        value = {
            wire_name: draw(value_of(name, shape, known, odds))
            for name, (wire_name, shape) in request.body.items()
            if name in request.required or draw(st.integers(0, 2)) == 0
        }
    else:
        return draw(st.sampled_from([b"", b"", b"{}", b"x"]))
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    return text.encode("utf-8", "surrogatepass")
