"""What has happened to an execution since somebody last looked, and watchers that are called off."""

import pytest

from perdure import DurableContext, Duration, durable_execution
from perdure.model.error import InvalidParameterValue
from perdure.model.view import FROM_START, Changes
from support.local import Local


@durable_execution(name="order")
def order(event: int, context: DurableContext) -> str:
    for number in range(event):
        context.step(lambda _: "done", name=f"step-{number}")
    context.wait(Duration.from_hours(1), name="cool-down")
    return "served"


def ids(found: Changes) -> list[int]:
    return [event.event_id for event in found.events]


def names(found: Changes) -> list[str | None]:
    return [operation.name for operation in found.operations]


def test_from_the_start_on_everything_is_news_and_from_the_last_position_on_nothing() -> None:
    local = Local(order)
    outcome = local.run(2, until_s=1)
    found = local.service.changes(outcome.id, FROM_START)
    assert ids(found) == list(range(1, len(outcome.history) + 1))
    assert names(found) == ["step-0", "step-1", "cool-down"]
    assert not found.has_more
    again = local.service.changes(outcome.id, found.position)
    assert (again.position, again.events, again.operations) == (found.position, (), ())


def test_without_a_position_there_are_all_operations_and_the_position_of_now() -> None:
    local = Local(order)
    outcome = local.run(2, until_s=1)
    found = local.service.changes(outcome.id)
    assert names(found) == ["step-0", "step-1", "cool-down"]
    assert found.events == ()
    assert found.position == local.service.changes(outcome.id, FROM_START).position


def test_news_are_the_operations_that_changed_and_the_events_that_follow() -> None:
    local = Local(order)
    outcome = local.run(1, until_s=1)
    before = local.service.changes(outcome.id)
    local.go_on(outcome.id)
    news = local.service.changes(outcome.id, before.position)
    assert names(news) == ["cool-down"]
    assert [event.type for event in news.events] == ["WaitSucceeded", "InvocationCompleted", "ExecutionSucceeded"]
    assert ids(news)[0] == len(outcome.history) - 2
    assert news.view.status == "SUCCEEDED"


def test_a_long_history_comes_in_parts() -> None:
    local = Local(order)
    outcome = local.run(700, until_s=1)
    position, found = FROM_START, list[int]()
    parts = 0
    while True:
        news = local.service.changes(outcome.id, position)
        position, parts = news.position, parts + 1
        found += ids(news)
        if not news.has_more:
            break
    assert parts > 1
    assert found == list(range(1, len(outcome.history) + 1))


@pytest.mark.parametrize("text", ["", "1", "1.0", "-1.1", "a.b", "1.1.1", "1.99999999999", "01.1"])
def test_a_position_is_one_that_was_given_out(text: str) -> None:
    local = Local(order)
    execution_id = local.start(0)
    with pytest.raises(InvalidParameterValue, match="a position must be one that an answer gave"):
        local.service.changes(execution_id, text)


def test_a_position_of_what_has_not_happened_yet_has_no_news() -> None:
    local = Local(order)
    found = local.service.changes(local.start(0), "4000.7")
    assert (found.position, found.events) == ("4000.7", ())


def test_a_watcher_that_is_called_off_sees_nothing_more_and_the_others_do() -> None:
    local = Local(order)
    outcome = local.run(1, until_s=1)
    seen: list[str] = []
    forget = local.service.watch(outcome.id, lambda _state, _events: seen.append("gone"))
    local.service.watch(outcome.id, lambda _state, _events: seen.append("there"))
    forget()
    forget()
    local.go_on(outcome.id)
    assert set(seen) == {"there"}
    assert local.service.ledger.watching.is_idle
