"""What stands in a template file, with its lines: YAML with CloudFormation's short tags, or JSON.

The file is read as events, and the tree is made of them here: so its size, its depth and what aliases make of it are
bounded before they cost anything, and no tag of YAML's makes an object.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import yaml

from perdure.sam.trouble import TemplateError, Where

BYTES_MAX: Final = 1_048_576
"""Source: CloudFormation quotas, template body size in an S3 object."""
DEPTH_MAX: Final = 64
NODES_MAX: Final = 100_000
"""Counted with what aliases repeat."""

SHORT_TAGS: Final = frozenset(
    {
        "And",
        "Base64",
        "Cidr",
        "Equals",
        "FindInMap",
        "GetAZs",
        "GetAtt",
        "If",
        "ImportValue",
        "Join",
        "Length",
        "Not",
        "Or",
        "Select",
        "Split",
        "Sub",
        "ToJsonString",
        "Transform",
    }
)
_PLAIN_TAGS: Final = {"!Ref": "Ref", "!Condition": "Condition"}

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""It reads twenty times faster where PyYAML has been built with libyaml."""

_WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_BROKEN: Final = re.compile(r"[-+]?[0-9]+\.[0-9]*(e[-+]?[0-9]+)?", re.IGNORECASE)
_WORDS: Final = {
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_PAIR: Final = re.compile(r"\\\\|\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)


class Scalar(msgspec.Struct, frozen=True):
    """One value: `text` as it is written (true and false in lower case), `value` what that is."""

    line: int
    text: str
    value: str | int | float | bool | None


class Items(msgspec.Struct, frozen=True):
    """A list."""

    line: int
    items: tuple["Node", ...]


class Fields(msgspec.Struct, frozen=True):
    """A mapping. The line of a value in it is that of its key."""

    line: int
    fields: dict[str, "Node"]


Node = Scalar | Items | Fields


def text_node(line: int, text: str) -> Scalar:
    return Scalar(line, text, text)


def read(text: str, file: str) -> Fields:
    """The tree of a template.

    Raises TemplateError if it is neither YAML nor JSON, no mapping, has a key twice, an unknown tag, an alias to
    itself, more than 1 MiB, 64 levels or 100,000 nodes.
    """
    where = Where(file)
    if len(text.encode("utf-8", "replace")) > BYTES_MAX:
        raise where.refusal(1, f"a template has at most {BYTES_MAX} bytes")
    if text.lstrip().startswith("{"):
        text = _PAIR.sub(_joined, text.replace("\t", " "))
    try:
        events = list(_bounded(yaml.parse(text, Loader=_LOADER), where))
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise TemplateError(f"this is no YAML: {error.problem or error}", file=file, line=line) from None
    except yaml.YAMLError as error:
        raise TemplateError(f"this is no YAML: {error}", file=file, line=1) from None
    return _Builder(events, where).document()


def _joined(found: re.Match[str]) -> str:
    """A character beyond the first 65,536 as JSON writes it, for YAML, which knows no pairs."""
    if found[1] is None:
        return found[0]
    return bytes.fromhex(found[1] + found[2]).decode("utf-16-be")


def _bounded(events: Iterator[Any], where: Where) -> Iterator[Any]:
    depth = nodes = 0
    for event in events:
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1
        if isinstance(event, yaml.NodeEvent):
            nodes += 1
        _check_bounds(depth, nodes, event, where)
        yield event


def _check_bounds(depth: int, nodes: int, event: Any, where: Where) -> None:
    if depth > DEPTH_MAX:
        raise where.refusal(_line(event), f"the template is nested more than {DEPTH_MAX} levels deep")
    if nodes > NODES_MAX:
        raise where.refusal(_line(event), f"the template has more than {NODES_MAX} values, aliases followed")


class _Size(msgspec.Struct, frozen=True):
    """How much a node is, aliases followed."""

    nodes: int
    depth: int


class _Builder:
    """Makes the tree of a document's events. Aliases share what they name, and count as often as they stand there."""

    def __init__(self, events: Sequence[Any], where: Where) -> None:
        self._events = iter(events)
        self._where = where
        self._anchors: dict[str, tuple[Node, _Size]] = {}
        self._nodes = 0

    def document(self) -> Fields:
        found: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if found is not None:
                    raise self._where.refusal(_line(event), "a second document begins; a template is one alone")
                found, _size = self._node(next(self._events), None, 0)
        if not isinstance(found, Fields):
            raise self._where.refusal(1, "a template is a mapping with a section 'Resources'")
        return found

    def _node(self, event: Any, line: int | None, depth: int) -> tuple[Node, _Size]:
        """The node that begins with `event`; `line` is that of its key, if it has one."""
        here = _line(event)
        if isinstance(event, yaml.AliasEvent):
            known = self._anchors.get(event.anchor or "")
            if known is None:
                raise self._where.refusal(
                    here, f"the alias *{event.anchor} names nothing that stands before it as a whole"
                )
            node, size = known
        else:
            node, size = self._fresh(event, line or here, depth)
            if event.anchor is not None:
                self._anchors[event.anchor] = (node, size)
        if isinstance(event, yaml.AliasEvent):
            self._nodes += size.nodes
        _check_bounds(depth + size.depth, self._nodes, event, self._where)
        return node, size

    def _fresh(self, event: Any, line: int, depth: int) -> tuple[Node, _Size]:
        self._nodes += 1
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node, size = _scalar(event, line), _Size(1, 0)
        elif isinstance(event, yaml.SequenceStartEvent):
            node, size = self._items(line, depth)
        else:
            node, size = self._fields(line, depth)
        name = self._function(event.tag, line)
        if name is None:
            return node, size
        if name == "Fn::GetAtt" and isinstance(node, Scalar):
            resource, _, attribute = node.text.partition(".")
            node = Items(line, (text_node(line, resource), text_node(line, attribute)))
        return Fields(line, {name: node}), _Size(size.nodes + 1, size.depth + 1)

    def _function(self, tag: str | None, line: int) -> str | None:
        """The intrinsic function that a tag stands for; None for a tag that YAML itself has for plain values."""
        if tag is None or tag == "!" or tag.removeprefix("tag:yaml.org,2002:") in ("str", "int", "float", "bool"):
            return None
        if tag in _PLAIN_TAGS:
            return _PLAIN_TAGS[tag]
        if tag[1:] in SHORT_TAGS:
            return f"Fn::{tag[1:]}"
        raise self._where.refusal(
            line, f"the tag {tag[:80]} is none of CloudFormation's", "quote the value if '!' is text"
        )

    def _items(self, line: int, depth: int) -> tuple[Node, _Size]:
        items: list[Node] = []
        nodes, deepest = 1, 0
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            node, size = self._node(event, None, depth + 1)
            items.append(node)
            nodes, deepest = nodes + size.nodes, max(deepest, size.depth)
        return Items(line, tuple(items)), _Size(nodes, deepest + 1)

    def _fields(self, line: int, depth: int) -> tuple[Node, _Size]:
        fields: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        nodes, deepest = 1, 0
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            at = _line(event)
            key, _ = self._node(event, None, depth + 1)
            if not isinstance(key, Scalar):
                raise self._where.refusal(at, "a key must be a text, not a list or a mapping")
            node, size = self._node(next(self._events), at, depth + 1)
            nodes, deepest = nodes + size.nodes + 1, max(deepest, size.depth)
            if key.text == "<<":
                for source in reversed(node.items if isinstance(node, Items) else (node,)):
                    if not isinstance(source, Fields):
                        raise self._where.refusal(at, "'<<' takes a mapping, or a list of mappings")
                    merged |= source.fields
            elif key.text in fields:
                raise self._where.refusal(at, f"the key {key.text[:80]!r} stands twice in one mapping")
            else:
                fields[key.text] = node
        return Fields(line, {**merged, **fields}), _Size(nodes, deepest + 1)


def _scalar(event: Any, line: int) -> Scalar:
    text: str = event.value
    is_text = event.style not in (None, "") or (event.tag is not None and event.tag[:1] == "!")
    if is_text or (event.tag is not None and event.tag.endswith(":str")):
        return text_node(line, text)
    if text in _WORDS:
        value = _WORDS[text]
        return Scalar(line, text if value is None else str(value).lower(), value)
    if _WHOLE.fullmatch(text):
        return Scalar(line, text, int(text))
    if _BROKEN.fullmatch(text):
        return Scalar(line, text, float(text))
    return text_node(line, text)


def _line(event: Any) -> int:
    """The line of an event, from 1."""
    line: int = event.start_mark.line
    return line + 1
