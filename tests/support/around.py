"""A store around another one: every call goes through one place, where a test decides what becomes of it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from perdure.model.error import StoreError
from perdure.model.execution import ExecutionRow
from perdure.store.protocol import Change, Commit, Due, Lease, Page, Query, Record, Store

R = TypeVar("R")


class Around:
    """Passes everything on. `around` is what subclasses say more in."""

    def __init__(self, real: Store) -> None:
        self.real = real

    def around(self, call: Callable[[], R], *, writes: bool) -> R:
        """Make the call; `writes` says that it changes something."""
        return call()

    @property
    def lease_ms(self) -> int | None:
        return self.real.lease_ms

    @property
    def secret(self) -> bytes:
        return self.real.secret

    def append(self, commits: Sequence[Commit]) -> list[bool]:
        return self.around(lambda: self.real.append(commits), writes=True)

    def append_soon(self, commits: Sequence[Commit], told: Callable[[list[bool] | StoreError], None]) -> None:
        answer: list[bool] | StoreError
        try:
            answer = self.append(commits)
        except StoreError as error:
            answer = error
        told(answer)

    def read(self, execution_id: str, after_seq: int = 0, limit: int | None = None) -> list[bytes]:
        return self.around(lambda: self.real.read(execution_id, after_seq, limit), writes=False)

    def read_many(self, execution_ids: Sequence[str]) -> dict[str, list[bytes]]:
        return self.around(lambda: self.real.read_many(execution_ids), writes=False)

    def change(self, changes: Sequence[Change]) -> bool:
        return self.around(lambda: self.real.change(changes), writes=True)

    def record(self, kind: str, key: str) -> Record | None:
        return self.around(lambda: self.real.record(kind, key), writes=False)

    def records(self, kind: str, **more: Any) -> list[Record]:
        return self.around(lambda: self.real.records(kind, **more), writes=False)

    def records_version(self, kind: str) -> int:
        return self.around(lambda: self.real.records_version(kind), writes=False)

    def row(self, execution_id: str) -> ExecutionRow | None:
        return self.around(lambda: self.real.row(execution_id), writes=False)

    def find(self, function: str, name: str) -> str | None:
        return self.around(lambda: self.real.find(function, name), writes=False)

    def search(self, query: Query) -> Page:
        return self.around(lambda: self.real.search(query), writes=False)

    def due(self, until_ms: int, functions: Sequence[str] | None, limit: int) -> list[Due]:
        return self.around(lambda: self.real.due(until_ms, functions, limit), writes=False)

    def renew(self, leases: Sequence[Lease]) -> list[bool]:
        return self.around(lambda: self.real.renew(leases), writes=True)

    def open_callbacks(self, now_ms: int, after: str | None, limit: int) -> Page:
        return self.around(lambda: self.real.open_callbacks(now_ms, after, limit), writes=False)

    def expired(self, now_ms: int, limit: int) -> list[str]:
        return self.around(lambda: self.real.expired(now_ms, limit), writes=False)

    def delete(self, execution_ids: Sequence[str]) -> None:
        self.around(lambda: self.real.delete(execution_ids), writes=True)

    def listen(self, changed: Callable[[str], None]) -> None:
        self.real.listen(changed)

    def close(self) -> None:
        self.real.close()
