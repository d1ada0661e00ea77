"""The modules that users of the official SDK import from, and the small ones among them."""

import importlib
import threading
from collections import deque

import pytest

from perdure import DurableExecutionsError
from perdure.constants import CHECKPOINT_SIZE_LIMIT_BYTES
from perdure.exceptions import OrderedLockError, SuspendExecution, TimedSuspendExecution
from perdure.suspend import suspend_with_optional_resume_delay, suspend_with_optional_resume_timestamp
from perdure.threading import CompletionEvent, OrderedCounter, OrderedLock

WAIT_S = 30


@pytest.mark.parametrize(
    "module",
    [
        "concurrency.executor",
        "concurrency.models",
        "config",
        "constants",
        "context",
        "exceptions",
        "execution",
        "filesystem_serdes",
        "identifier",
        "lambda_service",
        "logger",
        "operation.base",
        "operation.callback",
        "operation.child",
        "operation.invoke",
        "operation.map",
        "operation.parallel",
        "operation.step",
        "operation.wait",
        "operation.wait_for_condition",
        "preview",
        "retries",
        "serdes",
        "state",
        "suspend",
        "threading",
        "types",
        "waits",
    ],
)
def test_modules_have_their_official_names_and_what_they_say_they_have(module: str) -> None:
    """[1]"""
    found = importlib.import_module(f"perdure.{module}")
    for name in getattr(found, "__all__", ()):
        assert getattr(found, name) is not None


def test_the_execution_module_has_the_events_and_no_more() -> None:
    """[1]"""
    execution = importlib.import_module("perdure.execution")
    assert execution.DurableExecutionInvocationOutput.__module__ == "perdure.lambda_service"
    assert execution.InvocationStatus("PENDING") == "PENDING"
    with pytest.raises(AttributeError, match="nothing"):
        execution.nothing  # noqa: B018


def test_a_child_s_result_is_recorded_up_to_256_kib() -> None:
    assert CHECKPOINT_SIZE_LIMIT_BYTES == 262_144


def test_suspending_without_a_moment_waits_for_news() -> None:
    for suspend in (suspend_with_optional_resume_delay, suspend_with_optional_resume_timestamp):
        with pytest.raises(SuspendExecution, match="until then") as raised:
            suspend("until then", None)
        assert not isinstance(raised.value, TimedSuspendExecution)


def test_suspending_until_a_moment_carries_it() -> None:
    from datetime import UTC, datetime

    moment = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(TimedSuspendExecution) as raised:
        suspend_with_optional_resume_timestamp("until then", moment)
    assert raised.value.scheduled_timestamp == moment.timestamp()
    with pytest.raises(TimedSuspendExecution) as delayed:
        suspend_with_optional_resume_delay("a while", 60)
    assert delayed.value.scheduled_timestamp > datetime.now(UTC).timestamp() + 50


def test_a_completion_event_tells_its_waiters_how_it_went() -> None:
    event = CompletionEvent()
    assert not event.is_set()
    assert not event.wait(0)
    event.set()
    assert event.is_set() and event.wait()
    broken = CompletionEvent()
    broken.set(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        broken.wait()


class Told(deque[threading.Event]):
    """A queue that says when somebody has joined it."""

    def __init__(self) -> None:
        super().__init__()
        self.joined = threading.Semaphore(0)

    def append(self, event: threading.Event) -> None:
        super().append(event)
        self.joined.release()


def test_a_lock_is_had_in_the_order_of_asking() -> None:
    lock, queue, order = OrderedLock(), Told(), list[int]()
    lock._queue = queue
    lock.acquire()
    assert queue.joined.acquire(timeout=WAIT_S)

    def take(number: int) -> None:
        with lock:
            order.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
        assert queue.joined.acquire(timeout=WAIT_S)
    lock.release()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_an_error_under_the_lock_breaks_it_until_it_is_reset() -> None:
    lock = OrderedLock()
    error = ValueError("no")
    with pytest.raises(ValueError, match="no"), lock:
        raise error
    assert lock.is_broken()
    with pytest.raises(OrderedLockError, match="ValueError") as raised:
        lock.acquire()
    assert raised.value.source_exception is error
    lock.reset()
    assert not lock.is_broken()
    with lock, pytest.raises(OrderedLockError, match="can't be reset"):
        lock.reset()


def test_those_who_wait_for_a_lock_that_breaks_get_the_error() -> None:
    lock, queue, errors = OrderedLock(), Told(), list[Exception]()
    lock._queue = queue

    def wait() -> None:
        try:
            lock.acquire()
        except DurableExecutionsError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    with pytest.raises(KeyError), lock:
        waiting.start()
        for _ in range(2):
            assert queue.joined.acquire(timeout=WAIT_S)
        raise KeyError("k")
    waiting.join()
    assert [type(error) for error in errors] == [OrderedLockError]


def test_releasing_a_lock_that_nobody_has_is_an_error() -> None:
    with pytest.raises(OrderedLockError, match="nobody"):
        OrderedLock().release()


def test_a_counter_counts_what_threads_add() -> None:
    counter = OrderedCounter()
    threads = [threading.Thread(target=counter.increment) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.get_current() == 20
    assert counter.decrement() == 19


OFFICIAL = "aws_durable_execution_sdk_python"
INTERNAL = {"AwsErrorMetadata", "AwsErrorObj", "Codec", "EncodedValue", "LogInfo", "PluginExecutor", "PluginHost"}
"""Names of the official wheel that no public text has."""


@pytest.mark.parametrize(
    "module",
    [
        "",
        "config",
        "exceptions",
        "filesystem_serdes",
        "identifier",
        "lambda_service",
        "logger",
        "plugin",
        "plugin_discovery",
        "preview",
        "retries",
        "suspend",
        "threading",
        "types",
        "waits",
        "concurrency.models",
    ],
)
def test_whatever_an_official_module_defines_is_found_under_the_same_name(module: str) -> None:
    """[1] What it only imports from another one is looked for there."""
    theirs = importlib.import_module(f"{OFFICIAL}.{module}".rstrip("."))
    ours = importlib.import_module(f"perdure.{module}".rstrip("."))
    names = getattr(theirs, "__all__", None) or [
        name
        for name in dir(theirs)
        if not name.startswith("_") and getattr(getattr(theirs, name), "__module__", "") == theirs.__name__
    ]
    type_variables = {name for name in names if type(getattr(theirs, name)).__name__ in ("TypeVar", "ParamSpec")}
    missing = [name for name in names if name not in INTERNAL | type_variables and not hasattr(ours, name)]
    assert not missing
