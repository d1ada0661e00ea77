"""Functions: made, read, changed, deleted and listed.

Source: Lambda API 2015-03-31.
"""

import base64
import hashlib
from collections.abc import Iterator
from itertools import islice
from typing import Final
from urllib.parse import quote

from perdure.api.backing import Backing
from perdure.api.configurations import changed, check_runnable, written
from perdure.api.naming import after_of, limit_of, page, qualified, unqualified
from perdure.api.request import Handler, Request
from perdure.api.tags import check_tags
from perdure.model.error import InvalidParameterValue, PreconditionFailed, ResourceNotFound
from perdure.model.function import FunctionVersion, Host
from perdure.model.ids import LATEST, FunctionReference
from perdure.wire.table import Json

_NO_IMAGES: Final = "this server runs deployment packages, not container images"
_NO_S3: Final = "this server reads no S3 buckets"
_SEND_ZIP: Final = "send the package itself as ZipFile (aws lambda … --zip-file fileb://package.zip)"


def create(backing: Backing, request: Request) -> Json:
    given = request.parameters
    if FunctionReference.parse(given["FunctionName"]).qualifier is not None:
        raise InvalidParameterValue(f"a function can't be made with a qualifier in its name: {given['FunctionName']}")
    name = unqualified(backing, given)
    if given.get("PackageType") == "Image" or "ImageConfig" in given:
        raise InvalidParameterValue(_NO_IMAGES, hint="leave PackageType out, and send a ZipFile")
    if "CodeSigningConfigArn" in given:
        raise InvalidParameterValue("this server checks no signatures of code", hint="leave CodeSigningConfigArn out")
    _check_publish_to(given)
    check_tags(given.get("Tags", {}))
    version = changed(FunctionVersion(function=name, host=Host.MANAGED), given)
    check_runnable(version, backing.runtimes)
    code = backing.registry.put_code(_package(backing, given["Code"]))
    made = backing.registry.create(version, code=code, tags=given.get("Tags"), is_published=given.get("Publish", False))
    return written(made, backing.home)


def _package(backing: Backing, code: Json) -> bytes:
    """The deployment package of a request, checked."""
    if "ImageUri" in code:
        raise InvalidParameterValue(_NO_IMAGES, hint=_SEND_ZIP)
    if any(name.startswith("S3") for name in code):
        raise InvalidParameterValue(_NO_S3, hint=_SEND_ZIP)
    package = code.get("ZipFile")
    if not isinstance(package, bytes) or not package:
        raise InvalidParameterValue("ZipFile is missing: the deployment package", hint=_SEND_ZIP)
    backing.check_package(package)
    return package


def _check_publish_to(given: Json) -> None:
    if "PublishTo" in given:
        raise InvalidParameterValue(
            "PublishTo is for capacity providers, and this server has none", hint="Publish makes a numbered version"
        )


def get(backing: Backing, request: Request) -> Json:
    name, qualifier = qualified(backing, request.parameters)
    version = backing.registry.get(name, qualifier)
    function = backing.registry.function(name)
    answer: Json = {"Configuration": written(version, backing.home, qualifier), "Code": _code_of(backing, version)}
    if qualifier is None and function.tags:
        answer["Tags"] = function.tags
    if function.concurrency is not None:
        answer["Concurrency"] = {"ReservedConcurrentExecutions": function.concurrency}
    return answer


def _code_of(backing: Backing, version: FunctionVersion) -> Json:
    """Where the package can be fetched: at a route of this server."""
    if not version.code_sha256:
        return {}
    path = f"/perdure/code/{quote(version.function)}/{quote(version.version, safe='')}"
    return {"RepositoryType": "Perdure", "Location": f"{backing.base_url}{path}"}


def get_configuration(backing: Backing, request: Request) -> Json:
    name, qualifier = qualified(backing, request.parameters)
    return written(backing.registry.get(name, qualifier), backing.home, qualifier)


def update_configuration(backing: Backing, request: Request) -> Json:
    given = request.parameters
    if "ImageConfig" in given:
        raise InvalidParameterValue(_NO_IMAGES)

    def change(version: FunctionVersion) -> FunctionVersion:
        after = changed(version, given)
        if "Runtime" in given and version.host is Host.MANAGED:
            check_runnable(after, backing.runtimes)
        return after

    name = unqualified(backing, given)
    made = backing.registry.update_configuration(name, change, revision_id=given.get("RevisionId"))
    return written(made, backing.home)


def update_code(backing: Backing, request: Request) -> Json:
    given = request.parameters
    registry = backing.registry
    _check_publish_to(given)
    name = unqualified(backing, given)
    latest = registry.get(name)
    if latest.host is not Host.MANAGED:
        raise InvalidParameterValue(
            f"the code of {name!r} does not come from a package: it runs in a {latest.host}",
            hint="restart that with the new code, or make a function with another name",
        )
    package = _package(backing, given)
    if given.get("DryRun"):
        return _tried(backing, latest, package, given)
    made = registry.update_code(
        name,
        registry.put_code(package),
        lambda version: changed(version, _architectures(given)),
        revision_id=given.get("RevisionId"),
        is_published=given.get("Publish", False),
    )
    return written(made, backing.home)


def _tried(backing: Backing, latest: FunctionVersion, package: bytes, given: Json) -> Json:
    """What the function would be with the package; nothing is kept."""
    if given.get("RevisionId") not in (None, latest.revision_id):
        raise PreconditionFailed(f"the RevisionId is not that of function {latest.function!r}", hint="read it again")
    answer = written(changed(latest, _architectures(given)), backing.home)
    answer["CodeSha256"] = base64.b64encode(hashlib.sha256(package).digest()).decode()
    answer["CodeSize"] = len(package)
    return answer


def _architectures(given: Json) -> Json:
    return {"Architectures": given["Architectures"]} if "Architectures" in given else {}


def delete(backing: Backing, request: Request) -> Json:
    """200 if it is gone; 202 if it waits for its open executions in the state Deleting."""
    name, qualifier = qualified(backing, request.parameters)
    return {"StatusCode": 200 if backing.registry.delete(name, qualifier) else 202}


def list_all(backing: Backing, request: Request) -> Json:
    """By name; with FunctionVersion ALL each with all its versions, `$LATEST` first."""
    given = request.parameters
    limit = limit_of(given)
    every = _all_versions if given.get("FunctionVersion") == "ALL" else _latest_versions
    found = list(islice(every(backing, after_of(given)), limit + 1))
    return page("Functions", found, limit, _key_of)


def _key_of(configuration: Json) -> str:
    return f"{configuration['FunctionName']}:{configuration['Version']}"


def _latest_versions(backing: Backing, after: str | None) -> Iterator[Json]:
    for deployed in backing.registry.functions(after.partition(":")[0] if after else None):
        yield written(deployed.latest, backing.home)


def _all_versions(backing: Backing, after: str | None) -> Iterator[Json]:
    name, _, version = (after or "").partition(":")
    if name:
        yield from _versions_of(backing, name, version)
    for deployed in backing.registry.functions(name or None):
        yield from (written(one, backing.home, one.version) for one in (deployed.latest, *deployed.published))


def _versions_of(backing: Backing, name: str, after: str) -> Iterator[Json]:
    """The versions of one function behind `after`, which need not exist any more."""
    try:
        versions = backing.registry.versions(name)
    except ResourceNotFound:
        return
    for version in versions:
        if is_behind(version.version, after):
            yield written(version, backing.home, version.version)


def is_behind(version: str, after: str | None) -> bool:
    """Whether a version comes after another in lists: `$LATEST`, then the numbers."""
    return after is None or _place(version) > _place(after)


def _place(version: str) -> int:
    if version == LATEST:
        return 0
    if not version.isascii() or not version.isdigit() or len(version) > 18:
        raise InvalidParameterValue("Marker must be one that an answer gave")
    return int(version)


OPERATIONS: Final[dict[str, Handler]] = {
    "CreateFunction": create,
    "DeleteFunction": delete,
    "GetFunction": get,
    "GetFunctionConfiguration": get_configuration,
    "ListFunctions": list_all,
    "UpdateFunctionCode": update_code,
    "UpdateFunctionConfiguration": update_configuration,
}
