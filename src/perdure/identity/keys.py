"""Access keys of users: make them, see them, switch them off, remove them.

A key's secret is made from the secret of the store and the key's id whenever it is needed: nothing of it is kept.
"""

import os
import re
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from perdure.identity import sealing
from perdure.identity.policies import named_or_own
from perdure.model.error import InvalidParameterValue, ResourceNotFound
from perdure.model.ids import check
from perdure.store.protocol import PAGE_MAX, Change, Record, Store

KIND: Final = "key"
USER_NAME: Final = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_PURPOSE: Final = "access key 1"


class Key(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An access key. `policies` are names of built-in policies, or documents; `expires_ms` None is never."""

    key_id: str
    user: str
    policies: tuple[str | dict[str, Any], ...] = ()
    created_ms: int = 0
    expires_ms: int | None = None
    is_disabled: bool = False

    def is_over(self, now_ms: int) -> bool:
        return self.expires_ms is not None and self.expires_ms <= now_ms


def read_key(record: Record) -> Key:
    return msgspec.json.decode(record.data, type=Key)


def secret_of(store: Store, key_id: str) -> str:
    """The secret access key that belongs to the id, whether the key exists or not."""
    return sealing.secret_text(store.secret, _PURPOSE, key_id.encode())


def create_key(
    store: Store,
    user: str,
    policies: tuple[str | dict[str, Any], ...],
    now_ms: int,
    expires_ms: int | None = None,
) -> tuple[Key, str]:
    """Make a key for a user; returns it and its secret. InvalidParameterValue for a policy that can't be read."""
    check(USER_NAME, user, "a user's name", "1 to 64 letters, digits, or one of _+=,.@-")
    if not policies:
        raise InvalidParameterValue("a key without a policy may do nothing", hint="name at least one policy")
    for policy in policies:
        named_or_own(policy)
    if expires_ms is not None and expires_ms <= now_ms:
        raise InvalidParameterValue("the key would have expired before it is made", hint="name a later time")
    while True:
        key_id = sealing.key_id("AKIA", os.urandom(10))
        key = Key(key_id=key_id, user=user, policies=policies, created_ms=now_ms, expires_ms=expires_ms)
        if store.change([Change(KIND, key_id, msgspec.json.encode(key), expected=0)]):
            return key, secret_of(store, key_id)


def all_keys(store: Store) -> list[Key]:
    """All keys, in the order in which they were made."""
    found: list[Key] = []
    after: str | None = None
    while page := store.records(KIND, after=after, limit=PAGE_MAX):
        found += map(read_key, page)
        after = page[-1].key
    return sorted(found, key=lambda key: (key.created_ms, key.key_id))


def get_key(store: Store, key_id: str) -> Key:
    """One key; ResourceNotFound if there is none."""
    return read_key(_record(store, key_id))


def disable_key(store: Store, key_id: str, *, is_disabled: bool = True) -> Key:
    """Switch a key off, or on again; from the next request on, in all processes."""
    while True:
        record = _record(store, key_id)
        key = replace(read_key(record), is_disabled=is_disabled)
        if store.change([Change(KIND, key_id, msgspec.json.encode(key), expected=record.revision)]):
            return key


def delete_key(store: Store, key_id: str) -> Key:
    """Remove a key. With the last one the store is open again to this machine, and to nobody else."""
    key = get_key(store, key_id)
    store.change([Change(KIND, key_id, None)])
    return key


def _record(store: Store, key_id: str) -> Record:
    record = store.record(KIND, key_id) if key_id else None
    if record is None:
        raise ResourceNotFound(f"there is no access key {key_id[:60]!r}", hint="`perdure keys list` shows them")
    return record
