"""A function as a resource of a template describes it.

Source: SAM specification, AWS::Serverless::Function and the Globals section; CloudFormation, AWS::Lambda::Function.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from perdure.model.execution import EXECUTION_TIMEOUT_S_MAX, DurableConfig
from perdure.model.function import FunctionVersion, Host
from perdure.model.ids import FUNCTION_NAME
from perdure.sam.document import Fields, Items, Node, Scalar
from perdure.sam.intrinsics import Resolver, is_function
from perdure.sam.trouble import Where
from perdure.sam.values import as_written, fields_of, kind_of, plain, tags_of, text_of, texts_of, whole_of

SERVERLESS: Final = "AWS::Serverless::Function"
TIMEOUT_S_MAX: Final = 5400
MEMORY_MB_MAX: Final = 32_768
CONCURRENCY_MAX: Final = 1_000_000
_USED: Final = frozenset(
    {
        "Architectures",
        "AutoPublishAlias",
        "Code",
        "CodeUri",
        "Description",
        "DurableConfig",
        "Environment",
        "FunctionName",
        "Handler",
        "ImageUri",
        "InlineCode",
        "LoggingConfig",
        "MemorySize",
        "PackageType",
        "Policies",
        "ReservedConcurrentExecutions",
        "Role",
        "Runtime",
        "Tags",
        "TenancyConfig",
        "Timeout",
    }
)


class TemplateFunction(msgspec.Struct, frozen=True, kw_only=True):
    """A function that a template deploys. `version` is its `$LATEST`, without the code.

    The code is what lies in `code`, a folder or a zip file, or the one text `inline`. `alias` is SAM's
    AutoPublishAlias: a new version is published under it with every change. `is_published` says that a version is.
    `policies` are as they stand there, as JSON; nothing is made of them.
    """

    logical_id: str
    line: int
    version: FunctionVersion
    code: Path | None = None
    inline: str | None = None
    alias: str | None = None
    is_published: bool = False
    tags: Mapping[str, str] = {}
    concurrency: int | None = None
    policies: str | None = None

    @property
    def name(self) -> str:
        return self.version.function


class Elsewhere(Exception):
    """The function's code is not on this machine, or is none that can be run from a folder; the text says where."""


def merged(globals_: Node, own: Node) -> Node:
    """What a resource says over what holds for all: mappings are merged, lists are added, all else is replaced."""
    if is_function(globals_) or is_function(own):
        return own
    if isinstance(globals_, Fields) and isinstance(own, Fields):
        fields = dict(globals_.fields)
        for name, node in own.fields.items():
            fields[name] = merged(fields[name], node) if name in fields else node
        return Fields(own.line, fields)
    if isinstance(globals_, Items) and isinstance(own, Items):
        return Items(own.line, globals_.items + own.items)
    return own


class Properties:
    """The properties of one resource, resolved when they are asked for."""

    def __init__(self, fields: Mapping[str, Node], line: int, resolver: Resolver, where: Where) -> None:
        self._fields = fields
        self._resolver = resolver
        self._resolved: dict[str, Node | None] = {}
        self.line = line
        self.where = where

    def get(self, name: str) -> Node | None:
        """A property; None if it is not given, or is AWS::NoValue."""
        if name not in self._resolved:
            node = self._fields.get(name)
            self._resolved[name] = self._resolver.resolve(node, self.where.at(name)) if node is not None else None
        return self._resolved[name]

    def text(self, name: str) -> str | None:
        node = self.get(name)
        return text_of(node, self.where.at(name)) if node is not None else None

    def needed(self, name: str, example: str) -> str:
        text = self.text(name)
        if not text:
            raise self.where.refusal(self.line, f"has no {name}", f"write {name}: {example}")
        return text

    def whole(self, name: str, low: int, high: int, unit: str, default: int) -> int:
        node = self.get(name)
        return whole_of(node, self.where.at(name), low, high, unit) if node is not None else default

    @property
    def unused(self) -> list[str]:
        """The properties that mean nothing here."""
        return sorted(self._fields.keys() - _USED)


def function_name(properties: Properties, logical_id: str) -> str:
    """The name of a function: FunctionName, or the logical id."""
    name = properties.text("FunctionName")
    if name is None:
        return logical_id[:64]
    node = properties.get("FunctionName")
    assert node is not None
    if not FUNCTION_NAME.fullmatch(name):
        where = properties.where.at("FunctionName")
        raise where.refusal(
            node.line, f"must be 1 to 64 of the characters a-z, A-Z, 0-9, '-' and '_', not {name[:80]!r}"
        )
    return name


def read_function(
    logical_id: str, name: str, properties: Properties, folder: Path, *, is_serverless: bool
) -> TemplateFunction:
    """The function that a resource describes; `folder` is that of the template.

    Raises TemplateError, and Elsewhere if its code can't be had.
    """
    code, inline = _code(properties, folder, is_serverless=is_serverless)
    runtime = properties.needed("Runtime", "python3.13")
    provided = {"Handler": "bootstrap"} if runtime.startswith("provided") else {}
    handler = properties.text("Handler") or provided.get("Handler") or properties.needed("Handler", "app.handler")
    version = FunctionVersion(
        function=name,
        host=Host.MANAGED,
        durable=_durable(properties),
        runtime=runtime,
        handler=handler,
        timeout_s=properties.whole("Timeout", 1, TIMEOUT_S_MAX, "seconds", 3),
        memory_mb=properties.whole("MemorySize", 128, MEMORY_MB_MAX, "megabytes", 128),
        environment=_environment(properties),
        role=_role(properties),
        description=properties.text("Description") or "",
        log_format=_log_format(properties),
        is_tenant_isolated=properties.get("TenancyConfig") is not None,
        more=_more(properties),
    )
    tags = properties.get("Tags")
    policies = properties.get("Policies")
    return TemplateFunction(
        logical_id=logical_id,
        line=properties.line,
        version=version,
        code=code,
        inline=inline,
        alias=properties.text("AutoPublishAlias") if is_serverless else None,
        is_published=is_serverless and properties.get("AutoPublishAlias") is not None,
        tags=tags_of(tags, properties.where.at("Tags")) if tags is not None else {},
        concurrency=_concurrency(properties),
        policies=as_written(policies) if policies is not None else None,
    )


def _code(properties: Properties, folder: Path, *, is_serverless: bool) -> tuple[Path | None, str | None]:
    """The folder or the zip file of the code, or its text."""
    if properties.get("ImageUri") is not None or properties.text("PackageType") == "Image":
        raise Elsewhere("it is a container image, and those are not run here")
    if is_serverless and (inline := properties.text("InlineCode")) is not None:
        return None, inline
    name = "CodeUri" if is_serverless else "Code"
    node = properties.get(name)
    where = properties.where.at(name)
    if node is None and not is_serverless:
        raise properties.where.refusal(properties.line, "has no Code", "write Code: FOLDER, or Code: {ZipFile: TEXT}")
    if isinstance(node, Fields):
        if "ZipFile" in node.fields:
            return None, text_of(node.fields["ZipFile"], where.at("ZipFile"))
        if "ImageUri" in node.fields:
            raise Elsewhere("it is a container image, and those are not run here")
        raise Elsewhere(f"its {name} is in S3; name a folder beside the template")
    text = text_of(node, where) if node is not None else "."
    if text.startswith(("s3://", "https://")):
        raise Elsewhere(f"its {name} is at {text}; name a folder beside the template")
    line = node.line if node is not None else properties.line
    try:
        place = (folder / text).resolve()
        is_there = place.is_dir() or place.is_file()
    except (OSError, ValueError):
        is_there = False
        place = folder
    if not is_there:
        raise where.refusal(line, f"names {text[:200]!r}, and there is no such folder or zip file beside the template")
    return place, None


def _durable(properties: Properties) -> DurableConfig | None:
    node = properties.get("DurableConfig")
    if node is None:
        return None
    where = properties.where.at("DurableConfig")
    fields = fields_of(node, where)
    for name in fields:
        if name not in ("ExecutionTimeout", "RetentionPeriodInDays", "KMSKeyArn"):
            raise where.refusal(fields[name].line, f"has {name!r}; it takes ExecutionTimeout and RetentionPeriodInDays")
    timeout, retention = fields.get("ExecutionTimeout"), fields.get("RetentionPeriodInDays")
    if timeout is None:
        raise where.refusal(node.line, "has no ExecutionTimeout", "write ExecutionTimeout: 3600, in seconds")
    return DurableConfig(
        whole_of(timeout, where.at("ExecutionTimeout"), 1, EXECUTION_TIMEOUT_S_MAX, "seconds"),
        whole_of(retention, where.at("RetentionPeriodInDays"), 1, 90, "days") if retention is not None else 14,
    )


def _environment(properties: Properties) -> dict[str, str]:
    node = properties.get("Environment")
    if node is None:
        return {}
    where = properties.where.at("Environment")
    fields = fields_of(node, where)
    unknown = [name for name in fields if name != "Variables"]
    if unknown:
        raise where.refusal(
            fields[unknown[0]].line, f"has {unknown[0][:80]!r}", "the variables stand beneath Variables"
        )
    variables = fields.get("Variables")
    return texts_of(variables, where.at("Variables")) if variables is not None else {}


def _role(properties: Properties) -> str:
    node = properties.get("Role")
    return as_written(node) if node is not None else ""


def _log_format(properties: Properties) -> str:
    node = properties.get("LoggingConfig")
    found = node.fields.get("LogFormat") if isinstance(node, Fields) else None
    if found is None:
        return "Text"
    if not isinstance(found, Scalar) or found.text not in ("Text", "JSON"):
        where = properties.where.at("LoggingConfig", "LogFormat")
        raise where.refusal(found.line, f"must be Text or JSON, not {kind_of(found)}")
    return found.text


def _concurrency(properties: Properties) -> int | None:
    name = "ReservedConcurrentExecutions"
    node = properties.get(name)
    return None if node is None else whole_of(node, properties.where.at(name), 0, CONCURRENCY_MAX, "invocations")


def _more(properties: Properties) -> dict[str, Any]:
    found = {name: properties.get(name) for name in ("Architectures", "LoggingConfig")}
    return {name: plain(node) for name, node in found.items() if node is not None}
