"""The record of who did what: every action by which somebody has changed something, kept in the store.

Entries are gathered and written together, at the latest a second after they happened: an operation never waits for its
entry. What a process has not written when it is killed is lost; the journal of an execution has what was done to it.
"""

import itertools
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from perdure.model.error import StoreError
from perdure.store.protocol import PAGE_MAX, Change, Records

KIND: Final = "audit"
FLUSH_S: Final = 1.0
WAITING_MAX: Final = 10_000
"""How many entries wait for a store that can't be written; the oldest are dropped then, with a line in the log."""
KEEP_MS: Final = 90 * 86_400_000
KEEP_COUNT: Final = 100_000
PRUNE_EVERY_MS: Final = 3_600_000
OK: Final = "OK"

_TEXT_CHARS: Final = 300
_BATCH: Final = 500
_SHOWN: Final = frozenset(
    {
        "Action",
        "DryRun",
        "DurableConfig",
        "DurableExecutionArn",
        "DurableExecutionName",
        "EventSourceArn",
        "Expires",
        "FunctionName",
        "FunctionVersion",
        "Handler",
        "InvocationType",
        "KeyId",
        "MaximumEventAgeInSeconds",
        "MaximumRetryAttempts",
        "MemorySize",
        "Name",
        "Policies",
        "Principal",
        "Publish",
        "Qualifier",
        "ReservedConcurrentExecutions",
        "Resource",
        "RevisionId",
        "Role",
        "RoutingConfig",
        "Runtime",
        "SourceArn",
        "StatementId",
        "TagKeys",
        "TenantId",
        "Timeout",
        "UUID",
        "User",
    }
)
"""The parameters that say what was done to what. All others may hold payloads or secrets: a callback's id is one."""

_NUMBERS: Final = itertools.count()
"""The order of what one process notes within a millisecond."""

log = logging.getLogger("perdure.audit")


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One action. `caller` is an ARN, or who it was without one; `outcome` OK, or the code of the error."""

    at_ms: int
    caller: str
    operation: str
    resource: str
    outcome: str = OK
    source: str | None = None
    key_id: str | None = None
    request_id: str | None = None
    parameters: dict[str, Any] = {}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries to find: all conditions together. Texts are parts of what they are compared with."""

    since_ms: int | None = None
    until_ms: int | None = None
    caller: str | None = None
    operation: str | None = None
    resource: str | None = None

    def fits(self, entry: Entry) -> bool:
        return (
            (self.since_ms is None or entry.at_ms >= self.since_ms)
            and (self.until_ms is None or entry.at_ms <= self.until_ms)
            and (self.caller is None or self.caller in entry.caller)
            and (self.operation is None or self.operation.lower() in entry.operation.lower())
            and (self.resource is None or self.resource in entry.resource)
        )


def shown(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of an operation without payloads and secrets, and long texts cut."""
    return {
        name: value[:_TEXT_CHARS] if isinstance(value, str) else value
        for name, value in parameters.items()
        if name in _SHOWN and value is not None
    }


def change_of(entry: Entry) -> Change:
    """The record of an entry, under a key that sorts by time."""
    key = f"{_moment(entry.at_ms)}-{next(_NUMBERS) & 0xFFFFFFFF:08x}{os.urandom(4).hex()}"
    return Change(KIND, key, msgspec.json.encode(entry))


def entries(store: Records, wanted: Wanted) -> Iterator[Entry]:
    """What was done, the newest first."""
    after = None if wanted.until_ms is None else _moment(wanted.until_ms + 1)
    while page := store.records(KIND, after=after, limit=PAGE_MAX, is_reversed=True):
        for record in page:
            entry = msgspec.json.decode(record.data, type=Entry)
            if wanted.since_ms is not None and entry.at_ms < wanted.since_ms:
                return
            if wanted.fits(entry):
                yield entry
        after = page[-1].key


def prune(store: Records, now_ms: int, *, keep_ms: int = KEEP_MS, keep_count: int = KEEP_COUNT) -> int:
    """Remove what is older than `keep_ms`, and beyond the newest `keep_count`; returns how many entries."""
    removed = _remove_before(store, _moment(now_ms - keep_ms))
    after, left = None, keep_count
    while page := store.records(KIND, after=after, limit=PAGE_MAX, is_reversed=True):
        if len(page) > left:
            return removed + _remove_before(store, page[left].key + "\0")
        left -= len(page)
        after = page[-1].key
    return removed


def _remove_before(store: Records, key: str) -> int:
    removed = 0
    while page := [record for record in store.records(KIND, limit=_BATCH) if record.key < key]:
        store.change([Change(KIND, record.key, None) for record in page])
        removed += len(page)
    return removed


def _moment(at_ms: int) -> str:
    return f"{max(0, at_ms):015d}"


class AuditLog:
    """Takes entries without making anybody wait, and writes them together; one for a process that serves."""

    def __init__(self, store: Records) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._waiting: list[Change] = []
        self._is_writing = threading.Lock()
        self._is_open = True
        self._pruned_ms = 0
        self._thread: threading.Thread | None = None

    def note(self, entry: Entry) -> None:
        """Keep an entry. It may be called on a loop: nothing is written here."""
        change = change_of(entry)
        with self._changed:
            self._waiting.append(change)
            if len(self._waiting) > WAITING_MAX:
                del self._waiting[0]
                log.error("audit entry dropped", extra={"waiting": WAITING_MAX})
            if self._thread is None and self._is_open:
                self._thread = threading.Thread(target=self._write, name="perdure-audit", daemon=True)
                self._thread.start()
            self._changed.notify()

    def flush(self) -> None:
        """Write what waits, and return when it is on disk. StoreError if it can't be written; then it waits on."""
        with self._is_writing:
            while batch := self._next():
                self._store.change(batch)
                with self._changed:
                    written = {id(change) for change in batch}
                    self._waiting = [change for change in self._waiting if id(change) not in written]

    def _next(self) -> Sequence[Change]:
        with self._changed:
            return self._waiting[:_BATCH]

    def prune(self, now_ms: int) -> None:
        """Remove what is too old, once an hour at most."""
        if now_ms - self._pruned_ms >= PRUNE_EVERY_MS:
            self._pruned_ms = now_ms
            prune(self._store, now_ms)

    def close(self) -> None:
        """Write what waits, and stop; what can't be written is lost, and the log says how many entries that are."""
        with self._changed:
            self._is_open = False
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()
        try:
            self.flush()
        except StoreError as error:
            lost = len(self._waiting)
            log.error("audit entries lost", extra={"entries": lost, "error": str(error)})  # noqa: TRY400 - it says why

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or not self._is_open)
                self._changed.wait_for(lambda: not self._is_open, FLUSH_S)
                if not self._is_open:
                    return
                newest_ms = int(self._waiting[-1].key.partition("-")[0]) if self._waiting else 0
            try:
                self.flush()
                self.prune(newest_ms)
            except StoreError as error:
                log.warning("audit entries not written", extra={"error": str(error)})
