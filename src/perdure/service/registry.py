"""The functions that are deployed: made, changed, published, found and deleted, by whichever process."""

import base64
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from msgspec.structs import replace

from perdure.engine.commands import Target
from perdure.model.error import ErrorObject, InvalidParameterValue, ResourceConflict, ResourceNotFound
from perdure.model.execution import OPEN
from perdure.model.function import Alias, Function, FunctionState, FunctionVersion
from perdure.model.ids import FUNCTION_NAME, LATEST, FunctionReference, Home, check
from perdure.model.operation import OperationUpdate
from perdure.service import deploying
from perdure.service.clock import Clock
from perdure.service.deploying import Deployed, Stamp
from perdure.service.functions import chained_reference, refused_target, unknown_target
from perdure.service.packages import Packages
from perdure.service.shelf import Kept, Shelf
from perdure.store.protocol import Change, Query, Store

UNQUALIFIED: Final = "You cannot invoke a durable function using an unqualified ARN."

R = TypeVar("R")


class Registry:
    """Safe to use from any thread, and beside other processes that use the same store.

    What several records say is changed in one transaction. Reading costs one small question to the store (4 µs in
    SQLite) as long as no function has changed. `chance` gives numbers in [0, 1), which choose among the versions of an
    alias with weights. With `takes_unqualified` a chained invoke of a durable function may leave its version out.
    """

    def __init__(
        self, store: Store, home: Home, clock: Clock, chance: Callable[[], float], *, takes_unqualified: bool = False
    ) -> None:
        self.home = home
        self._takes_unqualified = takes_unqualified
        self._store = store
        self._clock = clock
        self._chance = chance
        self._shelf = Shelf(store)
        self._packages = Packages(store, clock)

    # --- what the service asks -----------------------------------------------------------------------------------

    @property
    def names(self) -> None:
        """Executions of all functions are moved on, of deleted ones, too: these can only end."""
        return

    def serves(self, function: str) -> bool:
        return True

    def durable(self, name: str, version: str | None = None) -> FunctionVersion:
        """The version that a new execution runs on; `version` is `$LATEST` or a number.

        Raises ResourceNotFound, ResourceConflict if it is being deleted, and InvalidParameterValue if it is not durable
        or not named.
        """
        deployed = self.deployed(name, version)
        found = deployed.runnable(self._found(name, version, deployed.version(version)))
        if found.durable is None:
            raise InvalidParameterValue(f"function {found.target!r} is not durable", hint="give it a DurableConfig")
        if version is None:
            raise InvalidParameterValue(UNQUALIFIED)
        deploying.check_not_deleting(found)
        return found

    def chained(self, update: OperationUpdate) -> Target:
        """What a chained invoke points at; a target that can't be invoked carries the error of the Lambda API."""
        reference = chained_reference(update, self.home)
        try:
            found = self.resolve(reference)
        except ResourceNotFound:
            return unknown_target(reference, self.home)
        except ResourceConflict as error:
            return refused_target(reference, ErrorObject(error.message, error.code))
        if found.durable is not None and reference.qualifier is None and not self._takes_unqualified:
            return refused_target(reference, ErrorObject(UNQUALIFIED, InvalidParameterValue.code))
        return Target(found.function, found.version, found.durable)

    # --- finding -------------------------------------------------------------------------------------------------

    def find(self, name: str, version: str) -> FunctionVersion | None:
        """The version an execution runs on, `$LATEST` or a number; None if there is none. Being deleted it is there."""
        kept = self._shelf.read(name)
        return kept.deployed.versions.get(version) if kept is not None else None

    def is_gone(self, name: str, version: str) -> bool:
        """Whether a version was deleted. What was never deployed is not gone: its code may run elsewhere one day."""
        kept = self._shelf.read(name)
        return version not in kept.deployed.versions if kept is not None else self._shelf.was_removed(name)

    def get(self, name: str, qualifier: str | None = None) -> FunctionVersion:
        """The version that `qualifier` means: a number, an alias (its main version), `$LATEST`, or None for it."""
        return self._found(name, qualifier, self.deployed(name, qualifier).version(qualifier))

    def resolve(self, reference: FunctionReference, qualifier: str | None = None) -> FunctionVersion:
        """The version that is to be invoked; among the versions of an alias with weights, chance decides.

        For the `$LATEST` of code in workers it is the numbered version that this is now.

        Raises InvalidParameterValue if both `reference` and `qualifier` name a version and not the same, and
        ResourceConflict if it is being deleted.
        """
        qualifier = agreed(reference, qualifier)
        name = self.name_of(reference)
        deployed = self.deployed(name, qualifier)
        found = deployed.runnable(self._found(name, qualifier, deployed.drawn(qualifier, self._chance)))
        deploying.check_not_deleting(found)
        return found

    def name_of(self, reference: FunctionReference) -> str:
        """The name in a reference; ResourceNotFound if it is to a function of another account or region."""
        home = self.home
        if reference.account in (None, home.account) and reference.region in (None, home.region):
            return reference.name
        elsewhere = Home(home.partition, reference.region or home.region, reference.account or home.account)
        raise ResourceNotFound(
            f"Function not found: {elsewhere.function_arn(reference.name, reference.qualifier)}",
            hint=f"the functions of this server are those of {home.function_arn('*')}",
        )

    def deployed(self, name: str, qualifier: str | None = None) -> Deployed:
        """A function with all that belongs to it; `qualifier` is only for the error's text."""
        return self._kept(name, qualifier).deployed

    def function(self, name: str) -> Function:
        """What belongs to a function and not to a version; ResourceNotFound if there is none."""
        return self.deployed(name).function

    def alias(self, name: str, alias: str) -> Alias:
        """One alias of a function; ResourceNotFound if it has none of this name."""
        return deploying.alias_of(self.deployed(name), alias)

    def functions(self, after: str | None = None) -> Iterator[Deployed]:
        """All functions behind the name `after`, by their names."""
        for name in self._shelf.names(after):
            kept = self._shelf.read(name)
            if kept is not None:
                yield kept.deployed

    def versions(self, name: str) -> list[FunctionVersion]:
        """`$LATEST`, and the numbered versions, lowest first."""
        deployed = self.deployed(name)
        return [deployed.latest, *deployed.published]

    def aliases(self, name: str) -> list[Alias]:
        """The aliases of a function, by their names."""
        return [alias for _name, alias in sorted(self.deployed(name).aliases.items())]

    def _kept(self, name: str, qualifier: str | None = None) -> Kept:
        kept = self._shelf.read(name)
        if kept is None:
            raise self._not_found(name, qualifier)
        return kept

    def _found(self, name: str, qualifier: str | None, version: FunctionVersion | None) -> FunctionVersion:
        if version is None:
            raise self._not_found(name, qualifier)
        return version

    def _not_found(self, name: str, qualifier: str | None) -> ResourceNotFound:
        return ResourceNotFound(f"Function not found: {self.home.function_arn(name, qualifier)}")

    # --- functions -----------------------------------------------------------------------------------------------

    def put_code(self, code: bytes) -> str:
        """Keep a deployment package; return its key, the SHA-256 in hex digits. Unused, it goes after an hour."""
        return self._packages.put(code)

    def code(self, key: str) -> bytes:
        """A deployment package by its key; ResourceNotFound if there is none."""
        return self._packages.read(key)

    def code_bytes(self) -> int:
        """What all deployment packages take together."""
        return self._packages.total_bytes()

    def create(
        self,
        version: FunctionVersion,
        *,
        code: str | None = None,
        tags: Mapping[str, str] | None = None,
        is_published: bool = False,
    ) -> FunctionVersion:
        """Make a function, whose `$LATEST` is `version` with the package under the key `code`, if it has one.

        Returns `$LATEST`, or version 1 if it is published at once. Raises ResourceConflict if the name is taken.
        """
        name = check(FUNCTION_NAME, version.function, "a function's name", "1 to 64 of a-z, A-Z, 0-9, '-' and '_'")
        while True:
            if self._shelf.read(name) is not None:
                raise ResourceConflict(f"Function already exist: {name}")
            found, also = self._with_code(version, code)
            deployed = deploying.created(found, tags or {}, self._stamp())
            made = deployed.latest
            if is_published:
                deployed, made = deploying.published(deployed, self._stamp())
            if self._shelf.write(None, deployed, also):
                return made

    def register(self, version: FunctionVersion, began_ms: int) -> FunctionVersion:
        """Have a numbered version for the code that a worker has, which began at `began_ms`; return that version.

        The function is made if there is none. The same code is the same version again, and `$LATEST` that of the worker
        that began last. Raises ResourceConflict if there is a function of this name which does not run in workers.
        """
        return self._place(version, lambda before: deploying.registered(before, version, began_ms, self._stamp()))

    def register_endpoint(self, version: FunctionVersion) -> FunctionVersion:
        """Have a numbered version for a function at an endpoint, and return it; the same endpoint is the same version.

        The function is made if there is none. Raises ResourceConflict if it is being deleted.
        """
        return self._place(version, lambda before: deploying.at_endpoint(before, version, self._stamp()))

    def _place(
        self, version: FunctionVersion, decide: Callable[[Deployed | None], tuple[Deployed, FunctionVersion]]
    ) -> FunctionVersion:
        """Have a version as `decide` makes it, of a function that there may be or not."""
        name = check(FUNCTION_NAME, version.function, "a function's name", "1 to 64 of a-z, A-Z, 0-9, '-' and '_'")
        while True:
            kept = self._shelf.read(name)
            before = kept.deployed if kept is not None else None
            deployed, made = decide(before)
            if deployed is before or self._shelf.write(kept, deployed):
                return made

    def update_configuration(
        self, name: str, change: Callable[[FunctionVersion], FunctionVersion], *, revision_id: str | None = None
    ) -> FunctionVersion:
        """Have `$LATEST` be as `change` makes it, which may be called more than once. Numbered versions stay.

        Raises PreconditionFailed if `revision_id` is given and is not that of `$LATEST`.
        """

        def decide(deployed: Deployed) -> tuple[Deployed, FunctionVersion]:
            after = deploying.updated(deployed, change, self._stamp(), revision_id)
            return after, after.latest

        return self._alter(name, decide)

    def update_code(
        self,
        name: str,
        code: str,
        change: Callable[[FunctionVersion], FunctionVersion] = lambda version: version,
        *,
        revision_id: str | None = None,
        is_published: bool = False,
    ) -> FunctionVersion:
        """Give `$LATEST` the package under the key `code`, and what else `change` makes of it.

        Returns `$LATEST`, or the new version if it is published at once.
        """
        while True:
            kept = self._kept(name)
            also: Sequence[Change] = ()

            def with_code(version: FunctionVersion) -> FunctionVersion:
                nonlocal also
                found, also = self._with_code(change(version), code)
                return found

            deployed = deploying.updated(kept.deployed, with_code, self._stamp(), revision_id)
            made = deployed.latest
            if is_published:
                deployed, made = deploying.published(deployed, self._stamp())
            if self._shelf.write(kept, deployed, also):
                return made

    def _with_code(self, version: FunctionVersion, code: str | None) -> tuple[FunctionVersion, Sequence[Change]]:
        if code is None:
            return version, ()
        code_bytes, used = self._packages.use(code)
        code_sha256 = base64.b64encode(bytes.fromhex(code)).decode()
        return replace(version, code_sha256=code_sha256, code_bytes=code_bytes), (used,)

    def publish(
        self,
        name: str,
        *,
        description: str | None = None,
        code_sha256: str | None = None,
        revision_id: str | None = None,
    ) -> FunctionVersion:
        """A numbered copy of `$LATEST` that nothing changes any more; the last one if nothing has changed since.

        Raises InvalidParameterValue if `code_sha256` (base64) is given and is not that of `$LATEST`.
        """
        return self._alter(
            name,
            lambda deployed: deploying.published(
                deployed, self._stamp(), description=description, code_sha256=code_sha256, revision_id=revision_id
            ),
        )

    def delete(self, name: str, qualifier: str | None = None) -> bool:
        """Delete a function, or one of its numbered versions.

        What has open executions can't be started any more, and goes with a `sweep` after they have ended: then the
        answer is False. Raises ResourceConflict if an alias leads to the version.
        """

        def decide(deployed: Deployed) -> tuple[Deployed | None, bool]:
            version = None if qualifier is None else deploying.check_deletable(deployed, qualifier).version
            if self._has_open(name, version):
                return deploying.deleting(deployed, version), False
            return None if version is None else deploying.without_version(deployed, version), True

        return self._alter(name, decide, qualifier)

    def set_state(
        self, name: str, version: str, state: FunctionState, reason: str | None = None, reason_code: str | None = None
    ) -> None:
        """Say whether a version can be invoked, and why not. One that is gone or being deleted stays so."""
        self._alter(name, lambda deployed: (deploying.with_state(deployed, version, state, reason, reason_code), None))

    def update_function(self, name: str, change: Callable[[Function], Function]) -> Function:
        """Have what belongs to no version (tags, concurrency, policies, …) be as `change` makes it; return it."""

        def decide(deployed: Deployed) -> tuple[Deployed, Function]:
            function = change(deployed.function)
            return replace(deployed, function=function), function

        return self._alter(name, decide)

    # --- aliases -------------------------------------------------------------------------------------------------

    def create_alias(self, alias: Alias) -> Alias:
        """Make an alias; ResourceConflict if the function has one of this name."""
        return self._alter(alias.function, lambda deployed: deploying.new_alias(deployed, alias, self._stamp()))

    def update_alias(
        self, name: str, alias: str, change: Callable[[Alias], Alias], *, revision_id: str | None = None
    ) -> Alias:
        """Have an alias be as `change` makes it. What runs already stays on its version."""
        return self._alter(
            name, lambda deployed: deploying.moved_alias(deployed, alias, change, self._stamp(), revision_id)
        )

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias; ResourceNotFound if the function has none of this name."""
        self._alter(name, lambda deployed: (deploying.without_alias(deployed, alias), None))

    # --- time ----------------------------------------------------------------------------------------------------

    def sweep(self) -> int:
        """Remove what was to be deleted and has no open executions any more, and packages that nothing uses.

        Returns how many functions and versions went.
        """
        gone = 0
        in_use: set[str] = set()
        for deployed in self.functions():
            in_use.update(key for version in deployed.versions.values() if (key := version.code_key) is not None)
            name = deployed.function.name
            if deployed.latest.is_deleting:
                gone += self._sweep_one(name, None)
                continue
            for version in deployed.published:
                if version.is_deleting:
                    gone += self._sweep_one(name, version.version)
        self._packages.sweep(in_use)
        return gone

    def _sweep_one(self, name: str, version: str | None) -> int:
        if self._has_open(name, version):
            return 0

        def decide(deployed: Deployed) -> tuple[Deployed | None, int]:
            found = deployed.versions.get(version or LATEST)
            if found is None or not found.is_deleting:
                return deployed, 0
            return None if version is None else deploying.without_version(deployed, version), 1

        try:
            return self._alter(name, decide)
        except ResourceNotFound:
            return 0

    # --- the ways to do it ---------------------------------------------------------------------------------------

    def _has_open(self, name: str, version: str | None) -> bool:
        query = Query(
            now_ms=self._clock.now_ms(), function=name, version=version, statuses=OPEN, is_oldest_first=True, limit=1
        )
        return bool(self._store.search(query).rows)

    def _alter(
        self, name: str, decide: Callable[[Deployed], tuple[Deployed | None, R]], qualifier: str | None = None
    ) -> R:
        """Make of a function what `decide` says, again and again until nobody else has changed it meanwhile."""
        while True:
            kept = self._kept(name, qualifier)
            after, answer = decide(kept.deployed)
            if after is kept.deployed or self._shelf.write(kept, after):
                return answer

    def _stamp(self) -> Stamp:
        return Stamp(self._clock.now_ms(), str(uuid.uuid4()))


def agreed(reference: FunctionReference, qualifier: str | None) -> str | None:
    """The qualifier of a reference and of a request; InvalidParameterValue if both are given and differ."""
    if qualifier is None or reference.qualifier in (None, qualifier):
        return qualifier or reference.qualifier
    raise InvalidParameterValue(
        f"the function's name says the qualifier {reference.qualifier!r}, the request says {qualifier[:128]!r}; "
        "give one, or the same twice"
    )
