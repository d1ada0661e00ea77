"""A plugin, of any SDK, that writes down what it is told."""

from typing import Any

Told = tuple[str, dict[str, Any]]


def described(info: Any) -> dict[str, Any]:
    """What an info says, without what differs between runs and between SDKs."""
    said: dict[str, Any] = {}
    for name, value in vars(info).items():
        value = getattr(value, "value", value)
        if name in ("start_time", "end_time"):
            value = value is not None
        elif name == "error" and value is not None:
            value = (value.type or "").rpartition(".")[2]
        said[name] = value
    return said


def outermost(info: Any) -> list[tuple[str, str]]:
    """The operations that are in no context: whether those within one that has ended are given is the service's."""
    found = [each for each in info.operations.values() if each.parent_id is None]
    return [(each.operation_type.value, each.status.value) for each in found]


def listening(sdk: Any) -> tuple[Any, list[Told]]:
    """A factory of plugins of this SDK, and the list into which they write; changes are left out."""
    told: list[Told] = []

    class Listening(sdk.plugin.DurableInstrumentationPlugin):
        def on_invocation_start(self, info: Any) -> None:
            updated = [each.name for each in info.updated_operations.values()]
            known = {"is_first": info.is_first_invocation, "input": info.execution_input, "updated": updated}
            told.append(("invocation start", {**known, "operations": outermost(info)}))

        def on_invocation_end(self, info: Any) -> None:
            known = {"status": info.status.value, "result": info.execution_result}
            error = info.error and info.error.type
            told.append(("invocation end", {**known, "error": error, "operations": outermost(info)}))

        def on_operation_start(self, info: Any) -> None:
            told.append(("operation start", described(info)))

        def on_operation_end(self, info: Any) -> None:
            told.append(("operation end", described(info)))

        def on_user_function_start(self, info: Any) -> None:
            told.append(("function start", described(info)))

        def on_user_function_end(self, info: Any) -> None:
            told.append(("function end", described(info)))

        def provide_propagation_metadata(self, info: Any) -> Any:
            target = {"operation": info.operation_id, "function": info.target_function_name}
            told.append(("propagation", {**target, "parent": info.parent_operation_id}))
            return sdk.plugin.PropagationMetadata("Root=1-67891233-abcdef012345678912345678")

    class Factory:
        def create_plugin(self, info: Any) -> Any:
            return Listening()

    return Factory(), told
