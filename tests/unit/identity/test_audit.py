"""The record of who did what: what is kept, for how long, and that nobody waits for it."""

import threading
from collections.abc import Sequence

import pytest

from perdure.identity import audit
from perdure.identity.audit import AuditLog, Entry, Wanted, entries, prune, shown
from perdure.model.error import StoreError, StoreFull
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Change

ANA = "arn:aws:iam::000000000000:user/ana"


def entry(at_ms: int, operation: str = "StopDurableExecution", caller: str = ANA, resource: str = "arn:fn") -> Entry:
    return Entry(at_ms=at_ms, caller=caller, operation=operation, resource=resource)


class CountingStore(MemoryStore):
    """Counts transactions, and refuses them while it is full."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0
        self.is_full = False
        self.refused = threading.Event()

    def change(self, changes: Sequence[Change]) -> bool:
        if self.is_full:
            self.refused.set()
            raise StoreFull("the disk is full")
        self.changes += 1
        return super().change(changes)


def test_entries_come_newest_first_and_in_the_order_of_one_process_within_a_millisecond() -> None:
    store = MemoryStore()
    log = AuditLog(store)
    for number, at_ms in enumerate([3, 1, 2, 2, 2]):
        log.note(entry(at_ms, f"Op{number}"))
    log.close()
    assert [found.operation for found in entries(store, Wanted())] == ["Op0", "Op4", "Op3", "Op2", "Op1"]


def test_many_entries_are_one_transaction() -> None:
    store = CountingStore()
    log = AuditLog(store)
    for number in range(300):
        log.note(entry(number))
    log.flush()
    assert store.changes <= 2
    log.close()
    assert len(list(entries(store, Wanted()))) == 300


def test_an_entry_is_written_soon_without_being_asked_for() -> None:
    written = threading.Event()

    class TellingStore(MemoryStore):
        def change(self, changes: Sequence[Change]) -> bool:
            done = super().change(changes)
            written.set()
            return done

    store = TellingStore()
    log = AuditLog(store)
    log.note(entry(1))
    assert written.wait(30)
    log.close()


def test_a_store_that_is_full_loses_no_entry() -> None:
    store = CountingStore()
    store.is_full = True
    log = AuditLog(store)
    log.note(entry(1))
    assert store.refused.wait(30)
    with pytest.raises(StoreError):
        log.flush()
    store.is_full = False
    log.close()
    assert len(list(entries(store, Wanted()))) == 1


def test_a_log_is_closed_though_its_store_is_full_and_says_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    """Found by clients of a server whose store died: it could not be stopped, and held its file for ever."""
    store = CountingStore()
    store.is_full = True
    log = AuditLog(store)
    log.note(entry(1))
    log.close()
    (lost,) = [record for record in caplog.records if record.msg == "audit entries lost"]
    assert lost.__dict__["entries"] == 1


def test_what_waits_for_a_full_store_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "WAITING_MAX", 10)
    store = CountingStore()
    store.is_full = True
    log = AuditLog(store)
    for number in range(15):
        log.note(entry(number))
    store.is_full = False
    log.close()
    assert [found.at_ms for found in entries(store, Wanted())] == list(range(14, 4, -1))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), [5, 4, 3, 2, 1]),
        (Wanted(since_ms=3), [5, 4, 3]),
        (Wanted(until_ms=3), [3, 2, 1]),
        (Wanted(since_ms=2, until_ms=4), [4, 3, 2]),
        (Wanted(caller="user/bo"), [2]),
        (Wanted(operation="invoke"), [3]),
        (Wanted(resource=":fn2"), [4]),
    ],
)
def test_entries_are_found_by_time_caller_operation_and_resource(wanted: Wanted, expected: list[int]) -> None:
    store = MemoryStore()
    store.change(
        [
            audit.change_of(found)
            for found in (
                entry(1),
                entry(2, caller="arn:aws:iam::000000000000:user/bo"),
                entry(3, "Invoke"),
                entry(4, resource="arn:aws:lambda:::function:fn2"),
                entry(5),
            )
        ]
    )
    assert [found.at_ms for found in entries(store, wanted)] == expected


def test_payloads_secrets_and_callback_ids_do_not_get_into_the_record() -> None:
    kept = shown(
        {
            "FunctionName": "fn" * 400,
            "Payload": b"secret",
            "Result": "secret",
            "Error": {"ErrorMessage": "secret"},
            "CallbackId": "secret",
            "CheckpointToken": "secret",
            "Environment": {"Variables": {"A": "secret"}},
            "Code": {"ZipFile": b"secret"},
            "ClientContext": "secret",
            "Qualifier": None,
            "Timeout": 3,
        }
    )
    assert kept == {"FunctionName": ("fn" * 400)[:300], "Timeout": 3}


def test_old_entries_and_too_many_are_removed() -> None:
    store = MemoryStore()
    store.change([audit.change_of(entry(at_ms)) for at_ms in range(1, 21)])
    assert prune(store, 25, keep_ms=15, keep_count=100) == 9
    assert [found.at_ms for found in entries(store, Wanted())][-1] == 10
    assert prune(store, 25, keep_ms=15, keep_count=4) == 7
    assert [found.at_ms for found in entries(store, Wanted())] == [20, 19, 18, 17]
    assert prune(store, 25, keep_ms=15, keep_count=4) == 0


def test_an_audit_log_removes_what_is_too_old_once_an_hour() -> None:
    store = MemoryStore()
    now_ms = audit.KEEP_MS * 2
    store.change([audit.change_of(entry(1))])
    log = AuditLog(store)
    log.prune(now_ms)
    assert list(entries(store, Wanted())) == []
    store.change([audit.change_of(entry(1))])
    log.prune(now_ms + 1)
    assert len(list(entries(store, Wanted()))) == 1
    log.prune(now_ms + audit.PRUNE_EVERY_MS)
    assert list(entries(store, Wanted())) == []
    log.close()
