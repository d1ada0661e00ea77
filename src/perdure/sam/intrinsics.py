"""What a value of a template is once its intrinsic functions are carried out.

Source: CloudFormation User Guide, intrinsic functions. Only what is asked for is carried out: a function that can't be,
in a resource that is left out, troubles nobody.
"""

import base64
import re
from collections.abc import Callable, Mapping
from typing import Final

from perdure.sam.document import Fields, Items, Node, Scalar, text_node
from perdure.sam.symbols import Symbols
from perdure.sam.trouble import Where

WORK_MAX: Final = 16 * 1024 * 1024
"""So many characters and values may come of one template."""
_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")


class Resolver:
    """Carries out the functions of one template, over what its names stand for."""

    def __init__(self, symbols: Symbols) -> None:
        self._symbols = symbols
        self._left = WORK_MAX
        self._under_way: set[str] = set()
        self._known: dict[str, bool] = {}
        self._functions: Final[Mapping[str, Callable[[Node, Where], Node | None]]] = {
            "Ref": self._ref,
            "Fn::Base64": self._base64,
            "Fn::FindInMap": self._find_in_map,
            "Fn::GetAtt": self._get_att,
            "Fn::If": self._if,
            "Fn::Join": self._join,
            "Fn::Select": self._select,
            "Fn::Split": self._split,
            "Fn::Sub": self._sub,
            "Fn::And": self._truth,
            "Fn::Equals": self._truth,
            "Fn::Not": self._truth,
            "Fn::Or": self._truth,
            "Condition": self._truth,
        }

    def resolve(self, node: Node, where: Where) -> Node | None:
        """The node without functions; None if it is AWS::NoValue. What is so in a list or a mapping is left out.

        Raises TemplateError for what can't be carried out here.
        """
        self._spend(1, node, where)
        if isinstance(node, Scalar):
            return node
        if isinstance(node, Items):
            found = (self.resolve(item, where.at(number)) for number, item in enumerate(node.items))
            return Items(node.line, tuple(item for item in found if item is not None))
        name = _function_name(node)
        if name is None:
            fields = {key: self.resolve(value, where.at(key)) for key, value in node.fields.items()}
            return Fields(node.line, {key: value for key, value in fields.items() if value is not None})
        function = self._functions.get(name)
        if function is None:
            raise where.refusal(
                node.line, f"uses {name}, {_why_not(name)}", "write the value itself, or take a parameter"
            )
        if name in _TRUTHS:
            return function(node, where)
        return function(node.fields[name], where)

    def holds(self, name: str, line: int, where: Where) -> bool:
        """Whether a condition of the template is true."""
        found = self._symbols.conditions.get(name)
        if found is None:
            known = ", ".join(sorted(self._symbols.conditions)) or "none"
            raise where.refusal(line, f"names the condition {name[:80]!r}; the template has: {known}")
        if name not in self._known:
            if name in self._under_way:
                raise where.refusal(line, f"depends on the condition {name!r}, which depends on itself")
            self._under_way.add(name)
            self._known[name] = self._is_true(found, Where(where.file, ("Conditions", name)))
            self._under_way.discard(name)
        return self._known[name]

    def text(self, node: Node, where: Where) -> str:
        """A value that must be a text, or a number or a truth value, which are as they are written."""
        found = self.resolve(node, where)
        if not isinstance(found, Scalar):
            raise where.refusal(node.line, f"must be a text, not {_kind(found)}")
        return found.text

    def _spend(self, count: int, node: Node, where: Where) -> None:
        self._left -= count
        if self._left < 0:
            raise where.refusal(node.line, f"makes more than {WORK_MAX} characters of this template")

    def _made(self, text: str, node: Node, where: Where) -> Scalar:
        self._spend(len(text), node, where)
        return text_node(node.line, text)

    # --- functions -----------------------------------------------------------------------------------------------

    def _ref(self, node: Node, where: Where) -> Node | None:
        if not isinstance(node, Scalar):
            raise where.refusal(node.line, f"has a Ref of {_kind(node)}; it takes a name")
        return self._symbols.reference(node.text, node.line, where)

    def _get_att(self, node: Node, where: Where) -> Node:
        if isinstance(node, Scalar):
            resource, _, attribute = node.text.partition(".")
        else:
            resource, *rest = self._texts(node, where)
            attribute = ".".join(rest)
        if not resource or not attribute:
            raise where.refusal(node.line, "has a Fn::GetAtt that is not RESOURCE.ATTRIBUTE")
        return self._symbols.attribute(resource, attribute, node.line, where)

    def _sub(self, node: Node, where: Where) -> Node:
        given: Mapping[str, Node] = {}
        if isinstance(node, Scalar):
            template = node.text
        elif (
            isinstance(node, Items)
            and len(node.items) == 2
            and isinstance(node.items[0], Scalar)
            and isinstance(node.items[1], Fields)
        ):
            template, given = node.items[0].text, node.items[1].fields
        else:
            raise where.refusal(
                node.line, "has a Fn::Sub that is neither a text nor a list of a text and its variables"
            )

        def put(found: re.Match[str]) -> str:
            name = found[1].strip()
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            text = self._variable(name, given, node, where)
            self._spend(len(text), node, where)
            return text

        return self._made(_VARIABLE.sub(put, template), node, where)

    def _variable(self, name: str, given: Mapping[str, Node], node: Node, where: Where) -> str:
        if name in given:
            return self.text(given[name], where.at(name))
        resource, _, attribute = name.partition(".")
        found: Node | None
        if attribute and attribute not in ("Alias", "Version"):
            found = self._symbols.attribute(resource, attribute, node.line, where)
        else:
            found = self._symbols.reference(name, node.line, where)
        if not isinstance(found, Scalar):
            raise where.refusal(node.line, f"puts {_kind(found)} into a text: ${{{name[:80]}}}")
        return found.text

    def _join(self, node: Node, where: Where) -> Node:
        if not isinstance(node, Items) or len(node.items) != 2:
            raise where.refusal(node.line, "has a Fn::Join that is not [DELIMITER, [VALUES]]")
        delimiter = self.text(node.items[0], where)
        return self._made(delimiter.join(self._texts(node.items[1], where)), node, where)

    def _split(self, node: Node, where: Where) -> Node:
        if not isinstance(node, Items) or len(node.items) != 2:
            raise where.refusal(node.line, "has a Fn::Split that is not [DELIMITER, TEXT]")
        delimiter, text = self._texts(node, where)
        if not delimiter:
            raise where.refusal(node.line, "has a Fn::Split without a delimiter")
        return Items(node.line, tuple(self._made(part, node, where) for part in text.split(delimiter)))

    def _select(self, node: Node, where: Where) -> Node | None:
        if not isinstance(node, Items) or len(node.items) != 2:
            raise where.refusal(node.line, "has a Fn::Select that is not [INDEX, [VALUES]]")
        index = self.text(node.items[0], where)
        values = self.resolve(node.items[1], where)
        if not isinstance(values, Items):
            raise where.refusal(node.line, f"has a Fn::Select from {_kind(values)}; it takes a list")
        if not index.isdecimal() or int(index) >= len(values.items):
            raise where.refusal(node.line, f"has a Fn::Select of number {index[:20]!r} of {len(values.items)} values")
        return values.items[int(index)]

    def _find_in_map(self, node: Node, where: Where) -> Node | None:
        if not isinstance(node, Items) or len(node.items) != 3:
            raise where.refusal(node.line, "has a Fn::FindInMap that is not [MAP, FIRST KEY, SECOND KEY]")
        keys = self._texts(node, where)
        found: Node | None = Fields(node.line, self._symbols.mappings)
        for key in keys:
            known = found.fields if isinstance(found, Fields) else {}
            found = known.get(key)
            if found is None:
                raise where.refusal(
                    node.line, f"looks for {key[:80]!r} in Mappings, where there is: {', '.join(known)}"
                )
        return found  # a mapping holds no functions

    def _base64(self, node: Node, where: Where) -> Node:
        return self._made(base64.b64encode(self.text(node, where).encode()).decode(), node, where)

    def _if(self, node: Node, where: Where) -> Node | None:
        if not isinstance(node, Items) or len(node.items) != 3 or not isinstance(node.items[0], Scalar):
            raise where.refusal(node.line, "has a Fn::If that is not [CONDITION, THEN, ELSE]")
        condition, then, otherwise = node.items
        assert isinstance(condition, Scalar)
        return self.resolve(then if self.holds(condition.text, node.line, where) else otherwise, where)

    def _truth(self, node: Node, where: Where) -> Node:
        is_true = self._is_true(node, where)
        return Scalar(node.line, str(is_true).lower(), is_true)

    def _is_true(self, node: Node, where: Where) -> bool:
        """What a condition says."""
        self._spend(1, node, where)
        name = _function_name(node) if isinstance(node, Fields) else None
        if not isinstance(node, Fields) or name not in _TRUTHS:
            raise where.refusal(
                node.line, "is no condition; it takes Fn::Equals, Fn::And, Fn::Or, Fn::Not or Condition"
            )
        given = node.fields[name]
        if name == "Condition":
            return self.holds(given.text if isinstance(given, Scalar) else "", given.line, where)
        if not isinstance(given, Items):
            raise where.refusal(given.line, f"has a {name} of {_kind(given)}; it takes a list")
        if name == "Fn::Equals":
            if len(given.items) != 2:
                raise where.refusal(given.line, "has a Fn::Equals that does not compare two values")
            first, second = (self.resolve(each, where) for each in given.items)
            return _plain(first) == _plain(second)
        if name == "Fn::Not" and len(given.items) != 1:
            raise where.refusal(given.line, "has a Fn::Not that is not [CONDITION]")
        truths = [self._is_true(each, where) for each in given.items]
        return {"Fn::Not": not any(truths), "Fn::And": all(truths), "Fn::Or": any(truths)}[name]

    def _texts(self, node: Node, where: Where) -> list[str]:
        """The texts of a list."""
        found = self.resolve(node, where)
        if not isinstance(found, Items):
            raise where.refusal(node.line, f"must be a list, not {_kind(found)}")
        texts: list[str] = []
        for item in found.items:
            if not isinstance(item, Scalar):
                raise where.refusal(item.line, f"must be a list of texts; {_kind(item)} is in it")
            texts.append(item.text)
        return texts


_TRUTHS: Final = ("Fn::And", "Fn::Equals", "Fn::Not", "Fn::Or", "Condition")


def _function_name(node: Fields) -> str | None:
    """The function that a mapping is; None if it is a mapping."""
    if len(node.fields) != 1:
        return None
    name = next(iter(node.fields))
    if name == "Condition":
        return name if isinstance(node.fields[name], Scalar) else None
    return name if name == "Ref" or name.startswith("Fn::") else None


def is_function(node: Node) -> bool:
    """Whether a node is an intrinsic function."""
    return isinstance(node, Fields) and _function_name(node) is not None


def _why_not(name: str) -> str:
    if name == "Fn::ImportValue":
        return "and there is no other stack here whose exports could be imported"
    if name == "Fn::Transform":
        return "and macros are not run here"
    return "which is not carried out here"


def _kind(node: Node | None) -> str:
    if node is None:
        return "AWS::NoValue"
    return {Scalar: "a value", Items: "a list", Fields: "a mapping"}[type(node)]


def _plain(node: Node | None) -> object:
    """A node without its lines, for comparing."""
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Items):
        return [_plain(item) for item in node.items]
    if isinstance(node, Fields):
        return {key: _plain(value) for key, value in node.fields.items()}
    return None
