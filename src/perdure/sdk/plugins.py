"""From a durable function's plugins to those of an invocation. Without any, nothing else is loaded."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from perdure.sdk.drivers.protocol import Driver
from perdure.sdk.journal import Journal

if TYPE_CHECKING:
    from types import TracebackType

    from perdure.plugin import DurableInstrumentationPluginFactory
    from perdure.plugin_discovery import PluginLike
    from perdure.sdk.invocation import Definition, InvocationAnswer, InvocationInput
    from perdure.sdk.observer import Observer

PLUGIN_VARIABLES: Final = ("DURABLE_EXECUTION_PLUGINS", "PERDURE_PLUGINS")
"""The environment variables that name plugins: the official SDK's and ours."""


def factories(explicit: "Sequence[PluginLike] | None") -> "tuple[DurableInstrumentationPluginFactory, ...]":
    """The factories of a durable function. Raises PluginLoadError if one can't be had."""
    if not explicit and not any(os.environ.get(variable) for variable in PLUGIN_VARIABLES):
        return ()
    from perdure.plugin_discovery import load_configured_plugins

    return tuple(load_configured_plugins(explicit))


class Watch(Protocol):
    """What an invocation gives to whoever watches it. Leaving it by an error is telling of that."""

    @property
    def observer(self) -> "Observer | None": ...

    def __enter__(self) -> "Watch": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None", /
    ) -> None: ...

    def journal(self) -> Journal:
        """The journal that the invocation uses."""
        ...

    def around(self, driver: Driver) -> Driver:
        """The driver that its operations use."""
        ...

    def ended(self, answer: "InvocationAnswer") -> "InvocationAnswer":
        """Say how it ended."""
        ...


class _Nobody:
    """Nobody watches."""

    observer = None

    def __init__(self, given: "InvocationInput") -> None:
        self._given = given

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def journal(self) -> Journal:
        return Journal(self._given.execution_name, self._given.operations)

    def around(self, driver: Driver) -> Driver:
        return driver

    def ended(self, answer: "InvocationAnswer") -> "InvocationAnswer":
        return answer


def watch(definition: "Definition", given: "InvocationInput", lambda_context: object) -> Watch:
    """Whoever watches this invocation."""
    if not definition.plugins:
        return _Nobody(given)
    from perdure.sdk.watched import Watched

    return Watched(definition, given, lambda_context)
