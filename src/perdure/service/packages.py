"""The deployment packages of functions: kept under their hashes, and removed when nothing has used them for an hour."""

import hashlib
from collections.abc import Collection
from typing import Final

import msgspec

from perdure.model.error import InvalidParameterValue, ResourceNotFound
from perdure.service.clock import Clock
from perdure.service.shelf import every
from perdure.store.protocol import Change, Record, Records

CODE: Final = "code"
PACKAGE: Final = "package"
GRACE_MS: Final = 3_600_000
"""Between the upload of a package and the version that uses it."""


class Package(msgspec.Struct, frozen=True):
    """What is known of a package without reading it: its size, and when it was last uploaded or taken into use."""

    code_bytes: int
    used_ms: int


class Packages:
    """Safe to use from any thread, and beside other processes that use the same store.

    The code of each package is one record, and what is known of it a small one beside it. Who takes a package into use
    rewrites the small one in the same change, so that nobody can remove it meanwhile.
    """

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    def put(self, code: bytes) -> str:
        """Keep a package; return its key, which is its SHA-256 in hex digits."""
        key = hashlib.sha256(code).hexdigest()
        while True:
            found = self._records.record(PACKAGE, key)
            changes = [self._used(key, len(code), found.revision if found else 0)]
            if found is None:
                changes.append(Change(CODE, key, code))
            if self._records.change(changes):
                return key

    def read(self, key: str) -> bytes:
        """The bytes of a package; ResourceNotFound if there is none."""
        record = self._records.record(CODE, key)
        if record is None:
            raise ResourceNotFound(f"there is no deployment package with the SHA-256 {key[:64]}")
        return record.data

    def use(self, key: str) -> tuple[int, Change]:
        """The size of a package, and the change that has to be made with what begins to use it."""
        record = self._records.record(PACKAGE, key)
        if record is None:
            raise InvalidParameterValue(f"there is no deployment package with the SHA-256 {key[:64]}; upload it again")
        code_bytes = _package(record).code_bytes
        return code_bytes, self._used(key, code_bytes, record.revision)

    def _used(self, key: str, code_bytes: int, revision: int) -> Change:
        return Change(PACKAGE, key, msgspec.json.encode(Package(code_bytes, self._clock.now_ms())), revision)

    def total_bytes(self) -> int:
        """What all packages take together."""
        return sum(_package(record).code_bytes for record in every(self._records, PACKAGE))

    def sweep(self, in_use: Collection[str]) -> int:
        """Remove the packages that are not `in_use` and were not touched for an hour; return how many."""
        gone = 0
        until_ms = self._clock.now_ms() - GRACE_MS
        for record in list(every(self._records, PACKAGE)):
            if record.key not in in_use and _package(record).used_ms <= until_ms:
                gone += self._records.change(
                    [Change(PACKAGE, record.key, None, record.revision), Change(CODE, record.key, None)]
                )
        return gone


def _package(record: Record) -> Package:
    return msgspec.json.decode(record.data, type=Package)
