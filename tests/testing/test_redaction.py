"""A redacted history says nothing of what an execution was about, and is as good for a replay."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from perdure import DurableContext, StepConfig, durable_execution
from perdure.retries import RetryPresets
from perdure.testing.histories import History, history_of, read_history, write_history
from perdure.testing.redaction import redact, redact_payload
from perdure.testing.replaying.judging import Verdict
from perdure.testing.replaying.replayer import Replayer
from support.local import Local

SECRET = "hunter2"


@dataclass
class Card:
    number: str
    limit: Decimal
    valid_until: date


def card(_: Any) -> Card:
    return Card(SECRET, Decimal("99.5"), date(2030, 1, 1))


@durable_execution(name="order")
def order(event: Any, context: DurableContext) -> Any:
    paid = context.step(card, name="pay")
    when = context.step(
        lambda _: {"at": datetime(2026, 1, 31, tzinfo=UTC), "ids": (UUID(int=7), {SECRET})}, name="when"
    )
    batch = context.map([1, 2, 3], lambda child, item: child.step(lambda _: SECRET * item, name="one"), name="all")
    large = context.run_in_child_context(lambda child: child.step(lambda _: SECRET, name="l") * 50_000, name="large")
    if context.version("schema", max=2) == 1:
        raise AssertionError("new executions run the newest version")
    try:
        context.step(fail, name="fail", config=StepConfig(RetryPresets.none()))
    except Exception as error:
        print(type(error))
    _, callback_id = context.create_callback(name="approval")
    assert callback_id
    return {"card": paid.valid_until.year, "when": str(when["at"]), "all": batch.get_results(), "large": len(large)}


def fail(_: Any) -> None:
    raise ValueError(f"the password is {SECRET}")


@pytest.fixture(scope="module")
def history() -> History:
    local = Local(order)
    execution_id = local.start({"password": SECRET, "count": 12_345}, name="one")
    local.go_on(execution_id)
    return history_of(local.service, execution_id)


def test_nothing_of_the_data_is_left(history: History) -> None:
    text = json.dumps(write_history(redact(history)))
    assert SECRET in json.dumps(write_history(history))
    for told in (SECRET, "12345", "99.5", "2030", "2026-01-31", str(UUID(int=7))):
        assert told not in text
    for kept in ("ValueError", '"Name": "pay"', "password", "Card"):
        assert kept in text


def test_the_same_code_replays_a_redacted_history(history: History) -> None:
    redacted = read_history(json.loads(json.dumps(write_history(redact(history)))))
    assert redacted.is_redacted
    result = Replayer(order).replay(redacted)
    assert (result.verdict, str(result.divergence), list(result.warnings)) == (Verdict.COMPATIBLE, "None", [])


def test_a_divergence_of_a_redacted_history_says_that_it_is_redacted(history: History) -> None:
    @durable_execution(name="order")
    def branches(event: Any, context: DurableContext) -> None:
        context.step(card, name="pay" if event["password"] == SECRET else "refuse")

    found = Replayer(branches).replay(redact(history)).divergence
    assert found is not None
    assert "The history is redacted" in found.suggestion


@pytest.mark.parametrize(
    ("payload", "redacted"),
    [
        (None, None),
        ("", ""),
        ("not JSON", "redacted"),
        ('"a text"', '"redacted"'),
        ('[1, 2.5, true, null, "x"]', '[1, 1.0, false, null, "redacted"]'),
        ('{"when": "2026-01-31T10:00:00Z", "id": "7"}', '{"when": "1970-01-01T00:00:00+00:00", "id": "1"}'),
        ('{"t":"dt","v":"2026-01-31T10:00:00"}', '{"t": "dt", "v": "1970-01-01T00:00:00"}'),
        ('{"t":"m","v":{"a":{"t":"d","v":"9.5"}}}', '{"t": "m", "v": {"a": {"t": "d", "v": "1"}}}'),
        (
            '{"t":"enum","c":"shop.Color","v":{"t":"i","v":3}}',
            '{"t": "enum", "c": "shop.Color", "v": {"t": "i", "v": 3}}',
        ),
    ],
)
def test_stand_ins_are_of_the_same_types(payload: str | None, redacted: str | None) -> None:
    assert redact_payload(payload) == redacted
