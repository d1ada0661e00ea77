"""Which functions there are: what a start and a chained invoke can point at."""

from collections.abc import Mapping

import msgspec

from perdure.engine.commands import Target
from perdure.model.error import ErrorObject, InvalidParameterValue, ResourceNotFound
from perdure.model.execution import DurableConfig
from perdure.model.ids import FUNCTION_NAME, LATEST, FunctionReference, Home, check
from perdure.model.operation import OperationUpdate


class FunctionSpec(msgspec.Struct, frozen=True):
    """A function of this service; it is durable if it has a `config`."""

    name: str
    config: DurableConfig | None = None
    version: str = LATEST


class Functions:
    """The functions by their names. In one process there is one version of each: the code that is loaded."""

    def __init__(self, specs: Mapping[str, FunctionSpec], home: Home) -> None:
        for name in specs:
            check(FUNCTION_NAME, name, "a function's name", "1 to 64 of the characters a-z, A-Z, 0-9, '-' and '_'")
        self._specs = dict(specs)
        self._home = home

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._specs)

    def durable(self, name: str) -> FunctionSpec:
        """The durable function of this name; ResourceNotFound, saying which there are, if there is none."""
        spec = self._specs.get(name)
        if spec is None:
            known = ", ".join(sorted(self._specs)) or "none"
            raise ResourceNotFound(f"Function not found: {name}", hint=f"functions of this process: {known}")
        if spec.config is None:
            raise InvalidParameterValue(f"function {name!r} is not durable", hint="mark it with @durable_execution")
        return spec

    def resolve(self, update: OperationUpdate) -> Target:
        """What a chained invoke points at, or why it can't be invoked."""
        assert update.function_name is not None
        reference = FunctionReference.parse(update.function_name)
        if reference.account not in (None, self._home.account):
            raise InvalidParameterValue("Cannot start a CHAINED_INVOKE on a function in another account.")
        if reference.region not in (None, self._home.region):
            raise InvalidParameterValue("Cannot start a CHAINED_INVOKE on a function in another region.")
        spec = self._specs.get(reference.name)
        if spec is None or reference.qualifier not in (None, LATEST, spec.version):
            arn = self._home.function_arn(reference.name, reference.qualifier)
            refusal = ErrorObject(f"Function not found: {arn}", "ResourceNotFoundException")
            return Target(reference.name, LATEST, refusal=refusal)
        return Target(spec.name, spec.version, spec.config)
