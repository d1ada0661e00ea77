"""Group commit: one writer at a time, everybody answered, nobody lost."""

import random
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from perdure.model.error import StoreFull
from perdure.store.group import GroupCommit

WAIT_S = 20.0


class Disk:
    """Writes are slow enough to gather a crowd; two at once would be seen."""

    def __init__(self) -> None:
        self.writing = threading.Lock()
        self.written: list[int] = []
        self.sizes: list[int] = []
        self.fails = False
        self.gate = threading.Event()
        self.gate.set()

    def write(self, items: Sequence[int]) -> list[int]:
        assert self.writing.acquire(blocking=False), "two writes at once"
        try:
            assert self.gate.wait(WAIT_S)
            if self.fails:
                raise StoreFull("no space left")
            self.written += items
            self.sizes.append(len(items))
            return [item * 2 for item in items]
        finally:
            self.writing.release()


class Told:
    """Remembers what it was told, by item."""

    def __init__(self, expected: int) -> None:
        self.answers: dict[int, Any] = {}
        self.lock = threading.Lock()
        self.expected = expected
        self.all = threading.Event()

    def of(self, item: int) -> Any:
        def told(answer: Any) -> None:
            with self.lock:
                assert item not in self.answers, "told twice"
                self.answers[item] = answer
                if len(self.answers) == self.expected:
                    self.all.set()

        return told


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def group(disk: Disk) -> Iterator[GroupCommit[int, int]]:
    made = GroupCommit(disk.write)
    yield made
    made.close()


def test_who_submits_does_not_wait_and_is_told(disk: Disk, group: GroupCommit[int, int]) -> None:
    disk.gate.clear()
    told = Told(3)
    for item in range(3):
        group.submit([item], told.of(item))
    assert told.answers == {}
    disk.gate.set()
    assert told.all.wait(WAIT_S)
    assert told.answers == {0: [0], 1: [2], 2: [4]}
    assert len(disk.sizes) <= 2, "what came while the first was written went together"


def test_who_submits_and_who_waits_share_flushes_and_all_are_answered_once(
    disk: Disk, group: GroupCommit[int, int]
) -> None:
    rng = random.Random(7)
    threads, each = 16, 60
    told = Told(0)
    waited: dict[int, list[int]] = {}

    def work(number: int) -> None:
        for turn in range(each):
            item = number * each + turn
            if kinds[item]:
                group.submit([item], told.of(item))
            else:
                waited[item] = group.commit([item])

    kinds = [rng.random() < 0.5 for _ in range(threads * each)]
    told.expected = sum(kinds)
    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(WAIT_S)
    assert told.all.wait(WAIT_S)
    assert {**told.answers, **waited} == {item: [item * 2] for item in range(threads * each)}
    assert sorted(disk.written) == list(range(threads * each))


def test_a_failed_flush_is_told_to_all_that_it_held_and_the_next_one_works(
    disk: Disk, group: GroupCommit[int, int]
) -> None:
    disk.fails = True
    told = Told(2)
    for item in range(2):
        group.submit([item], told.of(item))
    assert told.all.wait(WAIT_S)
    assert all(isinstance(answer, StoreFull) for answer in told.answers.values())
    with pytest.raises(StoreFull):
        group.commit([9])
    disk.fails = False
    again = Told(1)
    group.submit([3], again.of(3))
    assert again.all.wait(WAIT_S)
    assert again.answers == {3: [6]}


def test_closing_waits_for_what_was_submitted_and_leaves_no_thread(disk: Disk) -> None:
    before = set(threading.enumerate())
    group: GroupCommit[int, int] = GroupCommit(disk.write)
    told = Told(100)
    for item in range(100):
        group.submit([item], told.of(item))
    group.close()
    assert len(told.answers) == 100
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_who_can_not_be_told_keeps_nobody_else_from_it(disk: Disk, group: GroupCommit[int, int]) -> None:
    disk.gate.clear()
    told = Told(1)

    def raises(_answer: Any) -> None:
        raise RuntimeError("not now")

    group.submit([1], raises)
    group.submit([2], raises)
    group.submit([3], told.of(3))
    disk.gate.set()
    assert told.all.wait(WAIT_S)
