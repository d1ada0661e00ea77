"""The documented limits hold in tests, and a closed runner leaves nothing behind."""

import contextlib
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from perdure import DurableContext, durable_execution, durable_step
from perdure.exceptions import ValidationError
from perdure.testing import LocalRunner


@durable_execution
def large(size: int, context: DurableContext) -> int:
    return len(context.step(lambda: "x" * size, name="large"))


@durable_execution
def many(count: int, context: DurableContext) -> int:
    for _ in range(count):
        context.step(lambda: None)
    return count


@durable_execution
def wide(count: int, context: DurableContext) -> int:
    results = context.map(range(count), lambda inner, item, *_: inner.step(lambda: item)).get_results()
    return len(results)


def test_a_payload_over_256_kib_is_refused_unless_limits_are_off() -> None:
    """[T11]"""
    size = 256 * 1024
    with LocalRunner(large) as runner:
        assert runner.run(size - 2).result == size - 2
        runner.run(size).assert_failed(match="size must be less than or equal to 262144 bytes")
    with LocalRunner(large, limits=None) as runner:
        assert runner.run(size).result == size


def test_operation_3001_is_refused_unless_limits_are_off() -> None:
    """[T11]"""
    with LocalRunner(many) as runner:
        result = runner.run(2_999)
        result.assert_succeeded(2_999)
        runner.run(3_000).assert_failed(match="durable operations of 3000")
    with LocalRunner(many, limits=None) as runner:
        runner.run(3_000).assert_succeeded(3_000)
    with LocalRunner(many, max_operations=10) as runner:
        runner.run(10).assert_failed(match="durable operations of 10")


def test_a_byte_over_what_an_execution_may_write_is_refused() -> None:
    """[T11]"""
    with LocalRunner(large, max_bytes=1_000) as runner:
        runner.run(900).assert_succeeded(900)
        runner.run(1_000).assert_failed(match="bytes of 1000")
    with LocalRunner(large) as runner:
        assert runner.backend.service.ledger.terms.limits.written_bytes_max == 100 * 1024 * 1024


def open_files() -> set[str]:
    """What this process has open now."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(entry.readlink()))
    return found


@durable_step
async def later(_step: Any) -> int:
    return 1


@durable_execution
async def on_loop(_event: Any, context: Any) -> int:
    await context.wait(60)
    return int(await context.step(later()))


def test_a_closed_runner_leaves_no_thread_no_socket_and_no_file(tmp_path: Path) -> None:
    """[T11]"""
    threads, files = set(threading.enumerate()), open_files()
    for handler, event in ((wide, 20), (on_loop, None), (many, 5)):
        with LocalRunner(handler) as runner:
            runner.run(event).assert_succeeded()
        with LocalRunner(handler, store=str(tmp_path / f"{runner.function}.db")) as runner:
            runner.run(event).assert_succeeded()
    assert set(threading.enumerate()) <= threads
    assert {name for name in open_files() - files if "socket" in name or str(tmp_path) in name} == set()


def test_no_thread_is_made_before_anything_runs() -> None:
    threads = set(threading.enumerate())
    runner = LocalRunner(many)
    runner.mock_step("x", returns=1)
    runner.register_function("f", lambda _event, _context: None)
    assert set(threading.enumerate()) <= threads
    runner.close()


def test_a_closed_runner_runs_nothing_more() -> None:
    runner = LocalRunner(many)
    runner.run(1)
    runner.close()
    runner.close()
    with pytest.raises(ValidationError, match="this runner is closed"):
        runner.run(1)


def test_a_trivial_test_takes_one_thread_and_one_invocation() -> None:
    """[T2]"""
    seen: list[int] = []

    @durable_execution
    def trivial(_event: Any, context: DurableContext) -> int:
        return context.step(lambda _: seen.append(threading.active_count()) or 1)

    before = threading.active_count()
    for _ in range(3):
        with LocalRunner(trivial) as runner:
            runner.run().assert_invocations(1)
    assert seen == [before + 1] * 3


def test_each_run_of_a_runner_is_alone_even_under_the_same_name() -> None:
    with LocalRunner(many) as runner:
        first, second = runner.run(1, name="order-7"), runner.run(2, name="order-7")
    assert (first.result, second.result, first.name) == (1, 2, "order-7")
    assert first.arn != second.arn


def test_in_the_same_store_a_name_means_one_execution() -> None:
    with LocalRunner(many, same_store=True) as runner:
        assert runner.run(1, name="order-7").arn == runner.run(1, name="order-7").arn
        with pytest.raises(Exception, match="is taken by an execution"):
            runner.run(2, name="order-7")


def test_an_execution_in_a_file_goes_on_in_the_next_runner(tmp_path: Path) -> None:
    @durable_execution(name="patient")
    def patient(_event: Any, context: DurableContext) -> str:
        context.step(lambda: 1, name="first")
        context.wait(3600)
        return "done"

    path = str(tmp_path / "executions.db")
    with LocalRunner(patient, store=path) as runner:
        arn = str(runner.run(until="suspended").arn)
    with LocalRunner(patient, store=path) as runner:
        result = runner.wait_for_result(arn)
    result.assert_succeeded("done")
    assert len(result.invocations) == 2


def test_the_same_seed_gives_the_same_ids_and_chance() -> None:
    @durable_execution
    def drawing(_event: Any, context: DurableContext) -> list[Any]:
        return [str(context.uuid4()), context.random().random()]

    results = []
    for seed in (1, 1, 2):
        with LocalRunner(drawing, seed=seed) as runner:
            results.append(runner.run().result)
    assert results[0] == results[1] != results[2]


def test_no_socket_is_opened_by_a_blocking_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    real = socket.socket
    monkeypatch.setattr(socket, "socket", lambda *args, **kwargs: made.append(args) or real(*args, **kwargs))
    with LocalRunner(many) as runner:
        runner.run(3)
    assert made == []


def test_what_a_runner_left_in_flight_in_a_store_the_next_one_goes_on_with() -> None:
    from perdure.store.memory import MemoryStore

    is_over, has_begun = threading.Event(), threading.Event()
    ran: list[str] = []

    def body() -> str:
        ran.append("body")
        if len(ran) == 1:
            has_begun.set()
            is_over.wait(20)
        return "done"

    @durable_execution(name="slow")
    def slow(_event: Any, context: DurableContext) -> str:
        return context.step(lambda _: body(), name="slow")

    store = MemoryStore()
    first = LocalRunner(slow, store=store)
    arn = str(first.start())
    has_begun.wait(10)
    first.close()
    with LocalRunner(slow, store=store) as second:
        second.wait_for_result(arn).assert_succeeded("done")
    is_over.set()
    assert ran == ["body", "body"]


def test_many_threads_may_use_one_runner() -> None:
    @durable_execution
    def asking(event: int, context: DurableContext) -> Any:
        context.wait(event + 1)
        return context.create_callback("answer").result()

    results: list[Any] = []

    def use(number: int) -> None:
        execution = runner.start(number)
        execution.callback("answer").wait().succeed(str(number))
        results.append(execution.result().result)

    with LocalRunner(asking) as runner:
        threads = [threading.Thread(target=use, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert sorted(results, key=int) == [str(number) for number in range(12)]


def test_the_same_schedule_seed_gives_the_same_order_of_branches() -> None:
    @durable_execution(name="branching")
    def branching(_event: Any, context: DurableContext) -> None:
        def branch(inner: DurableContext, item: str, *_: Any) -> None:
            for number in range(3):
                inner.step(lambda _: None, name=f"{item}{number}")

        context.map(list("abcd"), branch, name="all").throw_if_error()

    orders = []
    for seed in (1, 1, 2):
        with LocalRunner(branching, schedule_seed=seed) as runner:
            mock = runner.mock_step("a1", returns=None)
            result = runner.run()
            orders.append([each.name for each in result.history if each.event_type == "StepSucceeded"])
            mock.assert_called_once()
    assert orders[0] == orders[1] != orders[2]
