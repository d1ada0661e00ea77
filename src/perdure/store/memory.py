"""A store in memory: for tests of functions, for the simulation, and as the other one that keeps SQLite honest.

With a `lease_ms` it behaves as a database that many nodes share; without one it has a single owner.
"""

import os
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from msgspec.structs import replace

from perdure.model.error import StoreError
from perdure.model.execution import ExecutionRow
from perdure.store.protocol import (
    PAGE_DEFAULT,
    SECRET_BYTES,
    Change,
    Commit,
    Due,
    Lease,
    Page,
    Query,
    Record,
    check_changes,
    key_range,
)


class MemoryStore:
    """Everything in dictionaries under one lock; a process's end is its end."""

    def __init__(self, *, lease_ms: int | None = None, secret: bytes | None = None) -> None:
        self._lease_ms = lease_ms
        self._secret = secret if secret is not None else os.urandom(SECRET_BYTES)
        self._lock = threading.Lock()
        self._journals: dict[str, list[bytes]] = {}
        self._rows: dict[str, ExecutionRow] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._ids: list[str] = []
        self._wakes: list[tuple[int, str]] = []
        self._records: dict[str, dict[str, Record]] = {}
        self._record_versions: dict[str, int] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._is_open = True

    @property
    def lease_ms(self) -> int | None:
        return self._lease_ms

    @property
    def secret(self) -> bytes:
        return self._secret

    def append(self, commits: Sequence[Commit]) -> list[bool]:
        with self._lock:
            self._check_open()
            return [self._append(commit) for commit in commits]

    def _append(self, commit: Commit) -> bool:
        execution_id, row = commit.execution_id, commit.row
        if commit.is_new:
            assert row is not None, "a new execution has a row"
            key = (row.function, row.name)
            if execution_id in self._rows or key in self._names:
                return False
            if row.name is not None:
                self._names[row.function, row.name] = execution_id
            insort(self._ids, execution_id)
            self._journals[execution_id] = []
        journal = self._journals.get(execution_id)
        if journal is None or len(journal) + 1 != commit.seq:
            return False
        journal.append(commit.data)
        if row is not None:
            self._put(self._with_its_lease(row))
        return True

    def _with_its_lease(self, row: ExecutionRow) -> ExecutionRow:
        """The row; a commit that took its time does not put back the end of a lease."""
        before = self._rows.get(row.execution_id)
        if before is None or row.lease_owner is None or before.wake_at_ms is None or row.wake_at_ms is None:
            return row
        is_same = (before.lease_owner, before.lease_epoch) == (row.lease_owner, row.lease_epoch)
        return replace(row, wake_at_ms=before.wake_at_ms) if is_same and before.wake_at_ms > row.wake_at_ms else row

    def _put(self, row: ExecutionRow) -> None:
        before = self._rows.get(row.execution_id)
        self._rows[row.execution_id] = row
        if before is not None and before.wake_at_ms == row.wake_at_ms:
            return
        if before is not None and before.wake_at_ms is not None:
            self._forget_wake(before)
        if row.wake_at_ms is not None:
            insort(self._wakes, (row.wake_at_ms, row.execution_id))

    def _forget_wake(self, row: ExecutionRow) -> None:
        assert row.wake_at_ms is not None
        del self._wakes[bisect_left(self._wakes, (row.wake_at_ms, row.execution_id))]

    def append_soon(self, commits: Sequence[Commit], told: Callable[[list[bool] | StoreError], None]) -> None:
        answer: list[bool] | StoreError
        try:
            answer = self.append(commits)
        except StoreError as error:
            answer = error
        told(answer)

    def read(self, execution_id: str, after_seq: int = 0, limit: int | None = None) -> list[bytes]:
        with self._lock:
            self._check_open()
            rows = self._journals.get(execution_id, [])
            return rows[after_seq : None if limit is None else after_seq + limit]

    def read_many(self, execution_ids: Sequence[str]) -> dict[str, list[bytes]]:
        with self._lock:
            self._check_open()
            return {key: list(self._journals[key]) for key in execution_ids if key in self._journals}

    def row(self, execution_id: str) -> ExecutionRow | None:
        with self._lock:
            self._check_open()
            return self._rows.get(execution_id)

    def find(self, function: str, name: str) -> str | None:
        with self._lock:
            self._check_open()
            return self._names.get((function, name))

    def search(self, query: Query) -> Page:
        with self._lock:
            self._check_open()
            ids = self._ids
            if query.is_oldest_first:
                candidates = ids[bisect_right(ids, query.after) :] if query.after is not None else ids
            else:
                candidates = (ids[: bisect_left(ids, query.after)] if query.after is not None else ids)[::-1]
            return _page((self._rows[key] for key in candidates if matches(self._rows[key], query)), query.limit)

    def due(self, until_ms: int, functions: Sequence[str] | None, limit: int) -> list[Due]:
        found: list[Due] = []
        with self._lock:
            self._check_open()
            for wake_at_ms, execution_id in self._wakes:
                if wake_at_ms > until_ms or len(found) == limit:
                    break
                row = self._rows[execution_id]
                if functions is None or row.function in functions:
                    found.append(
                        Due(execution_id, wake_at_ms, row.function, row.lease_owner, row.lease_epoch, row.version)
                    )
        return found

    def renew(self, leases: Sequence[Lease]) -> list[bool]:
        with self._lock:
            self._check_open()
            return [self._renew(lease) for lease in leases]

    def _renew(self, lease: Lease) -> bool:
        row = self._rows.get(lease.execution_id)
        if row is None or row.lease_owner is None or row.lease_epoch != lease.epoch:
            return False
        self._put(replace(row, wake_at_ms=lease.wake_at_ms))
        return True

    def open_callbacks(self, now_ms: int, after: str | None, limit: int) -> Page:
        with self._lock:
            self._check_open()
            ids = self._ids[bisect_right(self._ids, after) if after is not None else 0 :]
            rows = (self._rows[key] for key in ids)
            return _page((row for row in rows if row.open_callbacks and not is_expired(row, now_ms)), limit)

    def expired(self, now_ms: int, limit: int) -> list[str]:
        with self._lock:
            self._check_open()
            gone = [row for row in self._rows.values() if row.wake_at_ms is None and is_expired(row, now_ms)]
            gone.sort(key=lambda row: row.expires_at_ms or 0)
            return [row.execution_id for row in gone[:limit]]

    def delete(self, execution_ids: Sequence[str]) -> None:
        with self._lock:
            self._check_open()
            for execution_id in execution_ids:
                row = self._rows.pop(execution_id, None)
                if row is None:
                    continue
                if row.wake_at_ms is not None:
                    self._forget_wake(row)
                if row.name is not None:
                    del self._names[row.function, row.name]
                del self._ids[bisect_left(self._ids, execution_id)]
                del self._journals[execution_id]

    def change(self, changes: Sequence[Change]) -> bool:
        check_changes(changes)
        with self._lock:
            self._check_open()
            for change in changes:
                record = self._records.get(change.kind, {}).get(change.key)
                if change.expected is not None and change.expected != (record.revision if record else 0):
                    return False
            version = 1 + max(self._record_versions.values(), default=0)
            for change in changes:
                records = self._records.setdefault(change.kind, {})
                if change.data is None:
                    records.pop(change.key, None)
                else:
                    records[change.key] = Record(change.kind, change.key, version, change.data)
                self._record_versions[change.kind] = version
            return True

    def record(self, kind: str, key: str) -> Record | None:
        with self._lock:
            self._check_open()
            return self._records.get(kind, {}).get(key)

    def records(
        self,
        kind: str,
        *,
        prefix: str = "",
        after: str | None = None,
        limit: int = PAGE_DEFAULT,
        is_reversed: bool = False,
    ) -> list[Record]:
        low, high = key_range(prefix, after, is_reversed=is_reversed)
        with self._lock:
            self._check_open()
            records = self._records.get(kind, {})
            keys = sorted((key for key in records if low <= key < high), reverse=is_reversed)
            return [records[key] for key in keys[:limit]]

    def records_version(self, kind: str) -> int:
        with self._lock:
            self._check_open()
            return self._record_versions.get(kind, 0)

    def listen(self, changed: Callable[[str], None]) -> None:
        self._listeners.append(changed)

    def changed_elsewhere(self, execution_id: str) -> None:
        """Tell the listeners, as another node's append would."""
        for listener in self._listeners:
            listener(execution_id)

    def close(self) -> None:
        self._is_open = False

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreError("the store is closed")


def is_expired(row: ExecutionRow, now_ms: int) -> bool:
    return row.expires_at_ms is not None and row.expires_at_ms <= now_ms


def matches(row: ExecutionRow, query: Query) -> bool:
    """Whether a row fulfils every condition of a query but its place in the order."""
    return (
        not is_expired(row, query.now_ms)
        and (query.function is None or row.function == query.function)
        and (query.version is None or row.version == query.version)
        and (query.name is None or row.shown_name == query.name)
        and (query.name_prefix is None or (row.name or "").startswith(query.name_prefix))
        and (query.id_prefix is None or row.execution_id.startswith(query.id_prefix))
        and (not query.statuses or row.status in query.statuses)
        and (query.waiting_on is None or query.waiting_on in row.waiting_on)
        and (query.started_from_ms is None or row.start_ms >= query.started_from_ms)
        and (query.started_until_ms is None or row.start_ms <= query.started_until_ms)
    )


def _page(rows: Iterable[ExecutionRow], limit: int) -> Page:
    """The first `limit` of `rows`, with a marker if there are more."""
    found = list(islice(rows, limit + 1))
    if len(found) <= limit:
        return Page(tuple(found))
    return Page(tuple(found[:limit]), found[limit - 1].execution_id)
