"""Versions and aliases of functions.

Source: Lambda API 2015-03-31.
"""

from typing import Final

from msgspec.structs import replace

from perdure.api.backing import Backing
from perdure.api.configurations import written
from perdure.api.functions import is_behind
from perdure.api.naming import after_of, limit_of, page, unqualified
from perdure.api.request import Handler, Request
from perdure.model.error import InvalidParameterValue
from perdure.model.function import Alias
from perdure.model.ids import Home
from perdure.wire.table import Json


def publish(backing: Backing, request: Request) -> Json:
    given = request.parameters
    if "PublishTo" in given:
        raise InvalidParameterValue("PublishTo is for capacity providers, and this server has none")
    version = backing.registry.publish(
        unqualified(backing, given),
        description=given.get("Description"),
        code_sha256=given.get("CodeSha256"),
        revision_id=given.get("RevisionId"),
    )
    return written(version, backing.home)


def list_versions(backing: Backing, request: Request) -> Json:
    given = request.parameters
    after, limit = after_of(given), limit_of(given)
    versions = backing.registry.versions(unqualified(backing, given))
    found = [version for version in versions if is_behind(version.version, after)]
    answer = page("Versions", found, limit, lambda version: version.version)
    answer["Versions"] = [written(version, backing.home, version.version) for version in answer["Versions"]]
    return answer


def create_alias(backing: Backing, request: Request) -> Json:
    given = request.parameters
    alias = Alias(
        function=unqualified(backing, given),
        name=given["Name"],
        version=given["FunctionVersion"],
        weights=_weights(given) or {},
        description=given.get("Description", ""),
    )
    return _written(backing.registry.create_alias(alias), backing.home)


def get_alias(backing: Backing, request: Request) -> Json:
    given = request.parameters
    return _written(backing.registry.alias(unqualified(backing, given), given["Name"]), backing.home)


def update_alias(backing: Backing, request: Request) -> Json:
    """What the request does not name stays; an empty RoutingConfig takes the other versions away."""
    given = request.parameters
    weights = _weights(given)

    def change(alias: Alias) -> Alias:
        return replace(
            alias,
            version=given.get("FunctionVersion", alias.version),
            description=given.get("Description", alias.description),
            weights=alias.weights if weights is None else weights,
        )

    name = unqualified(backing, given)
    alias = backing.registry.update_alias(name, given["Name"], change, revision_id=given.get("RevisionId"))
    return _written(alias, backing.home)


def delete_alias(backing: Backing, request: Request) -> Json:
    given = request.parameters
    backing.registry.delete_alias(unqualified(backing, given), given["Name"])
    return {}


def list_aliases(backing: Backing, request: Request) -> Json:
    """By name; with a FunctionVersion those that lead to it, if only by a weight."""
    given = request.parameters
    after, version = after_of(given) or "", given.get("FunctionVersion")
    found = [
        alias
        for alias in backing.registry.aliases(unqualified(backing, given))
        if alias.name > after and (version is None or version == alias.version or version in alias.weights)
    ]
    answer = page("Aliases", found, limit_of(given), lambda alias: alias.name)
    answer["Aliases"] = [_written(alias, backing.home) for alias in answer["Aliases"]]
    return answer


def _weights(given: Json) -> dict[str, float] | None:
    """The shares of other versions; None if the request says nothing of them."""
    config = given.get("RoutingConfig")
    weights = config.get("AdditionalVersionWeights", {}) if config is not None else None
    return {version: float(weight) for version, weight in weights.items()} if weights is not None else None


def _written(alias: Alias, home: Home) -> Json:
    answer: Json = {
        "AliasArn": home.function_arn(alias.function, alias.name),
        "Name": alias.name,
        "FunctionVersion": alias.version,
        "Description": alias.description,
        "RevisionId": alias.revision_id,
    }
    if alias.weights:
        answer["RoutingConfig"] = {"AdditionalVersionWeights": alias.weights}
    return answer


OPERATIONS: Final[dict[str, Handler]] = {
    "CreateAlias": create_alias,
    "DeleteAlias": delete_alias,
    "GetAlias": get_alias,
    "ListAliases": list_aliases,
    "ListVersionsByFunction": list_versions,
    "PublishVersion": publish,
    "UpdateAlias": update_alias,
}
