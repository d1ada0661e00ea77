"""Which functions there are, as the service asks it: what a start and a chained invoke can point at."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from perdure.engine.commands import Target
from perdure.model.error import ErrorObject, InvalidParameterValue, ResourceNotFound
from perdure.model.execution import DurableConfig
from perdure.model.function import FunctionVersion, Host
from perdure.model.ids import FUNCTION_NAME, LATEST, FunctionReference, Home, check
from perdure.model.operation import OperationUpdate


class Functions(Protocol):
    """What the service asks. All calls may be made from any thread."""

    @property
    def names(self) -> Sequence[str] | None:
        """The functions whose executions this process moves on; None for all that the store has."""
        ...

    def serves(self, function: str) -> bool:
        """Whether executions of this function are moved on here."""
        ...

    def durable(self, name: str, version: str | None = None) -> FunctionVersion:
        """The version of a durable function that a new execution runs on.

        Raises ResourceNotFound if there is none, InvalidParameterValue if it is not durable.
        """
        ...

    def chained(self, update: OperationUpdate) -> Target:
        """What a chained invoke points at, or why it can't be invoked.

        Raises InvalidParameterValue if it can't be read or points to another account or region.
        """
        ...


class LoadedFunctions:
    """The functions whose code one process has loaded: one version of each, which goes by its name alone.

    They are durable if they have a configuration.
    """

    def __init__(self, configs: Mapping[str, DurableConfig | None], home: Home) -> None:
        for name in configs:
            check(FUNCTION_NAME, name, "a function's name", "1 to 64 of the characters a-z, A-Z, 0-9, '-' and '_'")
        self._versions = {
            name: FunctionVersion(function=name, host=Host.PROCESS, durable=config) for name, config in configs.items()
        }
        self._home = home

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._versions)

    def serves(self, function: str) -> bool:
        return function in self._versions

    def durable(self, name: str, version: str | None = None) -> FunctionVersion:
        """The durable function of this name; ResourceNotFound, saying which there are, if there is none."""
        found = self._versions.get(name)
        if found is None or version not in (None, LATEST):
            known = ", ".join(sorted(self._versions)) or "none"
            shown = name if version is None else f"{name}:{version}"
            raise ResourceNotFound(f"Function not found: {shown}", hint=f"functions of this process: {known}")
        if found.durable is None:
            raise InvalidParameterValue(f"function {name!r} is not durable", hint="mark it with @durable_execution")
        return found

    def chained(self, update: OperationUpdate) -> Target:
        """A function of this process, with `$LATEST` or without a qualifier."""
        reference = chained_reference(update, self._home)
        found = self._versions.get(reference.name)
        if found is None or reference.qualifier not in (None, LATEST):
            return unknown_target(reference, self._home)
        return Target(found.function, found.version, found.durable)


def chained_reference(update: OperationUpdate, home: Home) -> FunctionReference:
    """The function that a chained invoke points at; InvalidParameterValue if it lives in another account or region."""
    assert update.function_name is not None
    reference = FunctionReference.parse(update.function_name)
    if reference.account not in (None, home.account):
        raise InvalidParameterValue("Cannot start a CHAINED_INVOKE on a function in another account.")
    if reference.region not in (None, home.region):
        raise InvalidParameterValue("Cannot start a CHAINED_INVOKE on a function in another region.")
    return reference


def unknown_target(reference: FunctionReference, home: Home) -> Target:
    """The target that does not exist."""
    arn = home.function_arn(reference.name, reference.qualifier)
    return refused_target(reference, ErrorObject(f"Function not found: {arn}", ResourceNotFound.code))


def refused_target(reference: FunctionReference, refusal: ErrorObject) -> Target:
    """The target that can't be invoked."""
    return Target(reference.name, LATEST, refusal=refusal)
