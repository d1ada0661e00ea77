"""What a durable function says is kept with its result."""

import logging
from typing import Any

import pytest

from perdure import DurableContext, durable_execution
from perdure.testing import LocalRunner


@durable_execution
def talking(event: str, context: DurableContext) -> None:
    context.logger.info("begins %s", event)

    def body(step: Any) -> None:
        step.logger.debug("works", extra={"order": 7})

    context.step(body, name="work")
    context.wait(60)
    context.logger.warning("ends")


def test_every_record_is_kept_once_with_its_durable_fields() -> None:
    with LocalRunner(talking) as runner:
        first, second = runner.run("one"), runner.run("two")
    assert [record.getMessage() for record in first.logs] == ["begins one", "works", "ends"]
    assert [record.getMessage() for record in second.logs] == ["begins two", "works", "ends"]
    work = vars(first.logs[1])
    assert (work["executionArn"], work["operationName"], work["attempt"], work["order"]) == (first.arn, "work", 1, 7)
    assert [record.levelno for record in first.logs] == [logging.INFO, logging.DEBUG, logging.WARNING]


def test_records_go_where_they_went_before(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), LocalRunner(talking) as runner:
        runner.run("one")
    assert [record.getMessage() for record in caplog.records if hasattr(record, "executionArn")] == [
        "begins one",
        "ends",
    ]


def test_a_logger_of_the_author_s_own_hears_them_too() -> None:
    heard: list[tuple[str, object, object]] = []

    class Own:
        def debug(self, msg: object, *args: object, extra: Any = None) -> None:
            heard.append(("debug", msg, extra["order"]))

        def info(self, msg: object, *args: object, extra: Any = None) -> None:
            heard.append(("info", msg, args))

        warning = error = exception = info

    handler = durable_execution(logger=Own())(talking.__wrapped__)  # type: ignore[attr-defined]
    with LocalRunner(handler) as runner:
        result = runner.run("one")
    assert heard == [("info", "begins %s", ("one",)), ("debug", "works", 7), ("info", "ends", ())]
    assert len(result.logs) == 3
