"""What every store must do. A store is right when it passes."""

import threading
from typing import Any

import pytest
from msgspec.structs import replace

from perdure.model.error import StoreError
from perdure.model.execution import ExecutionRow, ExecutionStatus, ParentLink, WaitingOn
from perdure.model.ids import new_execution_id
from perdure.store.protocol import RECORD_BYTES_MAX, Change, Commit, Lease, Query, Record, Store

T0 = 1_764_547_200_000


def _id(number: int) -> str:
    return new_execution_id(T0 + number, b"\0" * 10)


def _row(number: int = 0, **more: Any) -> ExecutionRow:
    return ExecutionRow(
        **{
            "execution_id": _id(number),
            "function": "fn",
            "status": ExecutionStatus.RUNNING,
            "start_ms": T0 + number,
            **more,
        }
    )


def _new(number: int = 0, data: bytes = b"1", **more: Any) -> Commit:
    return Commit(_id(number), 1, data, _row(number, **more), is_new=True)


def _ids(store: Store, **query: Any) -> list[int]:
    found = store.search(Query(**{"now_ms": T0, **query})).rows
    return [row.start_ms - T0 for row in found]


# --- appending ---------------------------------------------------------------------------------------------------


def test_what_was_appended_is_read_in_order(store: Store) -> None:
    assert store.append([_new(0, b"a")]) == [True]
    assert store.append([Commit(_id(0), 2, b"b")]) == [True]
    assert store.append([Commit(_id(0), 3, b"c" * 100_000)]) == [True]
    assert store.read(_id(0)) == [b"a", b"b", b"c" * 100_000]
    assert store.read(_id(0), after_seq=1) == [b"b", b"c" * 100_000]
    assert store.read(_id(0), after_seq=1, limit=1) == [b"b"]
    assert store.read(_id(9)) == []


def test_one_append_may_hold_thousands_and_those_that_lose_lose_alone(store: Store) -> None:
    """Found by the benchmark: 10,000 starts in one call were more variables than SQLite takes in one statement."""
    store.append([_new(17), _new(12_999)])
    answers = store.append([_new(number) for number in range(13_000)])
    assert [number for number, is_kept in enumerate(answers) if not is_kept] == [17, 12_999]
    assert all(store.append([Commit(_id(number), 2, b"2") for number in range(13_000)]))
    assert store.read(_id(12_998)) == [b"1", b"2"]


def test_an_append_that_nobody_waits_for_is_told_of_its_answer(store: Store) -> None:
    told: list[Any] = []
    is_told = threading.Event()

    def tell(answer: Any) -> None:
        told.append(answer)
        is_told.set()

    for commits, answer in (([_new(0), _new(1)], [True, True]), ([_new(1), _new(2)], [False, True])):
        is_told.clear()
        store.append_soon(commits, tell)
        assert is_told.wait(20)
        assert told[-1] == answer
    assert _ids(store) == [2, 1, 0]


def test_a_row_comes_back_as_it_was_written(store: Store) -> None:
    row = _row(
        3,
        version="7",
        name="order-17",
        wake_at_ms=T0 + 5,
        lease_owner="me",
        lease_epoch=4,
        operations=12,
        invocations=3,
        open_callbacks=1,
        waiting_on=(WaitingOn.TIMER, WaitingOn.CALLBACK),
        parent=ParentLink(_id(1), "op"),
    )
    store.append([Commit(row.execution_id, 1, b"", row, is_new=True)])
    assert store.row(row.execution_id) == row
    ended = replace(
        row,
        status=ExecutionStatus.FAILED,
        wake_at_ms=None,
        lease_owner=None,
        end_ms=T0 + 9,
        expires_at_ms=T0 + 99,
        error_type="ValueError",
        open_callbacks=0,
        waiting_on=(),
    )
    store.append([Commit(row.execution_id, 2, b"", ended)])
    assert store.row(row.execution_id) == ended
    assert store.row(_id(9)) is None


def test_the_second_writer_of_a_number_loses_and_nothing_of_its_commit_is_kept(store: Store) -> None:
    store.append([_new()])
    changed = replace(_row(), status=ExecutionStatus.PAUSED)
    assert store.append([Commit(_id(0), 2, b"first")]) == [True]
    assert store.append([Commit(_id(0), 2, b"second", changed)]) == [False]
    assert store.append([Commit(_id(0), 2, b"third")]) == [False]
    assert store.read(_id(0)) == [b"1", b"first"]
    found = store.row(_id(0))
    assert found is not None
    assert found.status is ExecutionStatus.RUNNING


def test_a_number_can_not_be_skipped(store: Store) -> None:
    store.append([_new()])
    assert store.append([Commit(_id(0), 3, b"x")]) == [False]
    assert store.read(_id(0)) == [b"1"]


def test_a_loser_does_not_touch_the_others_of_its_batch(store: Store) -> None:
    store.append([_new(0), _new(1)])
    batch = [
        Commit(_id(0), 2, b"a", _row(0, operations=5)),
        Commit(_id(1), 1, b"late", _row(1, operations=5)),
        _new(2),
        _new(0),
    ]
    assert store.append(batch) == [True, False, True, False]
    assert (store.read(_id(0)), store.read(_id(1)), store.read(_id(2))) == ([b"1", b"a"], [b"1"], [b"1"])
    assert [row.operations for row in store.search(Query(now_ms=T0)).rows] == [0, 0, 5]


def test_two_commits_of_one_execution_may_share_a_batch(store: Store) -> None:
    assert store.append([_new(0, b"a"), Commit(_id(0), 2, b"b", _row(0, operations=2))]) == [True, True]
    assert store.read(_id(0)) == [b"a", b"b"]


def test_nothing_is_appended_to_an_execution_that_does_not_exist(store: Store) -> None:
    assert store.append([Commit(_id(0), 5, b"x", _row(0))]) == [False]
    assert store.append([Commit(_id(0), 1, b"x", _row(0))]) == [False]
    assert store.read(_id(0)) == []


def test_an_execution_is_created_once_by_id_and_by_name(store: Store) -> None:
    assert store.append([_new(0, name="a")]) == [True]
    assert store.append([_new(0, name="b")]) == [False]
    assert store.append([_new(1, name="a")]) == [False]
    assert store.append([_new(1, name="a", function="other")]) == [True]
    assert (store.find("fn", "a"), store.find("other", "a"), store.find("fn", "b")) == (_id(0), _id(1), None)
    assert store.find("nobody", "a") is None


def test_executions_without_a_name_do_not_collide(store: Store) -> None:
    assert store.append([_new(0), _new(1)]) == [True, True]


def test_of_many_threads_that_want_one_number_exactly_one_gets_it(store: Store) -> None:
    store.append([_new()])
    rounds, threads = 20, 8
    wins: list[int] = []
    barrier = threading.Barrier(threads)

    def compete(who: int) -> None:
        for number in range(2, 2 + rounds):
            barrier.wait()
            if store.append([Commit(_id(0), number, bytes([who]))]) == [True]:
                wins.append(number)

    crowd = [threading.Thread(target=compete, args=(who,)) for who in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert sorted(wins) == list(range(2, 2 + rounds))
    assert len(store.read(_id(0))) == 1 + rounds


def test_many_threads_append_to_their_own_executions_without_losing_a_row(store: Store) -> None:
    threads, rows = 8, 30

    def work(number: int) -> None:
        assert store.append([_new(number)]) == [True]
        for seq in range(2, rows + 1):
            assert store.append([Commit(_id(number), seq, bytes([seq]), _row(number) if seq % 3 else None)]) == [True]

    crowd = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert all(len(store.read(_id(number))) == rows for number in range(threads))


def test_whole_journals_of_many_executions_are_read_at_once(store: Store) -> None:
    store.append([_new(number, bytes([number])) for number in range(5)])
    store.append([Commit(_id(2), 2, b"x")])
    found = store.read_many([_id(2), _id(4), _id(9)])
    assert found == {_id(2): [b"\x02", b"x"], _id(4): [b"\x04"]}
    assert store.read_many([]) == {}


# --- what is due -------------------------------------------------------------------------------------------------


def test_what_is_due_comes_earliest_first_and_within_its_limit(store: Store) -> None:
    for number, wake in enumerate([50, 10, None, 30, 99]):
        store.append([_new(number, wake_at_ms=None if wake is None else T0 + wake)])
    assert [due.wake_at_ms - T0 for due in store.due(T0 + 50, None, 10)] == [10, 30, 50]
    assert [due.execution_id for due in store.due(T0 + 50, None, 1)] == [_id(1)]
    assert store.due(T0 + 9, None, 10) == []


def test_what_is_due_can_be_asked_for_some_functions_only(store: Store) -> None:
    store.append([_new(0, wake_at_ms=T0), _new(1, function="other", wake_at_ms=T0)])
    assert [due.function for due in store.due(T0, ["other"], 10)] == ["other"]
    assert len(store.due(T0, ["other", "fn"], 10)) == 2
    assert store.due(T0, ["nobody"], 10) == []
    assert store.due(T0, [], 10) == []


def test_a_changed_row_is_due_at_its_new_time_only(store: Store) -> None:
    store.append([_new(0, wake_at_ms=T0 + 1)])
    store.append([Commit(_id(0), 2, b"", _row(0, wake_at_ms=T0 + 7, lease_owner="me", lease_epoch=3))])
    assert store.due(T0 + 6, None, 10) == []
    (due,) = store.due(T0 + 7, None, 10)
    assert (due.lease_owner, due.lease_epoch) == ("me", 3)
    store.append([Commit(_id(0), 3, b"", _row(0, wake_at_ms=None))])
    assert store.due(T0 + 99, None, 10) == []


def test_a_lease_is_renewed_by_its_epoch_alone(store: Store) -> None:
    store.append([_new(0, wake_at_ms=T0 + 1, lease_owner="me", lease_epoch=3), _new(1, wake_at_ms=T0 + 1)])
    leases = [Lease(_id(0), 3, T0 + 9), Lease(_id(0), 2, T0 + 99), Lease(_id(1), 0, T0 + 9), Lease(_id(7), 1, T0)]
    assert store.renew(leases) == [True, False, False, False]
    found = store.row(_id(0))
    assert found is not None
    assert found.wake_at_ms == T0 + 9


def test_a_slow_commit_does_not_put_back_the_end_of_a_lease(store: Store) -> None:
    store.append([_new(0, wake_at_ms=T0 + 1, lease_owner="me", lease_epoch=3)])
    store.renew([Lease(_id(0), 3, T0 + 9)])

    def wakes_after(seq: int, **row: Any) -> int | None:
        assert store.append([Commit(_id(0), seq, b"", _row(0, **row))]) == [True]
        found = store.row(_id(0))
        assert found is not None
        (due,) = store.due(T0 + 99, None, 10)
        assert due.wake_at_ms == found.wake_at_ms
        return found.wake_at_ms

    assert wakes_after(2, wake_at_ms=T0 + 5, lease_owner="me", lease_epoch=3) == T0 + 9
    assert wakes_after(3, wake_at_ms=T0 + 10, lease_owner="me", lease_epoch=3) == T0 + 10
    assert wakes_after(4, wake_at_ms=T0 + 4, lease_owner="me", lease_epoch=4) == T0 + 4
    assert wakes_after(5, wake_at_ms=T0 + 3, lease_owner=None, lease_epoch=4) == T0 + 3


# --- finding -----------------------------------------------------------------------------------------------------


def test_a_search_finds_the_newest_first_or_the_oldest(store: Store) -> None:
    store.append([_new(number) for number in (3, 1, 2)])
    assert _ids(store) == [3, 2, 1]
    assert _ids(store, is_oldest_first=True) == [1, 2, 3]


@pytest.mark.parametrize("oldest", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_pages_follow_each_other_without_loss_or_repetition_while_others_start(
    store: Store, size: int, *, oldest: bool
) -> None:
    store.append([_new(number) for number in range(7)])
    seen: list[str] = []
    after = None
    for turn in range(20):
        page = store.search(Query(now_ms=T0, limit=size, after=after, is_oldest_first=oldest))
        seen += [row.execution_id for row in page.rows]
        after = page.marker
        store.append([_new(100 + turn)])
        if after is None or len(seen) > 100:
            break
    wanted = [_id(number) for number in range(7)]
    assert [one for one in seen if one in wanted] == (wanted if oldest else wanted[::-1])
    assert len(set(seen)) == len(seen)


def test_conditions_are_fulfilled_together(store: Store) -> None:
    failed, running = ExecutionStatus.FAILED, ExecutionStatus.RUNNING
    store.append(
        [
            _new(0, name="order-1", status=failed, version="1"),
            _new(1, name="order-2", waiting_on=(WaitingOn.CALLBACK,)),
            _new(2, name="other-1", waiting_on=(WaitingOn.TIMER, WaitingOn.RETRY)),
            _new(3, function="other", status=failed),
            _new(4),
        ]
    )
    assert _ids(store, statuses=(failed,)) == [3, 0]
    assert _ids(store, statuses=(failed, running)) == [4, 3, 2, 1, 0]
    assert _ids(store, statuses=(failed,), function="fn") == [0]
    assert _ids(store, function="nobody") == []
    assert _ids(store, version="1") == [0]
    assert _ids(store, version="$LATEST", function="fn") == [4, 2, 1]
    assert _ids(store, name="order-2") == [1]
    assert _ids(store, name=_id(4)) == [4]
    assert _ids(store, name_prefix="order-") == [1, 0]
    assert _ids(store, id_prefix=_id(3)[:-1]) == [3]
    assert _ids(store, id_prefix=_id(3)) == [3]
    assert _ids(store, id_prefix="zz") == []
    assert _ids(store, waiting_on=WaitingOn.RETRY) == [2]
    assert _ids(store, started_from_ms=T0 + 1, started_until_ms=T0 + 3) == [3, 2, 1]
    assert _ids(store, limit=2) == [4, 3]


def test_what_has_expired_is_not_found(store: Store) -> None:
    store.append([_new(0, expires_at_ms=T0 + 10, status=ExecutionStatus.SUCCEEDED), _new(1)])
    assert _ids(store, now_ms=T0 + 9) == [1, 0]
    assert _ids(store, now_ms=T0 + 10) == [1]


def test_executions_with_open_callbacks_are_found_oldest_first_page_by_page(store: Store) -> None:
    store.append([_new(number, open_callbacks=number % 2) for number in range(8)])
    first = store.open_callbacks(T0, None, 3)
    assert [row.start_ms - T0 for row in first.rows] == [1, 3, 5]
    rest = store.open_callbacks(T0, first.marker, 3)
    assert ([row.start_ms - T0 for row in rest.rows], rest.marker) == ([7], None)
    store.append([Commit(_id(1), 2, b"", _row(1, open_callbacks=0))])
    assert [row.start_ms - T0 for row in store.open_callbacks(T0, None, 9).rows] == [3, 5, 7]


# --- the end -----------------------------------------------------------------------------------------------------


def test_what_has_expired_and_owes_nothing_can_be_removed(store: Store) -> None:
    store.append(
        [
            _new(0, expires_at_ms=T0 + 2),
            _new(1, expires_at_ms=T0 + 1),
            _new(2, expires_at_ms=T0 + 9),
            _new(3, expires_at_ms=T0 + 1, wake_at_ms=T0),
            _new(4),
        ]
    )
    assert store.expired(T0 + 2, 10) == [_id(1), _id(0)]
    assert store.expired(T0 + 2, 1) == [_id(1)]


def test_a_deleted_execution_is_gone_and_its_name_free(store: Store) -> None:
    store.append([_new(0, name="a", wake_at_ms=T0, expires_at_ms=T0), _new(1)])
    store.append([Commit(_id(0), seq, b"x") for seq in range(2, 2503)])
    store.delete([_id(0), _id(9)])
    assert (store.read(_id(0)), store.row(_id(0)), store.find("fn", "a")) == ([], None, None)
    assert store.due(T0, None, 9) == []
    assert store.expired(T0, 9) == []
    assert _ids(store) == [1]
    assert store.append([_new(2, name="a")]) == [True]
    assert store.append([Commit(_id(0), 2503, b"late", _row(0))]) == [False]


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    store.close()
    for call in (lambda: store.read(_id(0)), lambda: store.append([_new()]), lambda: store.search(Query(now_ms=T0))):
        with pytest.raises(StoreError, match="closed"):
            call()


def test_a_store_has_a_secret_of_its_own(store: Store) -> None:
    assert len(store.secret) == 32


# --- records -----------------------------------------------------------------------------------------------------


def _keys(store: Store, **more: Any) -> list[str]:
    return [record.key for record in store.records("k", **more)]


def test_a_record_is_read_as_it_was_written_last(store: Store) -> None:
    assert store.record("k", "a") is None
    assert store.change([Change("k", "a", b"one")])
    first = store.record("k", "a")
    assert first == Record("k", "a", first.revision if first else 0, b"one")
    assert store.change([Change("k", "a", b"")])
    second = store.record("k", "a")
    assert second is not None
    assert first is not None
    assert (second.data, second.revision > first.revision) == (b"", True)
    assert store.record("other", "a") is None


def test_a_change_of_records_is_made_whole_or_not_at_all(store: Store) -> None:
    assert store.change([Change("k", "a", b"1", 0), Change("k", "b", b"1", 0), Change("l", "c", b"1", 0)])
    revision = store.records("k")[0].revision
    before = store.records_version("k")
    assert not store.change([Change("k", "a", b"2", revision), Change("k", "b", b"2", 0)])
    assert not store.change([Change("k", "d", b"2"), Change("k", "a", None, revision + 99)])
    assert not store.change([Change("k", "d", b"2"), Change("k", "missing", None, 1)])
    assert [record.data for record in store.records("k")] == [b"1", b"1"]
    assert store.records_version("k") == before
    assert store.change([Change("k", "a", None, revision), Change("k", "b", b"2", revision), Change("k", "e", None)])
    assert [(record.key, record.data) for record in store.records("k")] == [("b", b"2")]


def test_a_record_that_was_removed_and_made_again_has_another_revision(store: Store) -> None:
    store.change([Change("k", "a", b"1")])
    revision = store.records("k")[0].revision
    store.change([Change("k", "a", None)])
    store.change([Change("k", "a", b"1")])
    assert store.records("k")[0].revision > revision
    assert not store.change([Change("k", "a", b"late", revision)])


def test_records_come_by_their_keys_in_pages_in_both_directions(store: Store) -> None:
    keys = ["a", "a:1", "a:10", "a:2", "ab", "b:1", "é", "\U0001f600"]
    store.change([Change("k", key, key.encode()) for key in reversed(keys)])
    assert _keys(store) == keys
    assert _keys(store, is_reversed=True) == keys[::-1]
    assert _keys(store, limit=3) == ["a", "a:1", "a:10"]
    assert _keys(store, limit=3, after="a:10") == ["a:2", "ab", "b:1"]
    assert _keys(store, prefix="a:") == ["a:1", "a:10", "a:2"]
    assert _keys(store, prefix="a:", after="a:1") == ["a:10", "a:2"]
    assert _keys(store, prefix="a:", after="a:2", is_reversed=True) == ["a:10", "a:1"]
    assert _keys(store, prefix="a:", is_reversed=True, limit=1) == ["a:2"]
    assert _keys(store, after="a:15") == ["a:2", "ab", "b:1", "é", "\U0001f600"], "it need not exist"
    assert _keys(store, prefix="b", after="a") == ["b:1"]
    assert _keys(store, prefix="c") == []


def test_the_version_of_a_kind_grows_with_its_changes_alone(store: Store) -> None:
    assert store.records_version("k") == 0
    seen = [store.records_version("k")]
    for changes in (
        [Change("k", "a", b"1"), Change("k", "b", b"1")],
        [Change("k", "a", None)],
        [Change("l", "x", b"1")],
    ):
        assert store.change(changes)
        seen.append(store.records_version("k"))
    assert seen[0] < seen[1] < seen[2] == seen[3]
    assert store.records_version("l") > seen[3]


def test_a_record_may_be_a_deployment_package_and_not_more(store: Store) -> None:
    package = bytes(range(256)) * (60 * 4096)
    assert store.change([Change("code", "sha", package), Change("function", "f", b"{}")])
    found = store.record("code", "sha")
    assert found is not None
    assert found.data == package
    with pytest.raises(StoreError, match="at most"):
        store.change([Change("code", "larger", bytes(RECORD_BYTES_MAX + 1))])
    with pytest.raises(StoreError, match="twice"):
        store.change([Change("k", "a", b"1"), Change("k", "a", b"2")])
    with pytest.raises(StoreError, match="key"):
        store.change([Change("k", "", b"1")])


def test_of_many_who_change_one_record_at_once_each_change_counts(store: Store) -> None:
    store.change([Change("k", "n", b"0")])

    def count() -> None:
        done = 0
        while done < 20:
            record = store.record("k", "n")
            assert record is not None
            done += store.change([Change("k", "n", b"%d" % (int(record.data) + 1), record.revision)])

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = store.record("k", "n")
    assert record is not None
    assert record.data == b"80"


def test_a_closed_store_keeps_no_records(store: Store) -> None:
    store.close()
    with pytest.raises(StoreError):
        store.change([Change("k", "a", b"1")])
    with pytest.raises(StoreError):
        store.record("k", "a")
    with pytest.raises(StoreError):
        store.records("k")
    with pytest.raises(StoreError):
        store.records_version("k")
