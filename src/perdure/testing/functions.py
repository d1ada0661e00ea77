"""What a runner knows by name: functions, which may become more, and names of executions, which may come again."""

from collections.abc import Sequence
from typing import Any, cast

from msgspec.structs import replace

from perdure.engine.commands import Target
from perdure.model.execution import DurableConfig
from perdure.model.ids import FunctionReference, Home
from perdure.model.operation import OperationUpdate
from perdure.service.functions import LoadedFunctions
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Commit, Store


class Functions(LoadedFunctions):
    """The functions of a test, by their names: accounts, regions and qualifiers don't matter."""

    def __init__(self, home: Home) -> None:
        super().__init__({}, home)
        self._configs: dict[str, DurableConfig | None] = {}

    def put(self, name: str, config: DurableConfig | None) -> None:
        """Have a function, durable if it has a configuration."""
        self._configs[name] = config
        super().__init__(self._configs, self._home)

    def chained(self, update: OperationUpdate) -> Target:
        assert update.function_name is not None
        return super().chained(replace(update, function_name=bare_name(update.function_name)))


def bare_name(reference: str) -> str:
    """The function's name in a name with a qualifier, or in an ARN."""
    return FunctionReference.parse(reference).name


class NamesAgain(MemoryStore):
    """A store in which a name is free for every new execution: one test of a runner does not see the other."""

    def find(self, function: str, name: str) -> str | None:
        return None

    def append(self, commits: Sequence[Commit]) -> list[bool]:
        for commit in commits:
            if commit.is_new and commit.row is not None and commit.row.name is not None:
                self._names.pop((commit.row.function, commit.row.name), None)
        return super().append(commits)

    def delete(self, execution_ids: Sequence[str]) -> None:
        for execution_id in execution_ids:
            row = self.row(execution_id)
            if row is not None and row.name is not None:
                self._names.setdefault((row.function, row.name), execution_id)
        super().delete(execution_ids)


def lent(store: Store) -> Store:
    """The same store, which whoever gave it will close."""
    return cast(Store, _Lent(store))


class _Lent:
    """A store that its borrower can't close."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def close(self) -> None:
        """Nothing: it is not ours."""
