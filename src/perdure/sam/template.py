"""Which functions, versions and aliases a SAM or CloudFormation template deploys, and what of it is left out.

Source: SAM specification; CloudFormation, AWS::Lambda::Function, Version and Alias.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec.structs import replace

from perdure.model.error import InvalidParameterValue
from perdure.model.ids import LATEST, FunctionReference, Home
from perdure.sam.document import BYTES_MAX, Fields, Items, Node, Scalar, read
from perdure.sam.functions import (
    SERVERLESS,
    Elsewhere,
    Properties,
    TemplateFunction,
    function_name,
    merged,
    read_function,
)
from perdure.sam.intrinsics import Resolver
from perdure.sam.symbols import ALIAS_TYPE, VERSION_TYPE, Symbols, parameter_values, section
from perdure.sam.trouble import TemplateError, Where
from perdure.sam.values import fields_of, text_of

SECTIONS: Final = frozenset(
    {
        "AWSTemplateFormatVersion",
        "Conditions",
        "Description",
        "Globals",
        "Hooks",
        "Mappings",
        "Metadata",
        "Outputs",
        "Parameters",
        "Resources",
        "Rules",
        "Transform",
    }
)
STACK: Final = "local"
T = TypeVar("T")


class TemplateAlias(msgspec.Struct, frozen=True, kw_only=True):
    """An alias. `version` is a number or `$LATEST`; None for the version that is published of this template.

    `weights` are the shares of other versions, by their numbers.
    """

    function: str
    name: str
    version: str | None = None
    description: str = ""
    weights: Mapping[str, float] = {}


class LeftOut(msgspec.Struct, frozen=True):
    """A resource that nothing is made of here, and why if that is not its type alone."""

    logical_id: str
    type: str
    why: str = ""


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """What a template deploys. `notes` are one line each: what of it has no meaning here."""

    path: Path
    functions: tuple[TemplateFunction, ...] = ()
    aliases: tuple[TemplateAlias, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


def read_template(
    path: Path, *, overrides: Mapping[str, str] | None = None, home: Home | None = None, stack: str = STACK
) -> Template:
    """Read a template file. `overrides` are values of parameters; `home` and `stack` are what pseudo parameters say.

    Raises TemplateError, which names the file, the line, the resource and the property.
    """
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise TemplateError(f"it can't be read: {error.strerror}", file=str(path), line=1) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TemplateError("this is no UTF-8 text", file=path.name, line=line) from None
    try:
        return _Reading(path, read(text, path.name), overrides or {}, home or Home(), stack).template()
    except RecursionError:
        raise TemplateError("its functions refer to each other too deeply", file=path.name, line=1) from None


class _Reading:
    """One template while it is read."""

    def __init__(self, path: Path, tree: Fields, overrides: Mapping[str, str], home: Home, stack: str) -> None:
        self._path = path
        self._where = where = Where(path.name)
        for name, node in tree.fields.items():
            if name not in SECTIONS:
                near = get_close_matches(name, SECTIONS, 1)
                hint = f"did you mean {near[0]}?" if near else "a template's functions stand beneath Resources"
                raise where.refusal(node.line, f"a template has no section {name[:80]!r}", hint)
        self._resources = section(tree, "Resources", where)
        if not self._resources:
            raise where.refusal(
                1, "the template has no Resources", "functions stand there: Type: AWS::Serverless::Function"
            )
        globals_ = section(tree, "Globals", where).get("Function")
        self._globals = globals_ if isinstance(globals_, Fields) else Fields(1, {})
        self._symbols = Symbols(tree, parameter_values(tree, overrides, where), home, stack, where)
        self._resolver = Resolver(self._symbols)
        self._symbols.name_of = self._once(self._name)
        self._symbols.alias_of = self._once(self._auto_alias)
        self._symbols.target_of = self._once(self._target)
        self._properties: dict[str, Properties] = {}
        self._notes: list[str] = []
        self._left_out: list[LeftOut] = []

    def template(self) -> Template:
        functions: dict[str, TemplateFunction] = {}
        published: set[str] = set()
        aliases: list[TemplateAlias] = []
        for logical_id, node in self._resources.items():
            kind = self._symbols.types.get(logical_id)
            if kind is None:
                raise self._place(logical_id).refusal(node.line, "has no Type", "write Type: AWS::Serverless::Function")
            if not self._is_wanted(logical_id, node, kind):
                continue
            if self._symbols.is_function(logical_id):
                self._function(logical_id, kind, functions)
            elif kind == VERSION_TYPE:
                published.add(self._function_of(logical_id))
            elif kind == ALIAS_TYPE:
                aliases.append(self._alias(logical_id))
            else:
                self._left_out.append(LeftOut(logical_id, kind))
        aliases += [
            TemplateAlias(function=each.name, name=each.alias) for each in functions.values() if each.alias is not None
        ]
        published |= {alias.function for alias in aliases if alias.version is None}
        return Template(
            path=self._path,
            functions=tuple(
                replace(each, is_published=each.is_published or each.name in published) for each in functions.values()
            ),
            aliases=tuple(aliases),
            left_out=tuple(self._left_out),
            notes=(*self._notes, *map(_stood_in, self._symbols.stand_ins)),
        )

    def _is_wanted(self, logical_id: str, node: Node, kind: str) -> bool:
        """Whether the condition of a resource holds, if it has one."""
        where = self._place(logical_id)
        condition = node.fields.get("Condition") if isinstance(node, Fields) else None
        if condition is None:
            return True
        name = text_of(condition, where.at("Condition"))
        if self._resolver.holds(name, condition.line, where.at("Condition")):
            return True
        self._left_out.append(LeftOut(logical_id, kind, f"its condition {name!r} is false"))
        return False

    # --- functions -----------------------------------------------------------------------------------------------

    def _function(self, logical_id: str, kind: str, functions: dict[str, TemplateFunction]) -> None:
        properties = self._properties_of(logical_id)
        name = self._symbols.name_of(logical_id)
        if name in functions:
            raise properties.where.refusal(
                properties.line, f"is called {name!r}, as {functions[name].logical_id} is", "give each its FunctionName"
            )
        try:
            functions[name] = read_function(
                logical_id, name, properties, self._path.parent, is_serverless=kind == SERVERLESS
            )
        except Elsewhere as why:
            self._left_out.append(LeftOut(logical_id, kind, str(why)))
            return
        if unused := properties.unused:
            self._notes.append(f"{logical_id}: {', '.join(unused)} {_have(unused)} no meaning here")
        resource = self._resources[logical_id]
        metadata = resource.fields.get("Metadata") if isinstance(resource, Fields) else None
        if isinstance(metadata, Fields) and "BuildMethod" in metadata.fields:
            self._notes.append(f"{logical_id}: nothing is built here; `sam build` follows its BuildMethod")

    def _properties_of(self, logical_id: str) -> Properties:
        """The properties of a resource, over those that hold for all if it is a function of SAM's."""
        if logical_id not in self._properties:
            resource = self._resources[logical_id]
            where = self._place(logical_id).at("Properties")
            own = resource.fields.get("Properties") if isinstance(resource, Fields) else None
            node: Node = own if own is not None else Fields(resource.line, {})
            if self._symbols.types[logical_id] == SERVERLESS:
                node = merged(self._globals, node)
            self._properties[logical_id] = Properties(fields_of(node, where), resource.line, self._resolver, where)
        return self._properties[logical_id]

    def _place(self, logical_id: str) -> Where:
        return self._where.at("Resources", logical_id)

    def _once(self, find: Callable[[str], T]) -> Callable[[str], T]:
        """`find` with a memory; what depends on itself is refused."""
        known: dict[str, T] = {}
        under_way: set[str] = set()

        def found(logical_id: str) -> T:
            if logical_id not in known:
                if logical_id in under_way:
                    raise self._place(logical_id).refusal(
                        self._resources[logical_id].line, "has a name that refers to itself"
                    )
                under_way.add(logical_id)
                known[logical_id] = find(logical_id)
                under_way.discard(logical_id)
            return known[logical_id]

        return found

    def _name(self, logical_id: str) -> str:
        return function_name(self._properties_of(logical_id), logical_id)

    def _auto_alias(self, logical_id: str) -> str | None:
        return self._properties_of(logical_id).text("AutoPublishAlias")

    # --- versions and aliases ------------------------------------------------------------------------------------

    def _function_of(self, logical_id: str) -> str:
        """The name of the function that a version or an alias is of."""
        properties = self._properties_of(logical_id)
        text = properties.needed("FunctionName", "!Ref FUNCTION")
        try:
            return FunctionReference.parse(text).name
        except InvalidParameterValue:
            message = f"must be a function's name or its ARN, not {text[:80]!r}"
            raise properties.where.at("FunctionName").refusal(properties.line, message) from None

    def _target(self, logical_id: str) -> tuple[str, str] | None:
        """The function and the qualifier that a version or an alias stands for."""
        name = self._function_of(logical_id)
        if self._symbols.types[logical_id] == ALIAS_TYPE:
            return name, self._properties_of(logical_id).needed("Name", "live")
        return name, LATEST

    def _alias(self, logical_id: str) -> TemplateAlias:
        properties = self._properties_of(logical_id)
        version: str | None = None
        if not self._is_of_version(logical_id):
            version = properties.needed("FunctionVersion", "!GetAtt VERSION.Version")
        return TemplateAlias(
            function=self._function_of(logical_id),
            name=properties.needed("Name", "live"),
            version=version,
            description=properties.text("Description") or "",
            weights=self._weights(logical_id, properties),
        )

    def _is_of_version(self, logical_id: str) -> bool:
        """Whether an alias is for a version that the template publishes, and whose number is not known yet."""
        resource = self._resources[logical_id]
        own = resource.fields.get("Properties") if isinstance(resource, Fields) else None
        node = own.fields.get("FunctionVersion") if isinstance(own, Fields) else None
        asked = node.fields.get("Fn::GetAtt") if isinstance(node, Fields) else None
        if isinstance(asked, Items):
            return bool(asked.items) and isinstance(first := asked.items[0], Scalar) and self._publishes(first.text)
        return isinstance(asked, Scalar) and self._publishes(asked.text.partition(".")[0])

    def _publishes(self, logical_id: str) -> bool:
        return self._symbols.types.get(logical_id) == VERSION_TYPE or self._symbols.is_function(logical_id)

    def _weights(self, logical_id: str, properties: Properties) -> dict[str, float]:
        routing = properties.get("RoutingConfig")
        where = properties.where.at("RoutingConfig")
        listed = fields_of(routing, where).get("AdditionalVersionWeights") if routing is not None else None
        weights: dict[str, float] = {}
        for item in listed.items if isinstance(listed, Items) else ():
            pair = fields_of(item, where)
            version, weight = pair.get("FunctionVersion"), pair.get("FunctionWeight")
            share = weight.value if isinstance(weight, Scalar) else None
            if (
                not isinstance(version, Scalar)
                or isinstance(share, (str, bool))
                or share is None
                or not 0 <= share <= 1
            ):
                raise where.refusal(item.line, "must have a FunctionVersion and a FunctionWeight from 0.0 to 1.0")
            weights[version.text] = float(share)
        return weights


def _have(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _stood_in(said: str) -> str:
    return f"!{said}: there is no such resource here; its own name stands in for it"
