"""Typed values out of resolved nodes; what is of another kind is refused with what would be right."""

import json
from typing import Any

from perdure.sam.document import Fields, Items, Node, Scalar
from perdure.sam.trouble import Where


def text_of(node: Node, where: Where) -> str:
    if not isinstance(node, Scalar) or node.value is None:
        raise where.refusal(node.line, f"must be a text, not {kind_of(node)}")
    return node.text


def whole_of(node: Node, where: Where, low: int, high: int, unit: str) -> int:
    """A whole number, or a text that is one."""
    text = node.text if isinstance(node, Scalar) and not isinstance(node.value, bool) else ""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None
    if number is None or not low <= number <= high:
        found = repr(text[:80]) if text else kind_of(node)
        raise where.refusal(node.line, f"must be a whole number of {unit} from {low} to {high}, not {found}")
    return number


def fields_of(node: Node, where: Where) -> dict[str, Node]:
    if not isinstance(node, Fields):
        raise where.refusal(node.line, f"must be a mapping, not {kind_of(node)}")
    return node.fields


def texts_of(node: Node, where: Where) -> dict[str, str]:
    """A mapping of texts; numbers and truth values in it are as they are written."""
    return {name: text_of(value, where.at(name)) for name, value in fields_of(node, where).items()}


def tags_of(node: Node, where: Where) -> dict[str, str]:
    """Tags, as SAM's mapping or as CloudFormation's list of Key and Value."""
    if not isinstance(node, Items):
        return texts_of(node, where)
    tags: dict[str, str] = {}
    for number, item in enumerate(node.items):
        pair = texts_of(item, where.at(number))
        if "Key" not in pair:
            raise where.at(number).refusal(item.line, "must be a mapping with Key and Value")
        tags[pair["Key"]] = pair.get("Value", "")
    return tags


def plain(node: Node) -> Any:
    """A node as JSON has it."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return {name: plain(value) for name, value in node.fields.items()}


def as_written(node: Node) -> str:
    """A node as a text: a text itself, anything else as JSON."""
    return node.text if isinstance(node, Scalar) else json.dumps(plain(node))


def kind_of(node: Node) -> str:
    """What a node is, in words."""
    if isinstance(node, Scalar):
        return repr(node.text[:80]) if node.value is not None else "nothing"
    return "a list" if isinstance(node, Items) else "a mapping"
