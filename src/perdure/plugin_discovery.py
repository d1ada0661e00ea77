"""Which plugins a durable function has: those that its decorator names, and those of the environment.

`PERDURE_PLUGINS` names entry points of the group `perdure.plugins`, in their order and separated by commas;
`DURABLE_EXECUTION_PLUGINS` those of `aws_durable_execution.plugins`, as the official SDK does.
"""

import inspect
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, Final, Protocol, cast

import msgspec

from perdure.exceptions import PluginLoadError
from perdure.plugin import DurableInstrumentationPlugin, DurableInstrumentationPluginFactory, InvocationStartInfo
from perdure.sdk.plugins import PLUGIN_VARIABLES

GROUPS: Final = dict(zip(PLUGIN_VARIABLES, ("aws_durable_execution.plugins", "perdure.plugins"), strict=True))
PluginLike = DurableInstrumentationPluginFactory | DurableInstrumentationPlugin | type[DurableInstrumentationPlugin]
"""What may be registered."""

log: Final = logging.getLogger("perdure")

REGISTRATION_API: Final = 1
"""A factory's class whose `__durable_registration_api__` is this may declare a group and hear of the result."""


def load_configured_plugins(
    explicit_plugins: Sequence[PluginLike] | None, *, environment: Mapping[str, str] | None = None
) -> list[DurableInstrumentationPluginFactory]:
    """The factories in the order in which their plugins are told: the explicit ones, then those of the environment.

    An element of `explicit_plugins` is a factory, or a plugin or its class, for which a factory is made. Raises
    PluginLoadError if one is something else, can't be found or loaded, or excludes another one. Factories that want to
    hear of it (`on_registration_result`) are told in either case.
    """
    found: list[_Found] = []
    is_registered = False
    try:
        for index, plugin in enumerate(explicit_plugins or ()):
            found.append(_explicit(plugin, f"plugins[{index}]"))
        for variable, group in GROUPS.items():
            names = _names(variable, (os.environ if environment is None else environment).get(variable, ""))
            if names:
                installed = list(metadata.entry_points(group=group))
                found.extend(_loaded(name, variable, group, installed) for name in names)
        _check_groups([each.kind for each in found])
        is_registered = True
    finally:
        _tell(found, is_registered=is_registered)
    return [cast(DurableInstrumentationPluginFactory, each.factory) for each in found]


class _Found(msgspec.Struct, frozen=True):
    """A factory, what was registered for it, and the class that says which others it excludes."""

    factory: Any
    given: Any
    kind: type


class _MakesPlugin(Protocol):
    def __call__(self, info: InvocationStartInfo, /) -> DurableInstrumentationPlugin: ...


class _Wrapped:
    """The factory for what was registered as a plugin or as a plugin's class."""

    def __init__(self, make: _MakesPlugin) -> None:
        self._make = make

    def create_plugin(self, info: InvocationStartInfo, /) -> DurableInstrumentationPlugin:
        return self._make(info)


def _explicit(plugin: Any, where: str) -> _Found:
    if isinstance(plugin, DurableInstrumentationPlugin):
        return _Found(_Wrapped(lambda info: plugin), plugin, type(plugin))
    if isinstance(plugin, type) and issubclass(plugin, DurableInstrumentationPlugin):
        make = plugin if _takes(plugin, 1) and not _takes(plugin, 0) else lambda info: plugin()
        return _Found(_Wrapped(cast(_MakesPlugin, make)), plugin, plugin)
    return _factory(plugin, where)


def _factory(value: Any, where: str) -> _Found:
    create = getattr(value, "create_plugin", None)
    is_unbound = isinstance(value, type) and inspect.isfunction(inspect.getattr_static(value, "create_plugin", None))
    if not callable(create) or is_unbound or not _takes(create, 1):
        raise PluginLoadError(
            f"{where} must be a plugin factory, an object with create_plugin(info) that gives a plugin; it is "
            f"{_described(value)}" + (": give an instance of it" if is_unbound else "")
        )
    return _Found(value, value, value if isinstance(value, type) else type(value))


def _takes(function: Any, count: int) -> bool:
    """Whether a call with so many positional arguments fits."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # a built-in that does not tell
        return True
    return True


def _described(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__module__}.{value.__qualname__}"
    if inspect.isroutine(value):
        return f"the function {value.__module__}.{value.__qualname__}"
    return f"{type(value).__name__} {value!r}"


# --- the environment ---------------------------------------------------------------------------------------------


def _names(variable: str, text: str) -> list[str]:
    if not text.strip():
        return []
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise PluginLoadError(f"{variable} must be names of plugins, separated by commas, not {text!r}")
    for name in names:
        if names.count(name) > 1:
            raise PluginLoadError(f"{variable} names the plugin {name!r} more than once")
    return names


def _loaded(name: str, variable: str, group: str, installed: Sequence[metadata.EntryPoint]) -> _Found:
    points = [point for point in installed if point.name == name]
    if not points:
        known = ", ".join(sorted({point.name for point in installed})) or "none"
        raise PluginLoadError(
            f"{variable} names the plugin {name!r}, which no installed package offers in the entry-point group "
            f"{group!r} (installed: {known}); install its package where the function runs"
        )
    if len(points) > 1:
        packages = ", ".join(sorted(point.dist.name if point.dist else "an unknown package" for point in points))
        raise PluginLoadError(f"several packages offer a plugin {name!r} in {group!r}: {packages}; keep one of them")
    (point,) = points
    try:
        value = point.load()
    except Exception as error:
        raise PluginLoadError(f"the plugin {name!r} could not be loaded from {point.value!r}: {error}") from error
    return _factory(value, f"the entry point {name!r} ({point.value})")


# --- what excludes what ------------------------------------------------------------------------------------------


def _declares(kind: type) -> bool:
    return getattr(kind, "__durable_registration_api__", None) == REGISTRATION_API


def _groups(kind: type) -> Iterator[str]:
    """The groups that a class and those it derives from declare, each for itself."""
    for each in kind.__mro__:
        if each.__dict__.get("__durable_registration_api__") == REGISTRATION_API:
            group = each.__dict__.get("exclusive_group")
            if isinstance(group, str) and group:
                yield group


def _check_groups(kinds: Sequence[type]) -> None:
    holders: dict[str, type] = {}
    for kind in kinds:
        for group in set(_groups(kind)):
            if group in holders:
                names = " and ".join(f"{each.__module__}.{each.__qualname__}" for each in (holders[group], kind))
                raise PluginLoadError(
                    f"the plugins {names} exclude each other (group {group!r}); keep one of them in plugins=[...] and "
                    f"{' and '.join(GROUPS)}"
                )
            holders[group] = kind


def _tell(found: Sequence[_Found], *, is_registered: bool) -> None:
    """Tell those that want to hear it, each object once."""
    told: list[Any] = []
    for each in found:
        callback = getattr(each.given, "on_registration_result", None) if _declares(each.kind) else None
        if callable(callback) and not any(each.given is other for other in told):
            told.append(each.given)
            try:
                callback(is_registered)
            except Exception:
                log.exception("on_registration_result of %s failed; it is ignored", _described(each.given))
