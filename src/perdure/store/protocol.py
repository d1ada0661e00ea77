"""What the service asks of a store. Every store passes the same suite of tests; a store is right when it does.

A store keeps, for each execution, a journal (rows numbered from 1, never changed) and one row of the `executions`
table. An append says which number it expects to get; a second writer of the same number loses, reads what it missed,
and decides again. That, with the epoch in every checkpoint token, is all the concurrency control of executions.

Beside them it keeps records: documents under a kind and a key (functions, versions, access keys, …), read often and
changed seldom, by compare-and-set on their revisions.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from perdure.model.error import StoreError
from perdure.model.execution import ExecutionRow, ExecutionStatus, WaitingOn
from perdure.model.ids import LATEST

PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1000
TIME_MS_MAX: Final = 2**53
"""Later than any moment that is kept."""
SECRET_BYTES: Final = 32
RECORD_BYTES_MAX: Final = 64 * 1024 * 1024
"""A deployment package of 50 MiB, as the Lambda API takes it, with some room."""


class Commit(msgspec.Struct, frozen=True, gc=False):
    """One new journal row of one execution, and the execution's row where that has to change; both or neither.

    `seq` is the number the journal row must get. With `is_new` the execution must not exist, nor its name be taken.
    """

    execution_id: str
    seq: int
    data: bytes
    row: ExecutionRow | None = None
    is_new: bool = False


class Due(msgspec.Struct, frozen=True, gc=False):
    """Somebody must look at this execution at `wake_at_ms`; `lease_owner` has an invocation of it in flight."""

    execution_id: str
    wake_at_ms: int
    function: str
    lease_owner: str | None = None
    lease_epoch: int = 0
    version: str = LATEST


class Lease(msgspec.Struct, frozen=True, gc=False):
    """The right of one invocation to go on until `wake_at_ms`."""

    execution_id: str
    epoch: int
    wake_at_ms: int


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which executions to find: all conditions together. Newest first, unless `is_oldest_first`.

    `after` is the marker of the page before. What has expired at `now_ms` is left out.
    """

    now_ms: int
    function: str | None = None
    version: str | None = None
    name: str | None = None
    name_prefix: str | None = None
    id_prefix: str | None = None
    statuses: tuple[ExecutionStatus, ...] = ()
    waiting_on: WaitingOn | None = None
    started_from_ms: int | None = None
    started_until_ms: int | None = None
    is_oldest_first: bool = False
    after: str | None = None
    limit: int = PAGE_DEFAULT


class Page(msgspec.Struct, frozen=True):
    """Some rows, and the marker that the next page begins after; None if this was the last."""

    rows: tuple[ExecutionRow, ...]
    marker: str | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """A document under its kind and key. `revision` is the number of the change that wrote it: it never comes twice."""

    kind: str
    key: str
    revision: int
    data: bytes


class Change(msgspec.Struct, frozen=True, gc=False):
    """What a record shall be; with `data` None it shall not be.

    `expected` is the revision it must have now, 0 for one that must not exist, None whatever there is. A key is not
    empty and has no U+10FFFF; the data are at most `RECORD_BYTES_MAX`.
    """

    kind: str
    key: str
    data: bytes | None
    expected: int | None = None


class Records(Protocol):
    """The records of a store. All calls may be made from any thread; they raise StoreError."""

    def change(self, changes: Sequence[Change]) -> bool:
        """Make all changes of records durable in one transaction; False, and none is made, if an expectation fails.

        No record may occur twice in `changes`.
        """
        ...

    def record(self, kind: str, key: str) -> Record | None:
        """One record; None if there is none."""
        ...

    def records(
        self,
        kind: str,
        *,
        prefix: str = "",
        after: str | None = None,
        limit: int = PAGE_DEFAULT,
        is_reversed: bool = False,
    ) -> list[Record]:
        """At most `limit` records whose keys begin with `prefix`, by the code points of their keys, beginning after the
        key `after` (before it if `is_reversed`), which need not exist."""
        ...

    def records_version(self, kind: str) -> int:
        """The number of the last change of any record of this kind, by whatever process; 0 if there was none.

        Cheap: who keeps records in memory asks it before trusting them.
        """
        ...


class Store(Records, Protocol):
    """All calls may be made from any thread. They raise StoreError; nothing of a failed append was kept."""

    @property
    def lease_ms(self) -> int | None:
        """How long an invocation may go on without renewing its lease.

        None where one process owns the store: then its invocations hold for as long as it lives, and not a moment
        longer, and nothing is renewed.
        """
        ...

    @property
    def secret(self) -> bytes:
        """32 bytes made with the store, which seal its tokens."""
        ...

    def append(self, commits: Sequence[Commit]) -> list[bool]:
        """Put every commit on disk before returning; say for each whether it got the number it expected.

        Commits of different executions are independent: that one loses does not touch the others. Of a row with the
        lease that the execution has already, the later `wake_at_ms` stays: the lease may have been renewed meanwhile.
        """
        ...

    def append_soon(self, commits: Sequence[Commit], told: Callable[[list[bool] | StoreError], None]) -> None:
        """The same without waiting: `told` is called with the answer, or the error, once it is known.

        It may be called in another thread, or before this returns; it must be quick and must not call the store.
        """
        ...

    def read(self, execution_id: str, after_seq: int = 0, limit: int | None = None) -> list[bytes]:
        """The rows of a journal after `after_seq`, in order, without gaps; empty if there are none."""
        ...

    def read_many(self, execution_ids: Sequence[str]) -> dict[str, list[bytes]]:
        """Whole journals of several executions at once; those that do not exist are left out."""
        ...

    def row(self, execution_id: str) -> ExecutionRow | None:
        """The row of one execution; None if there is none."""
        ...

    def find(self, function: str, name: str) -> str | None:
        """The id of the execution that was given this name; None if there is none."""
        ...

    def search(self, query: Query) -> Page:
        """One page of rows; pages follow each other without loss or repetition of what existed at the first."""
        ...

    def due(self, until_ms: int, functions: Sequence[str] | None, limit: int) -> list[Due]:
        """What somebody must look at until `until_ms`, the earliest first; of all functions if `functions` is None."""
        ...

    def renew(self, leases: Sequence[Lease]) -> list[bool]:
        """Move the ends of leases; False for one that has been taken over."""
        ...

    def open_callbacks(self, now_ms: int, after: str | None, limit: int) -> Page:
        """The executions that have an open callback, oldest first."""
        ...

    def expired(self, now_ms: int, limit: int) -> list[str]:
        """Executions past their retention of which nothing is owed."""
        ...

    def delete(self, execution_ids: Sequence[str]) -> None:
        """Remove executions with their journals, in bounded transactions; what does not exist is no error."""
        ...

    def listen(self, changed: Callable[[str], None]) -> None:
        """Call `changed` with the id of every execution that another process or node has appended to.

        A help, not a promise: a call may come late, twice, or never.
        """
        ...

    def close(self) -> None:
        """Give everything back. Calls after it raise StoreError."""
        ...


def key_range(prefix: str, after: str | None, *, is_reversed: bool) -> tuple[str, str]:
    """The first key that a page of records may have, and the first behind it that it may not have."""
    low, high = prefix, prefix + "\U0010ffff"
    if after is None:
        return low, high
    return (low, min(high, after)) if is_reversed else (max(low, after + "\0"), high)


def check_changes(changes: Sequence[Change]) -> None:
    """StoreError if a record occurs twice, has no key, or is too large."""
    if len({(change.kind, change.key) for change in changes}) != len(changes):
        raise StoreError("one change of records names the same record twice")
    for change in changes:
        if not change.key or "\U0010ffff" in change.key:
            raise StoreError(f"a record of the kind {change.kind!r} can't have the key {change.key!r}")
        if change.data is not None and len(change.data) > RECORD_BYTES_MAX:
            raise StoreError(
                f"the record {change.key!r} of the kind {change.kind!r} has {len(change.data)} bytes; "
                f"at most {RECORD_BYTES_MAX} can be kept"
            )
