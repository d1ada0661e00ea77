"""What the names in a template stand for: its parameters, its mappings, its conditions, its resources.

Source: CloudFormation User Guide, pseudo parameters and parameters; SAM, referencing generated resources.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Final

from perdure.model.ids import LATEST, Home
from perdure.sam.document import Fields, Items, Node, Scalar, text_node
from perdure.sam.trouble import Where

PARAMETER_CHARS_MAX: Final = 4_096
"""Source: CloudFormation quotas, parameter values."""
NO_VALUE: Final = "AWS::NoValue"
FUNCTION_TYPES: Final = ("AWS::Serverless::Function", "AWS::Lambda::Function")
VERSION_TYPE: Final = "AWS::Lambda::Version"
ALIAS_TYPE: Final = "AWS::Lambda::Alias"
_LISTS: Final = ("CommaDelimitedList", "List<Number>", "List<String>")

FunctionName = Callable[[str], str]


def section(template: Fields, name: str, where: Where) -> dict[str, Node]:
    """A section of the template; empty if it is not there."""
    found = template.fields.get(name)
    if found is None or (isinstance(found, Scalar) and found.value is None):
        return {}
    if not isinstance(found, Fields):
        raise where.at(name).refusal(found.line, "must be a mapping")
    return found.fields


def parameter_values(template: Fields, overrides: Mapping[str, str], where: Where) -> dict[str, Node]:
    """The values of a template's parameters: what `overrides` says, or their defaults.

    Raises TemplateError for a parameter without either, for a value that is not allowed, and for an override of a
    parameter that there is not.
    """
    declared = section(template, "Parameters", where)
    place = where.at("Parameters")
    for name in overrides:
        if name not in declared:
            known = ", ".join(sorted(declared)) or "none"
            raise place.refusal(1, f"has no {name[:80]!r}; it has: {known}", "name one that the template declares")
    return {name: _parameter(node, overrides.get(name), place.at(name)) for name, node in declared.items()}


def _parameter(node: Node, given: str | None, where: Where) -> Node:
    if not isinstance(node, Fields):
        raise where.refusal(node.line, "must be a mapping with a Type")
    default = node.fields.get("Default")
    if given is not None:
        found = text_node(node.line, given)
    elif isinstance(default, Scalar):
        found = default
    elif default is not None:
        raise where.at("Default").refusal(default.line, "must be a text or a number")
    else:
        raise where.refusal(
            node.line,
            "has no Default and was given no value",
            f"give one: --parameter-overrides {where.path[-1]}=VALUE",
        )
    if len(found.text) > PARAMETER_CHARS_MAX:
        raise where.refusal(node.line, f"must have at most {PARAMETER_CHARS_MAX} characters, not {len(found.text)}")
    allowed = node.fields.get("AllowedValues")
    if isinstance(allowed, Items):
        words = [each.text for each in allowed.items if isinstance(each, Scalar)]
        if found.text not in words:
            raise where.refusal(node.line, f"must be one of {', '.join(words)}, not {found.text[:80]!r}")
    kind = node.fields.get("Type")
    if isinstance(kind, Scalar) and kind.text in _LISTS:
        parts = [part.strip() for part in found.text.split(",")] if found.text else []
        return Items(node.line, tuple(text_node(node.line, part) for part in parts))
    return found


class Symbols:
    """The names of one template. `name_of` gives the name of a function by its logical id."""

    def __init__(self, template: Fields, parameters: Mapping[str, Node], home: Home, stack: str, where: Where) -> None:
        self._home = home
        self._parameters = dict(parameters)
        self._pseudo = {
            "AWS::AccountId": home.account,
            "AWS::Partition": home.partition,
            "AWS::Region": home.region,
            "AWS::StackId": f"arn:{home.partition}:cloudformation:{home.region}:{home.account}:stack/{stack}/local",
            "AWS::StackName": stack,
            "AWS::URLSuffix": "amazonaws.com",
        }
        self.types = {
            name: kind
            for name, node in section(template, "Resources", where).items()
            if (kind := _type_of(node)) is not None
        }
        self.mappings = section(template, "Mappings", where)
        self.conditions = section(template, "Conditions", where)
        self.name_of: FunctionName = lambda logical_id: logical_id
        self.alias_of: Callable[[str], str | None] = lambda _logical_id: None
        self.target_of: Callable[[str], tuple[str, str] | None] = lambda _logical_id: None
        self.stand_ins: dict[str, None] = {}

    def is_function(self, logical_id: str) -> bool:
        return self.types.get(logical_id) in FUNCTION_TYPES

    def parameter(self, name: str) -> Node | None:
        return self._parameters.get(name)

    def reference(self, name: str, line: int, where: Where) -> Node | None:
        """What `Ref` of a name is; None for AWS::NoValue.

        Resources that nothing is made of here are stood in for by their logical ids, which are kept in `stand_ins`.
        """
        if name == NO_VALUE:
            return None
        if name in self._parameters:
            return self._parameters[name]
        if name in self._pseudo:
            return text_node(line, self._pseudo[name])
        if name == "AWS::NotificationARNs":
            return Items(line, ())
        if self.is_function(name):
            return text_node(line, self.name_of(name))
        kind = self.types.get(name)
        if kind in (VERSION_TYPE, ALIAS_TYPE):
            return text_node(line, self._qualified(name))
        if kind is not None:
            return self._stand_in(name, f"Ref {name}", line)
        logical_id, _, part = name.partition(".")
        if part in ("Alias", "Version") and self.is_function(logical_id):
            alias = self.alias_of(logical_id) or LATEST
            return text_node(line, self._home.function_arn(self.name_of(logical_id), alias))
        raise where.refusal(
            line, f"refers to {name[:120]!r}, which is neither a parameter nor a resource", self._near(name)
        )

    def attribute(self, logical_id: str, name: str, line: int, where: Where) -> Node:
        """What `Fn::GetAtt` of a resource is."""
        kind = self.types.get(logical_id)
        if kind is None:
            raise where.refusal(
                line, f"refers to {logical_id[:120]!r}, which is no resource of the template", self._near(logical_id)
            )
        if self.is_function(logical_id):
            if name == "Arn":
                return text_node(line, self._home.function_arn(self.name_of(logical_id)))
            if name == "Version.Version":
                return text_node(line, self.alias_of(logical_id) or LATEST)
            raise where.refusal(line, f"asks for {name[:80]!r} of the function {logical_id}, which has 'Arn' alone")
        if kind in (VERSION_TYPE, ALIAS_TYPE):
            return text_node(line, self._qualified(logical_id) if name.endswith("Arn") else LATEST)
        return self._stand_in(f"{logical_id}.{name}", f"GetAtt {logical_id}.{name}", line)

    def _qualified(self, logical_id: str) -> str:
        """The ARN of a version or an alias; `$LATEST` stands in for a number that nobody knows yet."""
        found = self.target_of(logical_id)
        if found is None:
            return logical_id
        function, qualifier = found
        return self._home.function_arn(function, qualifier)

    def _stand_in(self, text: str, said: str, line: int) -> Scalar:
        self.stand_ins[said] = None
        return text_node(line, text)

    def _near(self, name: str) -> str:
        known = [*self._parameters, *self.types, *self._pseudo]
        found = get_close_matches(name, known, 1)
        return f"did you mean {found[0]!r}?" if found else "declare it in the template"


def _type_of(node: Node) -> str | None:
    kind = node.fields.get("Type") if isinstance(node, Fields) else None
    return kind.text if isinstance(kind, Scalar) else None
