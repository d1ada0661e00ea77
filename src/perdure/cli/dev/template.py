"""The functions of a SAM template, in the managed runtimes of the node."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from perdure.cli.dev import checks
from perdure.cli.dev.live import Live
from perdure.cli.dev.source import Shown, State
from perdure.model.error import InvalidParameterValue, ResourceConflict, ResourceNotFound, ServiceError
from perdure.model.function import Alias, FunctionVersion
from perdure.model.ids import LATEST, Home
from perdure.runtimes import packages
from perdure.runtimes.interpreters import Interpreters, is_known
from perdure.runtimes.packing import built_by_sam, pack, pack_texts, state_of
from perdure.sam.functions import TemplateFunction
from perdure.sam.template import LeftOut, Template, TemplateAlias, read_template
from perdure.server.node import Node
from perdure.service.registry import Registry

Files = Mapping[str, tuple[int, int]]


class _Deployed(msgspec.Struct):
    """A function as it was deployed last: what it was, where its code lay, and what the files there looked like."""

    function: TemplateFunction
    place: Path | None
    files: Files


class TemplateSource:
    """The functions of one template file. `overrides` are values of its parameters."""

    def __init__(self, path: Path, overrides: Mapping[str, str], home: Home) -> None:
        self._path = path
        self._overrides = overrides
        self._home = home
        self._template = self._read()
        self._deployed: dict[str, _Deployed] = {}
        self._followed: set[str] = set()
        self._packages: dict[Path, bytes] = {}
        self._interpreters = Interpreters()

    @property
    def title(self) -> str:
        return str(self._path)

    def handlers(self) -> Mapping[str, Callable[..., Any]]:
        """None: a template's functions run in processes of their own."""
        return {}

    def shown(self) -> list[Shown]:
        aliases = {alias.function: alias.name for alias in reversed(self._template.aliases)}
        found: list[Shown] = []
        for each in self._runnable():
            version = each.version
            is_durable = version.durable is not None
            qualifier = aliases.get(each.name, LATEST if is_durable else None)
            found.append(Shown(each.name, str(version.runtime), qualifier, is_durable))
        return found

    def _read(self) -> Template:
        return read_template(self._path, overrides=self._overrides, home=self._home)

    def _runnable(self) -> list[TemplateFunction]:
        return [each for each in self._template.functions if is_known(each.version.runtime or "")]

    # --- deploying -----------------------------------------------------------------------------------------------

    def deploy(self, node: Node, live: Live) -> None:
        runnable = self._runnable()
        if not runnable:
            left = ", ".join(f"{each.logical_id} ({each.why or each.type})" for each in self._left_out())
            raise InvalidParameterValue(
                f"{self._path} has no functions that could be run here", hint=f"left out: {left}" if left else None
            )
        for function in runnable:
            place, is_old = self._place_of(function)
            if is_old:
                live.happened(
                    f"[{function.name}] what `sam build` made is older than the source, which is used", "yellow"
                )
            if place is not None and place.is_dir():
                self._warn_of_broken(function, place, live)
            self._deploy_one(node, function, place)
            self._follow(node, function.name, live)
        self._packages.clear()
        self._lead_aliases(node, live, is_first=True)
        self._tell_notes(live)

    def _left_out(self) -> list[LeftOut]:
        return [
            *self._template.left_out,
            *(
                LeftOut(each.logical_id, "AWS::Lambda::Function", f"runtime {each.version.runtime} is not run here")
                for each in self._template.functions
                if not is_known(each.version.runtime or "")
            ),
        ]

    def _tell_notes(self, live: Live) -> None:
        left_out = self._left_out()
        if left_out:
            names = ", ".join(f"{each.logical_id} ({each.why or each.type})" for each in left_out)
            live.happened(f"left out: {names}", "yellow")
        for note in self._template.notes:
            live.happened(note, "yellow")

    def _place_of(self, function: TemplateFunction) -> tuple[Path | None, bool]:
        """Where the code of a function is, and whether there is an older build of it."""
        if function.code is None:
            return None, False
        built = built_by_sam(self._path, function.logical_id, function.code)
        if built is None:
            return function.code, False
        folder, is_newer = built
        return (folder, False) if is_newer else (function.code, True)

    def _warn_of_broken(self, function: TemplateFunction, place: Path, live: Live) -> None:
        runtime, handler = function.version.runtime or "", function.version.handler or ""
        trouble = checks.missing_handler(runtime, handler, place)
        if trouble is not None:
            live.trouble(f"[{function.name}] {trouble}")

    def _deploy_one(self, node: Node, function: TemplateFunction, place: Path | None) -> bool:
        """Have a function in the registry as it is now; False if it was so already."""
        files = state_of(place) if place is not None else {}
        package = self._packed(place) if place is not None else pack_texts(_inline(function))
        has_changed = _put(node.registry, function, package)
        self._deployed[function.name] = _Deployed(function, place, files)
        return has_changed

    def _packed(self, place: Path) -> bytes:
        """The package of a folder or a file, which several functions may have in common."""
        if place not in self._packages:
            self._packages[place] = pack(place)
            if place.is_file():
                packages.check(self._packages[place])
        return self._packages[place]

    def _lead_aliases(self, node: Node, live: Live, *, is_first: bool = False) -> None:
        """Publish what is to be published, and lead the aliases there."""
        runnable = {each.name: each for each in self._runnable()}
        for name, function in runnable.items():
            if function.is_published:
                node.registry.publish(name)
        for alias in self._template.aliases:
            if alias.function not in runnable:
                continue
            try:
                version = _lead(node.registry, alias)
            except ServiceError as error:
                live.trouble(f"the alias {alias.function}:{alias.name} stays as it is: {error.message}")
                continue
            if version is not None and not is_first:
                live.happened(f"{alias.function}:{alias.name} leads to version {version}", "cyan")

    # --- what changes --------------------------------------------------------------------------------------------

    def look(self) -> State:
        state: dict[str, object] = {"": _stamp(self._path)}
        seen: dict[Path, Files] = {}
        for name, deployed in self._deployed.items():
            place = deployed.place
            if deployed.function.code is not None:
                place, _ = self._place_of(deployed.function)
            if place is not None and place not in seen:
                seen[place] = state_of(place)
            state[name] = (place, seen[place]) if place is not None else None
        return state

    def renew(self, node: Node, live: Live) -> None:
        if not self._reread(live):
            return
        for function in self._runnable():
            try:
                self._renew_one(node, function, live)
            except ServiceError as error:
                live.trouble(f"[{function.name}] {error.message}; the code before it runs on")
        self._packages.clear()
        self._lead_aliases(node, live)

    def _reread(self, live: Live) -> bool:
        """Read the template again; False if it can't be."""
        try:
            template = self._read()
        except InvalidParameterValue as error:
            live.trouble(f"{error.message}; what was deployed runs on")
            return False
        before, self._template = self._template, template
        gone = {each.name for each in before.functions} - {each.name for each in template.functions}
        for name in sorted(gone):
            self._deployed.pop(name, None)
            live.happened(f"[{name}] is not in the template any more; it stays deployed", "yellow")
        if template != before:
            self._tell_notes(live)
        return True

    def _renew_one(self, node: Node, function: TemplateFunction, live: Live) -> None:
        known = self._deployed.get(function.name)
        place, _ = self._place_of(function)
        files = state_of(place) if place is not None else {}
        if known is not None and known.function == function and known.place == place and known.files == files:
            return
        if known is not None and place is not None and place.is_dir():
            changed = [name for name, state in files.items() if known.files.get(name) != state]
            error = checks.first_error(self._interpreters, function.version.runtime or "", place, changed)
            if error is not None:
                self._deployed[function.name] = _Deployed(function, place, files)
                live.trouble(f"[{function.name}] {error}; the code before it runs on")
                return
        if self._deploy_one(node, function, place):
            stays = "stay on their versions" if function.is_published else "go on with it"
            live.happened(f"[{function.name}] is new; open executions {stays}", "cyan")
        self._follow(node, function.name, live)

    def _follow(self, node: Node, name: str, live: Live) -> None:
        if name not in self._followed:
            self._followed.add(name)
            node.logs.follow(name, live.follower(name))


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _inline(function: TemplateFunction) -> dict[str, str]:
    """The one file of code that stands in the template."""
    suffix = "js" if (function.version.runtime or "").startswith("nodejs") else "py"
    return {f"index.{suffix}": function.inline or ""}


def _put(registry: Registry, function: TemplateFunction, package: bytes) -> bool:
    """Have `$LATEST` of a function as the template says it; False if it is so already."""
    name = function.name
    code = hashlib.sha256(package).hexdigest()
    found = registry.find(name, LATEST)
    if found is not None and found.code_key == code and _as_in_template(found) == function.version:
        has_changed = False
    elif found is None:
        registry.create(function.version, code=registry.put_code(package), tags=function.tags)
        has_changed = True
    else:
        registry.update_code(name, registry.put_code(package), lambda _before: function.version)
        has_changed = True
    known = registry.function(name)
    if known.tags != function.tags or known.concurrency != function.concurrency:
        registry.update_function(
            name, lambda before: replace(before, tags=dict(function.tags), concurrency=function.concurrency)
        )
    return has_changed


def _as_in_template(found: FunctionVersion) -> FunctionVersion:
    """A version without what the registry has made of it."""
    blank = FunctionVersion(function=found.function)
    return replace(
        found,
        code_sha256=blank.code_sha256,
        code_bytes=blank.code_bytes,
        modified_ms=blank.modified_ms,
        revision_id=blank.revision_id,
        state=blank.state,
        state_reason=None,
        state_reason_code=None,
    )


def _lead(registry: Registry, alias: TemplateAlias) -> str | None:
    """Have an alias lead where the template says; the version if it did not yet.

    What it led to before goes once it is unused, unless it was published otherwise than under this alias.
    """
    function = alias.function
    target = alias.version or str(registry.function(function).last_version)
    wanted = Alias(
        function=function, name=alias.name, version=target, weights=dict(alias.weights), description=alias.description
    )
    try:
        before = registry.alias(function, alias.name)
    except ResourceNotFound:
        registry.create_alias(wanted)
        return target
    if replace(before, revision_id="") == wanted:
        return None
    registry.update_alias(function, alias.name, lambda _before: wanted)
    if alias.version is None and before.version not in (target, LATEST):
        try:
            registry.delete(function, before.version)
        except (ResourceConflict, ResourceNotFound):
            pass  # another alias leads there, or it has gone already
    return target
