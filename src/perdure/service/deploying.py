"""What may be done to a function that is deployed, as pure rules: each takes it as it is and returns it as it is then.

Source: Lambda API 2015-03-31, the operations on functions, versions and aliases.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from perdure.model.error import InvalidParameterValue, PreconditionFailed, ResourceConflict, ResourceNotFound
from perdure.model.function import DRAINING, Alias, Function, FunctionState, FunctionVersion, Host
from perdure.model.ids import LATEST

PUBLISHED: Final = "$LATEST.PUBLISHED"
"""The qualifier of the version that was published last."""
ROUNDING: Final = 1e-9
BEGAN_MS: Final = 1_000
"""How exactly it is known when a worker began: it says how long ago that was, and says it again when it comes back."""


class Stamp(msgspec.Struct, frozen=True):
    """When something is done, and the revision id it makes."""

    now_ms: int
    revision_id: str


class Deployed(msgspec.Struct, frozen=True):
    """A function with its versions, by `$LATEST` or number, and its aliases by name."""

    function: Function
    versions: dict[str, FunctionVersion]
    aliases: dict[str, Alias] = {}

    @property
    def latest(self) -> FunctionVersion:
        return self.versions[LATEST]

    @property
    def published(self) -> list[FunctionVersion]:
        """The numbered versions, lowest first."""
        return sorted((v for v in self.versions.values() if v.version != LATEST), key=lambda v: int(v.version))

    def version(self, qualifier: str | None) -> FunctionVersion | None:
        """The version that a qualifier means, an alias meaning its main one; None if there is none."""
        if qualifier == PUBLISHED:
            return next(reversed(self.published), None)
        alias = self.aliases.get(qualifier or "")
        return self.versions.get(alias.version if alias else qualifier or LATEST)

    def drawn(self, qualifier: str | None, chance: Callable[[], float]) -> FunctionVersion | None:
        """The same, but an alias with weights means one of its versions, by `chance`, a number in [0, 1)."""
        alias = self.aliases.get(qualifier or "")
        if alias is None or not alias.weights:
            return self.version(qualifier)
        point = chance()
        for version, weight in alias.weights.items():
            if point < weight:
                return self.versions.get(version)
            point -= weight
        return self.versions.get(alias.version)

    def runnable(self, version: FunctionVersion) -> FunctionVersion:
        """What an execution stays on that is begun on `version`: code that workers have stands under a number."""
        if version.version != LATEST or version.host is not Host.WORKER:
            return version
        return self.same_code(version) or version

    def same_code(self, version: FunctionVersion) -> FunctionVersion | None:
        """The last numbered version that workers run as they would run `version`; None if there is none."""
        wanted = _of_workers(version)
        return next((v for v in reversed(self.published) if not v.is_deleting and _of_workers(v) == wanted), None)

    def aliases_of(self, version: str) -> list[str]:
        """The names of the aliases that lead to a version."""
        return sorted(a.name for a in self.aliases.values() if version == a.version or version in a.weights)


def created(version: FunctionVersion, tags: Mapping[str, str], stamp: Stamp) -> Deployed:
    """A new function, whose `$LATEST` is `version`."""
    latest = replace(version, version=LATEST, revision_id=stamp.revision_id, modified_ms=stamp.now_ms)
    return Deployed(Function(name=version.function, tags=dict(tags), created_ms=stamp.now_ms), {LATEST: latest})


def updated(
    deployed: Deployed, change: Callable[[FunctionVersion], FunctionVersion], stamp: Stamp, revision_id: str | None
) -> Deployed:
    """`$LATEST` as `change` makes it. Raises PreconditionFailed unless it has the `revision_id`, if one is given."""
    check_not_deleting(deployed.latest)
    _check_revision(revision_id, deployed.latest.revision_id, f"function {deployed.function.name!r}")
    latest = change(deployed.latest).with_state(FunctionState.ACTIVE)
    return _with_version(deployed, replace(latest, revision_id=stamp.revision_id, modified_ms=stamp.now_ms))


def published(
    deployed: Deployed,
    stamp: Stamp,
    *,
    description: str | None = None,
    code_sha256: str | None = None,
    revision_id: str | None = None,
) -> tuple[Deployed, FunctionVersion]:
    """A numbered copy of `$LATEST`; the one published last if nothing has changed since but the description.

    Raises InvalidParameterValue if `code_sha256` is given and is not that of `$LATEST`.
    """
    latest, function = deployed.latest, deployed.function
    check_not_deleting(latest)
    _check_revision(revision_id, latest.revision_id, f"function {function.name!r}")
    if code_sha256 is not None and code_sha256 != latest.code_sha256:
        raise InvalidParameterValue(
            f"the CodeSha256 {code_sha256[:80]!r} is not that of {function.name!r}'s $LATEST, which is "
            f"{latest.code_sha256!r}; read it again, and publish what you mean"
        )
    last = deployed.versions.get(str(function.last_version))
    if last is not None and not last.is_deleting and _content(last) == _content(latest):
        return deployed, last
    number = function.last_version + 1
    version = replace(
        latest,
        version=str(number),
        description=latest.description if description is None else description,
        revision_id=stamp.revision_id,
        modified_ms=stamp.now_ms,
    )
    return _with_version(replace(deployed, function=replace(function, last_version=number)), version), version


def _content(version: FunctionVersion) -> FunctionVersion:
    """What makes one version another than the next."""
    return replace(
        version,
        version=LATEST,
        description="",
        revision_id="",
        modified_ms=0,
        state=FunctionState.ACTIVE,
        state_reason=None,
        state_reason_code=None,
    )


def registered(
    deployed: Deployed | None, version: FunctionVersion, began_ms: int, stamp: Stamp
) -> tuple[Deployed, FunctionVersion]:
    """The function, made if need be, with a numbered version for the code that a worker has, and that version.

    The same code is the same version again. `$LATEST` is that of the worker that began last; this one did `began_ms`.
    Raises ResourceConflict if there is a function of this name whose code does not run in workers.
    """
    if deployed is None:
        deployed = created(version, {}, stamp)
        return published(replace(deployed, function=replace(deployed.function, worker_began_ms=began_ms)), stamp)
    latest, function = deployed.latest, deployed.function
    check_not_deleting(latest)
    if latest.host is not Host.WORKER:
        raise ResourceConflict(
            f"there is a function {function.name!r} which runs in a {latest.host}, not in workers; "
            "give the worker's another name, or delete it"
        )
    wanted = replace(latest, **_of_workers(version), revision_id=stamp.revision_id, modified_ms=stamp.now_ms)
    is_other = began_ms >= function.worker_began_ms and _of_workers(latest) != _of_workers(version)
    if is_other:
        deployed = _with_version(deployed, wanted)
    if is_other or began_ms > function.worker_began_ms + BEGAN_MS:
        function = replace(function, worker_began_ms=began_ms)
        deployed = replace(deployed, function=function)
    found = deployed.same_code(version)
    if found is not None:
        return deployed, found
    number = function.last_version + 1
    made = replace(wanted, version=str(number))
    return _with_version(replace(deployed, function=replace(function, last_version=number)), made), made


def _of_workers(version: FunctionVersion) -> dict[str, Any]:
    """What a worker says of its code."""
    return {
        "host": version.host,
        "durable": version.durable,
        "timeout_s": version.timeout_s,
        "code_sha256": version.code_sha256,
        "code_bytes": version.code_bytes,
    }


def at_endpoint(deployed: Deployed | None, version: FunctionVersion, stamp: Stamp) -> tuple[Deployed, FunctionVersion]:
    """The function, made if need be, with a numbered version for the endpoint of `version`, and that version.

    What has begun at one endpoint goes on there; `$LATEST` is at the one that was named last.
    """
    if deployed is None:
        return published(created(version, {}, stamp), stamp)
    latest, function = deployed.latest, deployed.function
    check_not_deleting(latest)
    wanted = replace(latest, endpoint=version.endpoint, revision_id=stamp.revision_id, modified_ms=stamp.now_ms)
    if latest.endpoint != version.endpoint:
        deployed = _with_version(deployed, wanted)
    for found in reversed(deployed.published):
        if found.endpoint == version.endpoint and not found.is_deleting:
            return deployed, found
    number = function.last_version + 1
    made = replace(wanted, version=str(number))
    return _with_version(replace(deployed, function=replace(function, last_version=number)), made), made


def check_deletable(deployed: Deployed, qualifier: str) -> FunctionVersion:
    """The numbered version that is to be deleted alone; refused if it can't be, or if an alias leads to it."""
    name = deployed.function.name
    if qualifier == LATEST:
        raise InvalidParameterValue(
            f"the $LATEST of {name!r} can't be deleted without the function; leave the qualifier out to delete both"
        )
    if not qualifier.isdigit():
        raise InvalidParameterValue(
            f"a version is deleted by its number, not by {qualifier[:128]!r}; DeleteAlias deletes an alias"
        )
    version = deployed.versions.get(qualifier)
    if version is None:
        raise ResourceNotFound(f"Function not found: {name}:{qualifier}")
    if aliases := deployed.aliases_of(qualifier):
        raise ResourceConflict(
            f"version {qualifier} of {name!r} can't be deleted while aliases lead to it: {', '.join(aliases)}; "
            "point them at another version first"
        )
    return version


def without_version(deployed: Deployed, version: str) -> Deployed:
    """The function without one of its numbered versions, and without what was set for it."""
    versions = {key: value for key, value in deployed.versions.items() if key != version}
    return replace(deployed, versions=versions, function=_without_settings(deployed.function, version))


def deleting(deployed: Deployed, version: str | None = None) -> Deployed:
    """The function, or one of its versions, as it stands until its open executions have ended: it can't be started."""
    versions = {
        key: replace(
            value,
            state=FunctionState.DELETING,
            state_reason="It is deleted as soon as its open durable executions have ended.",
            state_reason_code=DRAINING,
        )
        if version in (None, key)
        else value
        for key, value in deployed.versions.items()
    }
    return replace(deployed, versions=versions)


def with_state(
    deployed: Deployed, version: str, state: FunctionState, reason: str | None, reason_code: str | None
) -> Deployed:
    """The function with another state of one version, unless that is gone or being deleted."""
    found = deployed.versions.get(version)
    if found is None or found.is_deleting:
        return deployed
    return _with_version(deployed, found.with_state(state, reason, reason_code))


def with_alias(deployed: Deployed, alias: Alias, stamp: Stamp) -> tuple[Deployed, Alias]:
    """The function with a new alias, or with another one in the place of the old."""
    check_not_deleting(deployed.latest)
    _check_alias(deployed, alias)
    alias = replace(alias, revision_id=stamp.revision_id)
    return replace(deployed, aliases={**deployed.aliases, alias.name: alias}), alias


def new_alias(deployed: Deployed, alias: Alias, stamp: Stamp) -> tuple[Deployed, Alias]:
    """The function with a new alias; ResourceConflict if the name is taken."""
    if alias.name in deployed.aliases:
        raise ResourceConflict(f"function {alias.function!r} has an alias {alias.name!r} already; UpdateAlias moves it")
    return with_alias(deployed, alias, stamp)


def moved_alias(
    deployed: Deployed, name: str, change: Callable[[Alias], Alias], stamp: Stamp, revision_id: str | None
) -> tuple[Deployed, Alias]:
    """The function with an alias as `change` makes it."""
    alias = alias_of(deployed, name)
    _check_revision(revision_id, alias.revision_id, f"alias {name!r} of function {alias.function!r}")
    return with_alias(deployed, change(alias), stamp)


def alias_of(deployed: Deployed, name: str) -> Alias:
    """An alias of the function; ResourceNotFound if it has none of this name."""
    alias = deployed.aliases.get(name)
    if alias is None:
        raise ResourceNotFound(f"function {deployed.function.name!r} has no alias {name[:128]!r}")
    return alias


def without_alias(deployed: Deployed, name: str) -> Deployed:
    """The function without an alias, and without what was set for it."""
    aliases = {key: value for key, value in deployed.aliases.items() if key != alias_of(deployed, name).name}
    return replace(deployed, aliases=aliases, function=_without_settings(deployed.function, name))


def check_not_deleting(version: FunctionVersion) -> None:
    """ResourceConflict if the version is being deleted."""
    if version.is_deleting:
        what = f"function {version.function!r}" if version.version == LATEST else f"version {version.target!r}"
        raise ResourceConflict(f"{what} is being deleted: it waits for its open durable executions to end")


def _check_alias(deployed: Deployed, alias: Alias) -> None:
    """InvalidParameterValue unless the alias has a name that is no number, versions that exist, and fair shares."""
    if alias.name.isdigit() or not alias.name:
        raise InvalidParameterValue(f"an alias can't be called {alias.name!r}: a number is a version")
    for version in (alias.version, *alias.weights):
        found = deployed.versions.get(version)
        if found is None:
            raise ResourceNotFound(f"Function not found: {alias.function}:{version}")
        check_not_deleting(found)
    if not alias.weights:
        return
    if alias.version == LATEST or LATEST in alias.weights:
        raise InvalidParameterValue("$LATEST can't share an alias with other versions; publish it first")
    if alias.version in alias.weights:
        raise InvalidParameterValue(
            f"version {alias.version} is the alias's own; AdditionalVersionWeights names the other ones"
        )
    if not all(0 <= weight <= 1 for weight in alias.weights.values()):
        raise InvalidParameterValue("the weight of a version must be from 0.0 to 1.0")
    if sum(alias.weights.values()) > 1 + ROUNDING:
        raise InvalidParameterValue(
            f"the weights of other versions sum to {sum(alias.weights.values()):g}; together they are at most 1.0"
        )


def _check_revision(given: str | None, found: str, what: str) -> None:
    if given is not None and given != found:
        raise PreconditionFailed(
            f"the RevisionId {given[:80]!r} is not that of {what}, which has changed since it was read; read it again"
        )


def _with_version(deployed: Deployed, version: FunctionVersion) -> Deployed:
    return replace(deployed, versions={**deployed.versions, version.version: version})


def _without_settings(function: Function, qualifier: str) -> Function:
    return replace(
        function,
        event_invokes={key: value for key, value in function.event_invokes.items() if key != qualifier},
        policies={key: value for key, value in function.policies.items() if key != qualifier},
    )
