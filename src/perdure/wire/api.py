"""The operations of the Lambda API as its model describes them: requests and answers, read and written by one table.

The table is `lambda-api.json`. Inside, a request's or answer's members are a dict under their API names: blobs are
bytes, times are milliseconds since the epoch.

Source: Lambda API 2015-03-31 and 2025-12-01; REST-JSON protocol.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from perdure.model.error import InvalidParameterValue
from perdure.wire.forms import API, IsoText
from perdure.wire.table import Json

Reader = Callable[[Any, str], Any]
Writer = Callable[[Any], Any]
Pairs = Sequence[tuple[str, str]]
T = TypeVar("T")

_ISO: Final = IsoText()
_encode: Final = msgspec.json.Encoder().encode


class Message(msgspec.Struct, frozen=True):
    """A request to send, or an answer: `path` is of a request, `status` of an answer. Names of headers as modelled."""

    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    path: str = ""
    query: tuple[tuple[str, str], ...] = ()
    status: int = 0


class ErrorForm(msgspec.Struct, frozen=True):
    """How an error is sent: its status, and the member that holds its text."""

    status: int
    message: str


class Located(msgspec.Struct, frozen=True):
    """A member that is not in the body: its name in the API, and where it is found."""

    name: str
    wire_name: str
    shape: str
    is_list: bool = False


class Structure:
    """The members of a request or an answer by where they are."""

    def __init__(self, table: "Table", shape: str | None) -> None:
        given: Json = table.shapes[shape] if shape is not None else {"members": {}}
        self.required: tuple[str, ...] = tuple(given.get("required", ()))
        self.payload: str | None = given.get("payload")
        self.path: list[Located] = []
        self.query: list[Located] = []
        self.headers: list[Located] = []
        self.status: str | None = None
        self.body: dict[str, tuple[str, str]] = {}
        self.tokens: list[str] = []
        places = {"uri": self.path, "querystring": self.query, "header": self.headers}
        for name, member in given["members"].items():
            location, wire_name, of = member.get("location"), member.get("locationName", name), member["shape"]
            if member.get("idempotencyToken"):
                self.tokens.append(name)
            if location == "statusCode":
                self.status = name
            elif location is None:
                self.body[name] = (wire_name, of)
            else:
                places[location].append(Located(name, wire_name, of, table.shapes[of]["type"] == "list"))
        self.payload_type: str | None = None
        if self.payload is not None:
            self.payload_type = table.shapes[self.body[self.payload][1]]["type"]


class Operation:
    """One operation: its path, and how its requests and answers are read and written.

    Members named in `unread` are taken from the body as they are; somebody else looks at them.
    """

    def __init__(self, table: "Table", name: str, given: Json, unread: Iterable[str] = ()) -> None:
        self.name = name
        self.method: str = given["method"]
        self.path: str = given["path"]
        self.parts: tuple[str, ...] = tuple(given["path"].strip("/").split("/"))
        self.status: int = given["status"]
        self.errors: frozenset[str] = frozenset(given["errors"])
        self.request = Structure(table, given.get("input"))
        self.answer = Structure(table, given.get("output"))
        self._table = table
        self._unread = frozenset(unread)

    # --- the server's side ---------------------------------------------------------------------------------------

    def read_request(self, path: Mapping[str, str], query: Pairs, headers: Mapping[str, str], body: bytes) -> Json:
        """The request's members; `path` values are decoded, header names in lower case.

        Raises InvalidParameterValue, which names the member that is missing or can't be. Unknown members are ignored.
        """
        read, request = self._table.text_reader, self.request
        members: Json = {}
        for at in request.path:
            members[at.name] = read(at.shape)(path[at.wire_name], at.name)
        for at in request.query:
            values = [value for name, value in query if name == at.wire_name]
            if not values:
                continue
            members[at.name] = read(at.shape)(values if at.is_list else values[-1], at.name)
        for at in request.headers:
            if (value := headers.get(at.wire_name.lower())) is not None:
                members[at.name] = read(at.shape)(value, at.name)
        self._read_body(body, members)
        for name in request.required:
            if name not in members:
                raise InvalidParameterValue(f"{name} is missing")
        return members

    def _read_body(self, body: bytes, members: Json) -> None:
        request = self.request
        if request.payload is not None:
            _wire_name, shape = request.body[request.payload]
            if request.payload_type == "blob":
                if body:
                    members[request.payload] = self._table.check_bytes(shape, body, request.payload)
            elif body.strip():
                members[request.payload] = self._table.reader(shape)(_json_object(body), request.payload)
        elif request.body:
            given = _json_object(body) if body.strip() else {}
            for name, (wire_name, shape) in request.body.items():
                value = given.get(wire_name)
                if value is None:
                    continue
                members[name] = value if name in self._unread else self._table.reader(shape)(value, name)

    def write_answer(self, members: Json, status: int | None = None) -> Message:
        """The answer that holds these members; absent ones are left out. `status` is that of the model if not given."""
        write, answer = self._table.writer, self.answer
        headers = tuple(
            (at.wire_name, str(value)) for at in answer.headers if (value := members.get(at.name)) is not None
        )
        if answer.status is not None and members.get(answer.status) is not None:
            status = members[answer.status]
        status = status if status is not None else self.status
        if answer.payload is not None:
            value = members.get(answer.payload)
            if answer.payload_type == "blob":
                return Message(value or b"", headers, status=status)
            shape = answer.body[answer.payload][1]
            return Message(_encode(write(shape)(value)) if value is not None else b"", headers, status=status)
        if status == 204 or not answer.body:
            return Message(b"", headers, status=status)
        body = {
            wire_name: write(shape)(value)
            for name, (wire_name, shape) in answer.body.items()
            if (value := members.get(name)) is not None
        }
        return Message(_encode(body), headers, status=status)

    # --- the client's side ---------------------------------------------------------------------------------------

    def write_request(self, members: Json) -> Message:
        """The request that holds these members; they are the server's to check."""
        write, request = self._table.writer, self.request
        path = self.path
        for at in request.path:
            if not members.get(at.name):
                raise InvalidParameterValue(f"{at.name} is missing")
            path = path.replace(f"{{{at.wire_name}}}", quote(str(members[at.name]), safe="-_.~"))
        query: list[tuple[str, str]] = []
        for at in request.query:
            value = members.get(at.name)
            if value is None:
                continue
            of = self._table.shapes[at.shape]["member"] if at.is_list else at.shape
            query += [(at.wire_name, self._table.to_text(of, one)) for one in (value if at.is_list else [value])]
        headers = tuple(
            (at.wire_name, str(value)) for at in request.headers if (value := members.get(at.name)) is not None
        )
        body = b""
        if request.payload is not None:
            value = members.get(request.payload)
            if request.payload_type == "blob":
                body = value or b""
            else:
                body = _encode(write(request.body[request.payload][1])(value if value is not None else {}))
                headers += (("Content-Type", "application/json"),)
        elif request.body:
            written = {
                wire_name: write(shape)(value)
                for name, (wire_name, shape) in request.body.items()
                if (value := members.get(name)) is not None
            }
            body = _encode(written)
            headers += (("Content-Type", "application/json"),)
        return Message(body, headers, path, tuple(query))

    def read_answer(self, status: int, headers: Mapping[str, str], body: bytes) -> Json:
        """The answer's members as the server sent them; the body's JSON is not looked into."""
        answer = self.answer
        members: Json = {at.name: headers[key] for at in answer.headers if (key := at.wire_name.lower()) in headers}
        if answer.status is not None:
            members[answer.status] = status
        if answer.payload is not None and answer.payload_type == "blob":
            members[answer.payload] = body
        elif body.strip():
            members.update(_json_object(body))
        return members


class Table:
    """All operations and shapes of the API."""

    def __init__(self, given: Json, unread: Mapping[str, Iterable[str]]) -> None:
        self.shapes: dict[str, Json] = given["shapes"]
        self.errors = {name: ErrorForm(**form) for name, form in given["errors"].items()}
        self._readers: dict[str, Reader] = {}
        self._text_readers: dict[str, Reader] = {}
        self._writers: dict[str, Writer] = {}
        self.operations = {
            name: Operation(self, name, operation, unread.get(name, ()))
            for name, operation in given["operations"].items()
        }

    def reader(self, shape: str) -> Reader:
        """What reads and checks a value of this shape from JSON."""
        found = self._readers.get(shape)
        if found is None:
            self._readers[shape] = lambda value, where: self._readers[shape](value, where)  # shapes may hold themselves
            found = self._readers[shape] = self._make_reader(shape)
        return found

    def text_reader(self, shape: str) -> Reader:
        """The same from the text of a path, a query or a header."""
        found = self._text_readers.get(shape)
        if found is None:
            found = self._text_readers[shape] = self._make_text_reader(shape)
        return found

    def writer(self, shape: str) -> Writer:
        """What writes a value of this shape as JSON."""
        found = self._writers.get(shape)
        if found is None:
            self._writers[shape] = lambda value: self._writers[shape](value)
            found = self._writers[shape] = self._make_writer(shape)
        return found

    # --- reading -------------------------------------------------------------------------------------------------

    def _make_reader(self, name: str) -> Reader:
        shape = self.shapes[name]
        match shape["type"]:
            case "string":
                return _text_check(shape)
            case "integer" | "long":
                return _number_check(shape, int, "a whole number")
            case "double" | "float":
                return _number_check(shape, float, "a number")
            case "boolean":
                return _flag
            case "timestamp":
                return API.times.read
            case "blob":
                return lambda value, where: self.check_bytes(name, _from_base64(value, where), where)
            case "list":
                return self._list_reader(shape)
            case "map":
                return self._map_reader(shape)
        return self._structure_reader(shape)

    def _list_reader(self, shape: Json) -> Reader:
        read, check = self.reader(shape["member"]), _size_check(shape, "entries")

        def reader(value: Any, where: str) -> list[Any]:
            if not isinstance(value, list):
                raise InvalidParameterValue(f"{where} must be a list, not {value!r:.80}")
            check(len(value), where)
            return [read(item, f"{where}[{at}]") for at, item in enumerate(value)]

        return reader

    def _map_reader(self, shape: Json) -> Reader:
        read_key, read, check = self.reader(shape["key"]), self.reader(shape["value"]), _size_check(shape, "entries")

        def reader(value: Any, where: str) -> Json:
            if not isinstance(value, dict):
                raise InvalidParameterValue(f"{where} must be an object, not {value!r:.80}")
            check(len(value), where)
            return {
                read_key(key, f"a key of {where}"): read(item, f"{where}.{key:.80}")
                for key, item in value.items()
                if item is not None
            }

        return reader

    def _structure_reader(self, shape: Json) -> Reader:
        members = {
            name: (member.get("locationName", name), self.reader(member["shape"]))
            for name, member in shape["members"].items()
        }
        required = tuple(shape.get("required", ()))

        def reader(value: Any, where: str) -> Json:
            if not isinstance(value, dict):
                raise InvalidParameterValue(f"{where} must be an object, not {value!r:.80}")
            found = {
                name: read(value[wire_name], f"{where}.{name}")
                for name, (wire_name, read) in members.items()
                if value.get(wire_name) is not None
            }
            for name in required:
                if name not in found:
                    raise InvalidParameterValue(f"{where}.{name} is missing")
            return found

        return reader

    def _make_text_reader(self, name: str) -> Reader:
        shape = self.shapes[name]
        read = self.reader(name) if shape["type"] != "list" else None
        match shape["type"]:
            case "integer" | "long":
                return lambda value, where: self.reader(name)(_whole(value, where), where)
            case "boolean":
                return _flag_of_text
            case "timestamp":
                return _ISO.read
            case "list":
                one = self.text_reader(shape["member"])
                check = _size_check(shape, "entries")

                def reader(values: Any, where: str) -> list[Any]:
                    check(len(values), where)
                    return [one(value, where) for value in values]

                return reader
        assert read is not None
        return read

    def check_bytes(self, shape: str, value: bytes, where: str) -> bytes:
        _size_check(self.shapes[shape], "bytes")(len(value), where)
        return value

    # --- writing -------------------------------------------------------------------------------------------------

    def _make_writer(self, name: str) -> Writer:
        shape = self.shapes[name]
        match shape["type"]:
            case "timestamp":
                return API.times.write
            case "blob":
                return lambda value: base64.b64encode(value).decode()
            case "list":
                write = self.writer(shape["member"])
                return lambda value: [write(item) for item in value]
            case "map":
                write_value = self.writer(shape["value"])
                return lambda value: {key: write_value(item) for key, item in value.items()}
            case "structure":
                members = {
                    member_name: (member.get("locationName", member_name), self.writer(member["shape"]))
                    for member_name, member in shape["members"].items()
                }

                def writer(value: Any) -> Json:
                    return {
                        wire_name: write(value[member_name])
                        for member_name, (wire_name, write) in members.items()
                        if value.get(member_name) is not None
                    }

                return writer
        return _same

    def to_text(self, shape: str, value: Any) -> str:
        """A value as it stands in a query."""
        match self.shapes[shape]["type"]:
            case "boolean":
                return "true" if value else "false"
            case "timestamp":
                return _ISO.write(value)
        return str(value)


UNREAD: Final = {"CheckpointDurableExecution": ("Updates",)}
"""Members that the tables of the model's own shapes read, in one pass."""


@cache
def lambda_api() -> Table:
    """The table, read once."""
    text = resources.files("perdure.wire").joinpath("lambda-api.json").read_bytes()
    return Table(msgspec.json.decode(text), UNREAD)


# --- kinds of values ---------------------------------------------------------------------------------------------


def _same(value: T) -> T:
    return value


def _json_object(body: bytes) -> Json:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameterValue(f"the request's body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidParameterValue(f"the request's body must be a JSON object, not {value!r:.80}")
    return value


def _text_check(shape: Json) -> Reader:
    words, pattern = frozenset(shape.get("enum", ())), shape.get("pattern")
    fits = re.compile(_as_python(pattern)).fullmatch if pattern else None
    check = _size_check(shape, "characters")

    def reader(value: Any, where: str) -> str:
        if not isinstance(value, str):
            raise InvalidParameterValue(f"{where} must be a text, not {value!r:.80}")
        if words and value not in words:
            raise InvalidParameterValue(f"{where} must be one of {', '.join(sorted(words))}, not {value!r:.80}")
        check(len(value), where)
        if fits is not None and not fits(value):
            raise InvalidParameterValue(f"{where} must match {pattern}, and {value!r:.200} does not")
        return value

    return reader


def _as_python(pattern: str) -> str:
    """A pattern of the model, whose Unicode classes Python's expressions write otherwise."""
    return pattern.replace(r"\p{L}", r"\w").replace(r"\p{N}", r"\w").replace(r"\p{Z}", r"\s")


def _number_check(shape: Json, kind: type, words: str) -> Reader:
    least, most = shape.get("min"), shape.get("max")

    def reader(value: Any, where: str) -> Any:
        is_number = isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
        if not is_number:
            raise InvalidParameterValue(f"{where} must be {words}, not {value!r:.80}")
        if (least is not None and value < least) or (most is not None and value > most):
            rule = f"from {least} to {most}" if least is not None and most is not None else f"at least {least}"
            raise InvalidParameterValue(f"{where} must be {rule}, not {value}")
        return value

    return reader


def _size_check(shape: Json, unit: str) -> Callable[[int, str], None]:
    least, most = shape.get("min", 0), shape.get("max")

    def check(size: int, where: str) -> None:
        if size < least or (most is not None and size > most):
            rule = f"from {least} to {most}" if most is not None else f"at least {least}"
            raise InvalidParameterValue(f"{where} must have {rule} {unit}, not {size}")

    return check


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidParameterValue(f"{where} must be true or false, not {value!r:.80}")
    return value


def _flag_of_text(value: str, where: str) -> bool:
    if value not in ("true", "false"):
        raise InvalidParameterValue(f"{where} must be true or false, not {value!r:.80}")
    return value == "true"


def _whole(value: str, where: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", value):
        raise InvalidParameterValue(f"{where} must be a whole number, not {value!r:.80}")
    return int(value)


def _from_base64(value: Any, where: str) -> bytes:
    if not isinstance(value, str):
        raise InvalidParameterValue(f"{where} must be base64 text, not {value!r:.80}")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidParameterValue(f"{where} must be base64 text") from None
