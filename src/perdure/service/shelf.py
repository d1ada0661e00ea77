"""Where deployed functions are kept: as records of the store, and in memory for as long as these have not changed."""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from perdure.model.function import Alias, Function, FunctionVersion, target_of
from perdure.service.deploying import Deployed
from perdure.store.protocol import PAGE_MAX, Change, Record, Records

FUNCTION: Final = "function"
VERSION: Final = "version"
ALIAS: Final = "alias"
REMOVED: Final = "function-removed"
"""The names of functions that were here and are not any more: their executions can only fail."""

V = TypeVar("V")


class Kept(msgspec.Struct, frozen=True, gc=False):
    """A function as it was read. `revision` is that of its own record, which every change beneath it rewrites."""

    deployed: Deployed
    revision: int
    checked_at: int


class Shelf:
    """Functions by their names. Safe to use from any thread, and beside other processes that use the same store.

    A function's own record is rewritten by every change of its versions and aliases: who has seen its revision has
    seen all of them, and of two who change a function at once, one has to look again.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._kept: dict[str, Kept] = {}

    def read(self, name: str) -> Kept | None:
        """A function as it stands now; None if there is none. It costs one question to the store if nothing changed."""
        version = self._records.records_version(FUNCTION)
        kept = self._kept.get(name)
        if kept is not None and kept.checked_at == version:
            return kept
        record = self._records.record(FUNCTION, name)
        if record is None:
            self._kept.pop(name, None)
            return None
        deployed = kept.deployed if kept is not None and kept.revision == record.revision else None
        while deployed is None:
            deployed = self._load(record)
            again = self._records.record(FUNCTION, name)
            if again is None:
                return None
            if again.revision != record.revision:
                record, deployed = again, None
        kept = self._kept[name] = Kept(deployed, record.revision, version)
        return kept

    def _load(self, record: Record) -> Deployed:
        prefix = f"{record.key}:"
        versions = [msgspec.json.decode(data, type=FunctionVersion) for data in self._all(VERSION, prefix)]
        aliases = [msgspec.json.decode(data, type=Alias) for data in self._all(ALIAS, prefix)]
        return Deployed(
            msgspec.json.decode(record.data, type=Function),
            {version.version: version for version in versions},
            {alias.name: alias for alias in aliases},
        )

    def _all(self, kind: str, prefix: str) -> Iterator[bytes]:
        for record in every(self._records, kind, prefix):
            yield record.data

    def names(self, after: str | None = None) -> Iterator[str]:
        """The names of all functions behind `after`, in order."""
        for record in every(self._records, FUNCTION, after=after):
            yield record.key

    def was_removed(self, name: str) -> bool:
        """Whether there was a function of this name, and is none."""
        return self._records.record(REMOVED, name) is not None

    def write(self, before: Kept | None, after: Deployed | None, also: Sequence[Change] = ()) -> bool:
        """Make of a function, or of nothing, what it shall be, or remove it; False if it has changed since it was read.

        `also` is changed with it, or not.
        """
        old = before.deployed if before is not None else None
        name = (after or old or _nothing()).function.name
        changes = [
            Change(FUNCTION, name, _encoded(after and after.function), before.revision if before is not None else 0),
            *_differences(VERSION, name, old.versions if old else {}, after.versions if after else {}),
            *_differences(ALIAS, name, old.aliases if old else {}, after.aliases if after else {}),
            *also,
        ]
        if before is None or after is None:
            changes.append(Change(REMOVED, name, b"{}" if after is None else None))
        return self._records.change(changes)


def every(records: Records, kind: str, prefix: str = "", after: str | None = None) -> Iterator[Record]:
    """All records of a kind whose keys begin with `prefix`, page by page."""
    while True:
        page = records.records(kind, prefix=prefix, after=after, limit=PAGE_MAX)
        yield from page
        if len(page) < PAGE_MAX:
            return
        after = page[-1].key


def _differences(kind: str, name: str, old: dict[str, V], new: dict[str, V]) -> Iterator[Change]:
    for key in old.keys() - new.keys():
        yield Change(kind, target_of(name, key), None)
    for key, value in new.items():
        if old.get(key) != value:
            yield Change(kind, target_of(name, key), _encoded(value))


def _encoded(value: object) -> bytes | None:
    return None if value is None else msgspec.json.encode(value)


def _nothing() -> Deployed:
    raise AssertionError("a function that is not there can't be removed")
